"""Cards, README.md files with metadata in YAML before the text, that anybody may have written."""

from __future__ import annotations

from pathlib import Path
from typing import TypeVar

import yaml
from huggingface_hub import DatasetCard, EvalResult, ModelCard
from huggingface_hub.repocard import REGEX_YAML_BLOCK

from ganaug.core.errors import InputError
from ganaug.core.files import read_bytes
from ganaug.core.text import as_text, in_short
from ganaug.hub.config import MOST_BYTES

_LONGEST, _DEEPEST = 100_000, 20  # characters of metadata, levels in it
_STRINGS = ("library_name", "pipeline_tag", "model_name")  # of a model's card; other fields are passed on as they are

Card = TypeVar("Card", ModelCard, DatasetCard)


def read_card(path: str | Path) -> str:
    """The text of a README.md, whoever wrote it.

    Raises:
        InputError: it cannot be read, is not a file, is too large or is not UTF-8.
    """
    try:
        return read_bytes(path, most=MOST_BYTES).decode("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{path} cannot be read: {in_short(str(error))}") from error


def parsed_card(kind: type[Card], text: str) -> Card:
    """A card from its text.

    Args:
        kind (type): ``ModelCard`` or ``DatasetCard``.
        text (str): of README.md.

    Raises:
        InputError: its metadata is not YAML, is too long or too deep, has a tag or an alias in it, or has a field of
            a wrong type.
    """
    try:
        _check_yaml(text)
        card = kind(text)
        _check_types(card)
    except (yaml.YAMLError, ValueError, TypeError, AttributeError, LookupError, ArithmeticError) as error:
        why = in_short(" ".join(as_text(str(error)).split()))
        raise InputError(
            f"the metadata of README.md, between the lines of ---, cannot be read: {why}. Correct or remove it"
        ) from error
    return card


def _check_yaml(text: str) -> None:
    """Refuse what takes the parser long, or could stand for more than it says."""
    found = REGEX_YAML_BLOCK.search(text)
    metadata = found.group(2) if found else ""
    if len(metadata) > _LONGEST:
        raise ValueError(f"it has {len(metadata):,} characters, and may have at most {_LONGEST:,}")
    depth = 0
    for event in yaml.parse(metadata, Loader=yaml.SafeLoader):
        if isinstance(event, yaml.AliasEvent):
            raise ValueError("it has an alias (*) in it")
        if getattr(event, "tag", None) is not None:
            raise ValueError("it has a tag (!) in it")
        depth += isinstance(event, yaml.CollectionStartEvent) - isinstance(event, yaml.CollectionEndEvent)
        if depth > _DEEPEST:
            raise ValueError(f"it has more than {_DEEPEST} levels")


def _check_types(card: ModelCard | DatasetCard) -> None:
    data = card.data
    for name in ("tags", "datasets", "task_categories"):
        value = data.get(name) or []
        if not all(isinstance(each, str) for each in (value if isinstance(value, list) else [value])):
            raise ValueError(f"{name} must be a string or a list of strings")
    for name in _STRINGS:
        if not isinstance(data.get(name), str | None):
            raise ValueError(f"{name} must be a string")
    results = data.get("eval_results")
    if results is not None and not all(isinstance(each, EvalResult) for each in results):
        raise ValueError("eval_results is no field of a card; results are in model-index")
