"""What variations of real images look like: the first image of each class, and variations of it at several strengths.

python recipes/variations.py --generator outputs/flow --picture variations.png
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path

import torch

from ganaug import Generator, InputError
from ganaug.cli.flags import run
from ganaug.cli.images import DataArguments
from ganaug.core.hardware import set_cpu_threads
from ganaug.data.grids import class_grid

MOST_ROWS = 10  # classes; more would be too many to look at


@dataclass(frozen=True)
class Arguments:
    """Flags of this recipe.

    Args:
        generator: Folder or Hub id of the generator, a flow.
        strengths: Of the variations, above 0 and up to 1, each a column.
        picture: PNG file to write.
        seed: Of the noise.
    """

    generator: str
    data: DataArguments = field(default_factory=DataArguments)
    strengths: tuple[float, ...] = (0.25, 0.5, 0.75, 1.0)
    picture: Path = Path("outputs/variations.png")
    seed: int = 0


def main(args: Arguments) -> None:
    """Vary the images and draw the grid."""
    set_cpu_threads(None)
    generator = Generator.from_pretrained(args.generator)

    # Real images, in the size in which the generator makes them.
    images = replace(args.data, resolution=generator.image_size, channels=generator.channels).open()
    if not {*images.classes} <= {*generator.label_names}:
        raise InputError(
            f"{args.generator} draws {', '.join(generator.label_names) or 'no classes: it is unconditional'}; "
            f"{images.name} has {', '.join(images.classes)}. Give images of the generator's classes"
        )
    first = torch.stack([of_class[0] for of_class in images.of_each_class[:MOST_ROWS]])
    real, names = images.images[first], [images.classes[label] for label in images.targets[first]]

    # A row for each, from the real image to what is drawn from the same noise without it.
    varied = [generator.vary(real, names, strength=strength, seed=args.seed) for strength in args.strengths]
    rows = torch.stack([real, *varied], 1).flatten(0, 1)
    args.picture.parent.mkdir(parents=True, exist_ok=True)
    class_grid(rows, ["real", *(f"{strength:g}" for strength in args.strengths)]).save(args.picture)
    print(f"{args.picture}: a row for each of the classes {', '.join(names)}")


if __name__ == "__main__":
    run(Arguments, main, __doc__)
