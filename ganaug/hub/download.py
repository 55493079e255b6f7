"""Generators from the Hugging Face Hub: downloads all files of one commit into a folder of the cache."""

from __future__ import annotations

import hashlib
import logging
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path

from huggingface_hub import HfApi, snapshot_download, try_to_load_from_cache
from huggingface_hub.errors import (
    GatedRepoError,
    LocalEntryNotFoundError,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)

from ganaug.core.errors import LoadError
from ganaug.core.files import read_bytes, sha256_of
from ganaug.core.text import in_short
from ganaug.hub.config import CONFIG, MOST_BYTES, read_config
from ganaug.hub.folder import CARD, SEEN_IMAGES, expected_weights
from ganaug.hub.missing import RUNS, where_else
from ganaug.hub.requests import TransportError, is_hub_id, is_revision, patiently, status_of
from ganaug.hub.weights import WEIGHTS, longest_file

logger = logging.getLogger(__name__)

_COMMIT = re.compile(r"[0-9a-f]{40}")
MOST_BYTES_OF_HASHES = 2**30  # for a hundred million images


def fetch(
    name: str | Path,
    *,
    revision: str | None = None,
    token: str | bool | None = None,
    cache_dir: str | Path | None = None,
    local_files_only: bool = False,
    force_download: bool = False,
    endpoint: str | None = None,
    with_card: bool = False,
) -> Path:
    """Find the folder of a generator: ``name`` itself if it is a folder, else a download of one commit from the Hub.

    A ``Path`` is never taken for a Hub id, nor is a string that starts with ``outputs/``, where training runs are,
    unless it names a revision. A file that is larger than any right one could be is not downloaded.

    Raises:
        LoadError: there is no such folder, repository or revision, it holds no generator, or the Hub cannot be
            reached.
    """
    if not isinstance(name, str | Path):
        raise LoadError(f"a generator is a folder or a Hub id ('user/repo'), got {in_short(name)}")
    try:
        path = Path(name).expanduser()
        is_folder, is_there = path.is_dir(), path.exists()
    except (OSError, ValueError, RuntimeError) as error:  # too long, a NUL, a user who is not there
        raise LoadError(f"{in_short(str(name))} can be no folder and no Hub id ('user/repo'): {error}") from error
    repo_id, _, pinned = str(name).partition("@")
    if is_folder:
        if revision is not None:
            raise LoadError(
                f"{name} is a folder here, which has no revisions; got revision={revision!r}. Leave it out"
            )
        # Most folders have names that a repository could have. A warning is due only if that one was loaded before.
        if isinstance(name, str) and is_hub_id(name) and _is_cached(name, cache_dir):
            logger.warning("%s is a folder here, and is loaded instead of the Hub repository of that name", name)
        if not (path / CONFIG).is_file():
            raise LoadError(f"{name} has no {CONFIG}, so it holds no generator of ganaug. {where_else(path)}")
        return path
    if is_there:
        raise LoadError(f"{name} is a file, and a generator is a folder. {where_else(path)}")
    is_run = path.parts[:1] == RUNS.parts and "@" not in str(name) and revision is None
    if not isinstance(name, str) or is_run:
        raise LoadError(f"no folder {str(name)!r}. {where_else(path)}")
    if not is_hub_id(repo_id):
        raise LoadError(
            f"no folder {in_short(name)!r}, and it is not a Hub id ('user/repo' or 'user/repo@revision'). "
            f"{where_else(path)}"
        )
    revision = pinned if "@" in name and revision is None else revision
    if revision is not None and not is_revision(revision):
        raise LoadError(f"{repo_id}: {in_short(revision)!r} is no revision, which is a branch, a tag or a commit")
    if revision and _COMMIT.fullmatch(revision) and not force_download:
        # A commit never changes, so the Hub need not be asked about a cached one; older clients ask all the same.
        found = try_to_load_from_cache(repo_id, WEIGHTS, cache_dir=cache_dir, revision=revision)
        if isinstance(found, str) and (Path(found).parent / CONFIG).exists():
            return _intact(Path(found).parent, [CONFIG, SEEN_IMAGES, WEIGHTS])
    download = partial(
        patiently,
        snapshot_download,
        repo_id,
        token=token,
        cache_dir=cache_dir,
        local_files_only=local_files_only,
        force_download=force_download,
        endpoint=endpoint,
    )
    with _explained(repo_id, revision):
        api = HfApi(endpoint=endpoint, token=token)
        sizes = {} if local_files_only else _sizes(api, repo_id, revision, needed=force_download)
        most = {CONFIG: MOST_BYTES, SEEN_IMAGES: MOST_BYTES_OF_HASHES, CARD: MOST_BYTES}
        _refuse_large(repo_id, sizes, most)
        small = [CONFIG, SEEN_IMAGES, *[CARD] * with_card]
        of_bytes = sum(sizes.get(name, 0) for name in small)
        rest = _intact(Path(download(revision=revision, allow_patterns=small, of_bytes=of_bytes)), small)
        longest = longest_file(expected_weights(rest, read_config(rest)))
        _refuse_large(repo_id, sizes, {WEIGHTS: longest})
        # The weights come last, from the same commit: if they are cached, then so is everything else.
        whole = Path(download(revision=rest.name, allow_patterns=[WEIGHTS], of_bytes=longest))
        return _intact(whole, [WEIGHTS])


def _is_cached(repo_id: str, cache_dir: str | Path | None) -> bool:
    return isinstance(try_to_load_from_cache(repo_id, CONFIG, cache_dir=cache_dir), str)


def _sizes(api: HfApi, repo_id: str, revision: str | None, *, needed: bool) -> dict[str, int]:
    """File name to bytes. Empty if the Hub does not answer, unless it is needed: the cache may have the files."""
    try:
        info = patiently(api.model_info, repo_id, revision=revision, files_metadata=True)
    except (TransportError, OSError):
        if needed:
            raise
        return {}
    sizes = {file.rfilename: file.size for file in info.siblings or [] if file.size is not None}
    wrong = [name for name, size in sizes.items() if type(size) is not int or size < 0]
    if wrong or not isinstance(info.sha, str) or not _COMMIT.fullmatch(info.sha):
        what = f"the size of {in_short(wrong[0])}" if wrong else f"the commit, {in_short(info.sha)}"
        raise LoadError(f"{repo_id}: the Hub's answer cannot be used: it has a wrong value for {what}")
    return sizes


def _refuse_large(repo_id: str, sizes: Mapping[str, int], most: Mapping[str, int]) -> None:
    for name in sizes.keys() & most.keys():
        if sizes[name] > most[name]:
            raise LoadError(f"{repo_id}: {name} has {sizes[name]:,} bytes, and at most {most[name]:,} can be right")


def _intact(folder: Path, files: Sequence[str]) -> Path:
    """The same folder, checked: refuse a file whose digest differs from the Hub's. The client compares sizes only."""
    for name in files:
        path = folder / name
        named = path.resolve().name  # the digest, in the cache; not on systems without links
        if re.fullmatch(r"[0-9a-f]{64}|[0-9a-f]{40}", named) and named != _digest(path, len(named)):
            raise LoadError(
                f"{path} has other bytes than the Hub says, of digest {named}. Load it again with force_download=True"
            )
    return folder


def _digest(path: Path, length: int) -> str:
    """Hex digest of a file: SHA-256, or the SHA-1 that git names a file by."""
    if length == 64:
        return sha256_of(path)
    content = read_bytes(path, most=MOST_BYTES)
    return hashlib.sha1(b"blob %d\0" % len(content) + content, usedforsecurity=False).hexdigest()


@contextmanager
def _explained(repo_id: str, revision: str | None) -> Iterator[None]:
    try:
        yield
    except LoadError:
        raise
    except GatedRepoError as error:
        raise LoadError(f"{repo_id} is gated: ask for access on its page, then pass token=") from error
    except RepositoryNotFoundError as error:
        raise LoadError(f"no folder and no Hub repository {repo_id!r}; a private one needs token=") from error
    except RevisionNotFoundError as error:
        raise LoadError(f"{repo_id} has no revision {revision!r}. Leave it out for the newest") from error
    except (TransportError, OSError, ValueError) as error:
        status = status_of(error)
        if status == 401:
            raise LoadError(
                f"{repo_id} could not be downloaded: the token is not valid. Log in with `hf auth login`, or "
                "pass token"
            ) from error
        if status:
            raise LoadError(f"{repo_id} could not be downloaded: the Hub answered {status}. Try again") from error
        if isinstance(error, LocalEntryNotFoundError):
            raise LoadError(
                f"no folder {repo_id!r} here, and the Hub's {repo_id} is not in the cache; the Hub was not reached: "
                f"{error}. Give a folder, or try again when it can be reached"
            ) from error
        raise LoadError(
            f"no folder {repo_id!r} here, and {repo_id} could not be downloaded: {error}. Give a folder, or try again"
        ) from error
