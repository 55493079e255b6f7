"""Image files to one uint8 tensor."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import BinaryIO

import torch
from PIL import Image, ImageOps
from torch import Tensor
from torchvision.transforms.v2.functional import pil_to_tensor, to_pil_image
from tqdm import tqdm

from ganaug.errors import DataError

_GREY, _RGB = ("1", "L"), ("RGB",)


@dataclass(frozen=True)
class EncodedImage:
    """An image that is not decoded yet: what to call it in an error, and how to open its bytes."""

    name: str
    open: Callable[[], BinaryIO]


def decode(encoded: Sequence[EncodedImage], *, resolution: int | None) -> Tensor:
    """Decode images of one kind into one tensor: grey (one channel) if all are, else RGB.

    Headers are read first, so that the tensor is made once and a bad set is refused before the long work.

    Args:
        encoded (sequence of EncodedImage): one or more.
        resolution (int, optional): see :func:`fit`; None keeps the size, which must then be the same for all.

    Returns:
        Tensor: uint8 (N, C, H, W).

    Raises:
        DataError: images cannot be decoded, are neither grey nor RGB, or differ in size.
    """
    with _collect_failures(len(encoded)) as failures:
        kinds = [_header(item, failures) for item in encoded]
    for item, (mode, _) in zip(encoded, kinds, strict=True):
        if mode not in _GREY + _RGB:
            raise DataError(f"{item.name} has pixels of kind {mode!r}; convert it to grey (L) or RGB")
    sizes = {size for _, size in kinds}
    if resolution is None and len(sizes) > 1:
        (_, first), other = kinds[0], next(i for i, (_, size) in enumerate(kinds) if size != kinds[0][1])
        raise DataError(
            f"images differ in size: {encoded[0].name} is {first[0]}x{first[1]}, {encoded[other].name} is "
            f"{kinds[other][1][0]}x{kinds[other][1][1]}. Give a resolution (--resolution) to resize and crop to"
        )
    mode = "L" if all(mode in _GREY for mode, _ in kinds) else "RGB"
    width, height = (resolution, resolution) if resolution else kinds[0][1]
    images = torch.empty(len(encoded), Image.getmodebands(mode), height, width, dtype=torch.uint8)
    with _collect_failures(len(encoded)) as failures:
        for i, item in enumerate(tqdm(encoded, "decoding", unit="img", disable=len(encoded) < 5000)):
            try:
                with item.open() as file, Image.open(file) as image:
                    images[i] = pil_to_tensor(_fit_one(image.convert(mode), resolution))
            except _CANNOT_DECODE as error:
                failures.append((item.name, error))
    return images


def fit(images: Tensor, resolution: int | None) -> Tensor:
    """Resize the shorter side to ``resolution`` with antialiasing (Lanczos) and crop the centre square.

    Args:
        images (Tensor): uint8 (N, C, H, W).
        resolution (int, optional): pixels; None returns the images as they are.
    """
    if resolution is None or images.shape[2:] == (resolution, resolution):
        return images
    return torch.stack([pil_to_tensor(_fit_one(to_pil_image(image), resolution)) for image in images])


_CANNOT_DECODE = (OSError, SyntaxError, ValueError, Image.DecompressionBombError)  # what PIL's decoders raise


def _header(item: EncodedImage, failures: list[tuple[str, Exception]]) -> tuple[str, tuple[int, int]]:
    try:
        with item.open() as file, Image.open(file) as image:
            return image.mode, image.size
    except _CANNOT_DECODE as error:
        failures.append((item.name, error))
        return "", (0, 0)


def _fit_one(image: Image.Image, resolution: int | None) -> Image.Image:
    if resolution is None or image.size == (resolution, resolution):
        return image
    return ImageOps.fit(image, (resolution, resolution), Image.Resampling.LANCZOS)


@contextmanager
def _collect_failures(total: int) -> Iterator[list[tuple[str, Exception]]]:
    failures: list[tuple[str, Exception]] = []
    yield failures
    if failures:
        name, error = failures[0]
        raise DataError(
            f"{len(failures)} of {total} images cannot be decoded; the first is {name}: {error}. "
            "Remove or replace them"
        )
