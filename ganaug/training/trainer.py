"""What all kinds of training share: batches, optimizers, learning rates, an averaged generator, a state to save."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any, cast

import torch
from accelerate import Accelerator
from accelerate.utils import broadcast
from torch import Tensor, nn

from ganaug.core.defaults import usual_defaults
from ganaug.core.errors import InputError, LoadError
from ganaug.core.seeding import Purpose, random_stream
from ganaug.core.shares import can_be_shared, in_shares, number_of_shares
from ganaug.data import LabelledImages
from ganaug.generators.base import Generator
from ganaug.hub.config import UNRECORDED
from ganaug.training.batches import BatchNoise, TrainingBatches
from ganaug.training.diffaug import DifferentiableAugmentation, Operation
from ganaug.training.distributed import synchronise_batch_norm
from ganaug.training.losses import GANObjective, Monitors
from ganaug.training.optim import DenseAdam, GeneratorEMA
from ganaug.training.settings import TrainingSettings

GENERATOR = "generator"  # name of the generator among the networks in training


@dataclass(frozen=True)
class Phase:
    """Steps of a training that do the same, at learning rates that fall towards their end.

    Attributes:
        name (str): what is done, as the progress bar says it.
        first (int), last (int): its steps, from ``first`` to before ``last``.
        learning_rate_factor (float): multiplies the generator's learning rate. Default: 1
    """

    name: str
    first: int
    last: int
    learning_rate_factor: float = 1.0


class Trainer(ABC):
    """A generator in training, and the moving average of its weights. A subclass says what a step is.

    An update whose gradients are not all finite is skipped.

    Args:
        generator (Generator): trained in place.
        data (LabelledImages): training images, of the generator's size, channels and classes.
        settings (TrainingSettings): how long to train, and how.
        accelerator (Accelerator): device, processes, precision and trackers.

    Raises:
        InputError: the settings mean nothing to this kind of training.
        ValueError: the shape or classes of the images differ from the generator's.

    Attributes:
        skipped (Tensor): 1 if an update of the last step was skipped, else 0; float, on the device.
        learning_rate_factor (float): multiplies all learning rates. Default: 1
        starts_trained (bool): whether the generator was trained before.
        unrecorded (bool): whether that was on images of which it has no record.
        shares (int): into which batches are divided on a CPU, by the parts of networks that can be; see
            :mod:`ganaug.core.shares`.
    """

    @usual_defaults()
    def __init__(
        self, generator: Generator, data: LabelledImages, settings: TrainingSettings, accelerator: Accelerator
    ) -> None:
        self.check_settings(settings)
        made = (generator.channels, generator.image_size, generator.image_size)
        known = generator.label_names if generator.conditional else data.classes
        if data.images.shape[1:] != made or data.classes != known:
            raise ValueError(
                f"the generator makes {made} images of {generator.label_names}, "
                f"the data are {tuple(data.images.shape[1:])} of {data.classes}"
            )
        self.settings, self.data, self.accelerator = settings, data, accelerator
        self.parts = range(settings.gradient_accumulation_steps)  # of each batch
        rank, world_size = accelerator.process_index, accelerator.num_processes
        self.batches = TrainingBatches(
            data,
            latent_dim=generator.latent_dim,
            batch_size=settings.train_batch_size // (2 if settings.half_batches else 1),
            parts=len(self.parts),
            latents_per_image=2 if settings.half_batches else 1,
            class_sampling=settings.class_sampling,
            seed=settings.seed,
            device=accelerator.device,
            rank=rank,
            world_size=world_size,
        )
        self.noise = BatchNoise(settings.seed, accelerator.device, rank=rank, world_size=world_size)
        self.augment: Callable[[Tensor], Tensor] = nn.Identity()
        if settings.augment:  # finding the background reads all images
            self.augment = self._augmentation(settings.augment)
        self._trained: dict[str, tuple[nn.Module, DenseAdam]] = {}  # networks and their optimizers by name
        self.learning_rate_factor = 1.0
        self.skipped = torch.zeros((), device=accelerator.device)
        self.bare_generator = generator
        self.starts_trained = bool(generator.info["training"]) or generator.seen_images is not None
        before = generator.info["training"]
        self.unrecorded = self.starts_trained and (generator.seen_images is None or bool(before.get(UNRECORDED)))
        self._place(generator)
        self.ema = GeneratorEMA(generator, settings.ema_kimg * 1000)
        self.shares = 1
        if accelerator.device.type == "cpu" and not settings.compile and can_be_shared(generator):
            self.shares = number_of_shares(torch.get_num_threads(), settings.train_batch_size)

    @classmethod  # noqa: B027 - most can be trained with all of them
    def check_settings(cls, settings: TrainingSettings, objective: GANObjective | None = None) -> None:
        """Refuse what means nothing to this kind of training; the constructor does it too.

        Args:
            settings (TrainingSettings): of the training.
            objective (GANObjective, optional): the losses of a GAN that were chosen. Default: the usual ones

        Raises:
            InputError: the settings or the objective have such values.
        """

    def _augmentation(self, operations: Sequence[Operation]) -> DifferentiableAugmentation:
        # On the device once and for all: a copy in each step would make the CPU wait for all that the GPU has to do.
        background = self.data.background.float().div(127.5).sub(1).to(self.accelerator.device)
        return DifferentiableAugmentation(tuple(operations), background, self.noise)

    def _place(self, network: nn.Module) -> None:
        """Move a network to the device, in the memory format in which convolutions are fast.

        Several processes start from the weights of the main one, for a machine may have other files to start from.
        What is prepared for distributed training does so too, but later than the averages are copied.
        """
        network.to(self.accelerator.device)
        if self.accelerator.num_processes > 1:
            synchronise_batch_norm(network, self.accelerator.device)
            for weights in network.state_dict().values():
                broadcast(weights)
        network.to(memory_format=torch.channels_last)

    def _prepare(self, network: nn.Module) -> Any:
        """Wrap a network for distributed training and mixed precision, and compile it if that is asked for."""
        if self.settings.compile:
            network.compile()
        # It was placed before. Placed again, its weights would be copies where several processes are on a CPU, whose
        # devices accelerate calls cpu:0 and so on, and the average would follow the old ones, which nothing changes.
        return self.accelerator.prepare(network, device_placement=[False])

    def _uncompiled(self) -> AbstractContextManager[Any]:
        """A context in which networks compute as they are, for what takes less time than compiling them for it."""
        return torch.compiler.set_stance("force_eager") if self.settings.compile else nullcontext()

    def _adam(
        self, name: str, network: nn.Module, learning_rate: float, betas: tuple[float, float] | None = None
    ) -> DenseAdam:
        # Not wrapped by accelerate: the wrapper, meant for gradient scalers, looks up packages on disk in every step.
        betas = betas or (float(self.settings.adam_beta1), float(self.settings.adam_beta2))
        optimizer = DenseAdam(network.named_parameters(), learning_rate, betas)
        self._trained[name] = network, optimizer
        return optimizer

    @property
    def images_per_step(self) -> int:
        """Real images shown in one step by all processes together."""
        return self.batches.global_batch * self.settings.discriminator_steps

    @property
    def total_steps(self) -> int:
        """Steps until all processes together have shown ``total_kimg`` thousand real images."""
        return math.ceil(self.settings.total_kimg * 1000 / self.images_per_step)

    @property
    def phases(self) -> tuple[Phase, ...]:
        """The parts of the training in their order."""
        return (Phase("training", 0, self.total_steps),)

    def phase(self, step: int) -> Phase:
        """The phase of a step; after the last one, the last."""
        return next((phase for phase in self.phases if step < phase.last), self.phases[-1])

    def may_be_chosen(self, step: int) -> bool:
        """Whether the averaged generator after so many steps draws as the one that a run ends with."""
        return True

    def rehearse(self, phase: Phase) -> float:
        """Prepare for timing steps of a phase that was not begun.

        Returns:
            float: seconds that the phase will take besides its steps.
        """
        return 0.0

    def prepare(self, step: int) -> Iterator[float]:
        """Do what a step needs first, if that takes long; :meth:`step` does it if nobody has.

        Training may be stopped wherever it yields, with a state from which it can go on.

        Yields:
            float: the share that is done.
        """
        yield from ()

    def kimg(self, step: int) -> float:
        """Thousands of real images shown in so many steps."""
        return step * self.images_per_step / 1000

    def is_due(self, kimg: float | None, step: int) -> bool:
        """Whether an event with this interval in kimg is due after so many steps; at the end of the run all are.

        Args:
            kimg (float, optional): thousands of real images from one event to the next; None is never due.
            step (int): number of steps taken.
        """
        if kimg is None or step == 0:
            return False
        seen, each = step * self.images_per_step, 1000 * kimg
        return step == self.total_steps or seen // each > (seen - self.images_per_step) // each

    def check_weights(self) -> None:
        """Refuse networks with weights that cannot be trained.

        Raises:
            InputError: a weight is not float32, or was made in inference mode.
        """
        for network, _ in self._trained.values():
            for name, weight in network.named_parameters():
                if weight.is_inference():
                    wrong = "was made in torch.inference_mode. Make the network outside of it"
                elif weight.is_complex():
                    wrong = "is complex, and weights are trained in float32. Store it as torch.view_as_real gives it"
                elif weight.requires_grad and weight.dtype != torch.float32:
                    wrong = (
                        f"is {weight.dtype}, and weights are trained in float32 (mixed_precision says what is "
                        "computed in bf16). Call .float() on the network before it is given to the trainer"
                    )
                else:
                    continue
                raise InputError(f"{type(network).__name__} cannot be trained: {name} {wrong}")

    @property
    def averaged_generator(self) -> Generator:
        """The generator with averaged weights, which is what is sampled, scored and saved."""
        return cast(Generator, self.ema.module)

    @property
    def pictured_generator(self) -> Generator:
        """What pictures along the run are drawn by: the averaged generator, as well as it can draw by now."""
        return self.averaged_generator

    @usual_defaults()
    def step(self, step: int) -> dict[str, Tensor]:
        """Update all networks, then the moving average.

        Args:
            step (int): number of the step, from 0; all that is drawn depends on it and the seed alone.

        Returns:
            dict: losses and other scalars to watch by name, on the device.
        """
        for _ in self.prepare(step):
            pass
        self._seed_noise(step)
        self._set_learning_rates(step)
        self.skipped = torch.zeros_like(self.skipped)
        with in_shares(self.shares):
            return self._step(step)

    def _step(self, step: int) -> Monitors:
        buffers = [buffer for network, _ in self._trained.values() for buffer in network.buffers()]
        before = [buffer.clone() for buffer in buffers]
        monitors = self._update_networks(step)
        for buffer, old in zip(buffers, before, strict=True):  # a running mean that is not finite stays so
            buffer.copy_(torch.where(self.skipped > 0, old, buffer))
        self.ema.update(images=self.images_per_step, images_seen=(step + 1) * self.images_per_step)
        return monitors

    def state(self) -> dict[str, dict[str, Tensor]]:
        """All that steps change: the weights and buffers of each network, their average, and the optimizers' state.

        There is no random state, because what a step draws depends on its number and the seed alone.
        """
        found = {"average": dict(self.averaged_generator.state_dict())}
        for name, (network, optimizer) in self._trained.items():
            found |= {name: dict(network.state_dict()), f"{name}_optimizer": optimizer.moments()}
        return found

    def load_state(self, state: Mapping[str, Mapping[str, Tensor]]) -> None:
        """Restore what :meth:`state` returned.

        Raises:
            LoadError: the state belongs to other networks.
        """
        try:
            self.averaged_generator.load_state_dict(state["average"])
            for name, (network, optimizer) in self._trained.items():
                network.load_state_dict(state[name])
                optimizer.set_moments(state[f"{name}_optimizer"])
        except (KeyError, RuntimeError) as error:
            raise LoadError(f"the state belongs to other networks: {error}") from error

    @abstractmethod
    def _update_networks(self, step: int) -> Monitors:
        """Draw what a step needs, compute the losses, and update each network."""

    def closer_look(self) -> dict[str, float]:
        """Monitors that take longer to compute, and are computed only when a grid or a score is due."""
        return {}

    @property
    def is_standard(self) -> bool:
        """Whether :func:`ganaug.training.make_trainer` makes the same of the generator and the settings."""
        return False

    def facts(self) -> dict[str, Any]:
        """What ``config.json`` says about this kind of training besides its settings, as JSON values."""
        return {}

    def _update(self, optimizer: DenseAdam, losses: Iterable[tuple[Tensor, Monitors]]) -> Monitors:
        """Update a network by the mean loss of the parts of a batch, unless a gradient is not finite.

        Args:
            optimizer (DenseAdam): of the network.
            losses (iterable): of each part of the batch, the loss and scalars to watch. A part's graph is let go
                before the next one is asked for.

        Returns:
            dict: means of what is watched.
        """
        optimizer.zero_grad()
        watched = []
        for loss, monitors in losses:
            self.accelerator.backward(loss / len(self.parts))
            watched.append(monitors)
        optimizer.step()
        self.skipped = torch.maximum(self.skipped, optimizer.skipped)
        return {name: torch.stack([each[name] for each in watched]).mean() for name in watched[0]}

    def _set_learning_rates(self, step: int) -> None:
        phase, decay = self.phase(step), self.settings.lr_decay
        left = 1 - (step - phase.first) / (phase.last - phase.first)
        factor = self.learning_rate_factor * (left / decay if left < decay else 1)
        for name, (_, optimizer) in self._trained.items():
            own = phase.learning_rate_factor if name == GENERATOR else 1
            optimizer.param_groups[0]["lr"] = optimizer.defaults["lr"] * own * factor

    def _seed_noise(self, step: int) -> None:
        self.noise.start(step)
        # Dropout draws other numbers on each process.
        rng = random_stream(
            self.settings.seed, Purpose.TRAINING_NOISE, index=step, attempt=self.accelerator.process_index
        )
        # torch.manual_seed is slow on a CPU: it records a traceback for each kind of accelerator that is missing.
        seed_device = torch.default_generator.manual_seed if self.batches.device.type == "cpu" else torch.manual_seed
        seed_device(int(rng.integers(2**32)))
