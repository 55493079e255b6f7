"""The form of a dataset's items, which generated ones are given too."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, cast

from torch import Tensor

from ganaug.core.pixels import to_pil
from ganaug.data import inspection
from ganaug.data.inspection import ImageKind
from ganaug.data.label_form import LabelForm
from ganaug.data.own_transforms import Transforms


class ItemForm:
    """How a dataset's items look before its transforms.

    Args:
        image (Any): of an item of the dataset, before its transforms if these are known.
        label_form (LabelForm): the form of its labels.
        fake_transform (callable, optional): uint8 (C, H, W) tensor to what the dataset returns for an image. It takes
            the place of the raw form and of the dataset's own transforms of images.
        owner (str): whose items they are, for error messages.
        obstacle (str, optional): why it is not known what the dataset does to images; None if it is.

    Attributes:
        shape (tuple of int, optional): (C, H, W) of the raw image; None with ``fake_transform``.

    Raises:
        TypeError: generated images cannot be given the form of the raw one.
    """

    def __init__(
        self,
        image: Any,
        label_form: LabelForm,
        fake_transform: Callable[[Tensor], Any] | None,
        *,
        owner: str,
        obstacle: str | None = None,
    ) -> None:
        self._kind = inspection.image_kind(image)
        self._image, self._label_form, self._fake_transform, self._owner = image, label_form, fake_transform, owner
        self.check_known(obstacle)
        if fake_transform is None and self._kind is None:
            raise TypeError(
                f"images of {owner} must be PIL images (L or RGB) or uint8 (C, H, W) tensors before its transform, "
                f"got {inspection.describe(image)}. Pass fake_transform, which turns a uint8 (C, H, W) tensor into "
                "what the dataset gives"
            )
        self.shape = None if fake_transform else inspection.image_shape(image)

    def check_known(self, obstacle: str | None) -> None:
        """Refuse a dataset if it is not known what it does to images, unless there is a ``fake_transform``.

        Raises:
            TypeError: there is an ``obstacle``.
        """
        if obstacle and self._fake_transform is None:
            raise TypeError(
                f"generated images cannot be processed as {self._owner} processes its own: {obstacle}. Pass "
                "a fake_transform that does the same to a uint8 (C, H, W) tensor; with albumentations, for instance, "
                'lambda image: transform(image=image.permute(1, 2, 0).numpy())["image"]'
            )

    def check(self, made: tuple[int, int, int], *, resizable: bool) -> None:
        """Refuse generated images that cannot be mixed with the dataset's.

        Args:
            made (tuple of int): (C, H, W) of the generator's images.
            resizable (bool): whether transforms follow, which may bring sizes together.

        Raises:
            ValueError: the number of channels differs, or the size does and no transforms follow.
        """
        real = self.shape
        if real is None:
            return
        if real[0] != made[0]:
            # As of grey files, which torchvision's ImageFolder opens as RGB.
            raise ValueError(
                f"the dataset's images have {real[0]} channels, the generator's {made[0]}. Train a generator with "
                f"ganaug train --channels {real[0]}, or by ganaug.fit(dataset); or pass fake_transform, which turns a "
                "uint8 (C, H, W) tensor into what the dataset gives"
            )
        if real != made and not resizable:
            raise ValueError(
                f"the dataset's images are (C, H, W) = {real}, the generator's {made}. Train a generator on images of "
                "that shape, give the dataset a transform that resizes, or pass fake_transform"
            )

    def dress(self, image: Tensor, label: int, *, own: Transforms, given: Transforms) -> tuple[Any, Any]:
        """Give a generated image and its label the form of the dataset's items, transforms included.

        Args:
            image (Tensor): uint8 (C, H, W).
            label (int): its class.
            own (Transforms): the dataset's; ``fake_transform`` takes the place of what they do to images.
            given (Transforms): those that are applied to all items afterwards.

        Returns:
            (Any, Any): image and label, as a reader of the dataset gets them.
        """
        target = self._label_form(label)
        if self._fake_transform is None:
            return given(*own(_in_form(image, cast(ImageKind, self._kind)), target))
        if own.transforms is not None:
            _, target = own.transforms(self._image, target)
        elif own.target_transform is not None:
            target = own.target_transform(target)
        return given(self._fake_transform(image), target)


def _in_form(image: Tensor, kind: ImageKind) -> Any:
    """A uint8 (C, H, W) tensor in the form of the raw images."""
    if kind == "PIL":
        return to_pil(image)
    if kind == "tv_tensor":
        from torchvision import tv_tensors  # takes a moment to import

        return tv_tensors.Image(image)
    return image
