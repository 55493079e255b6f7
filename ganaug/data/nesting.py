"""Datasets inside datasets: subsets, concatenations, and wrappers of all kinds."""

from __future__ import annotations

import inspect
from collections.abc import Iterator, Sized
from contextlib import suppress
from typing import Any, cast

from torch.utils.data import ConcatDataset, Dataset, Subset

_ABSENT = object()
_PARTS = 1000  # a longer list is one of labels or file names, not of datasets
_STATED = ("classes", "class_to_idx", "targets", "labels")


def own(dataset: Any, name: str) -> Any:
    """An attribute that a dataset or its class has itself, not one that ``__getattr__`` passes on; None if absent."""
    return None if inspect.getattr_static(dataset, name, _ABSENT) is _ABSENT else getattr(dataset, name, None)


def stored(dataset: Any) -> dict[str, Any]:
    """The attributes that are stored in a dataset itself, in its ``__dict__`` or in slots."""
    found = dict(getattr(dataset, "__dict__", {}))
    for cls in type(dataset).__mro__:
        for name, slot in vars(cls).items():
            if inspect.ismemberdescriptor(slot):
                with suppress(AttributeError):  # of an empty slot
                    found[name] = slot.__get__(dataset)
    return found


def store(dataset: Any, name: str, value: Any) -> None:
    """Set an attribute where :func:`stored` finds it, past the dataset's own code, which may pass it on."""
    slot = inspect.getattr_static(type(dataset), name, None)
    if inspect.ismemberdescriptor(slot):
        slot.__set__(dataset, value)  # type: ignore[attr-defined]
    else:
        vars(dataset)[name] = value


def inside(dataset: Any) -> list[Any]:
    """The datasets that a dataset holds in its attributes, alone or in a list, tuple or dict."""
    found: list[Any] = []
    for value in stored(dataset).values():
        if not isinstance(value, list | tuple | dict):
            found.append(value)
        elif len(value) <= _PARTS:
            found += value.values() if isinstance(value, dict) else value
    found = [each for each in found if _is_dataset(each)]
    return list({id(each): each for each in found}.values())


def everything_inside(dataset: Any) -> Iterator[Any]:
    """A dataset and all those inside it, at any depth, each once."""
    waiting, seen = [dataset], set[int]()
    while waiting:
        current = waiting.pop(0)
        if id(current) not in seen:
            seen.add(id(current))
            yield current
            waiting += inside(current)


def base_dataset(dataset: Any) -> Any:
    """The dataset inside all ``Subset`` layers."""
    while isinstance(dataset, Subset):
        dataset = dataset.dataset
    return dataset


def is_plain(dataset: Any, kind: type[Dataset[Any]]) -> bool:
    """Whether a dataset is a ``Subset`` or ``ConcatDataset`` (the ``kind``) that passes on items as they are."""
    return isinstance(dataset, kind) and all(
        getattr(type(dataset), name, None) is getattr(kind, name, None) for name in ("__getitem__", "__getitems__")
    )


def leaves(dataset: Any) -> list[Any]:
    """The datasets whose items plain subsets and concatenations pass on, each once; empty ones are left out."""
    if is_plain(dataset, Subset):
        return leaves(dataset.dataset)
    if is_plain(dataset, ConcatDataset):
        found = [leaf for part in dataset.datasets if len(part) for leaf in leaves(part)]
        return list({id(leaf): leaf for leaf in found}.values())
    return [dataset]


def locate(dataset: Any, index: int) -> tuple[Any, int]:
    """The leaf that an item comes from, and its index there."""
    while True:
        if is_plain(dataset, Subset):
            dataset, index = dataset.dataset, dataset.indices[index]
        elif is_plain(dataset, ConcatDataset):
            for part in dataset.datasets:
                if index < len(part):
                    break
                index -= len(part)
            dataset = part
        else:
            return dataset, int(index)


def part_starts(dataset: Any) -> list[int]:
    """Index of the first item of each part of a plain concatenation but the first; empty for other datasets."""
    sizes = dataset.cumulative_sizes if is_plain(dataset, ConcatDataset) else [0]
    return [start for start in sizes[:-1] if start < sizes[-1]]


def wrapped(dataset: Any) -> Any:
    """The one dataset inside whose items a wrapper's correspond to, one to one and in order; None if there is none."""
    size = len(cast(Sized, dataset))
    if isinstance(dataset, Subset):
        return Subset(dataset.dataset, dataset.indices) if size == len(dataset.indices) else None
    found = [each for each in inside(dataset) if isinstance(each, Sized) and len(each) == size]
    # One that refers back to the wrapper, as a part to its whole, is not inside it.
    found = [each for each in found if all(other is not dataset for other in everything_inside(each))]
    return found[0] if len(found) == 1 else None


def read_batch(dataset: Any, indices: list[int]) -> list[Any]:
    """The items at ``indices``, in one call where that gives the same as reading them one by one.

    A class that overrides ``__getitem__`` but not the ``__getitems__`` it inherits is read one by one. So is one that
    passes on ``__getitems__`` by ``__getattr__``, in a subset too: that of the dataset inside does not change items.
    """
    while is_plain(dataset, Subset):
        dataset, indices = dataset.dataset, [dataset.indices[index] for index in indices]
    return list(dataset.__getitems__(indices)) if reads_batches(dataset) else [dataset[index] for index in indices]


def reads_batches(dataset: Any) -> bool:
    """Whether :func:`read_batch` reads a batch in one call of a dataset's own code."""
    while is_plain(dataset, Subset):
        dataset = dataset.dataset
    for cls in type(dataset).__mro__:
        if "__getitems__" in vars(cls) or "__getitem__" in vars(cls):
            return callable(vars(cls).get("__getitems__"))
    return False


def _is_dataset(value: Any) -> bool:
    """Whether a value is a dataset: of torch, of Hugging Face, or another map-style object that says what it has."""
    if isinstance(value, Dataset):
        return True
    indexable = hasattr(type(value), "__getitem__") and hasattr(type(value), "__len__")
    if not indexable or callable(value):
        return False
    of_hugging_face = type(value).__module__.partition(".")[0] == "datasets"
    return of_hugging_face or any(name in getattr(value, "__dict__", ()) for name in _STATED)
