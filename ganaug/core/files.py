"""Files that are written whole or not at all, and made by one of the processes that want them."""

from __future__ import annotations

import errno
import hashlib
import json
import logging
import os
import re
import shutil
import stat
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, nullcontext, suppress
from pathlib import Path
from typing import Any, BinaryIO

from filelock import FileLock, Timeout
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from ganaug.core.errors import InputError

logger = logging.getLogger(__name__)

WINDOWS = os.name == "nt"
PATIENCE = 2.0  # seconds that Windows is given to close a file that something else looked at
NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)  # the disk is full, a quota used up, or a limit on files reached


@contextmanager
def naming(path: Path) -> Iterator[None]:
    """A context in which an error for lack of room names ``path``: the system's names no file, or a temporary one."""
    try:
        yield
    except OSError as error:
        if error.errno not in NO_ROOM:
            raise
        raise OSError(error.errno, error.strerror or os.strerror(error.errno), str(path)) from error


@contextmanager
def atomic_path(path: str | Path) -> Iterator[Path]:
    """Give a temporary path to write a file or folder to, which gets its final name if the block succeeds.

    The temporary path is beside ``path`` and has its suffix. What is written is synced to disk before the rename and
    removed on any error, so that a full disk or a crash leaves the old file, or none, under the final name.
    :func:`remove_leftovers` removes what a killed process leaves.

    Args:
        path (str or Path): the final name; its folder is made if missing.

    Raises:
        OSError: the folder cannot be written to or the disk is full.
    """
    path = Path(path)
    temporary = path.with_name(f".{path.stem}.tmp-{os.getpid()}{path.suffix}")
    try:
        with naming(path):
            path.parent.mkdir(parents=True, exist_ok=True)
            yield temporary
            for written in [*temporary.rglob("*"), temporary]:
                _sync(written)
            if path.is_dir():  # a folder cannot be replaced
                remove(path)
            move(temporary, path)
            _sync(path.parent)
    except BaseException:
        _delete(temporary)
        raise


def build_once(
    path: Path, build: Callable[[Path], None], *, what: str, problem: Callable[[Path], str | None] | None = None
) -> Path:
    """Make a file or folder that several processes want, in one of them; what is there and damaged is made again.

    Args:
        path (Path): what is wanted; returned at once if it is there and as it was made.
        build (callable): makes it at the temporary path it is given; one process calls it while the others wait.
        what (str): what it is, for the log.
        problem (callable, optional): what is wrong with what is there, in words, or None. Default: in what it differs
            from the SHA-256 of its files, which are noted beside it when it is made

    Returns:
        Path: ``path``.

    Raises:
        OSError: what is there may not be read, the folder cannot be written to, or the disk is full.
    """
    problem_of = problem or _difference_from_noted
    if path.exists() and problem_of(path) is None:
        return path
    with alone(path, what=what):
        found = problem_of(path) if path.exists() else "it is missing"
        if found is None:
            return path
        if path.exists():
            logger.warning("%s is damaged (%s), so %s is made again", path, found, what)
            remove(path)
        with atomic_path(path) as temporary:
            build(temporary)
            if problem is None:
                write_json(_notes(path), _digests(temporary))
    return path


@contextmanager
def alone(path: Path, *, what: str) -> Iterator[None]:
    """A context that one process at a time is in for a path; what a killed one left half-written there is removed.

    Args:
        path (Path): what is made; its folder is made if missing.
        what (str): what it is, for the log.

    Raises:
        OSError: the folder cannot be written to.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    lock = FileLock(path.with_name(f".{path.name}.lock"))
    try:
        lock.acquire(timeout=0)
    except Timeout:
        logger.warning("waiting for %s, which another worker or process is making", what)
        lock.acquire()
    try:
        for stale in path.parent.glob(f".{path.stem}.tmp-*"):
            _delete(stale)
        yield
    finally:
        lock.release()


def _notes(path: Path) -> Path:
    return path.with_name(f".{path.name}.sha256.json")


def _digests(path: Path) -> dict[str, dict[str, Any]]:
    """Size and SHA-256 of a file, or of each file in a folder, by its path from there."""
    files = [path] if path.is_file() else sorted(each for each in path.rglob("*") if each.is_file())
    return {
        file.relative_to(path).as_posix(): {"bytes": file.stat().st_size, "sha256": sha256_of(file)} for file in files
    }


def _difference_from_noted(path: Path) -> str | None:
    """In what a file or folder differs from the digests noted when it was made; None if in nothing."""
    try:
        noted = dict(json.loads(_notes(path).read_text(encoding="utf-8")))
        if not noted:
            return "no file of it is noted beside it"
        for name, wanted in noted.items():
            file = path / name
            size = file.stat().st_size if file.is_file() else None
            if size != wanted["bytes"]:
                return f"{file.name} has {size or 0:,} bytes instead of {wanted['bytes']:,}"
            if sha256_of(file) != wanted["sha256"]:
                return f"{file.name} is not as it was written: its SHA-256 differs"
    except PermissionError:
        raise  # it may be whole, and another user's
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return "the SHA-256 of its files is not noted beside it"
    return None


def check_writable(folder: str | Path) -> None:
    """Refuse a folder for results that cannot be written to, before the work is done.

    Args:
        folder (str or Path): the folder, which need not exist yet.

    Raises:
        InputError: the folder, or the one it would be made in, is a file or may not be written to.
    """
    there = next(path for path in (Path(folder).absolute(), *Path(folder).absolute().parents) if path.exists())
    if not there.is_dir() or not os.access(there, os.W_OK):
        what = "may not be written to" if there.is_dir() else "is a file"
        raise InputError(f"results cannot be written to {folder}: {there} {what}. Give another folder")


def user_cache() -> Path:
    """Folder for what can be made again: ``$XDG_CACHE_HOME/ganaug``, or ``~/.cache/ganaug``."""
    base = os.environ.get("XDG_CACHE_HOME")
    return (Path(base) if base else Path.home() / ".cache") / "ganaug"


def write_text(path: str | Path, text: str) -> None:
    """Write ``text`` as UTF-8, atomically; the same bytes on every system, with lines that end in a line feed.

    Raises:
        OSError: the file cannot be written or the disk is full.
    """
    with atomic_path(path) as temporary:
        temporary.write_text(text, encoding="utf-8", newline="\n")


def write_json(path: str | Path, value: Any) -> None:
    """Write ``value`` as :func:`json_text`, atomically."""
    write_text(path, json_text(value))


def json_text(value: Any) -> str:
    """``value`` as indented JSON; the same text for the same value.

    Raises:
        ValueError: ``value`` has NaN or infinity in it, which JSON does not have.
    """
    return json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False) + "\n"


def write_tensors(path: Path, tensors: Mapping[str, Tensor], metadata: dict[str, str] | None = None) -> None:
    """Write tensors as safetensors, not atomically: the same bytes for the same tensors.

    They may be of any memory format; each is written in full, even if some share memory.

    Args:
        path (Path): the file. Who may read it is up to the umask, as of other files.
        tensors (mapping): {name: tensor}.
        metadata (dict, optional): strings by name, for the file's header.

    Raises:
        OSError: the disk is full, or the file cannot be written to.
    """
    # safetensors refuses tensors that share memory, such as tied weights.
    own: dict[str, Tensor] = {}
    written: set[int] = set()
    for name, tensor in tensors.items():
        whole = tensor.contiguous()
        place = whole.untyped_storage().data_ptr()
        own[name] = whole.clone() if place in written else whole
        written.add(place)
    path.touch()
    mode = path.stat().st_mode
    try:
        save_file(own, path, metadata=metadata)
    except SafetensorError as error:  # in which older versions of safetensors hide the operating system's error
        number = re.search(r"\(os error (\d+)\)", str(error))
        if number is None:
            raise OSError(f"{path} cannot be written: {error}") from error
        raise OSError(int(number[1]), os.strerror(int(number[1])), str(path)) from error
    path.chmod(mode)  # safetensors puts a file of its own there, which the owner alone may read
    if metadata:  # which safetensors writes in another order each time; sorted, it takes as much room in the header
        with open(path, "r+b") as file:
            size = int.from_bytes(file.read(8), "little")
            header = {**json.loads(file.read(size)), "__metadata__": dict(sorted(metadata.items()))}
            file.seek(8)
            file.write(json.dumps(header, ensure_ascii=False, separators=(",", ":")).encode().ljust(size))


def read_tensors(path: Path) -> dict[str, Tensor]:
    """All tensors of a safetensors file by name, on the CPU and in memory of their own.

    safetensors itself maps the file for as long as a tensor lives, and meanwhile Windows neither replaces nor removes
    it: no checkpoint that a run was resumed from, no generator that is saved to where it was loaded from.

    Raises:
        OSError: the file is missing or cannot be read.
        SafetensorError: it is damaged, or of another kind.
    """
    return {name: tensor.clone() for name, tensor in load_file(path).items()}


@contextmanager
def regular_file(path: str | Path, *, most: int | None = None) -> Iterator[BinaryIO]:
    """Open a file that anybody may have put there, for reading. It is never waited for, and links are followed.

    Args:
        path (str or Path): the file.
        most (int, optional): bytes that it may have. Default: any number

    Raises:
        OSError: it is missing, a folder, a device, a pipe or a socket, or has more bytes.
    """
    _require_regular(os.stat(path))  # opening a device may do something, so the opened file is the second look
    with open(path, "rb", opener=_open_at_once) as file:
        found = os.fstat(file.fileno())
        _require_regular(found)
        if most is not None and found.st_size > most:
            raise OSError(f"it has {found.st_size:,} bytes, and may have at most {most:,}")
        yield file


def _open_at_once(path: str, flags: int) -> int:
    return os.open(path, flags | getattr(os, "O_NONBLOCK", 0))


def _require_regular(found: os.stat_result) -> None:
    if not stat.S_ISREG(found.st_mode):
        kinds = {stat.S_IFDIR: "a folder", stat.S_IFIFO: "a pipe", stat.S_IFSOCK: "a socket"}
        raise OSError(f"it is {kinds.get(stat.S_IFMT(found.st_mode), 'a device')}, not a file")


def read_bytes(path: str | Path, *, most: int) -> bytes:
    """The content of a :func:`regular_file` of at most ``most`` bytes.

    Raises:
        OSError: see :func:`regular_file`; or it has other bytes than its size says, as files of ``/proc`` do.
    """
    with regular_file(path, most=most) as file:
        size = os.fstat(file.fileno()).st_size
        content = file.read(size + 1)
    if len(content or b"") != size:
        raise OSError(f"it says that it has {size:,} bytes, and has more or fewer")
    return content


def stays_within(path: Path, folder: Path) -> bool:
    """Whether a file in a folder is there itself, or a link to one in the same folder.

    A snapshot in the Hub's cache may link to the blobs beside it, as all files there do.
    """
    real, inside = path.resolve(), [folder.resolve()]
    for each in (folder.absolute(), *folder.absolute().parents):
        if each.parent.name == "snapshots":
            inside.append((each.parent.parent / "blobs").resolve())
    return any(real.is_relative_to(each) for each in inside)


def sha256_of(path: Path) -> str:
    """SHA-256 of a :func:`regular_file`'s content, in hexadecimal."""
    digest = hashlib.sha256()
    with regular_file(path) as file:
        while block := file.read(2**20):
            digest.update(block)
    return digest.hexdigest()


def remove(folder: Path) -> None:
    """Remove a folder so that nobody finds half of it: under its name it is complete, or gone."""
    doomed = folder.with_name(f".{folder.name}.tmp-{os.getpid()}-removed")
    _delete(doomed)  # left by a killed process that had this number, as each has the same in its own container
    move(folder, doomed)
    _delete(doomed)


def move(source: Path, target: Path) -> None:
    """Give a file or folder another name on the same disk; a file of that name is replaced.

    Windows refuses while one of the files is open. That is waited for a moment, which is how long virus scanners and
    indexers look at what is new.

    Raises:
        OSError: it may not be renamed, or on Windows a file is open for longer.
    """
    end = time.monotonic() + PATIENCE
    while True:
        try:
            source.replace(target)
            return
        except PermissionError as error:
            if not WINDOWS:
                raise
            if time.monotonic() > end:
                why = f"{source.name} cannot get this name. If a program has one of them open, close it and try again"
                raise PermissionError(error.errno, why, str(target)) from error
        time.sleep(0.05)


def remove_leftovers(folder: Path) -> None:
    """Remove what killed processes left half-written or half-removed in a folder and its subfolders.

    No process may be writing to it meanwhile.
    """
    for stale in list(folder.rglob(".*.tmp-*")):
        _delete(stale)


def _sync(path: Path) -> None:
    """Wait until a file's content is on the disk; of a folder, its list of files, if the system can tell."""
    if WINDOWS and not os.access(path, os.W_OK):  # it needs a handle that may write, and cannot sync folders
        return
    with suppress(OSError) if path.is_dir() else nullcontext():
        file = os.open(path, os.O_RDWR if WINDOWS else os.O_RDONLY)
        try:
            os.fsync(file)
        finally:
            os.close(file)


def _delete(path: Path) -> None:
    if WINDOWS:  # which does not delete what is read-only, as materialised images are
        for each in [path, *path.rglob("*")]:
            with suppress(OSError):
                each.chmod(stat.S_IREAD | stat.S_IWRITE | stat.S_IEXEC)
    if path.is_dir():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)
