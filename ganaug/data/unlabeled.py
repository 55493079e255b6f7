"""Images without labels, for training beside labelled ones."""

from __future__ import annotations

import os
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import torch

from ganaug.core.errors import DataError
from ganaug.data.decoding import Conversion
from ganaug.data.folders import FolderWalk, tell_left_out, training_part, unread_files
from ganaug.data.labelled import LabelledImages
from ganaug.data.reading import read_images
from ganaug.data.sources import open_images
from ganaug.data.stored import Pixels


def open_unlabeled(
    source: Any, like: LabelledImages, *, background: str = "white", skip_bad_images: bool = False
) -> Pixels:
    """Images of a source, in the size and channels of labelled images, without those that are labelled images.

    If the source has labels, they are ignored.

    Args:
        source: a folder with image files in it or in its subfolders (only in ``train``, if it is divided into splits),
            or what :func:`open_images` takes.
        like (LabelledImages): the labelled images.
        background (str): colour behind transparent pixels. Default: white
        skip_bad_images (bool): leave out images that cannot be decoded. Default: False

    Returns:
        Tensor or StoredImages: uint8 (N, C, H, W), with C, H and W as in ``like``.

    Raises:
        DataError: all images of the source are among the labelled ones, or one cannot be decoded.
    """
    conversion = Conversion(like.image_size, like.channels, background, skip_bad_images)
    walk = FolderWalk()
    folder = Path(os.path.expanduser(source)) if isinstance(source, str | Path) else None
    files = walk.image_files(training_part(folder)) if folder and folder.is_dir() else []
    if files:
        tell_left_out(source, walk.left_out())
        images = read_images(unread_files(files), conversion)[0]
    else:
        images = open_images(source, **asdict(conversion)).images
    # A folder of everything has the labelled images in it too, and those held back must not be trained on.
    all_found = replace(like, images=images, targets=torch.zeros(len(images), dtype=torch.int64))
    new = torch.nonzero(~torch.isin(all_found.image_hashes, like.image_hashes)).squeeze(1)
    if not len(new):
        raise DataError(f"{source} has no image that is not among the labelled ones. Add some, or train without it")
    return all_found.subset(new, str(source)).images
