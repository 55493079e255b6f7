"""Adversarial training: updates of the discriminator, then one of the generator."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, is_dataclass
from typing import Any, NamedTuple

import torch
from accelerate import Accelerator
from torch import Tensor, nn

from ganaug.core.errors import InputError
from ganaug.core.hardware import evaluation_mode
from ganaug.core.pixels import to_float
from ganaug.core.seeding import Purpose, latents, random_stream
from ganaug.data import LabelledImages
from ganaug.generators.base import Generator
from ganaug.training.distributed import has_batch_norm
from ganaug.training.failure import relative_diversity
from ganaug.training.losses import Objective
from ganaug.training.settings import TrainingSettings
from ganaug.training.trainer import Trainer

JUDGED = 150  # images of each kind, for the discriminator's accuracy

_Loss = tuple[Tensor, dict[str, Tensor]]  # with monitors


class _Batch(NamedTuple):
    real: Tensor
    real_labels: Tensor
    z: Tensor
    fake_labels: Tensor
    fake: Tensor


class GANTrainer(Trainer):
    """A generator and a discriminator that learn from each other.

    Args:
        generator (Generator): trained in place.
        discriminator (nn.Module): trained in place; see :meth:`Generator.make_discriminator` for what it returns.
        objective (Objective): the losses.
        data, settings, accelerator: as of :class:`Trainer`.

    Raises:
        ValueError: the images are not of the generator's shape or classes.
        InputError: a single image at a time, in networks with BatchNorm.
    """

    def __init__(
        self,
        generator: Generator,
        discriminator: nn.Module,
        objective: Objective,
        data: LabelledImages,
        settings: TrainingSettings,
        accelerator: Accelerator,
    ) -> None:
        for network, parts in ((generator, 1), (discriminator, 2 if settings.half_batches else 1)):
            if settings.train_batch_size * accelerator.num_processes <= parts and has_batch_norm(network):
                raise InputError(
                    f"{generator.architecture} has BatchNorm, which needs several images at a time: train_batch_size "
                    f"must be {2 * parts} or more, got {settings.train_batch_size}"
                )
        super().__init__(generator, data, settings, accelerator)
        self.objective = objective
        self._place(discriminator)
        # Without the wrapper of distributed training; unwrapping anew in every step takes a millisecond.
        self.bare_discriminator = discriminator
        self.generator, self.discriminator = self._prepare(generator), self._prepare(discriminator)
        self.generator_optimizer = self._adam("generator", generator, settings.learning_rate)
        self.discriminator_optimizer = self._adam(
            "discriminator", discriminator, settings.discriminator_learning_rate or settings.learning_rate
        )

    def _update_networks(self, step: int) -> dict[str, Tensor]:
        repeats = self.settings.discriminator_steps
        for number in range(step * repeats, (step + 1) * repeats):
            last = number + 1 == (step + 1) * repeats
            # The images of the last discriminator step are judged again for the generator, so that they are drawn
            # once, unless they are drawn in parts since all of them do not fit.
            keep = last and len(self.parts) == 1
            batches = [self._draw(number, part, for_generator=keep) for part in self.parts]
            d_monitors = self._update_discriminator(batches)

        # D's weights need no gradient, so no process waits for one: D is used without its wrapper.
        with _frozen(self.bare_discriminator):
            g_monitors = self._update(self.generator_optimizer, map(self._generator_loss, batches))
        return {**d_monitors, **g_monitors}

    def _draw(self, number: int, part: int, *, for_generator: bool) -> _Batch:
        real, real_labels = self.batches.real(number, part)
        z, fake_labels = self.batches.latent(number, part)
        if self.settings.fake_labels == "real":
            fake_labels = real_labels.repeat(len(z) // len(real))
        with torch.set_grad_enabled(for_generator):
            return _Batch(real, real_labels, z, fake_labels, self.generator(z, fake_labels))

    def _update_discriminator(self, batches: Sequence[_Batch]) -> dict[str, Tensor]:
        if not self.settings.half_batches:
            return self._update(self.discriminator_optimizer, map(self._discriminator_loss, batches))
        real = self._update(self.discriminator_optimizer, map(self._real_loss, batches))
        fake = self._update(self.discriminator_optimizer, map(self._fake_loss, batches))
        return {**real, **fake, "D_loss": real["D_loss"] + fake["D_loss"]}

    def _discriminator_loss(self, batch: _Batch) -> _Loss:
        (real_loss, real), (fake_loss, fake) = self._real_loss(batch), self._fake_loss(batch)
        loss = real_loss + fake_loss
        return loss, {**real, **fake, "D_loss": loss.detach()}

    def _real_loss(self, batch: _Batch) -> _Loss:
        images, labels = self.augment(batch.real), batch.real_labels
        loss, monitors = self.objective.discriminator_loss(self.discriminator, images, labels, real=True)
        return loss, {"D_loss": loss.detach(), **monitors}

    def _fake_loss(self, batch: _Batch) -> _Loss:
        count = len(batch.real)  # as many generated images as real ones
        images, labels = self.augment(batch.fake[:count].detach()), batch.fake_labels[:count]
        loss, monitors = self.objective.discriminator_loss(self.discriminator, images, labels, real=False)
        return loss, {"D_loss": loss.detach(), **monitors}

    def _generator_loss(self, batch: _Batch) -> _Loss:
        fake = batch.fake if batch.fake.requires_grad else self.generator(batch.z, batch.fake_labels)
        return self.objective.generator_loss(self.bare_discriminator, self.augment(fake), batch.fake_labels)

    def facts(self) -> dict[str, Any]:
        """The objective."""
        objective = self.objective
        return asdict(objective) if is_dataclass(objective) and not isinstance(objective, type) else {}

    def closer_look(self) -> dict[str, float]:
        """How often the discriminator is right, in evaluation mode, on 150 real images and on as many generated ones.

        Near 1 on both, it has won; near 0.5 it is guessing. Always the same real images and latents. Of the same
        images, how diverse each class is.

        Returns:
            dict: ``evaluated_accuracy_real`` and ``evaluated_accuracy_fake``, in [0, 1]; ``diversity``, see
            :func:`relative_diversity`, mean over the classes, or of all together if the generator has none.
        """
        data, seed, device = self.data, self.settings.seed, self.accelerator.device
        generator, discriminator = self.bare_generator, self.bare_discriminator
        chosen = torch.from_numpy(random_stream(seed, Purpose.MONITOR).integers(len(data), size=JUDGED))
        labels = data.targets[chosen].to(device)
        z = latents(seed, range(JUDGED), generator.latent_dim).to(device)
        with torch.inference_mode(), evaluation_mode(generator), evaluation_mode(discriminator):
            real, fake = to_float(data.images[chosen].to(device)), generator(z, labels)
            taken_for_real = [self.objective.judges_real(discriminator, images, labels) for images in (real, fake)]
            diversity = relative_diversity(fake, real, labels if generator.conditional else torch.zeros_like(labels))
        found = {
            "evaluated_accuracy_real": taken_for_real[0].float().mean().item(),
            "evaluated_accuracy_fake": 1 - taken_for_real[1].float().mean().item(),
        }
        return {**found, "diversity": diversity.mean().item()} if len(diversity) else found


@contextmanager
def _frozen(network: nn.Module) -> Iterator[None]:
    weights = [weight for weight in network.parameters() if weight.requires_grad]
    for weight in weights:
        weight.requires_grad_(False)
    try:
        yield
    finally:
        for weight in weights:
            weight.requires_grad_(True)
