"""The map-style way in: a Dataset of real and generated images."""

from __future__ import annotations

import copy
import operator
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.utils.data import Dataset, get_worker_info

from ganaug import inspection, sampling
from ganaug.generators import Generator
from ganaug.inspection import Transforms
from ganaug.mixing import match_plan
from ganaug.sampling import ConditionalGenerator
from ganaug.seeding import check_seed


class ConditionalGANAugment(Dataset[tuple[Any, Any]]):
    """Append images drawn from a class-conditional generator to a labelled dataset.

    ``ratio`` r is the fraction of the mixed dataset that is generated: ``n_fake = round(r / (1 - r) * n_real)``, so
    0.3 on 700 images adds 300. Classes keep their shares. Items 0 .. n_real-1 are ``dataset[i]``, untouched; the
    generated ones follow, in class order. An epoch is 1/(1-r) times as long as before: compare runs at equal steps.

    Generated images take the form of the raw ones (PIL of the same mode, or uint8 (C, H, W) tensors) and go through
    the same transforms. Item i depends on the generator, ``seed`` and i alone: not on workers, batches or global
    random state.

    Args:
        dataset (Dataset): map-style, items (image, int label). It is not modified.
        generator (Generator, module, str or Path): a module with ``latent_dim`` that maps float z (N, latent_dim) and
            int64 labels (N,) to float images (N, C, H, W) in [-1, 1]; it is copied. Or a folder or Hub id
            (``"user/repo@revision"``) to load one from.
        ratio (float): in [0, 1). Default: 0.3
        class_map (mapping, optional): {dataset class name: generator class name} for classes whose names differ.
        transform (callable, optional): for every image, where the dataset has no transform of its own.
        target_transform (callable, optional): for every label, likewise.
        transforms (callable, optional): for every (image, label), instead of the two.
        fake_transform (callable, optional): uint8 (C, H, W) tensor to what the dataset gives for an image; for
            datasets whose own processing cannot be found.
        seed (int): in [0, 2**64). Default: 0

    Attributes:
        classes (tuple of str), class_to_idx (dict): of the dataset.
        targets (Tensor): int64 (len(self),), labels of real and generated items.
        source (Tensor): uint8 (len(self),), 0 for real and 1 for generated items.
        n_real (int), n_fake (int): how many of each.

    Raises:
        ValueError: the ratio is out of range, transforms are given twice, the generator is unconditional, does not
            know a class, or makes images of another number of channels or size.
        TypeError: the dataset is not map-style, its items are not (image, int label), or its images have a form that
            generated ones cannot be put in.
        LoadError: the generator cannot be loaded.
    """

    def __init__(
        self,
        dataset: Dataset[Any],
        generator: ConditionalGenerator | str | Path,
        ratio: float = 0.3,
        *,
        class_map: Mapping[str, str] | None = None,
        transform: Callable[[Any], Any] | None = None,
        target_transform: Callable[[Any], Any] | None = None,
        transforms: Callable[[Any, Any], tuple[Any, Any]] | None = None,
        fake_transform: Callable[[Tensor], Any] | None = None,
        seed: int = 0,
    ) -> None:
        self.dataset = dataset
        self.ratio = ratio
        self.seed = check_seed(seed)
        self._transforms = self._only_transforms(Transforms(transform, target_transform, transforms))
        self._fake_transform = fake_transform

        real_labels = inspection.labels_of(dataset)
        self.classes = inspection.class_names_of(dataset, real_labels)
        self.class_to_idx = {name: k for k, name in enumerate(self.classes)}
        counts = torch.bincount(real_labels, minlength=len(self.classes)).tolist()
        plan = torch.tensor(match_plan(counts, ratio), dtype=torch.int64)
        self.n_real, self.n_fake = len(real_labels), len(plan)
        self.targets = torch.cat([real_labels, plan])
        self.source = (torch.arange(len(self.targets)) >= self.n_real).to(torch.uint8)

        self._generator = _own_copy(generator)
        if not getattr(self._generator, "conditional", True):
            raise ValueError(
                f"the generator ({type(self._generator).__name__}) is unconditional: it cannot draw a class that is "
                "asked for, so its images have no label. Train a conditional one, for instance with "
                "recipes/train_dcgan.py --model dcgan-32-conditional"
            )
        names = getattr(self._generator, "label_names", None)
        present = [name for name, count in zip(self.classes, counts, strict=True) if count]
        self._generator_label = torch.tensor(_match_classes(self.classes, present, names, class_map or {}))
        raw_image, self._raw_label = inspection.raw_item(dataset, 0)
        self._kind = inspection.image_kind(raw_image)
        self._check_images(raw_image)

    def __len__(self) -> int:
        return self.n_real + self.n_fake

    def __getitem__(self, index: int) -> tuple[Any, Any]:
        return self.__getitems__([index])[0]

    def __getitems__(self, indices: Sequence[int]) -> list[tuple[Any, Any]]:
        """Items of a batch, in order; all its generated images are made together."""
        wanted = [self._check_index(index) for index in indices]
        fake = [index for index in wanted if index >= self.n_real]
        real = [index for index in wanted if index < self.n_real]
        made = dict(zip(fake, self._generate(fake), strict=True)) if fake else {}
        found = dict(zip(real, self._read(real), strict=True)) if real else {}
        return [made[index] if index >= self.n_real else found[index] for index in wanted]

    def __repr__(self) -> str:
        return (
            f"{type(self).__name__}\n"
            f"    Number of datapoints: {len(self)} ({self.n_real} real, {self.n_fake} generated)\n"
            f"    Ratio: {self.ratio} of the mixed dataset is generated\n"
            f"    Dataset: {type(self.dataset).__name__}, {len(self.classes)} classes\n"
            f"    Generator: {type(self._generator).__name__}\n"
            f"    Seed: {self.seed}"
        )

    def _read(self, indices: list[int]) -> list[tuple[Any, Any]]:
        read_batch = getattr(self.dataset, "__getitems__", None)
        items = read_batch(indices) if callable(read_batch) else [self.dataset[index] for index in indices]
        return [self._transforms(*item) for item in items] if self._transforms else items

    def _generate(self, indices: list[int]) -> list[tuple[Any, Any]]:
        device = sampling.device_of(cast(nn.Module, self._generator))
        if device.type != "cpu" and get_worker_info() is not None:
            raise RuntimeError(
                f"the generator is on {device}, and a DataLoader worker cannot use it there. "
                "Pass the generator on the CPU (generator.cpu()), or use num_workers=0"
            )
        labels = self.targets[torch.tensor(indices)]
        images = sampling.sample(self._generator, self._generator_label[labels], seed=self.seed, indices=indices)
        return [self._dress(image, int(label)) for image, label in zip(images, labels, strict=True)]

    def _dress(self, image: Tensor, label: int) -> tuple[Any, Any]:
        """Put a generated image and its label in the form of the dataset's items."""
        transforms = self._transforms or Transforms.of(self.dataset)
        example = inspection.label_like(label, self._raw_label)
        if self._fake_transform is None:
            return transforms(inspection.present(image, cast(inspection.ImageKind, self._kind)), example)
        _, target = Transforms(target_transform=transforms.target_transform)(None, example)
        return self._fake_transform(image), target

    def _check_index(self, index: int) -> int:
        position = operator.index(index)
        if not -len(self) <= position < len(self):
            raise IndexError(f"index {index} is out of range for {len(self)} items")
        return position % len(self)

    def _only_transforms(self, given: Transforms) -> Transforms:
        if given.transforms and (given.transform or given.target_transform):
            raise ValueError("Only transforms or transform/target_transform can be passed as argument")
        if given and Transforms.of(self.dataset):
            raise ValueError(
                f"two transforms: {type(self.dataset).__name__} has its own, and one was passed. Generated images go "
                "through the dataset's own; pass none, or build the dataset without"
            )
        return given

    def _check_images(self, raw_image: Any) -> None:
        """Refuse a generator whose images the dataset's cannot be mixed with."""
        first = sampling.sample(self._generator, self._generator_label[self.targets[:1]], seed=self.seed)[0]
        if self._fake_transform is not None:
            return
        if self._kind is None:
            raise TypeError(
                f"images of {type(self.dataset).__name__} must be PIL images (L or RGB) or uint8 (C, H, W) tensors "
                f"before its transform, got {inspection.describe(raw_image)}. Pass fake_transform, which turns a "
                "uint8 (C, H, W) tensor into what the dataset gives"
            )
        real, made = inspection.image_shape(raw_image), tuple(first.shape)
        resizable = self._transforms or Transforms.of(self.dataset)
        if real[0] != made[0] or (real != made and not resizable):
            raise ValueError(
                f"the dataset's images are (C, H, W) = {real}, the generator's {made}. Train a generator on images of "
                "that shape, give the dataset a transform that resizes, or pass fake_transform"
            )


def _own_copy(generator: ConditionalGenerator | str | Path) -> ConditionalGenerator:
    """A generator that nobody else trains or moves."""
    if isinstance(generator, str | Path):
        return cast(ConditionalGenerator, Generator.from_pretrained(generator))
    if not isinstance(generator, nn.Module) or not isinstance(getattr(generator, "latent_dim", None), int):
        raise TypeError(
            "generator must be a module with latent_dim and forward(z, labels), a folder or a Hub id; "
            f"got {type(generator).__name__}"
        )
    return cast(ConditionalGenerator, copy.deepcopy(generator).eval().requires_grad_(False))


def _match_classes(
    classes: Sequence[str], present: Sequence[str], names: Sequence[str] | None, class_map: Mapping[str, str]
) -> list[int]:
    """Generator label of each dataset class; classes without images and without a match get 0."""
    if names is None:
        return list(range(len(classes)))
    unknown = [name for name in class_map if name not in classes] + [
        name for name in class_map.values() if name not in names
    ]
    missing = [name for name in present if class_map.get(name, name) not in names]
    if unknown or missing:
        problem = (
            f"class_map has names that neither has: {', '.join(unknown)}"
            if unknown
            else f"the generator does not know {', '.join(missing)}"
        )
        raise ValueError(
            f"{problem}. The dataset's classes are {', '.join(classes)}; the generator's are {', '.join(names)}. "
            "Pass class_map={dataset name: generator name}; where they stand in the same order, "
            "class_map=dict(zip(dataset.classes, generator.label_names))"
        )
    index = {name: k for k, name in enumerate(names)}
    return [index.get(class_map.get(name, name), 0) for name in classes]
