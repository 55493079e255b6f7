"""Writing files so that a reader never sees half of one, and making what is kept once."""

from __future__ import annotations

import json
import logging
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from ganaug.errors import InputError

logger = logging.getLogger(__name__)


@contextmanager
def atomic_path(path: str | Path) -> Iterator[Path]:
    """Give a temporary path beside ``path`` to write to; it takes the final name when the block ends well.

    The temporary file keeps the suffix of ``path``. It is synced to disk before the rename and removed on any error,
    so that a full disk or a crash leaves the old file, or none, under the final name. It may be a folder too, where
    ``path`` does not exist yet.

    Raises:
        OSError: the folder cannot be written to or the disk is full.
    """
    path = Path(path)
    temporary = path.with_name(f".{path.stem}.tmp-{os.getpid()}{path.suffix}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        yield temporary
        for file in [temporary, *temporary.rglob("*")]:
            if file.is_file():
                _sync(file)
        temporary.replace(path)
    except BaseException:
        _remove(temporary)
        raise


def build_once(path: Path, build: Callable[[Path], None], *, what: str) -> Path:
    """Make a file or folder that several processes want, in one of them.

    Args:
        path (Path): what is wanted; returned at once where it exists.
        build (callable): makes it at the temporary path it is given; called by one process while others wait.
        what (str): what it is, for the log.

    Raises:
        OSError: the folder cannot be written to or the disk is full.
    """
    if path.exists():
        return path
    path.parent.mkdir(parents=True, exist_ok=True)
    lock = FileLock(path.with_name(f".{path.name}.lock"))
    try:
        lock.acquire(timeout=0)
    except Timeout:
        logger.warning("another process is making %s; waiting for it", what)
        lock.acquire()
    try:
        if not path.exists():
            for stale in path.parent.glob(f".{path.stem}.tmp-*"):  # of a process that was killed: the lock is ours
                _remove(stale)
            with atomic_path(path) as temporary:
                build(temporary)
    finally:
        lock.release()
    return path


def check_writable(folder: str | Path) -> None:
    """Refuse a folder for results that cannot be written to, before the work is done; it need not exist yet.

    Raises:
        InputError: it, or the one it would be made in, is no folder or may not be written to.
    """
    there = next(path for path in (Path(folder).absolute(), *Path(folder).absolute().parents) if path.exists())
    if not there.is_dir() or not os.access(there, os.W_OK):
        what = "may not be written to" if there.is_dir() else "is a file"
        raise InputError(f"results cannot be written to {folder}: {there} {what}. Give another folder")


def user_cache() -> Path:
    """Folder of what can be made again: ``$XDG_CACHE_HOME/ganaug``, or ``~/.cache/ganaug``."""
    base = os.environ.get("XDG_CACHE_HOME")
    return (Path(base) if base else Path.home() / ".cache") / "ganaug"


def write_text(path: str | Path, text: str) -> None:
    """Write ``text`` as UTF-8, atomically."""
    with atomic_path(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def write_json(path: str | Path, value: Any) -> None:
    """Write ``value`` as indented JSON, atomically.

    Raises:
        ValueError: ``value`` holds NaN or infinity, which JSON does not have.
    """
    write_text(path, json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False) + "\n")


def _sync(path: Path) -> None:
    with open(path, "rb") as file:
        os.fsync(file)


def _remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)
