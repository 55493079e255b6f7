"""What a map-style dataset gives, whatever it says about itself: labels, their form, class names, raw images."""

from __future__ import annotations

import logging
from collections.abc import Sequence, Sized
from dataclasses import dataclass
from typing import Any, NoReturn, cast

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset, IterableDataset

from ganaug.core.seeding import kept_random_state
from ganaug.core.text import repeated, shortened
from ganaug.data.class_names import class_names
from ganaug.data.inspection import describe, numerals
from ganaug.data.item_reading import ItemReader
from ganaug.data.label_form import LabelForm, class_index, form_of
from ganaug.data.label_lists import LabelList, as_numbers, label_lists, own_classes, representative
from ganaug.data.nesting import part_starts, read_batch, reads_batches

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Examination:
    """What was found out about a dataset by reading items of it.

    Attributes:
        labels (Tensor): int64 (N,), before any ``target_transform`` whose call is known.
        classes (tuple of str): class names; label k is ``classes[k]``.
        label_form (LabelForm): the form of the labels in the items.
        image (Any): of the first item that could be read, before all transforms if these are known.
        reader (ItemReader): reads other items in the same way, and knows the transforms.
    """

    labels: Tensor
    classes: tuple[str, ...]
    label_form: LabelForm
    image: Any
    reader: ItemReader


class ExaminedItems(Dataset[tuple[Any, int]]):
    """The items of a dataset before its transforms, with the labels and class names that were found.

    Args:
        found (Examination): of the dataset.
        kind (str): the class of the dataset, for messages.
    """

    def __init__(self, found: Examination, kind: str) -> None:
        self.kind = kind
        self.targets, self.classes, self._reader = found.labels, found.classes, found.reader

    def __len__(self) -> int:
        return len(self.targets)

    def __getitem__(self, index: int) -> tuple[Any, int]:
        return self._reader.read([index], lambda image, _: image)[index], int(self.targets[index])


def examine(dataset: Dataset[Any], classes: Sequence[str] | None = None, *, skip_damaged: bool = False) -> Examination:
    """Read some items of a dataset to check what it says about itself; what the items say is what counts.

    One item of each class and up to 64 others are read, or all items if no list of labels agrees with those. The
    global random states stay as they were.

    Args:
        dataset (Dataset): map-style, items (image, label).
        classes (sequence of str, optional): class names; label k is ``classes[k]``. Default: those that the dataset
            states, else those of a dataset inside that has the same labels; if there are none, the numbers
        skip_damaged (bool): pass over items whose files cannot be read, if there is a list of labels. Default: False

    Raises:
        TypeError: the dataset can only be iterated or has no items, or its items are not pairs with labels of one
            form that name one class each.
        ValueError: the dataset's list of labels is not that of its items, the class names are not known, two classes
            have the same name, or a label has none.
    """
    if isinstance(dataset, IterableDataset) or not hasattr(dataset, "__getitem__") or not hasattr(dataset, "__len__"):
        raise TypeError(
            f"dataset must be map-style (with __getitem__ and __len__), got {type(dataset).__name__}. "
            "For an iterable there is ganaug.ConditionalGANStream"
        )
    name, size = type(dataset).__name__, len(cast(Sized, dataset))
    if size == 0:
        raise TypeError(f"{name} has no items: there is nothing to add to")
    if classes is not None and (isinstance(classes, str) or not all(isinstance(each, str) for each in classes)):
        raise TypeError(f"classes must be a sequence of class names, in the order of the labels; got {classes!r:.80}")
    reader = ItemReader(dataset)
    found = _listed(dataset, reader, skip_damaged) or _read_all(dataset, reader, classes)
    labels, label_names = found.labels, found.names

    # The names of these labels; labels that are names themselves bring their own.
    if label_names:
        names, labels = _renumbered(name, label_names, labels, classes)
    else:
        names = _named(dataset, labels, classes) or found.form.names_in_order()
    names = names or numerals(max(int(labels.max()), found.form.width - 1, 0))
    _check_names(name, names, labels, found.form)

    if reads_batches(dataset):
        _check_batch(dataset, found.readable)
    image = next(iter(reader.read([found.readable], lambda image, _: image).values()))
    reader.applied()  # compares the parts of a concatenation
    return Examination(labels, names, found.form.with_names(names), image, reader)


@dataclass(frozen=True)
class _Labels:
    """Labels that agree with the items, int64 (N,); the names, if labels are names; the form; a readable item."""

    labels: Tensor
    names: tuple[str, ...]
    form: LabelForm
    readable: int


def _listed(dataset: Any, reader: ItemReader, skip_damaged: bool) -> _Labels | None:
    """The first list of labels that the items agree with, as far as they are read; None if there is none.

    Raises:
        ValueError, TypeError: the dataset's own list is not that of its items.
    """
    wrong: list[LabelList] = []
    for stated in label_lists(dataset):
        indices = sorted({*representative(stated.labels), *part_starts(dataset)})
        seen = reader.read(indices, _label, skip_damaged=skip_damaged) or reader.read(indices[:1], _label)
        form = LabelForm.of_all(list(seen.values()), stated.labels[list(seen)].tolist())
        if form is not None:
            return _Labels(stated.labels, stated.names, form, next(iter(seen)))
        if stated.must_hold:
            _refuse(dataset, stated, seen)
        wrong.append(stated)
    name, size = type(dataset).__name__, len(dataset)
    if wrong:
        logger.warning("%s are not the labels of its items: reading all %d items to find them", wrong[0].where, size)
    else:
        logger.info("%s has no list of labels: reading all %d items to find them", name, size)
    return None


def _check_batch(dataset: Any, index: int) -> None:
    """Refuse a dataset whose batches, which loaders read, have other items than those that are looked at here."""
    with kept_random_state():
        alone = dataset[index]
    with kept_random_state():
        (together,) = read_batch(dataset, [index])
    if type(alone[0]) is not type(together[0]) or not np.array_equal(*map(_on_cpu, (alone[1], together[1]))):
        raise ValueError(
            f"__getitems__ of {type(dataset).__name__} gives another item {index} than __getitem__: "
            f"{describe(together[0])} with the label {describe(together[1])}, not {describe(alone[0])} with "
            f"{describe(alone[1])}. Make the two the same: return [self[index] for index in indices]"
        )


def _on_cpu(label: Any) -> Any:
    return label.detach().cpu().float() if isinstance(label, Tensor) else label


def _label(_: Any, label: Any) -> Any:
    return label


def _refuse(dataset: Any, stated: LabelList, seen: dict[int, Any]) -> NoReturn:
    name_of, number_of = dict[int, str](), dict[str, int]()
    for index, label in seen.items():
        number = int(stated.labels[index])
        if isinstance(label, str):
            agrees = name_of.setdefault(number, label) == label and number_of.setdefault(label, number) == number
        else:
            agrees = class_index(label) == number
        if not agrees:
            raise ValueError(
                f"{stated.where} say {number} for item {index}, but the item itself has {describe(label)}. Make the "
                "two agree, or delete the list; the labels are then read from the items"
            )
    _refuse_forms(dataset, list(seen.values()))


def _refuse_forms(dataset: Any, labels: list[Any]) -> NoReturn:
    forms = list(dict.fromkeys(map(form_of, labels)))
    raise TypeError(
        f"labels of {type(dataset).__name__} come in several forms ({'; '.join(forms[:3])}). Use one for all "
        "items, such as int"
    )


def _read_all(dataset: Any, reader: ItemReader, classes: Sequence[str] | None) -> _Labels:
    """The labels of all items.

    Raises:
        TypeError: they do not name one class each, or are of several forms.
    """
    name = type(dataset).__name__
    labels = list(reader.read(range(len(dataset)), _label).values())
    label_names: tuple[str, ...] = ()
    if all(isinstance(label, str) for label in labels):
        numbers, label_names = cast(
            tuple[Tensor, tuple[str, ...]], as_numbers(labels, classes or own_classes(dataset))
        )
    else:
        found = [class_index(label) for label in labels]
        fractional = _is_fractional(labels[0]) and any(k not in (0, 1) for k in found)
        if fractional or None in found:
            bad = labels[0] if fractional else labels[found.index(None)]
            raise TypeError(
                f"labels of {name} must name one class each (an int, a one-hot vector or a class name), got "
                f"{describe(bad)}. Multi-label and continuous targets have no class to generate: wrap the dataset in "
                "one that gives every image one class"
            )
        numbers = torch.tensor(found)
    form = LabelForm.of_all(labels, numbers.tolist())
    if form is None:
        _refuse_forms(dataset, labels)
    return _Labels(numbers, label_names, form, readable=0)


def _is_fractional(label: Any) -> bool:
    """Whether a label is of a type for fractions, which may be those of a regression."""
    single = isinstance(label, Tensor) and label.numel() == 1 and label.is_floating_point()
    return single or (
        not isinstance(label, Tensor) and np.asarray(label).size == 1 and np.asarray(label).dtype.kind == "f"
    )


def _named(dataset: Any, labels: Tensor, classes: Sequence[str] | None) -> tuple[str, ...]:
    """The names given for the labels, or else those that the dataset states; empty if there are none.

    Raises:
        ValueError: the names stated may not be those of the labels, or those given are the same ones in another order.
    """
    indices = torch.arange(len(labels))
    if classes is None:
        return class_names(dataset, indices, labels)
    try:
        stated = class_names(dataset, indices, labels)
    except ValueError:
        stated = ()  # which is why names are given
    if set(stated) == set(classes) and stated != tuple(classes):
        raise ValueError(
            f"classes are in another order than those of {type(dataset).__name__}: given {shortened(tuple(classes))}; "
            f"the dataset's own are {shortened(stated)}. Leave them out, or give them in the order of the labels"
        )
    return tuple(classes)


def _renumbered(
    name: str, label_names: tuple[str, ...], labels: Tensor, classes: Sequence[str] | None
) -> tuple[tuple[str, ...], Tensor]:
    """Names and numbers of labels that are names themselves, in the order of ``classes`` if they are given."""
    if classes is None or tuple(classes) == label_names:
        return label_names, labels
    missing = sorted({label_names[k] for k in labels.unique().tolist()} - set(classes))
    if missing:
        raise ValueError(
            f"labels of {name} are class names, and classes lacks {', '.join(missing)}. Give all of them; for classes "
            "that the generator calls something else there is class_map"
        )
    place = torch.tensor([classes.index(each) if each in classes else -1 for each in label_names])
    return tuple(classes), place[labels]


def _check_names(name: str, names: tuple[str, ...], labels: Tensor, form: LabelForm) -> None:
    if twice := repeated(names):
        raise ValueError(
            f"two classes of {name} have the same name: {shortened(twice)}. Give it names that differ, in the "
            "order of the labels, or pass classes"
        )
    outside = int(((labels < 0) | (labels >= len(names))).sum())
    if outside:
        raise ValueError(
            f"labels of {name} must be from 0 to {len(names) - 1} for the classes {shortened(names)}; got "
            f"{int(labels.min())} to {int(labels.max())}, and {outside} of {len(labels)} items are outside. Leave "
            f"them out: Subset(dataset, [i for i, (_, k) in enumerate(dataset) if 0 <= k < {len(names)}])"
        )
    if form.width and form.width < len(names):
        raise ValueError(
            f"labels of {name} are one-hot vectors of {form.width} classes, and there are {len(names)} class names: "
            f"{shortened(names)}. Give it as many names as classes, or pass classes"
        )
    contradiction = form.contradiction(names)
    if contradiction:
        raise ValueError(
            f"class names of {name} are in another order than its items say: {contradiction}. Make the two the same, "
            "or pass classes: class names, in the order of the labels"
        )
