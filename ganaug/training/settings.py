from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Literal, get_args

from ganaug.core.errors import InputError
from ganaug.training.diffaug import Operation


@dataclass(frozen=True)
class TrainingSettings:
    """How a pair of networks is trained. Lengths are in kimg: thousands of real images shown.

    Args:
        total_kimg: Budget: train until this many thousand real images were shown.
        train_batch_size: Real images per process and update of the discriminator.
        gradient_accumulation_steps: Batches whose gradients are added up for one update of each network, where so many
            images at once do not fit into memory; they count for total_kimg.
        discriminator_steps: Updates of the discriminator for each one of the generator.
        learning_rate: Learning rate of Adam, for both networks unless the next one is given.
        discriminator_learning_rate: Learning rate of the discriminator, where it differs.
        lr_decay: Share of the run, at its end, in which the learning rates fall linearly to zero.
        adam_beta1: Decay of Adam's first moment.
        adam_beta2: Decay of Adam's second moment.
        class_sampling: A class of n images is shown with a share proportional to n to this power: 1 shows all images
            equally often, 0.5 (square-root sampling) small classes more, 0 all classes equally often (Kang et al.
            2020).
        augment: What the discriminator's images go through, real and generated ones alike: shift, flip (only where a
            mirrored image is still of its class), cutout, brightness.
        ema_kimg: Half-life of the averaged generator weights, which are what is sampled and saved.
        log_kimg: How often the monitors are logged.
        sample_kimg: How often a sample grid is written.
        evaluation_kimg: How often the averaged generator is scored on real images that are held back, a tenth of each
            class; the last of the best ones is saved in the end. None holds back nothing, and saves the last one.
        patience: End training when so many scores in a row were no better than one before them; None never does.
        checkpointing_kimg: How often a checkpoint is written, from which a run that was stopped goes on; None writes
            none.
        checkpoints_total_limit: How many checkpoints are kept, the newest ones.
        mixed_precision: bf16, or no for fp32; auto takes bf16 where the processor has it.
        cpu_threads: Threads per process; by default the cores are divided among the local processes.
        compile: Compile the networks with torch.compile first, which takes a minute or so.
        fake_labels: Labels of the generated images: drawn with the shares of the real classes, or the real labels of
            the same batch.
        half_batches: Update the discriminator twice, on half a batch of real and half a batch of generated images,
            and the generator on a whole batch; half as many real images are shown per step.
        seed: Seed of weights, data order, latents and dropout.

    Raises:
        InputError: a number is out of range, or half of an odd batch is asked for.
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
        object.__setattr__(self, "augment", tuple(self.augment))  # JSON has lists
        for field in fields(self):
            value = getattr(self, field.name)
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
            raise InputError(f"half_batches has one discriminator step, got {self.discriminator_steps}")
        if self.half_batches and self.train_batch_size % 2:
            raise InputError(f"half_batches needs an even train_batch_size, got {self.train_batch_size}")
