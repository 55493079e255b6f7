"""Training of ``acgan``: by flow matching, by distillation to one pass, and against a discriminator."""

from __future__ import annotations

from typing import Any, ClassVar, cast

import torch
from accelerate import Accelerator

from ganaug.core.errors import InputError
from ganaug.data import LabelledImages
from ganaug.generators.flow import FlowGenerator
from ganaug.generators.one_pass import ACGANGenerator, FlowDiscriminator
from ganaug.training.diffaug import Operation
from ganaug.training.flow_trainer import DISTILLATION, FLOW, FlowTrainer, check_augmentation
from ganaug.training.gan_trainer import facts_of, frozen, look_at_both
from ganaug.training.losses import GANObjective, Monitors
from ganaug.training.settings import TrainingSettings
from ganaug.training.trainer import Phase, mean_over_parts

RECONSTRUCTION = 3.0  # weight of the distance to the image of a triple
OPERATIONS: tuple[Operation, ...] = ("shift", "cutout", "brightness")  # before the discriminator sees an image
BETAS = 0.0, 0.99  # of Adam in the adversarial phase
WARM_UP = 0.2  # share of the adversarial phase in which the discriminator learns alone


def check_acgan_settings(settings: TrainingSettings) -> None:
    """Refuse settings that an acgan cannot be trained with.

    Raises:
        InputError: they ask for augmentation other than flip, or for what only the classic GANs have.
    """
    check_augmentation("an acgan", settings)
    usual = TrainingSettings()
    names = ("discriminator_steps", "fake_labels", "half_batches")
    if unused := [name for name in names if getattr(settings, name) != getattr(usual, name)]:
        raise InputError(
            "an acgan is trained by one update of each network for each batch, with labels drawn at random for "
            f"the generated images, and has no use for {', '.join(unused)}. Leave that out, or train another GAN, "
            "such as acgan-28"
        )


class ACGANTrainer(FlowTrainer):
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
        self.objective = objective
        self._place(discriminator)
        self.bare_discriminator = discriminator
        self.discriminator = self._prepare(discriminator)
        self.discriminator_optimizer = self._adam(
            "discriminator", discriminator, settings.discriminator_learning_rate or settings.learning_rate, BETAS
        )
        self.alter = self._augmentation(OPERATIONS)

    def _check(self, settings: TrainingSettings) -> None:
        check_acgan_settings(settings)

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
            self.bare_discriminator.see_as(cast(FlowGenerator, self.teacher))

    def _play(self, step: int, number: int, *, alone: bool) -> Monitors:
        """One update of the discriminator, and one of the generator unless the discriminator still learns alone."""
        parts = range(self.settings.gradient_accumulation_steps)
        triples = [self._triple(step, number, part) for part in parts]
        watched, made = [], []

        # The discriminator learns to tell real images from generated ones, and to name the class of real ones.
        self.discriminator_optimizer.zero_grad()
        for part, (z, labels, _) in zip(parts, triples, strict=True):
            with torch.set_grad_enabled(not alone and len(parts) == 1):
                made.append(self.network(z, labels))
            real, real_labels = self.batches.real(step, part)
            loss, seen = self.objective.discriminator_loss(
                self.discriminator, self.alter(self.augment(real)), real_labels, real=True
            )
            of_fake, more = self.objective.discriminator_loss(
                self.discriminator, self.alter(made[-1].detach().clamp(-1, 1)), labels, real=False
            )
            self.accelerator.backward((loss + of_fake) / len(parts))
            watched.append(seen | more | {"D_loss": (loss + of_fake).detach()})
        self._apply_gradients(self.discriminator_optimizer)
        monitors = mean_over_parts(watched)
        if alone:
            return monitors

        # The generator learns to be taken for real and for its class, and to stay close to what it learned before.
        self.optimizer.zero_grad()
        watched = []
        with frozen(self.bare_discriminator):
            for (z, labels, wanted), images in zip(triples, made, strict=True):
                images = images if images.requires_grad else self.network(z, labels)
                loss, seen = self.objective.generator_loss(
                    self.bare_discriminator, self.alter(images.clamp(-1, 1)), labels
                )
                distance = (images - wanted).square().mean()
                self.accelerator.backward((loss + RECONSTRUCTION * distance) / len(parts))
                watched.append(seen | {"distance": distance.detach()})
        self._apply_gradients(self.optimizer)
        return monitors | mean_over_parts(watched)

    def closer_look(self) -> dict[str, float]:
        """See :meth:`GANTrainer.closer_look`; nothing before the adversarial phase."""
        if not self.discriminator_optimizer.moments():
            return {}
        return look_at_both(
            self.bare_generator, self.bare_discriminator, self.objective, self.data, self.settings, self.batches.device
        )

    def facts(self) -> dict[str, Any]:
        """The fields of the objective, and how long the phases are."""
        return facts_of(self.objective) | super().facts()

    @property
    def is_standard(self) -> bool:
        """Whether generator, discriminator and objective are ganaug's, and they are trained as here."""
        kinds = type(self), type(self.bare_generator), type(self.bare_discriminator), type(self.objective)
        return kinds == (ACGANTrainer, ACGANGenerator, FlowDiscriminator, GANObjective)
