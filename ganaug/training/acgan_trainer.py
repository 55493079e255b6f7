"""Training of ``acgan``: by flow matching, by distillation to one pass, and against a discriminator."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import nullcontext
from typing import ClassVar, NamedTuple, cast

import torch
from accelerate import Accelerator
from torch import Tensor

from ganaug.core.errors import InputError
from ganaug.data import LabelledImages
from ganaug.generators.flow import FlowGenerator
from ganaug.generators.one_pass import ACGANGenerator, FlowDiscriminator
from ganaug.training.adversarial import AdversarialTrainer, frozen
from ganaug.training.diffaug import Operation
from ganaug.training.flow_trainer import DISTILLATION, FLOW, FlowTrainer
from ganaug.training.losses import GANObjective, Monitors
from ganaug.training.settings import TrainingSettings
from ganaug.training.trainer import Phase

RECONSTRUCTION = 3.0  # weight of the distance to the image of a triple
OPERATIONS: tuple[Operation, ...] = ("shift", "cutout", "brightness")  # before the discriminator sees an image
BETAS = 0.0, 0.99  # of Adam in the adversarial phase
WARM_UP = 0.2  # share of the adversarial phase in which the discriminator learns alone


class _Batch(NamedTuple):
    """A part of a batch: a triple, and the images that the generator draws from its noise."""

    z: Tensor
    labels: Tensor
    wanted: Tensor
    images: Tensor


class ACGANTrainer(AdversarialTrainer, FlowTrainer):
    """A generator of one pass that is nearly there before it meets a discriminator.

    The first two phases are those of :class:`FlowTrainer`: flow matching, and distillation to one pass, whose images
    are a little blurred. In the third, the adversarial one, a discriminator with an auxiliary classifier tells them
    from real images; the generator learns to pass for real, to be taken for its class, and to stay close to the image
    that it learned for the same noise. The discriminator sees with the teacher's network, so it need not learn to.
    Adam's decay rates are 0 and 0.99 in this phase, whatever the settings say.

    Args:
        generator (ACGANGenerator): trained in place.
        discriminator (FlowDiscriminator): trained in place.
        objective (GANObjective): the losses of both.
        data, settings, accelerator: as for :class:`Trainer`.

    Raises:
        InputError: the settings ask for augmentation other than flip, or for what this training does not have.
        ValueError: the shape or classes of the images differ from the generator's.

    Source: Odena, Olah and Shlens 2017, "Conditional image synthesis with auxiliary classifier GANs", eq. 2 and 3, for
    the game; Sauer et al. 2024, "Fast high-resolution image synthesis with latent adversarial diffusion distillation",
    for a discriminator that sees with a diffusion network.
    """

    LENGTHS: ClassVar[tuple[float, ...]] = (6, 4, 1)
    RATES: ClassVar[tuple[float, ...]] = (1, 0.5, 0.1)

    def __init__(
        self,
        generator: ACGANGenerator,
        discriminator: FlowDiscriminator,
        objective: GANObjective,
        data: LabelledImages,
        settings: TrainingSettings,
        accelerator: Accelerator,
    ) -> None:
        super().__init__(generator, data, settings, accelerator)
        self._train_against(discriminator, objective, BETAS)
        self.alter = self._augmentation(OPERATIONS)

    @classmethod
    def check_settings(cls, settings: TrainingSettings, objective: GANObjective | None = None) -> None:
        """See :meth:`Trainer.check_settings`: augmentation other than flip, and what only the classic GANs have."""
        cls._check_augmentation("an acgan", settings)
        usual = TrainingSettings()
        names = ("discriminator_steps", "fake_labels", "half_batches")
        if unused := [name for name in names if getattr(settings, name) != getattr(usual, name)]:
            raise InputError(
                "an acgan is trained by one update of its discriminator for each batch, with labels drawn at random "
                f"for the generated images, and has no use for {', '.join(unused)}. Leave that out, or train another "
                "GAN, such as acgan-28"
            )

    def _update_networks(self, step: int) -> Monitors:
        phase = self.phase(step)
        early = phase.name in (FLOW, DISTILLATION)
        self.optimizer.param_groups[0]["betas"] = self.optimizer.defaults["betas"] if early else BETAS
        if early:
            return super()._update_networks(step)
        if step == phase.first:
            self._begin(phase)
        return self._play(step, step - phase.first, alone=step < phase.first + WARM_UP * (phase.last - phase.first))

    def _begin(self, phase: Phase) -> None:
        super()._begin(phase)
        if phase.name != DISTILLATION:
            cast(FlowDiscriminator, self.bare_discriminator).see_as(cast(FlowGenerator, self.teacher))

    def _play(self, step: int, number: int, *, alone: bool) -> Monitors:
        """One update of the discriminator, and one of the generator unless the discriminator still learns alone."""
        # Take triples, and draw an image from the noise of each: with a gradient, once for both networks, but not if
        # the batch comes in parts, because all of them at once do not fit into memory.
        batches = []
        for part in self.parts:
            z, labels, wanted = self._triple(number, part)
            as_it_is = self._uncompiled() if alone else nullcontext()  # it is not alone for long
            with as_it_is, torch.set_grad_enabled(not alone and len(self.parts) == 1):
                batches.append(_Batch(z, labels, wanted, self.network(z, labels)))

        # Update the discriminator, and then the generator by what the discriminator says of its images now.
        monitors = self._update(self.discriminator_optimizer, self._discriminator_losses(step, batches))
        if alone:
            return monitors
        with frozen(self.bare_discriminator):
            return monitors | self._update(self.optimizer, self._generator_losses(batches))

    def _discriminator_losses(self, step: int, batches: Sequence[_Batch]) -> Iterator[tuple[Tensor, Monitors]]:
        """For telling real images from generated ones, and naming the class of real ones."""
        for part, batch in enumerate(batches):
            real, real_labels = self.batches.real(step, part)
            of_real, seen = self.objective.discriminator_loss(
                self.discriminator, self.alter(self.augment(real)), real_labels, real=True
            )
            of_fake, more = self.objective.discriminator_loss(
                self.discriminator, self.alter(batch.images.detach().clamp(-1, 1)), batch.labels, real=False
            )
            loss = of_real + of_fake
            yield loss, seen | more | {"D_loss": loss.detach()}

    def _generator_losses(self, batches: Sequence[_Batch]) -> Iterator[tuple[Tensor, Monitors]]:
        """For being taken for real and for its class, and staying close to what was learned for the same noise."""
        for z, labels, wanted, images in batches:
            images = images if images.requires_grad else self.network(z, labels)
            loss, seen = self.objective.generator_loss(
                self.bare_discriminator, self.alter(images.clamp(-1, 1)), labels
            )
            distance = (images - wanted).square().mean()
            yield loss + RECONSTRUCTION * distance, seen | {"distance": distance.detach()}

    def closer_look(self) -> dict[str, float]:
        """See :meth:`AdversarialTrainer.closer_look`; nothing before the adversarial phase."""
        return super().closer_look() if self.discriminator_optimizer.moments() else {}

    @property
    def is_standard(self) -> bool:
        """Whether generator, discriminator and objective are ganaug's, and they are trained as here."""
        kinds = type(self), type(self.bare_generator), type(self.bare_discriminator), type(self.objective)
        return kinds == (ACGANTrainer, ACGANGenerator, FlowDiscriminator, GANObjective)
