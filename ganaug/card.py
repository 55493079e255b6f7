"""The model card: README.md beside a generator's weights."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, cast

from huggingface_hub import EvalResult, ModelCard, ModelCardData

from ganaug.files import write_text
from ganaug.generators.base import Generator

GRID = "samples/grid.png"
_BEGIN, _END = "<!-- ganaug evaluation: begin -->", "<!-- ganaug evaluation: end -->"
_TASK = "Image classification with generated training images (ganaug)"  # marks our entries of the model-index


def model_card(generator: Generator) -> str:
    """README.md of a generator: what it is, a picture, how to use it, what it was trained on, its limits."""
    dataset, training = generator.info["dataset"], generator.info["training"]
    size, channels = generator.image_size, generator.channels
    shape = f"uint8 (10, {channels}, {size}, {size})"
    if generator.conditional:
        title, kind, picture = (
            f"{generator.num_classes} classes, {size}x{size} pixels",
            "class-conditional",
            "generated images, one class per column",
        )
        imports, use = (
            "ConditionalGANAugment, Generator",
            f"images = generator.sample([0] * 10, seed=0)  # {shape}, ten of class 0\n"
            "train = ConditionalGANAugment(dataset, generator, ratio=0.3)",
        )
    else:
        title, kind, picture = f"{size}x{size} pixels", "unconditional", "generated images"
        imports, use = "Generator", f"images = generator.sample([0] * 10, seed=0)  # {shape}"
    header = ModelCardData(
        library_name="ganaug",
        pipeline_tag="unconditional-image-generation",
        tags=["ganaug", generator.architecture, kind, *["data-augmentation"] * generator.conditional],
    ).to_yaml()
    counts = dataset.get("class_counts", {})
    classes = "\n".join(
        f"| {k} | {name} | {counts.get(name, 'not recorded')} |"
        for k, name in enumerate(generator.label_names or counts)
    )
    settings = "\n".join(f"| `{key}` | {value} |" for key, value in training.items()) or "| not recorded | |"
    return f"""---
{header}
---

# {generator.architecture}: {title}

This image generator is {kind} and was trained with ganaug. Nothing in the picture was selected:

![{picture}]({GRID})

## Use

```python
from ganaug import {imports}

generator = Generator.from_pretrained("path/to/this/folder")
{use}
```

## Trained on

{dataset.get("name", "Not recorded")}

| label | class | training images |
|---|---|---|
{classes}

## Training

| setting | value |
|---|---|
{settings}

## Does it help a classifier?

{_BEGIN}
Not measured yet. `recipes/evaluate.py` trains classifiers with and without its images, and writes the verdict here.
{_END}

## Limits

Generated images can repeat or resemble training images, and adding them does not always help a classifier: compare
against training without them, on real held-out images.
"""


def add_verdict(card: str | Path, report: Mapping[str, Any], name: str) -> None:
    """Write the verdict on a generator into its card, and its scores into the card's ``model-index``, good or bad.

    An earlier verdict is replaced. The rest of the card, and results that others entered, stay as they are.

    Args:
        card (str or Path): README.md of the generator.
        report (mapping): of :func:`ganaug.evaluation.report_of`.
        name (str): the generator's, in the report.

    Raises:
        OSError: the card cannot be read or written.
        ValueError: its metadata is not valid.
    """
    loaded = ModelCard(Path(card).read_text(encoding="utf-8"))
    metadata = cast(ModelCardData, loaded.data)
    block = f"{_BEGIN}\n{_verdict_block(report, name)}\n{_END}"
    before, begin, rest = loaded.text.partition(_BEGIN)
    if begin and _END in rest:
        loaded.text = before + block + rest.partition(_END)[2]
    else:
        loaded.text = f"{loaded.text.rstrip()}\n\n## Does it help a classifier?\n\n{block}\n"
    others = [result for result in metadata.eval_results or [] if result.task_name != _TASK]
    metadata.eval_results = others + _eval_results(report, name)
    metadata.model_name = metadata.model_name or name
    write_text(card, str(loaded))


def _verdict_block(report: Mapping[str, Any], name: str) -> str:
    found, data, settings = _of(report, name), report["data"], report["settings"]
    fidelity, copies = found["fidelity"], found["memorization"]
    arms = [arm for arm in report["arms"] if arm["generator"] in (None, name)]
    lowest, least = fidelity["lowest_diversity"], fidelity["lowest_diversity_class"]
    diversity = "Diversity could not be measured."
    if lowest is not None:
        diversity = f"The least diverse class, {least}, has {lowest:.2f} times the diversity of real images."
    rows = "\n".join(f"| {arm['name']} | {arm['mean']:.1%} ± {arm['sd']:.1%} | {_in_points(arm)} |" for arm in arms)
    return f"""**{found["verdict"]["sentence"]}**

Balanced accuracy of `{settings["classifier"]}` on {data["test_images"]:,} held-out real images, trained on
{data["train_images"]:,} real images ({data["name"]}) for {settings["steps"]} steps of
{settings["batch_size"]}: mean and standard deviation over {len(settings["seeds"])} seeds. Ratio and reference were
chosen on other held-out images.

| trained on | balanced accuracy | against `{report["reference"]}`, points [95 % interval] |
|---|---|---|
{rows}

A classifier sees the class that was asked for in {fidelity["label_fidelity"]:.1%} of the generated images. {diversity}
{copies["exact_copies"]:.1%} are exact copies of training images and {copies["near_copies"]:.1%} near ones, of which an
honest generator has about 1 %. {found["leakage"]["note"]}

Measured by ganaug {report["ganaug_version"]} on {report["created"][:10]}."""


def _in_points(arm: Mapping[str, Any]) -> str:
    difference = arm["difference"]
    if difference is None:
        return "reference"
    estimate, low, high = (100 * difference[key] for key in ("estimate", "low", "high"))
    return f"{estimate:+.1f} [{low:+.1f}, {high:+.1f}]"


def _eval_results(report: Mapping[str, Any], name: str) -> list[EvalResult]:
    """Balanced accuracies of the reference, of the primary arm and of generated images alone."""
    found, data = _of(report, name), report["data"]
    scores = {arm["name"]: arm for arm in report["arms"]}
    alone = next(arm for arm in report["arms"] if arm["generator"] == name and arm["ratio"] == 1)
    primary, difference = scores[found["verdict"]["arm"]], found["verdict"]["difference"]
    values = {
        f"Balanced accuracy, {report['reference']} (without generated images)": scores[report["reference"]]["mean"],
        f"Balanced accuracy, {primary['name']}": primary["mean"],
        f"Balanced accuracy, {alone['name']} (CAS)": alone["mean"],
        "Difference made by generated images": difference["estimate"],
        "Difference made by generated images, lower end of its 95 % interval": difference["low"],
        "Difference made by generated images, upper end of its 95 % interval": difference["high"],
    }
    return [
        EvalResult(
            task_type="image-classification",
            task_name=_TASK,
            dataset_type="images",
            dataset_name=data["name"],
            dataset_config=f"{data['train_images']} training images",
            dataset_split="held out",
            metric_type="balanced_accuracy",
            metric_name=metric,
            metric_value=round(value, 4),
        )
        for metric, value in values.items()
    ]


def _of(report: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    found: Mapping[str, Any] = next(each for each in report["generators"] if each["name"] == name)
    return found
