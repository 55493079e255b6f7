"""The settings of benchmark_usefulness.py: which images are augmented, and by a generator of which."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import cast

from ganaug import Generator, LabelledImages, open_images
from ganaug.data import joined, reduce_images
from ganaug.evaluation.leakage import without_overlap
from ganaug.files import build_once
from ganaug.pseudo_labels import pseudo_label
from ganaug.training import choose_preset, fit
from ganaug.training.usefulness import OTHERS, PSEUDO_LABELLED, SAME, UNLABELED

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
    flip: bool = True


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
    "fashion-alone": Setting(
        "Fashion-MNIST, all, against generated alone", None, generator_from=OTHERS, generator="published", alone=True
    ),
    "fashion-20-unlabeled": _UNLABELED,
    "fashion-20-pseudo": replace(
        _UNLABELED,
        name="Fashion-MNIST, 20 of each class, against pseudo-labels for 20,000 more",
        generator_from=PSEUDO_LABELLED,
    ),
}


@dataclass(frozen=True)
class Case:
    """What a setting compares.

    Attributes:
        images (LabelledImages): that classifiers train on, with generated ones and without.
        held_out (LabelledImages): that they are asked about.
        generator (Generator): of the images that may help.
        pseudo_labelled (LabelledImages, optional): the images and the unlabelled ones, as classifiers label them.
    """

    images: LabelledImages
    held_out: LabelledImages
    generator: Generator
    pseudo_labelled: LabelledImages | None = None


def fitted(images: LabelledImages, folder: Path, setting: Setting) -> Generator:
    """A generator by the default preset, or the one that is in the folder."""

    def build(path: Path) -> None:
        preset = choose_preset(images)
        kimg = setting.kimg or preset.settings.total_kimg
        settings = replace(preset.settings, augment=("flip",) if setting.flip else (), total_kimg=kimg)
        fit(lambda: preset.system.make_generator(images), preset.system.objective, images, settings, path)

    return Generator.from_pretrained(build_once(folder, build, what=f"a generator for {images.name}"))


def prepare(setting: Setting, folder: Path) -> Case:
    """Open the images of a setting, and train its generator or find it in the folder."""
    everything = open_images(setting.source)
    images, others = reduce_images(everything, images_per_class=setting.images_per_class, long_tail=setting.long_tail)
    # Published splits share a few images; all settings leave out the same ones.
    held_out = without_overlap(open_images(setting.source, split="test"), everything, ())[0]
    if setting.generator_from == SAME:
        return Case(images, held_out, fitted(images, folder, setting))
    if setting.generator_from == OTHERS:
        # Those that are left beside 20 of each class, also where all are compared with.
        left = reduce_images(everything, images_per_class=20)[1] or everything
        return Case(images, held_out, fitted(left, folder, setting))
    unlabeled = cast(LabelledImages, others).take([setting.unlabeled] * len(images.classes))[0].images
    both = joined(images, pseudo_label(images, unlabeled, horizontal_flip=setting.flip))
    return Case(images, held_out, fitted(both, folder, setting), both)
