"""Lists of labels and of class names that datasets state, which may or may not be those of their items."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, KeysView, Mapping, Sequence, Set
from dataclasses import dataclass, replace
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import ConcatDataset, Subset, TensorDataset

from ganaug.data.label_form import class_index, unnamed
from ganaug.data.nesting import inside, is_plain, own, wrapped

_SOME = 64  # items that are looked at besides the first one of each class


@dataclass(frozen=True)
class LabelList:
    """Labels of all items of a dataset, as one of its attributes states them.

    Attributes:
        labels (Tensor): int64 (N,).
        names (tuple of str): label k is ``names[k]``, where the list has names in place of numbers; else empty.
        where (str): what states them, in words.
        must_hold (bool): whether the dataset contradicts itself if its items have other labels.
    """

    labels: Tensor
    names: tuple[str, ...]
    where: str
    must_hold: bool


def label_lists(dataset: Any) -> list[LabelList]:
    """All lists of the labels of a dataset's items, likeliest first: its own, then those of datasets inside.

    A list of a dataset inside need not be that of a wrapper, which may change labels.
    """
    if is_plain(dataset, Subset):
        indices = torch.as_tensor(dataset.indices, dtype=torch.int64)
        return [replace(found, labels=found.labels[indices]) for found in label_lists(dataset.dataset)]
    if is_plain(dataset, ConcatDataset):
        likeliest = [label_lists(part)[:1] for part in dataset.datasets if len(part)]
        firsts = [found for lists in likeliest for found in lists]
        if not all(likeliest) or len({found.names for found in firsts}) > 1:
            return []
        return [
            LabelList(
                torch.cat([found.labels for found in firsts]),
                firsts[0].names,
                f"the lists of the parts of {type(dataset).__name__}",
                all(found.must_hold for found in firsts),
            )
        ]

    name = type(dataset).__name__
    if columns := class_label_columns(dataset):
        return [
            LabelList(labels, (), f"values of the column {column} of {name}", must_hold=False)
            for column in columns
            if (labels := labels_in_column(dataset, column)) is not None
        ]
    explained = bool(inside(dataset))  # a wrapper may have copied the list of the dataset inside
    stated = [(own(dataset, each), f"{each} of {name}", not explained) for each in ("targets", "labels")]
    stated.append((own(dataset, "_labels"), f"_labels of {name}", False))
    if isinstance(dataset, TensorDataset) and len(dataset.tensors) == 2:
        stated.insert(0, (dataset.tensors[1], f"values of the second tensor of {name}", False))
    # What __getattr__ passes on belongs to another dataset.
    passed_on = [each for each in ("targets", "labels") if own(dataset, each) is None]
    stated += [(getattr(dataset, each, None), f"{each} inside {name}", False) for each in passed_on]
    lists = []
    try:
        names = own_classes(dataset)
    except ValueError:  # is raised again where names are asked for, unless the user gives them
        names = ()
    for values, where, must_hold in stated:
        found = as_numbers(values, names)
        if found is not None and len(found[0]) == len(dataset):
            lists.append(LabelList(*found, where, must_hold))
    within = wrapped(dataset)
    inherited = [] if within is None else label_lists(within)
    return lists + [replace(found, must_hold=False) for found in inherited]


def as_numbers(values: Any, classes: Sequence[str] = ()) -> tuple[Tensor, tuple[str, ...]] | None:
    """Labels of any form as numbers.

    Args:
        values (Any): a sequence, array or tensor (N,) or (N, 1) of ints, of 0 and 1 in any dtype, or of class names;
            or (N, K), one-hot.
        classes (sequence of str): class names, if they are known. Names that are not all among them are numbered in
            alphabetical order.

    Returns:
        (Tensor, tuple of str) or None: int64 (N,) and, if they were names, the names, where label k is ``names[k]``;
        None if the values do not name one class each.
    """
    if values is None or isinstance(values, str):
        return None
    try:
        array = np.asarray(values.detach().cpu() if isinstance(values, Tensor) else values)
    except (TypeError, ValueError, RuntimeError):
        return None
    if array.ndim not in (1, 2):
        return None
    if array.ndim == 2 and array.shape[1] == 1:
        array = array[:, 0]
    if array.ndim == 1 and array.dtype.kind in "UO" and all(isinstance(value, str) for value in array.tolist()):
        found = set(map(str, array.tolist()))
        names = tuple(classes) if found <= set(classes) else tuple(sorted(found))
        number = {name: k for k, name in enumerate(names)}
        return torch.tensor([number[str(value)] for value in array.tolist()]), names
    if array.dtype.kind not in "biuf":
        return None
    binary = bool(((array == 0) | (array == 1)).all())
    if array.ndim == 1 and (array.dtype.kind in "iu" or binary):
        return torch.from_numpy(array.astype(np.int64)), ()
    if array.ndim == 2 and binary and bool((array.sum(1) == 1).all()):
        return torch.from_numpy(array.argmax(1).astype(np.int64)), ()
    return None


def representative(labels: Tensor) -> list[int]:
    """Indices of the first item of each class and of up to 64 items evenly spread, in ascending order.

    Args:
        labels (Tensor): int64 (N,).
    """
    _, first = np.unique(labels.numpy(), return_index=True)
    spread = np.linspace(0, len(labels) - 1, min(_SOME, len(labels))).astype(int)
    return sorted({*first.tolist(), *spread.tolist()})


def class_label_columns(dataset: Any) -> dict[str, tuple[str, ...]]:
    """The class names in each ClassLabel column of a Hugging Face dataset; empty for other datasets."""
    features = own(dataset, "features") if type(dataset).__module__.partition(".")[0] == "datasets" else None
    columns = features.items() if isinstance(features, Mapping) else ()
    return {name: tuple(feature.names) for name, feature in columns if type(feature).__name__ == "ClassLabel"}


def labels_in_column(dataset: Any, column: str) -> Tensor | None:
    """Labels in a column of a Hugging Face dataset, int64 (N,); None if a row has none."""
    found = as_numbers(dataset.with_format(None)[column][:])
    return None if found is None else found[0]


def own_classes(dataset: Any) -> tuple[str, ...]:
    """Class names that a dataset itself states: label k is the name at k; empty if it states none.

    A Hugging Face dataset has those of its only ClassLabel column. Of others, ``class_to_idx`` decides; but if it
    gives every name its place in ``classes``, or that of a tuple of synonyms with the name in it, these are the names.
    A number without a name, between others, is called ``"(no class 3)"``.

    Raises:
        ValueError: two names have the same label, and ``classes`` does not say which is meant.
    """
    if len(columns := class_label_columns(dataset)) == 1:
        return next(iter(columns.values()))
    stated, numbered = own(dataset, "classes"), own(dataset, "class_to_idx")
    if isinstance(stated, Mapping):
        stated, numbered = (), numbered or stated
    ordered = isinstance(stated, Collection) and not isinstance(stated, str | Set | Tensor)
    classes = tuple(stated) if ordered or isinstance(stated, KeysView) else ()
    labels = _labels_by_name(numbered) if isinstance(numbered, Mapping) else {}
    if not labels:
        return tuple(map(str, classes))

    names_of: dict[int, list[str]] = defaultdict(list)
    for name, label in labels.items():
        if label >= 0:  # -1 is that of images without a class
            names_of[label].append(name)
    synonyms = [set(map(str, each)) if isinstance(each, tuple | list) else {str(each)} for each in classes]
    if all(k < len(classes) and set(names) <= synonyms[k] for k, names in names_of.items()):
        return tuple(map(str, classes))

    # Where several names share a label and none is in `classes`, these are the names of the merged classes.
    merged = any(len(names) > 1 for names in names_of.values())
    if merged and not labels.keys() & {*map(str, classes)} and set(names_of) == set(range(len(classes))):
        return tuple(map(str, classes))

    chosen: dict[int, str] = {}
    for k, names in names_of.items():
        among = [name for name in names if name in map(str, classes)] if len(names) > 1 else names
        if len(among) != 1:
            raise ValueError(
                f"class_to_idx of {type(dataset).__name__} gives {' and '.join(names)} the same label {k}. Pass "
                "classes: class names, in the order of the labels"
            )
        chosen[k] = among[0]
    return tuple(chosen.get(k, unnamed(k)) for k in range(max(chosen, default=-1) + 1))


def _labels_by_name(numbered: Mapping[Any, Any]) -> dict[str, int]:
    """{name: label} of a mapping in this or the other direction; empty if neither side has labels."""
    for pairs in (numbered.items(), [(name, label) for label, name in numbered.items()]):
        labels = {str(name): class_index(label) for name, label in pairs}
        if None not in labels.values():
            return cast(dict[str, int], labels)
    return {}
