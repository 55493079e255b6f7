"""Train the classic systems as their recipes do, and measure what they draw: wall time, label fidelity, a grid.

Each is trained by its own command with default settings on the bundled digits. Label fidelity is the share of 1,000
generated images that a classifier trained on the same real images assigns to the class that was asked for; images and
classifier are drawn anew for every seed, the generator is trained once.

    python recipes/benchmark_systems.py                          # all of them
    python recipes/benchmark_systems.py --models cgan-mlp
    python recipes/benchmark_systems.py --table outputs/systems/systems.json
"""

from __future__ import annotations

import json
import shutil
import statistics
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from launching import train_by_recipe
from results import machine

from ganaug import Generator, InputError, open_images
from ganaug.cli.flags import run
from ganaug.core.files import write_json
from ganaug.core.hardware import set_cpu_threads
from ganaug.evaluation import accuracy, label_fidelity, train_classifier
from ganaug.training import CLASSIC_MODELS


@dataclass(frozen=True)
class Arguments:
    """Flags of this benchmark.

    Args:
        models: Which systems.
        output_dir: Folder for the runs, the grids and systems.json, to which results are added.
        seeds: How many classifiers, each with images of its own.
        classifier_steps: Steps of 128 real images that each classifier is trained for.
        num_images: Generated images per seed.
        table: Train nothing: print the table of this systems.json.
    """

    models: tuple[str, ...] = tuple(CLASSIC_MODELS)
    output_dir: Path = Path("outputs/systems")
    seeds: int = 3
    classifier_steps: int = 200
    num_images: int = 1000
    table: Path | None = None


def train_one(model: str, folder: Path) -> float:
    """Train by the recipe's own command; returns its wall time in seconds."""
    started = time.perf_counter()
    train_by_recipe(f"train_{model.split('-')[0]}", "--model", model, "--output_dir", str(folder))
    return time.perf_counter() - started


def judge(generator: Generator, args: Arguments) -> dict[str, list[float]]:
    """Label fidelity with several classifiers, and how often those are right on held-out real images."""
    train, held_out = (open_images(split=split, resolution=generator.image_size) for split in ("train", "test"))
    found: dict[str, list[float]] = {"label_fidelity": [], "classifier_accuracy": []}
    for seed in range(args.seeds):
        classifier = train_classifier(train, steps=args.classifier_steps, seed=seed)
        fidelity = label_fidelity(generator, classifier, num_images=args.num_images, seed=seed)
        found["label_fidelity"].append(fidelity.share)
        found["classifier_accuracy"].append(accuracy(classifier, held_out))
    return found


def measure(model: str, args: Arguments) -> dict[str, Any]:
    """Train a system and judge it."""
    folder = args.output_dir / model
    seconds = train_one(model, folder)
    generator = Generator.from_pretrained(folder)
    shutil.copyfile(folder / "samples" / "grid.png", args.output_dir / f"{model}.png")
    last = json.loads((folder / "training" / "metrics.jsonl").read_text().splitlines()[-1])
    dataset, training = generator.info["dataset"], generator.info["training"]
    return {
        "data": f"{dataset['num_images']:,} MNIST digits, {generator.image_size}x{generator.image_size}",
        "kimg": training["total_kimg"],
        "batch_size": training["train_batch_size"],
        "precision": training["mixed_precision"],
        "device": training["device"],
        "seed": training["seed"],
        "wall_seconds": round(seconds, 1),
        "accuracy_on_150": [last["evaluated_accuracy_real"], last["evaluated_accuracy_fake"]],
        "machine": machine(),
        **(judge(generator, args) if generator.conditional else {}),
    }


def table(results: dict[str, dict[str, Any]]) -> str:
    """Markdown table of results, the systems in their order."""
    lines = [
        "| system | data | budget | wall time | label fidelity [range] | D right on 150 real / generated | grid |",
        "|---|---|---|---|---|---|---|",
    ]
    for model in (model for model in CLASSIC_MODELS if model in results):
        row = results[model]
        shares = row.get("label_fidelity")
        fidelity = (
            f"**{statistics.mean(shares):.1%}** [{min(shares):.1%}, {max(shares):.1%}]"
            if shares
            else "not applicable: unconditional"
        )
        real, fake = row["accuracy_on_150"]
        lines.append(
            f"| `{model}` | {row['data']} | {row['kimg']:g} kimg, batch {row['batch_size']} | "
            f"{row['wall_seconds'] / 60:.1f} min | {fidelity} | {real:.0%} / {fake:.0%} | "
            f'<img src=".images/{model}.png" width="240" alt="images of {model}"> |'
        )
    return "\n".join(lines)


def main(args: Arguments) -> None:
    """Measure the systems one after another, and print the table of all results so far."""
    path = args.table or args.output_dir / "systems.json"
    results = json.loads(path.read_text()) if path.exists() or args.table else {}
    if not args.table:
        unknown = [model for model in args.models if model not in CLASSIC_MODELS]
        if unknown:
            raise InputError(f"models must be of {', '.join(CLASSIC_MODELS)}; got {unknown[0]}")
        set_cpu_threads(None)
        for model in args.models:
            results[model] = measure(model, args)
            write_json(path, results)
    print(table(results))


if __name__ == "__main__":
    run(Arguments, main, __doc__)
