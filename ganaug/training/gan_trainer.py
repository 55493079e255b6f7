"""Adversarial training: updates of the discriminator, then one of the generator."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import torch
from accelerate import Accelerator
from torch import Tensor, nn

from ganaug.core.errors import InputError
from ganaug.data import LabelledImages
from ganaug.generators.base import Generator
from ganaug.training.adversarial import AdversarialTrainer, frozen
from ganaug.training.distributed import has_batch_norm
from ganaug.training.losses import GANObjective, Monitors, Objective
from ganaug.training.settings import TrainingSettings
from ganaug.training.trainer import GENERATOR


class _Labelled(NamedTuple):
    images: Tensor
    labels: Tensor


class _Batch(NamedTuple):
    """What is drawn for one part of a batch; the generated images, which may be more than the real ones, are G(z)."""

    real: _Labelled
    z: Tensor
    fake: _Labelled


class GANTrainer(AdversarialTrainer):
    """A generator and a discriminator that learn from each other, in turns.

    Args:
        generator (Generator): trained in place.
        discriminator (nn.Module): trained in place; see :meth:`Generator.make_discriminator` for what it returns.
        objective (Objective): the losses of both.
        data, settings, accelerator: as for :class:`Trainer`.

    Raises:
        ValueError: the shape or classes of the images differ from the generator's.
        InputError: a network with BatchNorm would see a single image at a time.

    Source: Goodfellow et al. 2014, "Generative adversarial nets", algorithm 1.
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
        self.generator = self._prepare(generator)
        self.generator_optimizer = self._adam(GENERATOR, generator, settings.learning_rate)
        self._train_against(discriminator, objective)

    def _update_networks(self, step: int) -> Monitors:
        """Update the discriminator ``discriminator_steps`` times, then the generator once."""
        settings = self.settings
        first, last = step * settings.discriminator_steps, (step + 1) * settings.discriminator_steps - 1
        # Real and generated images make one update of the discriminator together; half batches make one each.
        updates = [[True], [False]] if settings.half_batches else [[True, False]]

        for number in range(first, last + 1):
            # Draw real images, latents z and labels, and generate G(z). The generator is judged on the images of the
            # last discriminator step, which are therefore generated with a gradient, once for both networks; but not
            # if the batch comes in parts, because all of them at once do not fit into memory.
            batches = []
            for part in self.parts:
                real = _Labelled(*self.batches.real(number, part))
                z, labels = self.batches.latent(number, part)
                if settings.fake_labels == "real":
                    labels = real.labels.repeat(len(z) // len(real.labels))
                with torch.set_grad_enabled(number == last and len(self.parts) == 1):
                    batches.append(_Batch(real, z, fake=_Labelled(self.generator(z, labels), labels)))

            # Update the discriminator.
            d_monitors: Monitors = {}
            for kinds in updates:
                found = self._update(self.discriminator_optimizer, self._discriminator_losses(batches, kinds))
                d_monitors |= found | {"D_loss": d_monitors.get("D_loss", 0) + found["D_loss"]}

        # Update the generator by what the discriminator says of its images now.
        with frozen(self.bare_discriminator):
            return d_monitors | self._update(self.generator_optimizer, self._generator_losses(batches))

    def _discriminator_losses(
        self, batches: Sequence[_Batch], kinds: Sequence[bool]
    ) -> Iterator[tuple[Tensor, Monitors]]:
        """On real images (True), and on as many generated ones (False), augmented alike."""
        for batch in batches:
            loss = torch.zeros((), device=self.accelerator.device)
            seen: Monitors = {"D_loss": loss}
            for is_real in kinds:
                images, labels = batch.real if is_real else batch.fake
                images = self.augment(images[: len(batch.real.images)].detach())
                term, more = self.objective.discriminator_loss(
                    self.discriminator, images, labels[: len(images)], real=is_real
                )
                loss, seen = loss + term, seen | more
            yield loss, seen | {"D_loss": loss.detach()}

    def _generator_losses(self, batches: Sequence[_Batch]) -> Iterator[tuple[Tensor, Monitors]]:
        """On generated images. The discriminator's weights get no gradient, so no process waits for one: it is used
        without the wrapper that would.
        """
        for batch in batches:
            images, labels = batch.fake
            if not images.requires_grad:
                images = self.generator(batch.z, labels)
            yield self.objective.generator_loss(self.bare_discriminator, self.augment(images), labels)

    @property
    def is_standard(self) -> bool:
        """Whether networks and objective are ganaug's, and the discriminator is as the generator makes them."""
        generator, discriminator = self.bare_generator, self.bare_discriminator
        networks = all(type(network).__module__.startswith("ganaug.") for network in (generator, discriminator))
        if not networks or type(self) is not GANTrainer or type(self.objective) is not GANObjective:
            return False
        try:
            with torch.random.fork_rng(devices=[]):
                fresh = generator.make_discriminator()
        except InputError:  # it has none, as a flow
            return False
        shapes = [[(name, value.shape) for name, value in net.state_dict().items()] for net in (discriminator, fresh)]
        return type(discriminator) is type(fresh) and shapes[0] == shapes[1]
