"""Training of ``acgan``: by flow matching, by distillation to one pass, and against a discriminator and a teacher."""

from __future__ import annotations

import copy
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
from ganaug.training.flow_trainer import DISTILLATION, FLOW, FlowTrainer, Passes, flow_matching_loss
from ganaug.training.losses import GANObjective, Monitors
from ganaug.training.matching import matching_loss
from ganaug.training.settings import TrainingSettings
from ganaug.training.trainer import Phase

RECONSTRUCTION = 0.5  # weight of the distance to the image of a triple
MATCHING = 3.0  # weight of distribution matching
CATCHING_UP = 2  # updates of the flow of generated images for each of the generator
OPERATIONS: tuple[Operation, ...] = ("shift", "cutout", "brightness")  # before the discriminator sees an image
BETAS = 0.0, 0.99  # of Adam in the adversarial phase
WARM_UP = 0.2  # share of the adversarial phase in which the generator does not learn yet


class _Batch(NamedTuple):
    """A part of a batch: a triple, and the images that the generator draws from its noise."""

    z: Tensor
    labels: Tensor
    wanted: Tensor
    images: Tensor


class ACGANTrainer(AdversarialTrainer, FlowTrainer):
    """A generator of one pass that is nearly there before it meets a discriminator.

    The first two phases are those of :class:`FlowTrainer`: flow matching, and distillation to one pass, whose images
    are a little blurred. In the third, the adversarial one, the generator stays close to the image that it learned for
    the same noise, and learns from two sides:

    - A discriminator with an auxiliary classifier tells generated images from real ones, and the generator learns to
      pass for real and to be taken for its class. The discriminator sees with the teacher's network, so it need not
      learn to.
    - A second flow learns the generated images, as they are by now. Where it heads for other images than the teacher,
      from the same noisy one, generated images are more frequent than real ones, and the generator moves away.

    Both learn alone for the first fifth of the phase. In it Adam's decay rates are 0 and 0.99 for generator and
    discriminator, whatever the settings say, and the flow learns at half the learning rate.

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
    for a discriminator that sees with a diffusion network; Yin et al. 2024, "One-step diffusion with distribution
    matching distillation", eq. 7 and 8, for the second flow, and "Improved distribution matching distillation for fast
    image synthesis", section 4, for its being updated more often than the generator, and for both in one phase.
    """

    LENGTHS: ClassVar[tuple[float, ...]] = (8, 5, 1)
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
        # A flow of the generated images, which begins as the teacher.
        self.bare_fake_flow = copy.deepcopy(generator)
        self._place(self.bare_fake_flow)
        self.fake_flow = self._prepare(Passes(self.bare_fake_flow))
        self.fake_flow_optimizer = self._adam("fake_flow", self.bare_fake_flow, settings.learning_rate / 2)
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
            teacher = cast(FlowGenerator, self.teacher)
            cast(FlowDiscriminator, self.bare_discriminator).see_as(teacher)
            self.bare_fake_flow.load_state_dict(teacher.state_dict())

    def _play(self, step: int, number: int, *, alone: bool) -> Monitors:
        """Update the discriminator and the flow of generated images, and, unless these learn alone, the generator."""
        # Take triples, and draw an image from the noise of each: with a gradient, once for both networks, but not if
        # the batch comes in parts, because all of them at once do not fit into memory.
        batches = []
        for part in self.parts:
            z, labels, wanted = self._triple(number, part)
            as_it_is = self._uncompiled() if alone else nullcontext()  # it is not alone for long
            with as_it_is, torch.set_grad_enabled(not alone and len(self.parts) == 1):
                batches.append(_Batch(z, labels, wanted, self.network(z, labels)))

        # Update the discriminator, the flow of generated images, and then the generator by what both say now.
        monitors = self._update(self.discriminator_optimizer, self._discriminator_losses(step, batches))
        for _ in range(CATCHING_UP):
            monitors |= self._update(self.fake_flow_optimizer, self._fake_flow_losses(batches))
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

    def _fake_flow_losses(self, batches: Sequence[_Batch]) -> Iterator[tuple[Tensor, Monitors]]:
        """Of flow matching on generated images, as on real ones in the first phase."""
        for batch in batches:
            loss = flow_matching_loss(self.fake_flow, batch.images.detach(), batch.labels, self.noise)
            yield loss, {"fake_flow_loss": loss.detach()}

    def _generator_losses(self, batches: Sequence[_Batch]) -> Iterator[tuple[Tensor, Monitors]]:
        """For being taken for real and for its class, being as frequent as real images, and staying close."""
        for z, labels, wanted, images in batches:
            images = images if images.requires_grad else self.network(z, labels)
            loss, seen = self.objective.generator_loss(
                self.bare_discriminator, self.alter(images.clamp(-1, 1)), labels
            )
            distance = (images - wanted).square().mean()
            with self.accelerator.autocast():
                flows = cast(FlowGenerator, self.teacher), self.bare_fake_flow
                matching = matching_loss(images, labels, *flows, self.noise)
            loss = loss + MATCHING * matching + RECONSTRUCTION * distance
            yield loss, seen | {"distance": distance.detach(), "matching": matching.detach()}

    def closer_look(self) -> dict[str, float]:
        """See :meth:`AdversarialTrainer.closer_look`; nothing before the adversarial phase."""
        return super().closer_look() if self.discriminator_optimizer.moments() else {}

    @property
    def is_standard(self) -> bool:
        """Whether generator, discriminator and objective are ganaug's, and they are trained as here."""
        kinds = type(self), type(self.bare_generator), type(self.bare_discriminator), type(self.objective)
        return kinds == (ACGANTrainer, ACGANGenerator, FlowDiscriminator, GANObjective)
