"""The class names of a dataset's labels, which are not always those that a dataset inside it has."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.utils.data import ConcatDataset, Subset

from ganaug.core.text import shortened
from ganaug.data.item_reading import ItemReader
from ganaug.data.label_form import class_index
from ganaug.data.label_lists import class_label_columns, label_lists, labels_in_column, own_classes, representative
from ganaug.data.nesting import everything_inside, is_plain, own, wrapped

_PASS_NAMES = "pass classes: the class names, in the order of the labels (in open_images, class_names)"


def class_names(dataset: Any, indices: Tensor, labels: Tensor) -> tuple[str, ...]:
    """The class names that the dataset states, or that one inside it states whose labels are the same.

    Args:
        dataset (Dataset): map-style.
        indices (Tensor): some of its items, int64 (M,).
        labels (Tensor): the labels of these items, int64 (M,).

    Returns:
        tuple of str: label k is the name at k; empty if there are none.

    Raises:
        ValueError: a dataset inside has names, but not the same labels; or the parts of a concatenation have different
            names.
    """
    if is_plain(dataset, Subset):
        return class_names(dataset.dataset, torch.as_tensor(dataset.indices, dtype=torch.int64)[indices], labels)
    if is_plain(dataset, ConcatDataset):
        return _common_names(dataset, indices, labels)
    # Of several ClassLabel columns, the one with these labels has the names.
    for column, names in class_label_columns(dataset).items():
        stated = labels_in_column(dataset, column)
        if stated is not None and torch.equal(stated[indices], labels):
            return names
    if names := own_classes(dataset):
        return names

    # A wrapper without names of its own: those of the dataset inside hold if its labels do.
    within = wrapped(dataset)
    difference = (
        "the two cannot be compared item by item" if within is None else _other_labels(within, indices, labels)
    )
    if difference is None:
        return class_names(within, indices, labels)
    inner_ones = [each for each in everything_inside(dataset) if each is not dataset]
    stated_inside = [(each, own_classes(each) or sum(class_label_columns(each).values(), ())) for each in inner_ones]
    named = [(each, names) for each, names in stated_inside if names]
    if named or (own(dataset, "classes") is None and getattr(dataset, "classes", None) is not None):
        inner = f"the {type(named[0][0]).__name__} inside it" if named else "a dataset inside it"
        theirs = named[0][1] if named else tuple(map(str, dataset.classes))
        raise ValueError(
            f"the class names of {type(dataset).__name__} are not known: those of {inner} "
            f"({shortened(theirs)}) may not fit its labels, because {difference}. To say what they are, {_PASS_NAMES}"
        )
    return ()


def _common_names(dataset: ConcatDataset[Any], indices: Tensor, labels: Tensor) -> tuple[str, ...]:
    start, names = 0, dict[tuple[str, ...], int]()
    for number, part in enumerate(dataset.datasets):
        end = start + len(part)  # type: ignore[arg-type]
        here = (indices >= start) & (indices < end)
        if end > start:
            names.setdefault(class_names(part, indices[here] - start, labels[here]), number)
        start = end
    if len(names) > 1:
        (one, first), (other, second) = list(names.items())[:2]
        raise ValueError(
            f"the parts of {type(dataset).__name__} have different class names: part {first} has "
            f"{', '.join(one) or 'none'}; part {second} has {', '.join(other) or 'none'}. If their labels mean the "
            f"same, {_PASS_NAMES}. Otherwise, give both parts the same labels"
        )
    return next(iter(names))


def _other_labels(within: Any, indices: Tensor, labels: Tensor) -> str | None:
    """How the labels of a dataset inside differ, in words; None if they are the same."""
    stated = [found.labels[indices] for found in label_lists(within)]
    if any(torch.equal(found, labels) for found in stated):
        return None
    if not stated:
        some = representative(labels)
        try:
            read = ItemReader(within).read(
                indices[some].tolist(), lambda _, label: class_index(label), skip_damaged=True
            )
        except Exception:  # whatever is raised by a dataset that the wrapper uses in another way, such as one of dicts
            return "items there cannot be read as (image, label) pairs"
        some = [at for at in some if int(indices[at]) in read]
        indices, labels = indices[some], labels[some]
        stated = [torch.tensor([-1 if k is None else k for k in read.values()])]
        if torch.equal(stated[0], labels):
            return None
    differing = int(torch.nonzero(stated[0] != labels)[0])
    here, there = int(labels[differing]), int(stated[0][differing])
    return f"item {int(indices[differing])} has the label {here}, and {there} in that one"
