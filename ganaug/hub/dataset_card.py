"""The card of a dataset with generated images: says that they are synthetic, who drew them, and counts the classes."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from types import NoneType
from typing import TYPE_CHECKING

from huggingface_hub import DatasetCard

from ganaug.core.errors import InputError
from ganaug.data.huggingface import SOURCES
from ganaug.hub.card import UNPUBLISHED
from ganaug.hub.markdown import cell, marks, replaced
from ganaug.hub.metadata import parsed_card
from ganaug.hub.strict_json import strict_json

if TYPE_CHECKING:
    import datasets

_MARKS = marks("dataset")
_DRAWN = "Synthetic images in this dataset were drawn by ganaug"  # begins the sentence that says where they come from
_KEY = "ganaug_provenance"  # of the JSON object that says the same
_TAGS = ["ganaug", "synthetic", "data-augmentation"]
_LIMITS = (
    "The label of a synthetic image is the class that was asked for; the image may show another one. Generated images "
    "can repeat or resemble those that their generator was trained on, and adding them to a training set does not "
    "always help: compare against training without them, on real held-out images. Do not judge models by them. What "
    "is known of the generator is on its card."
)


@dataclass(frozen=True)
class Provenance:
    """Where generated images in a dataset come from.

    Attributes:
        ganaug_version (str): that drew them.
        generator (str, optional): ``"user/repo@commit"`` on the Hub; None for one that is not from there.
        architecture (str): of the generator; for one that was never saved, the name of its class.
        weights_sha256 (str, optional): of the file with its weights; None if it was never saved.
        seed (int): in [0, 2**64).
        filtered (bool): whether images that a filter refused were replaced.
        vary (float, optional): strength at which real images were varied; None for images drawn from noise alone.
    """

    ganaug_version: str
    generator: str | None
    architecture: str
    weights_sha256: str | None
    seed: int
    filtered: bool
    vary: float | None = None

    @property
    def sentence(self) -> str:
        """All of this in a sentence, for people."""
        if self.weights_sha256 is None:
            generator = f"a generator that was not saved ({self.architecture})"
        else:
            which = f"the generator {self.generator}" if self.generator else "a generator that is not on the Hub"
            generator = f"{which} ({self.architecture}, SHA-256 of its weights {self.weights_sha256})"
        refused = ", and those that a filter refused were replaced" * self.filtered
        varied = "" if self.vary is None else f", as variations of real images at strength {self.vary:g}"
        return f"{_DRAWN} {self.ganaug_version} with {generator}, seed {self.seed}{varied}{refused}."

    @property
    def description(self) -> str:
        """Two paragraphs for a dataset's description: the sentence, and a line of JSON with the same data."""
        data = {name: value for name, value in asdict(self).items() if name != "vary" or value is not None}
        return f"{self.sentence}\n\n{json.dumps({_KEY: data})}"


@dataclass(frozen=True)
class DatasetFacts:
    """What the card of a dataset with generated images says.

    Attributes:
        drawn (tuple): where the images come from, as :class:`Provenance`; as a sentence for what ganaug 0.1 drew.
        counts (dict): class name to number of images, generated or not.
    """

    drawn: tuple[Provenance | str, ...]
    counts: Mapping[str, int]


def provenance_in(description: str) -> tuple[Provenance | str, ...]:
    """Read what a dataset's description says about generated images, each statement once.

    ``map`` and ``select`` keep a description; ``concatenate_datasets`` puts several below one another.
    """
    paragraphs = description.split("\n\n")
    read = {paragraph: _read(paragraph) for paragraph in paragraphs}
    sentences = {provenance.sentence for provenance in read.values() if provenance is not None}
    # ganaug 0.1 wrote the sentence alone. Those datasets can still be published: the sentence is taken as it is.
    said = [
        read[paragraph] or paragraph
        for paragraph in paragraphs
        if read[paragraph] or (paragraph.startswith(_DRAWN) and paragraph not in sentences)
    ]
    return tuple(dict.fromkeys(said))


def _read(paragraph: str) -> Provenance | None:
    """Provenance from a line of JSON that anybody may have written; None if it is anything else."""
    try:
        found = Provenance(**strict_json(paragraph.encode())[_KEY])
    except (ValueError, TypeError, KeyError):
        return None
    wanted = {
        "ganaug_version": (str,),
        "generator": (str, NoneType),
        "architecture": (str,),
        "weights_sha256": (str, NoneType),
        "seed": (int,),
        "filtered": (bool,),
        "vary": (float, NoneType),
    }
    return found if all(type(getattr(found, name)) in kinds for name, kinds in wanted.items()) else None


def facts_of(rows: datasets.Dataset) -> DatasetFacts:
    """What a dataset says of its generated images, and how many images it has of each class.

    Raises:
        InputError: it does not say that it has generated images, or does not have exactly one column of classes.
    """
    import datasets

    drawn = provenance_in(rows.info.description or "")
    if not drawn:
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
    return DatasetFacts(drawn, {name: labels.count(k) for k, name in enumerate(names)})


def dataset_card(
    facts: DatasetFacts, *, source: str = UNPUBLISHED, theirs: str | None = None, licence: str | None = None
) -> str:
    """README.md of a dataset with generated images.

    Args:
        facts (DatasetFacts): what it says.
        source (str): what ``load_dataset`` takes.
        theirs (str, optional): the present README.md. Our block and our tags in it are brought up to date, and every
            other word stays.
        licence (str, optional): of the images. Default: the one on the card, if any

    Raises:
        InputError: the metadata of ``theirs`` is not valid.
    """
    sentences = [each if isinstance(each, str) else each.sentence for each in facts.drawn]
    rows = "\n".join(f"| {k} | {cell(name)} | {count:,} |" for k, (name, count) in enumerate(facts.counts.items()))
    block = f"""**Synthetic data.** {cell(" ".join(sentences))}

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
    text = theirs or "---\ntags: []\n---\n\n# Labelled images, synthetic ones among them\n"
    card = parsed_card(DatasetCard, replaced(text, block, _MARKS))
    tags = card.data.get("tags") or []
    card.data["tags"] = list(dict.fromkeys([*([tags] if isinstance(tags, str) else tags), *_TAGS]))
    card.data["task_categories"] = card.data.get("task_categories") or ["image-classification"]
    card.data["license"] = licence or card.data.get("license")
    return str(card)
