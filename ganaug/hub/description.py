"""What a saved generator is, in words, without building it."""

from __future__ import annotations

from pathlib import Path
from typing import cast

from huggingface_hub import ModelCard, ModelCardData

from ganaug.hub.config import read_config
from ganaug.hub.folder import CARD, check
from ganaug.hub.weights import WEIGHTS

_SHOWN = ("total_kimg", "minutes", "device", "chosen_after_kimg", "chosen_score", "seed")


def description(folder: Path, name: str) -> str:
    """Lines that say what a generator is: classes, size, data, training, verdict, and whether its files are sound.

    Args:
        folder (Path): of the generator.
        name (str): what the user called it.

    Raises:
        LoadError: it is none, or would be refused when it is loaded.
    """
    config = read_config(folder)
    check(folder, config)
    image, weights, dataset = config["image"], config["weights"], config["dataset"]
    classes = config["label_names"]
    size = f"{image['size']}x{image['size']} pixels, {'grey' if image['channels'] == 1 else 'RGB'}"
    trained = {key: config["training"][key] for key in _SHOWN if config["training"].get(key) is not None}
    facts = {
        "architecture": f"{config['architecture']}, {weights['num_parameters']:,} parameters",
        "images": size,
        "classes": f"{len(classes)}: {', '.join(classes)}" if classes else "none (unconditional)",
        "trained on": f"{dataset.get('name', 'not recorded')}"
        + (f", {dataset['num_images']:,} images" if "num_images" in dataset else ""),
        "data fingerprint": dataset.get("fingerprint", "not recorded"),
        "training": ", ".join(f"{key} {value}" for key, value in trained.items()) or "not recorded",
        "verdict": _verdict(folder),
        "written by": f"ganaug {config['ganaug_version']}",
        "weights": f"{(folder / WEIGHTS).stat().st_size:,} bytes, SHA-256 {weights['sha256']}",
        "safety": "safetensors alone; names, shapes, types, hash and values are as the config says",
    }
    width = max(map(len, facts))
    return "\n".join([name, *(f"  {key:<{width}}  {value}" for key, value in facts.items())])


def _verdict(folder: Path) -> str:
    """The differences that its card claims."""
    card = folder / CARD
    if not card.is_file():
        return "no card"
    try:
        metadata = cast(ModelCardData, ModelCard(card.read_text(encoding="utf-8")).data)
        values = {str(result.metric_name): 100 * float(result.metric_value) for result in metadata.eval_results or []}
    except (ValueError, TypeError, AttributeError):  # anybody may have written it
        return "the card cannot be read"
    made = "Difference made by generated images"
    names = [made, *(f"{made}, {end} end of its 95 % interval" for end in ("lower", "upper"))]
    if not values.keys() >= set(names):
        return "not measured"
    return "by its own card, {:+.1f} points of balanced accuracy [{:.1f}, {:.1f}]".format(*map(values.get, names))
