"""Generated images mixed into a map-style dataset: a Dataset of real and generated items."""

from __future__ import annotations

import logging
import operator
import textwrap
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, Literal, cast

import torch
from torch import Tensor
from torch.utils.data import Dataset, get_worker_info

from ganaug.core import fingerprints
from ganaug.core.files import user_cache
from ganaug.core.hardware import best_device
from ganaug.core.seeding import check_seed, kept_random_state
from ganaug.data import inspection
from ganaug.data.examination import ExaminedItems, examine
from ganaug.data.nesting import read_batch
from ganaug.data.own_transforms import Transforms
from ganaug.mixing import alignment
from ganaug.mixing.alignment import Look
from ganaug.mixing.epoch_watch import EpochWatch, not_watched
from ganaug.mixing.generated import GeneratedItems
from ganaug.mixing.item_form import ItemForm
from ganaug.mixing.plan import Plan, Strategy
from ganaug.mixing.resolve import resolve
from ganaug.mixing.workers import SharedEpoch
from ganaug.sampling.class_sampler import ClassSampler
from ganaug.sampling.filters import Filter
from ganaug.sampling.inference import ConditionalGenerator
from ganaug.sampling.variations import check_strength

logger = logging.getLogger(__name__)


class ConditionalGANAugment(Dataset[tuple[Any, ...]]):
    """Mix images drawn from a class-conditional generator into a labelled dataset.

    ``ratio`` r is the fraction of the mixed dataset that is generated. In mode ``"append"``, ``n_fake = round(r / (1 -
    r) * n_real)``, so 0.3 on 700 images adds 300; items 0 .. n_real-1 are ``dataset[i]``, untouched, and the generated
    ones follow in class order. An epoch is 1/(1-r) times as long as before: compare runs at equal steps. In mode
    ``"replace"`` the length stays n_real, and ``round(r * n_real)`` items are generated, each in the class of the item
    it replaces. Other items are replaced in every epoch, so that over time each is replaced equally often.

    Generated images take the form of the raw ones (PIL of the same mode, or uint8 (C, H, W) tensors) and go through
    the same transforms. Generated item i depends on the generator, ``seed``, i and, with ``resample``, the epoch
    alone, and with ``vary`` on its place in its class and the real images of that: not on workers, batches or global
    random state.

    Args:
        dataset (Dataset): map-style, items (image, label). A label is an int, a tensor or array of one element, a
            one-hot vector or a class name; generated ones have the same form. Some items are read, at least one
            of each class, to check what the dataset says about itself. It is not modified.
        generator (Generator, module, str or Path, optional): a module with ``latent_dim`` that maps float z (N,
            latent_dim) and int64 labels (N,) to float images (N, C, H, W) in [-1, 1]; it is copied. Or a folder or Hub
            id (``"user/repo@revision"``) to load one from. None: one is trained on this dataset, which takes minutes,
            and kept for the next time.
        ratio (float or "auto", optional): in [0, 1). ``"auto"``: the ratio that does best on ``validation``, 0 if none
            helps; see :func:`ganaug.evaluation.choose_ratio`. Default: 0.3
        validation (Dataset, optional): real images that ``"auto"`` judges by, which the generator has not seen.
        mode (str): ``"append"`` or ``"replace"``. Default: append
        sampling_strategy (str, mapping or callable): how many images of which class; see
            :func:`ganaug.mixing.plan.append_quotas`. Strategies that fix the number of images take no ratio. Default:
            match
        classes (sequence of str, optional): class names; label k is ``classes[k]``. Default: those that the dataset
            states, or a dataset inside it that has the same labels
        class_map (mapping, optional): {dataset class name: generator class name} for classes whose names differ.
        transform (callable, optional): for every image, if the dataset has no transform of its own.
        target_transform (callable, optional): for every label, likewise.
        transforms (callable, optional): for every (image, label), instead of the two.
        fake_transform (callable, optional): uint8 (C, H, W) tensor to what the dataset returns for an image; for
            datasets whose own processing cannot be determined, such as a transform that is called with ``image=``.
        accept (callable, optional): filter, from uint8 images (N, C, H, W) and int64 labels (N,) to bool (N,); see
            :mod:`ganaug.filters`. For an image it refuses, another is drawn.
        max_tries (int): images drawn for an item before the filter counts as starved. Default: 10
        vary (float, optional): draw variations of the dataset's images, at this strength in (0, 1]. Noise is mixed
            into an image of the class, and the generator, which must be a flow, goes this share of the way from noise
            to image again; see :meth:`ganaug.Generator.vary`. All images are opened for that, before transforms, as
            :func:`ganaug.open_images` does. Default: images are drawn from noise alone
        resample (bool): other generated images in every epoch; needs :meth:`set_epoch`, and warns if nothing
            calls it. Default: False
        return_source (bool): items end with an int, 0 for real and 1 for generated. Default: False
        seed (int): in [0, 2**64). Default: 0
        cache_dir (str or Path, optional): where fitted generators, chosen ratios and materialised images are kept.
            Default: ``~/.cache/ganaug``
        device (torch.device or str, optional): to generate on. Default: where the generator is
        allow_eval (bool): take a dataset that says it is for evaluation. Default: False

    Attributes:
        classes (list of str), class_to_idx (dict): the dataset's; label k is ``classes[k]``.
        classes_given (bool): whether they are those of the argument ``classes``.
        fake_transform (callable, optional): as given.
        targets (Tensor): int64 (len(self),), labels of real and generated items.
        source (Tensor): uint8 (len(self),), 0 for real and 1 for generated items; in mode replace, of this epoch.
        n_real (int): len(dataset).
        n_fake (int): how many items are generated.
        ratio_ (float): n_fake / len(self).
        sampling_strategy_ (dict): {class name: number of generated images}.
        sampler (ClassSampler): draws the generated images.
        epoch (int): see :meth:`set_epoch`.

    Raises:
        ValueError: the ratio, mode or strategy is not one of the above, transforms are given twice, the dataset is for
            evaluation, its labels are not those of its items, its class names are not known, or the generator is
            unconditional, does not know a class, makes images of another number of channels or size, or cannot
            ``vary`` them.
        TypeError: the dataset is not map-style, its items are not (image, label), generated images cannot take the
            form of its images, or it is not known what it does to images.
        DataError: images that are to be varied cannot be read.
        LoadError: the generator cannot be loaded.
        RuntimeError: no generator was given, and fitting one failed.
    """

    def __init__(
        self,
        dataset: Dataset[Any],
        generator: ConditionalGenerator | str | Path | None = None,
        ratio: float | Literal["auto"] | None = None,
        *,
        validation: Dataset[Any] | None = None,
        mode: Literal["append", "replace"] = "append",
        sampling_strategy: Strategy = "match",
        classes: Sequence[str] | None = None,
        class_map: Mapping[str, str] | None = None,
        transform: Callable[[Any], Any] | None = None,
        target_transform: Callable[[Any], Any] | None = None,
        transforms: Callable[[Any, Any], tuple[Any, Any]] | None = None,
        fake_transform: Callable[[Tensor], Any] | None = None,
        accept: Filter | None = None,
        max_tries: int = 10,
        vary: float | None = None,
        resample: bool = False,
        return_source: bool = False,
        seed: int = 0,
        cache_dir: str | Path | None = None,
        device: torch.device | str | None = None,
        allow_eval: bool = False,
    ) -> None:
        inspection.check_not_evaluation(dataset, allow_eval=allow_eval)
        self.dataset = dataset
        self.mode, self.resample, self.return_source = mode, resample, return_source
        # Absolute, because workers and copies may have another working directory.
        self._cache_dir = Path(cache_dir).absolute() if cache_dir is not None else user_cache()

        # What the dataset is.
        found = examine(dataset, classes)
        labels, names, self._reader = found.labels, found.classes, found.reader
        self._reader.release()
        self._transforms = self._checked(Transforms(transform, target_transform, transforms))
        self._form = ItemForm(
            found.image,
            found.label_form,
            fake_transform,
            owner=type(dataset).__name__,
            obstacle=found.reader.obstacle,
        )

        # How many images of which class, and what draws them.
        if classes is not None:  # images are opened under the same names for fitting a generator or choosing a ratio
            dataset = ExaminedItems(found, type(dataset).__name__)
            if validation is not None:
                validation = ExaminedItems(examine(validation, classes), type(validation).__name__)
        self._plan, self.sampler = resolve(
            dataset,
            generator,
            ratio,
            labels=labels,
            validation=validation,
            make_plan=partial(Plan, labels, names, mode=mode, strategy=sampling_strategy, seed=check_seed(seed)),
            make_sampler=partial(
                ClassSampler,
                classes=names,
                class_map=class_map,
                accept=accept,
                max_tries=max_tries,
                vary=None if vary is None else check_strength(vary, "vary"),
                seed=seed,
                device=device,
            ),
            form=self._form,
            resizable=bool(self._transforms or self._reader.applied()),
            class_map=class_map,
            cache_dir=self._cache_dir,
        )
        self._generated = GeneratedItems(self._plan, self.sampler, resample=resample, cache_dir=self._cache_dir)
        self._device = device
        self._epoch = SharedEpoch()

        self.classes, self.classes_given, self.fake_transform = list(names), classes is not None, fake_transform
        self.class_to_idx = {name: k for k, name in enumerate(names)}
        self.targets = self._plan.targets
        self.n_real = len(labels)
        self.n_fake = len(self._plan.fakes(epoch=0))
        self.ratio_ = self.n_fake / len(self)
        self.sampling_strategy_ = dict(zip(names, self._plan.quotas, strict=True))
        changes = self.n_fake > 0 and (resample or mode == "replace")
        self._epoch_watch = EpochWatch(len(self)) if changes else None
        self._warn_if_enlarged()

    @property
    def source(self) -> Tensor:
        """0 for each real and 1 for each generated item, uint8 (len(self),)."""
        return (self._generated.rows(self.epoch) >= 0).to(torch.uint8)

    @property
    def epoch(self) -> int:
        """Number of the current epoch; see :meth:`set_epoch`."""
        return self._epoch.value

    def set_epoch(self, epoch: int) -> None:
        """Move on to an epoch: with ``resample`` it has other images, in mode replace it replaces other items.

        Call it between epochs; workers that are running, persistent ones too, see it with their next batch. Not every
        training library calls it for you. accelerate does: a prepared loader tells its dataset the loader's own epoch
        whenever an iteration begins, so there call ``loader.set_epoch(epoch)`` instead.

        Args:
            epoch (int): from 0.

        Raises:
            ValueError: ``epoch`` is not an int from 0.
        """
        before, self._epoch.value = self.epoch, epoch
        if self._epoch_watch:
            self._epoch_watch.told(before=before, epoch=epoch)

    @property
    def transform(self) -> Callable[[Any], Any] | None:
        """What every image goes through, real or generated; some libraries set it after construction.

        Raises:
            ValueError: it is set here, and the dataset inside has transforms of its own.
        """
        return cast(Callable[[Any], Any] | None, self._transform_called("transform"))

    @transform.setter
    def transform(self, value: Callable[[Any], Any] | None) -> None:
        self._set_transform("transform", value)

    @property
    def target_transform(self) -> Callable[[Any], Any] | None:
        """What every label goes through; see :attr:`transform`."""
        return cast(Callable[[Any], Any] | None, self._transform_called("target_transform"))

    @target_transform.setter
    def target_transform(self, value: Callable[[Any], Any] | None) -> None:
        self._set_transform("target_transform", value)

    @property
    def transforms(self) -> Callable[[Any, Any], tuple[Any, Any]] | None:
        """What every (image, label) goes through, instead of the two; see :attr:`transform`."""
        return cast(Callable[[Any, Any], tuple[Any, Any]] | None, self._transform_called("transforms"))

    @transforms.setter
    def transforms(self, value: Callable[[Any, Any], tuple[Any, Any]] | None) -> None:
        self._set_transform("transforms", value)

    def __len__(self) -> int:
        return len(self.targets)

    def __getitem__(self, index: int) -> tuple[Any, ...]:
        return self.__getitems__([index])[0]

    def __getitems__(self, indices: Sequence[int]) -> list[tuple[Any, ...]]:
        """Items of a batch, in order; its generated images are drawn together."""
        epoch = self.epoch
        if self._epoch_watch:
            self._epoch_watch.read(len(indices), epoch)
        wanted = [self._check_index(index) for index in indices]
        rows = self._generated.rows(epoch)[wanted].tolist()  # -1 for real items
        fake = [index for index, row in zip(wanted, rows, strict=True) if row >= 0]
        real = [index for index, row in zip(wanted, rows, strict=True) if row < 0]
        reals = iter(self._read(real) if real else [])
        fakes = iter(self._generate(fake, epoch) if fake else [])
        items = [next(fakes) if row >= 0 else next(reals) for row in rows]
        return [(*item, int(row >= 0)) for item, row in zip(items, rows, strict=True)] if self.return_source else items

    def materialize(self) -> Path:
        """Generate the images of the current epoch once, into a read-only file that workers and ranks read.

        They are drawn on the accelerator, if there is one, with bounded memory. The folder is named by everything that
        the images depend on, and reused if it exists; of several processes, one generates and the others wait. With
        ``resample`` or in mode replace, call it again after :meth:`set_epoch`; images of an epoch without a file are
        generated as they are read.

        Returns:
            Path: folder with ``images.npy``, uint8 (n_fake, C, H, W), and ``index.json``.

        Raises:
            OSError: the cache folder cannot be written to or the disk is full.
            RuntimeError: called in a DataLoader worker.
            StarvedFilterError: ``accept`` refused ``max_tries`` images for an item.
        """
        if get_worker_info() is not None:
            raise RuntimeError("materialize() was called in a DataLoader worker. Call it before the loader starts")
        sampler = self.sampler.moved_to(best_device()) if self._device is None else self.sampler
        return self._generated.materialize(self.epoch, sampler)

    def state_dict(self) -> dict[str, Any]:
        """The epoch, and fingerprints of what the items depend on, as plain JSON values."""
        return {"epoch": self.epoch, **self._identity()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continue in the epoch of a saved state.

        Raises:
            ValueError: the state was saved with another seed, plan, generator or images to vary, or has no
                epoch.
        """
        found = self.sampler.state_differences(state, self._identity())
        found = found or ("" if "epoch" in state else "it has no epoch")
        if found:
            raise ValueError(
                f"the state is of another mixed dataset ({found}). Load it into one made with "
                "the same dataset, generator, ratio, mode, strategy, filter, vary and seed"
            )
        self.set_epoch(state["epoch"])

    def sample_weights(self, fake: float = 1.0) -> Tensor:
        """Weight of each item for ``WeightedRandomSampler``: 1 for real items, ``fake`` for generated ones.

        Args:
            fake (float): weight of a generated item, 0 or more. Default: 1

        Returns:
            Tensor: float64 (len(self),).

        Raises:
            ValueError: ``fake`` is negative or not finite.
        """
        if not 0 <= fake < float("inf"):
            raise ValueError(f"fake must be a weight of 0 or more, and finite; got {fake!r}")
        return torch.where(self.source.bool(), float(fake), 1.0).double()

    def check_alignment(self, n: int = 64) -> None:
        """Compare up to ``n`` real with ``n`` generated items as they are delivered, after the transforms.

        Args:
            n (int): items of each kind. Default: 64

        Raises:
            ValueError: the two differ in type, dtype, shape, range or mean; see
                :func:`ganaug.mixing.alignment.compare`.
        """
        rows = self._generated.rows(self.epoch)
        parts = [alignment.spread(torch.nonzero(kind).squeeze(1), n) for kind in (rows < 0, rows >= 0)]
        if all(parts):
            with torch.random.fork_rng(devices=[]), not_watched():  # transforms draw from the global state
                looks = [Look.of([item[0] for item in self.__getitems__(part)]) for part in parts]
            alignment.compare(*looks)

    def extra_repr(self) -> str:
        """What ``repr`` shows besides the number of datapoints."""
        fakes = ", ".join(f"{name}: {count}" for name, count in self.sampling_strategy_.items())
        counts = torch.bincount(self.targets[self.source == 0], minlength=len(self.classes)).tolist()
        empty = ", ".join(name for name, count in zip(self.classes, counts, strict=True) if not count)
        return "\n".join(
            [
                f"Generated: {self.ratio_:.4g} of the mixed dataset, mode {self.mode}",
                f"Generated by class: {textwrap.shorten(fakes, 200)}",
                f"Dataset: {type(self.dataset).__name__}, {len(self.classes)} classes",
                *([f"No real items: {textwrap.shorten(empty, 200)}"] if empty else []),
                *([f"Variations of real images, strength {self.sampler.vary:g}"] if self.sampler.vary else []),
                f"Generator: {self.sampler.name}",
                f"Seed: {self.sampler.seed}, epoch: {self.epoch}",
            ]
        )

    def __repr__(self) -> str:
        head = f"Number of datapoints: {len(self)} ({len(self) - self.n_fake} real, {self.n_fake} generated)"
        return f"{type(self).__name__}\n" + textwrap.indent(f"{head}\n{self.extra_repr()}", " " * 4)

    def _identity(self) -> dict[str, Any]:
        plan = fingerprints.of_values(self.targets, self._plan.quotas, self.mode, self.resample)
        return {
            "format": fingerprints.STATE_FORMAT,
            "seed": self.sampler.seed,
            "plan": plan,
            "generator": self.sampler.identity,
        }

    def _read(self, indices: list[int]) -> list[tuple[Any, Any]]:
        items = read_batch(self.dataset, indices)
        return [self._transforms(*item) for item in items] if self._transforms else items

    def _generate(self, indices: list[int], epoch: int) -> list[tuple[Any, Any]]:
        images, labels = self._generated.images(indices, epoch), self.targets[indices].tolist()
        own, given = self._reader.applied(), self._transforms
        self._form.check_known(self._reader.obstacle)  # the dataset may have been given another transform
        return [
            self._form.dress(image, label, own=own, given=given) for image, label in zip(images, labels, strict=True)
        ]

    def _transform_called(self, name: str) -> Any:
        given = getattr(self._transforms, name)
        return self._reader.stated.get(name) if given is None else given

    def _set_transform(self, name: str, value: Any) -> None:
        if value is not self._transform_called(name):
            self._transforms = self._checked(replace(self._transforms, **{name: value}), setting=name)
            self._warn_if_enlarged()

    def _checked(self, given: Transforms, setting: str | None = None) -> Transforms:
        """Transforms given for a dataset that must not have its own."""
        if (given or setting) and self._reader.has_transforms:
            there = f"Set .dataset.{setting} instead" if setting else "pass none, or build the dataset without"
            raise ValueError(
                f"two transforms: {type(self.dataset).__name__} has its own, and one was passed. Generated images go "
                f"through the dataset's own; {there}"
            )
        return given

    def _warn_if_enlarged(self) -> None:
        """Warn if transforms enlarge generated images more than real ones to bring both to one size."""
        real, made = self._form.shape, self.sampler.image_shape
        if real is None or not self.n_fake or min(made[1:]) >= min(real[1:]):
            return
        with kept_random_state():
            own, given = self._reader.applied(), self._transforms
            blank = self._form.dress(torch.zeros(made, dtype=torch.uint8), int(self.targets[0]), own=own, given=given)
            size, same = [inspection.image_size(image) for image, _ in (blank, self._read([0])[0])]
        if size is not None and size == same and min(size) > min(made[1:]):
            before, after = min(made[1:]), min(size)
            logger.warning(
                "generated images are enlarged %.3gx (%d to %d pixels), real ones %.3gx: a classifier can tell them "
                "apart by their blur. Use a generator of larger images, or resize both to %d pixels first",
                after / before,
                before,
                after,
                after / min(real[1:]),
                before,
            )

    def _check_index(self, index: int) -> int:
        position = operator.index(index)
        if not -len(self) <= position < len(self):
            raise IndexError(f"index {index} is out of range for {len(self)} items")
        return position % len(self)
