"""Images without labels."""

from __future__ import annotations

from functools import partial
from pathlib import Path

from PIL import Image
from torch import Tensor

from ganaug.data.decoding import Conversion, UnreadImage, convert_images, read_images
from ganaug.data.labelled import LabelledImages
from ganaug.data.sources import open_images


def open_unlabeled(source: str | Path, like: LabelledImages, *, background: str = "white") -> Tensor:
    """Images of a source in the form of labelled ones, whatever labels it may have.

    Args:
        source (str or Path): a folder with image files in it or in its subfolders, or what :func:`open_images` takes.
        like (LabelledImages): whose size and channels they are brought to.
        background (str): colour behind transparent pixels. Default: white

    Returns:
        Tensor: uint8 (N, C, H, W).

    Raises:
        DataError: there is no image, or one cannot be decoded.
    """
    from torchvision.datasets.folder import IMG_EXTENSIONS

    folder = Path(source)
    files = sorted(path for path in folder.rglob("*") if path.suffix.lower() in IMG_EXTENSIONS)
    if not files:
        return open_images(source, resolution=like.image_size, channels=like.channels, background=background).images
    conversion = Conversion(like.image_size, like.channels, background, False)
    images, _ = read_images([UnreadImage(str(path), partial(Image.open, path)) for path in files], conversion)
    return convert_images(images, conversion)
