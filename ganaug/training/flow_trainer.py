"""Training by flow matching: one network and one loss, without a discriminator."""

from __future__ import annotations

import copy
import math
import time
from collections.abc import Iterator, Mapping
from dataclasses import fields
from itertools import accumulate, pairwise
from typing import Any, ClassVar, cast

import torch
from accelerate import Accelerator
from torch import Tensor

from ganaug.core.errors import InputError
from ganaug.core.hardware import to_device
from ganaug.core.pixels import to_float, to_uint8
from ganaug.core.shares import in_shares
from ganaug.data import LabelledImages
from ganaug.generators.base import Generator
from ganaug.generators.flow import TEACHER_STEPS, FlowGenerator, distils, with_margin
from ganaug.hub.config import OF_A_DISCRIMINATOR
from ganaug.training.losses import GANObjective, Monitors
from ganaug.training.settings import TrainingSettings
from ganaug.training.trainer import GENERATOR, Phase, Trainer

PHASES = FLOW, DISTILLATION, ADVERSARIAL = "flow", "distillation", "adversarial"
REUSED = 5  # times that each triple is used in distillation, roughly


class FlowTrainer(Trainer):
    """A generator that learns the velocity from noise to images, and then, if it shall take few steps, to take them.

    First phase, flow matching: at a time t between 0 and 1, an image x_1 and noise x_0 make x_t = (1 - t) x_0 + t x_1.
    The network's answer v is the velocity there; the loss is its mean squared error against x_1 - x_0. Black
    and white have a margin, see :func:`ganaug.generators.flow.with_margin`.

    Second phase, distillation, of a generator of fewer than 8 steps. The averaged generator so far, the teacher, says
    from what noise it would draw a real image in 8 steps, and the generator learns to draw that image from that noise
    in its own; the loss is the mean squared error between the images. No real image is used with more than one noise,
    or few images would become all that is drawn: of other noise, the teacher's own image is learned.

    Such triples of noise, class and image are made before the phase, a fifth as many as it shows images, and stay in
    memory: 3 bytes for each value of an image. A run that goes on in the phase or after it makes them again.

    Args:
        generator (FlowGenerator): trained in place.
        data, settings, accelerator: as for :class:`Trainer`.

    Attributes:
        teacher (FlowGenerator, optional): see above; None before the second phase is prepared.

    Raises:
        InputError: the settings ask for augmentation other than flip, or for what only a discriminator can have.
        ValueError: the shape or classes of the images differ from the generator's.

    Source: Lipman et al. 2023, "Flow matching for generative modeling", with straight paths; times from Esser et al.
    2024, "Scaling rectified flow transformers for high-resolution image synthesis", section 3.1; for distillation,
    Luhman and Luhman 2021, "Knowledge distillation in iterative generative models for improved sampling speed"; for
    real images in it, Kim et al. 2025, "Balanced conic rectified flow".
    """

    PHASES: ClassVar[tuple[str, ...]] = PHASES
    LENGTHS: ClassVar[tuple[float, ...]] = (2, 1)  # of the phases, relative to one another
    RATES: ClassVar[tuple[float, ...]] = (1, 0.5)  # by which they multiply the generator's learning rate

    def __init__(
        self, generator: FlowGenerator, data: LabelledImages, settings: TrainingSettings, accelerator: Accelerator
    ) -> None:
        super().__init__(generator, data, settings, accelerator)
        self.network = self._prepare(_Network(generator))
        self.optimizer = self._adam(GENERATOR, generator, settings.learning_rate)
        self.teacher: FlowGenerator | None = None
        self._triples: list[tuple[Tensor, Tensor, Tensor]] = []  # of each part of each batch

    @property
    def pictured_generator(self) -> Generator:
        """See :attr:`Trainer.pictured_generator`: until it learns to take few steps, it is drawn in many."""
        average = cast(FlowGenerator, self.averaged_generator)
        if not self._distils or len(self.phases) == 1 or self.teacher is not None:
            return average
        in_many = copy.deepcopy(average)
        in_many.steps = TEACHER_STEPS
        return in_many

    @classmethod
    def check_settings(cls, settings: TrainingSettings, objective: GANObjective | None = None) -> None:
        """See :meth:`Trainer.check_settings`: augmentation other than flip, and all that is of a discriminator."""
        cls._check_augmentation("a flow", settings)
        # Values of a discriminator and its losses that somebody chose: those by default may come from the file of a
        # run.
        usual = {**vars(TrainingSettings()), **vars(GANObjective())}
        chosen = {**vars(settings), **vars(objective or GANObjective())}
        names = (*OF_A_DISCRIMINATOR, *(field.name for field in fields(GANObjective)))
        if unused := [name for name in names if chosen[name] != usual[name]]:
            raise InputError(
                f"a flow has no discriminator, and no use for {', '.join(unused)}. Leave that out, or train a GAN, "
                "which all models are but flow and flow-wide"
            )

    @staticmethod
    def _check_augmentation(kind: str, settings: TrainingSettings) -> None:
        """Refuse augmentation other than flip of ``kind``, with its article, which would draw what it is shown."""
        if others := [name for name in settings.augment if name != "flip"]:
            raise InputError(
                f"{kind} learns to draw all it is shown, so its augment may only be flip; got {', '.join(others)}"
            )

    @property
    def phases(self) -> tuple[Phase, ...]:
        """Flow matching, and distillation if the generator takes few steps."""
        return self._divided() if self._distils else super().phases

    @property
    def _distils(self) -> bool:
        """Whether the generator learns to take few steps."""
        return distils(cast(FlowGenerator, self.bare_generator).steps)

    def _divided(self) -> tuple[Phase, ...]:
        """All steps, divided among the class's phases."""
        ends = [round(self.total_steps * share / sum(self.LENGTHS)) for share in accumulate(self.LENGTHS)]
        return tuple(
            Phase(name, first, last, rate)
            for name, rate, (first, last) in zip(self.PHASES, self.RATES, pairwise([0, *ends]), strict=False)
            if first < last  # a short training has no long ones
        )

    def may_be_chosen(self, step: int) -> bool:
        """See :meth:`Trainer.may_be_chosen`: only in the last phase."""
        return step > self.phases[-1].first

    def prepare(self, step: int) -> Iterator[float]:
        """See :meth:`Trainer.prepare`: after the first phase it takes a teacher, and triples that it makes."""
        if not self._distils or self.phase(step).first == 0 or self._triples:
            return
        if self.teacher is None:
            self._teach(self.averaged_generator.state_dict())
        count = self._pool
        triples = []
        for triple in self._make_triples(count):
            triples.append(triple)
            yield len(triples) / (count * len(self.parts))
        self._triples = triples

    def _update_networks(self, step: int) -> Monitors:
        phase = self.phase(step)
        if phase.first == 0:
            return self._update(self.optimizer, self._flow_losses(step))
        if step == phase.first:
            self._begin(phase)
        return self._update(self.optimizer, self._distillation_losses(step - phase.first))

    def _flow_losses(self, step: int) -> Iterator[tuple[Tensor, Monitors]]:
        """Of flow matching, on each part of a batch."""
        for part in self.parts:
            # Draw images x_1, noise x_0 from N(0, I), and times t whose logit is from N(0, 1) (Esser et al. 2024,
            # section 3.1).
            x_1, labels = self.batches.real(step, part)
            x_1 = self.augment(with_margin(x_1))  # in this order: augmenting may round black and white off
            x_0 = self.batches.latent(step, part)[0].view_as(x_1)
            t = self.noise.randn(len(x_1)).sigmoid()

            # On the straight path from x_0 to x_1: x_t = (1 - t) x_0 + t x_1 (Lipman et al. 2023, eq. 22 with
            # sigma_min = 0).
            x_t = torch.lerp(x_0, x_1, t[:, None, None, None])

            # The velocity there is dx_t / dt = x_1 - x_0; v learns it by least squares (eq. 23).
            v = self.network(x_t, labels, t)
            loss = (v - (x_1 - x_0)).square().mean()
            yield loss, {"loss": loss.detach()}

    def _distillation_losses(self, number: int) -> Iterator[tuple[Tensor, Monitors]]:
        """The distance to the images of triples, on each part of a batch."""
        for part in self.parts:
            z, labels, images = self._triple(number, part)
            distance = (self.network(z, labels) - images).square().mean()
            yield distance, {"distance": distance.detach()}

    def _begin(self, phase: Phase) -> None:
        """Start a phase after the first from the averaged weights, with an optimizer that knows nothing yet."""
        self.bare_generator.load_state_dict(self.averaged_generator.state_dict())
        self.optimizer.state.clear()

    def _teach(self, weights: Mapping[str, Tensor]) -> None:
        """Make a teacher of these weights."""
        self.teacher = copy.deepcopy(cast(FlowGenerator, self.averaged_generator))
        self.teacher.load_state_dict(weights)
        self.teacher.steps = TEACHER_STEPS
        self.teacher.requires_grad_(False).eval()
        self._triples = []

    def rehearse(self, phase: Phase) -> float:
        """See :meth:`Trainer.rehearse`."""
        if phase.name != DISTILLATION:
            return 0.0
        self._teach(self.averaged_generator.state_dict())
        started = time.perf_counter()
        made = list(self._make_triples(1))
        seconds = (time.perf_counter() - started) * self._pool
        # They take as much memory as they will, for whoever asks how much that is.
        self._triples = [(z.clone(), c.clone(), images.clone()) for _ in range(self._pool) for z, c, images in made]
        return seconds

    @property
    def _pool(self) -> int:
        """Batches of triples."""
        distillation = next(phase for phase in self.phases if phase.name == DISTILLATION)
        return math.ceil((distillation.last - distillation.first) / REUSED)

    def _triple(self, number: int, part: int) -> tuple[Tensor, Tensor, Tensor]:
        """Latents (N, latent_dim), labels (N,), and the images (N, C, H, W) to draw from them; all float but labels.

        Each is used about five times.
        """
        triple = self._triples[number % self._pool * len(self.parts) + part]
        z, labels, images = (to_device(values, self.batches.device) for values in triple)
        return z.float(), labels, with_margin(to_float(images))

    @torch.no_grad()
    def _make_triples(self, count: int) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
        """Triples of so many batches, on the CPU: latents as float16, labels, images as uint8.

        As long as they last, these are real images, and the teacher says from what noise it would draw them; the
        images of the other batches it draws. Where small classes are shown more often than they have images
        (class_sampling), it draws all.
        """
        teacher = cast(FlowGenerator, self.teacher)
        each_once = self.settings.class_sampling == 1
        for number in range(count):
            self.noise.start(number)
            for part in self.parts:
                z, labels = self.batches.latent(number, part)
                with self.accelerator.autocast(), in_shares(self.shares):
                    if each_once and (number + 1) * self.batches.global_batch <= len(self.data):
                        images, labels = self.batches.real(number, part)
                        images = self.augment(with_margin(images))
                        z = teacher.follow_back(images, labels, z)
                    else:
                        images = teacher(z, labels)
                yield z.half().cpu(), labels.cpu(), to_uint8(images).cpu()

    def state(self) -> dict[str, dict[str, Tensor]]:
        """See :meth:`Trainer.state`. The triples are not in it: they are made again."""
        return super().state() | ({} if self.teacher is None else {"teacher": dict(self.teacher.state_dict())})

    def load_state(self, state: Mapping[str, Mapping[str, Tensor]]) -> None:
        """See :meth:`Trainer.load_state`."""
        super().load_state(state)
        self.teacher, self._triples = None, []
        if "teacher" in state:
            self._teach(state["teacher"])

    def facts(self) -> dict[str, Any]:
        """See :meth:`Trainer.facts`: how long the phases are if there are several, and how fast they learn."""
        if len(self.phases) == 1:
            return {}
        lengths = {f"{each.name}_kimg": self.kimg(each.last - each.first) for each in self.phases}
        return lengths | {f"{each.name}_rate": each.learning_rate_factor for each in self.phases}

    @property
    def is_standard(self) -> bool:
        """Whether the generator is ganaug's, and it is trained as here."""
        return type(self) is FlowTrainer and type(self.bare_generator) is FlowGenerator


class _Network(torch.nn.Module):
    """The velocity at a time, or the whole way in the generator's own steps.

    Both are a forward pass, because that is what distributed training and mixed precision wrap.
    """

    def __init__(self, generator: FlowGenerator) -> None:
        super().__init__()
        self.generator = generator

    def forward(self, x: Tensor, labels: Tensor, t: Tensor | None = None) -> Tensor:
        return self.generator.follow(x, labels) if t is None else self.generator.velocity(x, t, labels)
