"""The networks that judge images, trained from scratch: what every classifier is like, a small CNN and a small ViT."""

from __future__ import annotations

import math
from typing import Protocol, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

LARGE = 64  # pixels; sides of as many are halved before anything else


class ClassifierFactory(Protocol):
    """Makes a classifier: a module from float images (N, C, H, W) in [-1, 1] to class logits (N, K).

    The module may say how it is trained. Each of these attributes is optional:

    - ``learning_rate`` (float): peak of the one-cycle learning rate. Default: 0.002
    - ``make_optimizer`` (callable): ``make_optimizer(learning_rate)`` returns the optimizer of its parameters. The
      learning rate of each parameter group is the peak of that group's cycle. Default: Adam over the parameters that
      require gradients
    - ``augmentation`` (callable): augments a batch in its own way, uint8 images (N, C, H, W) to the same; may draw
      from torch's global random state. A study has an arm that is trained with it.

    To be trained in several processes, a factory must be picklable.
    """

    def __call__(self, num_classes: int, *, channels: int, image_size: int) -> nn.Module:
        """Make a classifier; its initial weights are drawn from torch's global random state."""
        ...


class SmallCNN(nn.Module):
    """Blocks of two 3x3 convolutions with BatchNorm that each halve the size; then an average pool and a linear layer.

    As many blocks as bring the size down to 4 pixels, at least two: three for 28 and 32 pixels. Images of 64 pixels or
    more are first halved by a 3x3 convolution of stride 2, and again as long as there are 64 or more: with blocks
    alone, most of the time would go into the first ones, and be worth less than more steps.

    Args:
        num_classes (int): number of classes.
        channels (int): of the images. Default: 1
        image_size (int): side of the images, in pixels. Default: 28
        width (int): channels of the first block; each further block has twice as many. Default: 16
    """

    def __init__(self, num_classes: int, *, channels: int = 1, image_size: int = 28, width: int = 16) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        c_in, side = channels, image_size
        while side >= LARGE:
            layers += [nn.Conv2d(c_in, width, 3, stride=2, padding=1, bias=False), nn.BatchNorm2d(width)]
            layers += [nn.ReLU(inplace=True)]
            c_in, side = width, math.ceil(side / 2)
        for block in range(max(2, math.ceil(math.log2(side / 4)))):
            c_out = width * 2**block
            layers += [nn.Conv2d(c_in, c_out, 3, padding=1, bias=False), nn.BatchNorm2d(c_out), nn.ReLU(inplace=True)]
            layers += [nn.Conv2d(c_out, c_out, 3, padding=1, bias=False), nn.BatchNorm2d(c_out)]
            # Pooling before the ReLU gives the same values with a quarter of the ReLU's work.
            layers += [nn.MaxPool2d(2, ceil_mode=True), nn.ReLU(inplace=True)]
            c_in = c_out
        self.body = nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten())
        self.head = nn.Linear(c_in, num_classes)

    def features(self, images: Tensor) -> Tensor:
        """Features (N, D), which the last layer sees, of float images (N, C, H, W) in [-1, 1]."""
        return cast(Tensor, self.body(images))

    def forward(self, images: Tensor) -> Tensor:
        """Class logits (N, num_classes) of float images (N, C, H, W) in [-1, 1]."""
        return cast(Tensor, self.head(self.body(images)))


class SmallViT(nn.Module):
    """A small vision transformer of about 450,000 weights.

    Each image is cut into at most 8 x 8 patches: of 4 pixels for 28 and 32 pixels, of 8 for 64. The features are the
    mean over the patches.

    Args:
        num_classes (int): number of classes.
        channels (int): of the images. Default: 1
        image_size (int): side of the images, in pixels; one that is no multiple of the patch's is continued with the
            pixels at the border. Default: 28
        width (int), depth (int), heads (int): numbers of features of a patch, of layers, and of attention heads.
            Default: 96, 6, 3

    Source: Dosovitskiy et al. 2021, "An image is worth 16x16 words: transformers for image recognition at scale":
    learned positions, LayerNorm before each part of a layer, weight decay on all parameters. The mean instead of a
    class token is that of its appendix D.3.
    """

    # After 2,000 steps on 100 images of each class of Fashion-MNIST: 73.9 % at 5e-4, 76.0 % at 1e-3, 77.7 % at 2e-3.
    learning_rate = 2e-3

    def __init__(
        self,
        num_classes: int,
        *,
        channels: int = 1,
        image_size: int = 28,
        width: int = 96,
        depth: int = 6,
        heads: int = 3,
    ) -> None:
        super().__init__()
        patch = math.ceil(image_size / 8)
        side = math.ceil(image_size / patch)  # of the image, in patches
        self.missing = side * patch - image_size
        self.patches = nn.Conv2d(channels, width, patch, stride=patch)
        self.positions = nn.Parameter(nn.init.trunc_normal_(torch.empty(1, side**2, width), std=0.02))
        self.layers = nn.Sequential(*[_TransformerLayer(width, heads) for _ in range(depth)])
        self.norm = nn.LayerNorm(width)
        self.head = nn.Linear(width, num_classes)

    def make_optimizer(self, learning_rate: float) -> torch.optim.Optimizer:
        """AdamW with weight decay."""
        return torch.optim.AdamW(self.parameters(), learning_rate, weight_decay=0.05, fused=True)

    def features(self, images: Tensor) -> Tensor:
        """Features (N, D), which the last layer sees, of float images (N, C, H, W) in [-1, 1]."""
        if self.missing:
            images = F.pad(images, (0, self.missing, 0, self.missing), mode="replicate")
        tokens = self.patches(images).flatten(2).transpose(1, 2) + self.positions
        return cast(Tensor, self.norm(self.layers(tokens)).mean(1))

    def forward(self, images: Tensor) -> Tensor:
        """Class logits (N, num_classes) of float images (N, C, H, W) in [-1, 1]."""
        return cast(Tensor, self.head(self.features(images)))


class _TransformerLayer(nn.Module):
    """Attention between patches, then an MLP on each; both add to what they are given, (N, patches, width)."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.attention_norm = nn.LayerNorm(width)
        self.queries_keys_values = nn.Linear(width, 3 * width)
        self.out = nn.Linear(width, width)
        self.mlp = nn.Sequential(
            nn.LayerNorm(width), nn.Linear(width, 2 * width), nn.GELU(), nn.Linear(2 * width, width)
        )

    def forward(self, tokens: Tensor) -> Tensor:
        # (N, patches, 3 * width) to three tensors (N, heads, patches, width / heads)
        split = self.queries_keys_values(self.attention_norm(tokens)).unflatten(-1, (3, self.heads, -1))
        queries, keys, values = split.permute(2, 0, 3, 1, 4)
        # Written out: with torch's fused attention, a training step on a CPU takes eight times as long.
        scores = queries @ keys.transpose(-2, -1) / math.sqrt(queries.shape[-1])
        seen = (scores.softmax(-1) @ values).transpose(1, 2).flatten(2)
        tokens = tokens + self.out(seen)
        return tokens + cast(Tensor, self.mlp(tokens))
