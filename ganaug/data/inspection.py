"""What can be found out about a dataset of anyone's making: labels, class names, raw items and transforms."""

from __future__ import annotations

import copy
import logging
from collections.abc import Callable, Sized
from dataclasses import dataclass
from typing import Any, Literal, cast

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.utils.data import Dataset, IterableDataset, Subset, TensorDataset
from tqdm import tqdm

logger = logging.getLogger(__name__)

ImageKind = Literal["PIL", "tensor", "tv_tensor"]
_TRANSFORM_NAMES = ("transform", "target_transform", "transforms")
_EVALUATION = ("test", "val", "valid", "validation", "eval", "dev")


@dataclass(frozen=True)
class Transforms:
    """Transforms as torchvision has them: one for each part of an item, or one for both (``transforms``)."""

    transform: Callable[[Any], Any] | None = None
    target_transform: Callable[[Any], Any] | None = None
    transforms: Callable[[Any, Any], tuple[Any, Any]] | None = None

    @classmethod
    def of(cls, dataset: Dataset[Any]) -> Transforms:
        """The transforms that a dataset itself applies now; of a plain subset, those of the dataset inside."""
        while is_plain_subset(dataset):
            dataset = cast(Subset[Any], dataset).dataset
        found = cls(*(getattr(dataset, name, None) for name in _TRANSFORM_NAMES))
        # torchvision keeps a combination of the two, as they were at construction.
        joint = found.transforms
        if found.transform or found.target_transform or type(joint).__name__ == "StandardTransform":
            return cls(found.transform, found.target_transform)
        return found

    def __bool__(self) -> bool:
        return any((self.transform, self.target_transform, self.transforms))

    def __call__(self, image: Any, label: Any) -> tuple[Any, Any]:
        """Apply them to one item."""
        if self.transforms:
            image, label = self.transforms(image, label)
        if self.transform:
            image = self.transform(image)
        if self.target_transform:
            label = self.target_transform(label)
        return image, label


def only_transforms(dataset: Dataset[Any], given: Transforms) -> Transforms:
    """The transforms given along with a dataset, which must not have its own.

    Raises:
        ValueError: transforms are given twice.
    """
    if given.transforms and (given.transform or given.target_transform):
        raise ValueError("Only transforms or transform/target_transform can be passed as argument")
    if given and Transforms.of(dataset):
        raise ValueError(
            f"two transforms: {type(dataset).__name__} has its own, and one was passed. Generated images go "
            "through the dataset's own; pass none, or build the dataset without"
        )
    return given


def base_dataset(dataset: Any) -> Any:
    """The dataset inside all ``Subset`` layers."""
    while isinstance(dataset, Subset):
        dataset = dataset.dataset
    return dataset


def is_plain_subset(dataset: Any) -> bool:
    """Whether a dataset is a ``Subset`` that does nothing to the items of the dataset inside."""
    return isinstance(dataset, Subset) and all(
        getattr(type(dataset), name) is getattr(Subset, name) for name in ("__getitem__", "__getitems__")
    )


def raw_item(dataset: Dataset[Any], index: int) -> tuple[Any, Any]:
    """Item of a dataset before its transforms, (image, label); the dataset itself is not modified.

    Raises:
        TypeError: the item is not an (image, label) pair.
    """
    while is_plain_subset(dataset):
        subset = cast(Subset[Any], dataset)
        index, dataset = subset.indices[index], subset.dataset
    item = _without_transforms(dataset)[index]
    if not isinstance(item, tuple | list) or len(item) != 2:
        raise TypeError(
            f"items of {type(dataset).__name__} must be (image, label) pairs, got {describe(item)}. "
            "Wrap the dataset in one that returns pairs; for Hugging Face datasets there is ganaug.augment_dataset"
        )
    return item[0], item[1]


def labels_of(dataset: Dataset[Any]) -> Tensor:
    """Labels of a map-style dataset, int64 (N,), before any ``target_transform``.

    They are read from ``targets`` or ``labels`` if the dataset has them, else from its items, which may take long.

    Raises:
        TypeError: the dataset can only be iterated, has no items, or its labels are not single ints.
    """
    if isinstance(dataset, IterableDataset) or not hasattr(dataset, "__getitem__") or not hasattr(dataset, "__len__"):
        raise TypeError(
            f"dataset must be map-style (with __getitem__ and __len__), got {type(dataset).__name__}. "
            "For an iterable there is ganaug.ConditionalGANStream"
        )
    size = len(cast(Sized, dataset))
    if size == 0:
        raise TypeError(f"{type(dataset).__name__} has no items: there is nothing to add to")
    if isinstance(dataset, Subset):
        inner = labels_of(dataset.dataset)[torch.as_tensor(dataset.indices, dtype=torch.int64)]
        if is_plain_subset(dataset) or _keeps(dataset, inner):
            return inner
    if isinstance(dataset, TensorDataset) and len(dataset.tensors) == 2:
        stored: list[Any] = [dataset.tensors[1]]
    else:
        stored = [getattr(dataset, name, None) for name in ("targets", "labels")]
    for values in stored:
        labels = _as_labels(values)
        if labels is not None and len(labels) == size:
            return labels
    logger.info("%s has no list of labels: reading all %d items for theirs", type(dataset).__name__, size)
    items = [raw_item(dataset, i)[1] for i in tqdm(range(size), "reading labels", unit="item", disable=size < 5000)]
    labels = _as_labels(items)
    if labels is None:
        raise TypeError(
            f"labels of {type(dataset).__name__} must be single ints, got {describe(items[0])}. "
            "Multi-label and continuous targets have no class to generate: wrap the dataset in one that gives every "
            "image one class"
        )
    return labels


def evaluation_split(dataset: Any) -> str | None:
    """How the innermost dataset says that it is for evaluation (``"train=False"``, ``"split='test'"``), or None."""
    base = base_dataset(dataset)
    if getattr(base, "train", None) is False:
        return "train=False"
    for name in ("split", "_split"):
        value = getattr(base, name, None)
        if isinstance(value, str) or type(value).__name__ == "NamedSplit":  # of HF datasets
            return f"{name}={str(value)!r}" if is_evaluation_name(str(value)) else None
    return None


def is_evaluation_name(split: str) -> bool:
    """Whether a split of this name is for evaluation, as ``"test"``, ``"test[:100]"`` and ``"train+test"`` are."""
    return any(part.strip().partition("[")[0] in _EVALUATION for part in split.lower().split("+"))


def check_not_evaluation(dataset: Any, *, allow_eval: bool) -> None:
    """Refuse data that models are judged on: generated images there would make the judgement worthless.

    Raises:
        ValueError: ``dataset`` is an evaluation split, and ``allow_eval`` is False.
    """
    found = evaluation_split(dataset)
    if found and not allow_eval:
        raise ValueError(
            f"{type(base_dataset(dataset)).__name__} is an evaluation split ({found}). Augment the training split: "
            "generated images among those that a model is judged on make the result worthless. If this is what you "
            "train on, pass allow_eval=True"
        )


def own_classes(dataset: Any) -> tuple[str, ...]:
    """Class names from a dataset's ``classes``, a sequence or array of any kind; empty if it has none."""
    names = getattr(dataset, "classes", None)
    return () if names is None else tuple(map(str, names))


def class_names_of(dataset: Dataset[Any], labels: Tensor) -> tuple[str, ...]:
    """Class names from the ``classes`` of a dataset or of the innermost one, else the labels themselves as strings.

    Raises:
        ValueError: a label is negative or has no name.
    """
    lowest, highest = int(labels.min()), int(labels.max())
    names = own_classes(dataset) or own_classes(base_dataset(dataset)) or tuple(map(str, range(highest + 1)))
    if lowest < 0 or highest >= len(names):
        raise ValueError(
            f"labels must be from 0 to {len(names) - 1} for the classes {', '.join(names)}; got {lowest} to {highest}"
        )
    return names


def image_kind(image: Any) -> ImageKind | None:
    """The form of a raw image; None if generated images cannot be given it."""
    if isinstance(image, Image.Image):
        return "PIL" if image.mode in ("L", "RGB") else None
    if isinstance(image, Tensor) and image.dtype == torch.uint8 and image.ndim == 3:
        return "tv_tensor" if _is_tv_tensor(image) else "tensor"
    return None


def _is_tv_tensor(image: Tensor) -> bool:
    if type(image) is Tensor:
        return False
    from torchvision import tv_tensors  # whoever has one has imported it

    return isinstance(image, tv_tensors.Image)


def image_shape(image: Any) -> tuple[int, int, int]:
    """(C, H, W) of an image for which :func:`image_kind` is not None."""
    if isinstance(image, Image.Image):
        return len(image.getbands()), image.height, image.width
    return tuple(image.shape)


def describe(value: Any) -> str:
    """What a value is, for an error message."""
    if isinstance(value, tuple | list):
        return f"a {type(value).__name__} of {len(value)}"
    if isinstance(value, Tensor | np.ndarray):
        return f"a {type(value).__name__} of shape {tuple(value.shape)}, {value.dtype}"
    return f"{type(value).__name__} {value!r:.80}"


def _as_labels(values: Any) -> Tensor | None:
    """``values`` as int64 (N,) if they are N single ints, else None."""
    try:
        labels = torch.as_tensor(np.asarray(values.cpu() if isinstance(values, Tensor) else values))
    except (TypeError, ValueError, RuntimeError):
        return None
    integral = not labels.is_floating_point() and not labels.is_complex() and labels.dtype != torch.bool
    return labels.to(torch.int64, copy=True) if integral and labels.ndim == 1 else None


def _keeps(dataset: Subset[Any], inner: Tensor) -> bool:
    """Whether the items of a subset have the labels of the dataset inside; one item of each class is looked at."""
    classes, first = np.unique(inner.numpy(), return_index=True)
    own = _as_labels([raw_item(dataset, index)[1] for index in first.tolist()])
    return own is not None and own.tolist() == classes.tolist()


def _without_transforms(dataset: Dataset[Any]) -> Dataset[Any]:
    if not Transforms.of(dataset):
        return dataset
    bare = copy.copy(dataset)
    for name, identity in zip(_TRANSFORM_NAMES, (_same, _same, _same_pair), strict=True):
        if getattr(dataset, name, None) is not None:
            setattr(bare, name, identity)
    return bare


def _same(value: Any) -> Any:
    return value


def _same_pair(image: Any, label: Any) -> tuple[Any, Any]:
    return image, label
