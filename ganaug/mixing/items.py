"""The form of a dataset's items, in which generated ones are put."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, cast

import torch
from torch import Tensor

from ganaug.core.pixels import to_pil
from ganaug.data import inspection
from ganaug.data.inspection import ImageKind, Transforms


class ItemForm:
    """How a dataset's items look before its transforms.

    Args:
        image (Any), label (Any): a raw item of it.
        fake_transform (callable, optional): uint8 (C, H, W) tensor to what the dataset gives for an image, where that
            cannot be found: instead of the form of the raw one and the dataset's own transforms.
        owner (str): whose items, for errors.

    Attributes:
        shape (tuple, optional): (C, H, W) of the raw image; None with ``fake_transform``.

    Raises:
        TypeError: generated images cannot be put in the form of the raw one.
    """

    def __init__(self, image: Any, label: Any, fake_transform: Callable[[Tensor], Any] | None, *, owner: str) -> None:
        self._kind = inspection.image_kind(image)
        self._label = label
        self._fake_transform = fake_transform
        self.shape = None if fake_transform else self._shape_of(image, owner)

    def _shape_of(self, image: Any, owner: str) -> tuple[int, int, int]:
        if self._kind is None:
            raise TypeError(
                f"images of {owner} must be PIL images (L or RGB) or uint8 (C, H, W) tensors before its transform, "
                f"got {inspection.describe(image)}. Pass fake_transform, which turns a uint8 (C, H, W) tensor into "
                "what the dataset gives"
            )
        return inspection.image_shape(image)

    def check(self, made: tuple[int, int, int], *, resizable: bool) -> None:
        """Refuse images of shape ``made``, (C, H, W), that the dataset's cannot be mixed with.

        Args:
            made (tuple of int): shape of the generator's images.
            resizable (bool): whether transforms follow, which may bring sizes together.

        Raises:
            ValueError: the channels differ, or the size does and nothing follows.
        """
        real = self.shape
        if real is not None and (real[0] != made[0] or (real != made and not resizable)):
            raise ValueError(
                f"the dataset's images are (C, H, W) = {real}, the generator's {made}. Train a generator on images of "
                "that shape, give the dataset a transform that resizes, or pass fake_transform"
            )

    def dress(self, image: Tensor, label: int, *, own: Transforms, given: Transforms) -> tuple[Any, Any]:
        """A generated image and its label as the reader of the dataset gets its items.

        Args:
            image (Tensor): uint8 (C, H, W).
            label (int): its class.
            own (Transforms): the dataset's; ``fake_transform`` takes the place of what they do to images.
            given (Transforms): those that follow over all items.
        """
        target = label_like(label, self._label)
        if self._fake_transform is None:
            return given(*own(present(image, cast(ImageKind, self._kind)), target))
        _, target = Transforms(target_transform=own.target_transform)(None, target)
        return given(self._fake_transform(image), target)


def present(image: Tensor, kind: ImageKind) -> Any:
    """Give a uint8 (C, H, W) tensor the form of the raw images."""
    if kind == "PIL":
        return to_pil(image)
    if kind == "tv_tensor":
        from torchvision import tv_tensors

        return tv_tensors.Image(image)
    return image


def label_like(label: int, example: Any) -> Any:
    """``label`` in the type of another dataset's label: int, numpy integer or 0-d tensor."""
    if isinstance(example, Tensor):
        return torch.tensor(label, dtype=example.dtype)
    return type(example)(label)
