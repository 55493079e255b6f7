"""config.json of a generator: writing it, and reading one that anybody may have written."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any, NamedTuple, cast

from ganaug.core.errors import LoadError
from ganaug.core.files import read_bytes
from ganaug.core.text import LONGEST_NAME, as_text, in_short, is_name, is_text
from ganaug.hub.registry import SavedGenerator, registered_generators
from ganaug.hub.strict_json import strict_json

CONFIG = "config.json"
FORMAT_VERSION = 1
MOST_CLASSES = 10_000
# Of the file: each name is in two lists, with up to 4 bytes a character and 40 bytes around it; the rest is short.
MOST_BYTES = 2 * MOST_CLASSES * (4 * LONGEST_NAME + 40) + 2**20
_MOST_TOKENS = 25 * MOST_CLASSES  # strings, commas and brackets; two go with each name in each list
LONGEST_TEXT = 2_000  # characters
LARGEST_SIDE, MOST_CHANNELS, LARGEST_OPTION = 1024, 4, 100_000
OF_A_DISCRIMINATOR = ("discriminator_steps", "discriminator_learning_rate", "fake_labels", "half_batches")
UNRECORDED = "unrecorded_images"  # in "training": whether it began as one that saw images of which there is no record
_DATASET = {"name": str, "fingerprint": str, "num_images": int, "class_counts": dict}  # any of them may be missing


def config_of(generator: SavedGenerator, weights_sha256: str) -> dict[str, Any]:
    """What ``config.json`` says about a generator."""
    return {
        "architecture": generator.architecture,
        "format_version": FORMAT_VERSION,
        "ganaug_version": version("ganaug"),
        "label_names": list(generator.label_names),
        "image": {"size": generator.image_size, "channels": generator.channels, "range": [-1, 1]},
        "network": generator.network_options(),
        "dataset": _readable(generator.info["dataset"]),
        "training": _readable(generator.info["training"]),
        "weights": {
            "sha256": weights_sha256,
            "num_parameters": sum(parameter.numel() for parameter in generator.parameters()),
            "dtype": "float32",
        },
    }


def _readable(facts: Mapping[str, Any]) -> dict[str, Any]:
    """Facts that :func:`_check_config` accepts: paths, in the name of the data or the command, may hold anything."""
    return {name: as_text(value)[:LONGEST_TEXT] if isinstance(value, str) else value for name, value in facts.items()}


def what_was_set(training: Mapping[str, Any]) -> dict[str, Any]:
    """What a training recorded, without what was left open or is of no use to its kind of network.

    Nor with the generators that it was adapted from, see :func:`ancestors`.

    Args:
        training (mapping): the ``"training"`` of ``config.json``, which may be anybody's.
    """
    # A flow has one network; what is recorded of it is its loss, or its distance to what it shall draw.
    is_gan = "adversarial_loss" in training or not {"last_loss", "last_distance"} & training.keys()
    return {
        name: value
        for name, value in training.items()
        if value is not None
        and name not in _ANCESTOR
        and not (isinstance(value, str | list | tuple) and not value)
        and (is_gan or name not in OF_A_DISCRIMINATOR)
    }


def training_seconds(training: Mapping[str, Any]) -> float | None:
    """How long a training took, as its config says, which is in minutes in earlier ones; None if it does not say."""
    for name, unit in (("seconds", 1.0), ("minutes", 60.0)):
        if isinstance(value := training.get(name), int | float):
            return unit * value
    return None


class Ancestor(NamedTuple):
    """A generator that another one was adapted from.

    Attributes:
        name (str): ``"user/repo@commit"`` on the Hub; for any other, its architecture and classes.
        weights_sha256 (str): of the file with its weights.
        data (str): name of the images that it was trained on.
    """

    name: str
    weights_sha256: str
    data: str


_ANCESTOR = ("adapted_from", "adapted_from_sha256", "adapted_from_data")  # in "training": a list of each


def facts_of(line: Sequence[Ancestor]) -> dict[str, list[str]]:
    """What ``"training"`` in ``config.json`` says of the generators that one was adapted from, the nearest first."""
    return {key: [each[k] for each in line] for k, key in enumerate(_ANCESTOR)}


def ancestors(training: Mapping[str, Any]) -> list[Ancestor]:
    """The generators that one was adapted from, the nearest first, as its ``config.json`` says it.

    Args:
        training (mapping): the ``"training"`` of ``config.json``, which may be anybody's.
    """
    lists = [training.get(key) for key in _ANCESTOR]
    if not all(isinstance(each, list) and len(each) == len(lists[0] or []) for each in lists):
        return []
    return [Ancestor(*map(str, each)) for each in zip(*cast(list[list[Any]], lists), strict=True)]


def read_config(folder: Path) -> dict[str, Any]:
    """Read ``config.json``, whoever wrote it, and refuse any that :func:`config_of` could not have made.

    Raises:
        LoadError: there is no such file, it was written by a newer version, its architecture is not registered, or its
            keys, types or sizes are wrong.
    """
    path = folder / CONFIG
    config = parsed_config(path, _content(path))
    if config["architecture"] not in registered_generators():
        known = ", ".join(sorted(registered_generators()))
        raise LoadError(
            f"{folder} holds architecture {config['architecture']!r}; known are {known}. "
            "A class of your own must be registered (register_generator) before it can be loaded"
        )
    return config


def parsed_config(path: Path, content: bytes) -> dict[str, Any]:
    """A config from its text, whoever wrote it; refused if :func:`config_of` could not have made it.

    Args:
        path (Path): of the file, for the message.
        content (bytes): all of it.

    Raises:
        LoadError: it is too large, is not JSON, was written by a newer version, or its keys, types or sizes are wrong.
    """
    _check_size(path, len(content))
    try:
        config = strict_json(content, most=_MOST_TOKENS)
    except ValueError as error:
        raise LoadError(f"{path} cannot be read: {in_short(str(error))}") from error
    if not isinstance(config, dict) or type(config.get("format_version")) is not int or config["format_version"] < 1:
        raise LoadError(
            f"{path} is not a config of ganaug: it has no format_version. Give the folder or Hub id of a generator "
            "that ganaug saved"
        )
    if config["format_version"] > FORMAT_VERSION:
        raise LoadError(
            f"{path} has format_version {in_short(config['format_version'])} and this ganaug reads up to "
            f"{FORMAT_VERSION}; it was written by ganaug {in_short(config.get('ganaug_version'))}: upgrade to that"
        )
    _check_config(path, config)
    return config


def _content(path: Path) -> bytes:
    try:
        _check_size(path, path.stat().st_size)
        return read_bytes(path, most=MOST_BYTES)
    except FileNotFoundError as error:
        raise LoadError(f"{path.parent} has no {CONFIG}, so it holds no generator of ganaug") from error
    except OSError as error:
        raise LoadError(f"{path} cannot be read: {in_short(str(error))}") from error


def _check_size(path: Path, size: int) -> None:
    if size > MOST_BYTES:
        raise LoadError(f"{path} has {size:,} bytes; a config has at most {MOST_BYTES:,}")


def _check_config(path: Path, config: Mapping[str, Any]) -> None:
    """Refuse a config whose keys, types or sizes are not those that :func:`config_of` gives."""

    def require(holds: bool, what: str, value: object) -> None:
        if not holds:
            raise LoadError(f"{path}: {what}, got {in_short(value)}")

    wanted = {
        "architecture": str,
        "format_version": int,
        "ganaug_version": str,
        "label_names": list,
        "image": dict,
        "network": dict,
        "dataset": dict,
        "training": dict,
        "weights": dict,
    }
    _require_keys(path, "", config, wanted)
    for key, kind in wanted.items():
        require(type(config[key]) is kind, f"{key} must be {_called(kind)}", config[key])
    require(is_name(config["architecture"]), "architecture must be a name", config["architecture"])
    release = config["ganaug_version"]
    require(re.fullmatch(r"[\w.+!-]{1,50}", release) is not None, "ganaug_version must be a version", release)
    names = config["label_names"]
    require(len(names) <= MOST_CLASSES, f"label_names must be at most {MOST_CLASSES:,}", f"{len(names):,} of them")
    for name in names:
        require(
            is_name(name), f"label_names must be of 1 to {LONGEST_NAME} characters, none a control character", name
        )

    image = config["image"]
    _require_keys(path, "image: ", image, ("size", "channels", "range"))
    for key, most in (("size", LARGEST_SIDE), ("channels", MOST_CHANNELS)):
        require(type(image[key]) is int and 1 <= image[key] <= most, f"image: {key} must be 1 to {most}", image[key])
    require(image["range"] == [-1, 1], "image: range must be [-1, 1]", image["range"])

    weights = config["weights"]
    _require_keys(path, "weights: ", weights, ("sha256", "num_parameters", "dtype"))
    digest, count = weights["sha256"], weights["num_parameters"]
    require(type(digest) is str and re.fullmatch(r"[0-9a-f]{64}", digest) is not None, "weights: sha256", digest)
    require(type(count) is int and 0 <= count < 2**63, "weights: num_parameters must be a number", count)
    require(weights["dtype"] == "float32", "weights: dtype must be float32", weights["dtype"])

    check_options(path, config["network"])
    dataset = config["dataset"]
    for name, value in dataset.items():
        require(type(value) is _DATASET.get(name), f"dataset: {in_short(name)} is unknown, or of a wrong type", value)
        good = name == "class_counts" or _is_plain(value)
        require(good, f"dataset: {name} must be short, plain JSON", value)
    require(dataset.get("num_images", 0) >= 0, "dataset: num_images must be a count", dataset.get("num_images"))
    counts = dataset.get("class_counts", {})
    require(len(counts) <= MOST_CLASSES, f"class_counts must be at most {MOST_CLASSES:,}", f"{len(counts):,} of them")
    for name, count in counts.items():
        good = is_name(name) and type(count) is int and 0 <= count < 2**63
        require(good, f"dataset: class_counts: {in_short(name)} must be the name of a class with a count", count)
    for name, value in config["training"].items():
        values = value if type(value) is list else [value]
        good = is_name(name) and len(values) <= 100 and all(map(_is_plain, values))
        require(good, f"training: {in_short(name)} must be short, plain JSON", value)


def check_options(path: Path, options: Mapping[str, Any]) -> None:
    """Refuse options of a network that a config cannot hold.

    Args:
        path (Path): of the config, for the message.
        options (mapping): what ``network_options`` returns.

    Raises:
        LoadError: a name is no identifier, or a value is neither a short string nor a bool nor a small number.
    """
    if not isinstance(options, Mapping):
        raise LoadError(f"{path}: network must be an object, got {in_short(options)}")
    for name, value in options.items():
        good = is_name(value) if type(value) is str else _is_option(value)
        if not (name.isidentifier() and good):
            raise LoadError(
                f"{path}: network: {in_short(name)} must be a name or a small number, got {in_short(value)} "
                f"({type(value).__name__})"
            )


def _require_keys(path: Path, where: str, found: Mapping[str, Any], wanted: Any) -> None:
    wrong = sorted(set(found) ^ set(wanted))
    if wrong:
        raise LoadError(f"{path}: {where}missing or unknown keys: {in_short(', '.join(wrong))}")


def _is_option(value: object) -> bool:
    if type(value) is int:
        return abs(value) <= LARGEST_OPTION
    return type(value) is bool or (type(value) is float and math.isfinite(value))


def _is_plain(value: object) -> bool:
    if type(value) is str:
        return is_text(value, most=LONGEST_TEXT)
    if type(value) is int:
        return abs(value) < 2**63
    return value is None or type(value) is bool or (type(value) is float and math.isfinite(value))


def _called(kind: type) -> str:
    return {str: "a string", int: "an int", list: "a list", dict: "an object"}[kind]
