"""The classifiers that judge real and generated images, the augmentation of their batches, and their training."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Protocol, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ganaug.core.defaults import usual_defaults
from ganaug.core.errors import InputError
from ganaug.core.hardware import device_of, evaluation_mode, has_bf16
from ganaug.core.integers import positive_int
from ganaug.core.pixels import to_float
from ganaug.core.seeding import Purpose, check_seed, forked_rng, random_stream
from ganaug.data import LabelledImages

BatchTransform = Callable[[Tensor], Tensor]  # uint8 (N, C, H, W) to the same


class ClassifierFactory(Protocol):
    """Makes an untrained classifier: a module from float images (N, C, H, W) in [-1, 1] to class logits (N, K)."""

    def __call__(self, num_classes: int, *, channels: int, image_size: int) -> nn.Module:
        """Make a classifier; its initial weights are drawn from torch's global random state."""
        ...


class SmallCNN(nn.Module):
    """Blocks of two 3x3 convolutions with BatchNorm that each halve the size; then an average pool and a linear layer.

    As many blocks as bring the size down to 4 pixels, at least two and at most five: three for 28 and 32 pixels, four
    for 64.

    Args:
        num_classes (int): number of classes.
        channels (int): of the images. Default: 1
        image_size (int): side of the images, in pixels. Default: 28
        width (int): channels of the first block; each further block has twice as many. Default: 16
    """

    def __init__(self, num_classes: int, *, channels: int = 1, image_size: int = 28, width: int = 16) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        c_in = channels
        for block in range(min(max(2, math.ceil(math.log2(image_size / 4))), 5)):
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


class TorchvisionClassifier(nn.Module):
    """An untrained model of ``torchvision.models``. Grey images are repeated to RGB, small ones enlarged to 64 pixels.

    Args:
        name (str): its name for ``torchvision.models.get_model``, such as ``"resnet18"``.
        num_classes (int), channels (int), image_size (int): see :class:`SmallCNN`.

    Raises:
        InputError: torchvision has no classification model of this name.
    """

    def __init__(self, name: str, num_classes: int, *, channels: int, image_size: int) -> None:
        super().__init__()
        from torchvision import models

        known = models.list_models(module=models, exclude=["googlenet", "inception_v3"])  # those return tuples
        if name not in known:
            raise InputError(f"classifier {name!r} is not known; give small-cnn or one of {', '.join(known)}")
        self.model = models.get_model(name, weights=None, num_classes=num_classes)
        self.repeats = 3 // channels
        self.size = max(image_size, 64)

    def forward(self, images: Tensor) -> Tensor:
        """Class logits (N, num_classes) of float images (N, C, H, W) in [-1, 1]."""
        images = images.repeat(1, self.repeats, 1, 1)
        if images.shape[-1] < self.size:
            images = F.interpolate(images, (self.size, self.size), mode="bilinear", align_corners=False)
        return cast(Tensor, self.model(images))


class ShiftFlip:
    """Classic augmentation: shift each image at random and, if allowed, mirror every second one on average.

    Draws from torch's global random state, as torchvision's transforms do; :func:`train_classifier` seeds and restores
    it.

    Source: He et al. 2016, "Deep residual learning for image recognition", section 4.2: a random crop after padding
    by 4 of 32 pixels. Here the padding is the background, not zeros.

    Args:
        max_shift (int): largest shift in each direction, in pixels.
        flip (bool): mirror images; only if a mirrored image still belongs to its class.
        background (Tensor): uint8 (C,), the colour that moves in; see :attr:`ganaug.LabelledImages.background`.
    """

    def __init__(self, max_shift: int, *, flip: bool, background: Tensor) -> None:
        self.max_shift = max_shift
        self.flip = flip
        self.background = background

    @classmethod
    def like(cls, images: LabelledImages, *, flip: bool) -> ShiftFlip:
        """Shift by up to an eighth of the side of these images, over their background."""
        return cls(images.image_size // 8, flip=flip, background=images.background)

    def __call__(self, images: Tensor) -> Tensor:
        """Augment uint8 images (N, C, H, W)."""
        (n, c, h, w), by = images.shape, self.max_shift
        # Pad every image on all sides, then cut each out again at an offset of its own.
        padded = self.background.to(images.device).view(1, c, 1, 1).repeat(n, 1, h + 2 * by, w + 2 * by)
        padded[:, :, by : by + h, by : by + w] = images
        offsets = torch.randint(2 * by + 1, (2, n, 1))
        rows, columns = torch.arange(h) + offsets[0], torch.arange(w) + offsets[1]
        if self.flip:
            columns = torch.where(torch.rand(n, 1) < 0.5, columns.flip(1), columns)
        return padded[torch.arange(n)[:, None, None], :, rows[:, :, None], columns[:, None, :]].permute(0, 3, 1, 2)


class TrivialAugment:
    """:class:`ShiftFlip`, then one random operation of random strength on each image.

    Source: Müller and Hutter 2021, "TrivialAugment: tuning-free yet state-of-the-art data augmentation", algorithm 1
    with the wide range of strengths, as ``torchvision.transforms.v2`` implements it. It draws from torch's global
    random state too.
    """

    def __init__(self, shift_flip: ShiftFlip) -> None:
        from torchvision.transforms import v2

        self.shift_flip = shift_flip
        self.operation = v2.TrivialAugmentWide(fill=shift_flip.background.tolist())

    def __call__(self, images: Tensor) -> Tensor:
        """Augment uint8 images (N, C, H, W)."""
        return torch.stack([self.operation(image) for image in self.shift_flip(images)])


@usual_defaults()
def train_classifier(
    data: LabelledImages,
    factory: ClassifierFactory = SmallCNN,
    *,
    steps: int = 600,
    batch_size: int = 128,
    learning_rate: float = 2e-3,
    seed: int = 0,
    weights: Tensor | None = None,
    class_weights: Tensor | None = None,
    augment: BatchTransform | None = None,
    device: torch.device | str = "cpu",
) -> nn.Module:
    """Train a classifier with Adam and a one-cycle learning rate, in bf16 if the device supports it.

    Torch's global random state is left as it was.

    Args:
        data (LabelledImages): square images.
        factory (callable): makes the classifier. Default: :class:`SmallCNN`
        steps (int), batch_size (int), learning_rate (float): the budget and the peak learning rate.
        seed (int): of weights, order and augmentation. Default: 0
        weights (Tensor, optional): float (N,), how often each image is drawn, relative to the others. Default: all
            equally often
        class_weights (Tensor, optional): float (K,), weight of each class in the loss. Default: all equal
        augment (callable, optional): maps each batch, uint8 (N, C, H, W), to one of the same shape; may draw from
            torch's global random state. Default: none
        device (torch.device or str): to train on. Default: cpu

    Returns:
        nn.Module: in evaluation mode, on the device.

    Raises:
        InputError: a number is out of range, or the classifier returns something other than logits of the classes.

    Sources: Kingma and Ba 2015, "Adam: a method for stochastic optimization"; Smith and Topin 2017,
    "Super-convergence: very fast training of neural networks using large learning rates" (the one-cycle schedule).
    """
    device = torch.device(device)
    steps, batch_size, seed = positive_int("steps", steps), positive_int("batch_size", batch_size), check_seed(seed)
    probabilities = None if weights is None else (weights.double() / weights.double().sum()).numpy()
    if class_weights is not None:
        class_weights = class_weights.to(device)
    order = random_stream(seed, Purpose.CLASSIFIER).choice(len(data), size=(steps, batch_size), p=probabilities)
    with forked_rng(seed, device):
        classifier = factory(len(data.classes), channels=data.channels, image_size=data.image_size)
        classifier.to(device).to(memory_format=torch.channels_last).train()
        optimizer = torch.optim.Adam(classifier.parameters(), fused=True)
        schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, learning_rate, total_steps=steps)
        for indices in torch.from_numpy(order):
            images, targets = data.images[indices].to(device), data.targets[indices].to(device)
            with torch.autocast(device.type, torch.bfloat16, enabled=has_bf16(device)):
                logits = classifier(to_float(images if augment is None else augment(images)))
                check_logits(logits, len(data.classes))
                loss = F.cross_entropy(logits, targets, class_weights)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
    return classifier.eval()


def check_logits(logits: object, num_classes: int) -> None:
    """Refuse what a classifier returns if it is not logits (N, num_classes).

    Raises:
        InputError: it is something else.
    """
    if not isinstance(logits, Tensor) or logits.ndim != 2 or logits.shape[1] != num_classes:
        found = tuple(logits.shape) if isinstance(logits, Tensor) else type(logits).__name__
        raise InputError(f"a classifier must return class logits (N, {num_classes}), this one returns {found}")


@usual_defaults()
def predict_probabilities(classifier: nn.Module, images: Tensor, *, batch_size: int = 256) -> Tensor:
    """Softmax probabilities, float32 (N, K) on the CPU, for uint8 images (N, C, H, W)."""
    device = device_of(classifier)
    with torch.inference_mode(), evaluation_mode(classifier):
        logits = [classifier(to_float(batch.to(device))).float() for batch in images.split(batch_size)]
        return torch.cat(logits).softmax(1).cpu()


def predict(classifier: nn.Module, images: Tensor) -> Tensor:
    """Most likely classes, int64 (N,) on the CPU, of uint8 images (N, C, H, W)."""
    return predict_probabilities(classifier, images).argmax(1)


def accuracy(classifier: nn.Module, data: LabelledImages) -> float:
    """Share of ``data`` that the classifier gets right, in [0, 1]."""
    return (predict(classifier, data.images) == data.targets).float().mean().item()
