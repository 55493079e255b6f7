"""The model card: README.md beside a generator's weights."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, cast

from huggingface_hub import EvalResult, ModelCard, ModelCardData

from ganaug.core.files import write_text
from ganaug.core.text import as_text
from ganaug.hub.markdown import cell, inside, marked, marks, replaced
from ganaug.hub.registry import SavedGenerator

GRID = "samples/grid.png"
UNPUBLISHED = "path/to/this/folder"
_GENERATOR, _VERDICT = marks("generator"), marks("evaluation")
_QUESTION = "## Does it help a classifier?\n\n"
_TASK = "Image classification with generated training images (ganaug)"  # marks our entries of the model-index
_HUB_DATASET = re.compile(r"HF dataset ([\w.-]+/[\w.-]+)@[0-9a-f]{40}")  # in the name of the data
_UNMEASURED = (
    "Not measured yet. `ganaug evaluate` trains classifiers with and without its images, and writes the verdict here."
)


def model_card(generator: SavedGenerator, weights_sha256: str, *, source: str = UNPUBLISHED) -> str:
    """README.md of a generator: what it is, a picture, how to use it, what it was trained on, its limits.

    Args:
        generator (Generator): what it is about.
        weights_sha256 (str): of its weights' file.
        source (str): folder or Hub id to load it from, in the lines that say how.
    """
    kind = "class-conditional" if generator.conditional else "unconditional"
    header = ModelCardData(
        library_name="ganaug",
        pipeline_tag="unconditional-image-generation",
        datasets=sorted(set(_HUB_DATASET.findall(str(generator.info["dataset"].get("name"))))) or None,
        tags=["ganaug", generator.architecture, kind, *["data-augmentation"] * generator.conditional],
    ).to_yaml()
    size = f"{generator.image_size}x{generator.image_size} pixels"
    title = f"{generator.num_classes} classes, {size}" if generator.conditional else size
    return f"""---
{header}
---

# {generator.architecture}: {title}

{marked(_generator_block(generator, weights_sha256, source), _GENERATOR)}

{_QUESTION}{marked(_UNMEASURED, _VERDICT)}

## Limits

Generated images can repeat or resemble training images, and adding them does not always help a classifier: compare
against training without them, on real held-out images.
"""


def updated_card(card: str, generator: SavedGenerator, weights_sha256: str, *, source: str = UNPUBLISHED) -> str:
    """A card with what it says of the generator brought up to date, and every other word as it was.

    A verdict on other weights is taken out. A card without the marks around that block stays as it is.

    Args:
        card (str): README.md as it is.
        generator, weights_sha256, source: as of :func:`model_card`.
    """
    before = inside(card, _GENERATOR)
    if before is None:
        return card
    if weights_sha256 not in before and inside(card, _VERDICT) is not None:
        card = replaced(card, _UNMEASURED, _VERDICT)
        if _TASK in card:
            loaded = ModelCard(card)
            metadata = cast(ModelCardData, loaded.data)
            metadata.eval_results = _of_others(metadata) or None
            card = str(loaded)
    return replaced(card, _generator_block(generator, weights_sha256, source), _GENERATOR)


def published_card(ours: str, theirs: str | None, *, licence: str | None) -> str:
    """The card to publish: the blocks and metadata of ours, in the words that are on the Hub already.

    Args:
        ours (str): README.md of the folder.
        theirs (str, optional): README.md on the Hub, if there is one.
        licence (str, optional): of the generator, for the metadata. Default: as it is

    Raises:
        ValueError: the metadata of one is not valid.
    """
    local, card = ModelCard(ours), ModelCard(ours if theirs is None else theirs)
    if theirs is not None:
        for of, title in ((_GENERATOR, ""), (_VERDICT, _QUESTION)):
            block = inside(ours, of)
            if block is not None:
                card.text = replaced(card.text, block, of, title=title)
    metadata, own = cast(ModelCardData, card.data), cast(ModelCardData, local.data)
    metadata.library_name, metadata.pipeline_tag = own.library_name, metadata.pipeline_tag or own.pipeline_tag
    metadata.datasets = own.datasets or metadata.datasets
    metadata.tags = list(dict.fromkeys([*(metadata.tags or []), *(own.tags or [])]))
    ours_measured = [result for result in own.eval_results or [] if result.task_name == _TASK]
    metadata.eval_results = [*_of_others(metadata), *ours_measured] or None
    metadata.model_name = metadata.model_name or own.model_name
    metadata.license = licence or metadata.license or own.license
    return str(card)


def _generator_block(generator: SavedGenerator, weights_sha256: str, source: str) -> str:
    dataset, training = generator.info["dataset"], generator.info["training"]
    shape = f"uint8 (10, {generator.channels}, {generator.image_size}, {generator.image_size})"
    if generator.conditional:
        kind, picture = "class-conditional", "generated images, one class per column"
        imports, use = (
            "ConditionalGANAugment, Generator",
            f"images = generator.sample([0] * 10, seed=0)  # {shape}, ten of class 0\n"
            "train = ConditionalGANAugment(dataset, generator, ratio=0.3)",
        )
    else:
        kind, picture = "unconditional", "generated images"
        imports, use = "Generator", f"images = generator.sample([0] * 10, seed=0)  # {shape}"
    pin = "" if source == UNPUBLISHED else "  # with @COMMIT it never changes"
    counts = dataset.get("class_counts", {})
    classes = "\n".join(
        f"| {k} | {cell(name)} | {counts.get(name, 'not recorded')} |"
        for k, name in enumerate(generator.label_names or counts)
    )
    command = f"\n```\n{as_text(training['command'])}\n```\n" if "command" in training else ""
    rows = [f"| `{key}` | {cell(value)} |" for key, value in training.items() if key != "command"]
    settings = "\n".join(rows) or "| not recorded | |"
    return f"""This image generator is {kind} and was trained with ganaug. Nothing in the picture was selected:

![{picture}]({GRID})

### Use

```python
from ganaug import {imports}

generator = Generator.from_pretrained("{source}"){pin}
{use}
```

### Trained on

{cell(dataset.get("name", "Not recorded"))}

| label | class | training images |
|---|---|---|
{classes}

### Training
{command}
| setting | value |
|---|---|
{settings}

Weights: safetensors, SHA-256 `{weights_sha256}`."""


def _of_others(metadata: ModelCardData) -> list[EvalResult]:
    return [result for result in metadata.eval_results or [] if result.task_name != _TASK]


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
    loaded.text = replaced(loaded.text, _verdict_block(report, name), _VERDICT, title=_QUESTION)
    metadata.eval_results = _of_others(metadata) + _eval_results(report, name)
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

A classifier trained on the real training images sees the class that was asked for in
{fidelity["label_fidelity"]:.1%} of the generated images; of real held-out images it sees the class of
{fidelity["real_label_fidelity"]:.1%}. {diversity}
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
