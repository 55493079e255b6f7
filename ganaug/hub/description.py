"""What a saved generator is, in words, without building it."""

from __future__ import annotations

import os
from pathlib import Path

from ganaug.core.errors import InputError
from ganaug.core.text import in_points
from ganaug.hub.card import claimed_difference
from ganaug.hub.config import ancestors, read_config, training_seconds
from ganaug.hub.folder import CARD, check
from ganaug.hub.metadata import read_card
from ganaug.hub.weights import WEIGHTS

_SHOWN = ("total_kimg", "minutes", "device", "chosen_after_kimg", "chosen_score", "seed")


def description(folder: Path, name: str) -> str:
    """Describe a generator in some lines: classes, size, data, training, verdict, and that its files are sound.

    Args:
        folder (Path): of the generator.
        name (str): what the user called it.

    Raises:
        LoadError: the folder holds no generator, or one that could not be loaded.
    """
    config = read_config(folder)
    check(folder, config)
    image, weights, dataset = config["image"], config["weights"], config["dataset"]
    classes = config["label_names"]
    size = f"{image['size']}x{image['size']} pixels, {'grey' if image['channels'] == 1 else 'RGB'}"
    training = dict(config["training"])
    if (seconds := training_seconds(training)) is not None:
        training["minutes"] = round(seconds / 60, 1)
    trained = {key: training[key] for key in _SHOWN if training.get(key) is not None}
    facts = {
        "architecture": f"{config['architecture']}, {weights['num_parameters']:,} parameters",
        "images": size,
        "classes": f"{len(classes)}: {', '.join(classes)}" if classes else "none (unconditional)",
        "trained on": f"{dataset.get('name', 'not recorded')}"
        + (f", {dataset['num_images']:,} images" if "num_images" in dataset else ""),
        "data fingerprint": dataset.get("fingerprint", "not recorded"),
        **(
            {"adapted from": ", before that ".join(each.name for each in line)}
            if (line := ancestors(training))
            else {}
        ),
        "training": ", ".join(f"{key} {value}" for key, value in trained.items()) or "not recorded",
        "verdict": _verdict(folder / CARD),
        "written by": f"ganaug {config['ganaug_version']}",
        "weights": f"{(folder / WEIGHTS).stat().st_size:,} bytes, SHA-256 {weights['sha256']}",
        "safety": "safetensors alone; names, shapes, types, hash and values are as the config says",
    }
    width = max(map(len, facts))
    return "\n".join([name, *(f"  {key:<{width}}  {value}" for key, value in facts.items())])


def _verdict(card: Path) -> str:
    if not os.path.lexists(card):
        return "no card"
    try:
        difference = claimed_difference(read_card(card))
    except InputError:  # anybody may have written it
        return "the card cannot be read"
    if difference is None:
        return "not measured"
    ends = difference.estimate, difference.low, difference.high
    return f"by its own card, {in_points(*ends, unit=' points of balanced accuracy')}"
