"""Adversarial training: updates of the discriminator, then one of the generator."""

from __future__ import annotations

from collections.abc import Iterator
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
from ganaug.training.losses import GANObjective, Monitors, Objective
from ganaug.training.settings import TrainingSettings
from ganaug.training.trainer import GENERATOR, Trainer, mean_over_parts

JUDGED = 150  # real images, and as many generated ones, for the discriminator's accuracy


class _Labelled(NamedTuple):
    images: Tensor
    labels: Tensor


class _Batch(NamedTuple):
    """What is drawn for one part of a batch; the generated images, which may be more than the real ones, are G(z)."""

    real: _Labelled
    z: Tensor
    fake: _Labelled


class GANTrainer(Trainer):
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
        self.objective = objective
        self._place(discriminator)
        # Without the wrapper of distributed training: unwrapping it in every step would take a millisecond.
        self.bare_discriminator = discriminator
        self.generator, self.discriminator = self._prepare(generator), self._prepare(discriminator)
        self.generator_optimizer = self._adam(GENERATOR, generator, settings.learning_rate)
        self.discriminator_optimizer = self._adam(
            "discriminator", discriminator, settings.discriminator_learning_rate or settings.learning_rate
        )

    def _update_networks(self, step: int) -> Monitors:
        """Update the discriminator ``discriminator_steps`` times, then the generator once."""
        settings, objective = self.settings, self.objective
        generator, discriminator = self.generator, self.discriminator
        parts = range(settings.gradient_accumulation_steps)
        first, last = step * settings.discriminator_steps, (step + 1) * settings.discriminator_steps - 1
        # Real and generated images make one update of the discriminator together; half batches make one each.
        updates = [[True], [False]] if settings.half_batches else [[True, False]]

        for number in range(first, last + 1):
            # Draw real images, latents z and labels, and generate G(z). The generator is judged on the images of the
            # last discriminator step, which are therefore generated with a gradient, once for both networks; but not
            # if the batch comes in parts, because all of them at once do not fit into memory.
            batches = []
            for part in parts:
                real = _Labelled(*self.batches.real(number, part))
                z, labels = self.batches.latent(number, part)
                if settings.fake_labels == "real":
                    labels = real.labels.repeat(len(z) // len(real.labels))
                with torch.set_grad_enabled(number == last and len(parts) == 1):
                    batches.append(_Batch(real, z, fake=_Labelled(generator(z, labels), labels)))

            # Update the discriminator by its loss on real images and on as many generated ones, augmented alike.
            d_monitors: Monitors = {}
            for kinds in updates:
                self.discriminator_optimizer.zero_grad()
                watched = []
                for batch in batches:
                    loss = torch.zeros((), device=self.accelerator.device)
                    seen: Monitors = {"D_loss": loss}
                    for is_real in kinds:
                        images, labels = batch.real if is_real else batch.fake
                        images = self.augment(images[: len(batch.real.images)].detach())
                        term, more = objective.discriminator_loss(
                            discriminator, images, labels[: len(images)], real=is_real
                        )
                        loss, seen = loss + term, seen | more
                    self.accelerator.backward(loss / len(parts))
                    watched.append(seen | {"D_loss": loss.detach()})
                self._apply_gradients(self.discriminator_optimizer)
                found = mean_over_parts(watched)
                d_monitors |= found | {"D_loss": d_monitors.get("D_loss", 0) + found["D_loss"]}

        # Update the generator by its loss on what the discriminator says of its images now. The discriminator's
        # weights get no gradient, so no process waits for one: it is used without the wrapper that would.
        watched = []
        self.generator_optimizer.zero_grad()
        with frozen(self.bare_discriminator):
            for batch in batches:
                images, labels = batch.fake
                if not images.requires_grad:
                    images = generator(batch.z, labels)
                loss, seen = objective.generator_loss(self.bare_discriminator, self.augment(images), labels)
                self.accelerator.backward(loss / len(parts))
                watched.append(seen)
        self._apply_gradients(self.generator_optimizer)
        return d_monitors | mean_over_parts(watched)

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

    def facts(self) -> dict[str, Any]:
        """See :func:`facts_of`."""
        return facts_of(self.objective)

    def closer_look(self) -> dict[str, float]:
        """See :func:`look_at_both`."""
        return look_at_both(
            self.bare_generator, self.bare_discriminator, self.objective, self.data, self.settings, self.batches.device
        )


def facts_of(objective: Objective) -> dict[str, Any]:
    """The fields of an objective, if it is a dataclass."""
    return asdict(objective) if is_dataclass(objective) and not isinstance(objective, type) else {}


def look_at_both(
    generator: Generator,
    discriminator: nn.Module,
    objective: Objective,
    data: LabelledImages,
    settings: TrainingSettings,
    device: torch.device,
) -> dict[str, float]:
    """How often the discriminator is right, and how diverse the generated images are, both in evaluation mode.

    They are measured on 150 real and 150 generated images, with the same real images and latents each time. A
    discriminator that is right on nearly all of both kinds has won; one that is right on half is guessing.

    Args:
        generator (Generator), discriminator (nn.Module): on the device.
        objective (Objective): says what the discriminator takes for real.
        data (LabelledImages): the training images.
        settings (TrainingSettings): whose seed says which of them.
        device (torch.device): of the networks.

    Returns:
        dict: ``evaluated_accuracy_real`` and ``evaluated_accuracy_fake``, in [0, 1]; ``diversity``, the mean of
        :func:`relative_diversity` over the classes, or that of all images if the generator has no classes.
    """
    seed = settings.seed
    chosen = torch.from_numpy(random_stream(seed, Purpose.MONITOR).integers(len(data), size=JUDGED))
    labels = data.targets[chosen].to(device)
    z = latents(seed, range(JUDGED), generator.latent_dim).to(device)
    with torch.inference_mode(), evaluation_mode(generator), evaluation_mode(discriminator):
        real, fake = to_float(data.images[chosen].to(device)), generator(z, labels)
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
