"""The settings of a training run: how long, on how many images at a time, at which rates."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Literal, get_args

from ganaug.core.errors import InputError
from ganaug.core.integers import to_int
from ganaug.training.diffaug import Operation


@dataclass(frozen=True)
class TrainingSettings:
    """How networks are trained. Lengths are in kimg: thousands of real images shown.

    Args:
        total_kimg: Budget: train until this many thousand real images were shown.
        train_batch_size: Real images per process and update of the discriminator.
        gradient_accumulation_steps: Batches whose gradients are added up for one update of each network, for batches
            that do not fit into memory at once; all of them count towards total_kimg.
        discriminator_steps: Updates of the discriminator for each update of the generator.
        learning_rate: Learning rate of Adam, for both networks unless discriminator_learning_rate is given.
        discriminator_learning_rate: Learning rate of the discriminator, if it differs.
        lr_decay: Share of the run, or of each of its phases, at its end, in which the learning rates fall linearly to
            zero.
        adam_beta1: Decay rate of Adam's first moment.
        adam_beta2: Decay rate of Adam's second moment.
        class_sampling: A class of n images gets a share of the batches proportional to n to this power: 1 shows all
            images equally often, 0.5 (square-root sampling) shows small classes more often, 0 shows all classes
            equally often (Kang et al. 2020).
        augment: What real and generated images alike go through before the discriminator sees them: shift, flip (only
            for images whose mirror image is still of its class), cutout, brightness. A flow takes only flip, for real
            images, and so does acgan, which begins as one.
        ema_kimg: Half-life of the moving average of the generator's weights, which is what is sampled and saved.
        log_kimg: How often the monitors are logged.
        sample_kimg: How often a sample grid is written.
        evaluation_kimg: How often the averaged generator is scored on real images that are held back, a tenth of each
            class; at the end the last of the best ones is saved. None holds nothing back and saves the last one.
        patience: End training after so many scores in a row that were no better than an earlier one; None never does.
        checkpointing_kimg: How often a checkpoint is written, from which a stopped run can be resumed; None writes
            none.
        checkpoints_total_limit: How many checkpoints are kept, the newest ones.
        mixed_precision: bf16, or no for fp32; auto takes bf16 if the hardware has it.
        cpu_threads: Threads per process; by default the cores are divided among the local processes.
        compile: Compile the networks with torch.compile first, which takes about a minute.
        fake_labels: Labels of the generated images: drawn with the class shares of the real images, or the labels of
            the real images in the same batch.
        half_batches: Update the discriminator twice, on half a batch of real images and on half a batch of generated
            ones, and the generator on a whole batch; a step then shows half as many real images.
        seed: Seed of weights, data order, latents and dropout.

    Raises:
        InputError: a value is out of range, an augmentation is unknown, or half_batches does not go with
            train_batch_size or discriminator_steps.
    """

    total_kimg: float = 200
    train_batch_size: int = 32
    gradient_accumulation_steps: int = 1
    discriminator_steps: int = 1
    learning_rate: float = 2e-4
    discriminator_learning_rate: float | None = None
    lr_decay: float = 0.0
    adam_beta1: float = 0.5
    adam_beta2: float = 0.999
    class_sampling: float = 1.0
    augment: tuple[Operation, ...] = ()
    ema_kimg: float = 10
    log_kimg: float = 4
    sample_kimg: float = 40
    evaluation_kimg: float | None = 40
    patience: int | None = None
    checkpointing_kimg: float | None = 10
    checkpoints_total_limit: int = 2
    mixed_precision: Literal["auto", "bf16", "no"] = "auto"
    cpu_threads: int | None = None
    compile: bool = False
    fake_labels: Literal["drawn", "real"] = "drawn"
    half_batches: bool = False
    seed: int = 0

    def __post_init__(self) -> None:
        if isinstance(self.augment, str):
            raise InputError(f"augment must be a list of names, got {self.augment!r}. Write [{self.augment!r}]")
        object.__setattr__(self, "augment", tuple(self.augment))  # JSON has lists
        for field in fields(self):
            value = getattr(self, field.name)
            if to_int(value) is not None:
                object.__setattr__(self, field.name, value := to_int(value))  # a run's settings are kept as JSON
            if field.name in ("adam_beta1", "adam_beta2"):
                valid, wanted = 0 <= value < 1, "in [0, 1)"
            elif field.name in ("lr_decay", "class_sampling"):
                valid, wanted = 0 <= value <= 1, "in [0, 1]"
            elif field.name == "seed":
                valid, wanted = 0 <= value < 2**32, "from 0 to 2**32 - 1"
            elif isinstance(value, int | float) and not isinstance(value, bool):
                valid, wanted = 0 < value < float("inf"), "positive and finite"
            else:
                continue
            if not valid:
                raise InputError(f"{field.name} must be {wanted}, got {value}")
        unknown = [name for name in self.augment if name not in get_args(Operation)]
        if unknown:
            raise InputError(f"augment takes {', '.join(get_args(Operation))}, got {', '.join(unknown)}")
        if self.half_batches and self.discriminator_steps > 1:
            raise InputError(f"half_batches allows only discriminator_steps 1, got {self.discriminator_steps}")
        if self.half_batches and self.train_batch_size % 2:
            raise InputError(f"half_batches needs an even train_batch_size, got {self.train_batch_size}")
