"""From images of any kind to one uint8 tensor, by one rule."""

from __future__ import annotations

import logging
import struct
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from typing import cast, overload

import numpy as np
import torch
from PIL import ExifTags, Image, ImageColor, ImageOps
from torch import Tensor
from tqdm import tqdm

from ganaug.core.errors import DataError
from ganaug.core.hardware import in_gibibytes
from ganaug.core.integers import to_int
from ganaug.core.pixels import from_pil, to_pil
from ganaug.data.stored import Pixels

logger = logging.getLogger(__name__)

_GREY = ("1", "L", "LA", "I", "I;16", "I;16B", "I;16L", "I;16N")
_MODE_OF_CHANNELS = {1: "L", 2: "LA", 3: "RGB", 4: "RGBA"}  # of in-memory images
WITH_ALPHA = (2, 4)  # of these numbers of channels, the last one is transparency
_CANNOT_DECODE = (  # what PIL's decoders raise
    OSError, SyntaxError, ValueError, EOFError, IndexError, struct.error, Image.DecompressionBombError,
)  # fmt: skip


@dataclass(frozen=True)
class Conversion:
    """The rule by which images of any kind become 8-bit grey or RGB.

    1. The first frame is taken and turned upright by its EXIF orientation.
    2. 16-bit grey becomes 8-bit by round(value / 257), so that 65535 is 255. Of 16-bit colour, Pillow keeps the upper
       8 bits. Floating-point pixels, and integers beyond 16 bits, have no known range and cannot be converted.
    3. Transparency, as an alpha channel or a transparent colour, is composited over ``background``.
    4. Other colour spaces become RGB as Pillow converts them; embedded colour profiles are not applied. RGB becomes
       grey by ITU-R 601 luma, grey becomes RGB by three equal channels.
    5. With a ``resolution``, the shorter side is resized to it with antialiasing (Lanczos), and the centre is cropped.

    Args:
        resolution (int, optional): side in pixels; None keeps the size, which must then be the same for all.
        channels (int, optional): 1 for grey, 3 for RGB. None: grey if all images are grey (with or without alpha;
            palettes count as colour), else RGB.
        background (str): an opaque colour as Pillow spells it, such as ``"white"`` or ``"#ff8000"``. Default: white
        skip_bad_images (bool): leave out images that cannot be decoded, with a warning, instead of refusing all.
            Default: False

    Raises:
        DataError: an argument is not one of the above.
    """

    resolution: int | None = None
    channels: int | None = None
    background: str = "white"
    skip_bad_images: bool = False

    def __post_init__(self) -> None:
        if self.resolution is not None and (to_int(self.resolution) or 0) < 1:
            raise DataError(f"resolution must be a positive number of pixels, got {self.resolution!r}")
        if self.channels not in (None, 1, 3):
            raise DataError(f"channels must be 1 (grey) or 3 (RGB), got {self.channels!r}")
        try:
            opaque = len(ImageColor.getrgb(self.background)) == 3
        except ValueError:
            opaque = False
        if not opaque:
            raise DataError(f"background must be an opaque colour such as white or '#ff8000', got {self.background!r}")

    def mode_for(self, modes: Sequence[str]) -> str:
        """PIL mode, ``"L"`` or ``"RGB"``, that images of these PIL modes are converted to."""
        if self.channels is None:
            return "L" if all(mode in _GREY for mode in modes) else "RGB"
        return _MODE_OF_CHANNELS[self.channels]

    def convert(self, image: Image.Image, mode: str) -> Tensor:
        """Pixels of one image in ``mode`` (``"L"`` or ``"RGB"``), uint8 (C, H, W).

        Raises:
            ValueError: the image has pixels that the rule does not cover.
        """
        image = _to_8_bits(ImageOps.exif_transpose(image))
        if image.has_transparency_data:
            image = image.convert("RGBA")
            image = Image.alpha_composite(Image.new("RGBA", image.size, self.background), image)
        if image.mode not in ("1", "L"):
            image = image.convert("RGB")  # on the way to grey too: other colour spaces have greys of their own
        image = image.convert(mode)
        if self.resolution is not None and image.size != (self.resolution, self.resolution):
            image = ImageOps.fit(image, (self.resolution, self.resolution), Image.Resampling.LANCZOS)
        return from_pil(image)


@dataclass(frozen=True)
class UnreadImage:
    """An image that has not been read yet.

    Args:
        name (str): what to call it in an error message.
        open (callable): opens it.
        identity (callable, optional): what it was decoded from, in values that change with it. Default: that is not
            known without reading it
    """

    name: str
    open: Callable[[], AbstractContextManager[Image.Image]]
    identity: Callable[[], object] | None = None


class UnreadImages(Sequence[UnreadImage]):
    """Images that have not been read yet, each described when it is asked for: a million take a gigabyte at once.

    Args:
        describe (callable): the image of a number.
        numbers (sequence of int): which ones these are, in their order.
    """

    def __init__(self, describe: Callable[[int], UnreadImage], numbers: Sequence[int]) -> None:
        self._describe, self._numbers = describe, numbers

    def __len__(self) -> int:
        return len(self._numbers)

    @overload
    def __getitem__(self, index: int) -> UnreadImage: ...

    @overload
    def __getitem__(self, index: slice) -> UnreadImages: ...

    def __getitem__(self, index: int | slice) -> UnreadImage | UnreadImages:
        if isinstance(index, slice):
            return UnreadImages(self._describe, self._numbers[index])
        return self._describe(self._numbers[index])

    def take(self, indices: Sequence[int]) -> UnreadImages:
        """The images at these indices."""
        return UnreadImages(self._describe, [self._numbers[k] for k in indices])


@dataclass
class Headers:
    """What the headers of images say, by their index.

    Attributes:
        modes (dict): PIL modes.
        sizes (dict): upright (width, height) in pixels.
        failures (dict): what went wrong where an image cannot be read; :func:`read_images` adds those that it finds.
        transparent (set): images with a pixel that is not opaque; pixels tell, so :func:`read_images` adds them all.
    """

    modes: dict[int, str] = field(default_factory=dict)
    sizes: dict[int, tuple[int, int]] = field(default_factory=dict)
    failures: dict[int, Exception] = field(default_factory=dict)
    transparent: set[int] = field(default_factory=set)


def read_headers(unread: UnreadImages, conversion: Conversion) -> Headers:
    """Read the headers of images.

    Args:
        unread (UnreadImages): one or more.
        conversion (Conversion): what is to be done with them. With a resolution, sizes may be those before the image
            is turned upright, which are not needed then.
    """
    headers = Headers()
    seen: dict[tuple[int, int], tuple[int, int]] = {}
    for i, item in enumerate(tqdm(unread, "reading headers", unit="img", disable=len(unread) < 5000)):
        with _noting_failure(headers.failures, i), item.open() as image:
            mode, size = _header(image, conversion)
            headers.modes[i], headers.sizes[i] = mode, seen.setdefault(size, size)  # one tuple for all of a size
    return headers


def decode_in_memory(unread: UnreadImages, conversion: Conversion, headers: Headers) -> tuple[Tensor, Tensor]:
    """Decode images straight into one tensor.

    Args:
        unread (UnreadImages): one or more.
        conversion (Conversion): how to convert them, and what to do about those that cannot be decoded.
        headers (Headers): of these images; failures and transparent images are noted in them.

    Returns:
        (Tensor, Tensor): images, uint8 (N, C, H, W), and their indices in ``unread``, int64 (N,), ascending.

    Raises:
        DataError: images cannot be decoded, differ in size and no resolution is given, or do not fit into memory.
    """
    form = form_of(unread, conversion, headers)
    images = _room_for(len(headers.sizes), *form.shape)
    kept: list[int] = []
    for i, pixels in decode(unread, conversion, headers, form):
        images[len(kept)] = pixels
        kept.append(i)
    return images[: len(kept)], torch.tensor(kept, dtype=torch.int64)


@dataclass(frozen=True)
class Form:
    """What all images of a set become: a PIL mode, ``"L"`` or ``"RGB"``, and a size in pixels."""

    mode: str
    height: int
    width: int

    @property
    def shape(self) -> tuple[int, int, int]:
        """(C, H, W)."""
        return Image.getmodebands(self.mode), self.height, self.width


def form_of(unread: UnreadImages, conversion: Conversion, headers: Headers) -> Form:
    """What images become, by what their headers say, so that room can be made before any is decoded.

    Raises:
        DataError: no header can be read, or images differ in size and no resolution is given.
    """
    if not headers.sizes:
        refuse_failures(headers.failures, unread, conversion)
    width, height = _common_size(unread, headers.sizes, conversion)
    return Form(conversion.mode_for(list(headers.modes.values())), height, width)


def decode(unread: UnreadImages, conversion: Conversion, headers: Headers, form: Form) -> Iterator[tuple[int, Tensor]]:
    """Decode images one after another, with a progress bar.

    Args:
        unread (UnreadImages), conversion (Conversion): as for :func:`decode_in_memory`.
        headers (Headers): of these images; failures and transparent images are noted in them.
        form (Form): from :func:`form_of`.

    Yields:
        (int, Tensor): index of an image in ``unread``, and its pixels, uint8 (C, H, W).

    Raises:
        DataError: in the end, if images could not be decoded that may not be left out.
    """
    failures = headers.failures
    for i in tqdm(headers.sizes, "decoding", unit="img", disable=len(unread) < 5000):
        with _noting_failure(failures, i), unread[i].open() as image:
            pixels = conversion.convert(image, form.mode)
            if pixels.shape != form.shape:
                raise ValueError(f"its pixels are {pixels.shape[2]}x{pixels.shape[1]}, its header says otherwise")
            if is_transparent(image):
                headers.transparent.add(i)
        if i not in failures:
            yield i, pixels
    refuse_failures(failures, unread, conversion)


def is_converted(images: Pixels, conversion: Conversion) -> bool:
    """Whether a conversion would change nothing, of uint8 images (N, C, H, W) with C of 1 to 4."""
    return images.shape[1:] == _converted_shape(images, conversion)


def _converted_shape(images: Pixels, conversion: Conversion) -> tuple[int, int, int]:
    _, channels, height, width = images.shape
    if conversion.resolution is not None:
        height = width = conversion.resolution
    return Image.getmodebands(conversion.mode_for([_MODE_OF_CHANNELS[channels]])), height, width


def convert_images(images: Pixels, conversion: Conversion) -> Pixels:
    """Apply a conversion to pixels, in memory; returns ``images`` itself if there is nothing to change.

    Args:
        images (Tensor or StoredImages): uint8 (N, C, H, W) with C of 1 (grey), 2 (grey and alpha), 3 (RGB) or 4 (RGB
            and alpha).
        conversion (Conversion): how to convert them.

    Returns:
        Tensor or StoredImages: uint8 (N, C, H, W) with C of 1 or 3.

    Raises:
        DataError: there are not 1 to 4 channels, or the converted images do not fit into memory.
    """
    count, channels = images.shape[:2]
    if channels not in _MODE_OF_CHANNELS:
        raise DataError(
            f"images must have 1 to 4 channels (grey or RGB, with or without alpha), got {channels}. Pick some of them"
        )
    if is_converted(images, conversion):
        return images
    mode = conversion.mode_for([_MODE_OF_CHANNELS[channels]])
    converted = _room_for(count, *_converted_shape(images, conversion))
    for i in tqdm(range(count), "converting", unit="img", disable=count < 5000):
        converted[i] = conversion.convert(to_pil(images[i]), mode)
    return converted


def _room_for(count: int, channels: int, height: int, width: int) -> Tensor:
    """A tensor that images are written to.

    Raises:
        DataError: there is no memory for so many of this size.
    """
    try:
        return torch.empty(count, channels, height, width, dtype=torch.uint8)
    except RuntimeError as error:
        size = in_gibibytes(count * channels * height * width)
        raise DataError(
            f"{count:,} images of {width}x{height} pixels take {size}, which does not fit into memory. Give a smaller "
            "resolution (--resolution)"
        ) from error


def _header(image: Image.Image, conversion: Conversion) -> tuple[str, tuple[int, int]]:
    """Mode and upright size (width, height) of an image, which rarely has to be decoded for them."""
    if image.mode == "F":
        raise ValueError("its pixels are floating-point numbers of no stated range. Save it with 8 or 16 bits")
    # The base class's method, because PNG's decodes the image, to look for EXIF data after the pixels.
    turned = Image.Image.getexif(image).get(ExifTags.Base.Orientation, 1) != 1
    if turned and conversion.resolution is None:
        return image.mode, ImageOps.exif_transpose(image).size
    return image.mode, image.size


def _common_size(unread: UnreadImages, sizes: dict[int, tuple[int, int]], conversion: Conversion) -> tuple[int, int]:
    """(width, height) that all images get."""
    if conversion.resolution is not None:
        return conversion.resolution, conversion.resolution
    first, size = next(iter(sizes.items()))
    for i, other in sizes.items():
        if other != size:
            raise DataError(
                f"images differ in size: {unread[first].name} is {size[0]}x{size[1]}, {unread[i].name} is "
                f"{other[0]}x{other[1]}. Give a resolution (--resolution) to resize and crop to"
            )
    return size


def is_transparent(image: Image.Image) -> bool:
    """Whether a pixel of an image is not opaque.

    Raises:
        ValueError: see :meth:`Conversion.convert`.
    """
    if not image.has_transparency_data:
        return False
    least, _ = cast(tuple[int, int], _to_8_bits(image).convert("RGBA").getchannel("A").getextrema())
    return least < 255


def _to_8_bits(image: Image.Image) -> Image.Image:
    """A 16-bit grey image as an 8-bit one; other images as they are."""
    if not image.mode.startswith("I"):
        return image
    values = np.asarray(image).astype(np.int32)
    if values.min() < 0 or values.max() > 65535:
        raise ValueError(f"its pixels are integers from {values.min()} to {values.max()}, beyond the 16 bits of grey")
    grey = Image.fromarray(((values + 128) // 257).astype(np.uint8))  # 257 is odd: no value lies halfway
    if "transparency" in image.info:
        grey.putalpha(Image.fromarray(np.where(values == image.info["transparency"], 0, 255).astype(np.uint8)))
    return grey


@contextmanager
def _noting_failure(failures: dict[int, Exception], index: int) -> Iterator[None]:
    try:
        yield
    except _CANNOT_DECODE as error:
        failures[index] = error


def refuse_failures(failures: dict[int, Exception], unread: UnreadImages, conversion: Conversion) -> str:
    """Raise one error for all failures, unless bad images may be skipped and good ones are left: what was found."""
    if not failures:
        return ""
    first = min(failures)
    found = (
        f"{len(failures)} of {len(unread)} images cannot be decoded; the first is {unread[first].name}: "
        f"{failures[first]}"
    )
    if len(failures) == len(unread):
        raise DataError(f"{found}. Replace them, or open others")
    if not conversion.skip_bad_images:
        raise DataError(f"{found}. Remove or replace them, or leave them out (skip_bad_images)")
    return found
