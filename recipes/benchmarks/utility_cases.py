"""The settings of utility.py: which images are augmented, and by a generator of which.

:func:`prepare` makes what a draw of a setting needs (images, a generator, a filter), or finds it where it was made
before. Draw 0 is what the choices are made on, the others are judged. Draws have no real image in common.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from common import kept_classifier
from torch import Tensor, nn

from ganaug import Generator, LabelledImages, open_images
from ganaug.core.files import build_once, read_tensors, write_tensors
from ganaug.core.hardware import best_device
from ganaug.data import joined
from ganaug.data.subsets import long_tail_counts
from ganaug.evaluation import ClassifierFactory, ShiftFlip, classifier_named, train_classifier
from ganaug.evaluation.leakage import without_overlap
from ganaug.filters import ClassifierAgreement, Filter
from ganaug.training import MODELS, choose_preset, fit
from ganaug.training.presets import OTHERS, PSEUDO_LABELLED, SAME, UNLABELED
from ganaug.training.pseudo_labels import pseudo_label

SELECTOR_STEPS = 8000  # of 128 images
PRETRAINED = 1000  # steps of 64
RESERVE = 120  # images of each class that the generator of all others is not trained on, for draws of 20
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
        model: what is trained; by default as the preset says.
        kimg: how long it is trained; by default as the preset says.
        unlabeled: further images of each class whose labels are not used; classifiers label them.
        consistent: compare with classifiers that learn from the unlabelled images too, without a generator.
        draws: how many are judged.
        alone: compare generated images alone with the real ones, instead of adding them.
        selected: keep those generated images that a classifier of the generator's training images agrees with.
        classifier: as ``--classifier`` names it.
        pretrained: the classifier is trained on the bundled digits first, which are other images of the same form.
        flip: whether a mirrored image is still of its class.
    """

    name: str
    images_per_class: int | None
    source: str | None = FASHION
    long_tail: float | None = None
    generator_from: str = SAME
    generator: str | None = None
    model: str | None = None
    kimg: float | None = None
    unlabeled: int = 0
    consistent: bool = False
    draws: int = 5
    alone: bool = False
    selected: bool = False
    classifier: str = "small-cnn"
    pretrained: bool = False
    flip: bool = True


_ALONE = Setting(
    "Fashion-MNIST, all, against generated alone",
    None,
    generator_from=OTHERS,
    generator="published",
    draws=3,
    alone=True,
)
_UNLABELED = Setting(
    "Fashion-MNIST, 20 of each class",
    20,
    generator_from=UNLABELED,
    generator="unlabeled",
    kimg=200,
    unlabeled=2000,
    draws=3,
)

_FEW = Setting("Fashion-MNIST, 20 of each class", 20, generator="fashion-20")
_PUBLISHED = replace(_FEW, generator_from=OTHERS, generator="published")
_JUDGED_BY_OTHERS = {  # by other classifiers
    key: replace(setting, draws=3) for key, setting in {"fashion-20": _FEW, "fashion-20-published": _PUBLISHED}.items()
}

SETTINGS = {
    "fashion-20": _FEW,
    "fashion-100": Setting("Fashion-MNIST, 100 of each class", 100),
    "fashion-long-tail": Setting("Fashion-MNIST, 500 of the first class down to 5 of the last", 500, long_tail=100),
    "mnist-10": Setting("MNIST, 10 of each class", 10, source=None, flip=False),
    "fashion-20-published": _PUBLISHED,
    "fashion-20-published-acgan": replace(_PUBLISHED, generator="published-acgan", model="acgan"),
    "fashion-alone": _ALONE,
    "fashion-alone-selected": replace(_ALONE, name=f"{_ALONE.name}, those a classifier agrees with", selected=True),
    **{f"{key}-vit": replace(setting, classifier="small-vit") for key, setting in _JUDGED_BY_OTHERS.items()},
    **{
        f"{key}-resnet": replace(setting, classifier="torchvision:resnet18", pretrained=True)
        for key, setting in _JUDGED_BY_OTHERS.items()
    },
    "fashion-20-unlabeled": _UNLABELED,
    "fashion-20-pseudo": replace(
        _UNLABELED,
        name="Fashion-MNIST, 20 of each class, against pseudo-labels for 20,000 more",
        generator_from=PSEUDO_LABELLED,
    ),
    "fashion-20-consistency": replace(
        _UNLABELED,
        name="Fashion-MNIST, 20 of each class, against classifiers that learn from 20,000 more without labels",
        generator_from=PSEUDO_LABELLED,
        consistent=True,
    ),
}


@dataclass(frozen=True)
class Case:
    """What a draw of a setting compares.

    Attributes:
        images (LabelledImages): that classifiers train on, with generated ones and without.
        generator (Generator): of the images that may help.
        accept (Filter, optional): which of its images are kept.
        pseudo_labelled (LabelledImages, optional): the images and the unlabelled ones, as classifiers label them.
    """

    images: LabelledImages
    generator: Generator
    accept: Filter | None = None
    pseudo_labelled: LabelledImages | None = None


def factory_of(setting: Setting, folder: Path) -> ClassifierFactory:
    """What makes the classifier of a setting; its weights, if it is pre-trained, are in the folder or made there."""
    if not setting.pretrained:
        return classifier_named(setting.classifier)

    def build(path: Path) -> None:
        digits = open_images()
        classifier = train_classifier(
            digits, classifier_named(setting.classifier), steps=PRETRAINED, batch_size=64, device=best_device()
        )
        write_tensors(path, {name.removeprefix("model."): value for name, value in classifier.state_dict().items()})

    path = folder / f"{setting.classifier.replace(':', '-')}-digits.safetensors"
    return classifier_named(setting.classifier, weights=build_once(path, build, what="a pre-trained classifier"))


def held_out_of(setting: Setting) -> LabelledImages:
    """The images that judge. Published splits share a few images; all settings leave out the same ones."""
    return without_overlap(open_images(setting.source, split="test"), [(open_images(setting.source), ())])[0]


def prepare(setting: Setting, folder: Path, draw: int) -> Case:
    """Open the images of a draw, and train its generator, unless it is in the folder already."""
    everything = open_images(setting.source)
    images, others = drawn(everything, setting, draw)
    own = folder / str(draw)
    if setting.generator_from == SAME:
        return Case(images, fitted(images, own, setting, draw))
    if setting.generator_from == OTHERS:
        # The same generator for all draws of few images, and also where it is compared with all images.
        left = part(everything, [(0, RESERVE)] * len(everything.classes))[1]
        own = own if setting.alone else folder / "0"
        accept = agreement(left, folder / "selector.safetensors", setting) if setting.selected else None
        return Case(images, fitted(left, own, setting, draw if setting.alone else 0), accept)
    unlabeled = others.take([setting.unlabeled] * len(images.classes), seed=draw)[0].images
    both = joined(images, pseudo_labelled(images, unlabeled, own.with_name(f"{draw}-labels.safetensors"), setting))
    return Case(images, fitted(both, own, setting, draw), pseudo_labelled=both)


def drawn(everything: LabelledImages, setting: Setting, draw: int) -> tuple[LabelledImages, LabelledImages]:
    """The images of a draw, and all others."""
    if setting.images_per_class is None:
        return part(everything, [(0, count) for count in everything.class_counts])
    counts = [setting.images_per_class] * len(everything.classes)
    if setting.long_tail is not None:
        counts = long_tail_counts(setting.images_per_class, setting.long_tail, len(counts))
    return part(everything, [(draw * count, (draw + 1) * count) for count in counts])


def part(images: LabelledImages, ranges: Sequence[tuple[int, int]]) -> tuple[LabelledImages, LabelledImages]:
    """Those images that stand in these ranges of a random order of their class, and all others."""
    chosen = torch.zeros(len(images), dtype=torch.bool)
    for k, (first, last) in enumerate(ranges):
        of_class = torch.nonzero(images.targets == k).squeeze(1)
        order = torch.randperm(len(of_class), generator=torch.Generator().manual_seed(k))
        chosen[of_class[order[first:last]]] = True
    inside, outside = (torch.nonzero(which).squeeze(1) for which in (chosen, ~chosen))
    name = f"{images.name}, {len(inside):,} of {len(images):,} images"
    return images.subset(inside, name), images.subset(outside, f"{images.name}, the other {len(outside):,} images")


def fitted(images: LabelledImages, folder: Path, setting: Setting, draw: int) -> Generator:
    """A generator trained by the default preset, or the one that is in the folder already."""

    def build(path: Path) -> None:
        preset = choose_preset(images, model=setting.model)
        kimg = setting.kimg or preset.settings.total_kimg
        augment = ("flip",) if setting.flip else ()
        settings = replace(preset.settings, augment=augment, total_kimg=kimg, seed=draw)
        model = MODELS[preset.model]
        fit(lambda: model.make_generator(images), model.objective, images, settings, path)

    return Generator.from_pretrained(build_once(folder, build, what=f"a generator for {images.name}"))


def pseudo_labelled(images: LabelledImages, unlabeled: Tensor, path: Path, setting: Setting) -> LabelledImages:
    """Unlabelled images as classifiers of these images label them, or as they did before, in the file."""

    def build(path: Path) -> None:
        write_tensors(path, {"targets": pseudo_label(images, unlabeled, horizontal_flip=setting.flip).images.targets})

    targets = read_tensors(build_once(path, build, what="the pseudo-labels"))["targets"]
    return LabelledImages(unlabeled, targets, images.classes, f"{len(unlabeled):,} pseudo-labelled images")


def agreement(images: LabelledImages, path: Path, setting: Setting) -> ClassifierAgreement:
    """A filter that keeps what a classifier of these images takes for the class asked for.

    The classifier is trained, or found in the file.
    """

    def learn() -> nn.Module:
        augment = ShiftFlip.like(images, flip=setting.flip)
        return train_classifier(images, steps=SELECTOR_STEPS, augment=augment, device=best_device())

    return ClassifierAgreement(kept_classifier(path, images, learn, what="the classifier that selects"))
