"""Images without labels, for training beside labelled ones."""

from __future__ import annotations

import os
from dataclasses import asdict, replace
from pathlib import Path

import torch
from torch import Tensor

from ganaug.core.errors import DataError
from ganaug.data.decoding import Conversion, convert_images, read_images
from ganaug.data.folders import FolderWalk, tell_left_out, training_part, unread_files
from ganaug.data.labelled import LabelledImages
from ganaug.data.sources import open_images


def open_unlabeled(
    source: str | Path, like: LabelledImages, *, background: str = "white", skip_bad_images: bool = False
) -> Tensor:
    """Images of a source, in the size and channels of labelled images, without those that are labelled images.

    If the source has labels, they are ignored.

    Args:
        source (str or Path): a folder with image files in it or in its subfolders (only in
            ``train``, if it is divided into splits), or what :func:`open_images` takes.
        like (LabelledImages): the labelled images.
        background (str): colour behind transparent pixels. Default: white
        skip_bad_images (bool): leave out images that cannot be decoded. Default: False

    Returns:
        Tensor: uint8 (N, C, H, W), with C, H and W as in ``like``.

    Raises:
        DataError: all images of the source are among the labelled ones, or one cannot be decoded.
    """
    conversion = Conversion(like.image_size, like.channels, background, skip_bad_images)
    walk, folder = FolderWalk(), Path(os.path.expanduser(source))
    files = walk.image_files(training_part(folder)) if folder.is_dir() else []
    if files:
        tell_left_out(source, walk.left_out())
        images = convert_images(read_images(unread_files(files), conversion)[0], conversion)
    else:
        images = open_images(source, **asdict(conversion)).images
    # A folder of everything has the labelled images in it too, and those held back must not be trained on.
    hashes = replace(like, images=images, targets=torch.zeros(len(images), dtype=torch.int64)).image_hashes
    new = ~torch.isin(hashes, like.image_hashes)
    if not new.any():
        raise DataError(f"{source} has no image that is not among the labelled ones. Add some, or train without it")
    return images[new]
