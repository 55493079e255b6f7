"""Pictures of many images, laid out in a grid: one class per column, its name above."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import torch
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

from ganaug.core.pixels import to_pil
from ganaug.data import LabelledImages

_CELL = 56  # pixels: room for a short class name, and to see an 8x8 image
_TITLE = 16
MOST_COLUMNS = 100  # more classes would take minutes to draw, and no viewer shows a picture of their width


class SampledGenerator(Protocol):
    """What a grid of generated images needs of their generator."""

    label_names: tuple[str, ...]

    @property
    def num_classes(self) -> int:
        """0 for an unconditional generator."""

    @property
    def conditional(self) -> bool:
        """Whether images of a wanted class can be drawn."""

    def sample(self, labels: list[int], *, seed: int = 0) -> Tensor:
        """One image for each label, uint8 (N, C, H, W)."""


def shown_classes(num_classes: int) -> list[int]:
    """The classes that a grid shows: all, or 100 of them, spread evenly over their numbers."""
    count = min(num_classes, MOST_COLUMNS)
    return [k * num_classes // count for k in range(count)]


def class_grid(images: Tensor, names: Sequence[str], *, of: int | None = None) -> Image.Image:
    """Lay out images with one class per column.

    Args:
        images (Tensor): uint8 (rows * len(names), C, H, W), row after row.
        names (sequence of str): title of each column, shortened if it is wider than its column.
        of (int, optional): number of all classes, which a line below says if there are fewer columns.

    Returns:
        PIL.Image.Image: RGB.
    """
    body = plain_grid(images, columns=len(names))
    caption = f"{len(names)} of the {of:,} classes" if of is not None and len(names) < of else ""
    picture = Image.new("RGB", (body.width, body.height + _TITLE * (2 if caption else 1)), "white")
    picture.paste(body, (0, _TITLE))
    draw = ImageDraw.Draw(picture)
    font = ImageFont.load_default(12)
    column = (body.width - 2) // len(names)
    for k, name in enumerate(names):
        title = name
        while len(title) > 1 and draw.textlength(title, font=font) > column - 2:
            title = title.removesuffix("…")[:-1] + "…"
        draw.text((2 + k * column + (column - 2) / 2, _TITLE / 2 + 1), title, "black", font=font, anchor="mm")
    draw.text((2, picture.height - _TITLE / 2 - 1), caption, "black", font=font, anchor="lm")
    return picture


def plain_grid(images: Tensor, *, columns: int) -> Image.Image:
    """Lay out images row after row; small ones are enlarged by a whole factor.

    Args:
        images (Tensor): uint8 (N, C, H, W).
        columns (int): images in a row.

    Returns:
        PIL.Image.Image: RGB.
    """
    from torchvision.utils import make_grid

    zoom = max(1, round(_CELL / images.shape[3]))
    images = images.repeat_interleave(zoom, 2).repeat_interleave(zoom, 3)
    return to_pil(make_grid(images, nrow=columns, padding=2, pad_value=255))


def sample_grid(generator: SampledGenerator, *, rows: int = 10, seed: int = 0) -> Image.Image:
    """Grid of generated images, with one class per column, of :func:`shown_classes`.

    Args:
        generator (SampledGenerator): draws them.
        rows (int): images of each class; an unconditional generator fills as many columns. Default: 10
        seed (int): in [0, 2**64). Default: 0

    Returns:
        PIL.Image.Image: RGB.
    """
    if not generator.conditional:
        return plain_grid(generator.sample([0] * rows**2, seed=seed), columns=rows)
    shown = shown_classes(generator.num_classes)
    names = [generator.label_names[k] for k in shown]
    return class_grid(generator.sample(shown * rows, seed=seed), names, of=generator.num_classes)


def real_grid(data: LabelledImages, *, rows: int = 10) -> Image.Image:
    """Grid of the first images of each of :func:`shown_classes`; a class with fewer than ``rows`` ends in blank cells.

    Args:
        data (LabelledImages): the images.
        rows (int): images of each class. Default: 10

    Returns:
        PIL.Image.Image: RGB.
    """
    shown = shown_classes(len(data.classes))
    cells = torch.full((rows, len(shown), *data.images.shape[1:]), 255, dtype=torch.uint8)
    for column, k in enumerate(shown):
        found = data.images[torch.nonzero(data.targets == k).squeeze(1)[:rows]]
        cells[: len(found), column] = found
    return class_grid(cells.flatten(0, 1), [data.classes[k] for k in shown], of=len(data.classes))
