"""A folder of images as people have them: of many kinds, sizes and aspect ratios, in unequal classes."""

from __future__ import annotations

import colorsys
from pathlib import Path

import numpy as np
from PIL import Image

CLASS_COUNTS = {"bee": 1, "ant": 3, "cat": 8, "dog": 20, "elk": 48, "fox": 100, "gnu": 120}


def write_mixed_folder(folder: Path) -> dict[str, int]:
    """Write 300 images of 7 classes, the same ones every time; returns the number of images of each class.

    A class has a hue, an image a gradient of it and a little texture. Kinds take turns: RGBA, palette (every other one
    with a transparent colour), grey, 16-bit grey, and JPEG with each of the EXIF orientations. Sides are 20 to 500.
    """
    rng = np.random.default_rng(5)
    writers = (_rgba, _palette, _grey, _grey_16, _jpeg)
    written = 0
    for k, (name, count) in enumerate(CLASS_COUNTS.items()):
        (folder / name).mkdir(parents=True)
        for _ in range(count):
            height, width = (int(side) for side in np.exp(rng.uniform(np.log(20), np.log(500), 2)).round())
            picture = _picture(rng, colorsys.hsv_to_rgb(k / len(CLASS_COUNTS), 0.8, 0.9), height, width)
            writers[written % len(writers)](picture, folder / name / f"{written:03d}", written // len(writers))
            written += 1
    return dict(CLASS_COUNTS)


def _picture(rng: np.random.Generator, colour: tuple[float, ...], height: int, width: int) -> Image.Image:
    texture = np.kron(rng.uniform(0.8, 1, (4, 4)), np.ones((height // 4 + 1, width // 4 + 1)))[:height, :width]
    brightness = texture * np.linspace(rng.uniform(0.4, 0.8), 1, width)
    return Image.fromarray((255 * brightness[:, :, None] * np.array(colour)).astype(np.uint8))


def _save_png(image: Image.Image, path: Path, **options: int) -> None:
    image.save(path.with_suffix(".png"), compress_level=1, **options)


def _rgba(picture: Image.Image, path: Path, _: int) -> None:
    picture.putalpha(Image.linear_gradient("L").resize(picture.size))
    _save_png(picture, path)


def _palette(picture: Image.Image, path: Path, turn: int) -> None:
    _save_png(picture.quantize(16), path, **({"transparency": 3} if turn % 2 else {}))


def _grey(picture: Image.Image, path: Path, _: int) -> None:
    _save_png(picture.convert("L"), path)


def _grey_16(picture: Image.Image, path: Path, _: int) -> None:
    _save_png(Image.fromarray(np.asarray(picture.convert("L")).astype(np.uint16) * 257), path)


def _jpeg(picture: Image.Image, path: Path, turn: int) -> None:
    exif = Image.Exif()
    exif[0x0112] = turn % 8 + 1
    picture.save(path.with_suffix(".jpg"), exif=exif)
