"""How the classic models do: wall time of training, label fidelity, and a grid of what they draw.

Each is trained by its own recipe with default settings on the bundled digits. Label fidelity is the share of 1,000
generated images that a classifier, trained on the same real images, assigns to the class that was asked for; what to
compare it with is how often that classifier is right on held-out real images, which the file of results has too. Each
seed has new images and a new classifier; the generator is trained once. Training all took 86 minutes on two cores.

    python recipes/benchmarks/models.py
    python recipes/benchmarks/models.py --models cgan-mlp
    python recipes/benchmarks/models.py --table outputs/models/models.json
"""

from __future__ import annotations

import json
import shutil
import statistics
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from common import Results, fill_and_show, machine, require_known, train_by_recipe

from ganaug import Generator, open_images
from ganaug.cli.flags import run
from ganaug.core.hardware import set_cpu_threads
from ganaug.evaluation import accuracy, label_fidelity, train_classifier
from ganaug.training import CLASSIC_MODELS


@dataclass(frozen=True)
class Arguments:
    """Flags of this benchmark.

    Args:
        models: Which models.
        output_dir: Folder for the runs, the grids and models.json, to which results are added.
        seeds: How many classifiers, each with images of its own.
        classifier_steps: Steps of 128 real images that each classifier is trained for.
        num_images: Generated images per seed.
        table: Train nothing: print the table of this models.json.
    """

    models: tuple[str, ...] = tuple(CLASSIC_MODELS)
    output_dir: Path = Path("outputs/models")
    seeds: int = 3
    classifier_steps: int = 200
    num_images: int = 1000
    table: Path | None = None


def judge(generator: Generator, args: Arguments) -> dict[str, list[float]]:
    """Label fidelity with several classifiers, and how often those are right on held-out real images."""
    train, held_out = (open_images(split=split, resolution=generator.image_size) for split in ("train", "test"))
    found: dict[str, list[float]] = {"label_fidelity": [], "classifier_accuracy": []}
    for seed in range(args.seeds):
        classifier = train_classifier(train, steps=args.classifier_steps, seed=seed)
        fidelity = label_fidelity(generator, classifier, classes=train.classes, num_images=args.num_images, seed=seed)
        found["label_fidelity"].append(fidelity.share)
        found["classifier_accuracy"].append(accuracy(classifier, held_out))
    return found


def train_and_judge(model: str, args: Arguments) -> dict[str, Any]:
    """Train a model by its recipe's own command, and say what came of it."""
    folder = args.output_dir / model
    started = time.perf_counter()
    train_by_recipe(model, "--output_dir", str(folder))
    seconds = time.perf_counter() - started
    generator = Generator.from_pretrained(folder)
    shutil.copyfile(folder / "samples" / "grid.png", args.output_dir / f"{model}.png")
    last = json.loads((folder / "training" / "metrics.jsonl").read_text(encoding="utf-8").splitlines()[-1])
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


def measure(args: Arguments, results: Results) -> Iterator[None]:
    """Train and judge the models one after another; of one that was measured before, the results are replaced."""
    require_known(args.models, CLASSIC_MODELS, "models")
    set_cpu_threads(None)
    for model in args.models:
        results[model] = train_and_judge(model, args)
        yield


def table(results: Results) -> str:
    """Markdown table of results, the models in their order."""
    lines = [
        "| model | data | budget | wall time | label fidelity [range] | D right on 150 real / generated | grid |",
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
            f'<img src="../.images/{model}.png" width="240" alt="images of {model}"> |'
        )
    return "\n".join(lines)


def main(args: Arguments) -> None:
    """Measure, and print the table of all results so far."""
    fill_and_show("models", args, measure, table)


if __name__ == "__main__":
    run(Arguments, main, __doc__)
