"""Generated images mixed into a stream: an IterableDataset of real and generated items."""

from __future__ import annotations

import copy
import logging
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import islice
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import IterableDataset

from ganaug.core import fingerprints
from ganaug.core.integers import positive_int
from ganaug.data import inspection
from ganaug.data.label_form import LabelForm
from ganaug.data.label_lists import own_classes
from ganaug.data.own_transforms import Transforms, own_transforms
from ganaug.mixing import workers
from ganaug.mixing.item_form import ItemForm
from ganaug.mixing.label_names import sampler_of_labels
from ganaug.mixing.plan import check_ratio, classes_due
from ganaug.mixing.workers import SharedEpoch
from ganaug.sampling.filters import Filter
from ganaug.sampling.inference import ConditionalGenerator

logger = logging.getLogger(__name__)


class ConditionalGANStream(IterableDataset[tuple[Any, ...]]):
    """Mix images drawn from a class-conditional generator into a stream of labelled ones.

    After any number of items, the generated ones are within one image of ``ratio``. Each worker of a DataLoader counts
    for itself, so of what the loader delivers they are within ``num_workers`` images, whatever the batch size. Real
    items keep their order and none is lost. Generated images have the classes of the real ones so far, in the same
    shares, and the form of the first one (PIL, uint8 (C, H, W) tensor or tv_tensor).

    Which worker or rank yields which real items is up to ``dataset``. A generated image depends on the generator,
    ``seed``, the epoch, its class, the reader (rank * workers + worker), and its number among that reader's images
    alone. The rank is that of ``torch.distributed`` if it is initialised, else ``RANK`` of the environment, else 0.

    Args:
        dataset (iterable): of (image, int label) pairs.
        generator (Generator, module, str or Path): a module with ``latent_dim`` that maps float z (N, latent_dim) and
            int64 labels (N,) to float images (N, C, H, W) in [-1, 1]; it is copied. Or a folder or Hub id.
        ratio (float): the fraction of the mixed stream that is generated, in [0, 1). Default: 0.3
        classes (sequence of str, optional): names of the dataset's labels, in order; they are matched to the
            generator's classes by name. Default: those of the dataset's ``class_to_idx`` or ``classes``; without
            these, label k is called "k"
        class_map (mapping, optional): {dataset class name: generator class name} for classes whose names differ.
        transform (callable, optional): for every image, real and generated.
        target_transform (callable, optional): for every label, likewise.
        fake_transform (callable, optional): uint8 (C, H, W) tensor to what ``dataset`` yields for an image, before
            ``transform``; for streams whose images are neither PIL images nor uint8 tensors.
        accept (Filter, optional): which generated images to keep; see :mod:`ganaug.filters`. A module is copied.
        max_tries (int): images drawn per item before a filter counts as starved. Default: 10
        return_source (bool): add an int to every item, 0 for real and 1 for generated. Default: False
        seed (int): in [0, 2**64). Default: 0
        device (torch.device or str, optional): to draw on. Default: where the generator is
        buffer (int): real items to read ahead, so that the generated ones among them are drawn together; it does not
            change the stream. Default: 32

    Attributes:
        classes (tuple of str): label k is ``classes[k]``.

    Raises:
        TypeError: ``dataset`` is map-style or not an iterable; in iteration, its items are not (image, int label), or
            generated images cannot take the form of its images.
        ValueError: an argument is out of range, the generator does not know a class, or the labels have no names and
            the generator's classes are not called "0", "1", "2" and so on; in iteration, a label has no class,
            or the generator's images are of another number of channels or size.
        LoadError: the generator cannot be loaded.
        StarvedFilterError: in iteration, ``accept`` refused ``max_tries`` images for an item.
    """

    def __init__(
        self,
        dataset: Iterable[Any],
        generator: ConditionalGenerator | str | Path,
        ratio: float = 0.3,
        *,
        classes: Sequence[str] | None = None,
        class_map: Mapping[str, str] | None = None,
        transform: Callable[[Any], Any] | None = None,
        target_transform: Callable[[Any], Any] | None = None,
        fake_transform: Callable[[Tensor], Any] | None = None,
        accept: Filter | None = None,
        max_tries: int = 10,
        return_source: bool = False,
        seed: int = 0,
        device: torch.device | str | None = None,
        buffer: int = 32,
    ) -> None:
        _check_iterable(dataset)
        self.dataset, self.ratio, self.return_source = dataset, ratio, return_source
        self.buffer = positive_int("buffer", buffer)
        self._fake_transform = fake_transform
        self._transforms = Transforms(transform, target_transform)
        if fake_transform is None and own_transforms(dataset):
            logger.warning(
                "%s has transforms of its own, which generated images do not go through. Give them to the stream "
                "instead, as transform and target_transform, or pass fake_transform",
                type(dataset).__name__,
            )
        exact = check_ratio(ratio)
        self._per_real = exact / (1 - exact)
        self.sampler = sampler_of_labels(
            generator,
            own_classes(dataset) if classes is None else classes,
            owner=type(dataset).__name__,
            class_map=class_map,
            accept=accept,
            max_tries=max_tries,
            seed=seed,
            device=device,
        )
        self.classes = self.sampler.classes
        self._epoch = SharedEpoch()
        self._position = _Position()
        self._resuming = False
        self._stateful = hasattr(dataset, "state_dict") and hasattr(dataset, "load_state_dict")
        self._start: Any = None  # the state of the dataset inside before it was first read
        self._loaded = False
        self._sender_rank = 0

    @property
    def epoch(self) -> int:
        """The epoch of the next iteration, from 0."""
        return self._position.epoch if self._resuming else self._epoch.value

    @property
    def transform(self) -> Callable[[Any], Any] | None:
        """What every image goes through, real or generated; some libraries set it after construction."""
        return self._transforms.transform

    @transform.setter
    def transform(self, value: Callable[[Any], Any] | None) -> None:
        self._transforms = replace(self._transforms, transform=value)

    @property
    def target_transform(self) -> Callable[[Any], Any] | None:
        """What every label goes through."""
        return self._transforms.target_transform

    @target_transform.setter
    def target_transform(self, value: Callable[[Any], Any] | None) -> None:
        self._transforms = replace(self._transforms, target_transform=value)

    @property
    def transforms(self) -> Callable[[Any, Any], tuple[Any, Any]] | None:
        """What every (image, label) goes through, instead of the two."""
        return self._transforms.transforms

    @transforms.setter
    def transforms(self, value: Callable[[Any, Any], tuple[Any, Any]] | None) -> None:
        self._transforms = replace(self._transforms, transforms=value)

    def set_epoch(self, epoch: int) -> None:
        """Draw other images in the next iteration, in workers that are already running too.

        If the dataset inside has a ``set_epoch``, it is called as well, again in each process that iterates: set the
        epoch here, not there. A loaded state of another epoch is dropped. A loader that accelerate prepared calls this
        with its own epoch whenever an iteration begins: after resuming, call ``loader.set_epoch(stream.epoch)``.

        Args:
            epoch (int): from 0.

        Raises:
            ValueError: ``epoch`` is not an int from 0.
        """
        self._epoch.value = epoch
        number = self._epoch.value  # a plain int
        if self._position.epoch != number:
            self._position, self._resuming = _Position(number), False
        self._tell_epoch(number)

    def state_dict(self) -> dict[str, Any]:
        """Where the latest iteration of this process stands: plain JSON values, and the state of the dataset inside.

        A dataset with ``state_dict`` and ``load_state_dict`` is asked for its state before the first item and once per
        ``buffer`` items.
        """
        at = self._position
        return {
            **self._identity(),
            "epoch": at.epoch,
            "dataset": at.dataset,
            "debts": [[label, debt] for label, debt in at.debts.items()],
            "generated": at.generated,
            "yielded": at.yielded,
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Make the next iteration the rest of the one that ``state`` was taken in, with the same items.

        The dataset inside goes on from its own state if it has one; else the items read before are read again and
        dropped. Iterations after that are of the epoch last given to :meth:`set_epoch`.

        Raises:
            ValueError: the state was saved with another ratio, seed or generator, or in another worker or rank.
        """
        found = self.sampler.state_differences(state, self._identity())
        if found:
            raise ValueError(
                f"the state is of another stream ({found}). Load it into one made with the same generator, ratio and "
                "seed, in the same worker and rank, with the same number of each"
            )
        debts = {int(label): int(debt) for label, debt in state["debts"]}
        self._position = _Position(state["epoch"], state["dataset"], debts, state["generated"], state["yielded"])
        self._resuming = True

    def __iter__(self) -> Iterator[tuple[Any, ...]]:
        # Not a generator function: a loader that asks for the state before the first item must see the new position.
        if not self._resuming:
            self._position = _Position(self._epoch.value)
        self._resuming = False
        return self._items(self._position)

    def _items(self, at: _Position) -> Iterator[tuple[Any, ...]]:
        reals, form = self._reals(at), None
        debts, generated, skip = dict(at.debts), at.generated, at.yielded
        while read := list(islice(reals, self.buffer)):
            # What to yield for these items: (0, item) for a real one, (1, label) for one to generate.
            mixed: list[tuple[int, Any]] = []
            for item in read:
                due = classes_due(debts, self._label_of(item), self._per_real)
                mixed += [(0, item), *((1, label) for label in due)]
            if form is None:
                image, label = read[0]
                form = ItemForm(image, LabelForm(label), self._fake_transform, owner=type(self.dataset).__name__)
                resizable = self.transform is not None or self.transforms is not None
                form.check(self.sampler.image_shape, resizable=resizable)

            # What a resumed iteration has yielded before is dropped; the generated images in the rest are drawn.
            dropped, wanted = mixed[:skip], mixed[skip:]
            skip -= len(dropped)
            generated += sum(source for source, _ in dropped)
            images = self._draw([what for source, what in wanted if source], generated, at.epoch)
            generated += len(images)
            made = iter(images)
            for source, what in wanted:
                at.yielded += 1
                if source:
                    item = form.dress(next(made), what, own=Transforms(), given=self._transforms)
                else:
                    item = self._transforms(*what) if self._transforms else what
                yield (*item, source) if self.return_source else item

            # From here on the position counts from the state that the dataset inside has now.
            if len(read) < self.buffer:
                return  # a dataset that has ended may already have the state of its next start
            if self._stateful:
                at.dataset = copy.deepcopy(cast(Any, self.dataset).state_dict())
                at.debts, at.generated, at.yielded = dict(debts), generated, skip

    def _reals(self, at: _Position) -> Iterator[Any]:
        """The items of the dataset inside, from the place that ``at`` counts from."""
        inner = cast(Any, self.dataset)
        self._tell_epoch(at.epoch)
        if self._stateful and self._start is None:
            self._start = copy.deepcopy(inner.state_dict())
        if at.dataset is not None or self._loaded:
            # A Hugging Face stream starts from the state it was last given every time, not just once.
            inner.load_state_dict(copy.deepcopy(self._start if at.dataset is None else at.dataset))
            self._loaded = True
        return iter(inner)

    def _draw(self, labels: list[int], first: int, epoch: int) -> list[Tensor]:
        """Images for labels, uint8 (C, H, W) each; ``first`` is the number of the first among this reader's."""
        if not labels:
            return []
        start = workers.reader_number(self._sender_rank) * workers.IMAGES_PER_READER + first
        return list(self.sampler.draw(torch.tensor(labels), range(start, start + len(labels)), epoch=epoch))

    def _label_of(self, item: Any) -> int:
        """Label of a real item, after checking that the item is a pair and the label a class."""
        name = type(self.dataset).__name__
        if not isinstance(item, tuple | list) or len(item) != 2:
            found = f"a dict of {', '.join(map(str, item))}" if isinstance(item, dict) else inspection.describe(item)
            raise TypeError(
                f"items of {name} must be (image, int label) pairs, got {found}. Map them to pairs: wrap it in an "
                'IterableDataset whose __iter__ yields, for instance, (row["image"], row["label"])'
            )
        label = np.asarray(item[1])
        if label.ndim or not np.issubdtype(label.dtype, np.integer):
            raise TypeError(
                f"labels of {name} must be single ints, got {inspection.describe(item[1])}. Multi-label and "
                "continuous targets have no class to generate"
            )
        if not 0 <= label < len(self.classes):
            raise ValueError(
                f"labels of {name} must be from 0 to {len(self.classes) - 1} for the classes "
                f"{', '.join(self.classes)}; got {int(label)}"
            )
        return int(label)

    def _tell_epoch(self, epoch: int) -> None:
        tell = getattr(self.dataset, "set_epoch", None)
        if callable(tell):
            tell(epoch)

    def _identity(self) -> dict[str, Any]:
        """What a state must have in common with the stream it is loaded into."""
        return {
            "format": fingerprints.STATE_FORMAT,
            "ratio": str(check_ratio(self.ratio)),
            "seed": self.sampler.seed,
            "shard": workers.reader_number(self._sender_rank),  # named so in every state that was ever saved
            "generator": self.sampler.identity,
        }

    def __getstate__(self) -> dict[str, Any]:
        # A worker that is spawned has no process group to ask for its rank.
        return {**self.__dict__, "_sender_rank": workers.rank(self._sender_rank)}


@dataclass
class _Position:
    """How far an iteration is, counted from the last place where the state of the dataset inside was known."""

    epoch: int = 0
    dataset: Any = None  # that state; None for the start
    debts: dict[int, int] = field(default_factory=dict)  # see classes_due, at that place
    generated: int = 0  # images generated before that place
    yielded: int = 0  # items yielded since


def _check_iterable(dataset: Any) -> None:
    # torch gives every IterableDataset a __getitem__, which only raises.
    map_style = hasattr(dataset, "__getitem__") and hasattr(dataset, "__len__")
    if map_style and not isinstance(dataset, IterableDataset):
        raise TypeError(
            f"{type(dataset).__name__} is map-style: wrap it in ConditionalGANAugment, which shuffles and knows its "
            "length. ConditionalGANStream is for datasets that can only be iterated"
        )
    if not hasattr(dataset, "__iter__"):
        raise TypeError(f"dataset must be an iterable of (image, int label) pairs, got {type(dataset).__name__}")
