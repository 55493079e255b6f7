"""Training by flow matching: one network and one loss, without a discriminator."""

from __future__ import annotations

from dataclasses import fields

import torch
from accelerate import Accelerator
from torch import Tensor

from ganaug.core.errors import InputError
from ganaug.data import LabelledImages
from ganaug.generators.flow import FlowGenerator
from ganaug.hub.config import OF_A_DISCRIMINATOR
from ganaug.training.losses import GANObjective, Monitors
from ganaug.training.settings import TrainingSettings
from ganaug.training.trainer import Trainer, mean_over_parts


def check_flow_settings(settings: TrainingSettings, objective: GANObjective | None = None) -> None:
    """Refuse settings that a flow cannot be trained with.

    Args:
        settings (TrainingSettings): of the training.
        objective (GANObjective, optional): the losses of a GAN, which a flow does not have. Default: the usual one

    Raises:
        InputError: they ask for augmentation other than flip, or for what only a discriminator can have.
    """
    others = [name for name in settings.augment if name != "flip"]
    if others:
        raise InputError(
            f"a flow learns to draw all it is shown, so its augment may only be flip; got {', '.join(others)}"
        )
    # Values of a discriminator and its losses that somebody chose: those by default may come from the file of a run.
    usual = {**vars(TrainingSettings()), **vars(GANObjective())}
    chosen = {**vars(settings), **vars(objective or GANObjective())}
    names = (*OF_A_DISCRIMINATOR, *(field.name for field in fields(GANObjective)))
    if unused := [name for name in names if chosen[name] != usual[name]]:
        raise InputError(
            f"a flow has no discriminator, and no use for {', '.join(unused)}. Leave that out, or train a GAN, which "
            "all models are but flow and flow-wide"
        )


class FlowTrainer(Trainer):
    """A generator that learns the velocity from noise to images.

    At a time t between 0 and 1, an image x_1 and noise x_0 make x_t = (1 - t) x_0 + t x_1. The network's answer v is
    the velocity there; the loss is its mean squared error against x_1 - x_0.

    Args:
        generator (FlowGenerator): trained in place.
        data, settings, accelerator: as for :class:`Trainer`.

    Raises:
        InputError: the settings ask for augmentation other than flip, or for what only a discriminator can have.
        ValueError: the shape or classes of the images differ from the generator's.

    Source: Lipman et al. 2023, "Flow matching for generative modeling", with straight paths; times from Esser et al.
    2024, "Scaling rectified flow transformers for high-resolution image synthesis", section 3.1.
    """

    def __init__(
        self, generator: FlowGenerator, data: LabelledImages, settings: TrainingSettings, accelerator: Accelerator
    ) -> None:
        check_flow_settings(settings)
        super().__init__(generator, data, settings, accelerator)
        self.velocity = self._prepare(_Velocity(generator))
        self.optimizer = self._adam("generator", generator, settings.learning_rate)

    @property
    def is_standard(self) -> bool:
        """Whether the generator is ganaug's, and it is trained as here."""
        return type(self) is FlowTrainer and type(self.bare_generator) is FlowGenerator

    def _update_networks(self, step: int) -> Monitors:
        parts = range(self.settings.gradient_accumulation_steps)
        watched = []
        self.optimizer.zero_grad()
        for part in parts:
            # Draw images x_1, noise x_0 from N(0, I), and times t whose logit is from N(0, 1) (Esser et al. 2024,
            # section 3.1).
            x_1, labels = self.batches.real(step, part)
            x_1 = self.augment(x_1)
            x_0 = self.batches.latent(step, part)[0].view_as(x_1)
            t = self.noise.randn(len(x_1)).sigmoid()

            # On the straight path from x_0 to x_1: x_t = (1 - t) x_0 + t x_1 (Lipman et al. 2023, eq. 22 with
            # sigma_min = 0).
            x_t = torch.lerp(x_0, x_1, t[:, None, None, None])

            # The velocity there is dx_t / dt = x_1 - x_0; v learns it by least squares (eq. 23).
            v = self.velocity(x_t, t, labels)
            loss = (v - (x_1 - x_0)).square().mean()
            self.accelerator.backward(loss / len(parts))
            watched.append({"loss": loss.detach()})
        self._apply_gradients(self.optimizer)
        return mean_over_parts(watched)


class _Velocity(torch.nn.Module):
    """The velocity as a forward pass, because that is what distributed training and mixed precision wrap."""

    def __init__(self, generator: FlowGenerator) -> None:
        super().__init__()
        self.generator = generator

    def forward(self, x_t: Tensor, t: Tensor, labels: Tensor) -> Tensor:
        return self.generator.velocity(x_t, t, labels)
