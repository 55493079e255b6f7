"""The settings of benchmark_usefulness.py: which images are augmented, and by a generator of which."""

from __future__ import annotations

from dataclasses import dataclass, replace

from ganaug.training.presets import OTHERS, PSEUDO_LABELLED, SAME, UNLABELED

FASHION = "/usr/share/datasets/fashion-mnist"


@dataclass(frozen=True)
class Setting:
    """Images to augment, and where the generator comes from.

    Args:
        name: in words.
        images_per_class: of the training images; with long_tail, of the largest class. None: all.
        source: of the images, as :func:`ganaug.open_images` takes it; None for the bundled digits.
        long_tail: largest class to smallest.
        generator_from: what the generator is trained on.
        generator: folder of the generator, which settings may share.
        kimg: how long it is trained; by default as the preset says.
        unlabeled: further images of each class whose labels are not used; classifiers label them.
        alone: compare generated images alone with the real ones, instead of adding them.
        selected: keep those generated images that a classifier of the generator's training images agrees with.
        flip: whether a mirrored image is still of its class.
    """

    name: str
    images_per_class: int | None
    source: str | None = FASHION
    long_tail: float | None = None
    generator_from: str = SAME
    generator: str | None = None
    kimg: float | None = None
    unlabeled: int = 0
    alone: bool = False
    selected: bool = False
    flip: bool = True


_ALONE = Setting(
    "Fashion-MNIST, all, against generated alone", None, generator_from=OTHERS, generator="published", alone=True
)
_UNLABELED = Setting(
    "Fashion-MNIST, 20 of each class", 20, generator_from=UNLABELED, generator="unlabeled", kimg=200, unlabeled=2000
)

SETTINGS = {
    "fashion-20": Setting("Fashion-MNIST, 20 of each class", 20),
    "fashion-100": Setting("Fashion-MNIST, 100 of each class", 100),
    "fashion-long-tail": Setting("Fashion-MNIST, 500 of the first class down to 5 of the last", 500, long_tail=100),
    "mnist-10": Setting("MNIST, 10 of each class", 10, source=None, flip=False),
    "fashion-20-published": Setting(
        "Fashion-MNIST, 20 of each class", 20, generator_from=OTHERS, generator="published"
    ),
    "fashion-alone": _ALONE,
    "fashion-alone-selected": replace(_ALONE, name=f"{_ALONE.name}, those a classifier agrees with", selected=True),
    "fashion-20-unlabeled": _UNLABELED,
    "fashion-20-pseudo": replace(
        _UNLABELED,
        name="Fashion-MNIST, 20 of each class, against pseudo-labels for 20,000 more",
        generator_from=PSEUDO_LABELLED,
    ),
}
