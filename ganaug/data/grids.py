"""Pictures of many images, laid out in a grid: one class per column, its name above."""

from __future__ import annotations

import math
from bisect import bisect
from collections.abc import Sequence
from typing import Protocol

import torch
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

from ganaug.core.pixels import to_pil
from ganaug.data import LabelledImages

_CELL = 56  # pixels: enough to see an 8x8 image, and for a line of large letters
_PHONE, _LEGIBLE = 358, 12  # pixels: what a page has on a phone, and the size of letters that can be read there
_LONGEST = 10.0  # times the size of its letters that a title may be long
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
        names (sequence of str): title of each column, of one line or several. If one is wider than its column, all
            of them are turned, to read from below; what is very long is shortened.
        of (int, optional): number of all classes, which a line below says if there are fewer columns.

    Returns:
        PIL.Image.Image: RGB.
    """
    body = plain_grid(images, columns=len(names))
    column = (body.width - 2) // len(names)

    # Letters are as large as a phone needs, which shows the whole picture in its width, if columns have room for them.
    size = round(max(_LEGIBLE, min(_LEGIBLE * body.width / _PHONE, column / 3)))
    titles = [_title(name, size) for name in names]
    if any(title.width > column - 4 for title in titles):
        titles = [title.rotate(90, expand=True) for title in titles]
    top = max(title.height for title in titles) + 2
    caption = _title(f"{len(names)} of the {of:,} classes", size) if of is not None and len(names) < of else None

    picture = Image.new("RGB", (body.width, top + body.height + (caption.height if caption else 0)), "white")
    picture.paste(body, (0, top))
    for k, title in enumerate(titles):
        picture.paste(title, (2 + k * column + (column - 2 - title.width) // 2, top - title.height))
    if caption:
        picture.paste(caption, (2, top + body.height))
    return picture


def _title(text: str, size: int) -> Image.Image:
    """A text as a picture, with letters of so many pixels; lines that are too long end in an ellipsis."""
    font = ImageFont.load_default(size)
    lines = []
    for line in text.split("\n"):
        if font.getlength(line) > _LONGEST * size:
            fitting = bisect(range(1, len(line)), _LONGEST * size, key=lambda n: font.getlength(line[:n] + "…"))
            line = line[: max(1, fitting)] + "…"
        lines.append(line)
    width, height = 1 + math.ceil(max(map(font.getlength, lines))), math.ceil(1.25 * size)
    picture = Image.new("RGB", (width, height * len(lines)), "white")
    draw = ImageDraw.Draw(picture)
    for k, line in enumerate(lines):
        draw.text((width / 2, k * height), line, "black", font, anchor="ma")
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
