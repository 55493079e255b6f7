"""A generator as a folder: saving and loading."""

from __future__ import annotations

import logging
import os
from collections.abc import Mapping
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, TypeVar, cast

import torch
from torch import Tensor, nn

from ganaug.core import fingerprints
from ganaug.core.defaults import usual_defaults
from ganaug.core.errors import InputError, LoadError
from ganaug.core.files import atomic_path, json_text, sha256_of, write_json, write_tensors, write_text
from ganaug.core.hardware import deterministic_passes, device_of, evaluation_mode
from ganaug.core.seeding import forked_rng, latents
from ganaug.core.text import as_text, in_short
from ganaug.data import grids
from ganaug.hub.card import GRID, model_card, updated_card
from ganaug.hub.config import CONFIG, check_options, config_of, parsed_config, read_config
from ganaug.hub.metadata import read_card
from ganaug.hub.registry import Origin, SavedGenerator, registered_generators
from ganaug.hub.weights import WEIGHTS, check_kinds, read_hashes, read_weights

logger = logging.getLogger(__name__)

CARD = "README.md"
SEEN_IMAGES, _SEEN_TENSOR = "training_images.safetensors", "sha256_prefix"
_LONGEST_REASON = 500  # characters of what a constructor says
_REFUSED = "this generator cannot be saved, because it could not be loaded again"

SomeGenerator = TypeVar("SomeGenerator", bound=SavedGenerator)


@usual_defaults()
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
    tensors = _loadable_tensors(generator)
    grid = grids.sample_grid(generator)
    digest = _write(generator, tensors, folder)
    with atomic_path(folder / GRID) as path:
        grid.save(path)
    _warn_of_hidden(generator, folder)
    fingerprint = fingerprints.of_module(cast(nn.Module, generator))
    # An unchanged generator from the Hub keeps its Hub id.
    if generator.origin is None or generator.origin.fingerprint != fingerprint:
        generator.origin = Origin(None, digest, fingerprint)
    card = folder / CARD
    if card.exists():
        write_text(card, updated_card(read_card(card), generator, digest))
    else:
        write_text(card, model_card(generator, digest))


@usual_defaults()
def check_round_trip(generator: SavedGenerator, *, within: Path | None = None) -> None:
    """Refuse a generator that would not come back from a folder as it is, by saving it to one and loading it.

    Card and grid, which nothing is loaded from, are left out, so this takes a fraction of a second.

    Args:
        generator (SavedGenerator): left as it is.
        within (Path, optional): where the folder is made, and removed again. Default: the system's temporary folder

    Raises:
        InputError: its class is not registered, saving or loading it fails, or what was loaded has other classes or
            buffers or draws other images.
        OSError: there is no room for its files.
    """
    kind = type(generator)
    registered = registered_generators().get(getattr(kind, "architecture", ""))
    if registered is not kind:
        whose = f"its architecture is that of {registered.__name__}" if registered else "its class is not registered"
        raise InputError(
            f"{_REFUSED}: {whose}. Give {kind.__name__} an architecture of its own, and @register_generator"
        )
    tensors = _loadable_tensors(generator)
    try:
        with TemporaryDirectory(prefix=".round-trip.tmp-", dir=within) as folder:
            _write(generator, tensors, Path(folder))
            difference = _difference(generator, load(folder))
    except LoadError as error:
        raise InputError(f"{_REFUSED}: {error}") from error
    except OSError:
        raise
    except Exception as error:  # code of the user's own runs here, and may raise anything
        raise InputError(f"{_REFUSED}: {type(error).__name__}: {error}") from error
    if difference:
        raise InputError(f"{_REFUSED}: what was loaded has other {difference}")


def _difference(generator: SavedGenerator, loaded: SavedGenerator) -> str:
    """How a loaded generator differs from the one that was saved; empty if it does not."""
    if loaded.label_names != generator.label_names:
        return f"names of classes, {in_short(', '.join(loaded.label_names))}"
    ours, theirs = cast(nn.Module, generator), cast(nn.Module, loaded)
    theirs.to(device_of(ours)).to(memory_format=torch.channels_last)  # as in training
    # Buffers of random numbers change no image while the last layer's weights are zero.
    buffer = _differing(_hidden_buffers(ours), theirs)
    if buffer:
        return f"values in the buffer {buffer}. Compute it without random numbers, or leave out persistent=False"
    within_a_grey_level = (_two_images(ours) - _two_images(theirs)).abs() <= 2 / 255
    if within_a_grey_level.float().mean() < 0.99:
        return "images, so these depend on what is neither in its state_dict nor in its network_options"
    return ""


def _warn_of_hidden(generator: SavedGenerator, folder: Path) -> None:
    """Warn of a buffer that training changed and that is not saved; refusing now would lose all that was learnt."""
    hidden = _hidden_buffers(cast(nn.Module, generator))
    if hidden:
        new = cast(nn.Module, _build(type(generator), config_of(generator, "0" * 64), folder))
        buffer = _differing(hidden, new)
        if buffer:
            logger.warning(
                "the generator loaded from %s draws other images: the buffer %s is not saved (persistent=False), and "
                "has other values than in a new %s",
                folder,
                buffer,
                type(generator).__name__,
            )


def _hidden_buffers(network: nn.Module) -> dict[str, Tensor]:
    """Buffers that are not saved."""
    saved = network.state_dict()
    return {name: value for name, value in network.named_buffers() if name not in saved}


def _differing(buffers: Mapping[str, Tensor], network: nn.Module) -> str | None:
    """The name of a buffer that has other values in a network."""
    there = dict(network.named_buffers())
    found = (name for name in buffers if name in there and not torch.equal(buffers[name].cpu(), there[name].cpu()))
    return next(found, None)


def _two_images(generator: nn.Module) -> Tensor:
    """Images in evaluation mode, on the CPU; the same ones each time, also where the network draws random numbers."""
    described, device = cast(SavedGenerator, generator), device_of(generator)
    z = latents(0, range(2), described.latent_dim).to(device)
    labels = torch.arange(2).to(device) % max(described.num_classes, 1)
    repeatable = forked_rng(0, device), deterministic_passes(device), torch.autocast(device.type, enabled=False)
    with torch.inference_mode(), evaluation_mode(generator), repeatable[0], repeatable[1], repeatable[2]:
        return cast(Tensor, generator(z, labels)).float().cpu()


def _write(generator: SavedGenerator, tensors: dict[str, Tensor], folder: Path) -> str:
    """Write what :func:`load` reads; the weights' hash."""
    _write_tensors(folder / WEIGHTS, tensors)
    if generator.seen_images is None:
        (folder / SEEN_IMAGES).unlink(missing_ok=True)  # of a generator that was saved here before
    else:
        _write_tensors(folder / SEEN_IMAGES, {_SEEN_TENSOR: generator.seen_images.unique()})
    digest = sha256_of(folder / WEIGHTS)
    write_json(folder / CONFIG, config_of(generator, digest))
    return digest


def _loadable_tensors(generator: SavedGenerator) -> dict[str, Tensor]:
    """The state to save; refused if :func:`load` would refuse it or the config."""
    kind = type(generator)
    where = Path(kind.__name__)
    try:
        check_kinds(where, generator.state_dict())
        check_options(where, generator.network_options())
        tensors = {name: tensor.detach().cpu() for name, tensor in generator.state_dict().items()}
        config = parsed_config(where, json_text(config_of(generator, "0" * 64)).encode())
        registered = registered_generators().get(kind.architecture, kind)
        if registered is not kind:
            raise LoadError(f"its architecture, {kind.architecture}, is that of {registered.__name__}")
        built = _forms(expected_weights(where, config, kind))
    except (LoadError, TypeError, ValueError) as error:
        raise InputError(f"{_REFUSED}: {error}") from error
    there = _forms(tensors)
    if built != there:
        different = fingerprints.differences(built, there) or fingerprints.differences(there, built)
        raise InputError(
            f"{_REFUSED}: its options build other weights than it has ({in_short(different)}). network_options must "
            "return all that the constructor needs, and the weights must be of the type that it makes (.float())"
        )
    broken = [name for name, tensor in tensors.items() if not torch.isfinite(tensor).all()]
    if broken:
        raise InputError(
            f"{_REFUSED}: it has NaN or infinite values in {broken[0]}. If that is a mask, register it with "
            "persistent=False"
        )
    return tensors


def _forms(tensors: Mapping[str, Tensor]) -> dict[str, str]:
    return {name: f"{tensor.dtype} {list(tensor.shape)}" for name, tensor in tensors.items()}


@usual_defaults()
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
    with usual_defaults(), torch.device("meta"):
        state = _build(cls or registered_generators()[config["architecture"]], config, folder).state_dict()
    check_kinds(folder, state)
    return state


def _build(cls: type[SavedGenerator], config: dict[str, Any], folder: Path) -> SavedGenerator:
    image = config["image"]
    try:
        # Layers draw their initial weights; that must not move the caller's random state.
        with torch.random.fork_rng(devices=[]):
            generator = cls(
                config["label_names"], image_size=image["size"], channels=image["channels"], **config["network"]
            )
    except Exception as error:  # for sizes that nobody meant to give it, a constructor may raise anything
        # Its constructor asked for the values of tensors.
        advice = ". Compute the sizes of layers without tensors" if "meta tensor" in str(error) else ""
        why = as_text(str(error))[:_LONGEST_REASON] or type(error).__name__
        raise LoadError(f"{folder}: the config does not fit {config['architecture']}: {why}{advice}") from error
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
    return read_hashes(path, _SEEN_TENSOR) if os.path.lexists(path) else None
