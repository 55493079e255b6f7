"""What the speed of ours is measured against: the training loop and the ACGAN that public PyTorch code mostly has.

The loop: fp32, NCHW, a DataLoader over normalised tensors, torch's own layers, ``torch.optim.Adam`` as it comes,
gradients for the discriminator's weights in the generator's step, and one generator pass per step where the model's
source has one. The ACGAN is here for its speed alone; the models to train are in ganaug/generators.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Sequence
from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

from ganaug.data import LabelledImages
from ganaug.generators import FlowGenerator, Generator
from ganaug.generators.convolutions import DoublingConv2d, HalvingConv2d, ToGreyConv2d, UpsampledConv2d
from ganaug.generators.layers import ByteDropout, FloatGroupNorm, FloatTanh, ToImages
from ganaug.training import GANObjective, TrainingSettings


def plain_form(network: nn.Module) -> nn.Module:
    """Copy of a network whose layers are torch's own, with the same weights."""
    return _replace(copy.deepcopy(network))


def _replace(module: nn.Module) -> nn.Module:
    if isinstance(module, ByteDropout):
        return nn.Dropout(module.p)
    if isinstance(module, UpsampledConv2d):
        convolution = nn.Conv2d(module.in_channels, module.out_channels, 3, padding=1)
        return nn.Sequential(nn.Upsample(scale_factor=2), _with_weights(convolution, module))
    if isinstance(module, DoublingConv2d | HalvingConv2d):
        kind = nn.ConvTranspose2d if isinstance(module, DoublingConv2d) else nn.Conv2d
        return _with_weights(kind(module.in_channels, module.out_channels, 4, stride=2, padding=1), module)
    if isinstance(module, FloatGroupNorm):
        plain = nn.GroupNorm(module.num_groups, module.num_channels, affine=module.affine)
        return _with_weights(plain, module) if module.affine else plain
    for name, child in module.named_children():
        setattr(module, name, _replace(child))
    return module


def _with_weights(module: nn.Module, source: nn.Module) -> nn.Module:
    module.load_state_dict(source.state_dict())
    return module.to(next(source.parameters()))


def plain_step(
    generator: Generator,
    discriminator: nn.Module,
    objective: GANObjective,
    data: LabelledImages,
    settings: TrainingSettings,
    device: torch.device,
) -> Callable[[], None]:
    """One step of the baseline, as a function; the networks are trained in place."""
    generator, discriminator = generator.to(device), discriminator.to(device)
    d_rate = settings.discriminator_learning_rate or settings.learning_rate
    d_optimizer = torch.optim.Adam(discriminator.parameters(), lr=d_rate, betas=(0.5, 0.999))
    g_optimizer = torch.optim.Adam(generator.parameters(), lr=settings.learning_rate, betas=(0.5, 0.999))
    real_count = settings.train_batch_size // (2 if settings.half_batches else 1)
    loader = batches(data, real_count)

    def loss(images: Tensor, labels: Tensor, target: float, class_weight: float) -> Tensor:
        logits, class_logits = discriminator(images, labels)
        adversarial = F.binary_cross_entropy_with_logits(logits, torch.full_like(logits, target))
        return adversarial + class_weight * F.cross_entropy(class_logits, labels) if class_weight else adversarial

    def draw(labels: Tensor) -> Tensor:
        return generator(torch.randn(len(labels), generator.latent_dim, device=device), labels)

    def update_discriminator(value: Tensor) -> None:
        d_optimizer.zero_grad()
        (objective.discriminator_weight * value).backward()
        d_optimizer.step()

    def step() -> None:
        real, real_labels = (part.to(device) for part in next(loader))
        drawn = torch.randint(len(data.classes), real_labels.shape, device=device)
        fake_labels = real_labels if settings.fake_labels == "real" else drawn
        real_loss = loss(real, real_labels, 1, objective.class_weight_real)
        if settings.half_batches:  # two updates of D, and a whole batch drawn anew for G
            update_discriminator(real_loss)
            with torch.no_grad():
                shown = draw(fake_labels)
            update_discriminator(loss(shown, fake_labels, 0, objective.class_weight_fake))
            fake_labels = fake_labels.repeat(2)
            fake = draw(fake_labels)
        else:
            fake = draw(fake_labels)
            update_discriminator(real_loss + loss(fake.detach(), fake_labels, 0, objective.class_weight_fake))
        g_optimizer.zero_grad()
        loss(fake, fake_labels, 1, objective.class_weight_generator).backward()
        g_optimizer.step()

    return step


def plain_flow_step(
    generator: FlowGenerator, data: LabelledImages, settings: TrainingSettings, device: torch.device
) -> Callable[[], None]:
    """One step of the baseline for a flow, as a function; the network is trained in place."""
    generator = generator.to(device)
    optimizer = torch.optim.Adam(generator.parameters(), lr=settings.learning_rate)
    loader = batches(data, settings.train_batch_size)

    def step() -> None:
        images, labels = (part.to(device) for part in next(loader))
        noise, t = torch.randn_like(images), torch.randn(len(images), device=device).sigmoid()
        between = torch.lerp(noise, images, t[:, None, None, None])
        loss = (generator.velocity(between, t, labels) - (images - noise)).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()

    return step


def batches(data: LabelledImages, batch_size: int) -> Iterator[list[Tensor]]:
    """Whole batches of images, float (N, C, H, W) in [-1, 1], and labels, int64 (N,), without end."""
    dataset = TensorDataset(data.images.float() / 127.5 - 1, data.targets)
    loader = DataLoader(dataset, batch_size=batch_size, shuffle=True, drop_last=True)
    while True:
        yield from loader


class PublicACGANGenerator(Generator):
    """32x32 images: latent times label embedding, a linear layer to 128x8x8, then nearest upsampling twice, with 3x3
    convolutions of 128, 64 and 1 channels."""

    architecture = "public-acgan-32"

    def __init__(
        self, label_names: Sequence[str], *, image_size: int = 32, channels: int = 1, latent_dim: int = 100
    ) -> None:
        super().__init__(label_names, image_size=image_size, channels=channels, latent_dim=latent_dim)
        self._require_multiple(16)
        side = image_size // 4
        self.embedding = nn.Embedding(self.num_classes, latent_dim)
        self.layers = nn.Sequential(
            nn.Linear(latent_dim, 128 * side**2),
            ToImages(128),
            nn.BatchNorm2d(128),
            UpsampledConv2d(128, 128),
            nn.BatchNorm2d(128),
            nn.LeakyReLU(0.2),
            UpsampledConv2d(128, 64),
            nn.BatchNorm2d(64),
            nn.LeakyReLU(0.2),
            ToGreyConv2d(64, channels),
            FloatTanh(),
        )

    def forward(self, z: Tensor, labels: Tensor) -> Tensor:
        """See :meth:`Generator.forward`."""
        return cast(Tensor, self.layers(z * self.embedding(labels)))

    def make_discriminator(self) -> PublicACGANDiscriminator:
        """See :meth:`Generator.make_discriminator`."""
        return PublicACGANDiscriminator(self.num_classes, image_size=self.image_size, channels=self.channels)


class PublicACGANDiscriminator(nn.Module):
    """Four 3x3 convolutions of stride 2, with 16, 32, 64 and 128 channels, and two linear heads."""

    def __init__(self, num_classes: int, *, image_size: int, channels: int) -> None:
        super().__init__()
        blocks: list[nn.Module] = []
        for c_in, c_out in [(channels, 16), (16, 32), (32, 64), (64, 128)]:
            blocks += [nn.Conv2d(c_in, c_out, 3, stride=2, padding=1), nn.LeakyReLU(0.2), ByteDropout(0.25)]
            if c_out > 16:
                blocks.append(nn.BatchNorm2d(c_out))
        self.layers = nn.Sequential(*blocks, nn.Flatten())
        features = 128 * (image_size // 16) ** 2
        self.real_fake_head, self.class_head = nn.Linear(features, 1), nn.Linear(features, num_classes)

    def forward(self, images: Tensor, labels: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Real/fake and class logits."""
        features = self.layers(images)
        return self.real_fake_head(features).squeeze(1), self.class_head(features)
