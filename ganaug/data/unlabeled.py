"""Images without labels."""

from __future__ import annotations

from pathlib import Path

from torch import Tensor

from ganaug.data.decoding import Conversion, convert_images
from ganaug.data.labelled import LabelledImages
from ganaug.data.readers import image_files, read_files
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
    files = image_files(Path(source))
    if not files:
        return open_images(source, resolution=like.image_size, channels=like.channels, background=background).images
    conversion = Conversion(like.image_size, like.channels, background, False)
    return convert_images(read_files(files, conversion)[0], conversion)
