"""What the settings of benchmark_usefulness.py compare: their images, generators and filters, made or found."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import cast

from safetensors.torch import load_file
from usefulness_settings import Setting

from ganaug import Generator, LabelledImages, open_images
from ganaug.core.files import build_once, write_tensors
from ganaug.core.hardware import best_device
from ganaug.data import joined, reduce_images
from ganaug.evaluation import ShiftFlip, SmallCNN, train_classifier
from ganaug.evaluation.leakage import without_overlap
from ganaug.filters import ClassifierAgreement, Filter
from ganaug.training import MODELS, choose_preset, fit
from ganaug.training.presets import OTHERS, SAME
from ganaug.training.pseudo_labels import pseudo_label

SELECTOR_STEPS = 8000  # of 128 images


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
    """A generator by the default preset, or the one that is in the folder."""

    def build(path: Path) -> None:
        preset = choose_preset(images)
        kimg = setting.kimg or preset.settings.total_kimg
        settings = replace(preset.settings, augment=("flip",) if setting.flip else (), total_kimg=kimg)
        model = MODELS[preset.model]
        fit(lambda: model.make_generator(images), model.objective, images, settings, path)

    return Generator.from_pretrained(build_once(folder, build, what=f"a generator for {images.name}"))


def agreement(images: LabelledImages, folder: Path, setting: Setting) -> ClassifierAgreement:
    """Keeps what a classifier of these images, trained or found beside the folder, takes for the class asked for."""

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
        accept = agreement(left, folder, setting) if setting.selected else None
        return Case(images, held_out, fitted(left, folder, setting), accept)
    unlabeled = cast(LabelledImages, others).take([setting.unlabeled] * len(images.classes))[0].images
    both = joined(images, pseudo_label(images, unlabeled, horizontal_flip=setting.flip))
    return Case(images, held_out, fitted(both, folder, setting), pseudo_labelled=both)
