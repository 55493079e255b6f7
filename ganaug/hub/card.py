"""The model card: README.md beside a generator's weights."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any, cast

from huggingface_hub import EvalResult, ModelCard, ModelCardData

from ganaug.core.errors import InputError
from ganaug.core.files import write_text
from ganaug.core.text import as_text, in_points
from ganaug.data import grids
from ganaug.hub.config import ancestors, what_was_set
from ganaug.hub.markdown import cell, code, fenced, inside, marked, marks, prose, replaced
from ganaug.hub.metadata import parsed_card, read_card
from ganaug.hub.registry import SavedGenerator

GRID = "samples/grid.png"
UNPUBLISHED = "path/to/this/folder"
_GENERATOR, _VERDICT = marks("generator"), marks("evaluation")
_QUESTION = "## Does it help a classifier?\n\n"
_TASK = "Image classification with generated training images (ganaug)"  # marks our entries in the model-index
# Our own field of the metadata: the difference that generated images make, which is no metric that the Hub knows.
_DIFFERENCE = "ganaug_difference"
# ganaug 0.1 had it in the model-index, as three metrics of these names.
_OLD = "Difference made by generated images"
_OLD_NAMES = (_OLD, *(f"{_OLD}, {end} end of its 95 % interval" for end in ("lower", "upper")))
_HUB_DATASET = re.compile(r"HF dataset ([\w.-]+/[\w.-]+)@([0-9a-f]{40})")  # in the name of the data
_HUB_MODEL = re.compile(r"([\w.-]+/[\w.-]+)@[0-9a-f]{40}")  # as a generator's origin names it
_UNMEASURED = (
    "Not measured yet. `ganaug evaluate` trains classifiers with and without its images, and writes the verdict here."
)


def model_card(generator: SavedGenerator, weights_sha256: str, *, source: str = UNPUBLISHED) -> str:
    """README.md of a generator: what it is, a picture, how to use it, what it was trained on, and its limits.

    Args:
        generator (Generator): what the card is about.
        weights_sha256 (str): of the file with its weights.
        source (str): folder or Hub id that the example loads it from.
    """
    kind = "class-conditional" if generator.conditional else "unconditional"
    header = ModelCardData(
        library_name="ganaug",
        # The Hub has no task for drawing images of a class. It lists those generators under this one, for the others
        # that draw images need a text or an image to start from; the tag says which kind it is.
        pipeline_tag="unconditional-image-generation",
        datasets=sorted({name for name, _ in _HUB_DATASET.findall(str(generator.info["dataset"].get("name")))})
        or None,
        tags=["ganaug", generator.architecture, kind, *["data-augmentation"] * generator.conditional],
        base_model=_base_model(generator),
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
    """Bring up to date what a card says about its generator, and leave every other word as it is.

    A verdict on other weights is removed. A card without our marks around that block is returned unchanged.

    Args:
        card (str): the present README.md.
        generator, weights_sha256, source: see :func:`model_card`.
    """
    before = inside(card, _GENERATOR)
    if before is None:
        return card
    if weights_sha256 not in before and inside(card, _VERDICT) is not None:
        card = replaced(card, _UNMEASURED, _VERDICT)
        if _TASK in card or _DIFFERENCE in card:
            loaded = parsed_card(ModelCard, card)
            metadata = cast(ModelCardData, loaded.data)
            metadata.eval_results = _of_others(metadata) or None
            metadata.pop(_DIFFERENCE)
            card = str(loaded)
    return replaced(card, _generator_block(generator, weights_sha256, source), _GENERATOR)


def published_card(ours: str, theirs: str | None, *, licence: str | None) -> str:
    """The card to publish: the one on the Hub, with our blocks and our metadata in it.

    A verdict that ganaug 0.1 wrote is published in today's form.

    Args:
        ours (str): README.md of the folder.
        theirs (str, optional): README.md on the Hub, if there is one.
        licence (str, optional): of the generator, for the metadata. Default: the one on the card, if any

    Raises:
        InputError: the metadata of either card is not valid.
    """
    local, card = parsed_card(ModelCard, ours), parsed_card(ModelCard, ours if theirs is None else theirs)
    if theirs is not None:
        for of, title in ((_GENERATOR, ""), (_VERDICT, _QUESTION)):
            block = inside(ours, of)
            if block is not None:
                card.text = replaced(card.text, block, of, title=title)
    metadata, own = cast(ModelCardData, card.data), cast(ModelCardData, local.data)
    metadata.library_name, metadata.pipeline_tag = own.library_name, metadata.pipeline_tag or own.pipeline_tag
    metadata.datasets = own.datasets or metadata.datasets
    metadata.base_model = own.base_model or metadata.base_model
    metadata.tags = list(dict.fromkeys([*(metadata.tags or []), *(own.tags or [])]))
    ours_measured = [result for result in own.eval_results or [] if result.task_name == _TASK]
    metadata[_DIFFERENCE] = _claim(own)
    kept = [result for result in ours_measured if result.metric_name not in _OLD_NAMES]
    metadata.eval_results = [*_of_others(metadata), *kept] or None
    metadata.model_name = metadata.model_name or own.model_name
    metadata.license = licence or metadata.license or own.license
    return str(card)


def _adapted_block(training: Mapping[str, Any]) -> str:
    """What a generator was adapted from, as a section of the card; empty for one that starts from random weights."""
    rows = [f"| {cell(each.name)} | {code(each.weights_sha256)} | {cell(each.data)} |" for each in ancestors(training)]
    if not rows:
        return ""
    return "\n".join(
        [
            "\n### Adapted from\n",
            "It began as the generator in the first row, and each of them as the one in the next row. What they "
            "learned from their images is still in it.\n",
            "| generator | weights, SHA-256 | trained on |",
            "|---|---|---|",
            *rows,
            "",
        ]
    )


def _base_model(generator: SavedGenerator) -> str | None:
    """The repository of the generator that this one was adapted from; None if it has none on the Hub."""
    line = ancestors(generator.info["training"])
    found = _HUB_MODEL.fullmatch(line[0].name) if line else None
    return found[1] if found else None


def _generator_block(generator: SavedGenerator, weights_sha256: str, source: str) -> str:
    dataset, training = generator.info["dataset"], generator.info["training"]
    shape = f"uint8 (10, {generator.channels}, {generator.image_size}, {generator.image_size})"
    if generator.conditional:
        part = f", of {grids.MOST_COLUMNS} classes spread evenly" if generator.num_classes > grids.MOST_COLUMNS else ""
        kind, picture = "class-conditional", f"generated images, one class per column{part}"
        imports, use = (
            "ConditionalGANAugment, Generator",
            f"images = generator.sample([{as_text(generator.label_names[0])!r}] * 10, seed=0)  # {shape}\n"
            "train = ConditionalGANAugment(dataset, generator, ratio=0.3)",
        )
    else:
        kind, picture = "unconditional", "generated images"
        imports, use = "Generator", f"images = generator.sample([0] * 10, seed=0)  # {shape}"
    pin = "" if source == UNPUBLISHED else "  # with @COMMIT it never changes"
    counts = dataset.get("class_counts", {})
    classes = "\n".join(
        f"| {k} | {cell(name)} | {cell(counts.get(name, 'not recorded'))} |"
        for k, name in enumerate(generator.label_names or counts)
    )
    command = f"\n{fenced(training['command'])}\n" if "command" in training else ""
    rows = [f"| {code(key)} | {cell(value)} |" for key, value in what_was_set(training).items() if key != "command"]
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
{_adapted_block(training)}
### Training
{command}
| setting | value |
|---|---|
{settings}

Weights: safetensors, SHA-256 `{weights_sha256}`."""


def _of_others(metadata: ModelCardData) -> list[EvalResult]:
    return [result for result in metadata.eval_results or [] if result.task_name != _TASK]


@dataclass(frozen=True)
class CardDifference:
    """A difference of balanced accuracies, in [-1, 1], and the ends of its 95 % interval."""

    estimate: float
    low: float
    high: float


@dataclass(frozen=True)
class CardArm:
    """One way of training classifiers: its name, mean and standard deviation of balanced accuracy in [0, 1].

    They are over so many ``trainings``, as is the mean ``accuracy``. ``difference`` is to the reference, and None for
    the reference itself.
    """

    name: str
    mean: float
    sd: float
    accuracy: float
    trainings: int
    difference: CardDifference | None


@dataclass(frozen=True)
class CardClass:
    """What is known of a class.

    Attributes:
        name (str): of the class.
        reference_recall, primary_recall (float): shares of its held-out images that classifiers find, trained without
            and with generated images.
        label_fidelity (float): share of its generated images in which a classifier sees it.
        diversity (float, optional): of its generated images, relative to real ones; None if it could not be measured.
    """

    name: str
    reference_recall: float
    primary_recall: float
    label_fidelity: float
    diversity: float | None


@dataclass(frozen=True)
class CardVerdict:
    """What a card says about whether a generator's images help a classifier.

    Attributes:
        generator (str): its name.
        sentence (str): the verdict in one line.
        covers (str): what its interval covers, in a sentence.
        arms (tuple of CardArm): the ways of training that were judged, for the table.
        reference, primary, generated_only (CardArm): the best one without generated images, the one with them that
            the verdict is about, and the one with nothing else.
        difference (CardDifference): of ``primary`` to ``reference``.
        data (str): name of the real images.
        train_images, test_images (int): how many of them trained the classifiers, and judged them.
        classifier (str): its name.
        steps, batch_size (int): how each classifier of the reference and of ``primary`` was trained.
        label_fidelity, real_label_fidelity (float): shares of generated and of real images in which a classifier sees
            the right class.
        lowest_diversity (float, optional), lowest_diversity_class (str, optional): of the least diverse class,
            relative to real images.
        classes (tuple of CardClass): what is known of each.
        exact_copies, near_copies (float): shares of the generated images.
        varied (bool): whether these are variations of training images.
        leakage (str): what is known about held-out images that the generator saw, in a sentence.
        left_out (str): how many held-out images of how many were left out as copies, in a sentence.
        ganaug_version (str): that measured it.
        created (str): when, ISO 8601.
    """

    generator: str
    sentence: str
    covers: str
    arms: tuple[CardArm, ...]
    reference: CardArm
    primary: CardArm
    generated_only: CardArm
    difference: CardDifference
    data: str
    train_images: int
    test_images: int
    classifier: str
    steps: int
    batch_size: int
    label_fidelity: float
    real_label_fidelity: float
    lowest_diversity: float | None
    lowest_diversity_class: str | None
    classes: tuple[CardClass, ...]
    exact_copies: float
    near_copies: float
    varied: bool
    leakage: str
    left_out: str
    ganaug_version: str
    created: str


def write_verdict(card: str | Path, verdict: CardVerdict) -> None:
    """Write the verdict on a generator into its card, and its scores into the card's ``model-index``, good or bad.

    An earlier verdict is replaced. The rest of the card stays, and so do results that others entered.

    Args:
        card (str or Path): README.md of the generator.
        verdict (CardVerdict): what to write.

    Raises:
        OSError: the card cannot be written.
        InputError: the card cannot be read, or its metadata is not valid.
    """
    loaded = parsed_card(ModelCard, read_card(card))
    metadata = cast(ModelCardData, loaded.data)
    loaded.text = replaced(loaded.text, _verdict_block(verdict), _VERDICT, title=_QUESTION)
    metadata.eval_results = [*_of_others(metadata), *_results(verdict)]
    metadata[_DIFFERENCE] = {end: round(value, 4) for end, value in asdict(verdict.difference).items()}
    metadata.model_name = metadata.model_name or verdict.generator
    write_text(card, str(loaded))


def _results(verdict: CardVerdict) -> list[EvalResult]:
    """The model-index: accuracies that classifiers reach with generated images, without them, and on them alone.

    Metrics are those of https://hf.co/metrics. Balanced accuracy is recall, averaged over the classes.
    """
    on_hub = _HUB_DATASET.search(verdict.data)
    arms = {
        f"{verdict.primary.name} (with generated images)": verdict.primary,
        f"{verdict.reference.name} (without generated images)": verdict.reference,
        f"{verdict.generated_only.name} (CAS)": verdict.generated_only,
    }
    return [
        EvalResult(
            task_type="image-classification",
            task_name=_TASK,
            dataset_type=on_hub[1] if on_hub else "images",
            dataset_name=verdict.data,
            dataset_revision=on_hub[2] if on_hub else None,
            dataset_config=f"{verdict.train_images} training images",
            dataset_split="held out",
            metric_type=metric,
            metric_args=args,
            metric_name=f"{title}, {name}",
            metric_value=round(value, 4),
        )
        for name, arm in arms.items()
        for metric, args, title, value in (
            ("accuracy", None, "Accuracy", arm.accuracy),
            ("recall", {"average": "macro"}, "Balanced accuracy", arm.mean),
        )
    ]


def claimed_difference(card: str) -> CardDifference | None:
    """The difference that the metadata of a card claims; None if the card has no such claim.

    Args:
        card (str): a README.md, whoever wrote it.

    Raises:
        InputError: its metadata cannot be read, or claims what cannot be.
    """
    claim = _claim(cast(ModelCardData, parsed_card(ModelCard, card).data))
    if claim is None:
        return None
    names = [field.name for field in fields(CardDifference)]
    values: list[Any] = [claim.get(name) for name in names] if isinstance(claim, dict) else [None]
    if not all(type(value) in (int, float) and -1 <= value <= 1 for value in values):
        raise InputError(f"{_DIFFERENCE} must have {', '.join(names)}, three numbers from -1 to 1")
    return CardDifference(*map(float, values))


def _claim(metadata: ModelCardData) -> Any:
    """The difference that metadata claim, whatever they say, in today's form; None if they claim none."""
    if (claim := metadata.get(_DIFFERENCE)) is not None:
        return claim
    values = {str(result.metric_name): result.metric_value for result in metadata.eval_results or []}
    if not values.keys() >= set(_OLD_NAMES):
        return None
    return {field.name: values[old] for field, old in zip(fields(CardDifference), _OLD_NAMES, strict=True)}


def _verdict_block(verdict: CardVerdict) -> str:
    rows = "\n".join(
        f"| {cell(arm.name)} | {arm.mean:.1%} ± {arm.sd:.1%} | {_in_points(arm.difference)} | {arm.trainings} |"
        for arm in verdict.arms
    )
    classes = "\n".join(
        f"| {cell(each.name)} | {each.reference_recall:.1%} | {each.primary_recall:.1%} | {each.label_fidelity:.1%} | "
        f"{'not measured' if each.diversity is None else f'{each.diversity:.2f}'} |"
        for each in verdict.classes
    )
    diversity = "Diversity could not be measured."
    if verdict.lowest_diversity is not None:
        diversity = (
            f"The least diverse class, {cell(verdict.lowest_diversity_class)}, has "
            f"{verdict.lowest_diversity:.2f} times the diversity of real images."
        )
    usual = (
        "; all generated images are variations of these"
        if verdict.varied
        else ", of which an honest generator has about 1 %"
    )
    return f"""**{prose(verdict.sentence)}**

Balanced accuracy of {code(verdict.classifier)} on {verdict.test_images:,} held-out real images, trained on
{verdict.train_images:,} real images ({prose(verdict.data)}) for {verdict.steps} steps of
{verdict.batch_size} images: mean and standard deviation of the trainings. Ratio and reference were chosen by other
trainings, on other held-out images. {prose(verdict.covers)}

| trained on | balanced accuracy | against {code(verdict.reference.name)}, points [95 % interval] | trainings |
|---|---|---|---|
{rows}

A classifier trained on the real training images sees the class that was asked for in
{verdict.label_fidelity:.1%} of the generated images; of real held-out images it sees the class of
{verdict.real_label_fidelity:.1%}. {diversity}
{verdict.exact_copies:.1%} are exact copies of training images and {verdict.near_copies:.1%} near
ones{usual}. {prose(verdict.leakage)} {prose(verdict.left_out)}

<details><summary>Class by class</summary>

Recall: share of the class's held-out images that classifiers find, trained without generated images and with them.
Label fidelity: share of its generated images in which a classifier sees it. Diversity: relative to real images.

| class | recall without | recall with | label fidelity | diversity |
|---|---|---|---|---|
{classes}

</details>

Measured by ganaug {verdict.ganaug_version} on {verdict.created[:10]}."""


def _in_points(difference: CardDifference | None) -> str:
    if difference is None:
        return "reference"
    return in_points(difference.estimate, difference.low, difference.high)
