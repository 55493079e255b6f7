"""Generators as files: saving, fetching from the Hub, and loading."""

from __future__ import annotations

import logging
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import torch
from huggingface_hub import HfApi, snapshot_download, try_to_load_from_cache
from huggingface_hub.errors import (
    GatedRepoError,
    HfHubHTTPError,
    LocalEntryNotFoundError,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from ganaug import grids
from ganaug.card import GRID, model_card, updated_card
from ganaug.errors import LoadError
from ganaug.files import atomic_path, sha256_of, write_json, write_tensors, write_text
from ganaug.generators.base import Generator, registered_generators
from ganaug.model_config import CONFIG, MOST_BYTES, config_of, read_config
from ganaug.model_weights import WEIGHTS, longest_file, read_weights

logger = logging.getLogger(__name__)

CARD = "README.md"
SEEN_IMAGES, _SEEN_TENSOR = "training_images.safetensors", "sha256_prefix"
_HUB_ID = re.compile(r"[\w.-]+/[\w.-]+(@[\w./-]+)?")
_COMMIT = re.compile(r"[0-9a-f]{40}")

MOST_BYTES_OF_HASHES = 2**30  # of a hundred million images
TransportError: type[Exception] = HfHubHTTPError.__bases__[0]  # of the HTTP library; older clients have another

SomeGenerator = TypeVar("SomeGenerator", bound=Generator)


def save(generator: Generator, folder: str | Path) -> None:
    """Write weights, hashes of the training images, config, card and sample grid, each file whole or not at all.

    The config is written last of the first three and names the hash of the weights, so an interrupted save over an
    older one is noticed when it is loaded. Of an existing README.md, only what stands between ganaug's marks changes.

    The hashes let an evaluation refuse held-out images that were trained on. Someone who has an image can find out
    from them whether exactly that image was trained on; remove the file where that must stay secret.

    Raises:
        OSError: the folder cannot be written to or the disk is full.
    """
    folder = Path(folder)
    tensors = {name: tensor.detach().cpu() for name, tensor in generator.state_dict().items()}
    _write_tensors(folder / WEIGHTS, tensors)
    if generator.seen_images is None:
        (folder / SEEN_IMAGES).unlink(missing_ok=True)  # of another generator, saved here before
    else:
        _write_tensors(folder / SEEN_IMAGES, {_SEEN_TENSOR: generator.seen_images.unique()})
    digest = sha256_of(folder / WEIGHTS)
    write_json(folder / CONFIG, config_of(generator, digest))
    with atomic_path(folder / GRID) as path:
        grids.sample_grid(generator).save(path)
    card = folder / CARD
    if card.exists():
        write_text(card, updated_card(card.read_text(encoding="utf-8"), generator, digest))
    else:
        write_text(card, model_card(generator, digest))


def load(folder: str | Path, *, expected: type[SomeGenerator]) -> SomeGenerator:
    """Build the generator that a folder holds.

    Only safetensors weights are read, and they must fit the config exactly.

    Args:
        folder (str or Path): written by :func:`save`.
        expected (type): the generator's class, or a class above it.

    Raises:
        LoadError: a file is missing or damaged, the architecture is unknown or not the expected one, or the weights
            do not fit the config.
    """
    folder = Path(folder)
    config = read_config(folder)
    cls = registered_generators()[config["architecture"]]
    if not issubclass(cls, expected):
        raise LoadError(f"{folder} holds {config['architecture']} ({cls.__name__}), not a {expected.__name__}")
    weights = check(folder, config)
    generator = _build(cls, config, folder)
    generator.load_state_dict(weights)
    generator.info = {"dataset": config["dataset"], "training": config["training"]}
    generator.seen_images = _read_seen_images(folder / SEEN_IMAGES)
    generator.eval()
    return generator  # type: ignore[return-value]


def check(folder: Path, config: dict[str, Any]) -> dict[str, Tensor]:
    """The weights in a folder, if they are what the config says.

    Raises:
        LoadError: they are not.
    """
    return read_weights(folder, _expected_weights(folder, config), config["weights"]["sha256"])


def _expected_weights(folder: Path, config: dict[str, Any]) -> dict[str, Tensor]:
    """Names, shapes and types of the weights: a network without memory, for it may be larger than any computer."""
    with torch.device("meta"):
        return _build(registered_generators()[config["architecture"]], config, folder).state_dict()


def _build(cls: type[Generator], config: dict[str, Any], folder: Path) -> Generator:
    image = config["image"]
    try:
        # Layers draw initial weights when they are made; the caller's random state is not ours to move.
        with torch.random.fork_rng(devices=[]):
            generator = cls(
                config["label_names"], image_size=image["size"], channels=image["channels"], **config["network"]
            )
    except (TypeError, ValueError, RuntimeError) as error:
        raise LoadError(f"{folder}: the config does not fit {config['architecture']}: {error}") from error
    if generator.network_options() != config["network"]:
        raise LoadError(
            f"{folder}: network must be all options of {config['architecture']}, {generator.network_options()}"
        )
    return generator


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
    """Folder of a generator: ``name`` itself where it is a folder, else a download of one commit from the Hub.

    Files that are larger than they can be are not downloaded.

    Raises:
        LoadError: there is no such folder, repository or revision, it has no generator, or the Hub cannot be reached.
    """
    if Path(name).is_dir():
        if revision is not None:
            raise LoadError(
                f"{name} is a folder here, which has no revisions; got revision={revision!r}. Leave it out"
            )
        # Most folders have names that could be a repository's; those that were loaded from one could be confused.
        if isinstance(name, str) and _HUB_ID.fullmatch(name) and _is_cached(name, cache_dir):
            logger.warning("%s is a folder here, and is loaded instead of the Hub repository of that name", name)
        return Path(name)
    if not isinstance(name, str) or not _HUB_ID.fullmatch(name):
        raise LoadError(f"no folder {str(name)!r}, and it is not a Hub id ('user/repo' or 'user/repo@revision')")
    repo_id, _, pinned = name.partition("@")
    revision = revision or pinned or None
    if revision and _COMMIT.fullmatch(revision) and not force_download:
        # A commit never changes: what is cached needs no question to the Hub, which older clients ask all the same.
        found = try_to_load_from_cache(repo_id, WEIGHTS, cache_dir=cache_dir, revision=revision)
        if isinstance(found, str) and (Path(found).parent / CONFIG).exists():
            return Path(found).parent
    download = partial(
        snapshot_download,
        repo_id,
        token=token,
        cache_dir=cache_dir,
        local_files_only=local_files_only,
        force_download=force_download,
        endpoint=endpoint,
    )
    with _explained(repo_id, revision):
        sizes = {} if local_files_only else _sizes(HfApi(endpoint=endpoint, token=token), repo_id, revision)
        _refuse_large(repo_id, sizes, {CONFIG: MOST_BYTES, SEEN_IMAGES: MOST_BYTES_OF_HASHES, CARD: MOST_BYTES})
        small = [CONFIG, SEEN_IMAGES, *[CARD] * with_card]
        rest = Path(download(revision=revision, allow_patterns=small))
        if WEIGHTS in sizes:
            _refuse_large(repo_id, sizes, {WEIGHTS: longest_file(_expected_weights(rest, read_config(rest)))})
        # Weights come last and of the same commit: where they are cached, so is all that the repository has.
        return Path(download(revision=rest.name, allow_patterns=[WEIGHTS]))


def _is_cached(repo_id: str, cache_dir: str | Path | None) -> bool:
    return isinstance(try_to_load_from_cache(repo_id, CONFIG, cache_dir=cache_dir), str)


def _sizes(api: HfApi, repo_id: str, revision: str | None) -> dict[str, int]:
    """Bytes of the files of a repository; empty where the Hub does not say, which the download will find out too."""
    try:
        files = api.model_info(repo_id, revision=revision, files_metadata=True).siblings or []
    except (TransportError, OSError):
        return {}
    return {file.rfilename: file.size for file in files if file.size is not None}


def _refuse_large(repo_id: str, sizes: Mapping[str, int], most: Mapping[str, int]) -> None:
    for name in sizes.keys() & most.keys():
        if sizes[name] > most[name]:
            raise LoadError(f"{repo_id}: {name} has {sizes[name]:,} bytes, and at most {most[name]:,} can be right")


@contextmanager
def _explained(repo_id: str, revision: str | None) -> Iterator[None]:
    try:
        yield
    except GatedRepoError as error:
        raise LoadError(f"{repo_id} is gated: ask for access on its page, then pass token=") from error
    except RepositoryNotFoundError as error:
        raise LoadError(f"no folder and no Hub repository {repo_id!r}; a private one needs token=") from error
    except RevisionNotFoundError as error:
        raise LoadError(f"{repo_id} has no revision {revision!r}") from error
    except LocalEntryNotFoundError as error:
        raise LoadError(f"{repo_id} is not in the cache and the Hub was not reached: {error}") from error
    except (TransportError, OSError) as error:
        raise LoadError(f"{repo_id} could not be downloaded: {error}") from error


def _write_tensors(path: Path, tensors: dict[str, Tensor]) -> None:
    with atomic_path(path) as temporary:
        write_tensors(temporary, tensors, {"format": "pt", "library": "ganaug"})


def _read_seen_images(path: Path) -> Tensor | None:
    """Hashes of the training images, int64 (N,); None where there is no such file."""
    if not path.is_file():
        return None
    try:
        tensors = load_file(path)
    except (SafetensorError, OSError) as error:
        raise LoadError(f"{path} cannot be read: {error}. Download or save it again") from error
    hashes = tensors.get(_SEEN_TENSOR)
    if hashes is None or len(tensors) > 1 or hashes.dtype != torch.int64 or not torch.equal(hashes, hashes.unique()):
        raise LoadError(
            f"{path} must hold one tensor, {_SEEN_TENSOR}: int64, of one dimension, sorted, no value twice. "
            "Download or save it again"
        )
    return hashes
