"""The map-style way in: a Dataset of real and generated images."""

from __future__ import annotations

import operator
import textwrap
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor
from torch.utils.data import Dataset, get_worker_info

from ganaug.core import fingerprints
from ganaug.core.files import user_cache
from ganaug.core.hardware import best_device
from ganaug.core.seeding import check_seed
from ganaug.data import inspection
from ganaug.data.inspection import Transforms
from ganaug.mixing import alignment
from ganaug.mixing.alignment import Look
from ganaug.mixing.auto_ratio import auto_ratio
from ganaug.mixing.generated import GeneratedItems
from ganaug.mixing.items import ItemForm
from ganaug.mixing.plan import DEFAULT_RATIO, Plan, Strategy
from ganaug.mixing.workers import SharedEpoch
from ganaug.sampling.class_sampler import ClassSampler
from ganaug.sampling.filters import Filter
from ganaug.sampling.inference import ConditionalGenerator


class ConditionalGANAugment(Dataset[tuple[Any, ...]]):
    """Mix images drawn from a class-conditional generator into a labelled dataset.

    ``ratio`` r is the fraction of the mixed dataset that is generated. In mode ``"append"``, ``n_fake = round(r / (1 -
    r) * n_real)``, so 0.3 on 700 images adds 300; items 0 .. n_real-1 are ``dataset[i]``, untouched, and the generated
    ones follow in class order. An epoch is 1/(1-r) times as long as before: compare runs at equal steps. In mode
    ``"replace"`` the length stays n_real, and ``round(r * n_real)`` items are generated, each in the class of the item
    it replaces; which ones moves with the epoch, so that all are replaced equally often.

    Generated images take the form of the raw ones (PIL of the same mode, or uint8 (C, H, W) tensors) and go through
    the same transforms. Item i depends on the generator, ``seed``, i and, with ``resample``, the epoch alone: not on
    workers, batches or global random state.

    Args:
        dataset (Dataset): map-style, items (image, int label). It is not modified.
        generator (Generator, module, str or Path, optional): a module with ``latent_dim`` that maps float z (N,
            latent_dim) and int64 labels (N,) to float images (N, C, H, W) in [-1, 1]; it is copied. Or a folder or Hub
            id (``"user/repo@revision"``) to load one from. None: one is trained on this dataset, which takes minutes,
            and kept for the next time.
        ratio (float or "auto", optional): in [0, 1). ``"auto"``: what does best on ``validation``, 0 where nothing
            helps; see :func:`ganaug.evaluation.choose_ratio`. Default: 0.3
        validation (Dataset, optional): real images that ``"auto"`` judges by, which the generator has not seen.
        mode (str): ``"append"`` or ``"replace"``. Default: append
        sampling_strategy (str, mapping or callable): of which classes; see
            :func:`ganaug.mixing.plan.append_quotas`. Those that fix the number of images take no ratio. Default: match
        class_map (mapping, optional): {dataset class name: generator class name} for classes whose names differ.
        transform (callable, optional): for every image, where the dataset has no transform of its own.
        target_transform (callable, optional): for every label, likewise.
        transforms (callable, optional): for every (image, label), instead of the two.
        fake_transform (callable, optional): uint8 (C, H, W) tensor to what the dataset gives for an image; for
            datasets whose own processing cannot be found.
        accept (callable, optional): filter, from uint8 images (N, C, H, W) and int64 labels (N,) to bool (N,); see
            :mod:`ganaug.filters`. Images it refuses are drawn anew.
        max_tries (int): images drawn for an item before the filter counts as starved. Default: 10
        resample (bool): other generated images in every epoch; needs :meth:`set_epoch`. Default: False
        return_source (bool): items end with an int, 0 for real and 1 for generated. Default: False
        seed (int): in [0, 2**64). Default: 0
        cache_dir (str or Path, optional): where fitted generators and materialised images are kept. Default:
            ``~/.cache/ganaug``
        device (torch.device or str, optional): to generate on. Default: where the generator is.
        allow_eval (bool): take a dataset that says it is for evaluation. Default: False

    Attributes:
        classes (tuple of str), class_to_idx (dict): of the dataset.
        targets (Tensor): int64 (len(self),), labels of real and generated items.
        source (Tensor): uint8 (len(self),), 0 for real and 1 for generated items; in mode replace of the epoch.
        n_real (int): len(dataset).
        n_fake (int): how many items are generated.
        ratio_ (float): n_fake / len(self).
        sampling_strategy_ (dict): {class name: number of generated images}.
        epoch (int): see :meth:`set_epoch`.

    Raises:
        ValueError: the ratio, mode or strategy is not as above, transforms are given twice, the dataset is for
            evaluation, or the generator is unconditional, does not know a class, or makes images of another number of
            channels or size.
        TypeError: the dataset is not map-style, its items are not (image, int label), or its images have a form that
            generated ones cannot be put in.
        LoadError: the generator cannot be loaded.
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
        class_map: Mapping[str, str] | None = None,
        transform: Callable[[Any], Any] | None = None,
        target_transform: Callable[[Any], Any] | None = None,
        transforms: Callable[[Any, Any], tuple[Any, Any]] | None = None,
        fake_transform: Callable[[Tensor], Any] | None = None,
        accept: Filter | None = None,
        max_tries: int = 10,
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
        # Absolute: workers and copies may be elsewhere.
        self._cache_dir = Path(cache_dir).absolute() if cache_dir is not None else user_cache()
        self._transforms = inspection.only_transforms(dataset, Transforms(transform, target_transform, transforms))
        labels = inspection.labels_of(dataset)
        self.classes = inspection.class_names_of(dataset, labels)
        self.class_to_idx = {name: k for k, name in enumerate(self.classes)}
        if (ratio == "auto") != (validation is not None):
            raise ValueError(
                "ratio='auto' and validation go together: the ratio is chosen on images that neither the generator "
                f"nor the classifiers have seen. Got ratio {ratio!r} and validation {type(validation).__name__}"
            )
        self.n_real = len(labels)
        plan = partial(Plan, labels, self.classes, mode=mode, strategy=sampling_strategy, seed=check_seed(seed))
        # A ratio to be chosen stands in for itself at first, so that what is wrong is refused before it takes minutes.
        self._set_plan(plan(ratio=DEFAULT_RATIO if ratio == "auto" else ratio))
        self._form = ItemForm(*inspection.raw_item(dataset, 0), fake_transform, owner=type(dataset).__name__)
        resizable = bool(self._transforms or Transforms.of(dataset))
        if generator is None:
            from ganaug.mixing import fitting  # training is imported where it is needed

            shape = self._form.shape if resizable else None
            resolution = fitting.suitable_resolution(*shape[1:]) if shape else None
            generator = fitting.fit_generator(dataset, resolution=resolution, cache_dir=self._cache_dir)
        self.sampler = ClassSampler(
            generator,
            self.classes,
            present=[self.classes[k] for k in self.targets.unique().tolist()],
            class_map=class_map,
            accept=accept,
            max_tries=max_tries,
            seed=seed,
            device=device,
        )
        self._form.check(self.sampler.image_shape, resizable=resizable)
        if ratio == "auto":
            chosen = auto_ratio(dataset, validation, self.sampler, class_map=class_map, cache_dir=self._cache_dir)
            self._set_plan(plan(ratio=chosen))
        self._epoch = SharedEpoch()
        self._device = device
        self._generated = GeneratedItems(self._plan, self.sampler, resample=resample, cache_dir=self._cache_dir)

    def _set_plan(self, plan: Plan) -> None:
        self._plan, self.targets = plan, plan.targets
        self.n_fake = len(plan.fakes(epoch=0))
        self.ratio_ = self.n_fake / len(self)
        self.sampling_strategy_ = dict(zip(self.classes, plan.quotas, strict=True))

    @property
    def source(self) -> Tensor:
        """0 for each real and 1 for each generated item, uint8 (len(self),)."""
        return (self._generated.rows(self.epoch) >= 0).to(torch.uint8)

    @property
    def epoch(self) -> int:
        """Number of the current epoch; see :meth:`set_epoch`."""
        return self._epoch.value

    def set_epoch(self, epoch: int) -> None:
        """Move on to an epoch: with ``resample`` for other images, in mode replace for other items to replace.

        Workers that are running, persistent ones too, see it with their next batch; call it between epochs. Training
        libraries do not all call it for you. accelerate does: a prepared loader tells its dataset the loader's own
        epoch whenever an iteration begins, so there call ``loader.set_epoch(epoch)`` instead.

        Args:
            epoch (int): from 0.

        Raises:
            ValueError: it is not such an int.
        """
        self._epoch.value = epoch

    def __len__(self) -> int:
        return len(self.targets)

    def __getitem__(self, index: int) -> tuple[Any, ...]:
        return self.__getitems__([index])[0]

    def __getitems__(self, indices: Sequence[int]) -> list[tuple[Any, ...]]:
        """Items of a batch, in order; all its generated images are made together."""
        wanted = [self._check_index(index) for index in indices]
        epoch = self.epoch
        rows = self._generated.rows(epoch)[wanted].tolist()
        fake = [index for index, row in zip(wanted, rows, strict=True) if row >= 0]
        real = [index for index, row in zip(wanted, rows, strict=True) if row < 0]
        reals = iter(self._read(real) if real else [])
        fakes = iter(self._generate(fake, epoch) if fake else [])
        items = [next(fakes) if row >= 0 else next(reals) for row in rows]
        return [(*item, int(row >= 0)) for item, row in zip(items, rows, strict=True)] if self.return_source else items

    def materialize(self) -> Path:
        """Generate the images of the current epoch once, into a read-only file that workers and ranks map.

        Batches are drawn on the accelerator where there is one, with bounded memory. The folder is named by all that
        the images depend on, and reused where it exists; of several processes, one generates and the others wait. With
        ``resample`` or in mode replace, call it again after :meth:`set_epoch`; epochs without a file are generated as
        they are read.

        Returns:
            Path: folder with ``images.npy`` and ``index.json``.

        Raises:
            OSError: the cache folder cannot be written to or the disk is full.
            RuntimeError: called in a DataLoader's worker.
        """
        if get_worker_info() is not None:
            raise RuntimeError("materialize() was called in a DataLoader worker. Call it before the loader starts")
        sampler = self.sampler.moved_to(best_device()) if self._device is None else self.sampler
        return self._generated.materialize(self.epoch, sampler)

    def state_dict(self) -> dict[str, Any]:
        """The epoch, and what the items depend on: plain JSON values."""
        return {"epoch": self.epoch, **self._identity()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on in the epoch of a saved state.

        Raises:
            ValueError: it was saved with another seed, plan or generator.
        """
        found = fingerprints.state_differences(state, self._identity())
        found = found or ("" if "epoch" in state else "it has no epoch")
        if found:
            raise ValueError(
                f"the state is of another mixed dataset ({found}). Load it into one made with "
                "the same dataset, generator, ratio, mode, strategy and seed"
            )
        self.set_epoch(state["epoch"])

    def sample_weights(self, fake: float = 1.0) -> Tensor:
        """Weight of each item for ``WeightedRandomSampler``: 1 for real items, ``fake`` for generated ones.

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

        Raises:
            ValueError: they differ in type, dtype, shape, range or mean; see :func:`ganaug.mixing.alignment.compare`.
        """
        rows = self._generated.rows(self.epoch)
        parts = [alignment.spread(torch.nonzero(kind).squeeze(1), n) for kind in (rows < 0, rows >= 0)]
        if all(parts):
            with torch.random.fork_rng(devices=[]):  # transforms draw from the global state
                looks = [Look.of([item[0] for item in self.__getitems__(part)]) for part in parts]
            alignment.compare(*looks)

    def extra_repr(self) -> str:
        """What ``repr`` shows beside the number of datapoints."""
        fakes = ", ".join(f"{name}: {count}" for name, count in self.sampling_strategy_.items())
        return "\n".join(
            [
                f"Generated: {self.ratio_:.4g} of the mixed dataset, mode {self.mode}",
                f"Generated by class: {textwrap.shorten(fakes, 200)}",
                f"Dataset: {type(self.dataset).__name__}, {len(self.classes)} classes",
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
        read_batch = getattr(self.dataset, "__getitems__", None)
        items = read_batch(indices) if callable(read_batch) else [self.dataset[index] for index in indices]
        return [self._transforms(*item) for item in items] if self._transforms else items

    def _generate(self, indices: list[int], epoch: int) -> list[tuple[Any, Any]]:
        images, labels = self._generated.images(indices, epoch), self.targets[indices].tolist()
        own, given = Transforms.of(self.dataset), self._transforms
        return [
            self._form.dress(image, label, own=own, given=given) for image, label in zip(images, labels, strict=True)
        ]

    def _check_index(self, index: int) -> int:
        position = operator.index(index)
        if not -len(self) <= position < len(self):
            raise IndexError(f"index {index} is out of range for {len(self)} items")
        return position % len(self)
