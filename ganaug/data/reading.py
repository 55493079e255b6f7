"""Images of any kind as uint8 pixels: in memory, or, if they are many, in a file that is written once.

The file is in ``~/.cache/ganaug/images`` and is found again by what the images were decoded from and how. Where that
is not known beforehand, as of the items of a dataset object, they are decoded again, and equal images make one file. A
file that nobody has opened for a month is removed when another is written.
"""

from __future__ import annotations

import hashlib
import json
import logging
import math
import os
import shutil
import time
from collections.abc import Callable
from contextlib import nullcontext, suppress
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import PIL
import torch
from torch import Tensor

from ganaug.core import fingerprints
from ganaug.core.errors import DataError
from ganaug.core.files import alone, atomic_path, build_once, move, remove, user_cache, write_json
from ganaug.core.hardware import in_gibibytes
from ganaug.core.image_file import open_npy
from ganaug.core.pixels import to_pil
from ganaug.data.decoding import (
    Conversion,
    Headers,
    UnreadImage,
    UnreadImages,
    convert_images,
    decode,
    decode_in_memory,
    form_of,
    is_converted,
    read_headers,
    refuse_failures,
)
from ganaug.data.stored import HASHES, IMAGES, Pixels, StoredImages, at_a_time, part_in, writing_part

logger = logging.getLogger(__name__)

MOST_IN_MEMORY = 2**30  # bytes of pixels, counted as if images were in colour unless they are to be grey
UNUSED = 30  # days after which images that nobody has opened are removed
KEPT, INDEX = "kept.npy", "index.json"  # beside images and hashes
_VERSION = 1  # of the rule by which images are decoded, and of the files
_WHAT = "the decoded images"


def read_images(unread: UnreadImages, conversion: Conversion, headers: Headers | None = None) -> tuple[Pixels, Tensor]:
    """Decode images, each once: into memory, or, if they are more than :data:`MOST_IN_MEMORY`, into a file.

    Headers are read first: they decide between grey and RGB, and show what cannot be read before hours have passed.

    Args:
        unread (UnreadImages): one or more.
        conversion (Conversion): how to convert them, and what to do about those that cannot be decoded.
        headers (Headers, optional): of these images; failures and transparent images are noted in them, and no warning
            is logged. Default: they are read first, where that is needed

    Returns:
        (Tensor or StoredImages, Tensor): images, uint8 (N, C, H, W), and their indices in ``unread``, int64 (N,),
        ascending.

    Raises:
        DataError: images cannot be decoded, differ in size and no resolution is given, or there is too little room.
        OSError: the cache cannot be written to or the disk is full.
    """
    found = Headers() if headers is None else headers
    images: Pixels
    if _most_bytes(unread, conversion, found) > MOST_IN_MEMORY:
        images, kept = _from_file(unread, conversion, found)
    else:
        found = read_headers(unread, conversion) if headers is None else headers
        images, kept = decode_in_memory(unread, conversion, found)
    # Those of a file may have been left out when it was made, and not be meant to be left out now.
    told = refuse_failures(found.failures, unread, conversion)
    if told and headers is None:
        logger.warning("%s. They are left out", told)
    return images, kept


def converted(images: Pixels, conversion: Conversion) -> Pixels:
    """Pixels in another form; images that are in a file are read from it, and put into another if they are many."""
    if isinstance(images, Tensor) or is_converted(images, conversion):
        return convert_images(images, conversion)
    hashes = images.hashes.tolist()

    def describe(i: int) -> UnreadImage:
        return UnreadImage(f"image {i}", lambda: nullcontext(to_pil(images[i])), lambda: hashes[i])

    return read_images(UnreadImages(describe, range(len(images))), conversion)[0]


def in_memory_if_few(images: StoredImages) -> Pixels:
    """Images in files, read at once if they are no more than :data:`MOST_IN_MEMORY`."""
    return images[:] if math.prod(images.shape) <= MOST_IN_MEMORY else images


def _most_bytes(unread: UnreadImages, conversion: Conversion, headers: Headers) -> int:
    """How much memory images would take in colour, which is known without reading all headers."""
    width = height = conversion.resolution or 0
    if not width:  # then all are of one size
        known = headers.sizes or next(
            (sizes for k in range(len(unread)) if (sizes := read_headers(unread[k : k + 1], conversion).sizes)), {}
        )
        width, height = next(iter(known.values()), (0, 0))
    return len(unread) * (conversion.channels or 3) * height * width


def _from_file(unread: UnreadImages, conversion: Conversion, headers: Headers) -> tuple[StoredImages, Tensor]:
    folder, name = user_cache() / "images", _name_of(unread, conversion)

    def build(path: Path) -> None:
        _remove_unused(folder)
        _decode_into(path, unread, conversion, headers if headers.sizes else read_headers(unread, conversion))

    if name is not None:
        place = build_once(folder / name, build, what=_WHAT, problem=_problem)
    else:
        place = _built_by_content(folder, build)
    index, _, kept = _opened(place)
    with suppress(OSError):  # it may be another user's
        os.utime(place / INDEX)
    headers.failures.update({int(i): ValueError(why) for i, why in index["failures"].items()})
    headers.transparent.update(index["transparent"])
    part = part_in(place, index["shape"][1:], advice=f"Remove {place}, and the images are decoded again")
    return StoredImages([part]), kept


def _remove_unused(folder: Path) -> None:
    """Remove images that nobody has opened for :data:`UNUSED` days, which makes room for others.

    Who has them open goes on reading them: a removed file stays until it is closed. Windows does not remove one that
    is open.
    """
    for index in folder.glob(f"[!.]*/{INDEX}"):
        with suppress(OSError):
            # Most systems note once a day, too, that a file is read: a process may have opened it long ago.
            used = max(index.stat().st_mtime, index.with_name(IMAGES).stat().st_atime)
            days = (time.time() - used) / 86400
            if days > UNUSED:
                remove(index.parent)
                logger.warning("%s was removed: nobody has opened it for %d days", index.parent, days)


def _name_of(unread: UnreadImages, conversion: Conversion) -> str | None:
    """What the file is called that these images were, or will be, decoded into; None if that has to be seen first."""
    how = {name: value for name, value in asdict(conversion).items() if name != "skip_bad_images"}
    digest = hashlib.sha256(repr((_VERSION, PIL.__version__, how)).encode())
    for item in unread:
        if item.identity is None:
            return None
        try:
            digest.update(repr(item.identity()).encode())
        except OSError as error:  # it has been removed, and will be found missing
            digest.update(repr(error).encode())
    return digest.hexdigest()[:32]


def _decode_into(folder: Path, unread: UnreadImages, conversion: Conversion, headers: Headers) -> None:
    """Decode images into a folder: pixels, hashes, which ones were kept, and what is to be known of the others."""
    form = form_of(unread, conversion, headers)
    count, size = len(headers.sizes), len(headers.sizes) * math.prod(form.shape)
    free = shutil.disk_usage(folder.parent).free
    if size > free:
        raise DataError(
            f"{count:,} images of {form.width}x{form.height} pixels take {in_gibibytes(size)}, and {folder.parent} "
            f"has room for {in_gibibytes(free)}. Give a smaller resolution (--resolution), or set XDG_CACHE_HOME to a "
            "folder with more room"
        )
    logger.warning(
        "%s images are decoded into %s (%s), where what nobody opens for %d days is removed when others are decoded",
        f"{count:,}", folder.parent, in_gibibytes(size), UNUSED,
    )  # fmt: skip
    kept = np.empty(count, np.int64)
    piece = torch.empty(at_a_time(form.shape), *form.shape, dtype=torch.uint8)
    done = waiting = 0
    with writing_part(folder, form.shape, most=count) as write:
        for i, pixels in decode(unread, conversion, headers, form):
            kept[done], piece[waiting] = i, pixels
            done, waiting = done + 1, waiting + 1
            if waiting == len(piece):
                write(piece)
                waiting = 0
        write(piece[:waiting])
    np.save(folder / KEPT, kept[:done])
    write_json(
        folder / INDEX,
        {
            "shape": (done, *form.shape),
            "failures": {str(i): str(why) for i, why in sorted(headers.failures.items())},
            "transparent": sorted(headers.transparent),
            # What the system would not read may be read another time, unlike what cannot be decoded.
            "unread": sum(isinstance(why, OSError) and bool(why.errno) for why in headers.failures.values()),
        },
    )


def _built_by_content(folder: Path, build: Callable[[Path], None]) -> Path:
    """Make a file of images, and name it by these; one that is there already is kept."""
    unnamed = folder / "unnamed"
    with alone(unnamed, what=_WHAT):
        with atomic_path(unnamed) as path:
            build(path)
        index, hashes, kept = _opened(unnamed)
        place = folder / fingerprints.of_values(_VERSION, index, hashes, kept)[:32]
        problem = _problem(place) if place.exists() else "it is missing"
        if problem is None:
            remove(unnamed)
            return place
        if place.exists():
            logger.warning("%s is damaged (%s), so it is replaced", place, problem)
            remove(place)
        move(unnamed, place)
    return place


def _opened(folder: Path) -> tuple[dict[str, Any], Tensor, Tensor]:
    """What a folder says of its images, their hashes, and the indices of what was kept."""
    index: dict[str, Any] = json.loads((folder / INDEX).read_text(encoding="utf-8"))
    hashes, kept = (torch.from_numpy(np.load(folder / name)) for name in (HASHES, KEPT))
    return index, hashes, kept


def _problem(folder: Path) -> str | None:
    """What is wrong with the form of a folder of decoded images; reading them all would take as long as decoding."""
    try:
        index, hashes, kept = _opened(folder)
        open_npy(folder / IMAGES, "uint8", tuple(index["shape"]))
        if not len(hashes) == len(kept) == index["shape"][0]:
            return f"{len(hashes):,} hashes, {len(kept):,} indices"
        if missing := {"failures", "transparent", "unread"} - index.keys():
            return f"{INDEX} lacks {', '.join(sorted(missing))}"
    except PermissionError:
        raise  # it may be whole, and another user's
    except (OSError, EOFError, ValueError, KeyError, TypeError) as error:
        return str(error)
    if index["unread"]:
        return f"{index['unread']:,} images could not be read then"
    return None
