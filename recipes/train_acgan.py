"""Train a class-conditional generator on labelled images: an auxiliary classifier GAN, or what came after it.

Without flags: the default preset on the bundled MNIST digits, in a few minutes on two cores.
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
        model: auto chooses a preset for the images, and says why. Of the others, acgan-28 draws sizes that are
            multiples of 4, acgan-64 (40 times the weights) multiples of 16, sngan (residual networks, spectral
            normalisation, projection) and flow (flow matching, no discriminator) even ones.
        conditioning: Of acgan-64: multiply the latent by a label embedding, or concat the one-hot label to it.
    """

    model: Literal["auto", "acgan-28", "acgan-64", "sngan", "flow", "flow-wide"] = "auto"
    conditioning: Literal["multiply", "concat"] = "multiply"

    def network_options(self) -> dict[str, Any]:
        """Arguments of the generator beside those that the images give."""
        options = super().network_options()
        return {**options, "conditioning": self.conditioning} if self.model == "acgan-64" else options


if __name__ == "__main__":
    run_recipe(Arguments, __doc__)
