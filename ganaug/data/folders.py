"""Folders of image files: which files are images, and which folders are classes or splits."""

from __future__ import annotations

import logging
import os
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cache, partial
from pathlib import Path

import torch
from PIL import Image

from ganaug.core.errors import DataError
from ganaug.core.files import regular_file
from ganaug.core.text import composed, shortened
from ganaug.data.decoding import UnreadImage, UnreadImages
from ganaug.data.found import Found
from ganaug.data.inspection import EVALUATION, VALIDATION, is_evaluation_name

logger = logging.getLogger(__name__)

_TRAINING = ("train", "training")
# What operating systems and archivers leave in folders; names that start with a dot are hidden too.
_HIDDEN = ("__macosx", "@eadir", "#recycle", "$recycle.bin", "thumbs.db", "desktop.ini")  # in lower case
_WITHOUT_PIXELS = ("BUFR", "GRIB", "HDF5", "MPEG")  # formats that Pillow recognises but cannot decode


def from_class_folders(folder: Path, *, split: str, wanted: tuple[str, ...] | None) -> Found:
    """Images in ``folder/<class>/**``, ``folder/<split>/<class>/**`` or ``folder/<class>/<split>/**``.

    The classes are the names of the class folders of all splits, sorted, in Unicode's composed form (NFC). A class
    folder is read with all folders in it, links included, except hidden ones.

    Args:
        folder (Path): where the images are.
        split (str): which split; ``"test"`` is the one for validation if there is no test split.
        wanted (tuple of str, optional): the classes whose folders are read. Default: all

    Raises:
        DataError: there are no class folders or no such split.
    """
    splits = _splits(folder)
    split = _pick(splits, split, folder)
    picked = splits[split]
    classes = tuple(sorted({name for part in splits.values() for name in part.classes}))
    read = set(picked.classes if wanted is None else wanted).intersection(picked.classes)
    walk = FolderWalk()
    walk.count_beside(picked.parents)
    nested = [
        f"{name} ({', '.join(_subfolders(path))})"
        for name, path in picked.classes.items()
        if name in read and _holds_only_folders(path)
    ]
    if nested:
        logger.warning(
            "%s: these class folders have folders but no images directly in them; each is read as one class: %s",
            folder,
            shortened(nested, most=3),
        )
    files: list[str] = []
    targets: list[int] = []
    empty: list[str] = []
    for k, name in enumerate(classes):
        if name not in read:
            continue
        found = walk.image_files(picked.classes[name])
        if not found and not is_evaluation_name(split):
            empty.append(str(picked.classes[name]))
        files += found
        targets += [k] * len(found)
    name = f"class folders {folder.name}" + (f", {split} split" if picked.of_splits else "")
    labels = torch.tensor(targets, dtype=torch.int64)
    train = not is_evaluation_name(folder.name)
    return Found(unread_files(files), labels, classes, name, train, walk.left_out(), tuple(empty))


def unread_files(files: Sequence[str]) -> UnreadImages:
    """Image files, to be opened by Pillow."""

    def describe(number: int) -> UnreadImage:
        path = files[number]
        return UnreadImage(path, partial(_open, path), partial(file_identity, path))

    return UnreadImages(describe, range(len(files)))


def _open(path: str) -> Image.Image:
    with regular_file(path):  # a pipe would be waited for
        return Image.open(path)


def file_identity(path: str) -> tuple[str, int, int, int]:
    """Path, size and times of a file, which change with its content."""
    found = os.stat(path)
    return os.path.abspath(path), found.st_size, found.st_mtime_ns, found.st_ctime_ns


def training_part(folder: Path) -> Path:
    """The folder itself, or its folder ``train`` if it is divided into splits."""
    inside = _subfolders(folder)
    if not _are_splits(inside):
        return folder
    (train,) = (path for name, path in inside.items() if name.lower() in _TRAINING)
    logger.warning("%s is divided into splits: only %s is read", folder, train.name)
    return train


class FolderWalk:
    """Finds the image files in folders, and counts by kind what it leaves out."""

    def __init__(self) -> None:
        self._left_out: Counter[str] = Counter()
        self._extensions: Counter[str] = Counter()  # of files that are not images

    def image_files(self, folder: Path) -> list[str]:
        """Files with an image's extension in a folder and its subfolders, sorted; links are followed."""
        files: list[str] = []  # a million paths take little memory, and as many times more as Path objects
        waiting, seen = [folder], set()
        while waiting:
            current = waiting.pop()
            real = current.resolve()
            # A link back would never end, and one to a folder around this one leads to the images of other classes.
            if real in seen or (current != folder and current.parent.resolve().is_relative_to(real)):
                self._left_out["linked a second time"] += 1
                continue
            seen.add(real)
            with os.scandir(current) as entries:
                for entry in sorted(entries, key=lambda entry: entry.name):
                    if _is_hidden(entry.name):
                        self._left_out["hidden"] += 1
                    elif _is_folder(entry):
                        waiting.append(Path(entry.path))
                    elif _is_image(entry.name):
                        files.append(str(Path(entry.path)))
                    else:
                        self._extensions[Path(entry.name).suffix.lower()] += 1
        return sorted(files, key=lambda path: path.split(os.sep))  # folder by folder, in one order on all systems

    def count_beside(self, parents: list[Path]) -> None:
        """Count the files beside class folders, which belong to no class."""
        for parent in parents:
            with os.scandir(parent) as entries:
                for entry in entries:
                    if _is_hidden(entry.name):
                        self._left_out["hidden"] += 1
                    elif not _is_folder(entry) and _is_image(entry.name):
                        self._left_out["beside the class folders"] += 1
                    elif not _is_folder(entry):
                        self._extensions[Path(entry.name).suffix.lower()] += 1

    def left_out(self) -> str:
        """What was left out so far, in words; empty if nothing was."""
        kinds = [f"{count:,} {kind}" for kind, count in self._left_out.items()]
        if self._extensions:
            names = shortened([name or "none" for name, _ in self._extensions.most_common()], most=5)
            kinds.append(f"{self._extensions.total():,} without an image's extension ({names})")
        return ", ".join(kinds)


def tell_left_out(source: object, what: str) -> None:
    """Log what was left out of a source of images, if anything was."""
    if what:
        logger.warning("%s: left out: %s", source, what)


@dataclass(frozen=True)
class _ClassFolders:
    """The class folders of one split.

    Args:
        classes (dict): {class name: its folder}.
        parents (list of Path): the folders around them, whose other files belong to no class.
        of_splits (bool): whether the images are divided into splits.
    """

    classes: dict[str, Path]
    parents: list[Path]
    of_splits: bool


def _splits(folder: Path) -> dict[str, _ClassFolders]:
    """{split: its class folders}; ``{"train": ...}`` if there are no splits."""
    inside = _subfolders(folder)

    # data/train/cat
    if _are_splits(inside):
        return {name.lower(): _ClassFolders(_subfolders(path), [folder, path], True) for name, path in inside.items()}

    # photos/photos/cat, as archives unpack
    bare = all(_holds_only_folders(path) for path in inside.values())
    if len(inside) == 1 and bare:
        (only,) = inside.values()
        logger.warning("%s holds only one folder of folders: the classes are those in %s", folder, only)
        return {split: replace(part, parents=[folder, *part.parents]) for split, part in _splits(only).items()}

    # cat/train
    if inside and bare and all(_are_splits(_subfolders(path)) for path in inside.values()):
        parts = {name: {split.lower(): at for split, at in _subfolders(path).items()} for name, path in inside.items()}
        return {
            split: _ClassFolders(
                {name: part[split] for name, part in parts.items() if split in part}, [folder, *inside.values()], True
            )
            for split in sorted({split for part in parts.values() for split in part})
        }

    # data/train/cat, data/test/cat and data/predict, or data/csv
    train, held_out = _bare_split(inside, _TRAINING), _bare_split(inside, EVALUATION)
    if train and held_out and len(_subfolders(train).keys() & _subfolders(held_out).keys()) > 1:
        others = [name for name in inside if name.lower() not in (*_TRAINING, *EVALUATION)]
        raise DataError(
            f"{folder} has folders of splits ({train.name}, {held_out.name}) and others: {shortened(others)}. Move "
            f"the others elsewhere, or give {train}"
        )

    # data/val/cat and data/test/cat, with the training images elsewhere
    if len(inside) > 1 and bare and all(map(is_evaluation_name, inside)):
        raise DataError(
            f"{folder} has the splits {', '.join(inside)} but none called train. Give the folder of one split, such "
            f"as {next(iter(inside.values()))}"
        )
    return {"train": _ClassFolders(inside, [folder], False)}


def _pick(splits: dict[str, _ClassFolders], split: str, folder: Path) -> str:
    """The split to read: the one asked for, or one whose name means the same."""
    same = {"train": _TRAINING, "test": EVALUATION, **dict.fromkeys(VALIDATION, VALIDATION)}
    names = same.get(split, (split,))
    there: list[str] = [name for name in (split, *names) if name in splits and splits[name].classes]
    if not there and split in splits:
        parent = splits[split].parents[-1]
        raise DataError(f"{parent} has no class folders. Put the images in {parent}/<class name>/*.png")
    if not there:
        divided = any(part.of_splits for part in splits.values())
        known = f"its splits are {', '.join(splits)}" if divided else "it only has class folders"
        raise DataError(f"{folder} has no split {split!r}; {known}. Give another folder (--test_data_dir)")
    if there[0] != split:
        logger.warning("%s has no split %s, so its split %s is read", folder, split, there[0])
    return there[0]


def _are_splits(folders: dict[str, Path]) -> bool:
    """Whether folders are splits: one is called train, and the others have names of splits too."""
    names = [name.lower() for name in folders]
    known = all(name in _TRAINING or is_evaluation_name(name) for name in names)
    return known and sum(name in _TRAINING for name in names) == 1 and len(set(names)) == len(names)


def _bare_split(folders: dict[str, Path], names: tuple[str, ...]) -> Path | None:
    """The first folder that has one of these names and nothing but folders in it."""
    found = (path for name, path in folders.items() if name.lower() in names and _holds_only_folders(path))
    return next(found, None)


def _subfolders(folder: Path) -> dict[str, Path]:
    """{name in NFC: path} of the folders in a folder that are not hidden, in the order of their names."""
    found: dict[str, Path] = {}
    with os.scandir(folder) as entries:
        for entry in entries:
            if _is_hidden(entry.name) or not _is_folder(entry):
                continue
            name = composed(entry.name)
            if name in found:
                raise DataError(f"{folder} has two folders {name!r}, spelt with different code points. Merge them")
            found[name] = Path(entry.path)
    return dict(sorted(found.items()))


def _holds_only_folders(folder: Path) -> bool:
    """Whether a folder has folders in it and no image."""
    folders = False
    with os.scandir(folder) as entries:
        for entry in entries:
            if _is_hidden(entry.name):
                continue
            if _is_folder(entry):
                folders = True
            elif _is_image(entry.name):
                return False
    return folders


def _is_folder(entry: os.DirEntry[str]) -> bool:
    """Whether an entry is a folder or a link to one; entry.is_dir() raises where a link leads to itself."""
    return entry.is_dir(follow_symlinks=False) or (entry.is_symlink() and os.path.isdir(entry.path))


def _is_hidden(name: str) -> bool:
    return name.startswith(".") or name.lower() in _HIDDEN


def _is_image(name: str) -> bool:
    return Path(name).suffix.lower() in _extensions(len(Image.registered_extensions()))


@cache
def _extensions(registered: int) -> frozenset[str]:
    """Extensions, in lower case, of what Pillow and its plugins decode, and of torchvision's folders.

    Args:
        registered (int): how many extensions Pillow knows, which grows when a plugin is imported.
    """
    from torchvision.datasets.folder import IMG_EXTENSIONS  # takes a moment to import

    of_pillow = {
        extension
        for extension, name in Image.registered_extensions().items()
        if name in Image.OPEN and name not in _WITHOUT_PIXELS
    }
    return frozenset({*of_pillow, *IMG_EXTENSIONS})
