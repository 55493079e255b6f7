"""Train a DCGAN (Radford et al. 2015) on images.

Without flags: dcgan-32 on the bundled MNIST digits, resized to 32x32. It is unconditional: it cannot draw a class that
is asked for, so it cannot augment a dataset. Its conditional variant can.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from ganaug.cli.train import run_recipe
from ganaug.cli.train_flags import TrainingArguments


@dataclass(frozen=True)
class Arguments(TrainingArguments):
    """Flags of this recipe.

    Args:
        model: dcgan-32-conditional multiplies the latent by a label embedding, and its discriminator has a class head.
    """

    model: Literal["dcgan-32", "dcgan-32-conditional"] = "dcgan-32"


if __name__ == "__main__":
    run_recipe(Arguments, __doc__)
