"""What a dataset or an image from anywhere is: whether for evaluation, of which kind, of which shape."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from ganaug.core.errors import DataError
from ganaug.data.nesting import everything_inside

ImageKind = Literal["PIL", "tensor", "tv_tensor"]
VALIDATION = ("val", "valid", "validation", "dev")
EVALUATION = ("test", "testing", "eval", *VALIDATION)  # names of splits to judge by, the first choice first
_HIGHEST_LABEL = 100_000  # of labels without names, of which each number up to it is a class


def evaluation_split(dataset: Any) -> str | None:
    """Which dataset, it or one inside it, says that it is for evaluation, and how; None if none does.

    Datasets say so by ``train`` (as torchvision's do), ``split``, or else by the name of the folder they are in.
    """
    for each in everything_inside(dataset):
        train, folder = getattr(each, "train", None), getattr(each, "root", None)
        splits = [(name, getattr(each, name, None)) for name in ("split", "_split")]
        # A split of HF datasets is a NamedSplit; of LabelledImages, split is a method.
        stated = [(name, str(value)) for name, value in splits if type(value).__name__ in ("str", "NamedSplit")]
        found = None
        if train is False:
            found = "train=False"
        elif stated:
            name, value = stated[0]
            found = f"{name}={value!r}" if is_evaluation_name(value) else None
        elif train is not True and isinstance(folder, str | Path) and is_evaluation_name(Path(folder).name):
            found = f"folder {Path(folder).name!r}"
        if found:
            return f"{type(each).__name__} is an evaluation split ({found})"
    return None


def is_evaluation_name(split: str) -> bool:
    """Whether a split of this name is for evaluation, as ``"test"``, ``"test[:100]"`` and ``"train+test"`` are."""
    return any(part.strip().partition("[")[0] in EVALUATION for part in split.lower().split("+"))


def check_not_evaluation(dataset: Any, *, allow_eval: bool) -> None:
    """Refuse data that models are judged on: generated images there would make the judgement worthless.

    Raises:
        ValueError: ``dataset`` is an evaluation split, and ``allow_eval`` is False.
    """
    found = evaluation_split(dataset)
    if found and not allow_eval:
        raise ValueError(
            f"{found}. Augment the training split: generated images among those that a model is judged on make the "
            "result worthless. If this is what you train on, pass allow_eval=True"
        )


def image_kind(image: Any) -> ImageKind | None:
    """The form of a raw image; None if generated images cannot be given it."""
    if isinstance(image, Image.Image):
        return "PIL" if image.mode in ("L", "RGB") else None
    if isinstance(image, Tensor) and image.dtype == torch.uint8 and image.ndim == 3:
        return "tv_tensor" if _is_tv_tensor(image) else "tensor"
    return None


def _is_tv_tensor(image: Tensor) -> bool:
    if type(image) is Tensor:
        return False
    from torchvision import tv_tensors  # whoever has one has imported it

    return isinstance(image, tv_tensors.Image)


def image_shape(image: Any) -> tuple[int, int, int]:
    """(C, H, W) of an image for which :func:`image_kind` is not None."""
    if isinstance(image, Image.Image):
        return len(image.getbands()), image.height, image.width
    return tuple(image.shape)


def image_size(image: Any) -> tuple[int, int] | None:
    """(H, W) of a PIL image, a tensor (C, H, W) or an array (H, W) or (H, W, C); None for anything else."""
    if isinstance(image, Image.Image):
        return image.height, image.width
    if isinstance(image, Tensor) and image.ndim == 3:
        return int(image.shape[1]), int(image.shape[2])
    if isinstance(image, np.ndarray) and image.ndim in (2, 3):
        return image.shape[0], image.shape[1]
    return None


def numerals(highest: int) -> tuple[str, ...]:
    """Names of the classes of labels from 0 to ``highest`` that have no names.

    Raises:
        DataError: the labels are no numbers of classes, such as identifiers or dates.
    """
    if highest > _HIGHEST_LABEL:
        raise DataError(
            f"labels must number the classes from 0, got {highest}. Number them: classes, y = np.unique(y, "
            "return_inverse=True)"
        )
    return tuple(map(str, range(highest + 1)))


def describe(value: Any) -> str:
    """What a value is, for an error message."""
    if isinstance(value, tuple | list):
        return f"a {type(value).__name__} of {len(value)}"
    if isinstance(value, Tensor | np.ndarray):
        kind = "an ndarray" if isinstance(value, np.ndarray) else f"a {type(value).__name__}"
        return f"{kind} of shape {tuple(value.shape)}, {value.dtype}"
    return f"{type(value).__name__} {value!r:.80}"
