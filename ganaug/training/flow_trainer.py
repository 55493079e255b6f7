"""Training by flow matching: one network, one loss, no discriminator."""

from __future__ import annotations

import torch
from accelerate import Accelerator
from torch import Tensor

from ganaug.core.errors import InputError
from ganaug.data import LabelledImages
from ganaug.generators.flow import FlowGenerator
from ganaug.training.settings import TrainingSettings
from ganaug.training.trainer import Trainer


class FlowTrainer(Trainer):
    """A generator that learns the velocity from noise to images.

    At time t, drawn between 0 and 1 with its logit from N(0, 1), an image x and noise z make (1 - t) z + t x. The loss
    is the mean squared error of the velocity there against x - z.

    Args:
        generator (FlowGenerator): trained in place.
        data, settings, accelerator: as of :class:`Trainer`.

    Raises:
        InputError: the settings have augmentation other than flip, or what only a discriminator can be given.
        ValueError: the images are not of the generator's shape or classes.

    Source: Lipman et al. 2023, "Flow matching for generative modeling", with straight paths; times from Esser et al.
    2024, "Scaling rectified flow transformers for high-resolution image synthesis", section 3.1.
    """

    def __init__(
        self, generator: FlowGenerator, data: LabelledImages, settings: TrainingSettings, accelerator: Accelerator
    ) -> None:
        others = [name for name in settings.augment if name != "flip"]
        if others:
            raise InputError(
                f"a flow draws whatever it is shown, so augment may have flip alone; got {', '.join(others)}"
            )
        if settings.half_batches or settings.discriminator_steps > 1:
            raise InputError("a flow has no discriminator: leave out half_batches and discriminator_steps")
        super().__init__(generator, data, settings, accelerator)
        self.velocity = self._prepare(_Velocity(generator))
        self.optimizer = self._adam("generator", generator, settings.learning_rate)

    def _update_networks(self, step: int) -> dict[str, Tensor]:
        return self._update(self.optimizer, (self._loss(step, part) for part in self.parts))

    def _loss(self, step: int, part: int) -> tuple[Tensor, dict[str, Tensor]]:
        images, labels = self.batches.real(step, part)
        images = self.augment(images)
        noise = self.batches.latent(step, part)[0].view_as(images)
        times = self.noise.randn(len(images)).sigmoid()
        between = torch.lerp(noise, images, times[:, None, None, None])
        loss = (self.velocity(between, times, labels) - (images - noise)).square().mean()
        return loss, {"loss": loss.detach()}


class _Velocity(torch.nn.Module):
    """The velocity as a forward pass, which is what wrappers of distributed training and precision take hold of."""

    def __init__(self, generator: FlowGenerator) -> None:
        super().__init__()
        self.generator = generator

    def forward(self, images: Tensor, times: Tensor, labels: Tensor) -> Tensor:
        return self.generator.velocity(images, times, labels)
