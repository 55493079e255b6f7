"""Items of a dataset before its own transforms, and those transforms, as far as it is clear how it calls them."""

from __future__ import annotations

import copy
import inspect
import struct
from collections import OrderedDict, defaultdict
from collections.abc import Callable, Iterable
from contextlib import nullcontext, suppress
from typing import Any, TypeVar

from PIL import Image
from tqdm import tqdm

from ganaug.core.seeding import kept_random_state
from ganaug.data.inspection import describe
from ganaug.data.nesting import everything_inside, leaves, locate, own, store, stored
from ganaug.data.own_transforms import TRANSFORM_NAMES, Transforms, are_equal, are_same, is_standard, own_transforms

MANY = 1000  # items; reading so many takes a moment, and shows a progress bar

# What reading a damaged file raises.
DAMAGED = (OSError, SyntaxError, EOFError, struct.error, Image.DecompressionBombError)

_CACHES = (dict, OrderedDict, defaultdict, list)

Kept = TypeVar("Kept")


class ItemReader:
    """Reads items of a dataset before its own transforms, as far as possible, and knows which transforms it applies.

    Items are read from a shallow copy, where each transform is replaced by a recorder that returns what it is given.
    That counts only if the dataset calls each transform once, as torchvision does, and does nothing else to what comes
    out of it. Otherwise items are read as the dataset gives them. The dataset is not modified.

    Args:
        dataset (Dataset): map-style, with one or more items.

    Attributes:
        obstacle (str, optional): why images cannot be read before all transforms; None if they can.
    """

    def __init__(self, dataset: Any) -> None:
        self._dataset = dataset
        self._leaves = [_Leaf(leaf) for leaf in leaves(dataset)]
        self._applied: Transforms | None = None
        self._difference: str | None = None

    @property
    def obstacle(self) -> str | None:
        """See the class."""
        return next((leaf.obstacle for leaf in self._leaves if leaf.obstacle), self._difference)

    def read(
        self, indices: Iterable[int], keep: Callable[[Any, Any], Kept], *, skip_damaged: bool = False
    ) -> dict[int, Kept]:
        """``keep(image, label)`` of some items, all read in the same way; the global random states stay as they were.

        Args:
            indices (iterable of int): of the items.
            keep (callable): what to keep of an item.
            skip_damaged (bool): leave out items whose files cannot be read. Default: False

        Returns:
            dict: {index: what was kept}.

        Raises:
            TypeError: an item is not an (image, label) pair.
        """
        wanted = list(indices)
        while True:
            try:
                kept: dict[int, Kept] = {}
                with kept_random_state():  # which transforms draw from
                    for index in tqdm(wanted, "reading items", unit="item", disable=len(wanted) < MANY):
                        with suppress(*DAMAGED) if skip_damaged else nullcontext():
                            kept[index] = keep(*self.item(index))
                return kept
            except UnreadableError as found:
                next(leaf for leaf in self._leaves if leaf.dataset is found.leaf).give_up(found.why)

    def item(self, index: int) -> tuple[Any, Any]:
        """One item, (image, label), in the way that those before it were read.

        Raises:
            TypeError: it is not a pair, or it cannot be read in that way.
        """
        dataset, at = locate(self._dataset, index)
        return next(leaf for leaf in self._leaves if leaf.dataset is dataset).item(at)

    def applied(self) -> Transforms:
        """The transforms that the dataset itself applies, after what is read here, to every item.

        They are those that it has now; if they have changed, how it calls them is found out again.

        Raises:
            TypeError: the parts of a concatenation change labels in different ways.
        """
        changed = [leaf for leaf in self._leaves if leaf.is_unsettled()]
        for leaf in changed:
            leaf.settle()
        if changed or self._applied is None:
            self._applied = self._common_transforms()
        return self._applied

    def release(self) -> None:
        """Let go of the copies of the dataset that were read, and of files that they have opened."""
        for leaf in self._leaves:
            leaf.release()

    @property
    def stated(self) -> dict[str, Any]:
        """The transforms that are set on the dataset, or on the first part of a concatenation; called or not."""
        return own_transforms(self._leaves[0].dataset)

    @property
    def has_transforms(self) -> bool:
        """Whether the dataset applies transforms itself, or may do so in a way that is not known."""
        set_there = [value for leaf in self._leaves for value in own_transforms(leaf.dataset).values()]
        return bool(self.applied()) or not all(map(is_standard, set_there))

    def _common_transforms(self) -> Transforms:
        first, *others = [leaf.applied() for leaf in self._leaves]
        differing = [
            name
            for name in TRANSFORM_NAMES
            if any(not are_equal(getattr(first, name), getattr(other, name)) for other in others)
        ]
        name = type(self._dataset).__name__
        if "target_transform" in differing:
            raise TypeError(
                f"the parts of {name} have different target_transforms, and a generated image belongs to none of "
                "them. Give all parts the same one, or give them none and pass target_transform here"
            )
        self._difference = f"the parts of {name} have different transforms" if differing else None
        return Transforms(target_transform=first.target_transform) if differing else first


class UnreadableError(TypeError):
    """An item cannot be read before the transforms of its dataset."""

    def __init__(self, leaf: Any, why: str) -> None:
        super().__init__(f"an item of {type(leaf).__name__} cannot be read before its transforms: {why}")
        self.leaf, self.why = leaf, why


class _Leaf:
    """How one dataset, without the subsets and concatenations around it, is read."""

    def __init__(self, dataset: Any) -> None:
        self.dataset = dataset
        self._called: tuple[str, ...] | None  # in the last item that was read
        self._copy: Any  # in which transforms can be replaced
        self.obstacle: str | None
        self._begin()

    def item(self, at: int) -> tuple[Any, Any]:
        names = self._ways[0]
        if not names:
            self._called = ()
            return _pair(self.dataset[at], self.dataset)
        is_new = self._copy is None
        if is_new:
            self._copy = _shallow_copy(self.dataset, names)
        try:
            item, self._called = _read_around(self.dataset, self._copy, at, names)
        except UnreadableError:
            if is_new:
                raise
            self._copy = None  # it may have kept this item when it was read before, and gives it without transforms
            return self.item(at)
        return item

    def give_up(self, why: str) -> None:
        """Go on to the next way of reading."""
        self.obstacle = self.obstacle or why
        self._ways.pop(0)
        self._copy = None

    def is_unsettled(self) -> bool:
        """Whether it is yet to be found out how its transforms are called, as it is again after they have changed."""
        now = own_transforms(self.dataset)
        if now.keys() != self._transforms.keys() or not all(
            are_same(now[name], self._transforms[name]) for name in now
        ):
            self._begin()
        return self._called is None

    def settle(self) -> None:
        """Find out, by reading one, how items can be read."""
        while self.is_unsettled():
            try:
                with kept_random_state():
                    self.item(0)
            except UnreadableError as found:
                self.give_up(found.why)
        self.release()

    def release(self) -> None:
        """Let go of the copy that is read, and of the files that it may have opened."""
        self._copy = None

    def applied(self) -> Transforms:
        called = self._called or ()
        if "transforms" in called and is_standard(self._transforms["transforms"]):
            joint = self._transforms["transforms"]
            return Transforms(joint.transform, joint.target_transform)
        return Transforms(**{name: self._transforms[name] for name in called})

    def _begin(self) -> None:
        self._transforms = own_transforms(self.dataset)
        names = tuple(self._transforms)
        # Before all transforms; if that fails, before the label's; if that fails too, as the dataset gives them.
        self._ways = [names, tuple(name for name in names if name == "target_transform"), ()]
        self._called = None
        self._copy = None
        within = [each for each in everything_inside(self.dataset) if each is not self.dataset]
        hidden = next((type(each).__name__ for each in within if own_transforms(each)), None)
        self.obstacle = f"the {hidden} inside it has transforms of its own" if hidden else None


class _Recorder:
    """Stands in for a transform: returns what it is given, if it is called as torchvision calls that transform."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.given: list[tuple[Any, ...]] = []
        self.strange: str | None = None

    def __call__(self, *args: Any, **named: Any) -> Any:
        if named or len(args) != (2 if self.name == "transforms" else 1):
            how = ", ".join([f"{len(args)} arguments"] * (len(args) > 0) + [f"{name}=..." for name in named])
            known = ", the way albumentations and Hugging Face processors are called" if named else ""
            self.strange = f"it calls its {self.name} with {how}{known}"
            raise TypeError(self.strange)
        self.given.append(args)
        return args if self.name == "transforms" else args[0]


def _shallow_copy(dataset: Any, names: tuple[str, ...]) -> Any:
    """A shallow copy, in which some transforms can be replaced; what it caches in a dict or list stays in it.

    Raises:
        UnreadableError: there is no such copy.
    """
    try:
        bare: Any = object.__new__(_without_del(type(dataset)))
    except TypeError as error:
        raise UnreadableError(dataset, f"it cannot be copied ({error})") from error
    for name, value in stored(dataset).items():
        store(bare, name, copy.copy(value) if type(value) in _CACHES else value)
    for name in names:
        place = inspect.getattr_static(type(dataset), name, None)
        if inspect.isdatadescriptor(place) and not inspect.ismemberdescriptor(place):
            raise UnreadableError(dataset, f"its {name} is a property")
        if name not in stored(dataset) and not hasattr(bare, "__dict__"):
            raise UnreadableError(dataset, f"its {name} is set on its class")
    return bare


def _without_del(cls: type) -> type:
    """``cls``, without code that closes the files of an object when it is dropped: a copy has the same files."""
    if not hasattr(cls, "__del__"):
        return cls
    return type(cls.__name__, (cls,), {"__slots__": (), "__del__": lambda self: None})


def _read_around(dataset: Any, bare: Any, at: int, names: tuple[str, ...]) -> tuple[tuple[Any, Any], tuple[str, ...]]:
    """An item of a shallow copy with recorders in place of some transforms, and the names of those that it called.

    Raises:
        UnreadableError: the recorders do not tell what the item is before those transforms.
    """

    def unreadable(why: str) -> UnreadableError:
        return UnreadableError(dataset, why)

    recorders = {name: _Recorder(name) for name in names}
    for name, recorder in recorders.items():
        store(bare, name, recorder)
    try:
        item = bare[at]
    except DAMAGED:  # the file is damaged or missing, with or without transforms
        raise
    except Exception as error:
        found = next((recorder.strange for recorder in recorders.values() if recorder.strange), None)
        raise unreadable(
            found or f"its code fails without its transforms ({type(error).__name__}: {error})"
        ) from error

    # Each transform must have been called once; of torchvision's two ways to call the same transforms, one.
    for recorder in recorders.values():
        if recorder.strange or len(recorder.given) > 1:
            times = f"it calls its {recorder.name} {len(recorder.given)} times for an item"
            raise unreadable(recorder.strange or times)
    called = tuple(name for name in names if recorders[name].given)
    if "transforms" in called and len(called) > 1:
        raise unreadable("it calls transforms and " + " and ".join(called[:-1]))
    optional = {"transforms"} if is_standard(own(dataset, "transforms")) else set[str]()
    needed = set(names) - optional if "transforms" not in called or not optional else set[str]()
    for name in names:
        if name in needed and name not in called:
            raise unreadable(f"it has a {name} that it does not call")

    # What came out of them must be what is in the item, or the dataset does more than its transforms.
    pair = _pair(item, dataset)
    for name in called:
        given = recorders[name].given[0]
        if name != "target_transform" and pair[0] is not given[0]:
            raise unreadable(f"it does more to an image than its {name}")
        if name != "transform" and pair[1] is not given[-1]:
            raise unreadable(f"it does more to a label than its {name}")
    return pair, called


def _pair(item: Any, dataset: Any) -> tuple[Any, Any]:
    if not isinstance(item, tuple | list) or len(item) != 2:
        raise TypeError(
            f"items of {type(dataset).__name__} must be (image, label) pairs, got {describe(item)}. "
            "Wrap the dataset in one that returns pairs; for Hugging Face datasets there is ganaug.augment_dataset"
        )
    return item[0], item[1]
