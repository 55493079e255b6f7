"""The five classic systems: what differs between them is a pair of networks, an objective and a few numbers."""

from __future__ import annotations

from dataclasses import dataclass

from ganaug.generators import (
    ACGAN28Generator,
    ACGAN64Generator,
    CGANMaxoutGenerator,
    CGANMLPGenerator,
    DCGAN32Generator,
    Generator,
)
from ganaug.training.objectives import GANObjective
from ganaug.training.settings import TrainingSettings


@dataclass(frozen=True)
class System:
    """A published way to train a generator.

    Args:
        generator (type): its class, which makes the discriminator too.
        objective (GANObjective): the losses.
        settings (TrainingSettings): how long and how.
        resolution (int, optional): side to resize images to; None keeps theirs.
        conditional (bool): whether the generator is told the classes. Default: True
    """

    generator: type[Generator]
    objective: GANObjective
    settings: TrainingSettings
    resolution: int | None = None
    conditional: bool = True


_DCGAN = TrainingSettings(
    total_kimg=200, train_batch_size=128, ema_kimg=5, log_kimg=4, sample_kimg=20, half_batches=True
)

SYSTEMS = {
    "cgan-mlp": System(
        CGANMLPGenerator,
        GANObjective(),
        TrainingSettings(total_kimg=400, train_batch_size=64, log_kimg=8, sample_kimg=80),
    ),
    "cgan-maxout": System(
        CGANMaxoutGenerator,
        GANObjective(),
        TrainingSettings(total_kimg=400, train_batch_size=64, log_kimg=8, sample_kimg=80, fake_labels="real"),
    ),
    "acgan-28": System(
        ACGAN28Generator,
        GANObjective(class_weight_real=1, class_weight_fake=1, class_weight_generator=1, discriminator_weight=0.5),
        TrainingSettings(),
    ),
    "acgan-64": System(
        ACGAN64Generator,
        GANObjective(class_weight_real=1, class_weight_fake=1, class_weight_generator=1),
        TrainingSettings(total_kimg=60, train_batch_size=32, ema_kimg=5, log_kimg=1, sample_kimg=10),
        resolution=64,
    ),
    "dcgan-32": System(DCGAN32Generator, GANObjective(), _DCGAN, resolution=32, conditional=False),
    "dcgan-32-conditional": System(
        DCGAN32Generator, GANObjective(class_weight_real=1, class_weight_generator=1), _DCGAN, resolution=32
    ),
}
