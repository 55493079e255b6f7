"""From a dataset's labels to uint8 images, whatever the user gave as a generator: all ways of mixing draw with it."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping, Sequence
from functools import cached_property, partial
from importlib.metadata import version
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor, nn

from ganaug.core import fingerprints
from ganaug.core.errors import InputError
from ganaug.core.hardware import check_usable_here, device_of, evaluation_copy, to_device
from ganaug.core.integers import positive_int, to_int
from ganaug.core.seeding import check_seed
from ganaug.core.text import composed, numbers_of, shortened
from ganaug.data import LabelledImages
from ganaug.hub.dataset_card import Provenance
from ganaug.hub.download import fetch
from ganaug.hub.folder import load
from ganaug.sampling.draw import sample
from ganaug.sampling.filters import ClassifierAgreement, Filter, StarvedFilterError, apply_filter
from ganaug.sampling.inference import ConditionalGenerator, InferenceCopy, Shortcuts
from ganaug.sampling.variations import check_strength, pick_originals

PROBED = 64  # images that a fingerprint looks at, of all classes or of as many, evenly spread


class ClassSampler:
    """Draws uint8 images for a dataset's labels.

    A generator that was given as a folder or Hub id is pickled as its folder, and loaded again where it is needed.

    Args:
        generator (module, str or Path): a module with ``latent_dim`` and ``forward(z, labels)``, which is copied; or a
            folder or Hub id.
        classes (sequence of str, optional): the dataset's class names; label k is ``classes[k]``. Default: the
            generator's own
        present (sequence of str, optional): the classes that the generator must know. Default: all
        class_map (mapping, optional): {dataset class name: generator class name} for classes whose names differ.
        accept (Filter, optional): which images to keep; it is given the dataset's labels, or the generator's if it has
            ``takes_generator_labels``. A module is copied.
        max_tries (int): images drawn per item before a filter counts as starved. Default: 10
        vary (float, optional): strength at which real images are varied, those of :meth:`with_originals` or those that
            :meth:`draw` is given. Default: images are drawn from noise alone
        seed (int): in [0, 2**64). Default: 0
        device (torch.device or str, optional): to draw on. Default: where the generator is

    Attributes:
        classes (tuple of str): class names; label k is ``classes[k]``. Empty if nobody names them.
        image_shape (tuple of int): (C, H, W) of an image.
        name (str): class name of the generator, for messages.
        weights (str): fingerprint of the module; see :func:`ganaug.core.fingerprints.of_module`.
        device (torch.device): where it draws.

    Raises:
        TypeError: ``generator`` is not a module that can be drawn from, a folder or a Hub id.
        ValueError: the generator is unconditional or does not know a class, ``class_map`` has a name that neither side
            has, ``accept`` has a classifier of another number of classes, ``max_tries`` is not a positive int,
            ``vary`` or ``seed`` is out of range, or the generator cannot vary images.
        LoadError: the generator cannot be loaded.
    """

    def __init__(
        self,
        generator: ConditionalGenerator | str | Path,
        classes: Sequence[str] | None = None,
        *,
        present: Sequence[str] | None = None,
        class_map: Mapping[str, str] | None = None,
        accept: Filter | None = None,
        max_tries: int = 10,
        vary: float | None = None,
        seed: int = 0,
        device: torch.device | str | None = None,
    ) -> None:
        self.max_tries, self.seed = positive_int("max_tries", max_tries), check_seed(seed)
        self.vary = None if vary is None else check_strength(vary, "vary")
        self._originals: LabelledImages | None = None
        # Absolute, because workers and copies may have another working directory.
        self._folder = fetch(generator).absolute() if isinstance(generator, str | Path) else None
        self._module = load(self._folder) if self._folder else _own_copy(generator)
        if not getattr(self._module, "conditional", True):
            raise ValueError(
                f"the generator ({type(self._module).__name__}) is unconditional: it cannot draw a class that is "
                "asked for, so its images have no label. Train a conditional one, for instance with "
                "ganaug train --model dcgan-32-conditional"
            )
        self.weights = fingerprints.of_module(self._module)
        if device is not None:
            self._module.to(device)
        self.device = device_of(self._module)
        self.name = type(self._module).__name__
        names: Sequence[str] | None = getattr(self._module, "label_names", None)
        self.classes = tuple(names or ()) if classes is None else tuple(classes)
        self._present = self.classes if present is None else tuple(present)
        matches = _match_classes(self.classes, self._present, names, class_map or {})
        self._generator_label = torch.tensor([match or 0 for match in matches], dtype=torch.int64)
        self._unknown = torch.tensor([match is None for match in matches], dtype=torch.bool)
        self._inference_copy: InferenceCopy | None = None
        self._shortcuts: Shortcuts | None = None
        probe = sample(self.inference_copy, self._generator_label[~self._unknown][:1])
        channels, height, width = probe.shape[1:]
        self.image_shape: tuple[int, int, int] = (channels, height, width)
        if self.vary is not None:  # tried, so that a generator that cannot vary images is refused here
            sample(self.inference_copy, [0] * len(probe), originals=probe, strength=self.vary)
        self.accept = evaluation_copy(accept) if isinstance(accept, nn.Module) else accept
        if isinstance(accept, ClassifierAgreement) and self.classes:
            accept.check_classes(probe, self.classes)

    @property
    def generator(self) -> ConditionalGenerator:
        """The module, in evaluation mode.

        Raises:
            RuntimeError: its folder has changed since this sampler was made, or it is on a device that this process,
                a DataLoader worker, cannot use.
        """
        check_usable_here(self.device, "the generator")
        if self._module is None:
            module = load(cast(Path, self._folder))
            if fingerprints.of_module(module) != self.weights:
                raise RuntimeError(
                    f"{self._folder} holds another generator than when the dataset was made. Make the dataset again"
                )
            self._module = module.to(self.device)
        return cast(ConditionalGenerator, self._module)

    @property
    def inference_copy(self) -> InferenceCopy:
        """What images are drawn with, made once; in other processes its shortcuts are not looked for again.

        Raises:
            RuntimeError: see :attr:`generator`.
        """
        if self._inference_copy is None:
            self._inference_copy = InferenceCopy(self.generator, self._shortcuts, num_classes=len(self.classes))
            self._shortcuts = self._inference_copy.shortcuts
        check_usable_here(self.device, "the generator")
        return self._inference_copy

    def draw(
        self,
        labels: Tensor,
        indices: Sequence[int],
        *,
        epoch: int = 0,
        places: Tensor | None = None,
        originals: Tensor | None = None,
        drawn: Callable[[int], object] | None = None,
        device: torch.device | None = None,
    ) -> Tensor:
        """Draw an image for each label.

        Image k depends on this sampler and (labels[k], epoch, indices[k]) alone, and a variation on places[k] or
        originals[k].

        Args:
            labels (Tensor): int (N,), the dataset's.
            indices (sequence of int): number of each image, in [0, 2**64).
            epoch (int): numbers another sequence. Default: 0
            places (Tensor, optional): int64 (N,), place of each image among all of its class, by which the image to
                vary is picked; see :func:`ganaug.sampling.variations.places_in_class`. Default: none is to be picked
            originals (Tensor, optional): the images to vary, uint8 (N, C, H, W). Default: those that are
                picked, if images are varied
            drawn (callable, optional): see :func:`ganaug.sampling.sample`; images that replace refused ones do not
                count. Default: nothing is called
            device (torch.device, optional): where the images are put; see :func:`ganaug.sampling.sample`. A filter
                sees them on the CPU. Default: the CPU

        Returns:
            Tensor: uint8 (N, C, H, W) in [0, 255], on ``device``.

        Raises:
            ValueError: a label is not one of :attr:`classes`, or is a class that the generator does not know.
            StarvedFilterError: the filter refused ``max_tries`` images for an item.
        """
        labels = labels.to(torch.int64)  # torch would take uint8 for a mask
        self._check_labels(labels)
        wanted = self._generator_label[labels]

        def draw(rows: Tensor, numbers: Sequence[int], attempt: int = 0, **options: Any) -> Tensor:
            at: dict[str, Any] = {"seed": self.seed, "epoch": epoch, "attempt": attempt}
            if self.vary is not None:
                if originals is None:
                    real, turns = cast(LabelledImages, self._originals), cast(Tensor, places)[rows]
                    given = pick_originals(real, labels[rows], turns.tolist(), **at)
                else:
                    given = originals[to_device(rows, originals.device)].to(self.device)
                options |= {"originals": given, "strength": self.vary}
            return sample(self.inference_copy, wanted[rows], indices=numbers, **at, **options)

        everything = torch.arange(len(labels))
        if self.accept is None:
            return draw(everything, indices, drawn=drawn, device=device)
        images = draw(everything, indices, drawn=drawn)
        # Items whose image is refused get another one, until none is left or their tries are used up.
        tried = torch.bincount(labels)
        pending = everything
        for attempt in range(self.max_tries):
            if attempt:
                images[pending] = draw(pending, [indices[k] for k in pending.tolist()], attempt)
                tried += torch.bincount(labels[pending], minlength=len(tried))
            pending = pending[~self._keeps(images[pending], labels[pending])]
            if not len(pending):
                return images.to(device or "cpu")
        label = int(labels[pending[0]])
        done = int((labels == label).sum() - (labels[pending] == label).sum())
        raise StarvedFilterError(
            f"the filter starved: for class {self.classes[label] if self.classes else label} it accepted {done} of "
            f"{int(tried[label])} images tried, and none of the {self.max_tries} (max_tries) drawn for item "
            f"{indices[int(pending[0])]}. Raise max_tries, loosen the filter, or train the generator longer"
        )

    def with_originals(self, images: LabelledImages) -> ClassSampler:
        """This sampler with real images to vary, for each item one of its class; this one stays as it is.

        Args:
            images (LabelledImages): as the generator draws them, and with the classes of this sampler.

        Raises:
            InputError: the images have another form than the generator's, or a class has none.
        """
        if tuple(images.images.shape[1:]) != self.image_shape:
            raise InputError(
                f"the images to vary are (C, H, W) = {tuple(images.images.shape[1:])}, the generator's "
                f"{self.image_shape}. Open them with its resolution and channels"
            )
        counts = dict(zip(self.classes, images.class_counts, strict=True))
        if empty := [name for name in self._present if not counts[name]]:
            raise InputError(
                f"{images.name} has no image of {shortened(empty)} to vary. Leave that class out, or draw without vary"
            )
        varying = copy.copy(self)
        varying._originals = images
        for known_by in ("identity", "identity_in_format_2", "fingerprint"):
            vars(varying).pop(known_by, None)
        return varying

    def _check_labels(self, labels: Tensor) -> None:
        """Refuse labels that would end in an index error, or in an image of another class."""
        known = range(len(self.classes))
        for label in labels.unique().tolist():
            if label not in known:
                raise InputError(
                    f"labels must be from 0 to {len(known) - 1} for the classes {shortened(self.classes)}; got {label}"
                )
            if self._unknown[label]:
                raise InputError(
                    f"the generator does not know {self.classes[label]}, so it cannot draw it. Leave it out, or pass "
                    "class_map={dataset name: generator name}"
                )

    @cached_property
    def identity(self) -> str:
        """SHA-256 of generator, class map, seed, filter, ``vary`` and the images to vary.

        States have it, and may be loaded on another machine.
        """
        return self._identity(fingerprints.of_generator(cast(nn.Module, self.generator), self.weights))

    @cached_property
    def identity_in_format_2(self) -> str:
        """The same as states of format 2 have it, without the options of the generator."""
        return self._identity(self.weights)

    def _identity(self, generator: str) -> str:
        varied = [] if self.vary is None else ["vary", self.vary]
        if self._originals is not None:
            varied.append(self._originals.fingerprint)
        return fingerprints.of_values(generator, self._generator_label, self.seed, *self._filtered, *varied)

    @cached_property
    def _filtered(self) -> list[Any]:
        return [self.max_tries, fingerprints.of_callable(self.accept)] if self.accept else []

    def state_differences(self, saved: Mapping[str, Any], own: Mapping[str, Any]) -> str:
        """See :func:`ganaug.core.fingerprints.state_differences`; of states whose generator is this :attr:`identity`.

        With a filter, which has moved since, the sampler cannot be compared with that of a state of ganaug 0.1.
        """
        return fingerprints.state_differences(
            saved,
            own,
            generator_in_format_2=self.identity_in_format_2,
            as_in_0_1=self.accept is None and fingerprints.is_told_as_in_0_1(cast(nn.Module, self.generator)),
        )

    def _keeps(self, images: Tensor, labels: Tensor) -> Tensor:
        """Which images of the dataset's labels the filter keeps, bool (N,); it is asked in the numbers it knows."""
        accept = cast(Filter, self.accept)
        own = getattr(accept, "takes_generator_labels", False)
        return apply_filter(accept, images, self._generator_label[labels] if own else labels)

    @cached_property
    def fingerprint(self) -> str:
        """SHA-256 of all that a drawn image depends on, other than label, epoch and index; names what is kept on disk.

        The text of the user's code is part of it, a few images, and what the filter says of them: code can change
        while weights and names do not.
        """
        known = [k for k, unknown in enumerate(self._unknown) if not unknown]
        labels = torch.tensor([known[i * len(known) // PROBED] for i in range(PROBED if known else 0)]).long()
        draw = partial(sample, self.inference_copy, self._generator_label[labels], seed=self.seed)
        probe = draw()
        if self.vary is not None:
            probe = draw(originals=probe, strength=self.vary)
        done: list[Any] = [fingerprints.of_source(self.generator), probe]
        if self.accept is not None:
            done += [fingerprints.of_source(self.accept), self._keeps(probe, labels)]
        return fingerprints.of_values(self.identity, *done)

    @property
    def provenance(self) -> Provenance:
        """Where the images come from: generator, commit, hash of its weights, seed."""
        generator = cast(Any, self.generator)
        origin = getattr(generator, "origin", None)
        filtered = self.accept is not None
        drawn = partial(Provenance, version("ganaug"), seed=self.seed, filtered=filtered, vary=self.vary)
        # A loaded generator may have been trained further; then it is no longer the one that was saved.
        if origin is None or origin.fingerprint != self.weights:
            return drawn(generator=None, architecture=self.name, weights_sha256=None)
        return drawn(generator=origin.name, architecture=generator.architecture, weights_sha256=origin.weights_sha256)

    def moved_to(self, device: torch.device) -> ClassSampler:
        """This sampler on another device; the original stays where it is."""
        if device.type == self.device.type and device.index in (None, self.device.index):
            return self
        moved = copy.copy(self)
        moved._module = copy.deepcopy(cast(nn.Module, self.generator)).to(device)
        moved.device = device
        moved._inference_copy = moved._shortcuts = None  # another device may allow other shortcuts
        return moved

    def __getstate__(self) -> dict[str, Any]:
        # A process that is spawned calls the main program's code __mp_main__, and would tell it by that name.
        told = {"identity": self.identity, "identity_in_format_2": self.identity_in_format_2}
        state = {**self.__dict__, **told, "_inference_copy": None}
        if self._folder is not None:
            state["_module"] = None
        return state


def _own_copy(generator: Any) -> nn.Module:
    """A copy of a generator, which nobody else trains or moves."""
    if not isinstance(generator, nn.Module) or to_int(getattr(generator, "latent_dim", None)) is None:
        raise TypeError(
            "generator must be a module with latent_dim and forward(z, labels), a folder or a Hub id; "
            f"got {type(generator).__name__}"
        )
    return evaluation_copy(generator)


def _match_classes(
    classes: Sequence[str], present: Sequence[str], names: Sequence[str] | None, class_map: Mapping[str, str]
) -> list[int | None]:
    """Generator label of each dataset class; None for one without images and without a match."""
    if names is None and class_map:
        raise ValueError(
            "class_map was given, but the generator has no class names (label_names) to meet the dataset's by. Leave "
            "it out: label k is passed on as k"
        )
    if names is None:
        return list(range(len(classes)))
    # Names are the same however their accents are composed.
    number, own = numbers_of(names), numbers_of(classes)
    mapped = {composed(name): composed(other) for name, other in class_map.items()}
    unknown = [name for name in class_map if composed(name) not in own] + [
        name for name in class_map.values() if composed(name) not in number
    ]
    labels = {name: number.get(mapped.get(name, name)) for name in own}
    missing = [name for name in present if labels.get(composed(name)) is None]
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
    return [labels[composed(name)] for name in classes]
