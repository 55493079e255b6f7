"""The card of published generated images: that they are synthetic, of which generator, and how many of each class."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from huggingface_hub import DatasetCard

from ganaug.core.errors import InputError
from ganaug.hub.card import UNPUBLISHED
from ganaug.hub.markdown import cell, marks, replaced

if TYPE_CHECKING:
    import datasets

SOURCES = ("real", "generated")  # class names of a source column
_MARKS = marks("dataset")
# Begins the sentence that says where generated images come from.
DRAWN = "Synthetic images in this dataset were drawn by ganaug"
_TAGS = ["ganaug", "synthetic", "data-augmentation"]
_LIMITS = (
    "The label of a synthetic image is the class that was asked for; the image may show another one. Generated images "
    "can repeat or resemble those that their generator was trained on, and adding them to a training set does not "
    "always help: compare against training without them, on real held-out images. Do not judge models by them. What "
    "is known of the generator is on its card."
)


def facts_of(rows: datasets.Dataset) -> tuple[str, dict[str, int]]:
    """What a dataset says of its generated images, and how many images it has of each class.

    Raises:
        InputError: it says nothing, or has no column of classes, or several.
    """
    import datasets

    said = [part for part in (rows.info.description or "").split("\n\n") if part.startswith(DRAWN)]
    if not said:
        raise InputError(
            "the dataset does not say that ganaug generated images in it. Pass the result of generate_dataset or "
            "augment_dataset, or what map and select make of it; others have a push_to_hub of their own"
        )
    classes = {
        name: feature.names
        for name, feature in rows.features.items()
        if isinstance(feature, datasets.ClassLabel) and tuple(feature.names) != SOURCES
    }
    if len(classes) != 1:
        raise InputError(f"the dataset must have one ClassLabel column, found {list(classes) or 'none'}")
    ((column, names),) = classes.items()
    labels = rows.with_format(None)[column][:]
    return " ".join(said), {name: labels.count(k) for k, name in enumerate(names)}


def dataset_card(
    drawn: str,
    counts: Mapping[str, int],
    *,
    source: str = UNPUBLISHED,
    theirs: str | None = None,
    licence: str | None = None,
) -> str:
    """README.md of a dataset with generated images.

    Args:
        drawn (str): where they come from, as of :attr:`ganaug.sampling.ClassSampler.provenance`.
        counts (mapping): {class name: number of images}.
        source (str): what ``load_dataset`` takes.
        theirs (str, optional): README.md as it is, of which our block and our tags are brought up to date, and every
            other word stays.
        licence (str, optional): of the images. Default: as it is

    Raises:
        ValueError: the metadata of ``theirs`` is not valid.
    """
    text = theirs or "---\ntags: []\n---\n\n# Labelled images, synthetic ones among them\n"
    card = DatasetCard(replaced(text, _block(drawn, counts, source), _MARKS))
    card.data["tags"] = list(dict.fromkeys([*(card.data.get("tags") or []), *_TAGS]))
    card.data["task_categories"] = card.data.get("task_categories") or ["image-classification"]
    card.data["license"] = licence or card.data.get("license")
    return str(card)


def _block(drawn: str, counts: Mapping[str, int], source: str) -> str:
    rows = "\n".join(f"| {k} | {cell(name)} | {count:,} |" for k, (name, count) in enumerate(counts.items()))
    return f"""**Synthetic data.** {cell(drawn)}

| label | class | images |
|---|---|---|
{rows}

### Use

```python
from datasets import load_dataset

dataset = load_dataset("{source}", split="train")
```

### Limits

{_LIMITS}"""
