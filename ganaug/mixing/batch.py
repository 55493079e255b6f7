"""Generated images mixed into batches on the training device: a transform that is called as torchvision's MixUp is."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path

import torch
from torch import Tensor, nn

from ganaug.core.errors import InputError
from ganaug.core.hardware import LateChecks, to_device
from ganaug.core.seeding import Purpose, random_stream
from ganaug.data import inspection
from ganaug.mixing import workers
from ganaug.mixing.label_names import sampler_of_labels
from ganaug.mixing.plan import check_ratio
from ganaug.sampling.filters import Filter
from ganaug.sampling.inference import ConditionalGenerator


class GANMix(nn.Module):
    """Replace images of a batch with generated ones of the same class.

    Call ``images, labels = mix(images, labels)`` in the training loop, or put it first in a ``v2.Compose``. The batch
    keeps its size and its labels. Of N images, ``round(ratio * N)``, chosen at random, are replaced; what is rounded
    off is carried over, so that after any number of batches the total is within one image of ``ratio``. In evaluation
    mode nothing is replaced. Put it before MixUp and CutMix: the labels they mix no longer name one class to draw.

    A copy of the generator draws on the batch's device, and its images stay there. On a GPU nothing waits for them, if
    the labels are on the CPU, where a loader has them, and no filter is given; what is wrong with images is then told
    of with a later batch. The copy is not part of this module: there are no parameters,
    :meth:`to` and optimizers do not see it, and ``state_dict()`` holds only the number of images seen. What is drawn
    depends on that number, the generator, ``seed``, the rank and the worker alone, and with ``vary`` on the images.
    (In a ``collate_fn``, each worker counts for itself, so that the total is within ``num_workers`` images; where
    workers end with the epoch, the number starts again from 0, and every epoch draws the same images.)

    Args:
        generator (Generator, module, str or Path): a module with ``latent_dim`` that maps float z (N, latent_dim) and
            int64 labels (N,) to float images (N, C, H, W) in [-1, 1]; it is copied. Or a folder or Hub id.
        ratio (float): the fraction of images that is replaced, in [0, 1). Default: 0.3
        classes (sequence of str, optional): names of the labels, in order, such as ``dataset.classes``; they are
            matched to the generator's classes by name. Default: label k is called "k"
        class_map (mapping, optional): {name in ``classes``: generator class name} for classes whose names differ.
        fake_transform (callable, optional): uint8 (M, C, H, W) tensor on the batch's device to what the batch holds,
            for instance ``v2.Compose([v2.ToDtype(torch.float32, scale=True), v2.Normalize(mean, std)])``. Default:
            uint8 for uint8 batches, scaled to [0, 1] for float batches
        accept (Filter, optional): which generated images to keep; see :mod:`ganaug.filters`. A module is copied.
        max_tries (int): images drawn per item before a filter counts as starved. Default: 10
        vary (float, optional): put variations of the replaced images themselves in their place, at this strength in
            (0, 1]; see :meth:`ganaug.Generator.vary`. Default: images are drawn from noise alone
        seed (int): in [0, 2**64). Default: 0
        device (torch.device or str, optional): to draw on. Default: the batch's

    Raises:
        TypeError: ``generator`` is not a module that can be drawn from, a folder or a Hub id.
        ValueError: an argument is out of range, the generator is unconditional, does not know a class or cannot
            ``vary`` images, ``vary`` is given with ``accept`` or ``fake_transform``, or no ``classes`` are given and
            the generator's are not called "0", "1", "2" and so on.
        LoadError: the generator cannot be loaded.
    """

    _fake_transform: Callable[[Tensor], Tensor] | None

    def __init__(
        self,
        generator: ConditionalGenerator | str | Path,
        ratio: float = 0.3,
        *,
        classes: Sequence[str] | None = None,
        class_map: Mapping[str, str] | None = None,
        fake_transform: Callable[[Tensor], Tensor] | None = None,
        accept: Filter | None = None,
        max_tries: int = 10,
        vary: float | None = None,
        seed: int = 0,
        device: torch.device | str | None = None,
    ) -> None:
        super().__init__()
        if vary is not None and (accept is not None or fake_transform is not None):
            raise InputError(
                "vary goes without accept, because a filter may refuse all variations of an image, and without "
                "fake_transform, because the batch must hold images as the generator draws them. Leave these out, and "
                "normalise after GANMix"
            )
        self.ratio, self._exact_ratio = ratio, check_ratio(ratio)
        self._sampler = sampler_of_labels(
            generator,
            () if classes is None else classes,
            owner="the batches",
            class_map=class_map,
            accept=accept,
            max_tries=max_tries,
            vary=vary,
            seed=seed,
            device=device,
        )
        self.seed = self._sampler.seed
        self._draws_on_batch_device = device is None
        self.__dict__["_fake_transform"] = fake_transform  # not a submodule, whose state would be in state_dict()
        self._seen = 0
        self._late = LateChecks()

    def forward(self, images: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        """Mix a batch.

        Args:
            images (Tensor): (N, C, H, W), uint8 in [0, 255] or float; not modified. Floats are in [0, 1], unless
                there is a ``fake_transform``.
            labels (Tensor): int (N,); or (N, K), one-hot or, as float, smoothed: the class is where the maximum is.

        Returns:
            (Tensor, Tensor): images of the same shape, dtype and device, and ``labels``.

        Raises:
            TypeError: images or labels are of another kind.
            ValueError: labels are out of range; the generator's images, or what ``fake_transform`` makes of them, do
                not fit into the batch; or a float batch without ``fake_transform`` has values outside [0, 1].
            StarvedFilterError: ``accept`` refused ``max_tries`` images for an item.

        On a GPU, where values of images are looked at once it has computed them, an error about them comes with a
        later batch; that of a last batch is logged when the module is dropped, or at the end of the program.
        """
        if not self.training:
            return images, labels
        classes = self._classes_of(labels)
        self._check_images(images, len(classes))
        seen = self._seen + len(images)
        first, last = round(self._exact_ratio * self._seen), round(self._exact_ratio * seen)
        if last > first:
            images = self._replace(images, classes, first, last - first)
        self._seen = seen
        return images, labels

    def get_extra_state(self) -> Tensor:
        """Number of images seen so far, int64 ()."""
        return torch.tensor(self._seen)

    def set_extra_state(self, state: Tensor) -> None:
        """Continue as if that many images had been seen."""
        self._seen = int(state)

    def extra_repr(self) -> str:
        """Shown by ``print``."""
        varied = "" if self._sampler.vary is None else f", vary={self._sampler.vary:g}"
        return f"generator={self._sampler.name}, ratio={self.ratio}{varied}, seed={self.seed}"

    def _replace(self, images: Tensor, classes: Tensor, first: int, count: int) -> Tensor:
        start = workers.reader_number() * workers.IMAGES_PER_READER
        rng = random_stream(self.seed, Purpose.BATCH_MIX, index=start + self._seen)
        rows = torch.from_numpy(rng.choice(len(images), count, replace=False))
        if self._draws_on_batch_device:
            self._sampler = self._sampler.moved_to(images.device)
        numbers, places = range(start + first, start + first + count), to_device(rows, images.device)
        originals = images[places] if self._sampler.vary is not None else None
        if originals is not None and originals.is_floating_point():
            originals = originals.mul(255).round().to(torch.uint8)
        made = self._sampler.draw(classes[rows], numbers, originals=originals, device=images.device)
        mixed = images.clone()
        mixed[places] = self._fit(made, images)
        return mixed

    def _fit(self, made: Tensor, images: Tensor) -> Tensor:
        """Generated uint8 images in the form of the batch's."""
        if self._fake_transform is not None:
            fitted = self._fake_transform(made)
            wanted = (len(made), *images.shape[1:])
            if fitted.shape != wanted or fitted.is_floating_point() != images.is_floating_point():
                raise ValueError(
                    f"fake_transform must make {images.dtype} images of shape {wanted} as in the batch, got "
                    f"{inspection.describe(fitted)}. Give it the steps that the real images go through"
                )
            return fitted.to(images.dtype)
        return made.to(images.dtype).div_(255) if images.is_floating_point() else made

    def _classes_of(self, labels: Tensor) -> Tensor:
        """The class of each image, int64 (N,), on the CPU, from labels of any kind."""
        names = self._sampler.classes
        one_hot = labels.ndim == 2 and (labels.is_floating_point() or _is_one_hot(labels))
        if not one_hot and (labels.ndim != 1 or labels.is_floating_point() or labels.dtype == torch.bool):
            raise TypeError(
                f"labels must be int (N,), or float or one-hot (N, {len(names)}), got {inspection.describe(labels)}. "
                "Multi-label and continuous targets have no class to generate"
            )
        if one_hot and labels.shape[1] != len(names):
            raise ValueError(
                f"labels have {labels.shape[1]} columns, but there are {len(names)} classes: {', '.join(names)}. "
                "Give one column for each, in this order"
            )
        classes = (labels.argmax(1) if one_hot else labels).to("cpu", torch.int64)
        if len(classes) and not 0 <= int(classes.min()) <= int(classes.max()) < len(names):
            raise ValueError(
                f"labels must be from 0 to {len(names) - 1} for the classes {', '.join(names)}; got "
                f"{int(classes.min())} to {int(classes.max())}. Give classes a name for each label"
            )
        return classes

    def _check_images(self, images: Tensor, count: int) -> None:
        floating = images.is_floating_point()
        if images.ndim != 4 or not (floating or images.dtype == torch.uint8):
            raise TypeError(f"images must be uint8 or float (N, C, H, W), got {inspection.describe(images)}")
        if len(images) != count:
            raise ValueError(f"images and labels must have the same length, got {len(images)} and {count}")
        if self._fake_transform is not None:
            return
        real, made = tuple(images.shape[1:]), self._sampler.image_shape
        if real != made:
            raise ValueError(
                f"the batch's images are (C, H, W) = {real}, the generator's {made}. Train a generator on images of "
                "that shape, or pass fake_transform with a resize"
            )
        if floating and count:
            least, most = images.amin(), images.amax()
            self._late.expect((least >= 0) & (most <= 1), partial(_looks_normalised, least, most))


def _looks_normalised(least: Tensor, most: Tensor) -> ValueError:
    return ValueError(
        f"a batch looks normalised: its values are from {float(least):.3g} to {float(most):.3g}, and generated "
        "images are scaled to [0, 1]. Normalise after GANMix, or pass fake_transform with the same steps, such as "
        "v2.Compose([v2.ToDtype(torch.float32, scale=True), v2.Normalize(mean, std)])"
    )


def _is_one_hot(labels: Tensor) -> bool:
    return bool(((labels == 1).sum(1) == 1).all() and ((labels == 0) | (labels == 1)).all())
