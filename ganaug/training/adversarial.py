"""What all training against a discriminator shares, whatever else a step of it does."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, is_dataclass
from typing import Any

import torch
from torch import nn

from ganaug.core.hardware import evaluation_mode
from ganaug.core.pixels import to_float
from ganaug.core.seeding import Purpose, latents, random_stream
from ganaug.training.failure import relative_diversity
from ganaug.training.losses import Objective
from ganaug.training.trainer import Trainer

JUDGED = 150  # real images, and as many generated ones, for the discriminator's accuracy


class AdversarialTrainer(Trainer):
    """A trainer whose generator learns from a discriminator too.

    A subclass calls :meth:`_train_against` in its constructor, once the generator has its optimizer.

    Attributes:
        objective (Objective): the losses of both.
        bare_discriminator (nn.Module): without the wrapper of distributed training, by which the generator is judged.
    """

    objective: Objective
    bare_discriminator: nn.Module

    def _train_against(
        self, discriminator: nn.Module, objective: Objective, betas: tuple[float, float] | None = None
    ) -> None:
        """Train this discriminator too; ``betas`` are Adam's decay rates if they are not those of the settings."""
        self.objective = objective
        self._place(discriminator)
        # Without the wrapper of distributed training: unwrapping it in every step would take a millisecond.
        self.bare_discriminator = discriminator
        self.discriminator = self._prepare(discriminator)
        learning_rate = self.settings.discriminator_learning_rate or self.settings.learning_rate
        self.discriminator_optimizer = self._adam("discriminator", discriminator, learning_rate, betas)

    def facts(self) -> dict[str, Any]:
        """See :meth:`Trainer.facts`; the fields of the objective, if it is a dataclass."""
        objective: Any = self.objective
        known = is_dataclass(objective) and not isinstance(objective, type)
        return (asdict(objective) if known else {}) | super().facts()

    def closer_look(self) -> dict[str, float]:
        """How often the discriminator is right, and how diverse the generated images are, both in evaluation mode.

        They are measured on 150 real and 150 generated images, with the same real images and latents each time. A
        discriminator that is right on nearly all of both kinds has won; one that is right on half is guessing.

        Returns:
            dict: ``evaluated_accuracy_real`` and ``evaluated_accuracy_fake``, in [0, 1]; ``diversity``, the mean of
            :func:`relative_diversity` over the classes, or that of all images if the generator has no classes.
        """
        generator, discriminator, objective = self.bare_generator, self.bare_discriminator, self.objective
        seed, device = self.settings.seed, self.batches.device
        chosen = torch.from_numpy(random_stream(seed, Purpose.MONITOR).integers(len(self.data), size=JUDGED))
        labels = self.data.targets[chosen].to(device)
        z = latents(seed, range(JUDGED), generator.latent_dim).to(device)
        with self._uncompiled(), torch.inference_mode(), evaluation_mode(generator), evaluation_mode(discriminator):
            real, fake = to_float(self.data.images[chosen].to(device)), generator(z, labels)
            taken_for_real = [objective.judges_real(discriminator, images, labels) for images in (real, fake)]
            diversity = relative_diversity(fake, real, labels if generator.conditional else torch.zeros_like(labels))
        found = {
            "evaluated_accuracy_real": taken_for_real[0].float().mean().item(),
            "evaluated_accuracy_fake": 1 - taken_for_real[1].float().mean().item(),
        }
        return {**found, "diversity": diversity.mean().item()} if len(diversity) else found


@contextmanager
def frozen(network: nn.Module) -> Iterator[None]:
    """Without gradients for the weights of a network, for a while."""
    weights = [weight for weight in network.parameters() if weight.requires_grad]
    for weight in weights:
        weight.requires_grad_(False)
    try:
        yield
    finally:
        for weight in weights:
            weight.requires_grad_(True)
