"""Checks that a generator or a mixed dataset of your own keeps what this library expects of it, for your tests.

Each raises an AssertionError that says what was expected and what was found, or returns None.
"""

from __future__ import annotations

import copy
import pickle
import random
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader

from ganaug.core.hardware import device_of, evaluation_mode
from ganaug.core.pixels import to_uint8
from ganaug.core.seeding import latents
from ganaug.core.text import shortened
from ganaug.data.examination import examine
from ganaug.data.label_form import class_index, form_of, same_form
from ganaug.data.own_transforms import watched_transforms
from ganaug.generators.base import Generator
from ganaug.hub.folder import check_round_trip
from ganaug.mixing.alignment import Look, form_differences, spread
from ganaug.mixing.dataset import ConditionalGANAugment
from ganaug.mixing.epoch_watch import not_watched
from ganaug.sampling.draw import sample


def check_generator(module: nn.Module, *, num_classes: int | None = None) -> None:
    """Check that images can be drawn from a module, as ``ConditionalGANAugment`` and the others do.

    It must have ``latent_dim``, return finite float images (N, C, H, W) in [-1, 1] for any N, treat every row
    independently in evaluation mode, be the same after ``copy.deepcopy`` and pickling, and leave the global random
    state alone. ``sample`` must draw the same images from it, together or alone. A ``Generator`` must be the same
    after it is saved and loaded again; other modules cannot be saved.

    Args:
        module (nn.Module): the generator.
        num_classes (int, optional): labels to try are 0 .. num_classes-1. Default: the number of its ``label_names``

    Raises:
        AssertionError: one of these does not hold.
        ValueError: the module has no ``label_names``, and ``num_classes`` was not given.
    """
    generator = cast(Any, module)
    latent_dim: Any = getattr(module, "latent_dim", None)
    _expect(type(latent_dim) is int and latent_dim > 0, "latent_dim is a positive int", latent_dim)
    classes = num_classes or len(getattr(generator, "label_names", ()))
    if not classes:
        raise ValueError("the generator has no label_names: pass num_classes")
    labels = torch.arange(7) % classes
    z = latents(0, range(7), latent_dim)
    device = device_of(module)
    with _random_state_untouched(), torch.inference_mode(), evaluation_mode(module):
        with _expected("it draws from float32 latents and int64 labels"):
            images = generator(z.to(device), labels.to(device))
        again = generator(z.to(device), labels.to(device))
        backwards = generator(z.flip(0).to(device), labels.flip(0).to(device)).flip(0)
    _check_images(images, rows=7)
    _expect(torch.equal(images, again), "evaluation mode gives the same images twice", "other ones")
    apart = float((images.float() - backwards.float()).abs().max())
    _expect(apart < 1e-3, "an image does not depend on its place in the batch (in evaluation mode)", f"{apart} apart")
    for how, copied_by in (("deepcopy", copy.deepcopy), ("pickle", lambda module: pickle.loads(pickle.dumps(module)))):
        with _expected(f"it can be copied by {how}"):
            copied = copied_by(generator)
        with torch.inference_mode():
            same = torch.equal(copied.eval()(z.to(device), labels.to(device)), images)
        del copied  # before there is another: each takes as much memory as the generator
        _expect(same, f"a copy made by {how} draws the same images", "other ones")
    _check_sample(generator, labels, images)
    if isinstance(module, Generator):
        with _random_state_untouched(), _expected("it is the same once it is saved and loaded again"):
            check_round_trip(module)


def check_augmented_dataset(dataset: ConditionalGANAugment, *, num_workers: int = 2) -> None:
    """Check what a mixed dataset promises.

    That is: counts, order, provenance, bytes that depend on the index alone, and real and generated items that are
    alike: labels are ``targets`` and have one form, class names are those of the labels, images have one form and go
    through the same transforms. Every item is read once, which takes as long as an epoch, and some again, one by one,
    in a batch and through a DataLoader. The dataset's transforms must not be random, or no two reads could be
    compared.

    Args:
        dataset (ConditionalGANAugment): or anything with its attributes.
        num_workers (int): workers of the DataLoader; 0 for none. Default: 2

    Raises:
        AssertionError: one of these does not hold.
    """
    size, n_fake = len(dataset), int(dataset.source.sum())
    _expect(dataset.targets.dtype == torch.int64 and dataset.targets.shape == (size,), "targets are int64 (len,)", "")
    _expect(dataset.source.dtype == torch.uint8 and dataset.source.shape == (size,), "source is uint8 (len,)", "")
    _expect(n_fake == dataset.n_fake, f"source marks n_fake = {dataset.n_fake} items", n_fake)
    _expect(abs(dataset.ratio_ - n_fake / size) < 1e-12, f"ratio_ is {n_fake / size}", dataset.ratio_)
    names = dict(enumerate(dataset.classes))
    _expect(dataset.class_to_idx == {name: k for k, name in names.items()}, "class_to_idx is that of classes", "")

    kinds = [torch.nonzero(dataset.source == kind).squeeze(1).tolist() for kind in (0, 1)]
    chosen = [index for some in kinds for index in {some[0], some[len(some) // 2], some[-1]}] if all(kinds) else [0]
    with _random_state_untouched(), not_watched():
        one_by_one = [dataset[index] for index in chosen]
        together = dataset.__getitems__(chosen[::-1])[::-1]
        _expect(_same(one_by_one, together), "items are the same one by one and in a batch", "other ones")
        copied = pickle.loads(pickle.dumps(dataset))
        _expect(
            _same(one_by_one, [copied[index] for index in chosen]),
            "a pickled copy has the same items",
            "different ones",
        )
        rng = torch.Generator()  # else the loader takes its seed from the global random state
        loader = DataLoader(
            dataset, sampler=chosen, batch_size=2, num_workers=num_workers, collate_fn=list, generator=rng
        )
        loaded = [item for batch in loader for item in batch]
        _expect(
            _same(one_by_one, loaded), f"a DataLoader of {num_workers} workers gives the same items", "different ones"
        )
        _check_names(dataset)
        _check_labels(dataset)
        _check_likeness(dataset)


def _check_names(dataset: ConditionalGANAugment) -> None:
    """That the dataset inside has these class names for these labels."""
    try:
        found = examine(dataset.dataset, dataset.classes if dataset.classes_given else None)
    except (TypeError, ValueError) as error:
        raise AssertionError(f"expected a dataset whose labels and class names agree; found that {error}") from error
    classes = list(dataset.classes)
    _expect(list(found.classes) == classes, f"classes are {shortened(found.classes)}", shortened(classes))
    real = torch.nonzero(dataset.source == 0).squeeze(1)
    _expect(
        torch.equal(dataset.targets[real], found.labels[real]), "targets of real items are their labels", "other ones"
    )


def _check_labels(dataset: ConditionalGANAugment) -> None:
    """That all items of a class have the same label, real and generated ones, and that it is the class's."""
    numbered = dataset.target_transform is None and dataset.transforms is None
    first: dict[int, tuple[int, Any]] = {}
    for start in range(0, len(dataset), 64):
        indices = list(range(start, min(start + 64, len(dataset))))
        items = dataset.__getitems__(indices)
        for index, k, label in zip(
            indices, dataset.targets[indices].tolist(), (item[1] for item in items), strict=True
        ):
            known, like = first.setdefault(k, (index, label))
            _expect(
                same_form(label, like) and _same(label, like),
                f"item {index} of class {k} has the label of item {known}, {form_of(like)} {like!r:.80}",
                f"{form_of(label)} {label!r:.80}",
            )
            number = class_index(label)
            _expect(not numbered or number in (k, None), f"item {index} has the label {k} of its targets", number)
    forms = sorted({form_of(label) for _, label in first.values()})
    _expect(len(forms) <= 1, "labels of all classes have one form", " and ".join(forms))


def _check_likeness(dataset: ConditionalGANAugment) -> None:
    """That generated images have the form of real ones and go through the transforms that those go through."""
    chosen = [torch.nonzero(dataset.source == kind).squeeze(1) for kind in (0, 1)]
    if not all(len(indices) for indices in chosen):
        return
    with watched_transforms(dataset.dataset) as calls:
        dataset[int(chosen[1][0])]  # finds out how the transforms that stand there now are called
        looks, called = [], []
        for indices in chosen:
            calls.clear()
            looks.append(Look.of([dataset[index][0] for index in spread(indices, 16)]))
            called.append(set(calls))
    apart = form_differences(*looks)
    _expect(not apart, "generated images have the form of real ones", apart)
    replaced = {"transform", "transforms"} if dataset.fake_transform is not None else set()
    _expect(
        called[0] - replaced == called[1] - replaced,
        f"generated items go through what real ones go through ({', '.join(sorted(called[0])) or 'nothing'})",
        ", ".join(sorted(called[1])) or "nothing",
    )


def _check_sample(generator: Any, labels: Tensor, images: Tensor) -> None:
    with _random_state_untouched(), _expected("sample draws from it"):
        drawn = sample(generator, labels)
        alone = sample(generator, labels[3:4], indices=[3])
    near = (drawn.short() - to_uint8(images).short().cpu()).abs() <= 1
    _expect(near.float().mean().item() >= 0.99, "sample draws the images that forward returns", "other ones")
    _expect(torch.equal(alone[0], drawn[3]), "sample draws the same image alone and among others", "another one")


def _check_images(images: Any, *, rows: int) -> None:
    _expect(isinstance(images, Tensor) and images.is_floating_point(), "images are a float tensor", type(images))
    _expect(images.ndim == 4 and len(images) == rows, f"images are ({rows}, C, H, W)", tuple(images.shape))
    _expect(bool(torch.isfinite(images).all()), "images are finite", "NaN or infinity")
    low, high = float(images.min()), float(images.max())
    _expect(low >= -1 and high <= 1, "images are in [-1, 1]", f"[{low}, {high}]")


def _expect(holds: bool, what: str, found: Any) -> None:
    if not holds:
        raise AssertionError(f"expected that {what}; found {found}")


def _same(first: Any, second: Any) -> bool:
    if isinstance(first, list | tuple):
        return len(first) == len(second) and all(_same(a, b) for a, b in zip(first, second, strict=True))
    if isinstance(first, Tensor) and isinstance(second, Tensor):  # numpy has no bfloat16
        return first.dtype == second.dtype and torch.equal(first, second)
    return np.array_equal(np.asarray(first), np.asarray(second))


@contextmanager
def _expected(what: str) -> Iterator[None]:
    try:
        yield
    except Exception as error:  # whatever the module raises
        raise AssertionError(f"expected that {what}; found {type(error).__name__}: {error}") from error


@contextmanager
def _random_state_untouched() -> Iterator[None]:
    def states() -> list[Any]:
        legacy: Any = np.random.get_state()
        return [torch.get_rng_state(), *legacy[1:3], *random.getstate()[:2]]

    before = states()
    yield
    _expect(
        _same(before, states()),
        "the global random state of torch, numpy and random stays as it was",
        "a different one",
    )
