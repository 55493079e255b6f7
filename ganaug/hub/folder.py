"""A generator as a folder: saving and loading."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeVar, cast

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from ganaug.core import fingerprints
from ganaug.core.errors import InputError, LoadError
from ganaug.core.files import atomic_path, sha256_of, write_json, write_tensors, write_text
from ganaug.core.text import in_short
from ganaug.data import grids
from ganaug.hub.card import GRID, model_card, updated_card
from ganaug.hub.config import CONFIG, check_config, config_of, read_config
from ganaug.hub.registry import Origin, SavedGenerator, registered_generators
from ganaug.hub.weights import WEIGHTS, read_weights

CARD = "README.md"
SEEN_IMAGES, _SEEN_TENSOR = "training_images.safetensors", "sha256_prefix"

SomeGenerator = TypeVar("SomeGenerator", bound=SavedGenerator)


def save(generator: SavedGenerator, folder: str | Path) -> None:
    """Write weights, hashes of the training images, config, card and sample grid, each file whole or not at all.

    The config is written after the weights and names their hash, so that :func:`load` notices if a save over an older
    one was interrupted. In an existing README.md, only what stands between ganaug's marks changes.

    The hashes let an evaluation refuse held-out images that the generator was trained on. Anyone who has an image can
    tell from them whether exactly that image was trained on; remove the file if that must stay secret.

    Raises:
        InputError: the generator could not be loaded again, so nothing was written.
        OSError: the folder cannot be written to, or the disk is full.
    """
    folder = Path(folder)
    tensors = {name: tensor.detach().cpu() for name, tensor in generator.state_dict().items()}
    _check_loadable(generator, tensors)
    grid = grids.sample_grid(generator)
    _write_tensors(folder / WEIGHTS, tensors)
    if generator.seen_images is None:
        (folder / SEEN_IMAGES).unlink(missing_ok=True)  # of a generator that was saved here before
    else:
        _write_tensors(folder / SEEN_IMAGES, {_SEEN_TENSOR: generator.seen_images.unique()})
    digest = sha256_of(folder / WEIGHTS)
    write_json(folder / CONFIG, config_of(generator, digest))
    with atomic_path(folder / GRID) as path:
        grid.save(path)
    fingerprint = fingerprints.of_module(cast(nn.Module, generator))
    # An unchanged generator from the Hub keeps its Hub id.
    if generator.origin is None or generator.origin.fingerprint != fingerprint:
        generator.origin = Origin(None, digest, fingerprint)
    card = folder / CARD
    if card.exists():
        write_text(card, updated_card(card.read_text(encoding="utf-8"), generator, digest))
    else:
        write_text(card, model_card(generator, digest))


def _check_loadable(generator: SavedGenerator, tensors: dict[str, Tensor]) -> None:
    """Refuse what :func:`load` would refuse: other weights than the options build, or a config that is not plain."""
    where = Path(type(generator).__name__)
    try:
        config = json.loads(json.dumps(config_of(generator, "0" * 64)))
        check_config(where, config)
        built = _forms(expected_weights(where, config, type(generator)))
    except (LoadError, TypeError, ValueError) as error:
        raise InputError(f"this generator could not be loaded again, so it was not saved: {error}") from error
    there = _forms(tensors)
    if built != there:
        different = fingerprints.differences(built, there) or fingerprints.differences(there, built)
        raise InputError(
            "this generator could not be loaded again, so it was not saved: its options build other weights than it "
            f"has ({in_short(different)})"
        )


def _forms(tensors: Mapping[str, Tensor]) -> dict[str, str]:
    return {name: f"{tensor.dtype} {list(tensor.shape)}" for name, tensor in tensors.items()}


def load(folder: str | Path, *, expected: type[SomeGenerator] | None = None) -> SomeGenerator:
    """Build the generator that a folder holds.

    Only safetensors weights are read, and they must fit the config exactly.

    Args:
        folder (str or Path): written by :func:`save`.
        expected (type, optional): the generator's class or one of its base classes. Default: any

    Raises:
        LoadError: a file is missing or damaged, the architecture is unknown or not the expected one, or the weights
            do not fit the config.
    """
    folder = Path(folder)
    config = read_config(folder)
    cls = registered_generators()[config["architecture"]]
    if expected is not None and not issubclass(cls, expected):
        raise LoadError(f"{folder} holds {config['architecture']} ({cls.__name__}), not a {expected.__name__}")
    weights = check(folder, config)
    generator = _build(cls, config, folder)
    generator.load_state_dict(weights)
    generator.info = {"dataset": config["dataset"], "training": config["training"]}
    generator.seen_images = _read_seen_images(folder / SEEN_IMAGES)
    generator.eval()
    generator.origin = Origin(
        _name_on_hub(folder), config["weights"]["sha256"], fingerprints.of_module(cast(nn.Module, generator))
    )
    return generator  # type: ignore[return-value]


def _name_on_hub(folder: Path) -> str | None:
    """``"user/repo@commit"`` of a folder in the Hub's cache; None for any other folder."""
    snapshots, repository = folder.parent, folder.parent.parent
    if snapshots.name != "snapshots" or not repository.name.startswith("models--"):
        return None
    return f"{repository.name.removeprefix('models--').replace('--', '/', 1)}@{folder.name}"


def check(folder: Path, config: dict[str, Any]) -> dict[str, Tensor]:
    """Read the weights in a folder, if they are what the config says.

    Raises:
        LoadError: the file is missing or damaged, or its weights do not fit the config.
    """
    return read_weights(folder, expected_weights(folder, config), config["weights"]["sha256"])


def expected_weights(
    folder: Path, config: dict[str, Any], cls: type[SavedGenerator] | None = None
) -> dict[str, Tensor]:
    """Names, shapes and types of the weights, without memory for them: the config may ask for more than there is."""
    with torch.device("meta"):
        return _build(cls or registered_generators()[config["architecture"]], config, folder).state_dict()


def _build(cls: type[SavedGenerator], config: dict[str, Any], folder: Path) -> SavedGenerator:
    image = config["image"]
    try:
        # Layers draw their initial weights; that must not move the caller's random state.
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


def _write_tensors(path: Path, tensors: dict[str, Tensor]) -> None:
    with atomic_path(path) as temporary:
        write_tensors(temporary, tensors, {"format": "pt", "library": "ganaug"})


def _read_seen_images(path: Path) -> Tensor | None:
    """Hashes of the training images, int64 (N,); None if there is no such file."""
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
