"""The transforms that a dataset has set on itself."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from ganaug.core import fingerprints
from ganaug.data.nesting import everything_inside, own, store, stored

TRANSFORM_NAMES = ("transform", "target_transform", "transforms")


@dataclass(frozen=True)
class Transforms:
    """Transforms as torchvision has them: one for each part of an item, or one for both (``transforms``).

    Raises:
        ValueError: both are given.
    """

    transform: Callable[[Any], Any] | None = None
    target_transform: Callable[[Any], Any] | None = None
    transforms: Callable[[Any, Any], tuple[Any, Any]] | None = None

    def __post_init__(self) -> None:
        if self.transforms is not None and (self.transform is not None or self.target_transform is not None):
            raise ValueError("Only transforms or transform/target_transform can be passed as argument")

    def __bool__(self) -> bool:
        return any(getattr(self, name) is not None for name in TRANSFORM_NAMES)

    def __call__(self, image: Any, label: Any) -> tuple[Any, Any]:
        """Apply them to one item."""
        if self.transforms is not None:
            image, label = self.transforms(image, label)
        if self.transform is not None:
            image = self.transform(image)
        if self.target_transform is not None:
            label = self.target_transform(label)
        return image, label


def own_transforms(dataset: Any) -> dict[str, Any]:
    """The transforms that are set on a dataset itself, by the name of the attribute."""
    found = {name: own(dataset, name) for name in TRANSFORM_NAMES}
    return {
        name: value
        for name, value in found.items()
        if not (value is None or value is False or (isinstance(value, list | tuple) and not value))
    }


def is_standard(joint: Any) -> bool:
    """Whether a joint transform is torchvision's combination of the other two, as they were at construction."""
    return type(joint).__name__ == "StandardTransform"


def are_same(one: Any, other: Any) -> bool:
    """Whether two transforms are one object, or one method, which is a new object each time."""
    return one is other or (inspect.ismethod(one) and one == other)


def are_equal(one: Any, other: Any) -> bool:
    """Whether two transforms, or None, are the same or have the same fingerprint."""
    if are_same(one, other):
        return True
    if not callable(one) or not callable(other):
        return False
    try:
        return fingerprints.of_callable(one) == fingerprints.of_callable(other)
    except Exception:  # whatever pickle raises for what cannot be pickled, and so cannot be compared either
        return False


@contextmanager
def watched_transforms(dataset: Any) -> Iterator[list[str]]:
    """Note, in a block, which transforms of a dataset and of those inside it are called, by the attribute's name.

    Wrappers that note calls stand in their places on the datasets during the block.
    """
    calls: list[str] = []
    holders: list[tuple[Any, str, Any]] = []
    for each in everything_inside(dataset):
        for name, value in own_transforms(each).items():
            parts = [(each, name, value)]
            if is_standard(value):  # keeps its place, for it is known by its type
                parts = [(value, part, getattr(value, part)) for part in ("transform", "target_transform")]
            holders += [part for part in parts if callable(part[2]) and part[1] in stored(part[0])]
    try:
        for holder, name, value in holders:
            store(holder, name, _Watched(value, name, calls))
        yield calls
    finally:
        for holder, name, value in holders:
            store(holder, name, value)


class _Watched:
    """A transform that notes when it is called."""

    def __init__(self, transform: Callable[..., Any], name: str, calls: list[str]) -> None:
        self._transform, self._name, self._calls = transform, name, calls

    def __call__(self, *args: Any, **named: Any) -> Any:
        self._calls.append(self._name)
        return self._transform(*args, **named)

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):  # pickle looks for these in a new object, which has no transform yet
            raise AttributeError(name)
        return getattr(self._transform, name)
