"""The settings of utility.py: which images are augmented, and by a generator of which.

:func:`prepare` makes what a setting needs (images, a generator, a filter), or finds it where it was made before.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import cast

from safetensors.torch import load_file

from ganaug import Generator, LabelledImages, open_images
from ganaug.core.files import build_once, write_tensors
from ganaug.core.hardware import best_device
from ganaug.data import joined, reduce_images
from ganaug.evaluation import ShiftFlip, SmallCNN, train_classifier
from ganaug.evaluation.leakage import without_overlap
from ganaug.filters import ClassifierAgreement, Filter
from ganaug.training import MODELS, choose_preset, fit
from ganaug.training.presets import OTHERS, PSEUDO_LABELLED, SAME, UNLABELED
from ganaug.training.pseudo_labels import pseudo_label

SELECTOR_STEPS = 8000  # of 128 images
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


@dataclass(frozen=True)
class Case:
    """What a setting compares.

    Attributes:
        images (LabelledImages): that classifiers train on, with generated ones and without.
        held_out (LabelledImages): that they are asked about.
        generator (Generator): of the images that may help.
        accept (Filter, optional): which of its images are kept.
        pseudo_labelled (LabelledImages, optional): the images and the unlabelled ones, as classifiers label them.
    """

    images: LabelledImages
    held_out: LabelledImages
    generator: Generator
    accept: Filter | None = None
    pseudo_labelled: LabelledImages | None = None


def fitted(images: LabelledImages, folder: Path, setting: Setting) -> Generator:
    """A generator trained by the default preset, or the one that is in the folder already."""

    def build(path: Path) -> None:
        preset = choose_preset(images)
        kimg = setting.kimg or preset.settings.total_kimg
        settings = replace(preset.settings, augment=("flip",) if setting.flip else (), total_kimg=kimg)
        model = MODELS[preset.model]
        fit(lambda: model.make_generator(images), model.objective, images, settings, path)

    return Generator.from_pretrained(build_once(folder, build, what=f"a generator for {images.name}"))


def agreement(images: LabelledImages, folder: Path, setting: Setting) -> ClassifierAgreement:
    """A filter that keeps what a classifier of these images takes for the class asked for.

    The classifier is trained, or found beside the folder.
    """

    def build(path: Path) -> None:
        augment = ShiftFlip.like(images, flip=setting.flip)
        classifier = train_classifier(images, steps=SELECTOR_STEPS, augment=augment, device=best_device())
        write_tensors(path, classifier.state_dict())

    path = build_once(
        folder.with_name(f"{folder.name}-selector.safetensors"), build, what="the classifier that selects"
    )
    classifier = SmallCNN(len(images.classes), channels=images.channels, image_size=images.image_size)
    classifier.load_state_dict(load_file(path))
    return ClassifierAgreement(classifier)


def prepare(setting: Setting, folder: Path) -> Case:
    """Open the images of a setting, and train its generator, unless it is in the folder already."""
    everything = open_images(setting.source)
    images, others = reduce_images(everything, images_per_class=setting.images_per_class, long_tail=setting.long_tail)
    # Published splits share a few images; all settings leave out the same ones.
    held_out = without_overlap(open_images(setting.source, split="test"), everything, ())[0]
    if setting.generator_from == SAME:
        return Case(images, held_out, fitted(images, folder, setting))
    if setting.generator_from == OTHERS:
        # All but 20 of each class: the same generator, also where it is compared with all images.
        left = reduce_images(everything, images_per_class=20)[1] or everything
        accept = agreement(left, folder, setting) if setting.selected else None
        return Case(images, held_out, fitted(left, folder, setting), accept)
    unlabeled = cast(LabelledImages, others).take([setting.unlabeled] * len(images.classes))[0].images
    both = joined(images, pseudo_label(images, unlabeled, horizontal_flip=setting.flip))
    return Case(images, held_out, fitted(both, folder, setting), pseudo_labelled=both)
