"""The forms in which datasets give a label: an int, a tensor of one element, a one-hot vector, a class name."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor


class LabelForm:
    """Makes labels in the form of a dataset's own: of the same type, dtype and shape.

    Args:
        example (Any): a label of the dataset: an int, a numpy or Python scalar, a tensor or array of one element, a
            one-hot vector (tensor, array, list or tuple), or a class name.
        names (mapping, optional): {k: label} for labels that are class names.

    Raises:
        TypeError: the example is of none of these forms.
    """

    def __init__(self, example: Any, names: Mapping[int, str] | None = None) -> None:
        if class_index(example) is None and not isinstance(example, str):
            raise TypeError(f"labels must name one class, got {example!r:.80}")
        self._example, self._names = example, dict(names or {})

    @classmethod
    def of_all(cls, labels: Sequence[Any], numbers: Sequence[int]) -> LabelForm | None:
        """The form in which label i is that of class ``numbers[i]``, for every i; None if there is none."""
        named = {k: label for label, k in zip(labels, numbers, strict=True) if isinstance(label, str)}
        if len(set(named.values())) < len(named):
            return None
        try:
            form = cls(labels[0], named)
        except TypeError:
            return None
        return form if all(form.matches(label, k) for label, k in zip(labels, numbers, strict=True)) else None

    def with_names(self, classes: Sequence[str]) -> LabelForm:
        """This form with the names of all ``classes``, if labels are names; unless the dataset's are others."""
        if not isinstance(self._example, str):
            return self
        same = all(classes[k] == name for k, name in self._names.items())
        return LabelForm(self._example, dict(enumerate(classes)) if same else self._names)

    @property
    def width(self) -> int:
        """Length of one-hot vectors; 0 if labels are not vectors."""
        vector = self._example if isinstance(self._example, Tensor | np.ndarray | list | tuple) else ()
        return len(vector) if np.ndim(vector) == 1 and len(vector) > 1 else 0

    def contradiction(self, classes: Sequence[str]) -> str | None:
        """Which label k is the name of another class than ``classes[k]``, in words; None if none is."""
        wrong = [(k, name) for k, name in self._names.items() if name in classes and classes[k] != name]
        return f"label {wrong[0][0]} is {wrong[0][1]!r} in the items, not {classes[wrong[0][0]]!r}" if wrong else None

    def names_in_order(self) -> tuple[str, ...]:
        """The labels themselves, if they are class names: label k is the name at k; else empty."""
        count = max(self._names, default=-1) + 1
        return tuple(self._names.get(k, unnamed(k)) for k in range(count))

    def __call__(self, k: int) -> Any:
        """The label of class k."""
        like = self._example
        if isinstance(like, str):
            return type(like)(self._names[k])
        if isinstance(like, Tensor):
            return torch.full_like(like, k) if like.numel() == 1 else _one_hot(k, torch.zeros_like(like))
        if isinstance(like, np.ndarray):
            return np.full_like(like, k) if like.size == 1 else _one_hot(k, np.zeros_like(like))
        if isinstance(like, list | tuple):
            return type(like)(_one_hot(k, [type(value)(0) for value in like]))
        return type(like)(k)

    def matches(self, label: Any, k: int) -> bool:
        """Whether a label is that of class k, in this form."""
        if isinstance(self._example, str):
            return type(label) is type(self._example) and self._names.get(k) == label
        return class_index(label) == k and same_form(label, self._example) and same_form(label, self(k))


def unnamed(k: int) -> str:
    """What stands for the name of a class that has a number but no name; no generator knows it."""
    return f"(no class {k})"


def class_index(label: Any) -> int | None:
    """The class that a single label names by its number or as a one-hot vector; None if it is neither."""
    if isinstance(label, Tensor):
        label = label.detach().cpu()
        values = label.float().numpy() if label.dtype == torch.bfloat16 else label.numpy()
    elif isinstance(label, int | float | np.generic | np.ndarray | list | tuple):
        try:
            values = np.asarray(label)
        except ValueError:  # rows of different lengths
            return None
    else:
        return None
    if values.dtype.kind not in "biuf":
        return None
    if values.size == 1 and not isinstance(label, list | tuple):
        return int(values.item()) if float(values.item()).is_integer() else None
    hot = np.flatnonzero(values)
    return int(hot[0]) if values.ndim == 1 and len(hot) == 1 and values[hot[0]] == 1 else None


def same_form(one: Any, other: Any) -> bool:
    """Whether two labels have the same type, dtype and shape."""
    if type(one) is not type(other):
        return False
    if isinstance(one, Tensor):
        return bool(one.dtype == other.dtype and one.shape == other.shape)
    if isinstance(one, list | tuple):
        return len(one) == len(other) and all(type(a) is type(b) for a, b in zip(one, other, strict=True))
    return np.asarray(one).dtype == np.asarray(other).dtype and np.shape(one) == np.shape(other)


def form_of(label: Any) -> str:
    """Type, dtype and shape of a label, in words."""
    if isinstance(label, Tensor | np.ndarray):
        return f"{type(label).__name__} of shape {tuple(label.shape)}, {str(label.dtype).removeprefix('torch.')}"
    return f"{type(label).__name__} of {len(label)}" if isinstance(label, list | tuple) else type(label).__name__


def _one_hot(k: int, zeros: Any) -> Any:
    zeros[k] = type(zeros[k])(1) if isinstance(zeros, list) else 1
    return zeros
