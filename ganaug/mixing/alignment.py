"""Whether generated items look like real ones to the program that reads them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

_TOLERANCE = 0.25  # of the real images' range of values
_BACKGROUND = 0.5  # of each side's own range, by which corners differ where backgrounds do


@dataclass(frozen=True)
class Look:
    """What a program can tell about a batch of images without knowing what they show.

    Attributes:
        type (str), dtype (str): of an image and of its values.
        shapes (tuple of tuple): the shapes that occur.
        low (float), high (float): smallest and largest value.
        mean (tuple of float): mean of each channel; empty if images differ in the number of channels.
        corners (float): mean of the four corners, where backgrounds are.
    """

    type: str
    dtype: str
    shapes: tuple[tuple[int, ...], ...]
    low: float
    high: float
    mean: tuple[float, ...]
    corners: float

    @classmethod
    def of(cls, images: Sequence[Any]) -> Look:
        """Look of some images: PIL images and arrays, which are (H, W) or (H, W, C), or tensors (C, H, W)."""
        arrays = [_array(image) if isinstance(image, Tensor) else np.asarray(image) for image in images]
        channels = [
            array.reshape(len(array), -1) if isinstance(image, Tensor) else array.reshape(-1, (*array.shape, 1)[2]).T
            for image, array in zip(images, arrays, strict=True)
        ]
        comparable = len({len(array) for array in channels}) == 1
        return cls(
            type=" or ".join(sorted({type(image).__name__ for image in images})),
            dtype=" or ".join(sorted({_dtype(image, array) for image, array in zip(images, arrays, strict=True)})),
            shapes=tuple(sorted({array.shape for array in arrays})),
            low=float(min(array.min() for array in arrays)),
            high=float(max(array.max() for array in arrays)),
            mean=tuple(np.mean([array.mean(1) for array in channels], axis=0).tolist()) if comparable else (),
            corners=float(np.mean([_corners(image, array) for image, array in zip(images, arrays, strict=True)])),
        )

    @property
    def brightness_of_corners(self) -> float:
        """0 for the smallest value, 1 for the largest, so that images with values of another scale compare."""
        return (self.corners - self.low) / ((self.high - self.low) or 1.0)


def _dtype(image: Any, array: Any) -> str:
    return str(getattr(image, "dtype", array.dtype)).removeprefix("torch.")


def _corners(image: Any, array: Any) -> float:
    rows, columns = [0, 0, -1, -1], [0, -1, 0, -1]
    if array.ndim < 2:
        return float(array.mean())
    return float((array[..., rows, columns] if isinstance(image, Tensor) else array[rows, columns]).mean())


def _array(image: Tensor) -> Any:
    image = image.detach().cpu()
    return (image.float() if image.dtype == torch.bfloat16 else image).numpy()  # numpy has no bfloat16


def form_differences(real: Look, generated: Look) -> str:
    """How two looks differ in form, in words: type, dtype, and shape if all real images have the same."""
    names = [name for name in ("type", "dtype") if getattr(real, name) != getattr(generated, name)]
    if len(real.shapes) == 1 and real.shapes != generated.shapes:
        names.append("shapes")
    return _both(names, real, generated)


def _both(names: Sequence[str], real: Look, generated: Look) -> str:
    return "; ".join(f"{name}: real {getattr(real, name)}, generated {getattr(generated, name)}" for name in names)


def compare(real: Look, generated: Look) -> None:
    """Refuse generated images that a program could tell from real ones without looking at what they show.

    Types, dtypes, shapes (if all real images have the same), smallest and largest values and channel means are
    compared; values and means may differ by a quarter of the real images' range.

    Raises:
        ValueError: the two differ; the message has both values.
    """
    tolerance = _TOLERANCE * (real.high - real.low)
    differing = [name for name in ("low", "high") if abs(getattr(real, name) - getattr(generated, name)) > tolerance]
    if len(real.mean) != len(generated.mean) or any(
        abs(a - b) > tolerance for a, b in zip(real.mean, generated.mean, strict=True)
    ):
        differing.append("mean")
    found = "; ".join(filter(None, [form_differences(real, generated), _both(differing, real, generated)]))
    if not found:
        return
    background = ""
    if abs(real.brightness_of_corners - generated.brightness_of_corners) > _BACKGROUND:
        background = (
            f"Their backgrounds differ: corners have a mean of {real.corners:.3g} in real images, and of "
            f"{generated.corners:.3g} in generated ones. If your images are transparent, torchvision's ImageFolder "
            "shows what was hidden, often black, and ganaug trains on white: open them with ganaug.open_images. "
            "Otherwise: "
        )
    raise ValueError(
        f"real and generated items differ after the transforms ({found}). {background}Give both the same transforms, "
        "or a fake_transform that ends where the dataset's own processing does; a generator trained too little "
        "differs in range and mean"
    )


def spread(indices: Tensor, count: int) -> list[int]:
    """Up to ``count`` of ``indices``, int64 (N,), evenly spread."""
    chosen = torch.linspace(0, len(indices) - 1, min(count, len(indices))).long()
    return [int(index) for index in indices[chosen]]
