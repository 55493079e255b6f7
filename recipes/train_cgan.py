"""Train a conditional GAN of fully connected networks (Mirza & Osindero 2014) on labelled images.

Without flags: the network cgan-mlp on the bundled MNIST digits.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

from ganaug.cli.train import run_recipe
from ganaug.cli.train_flags import TrainingArguments


@dataclass(frozen=True)
class Arguments(TrainingArguments):
    """Flags of this recipe.

    Args:
        model: cgan-mlp embeds the label; cgan-maxout is the network of the paper, with a maxout discriminator.
        norm_after_sigmoid: Of cgan-maxout: its source's literal order, whose BatchNorm leaves the range of pixels.
    """

    model: Literal["cgan-mlp", "cgan-maxout"] = "cgan-mlp"
    norm_after_sigmoid: bool = False

    def network_options(self) -> dict[str, Any]:
        """Arguments of the generator beside those that the images give."""
        options = super().network_options()
        return {**options, "norm_after_sigmoid": self.norm_after_sigmoid} if self.model == "cgan-maxout" else options


if __name__ == "__main__":
    run_recipe(Arguments, __doc__)
