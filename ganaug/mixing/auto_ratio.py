"""``ratio="auto"``: the ratio of a mixed dataset, chosen on validation images."""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch

from ganaug.core import fingerprints
from ganaug.core.errors import InputError
from ganaug.core.files import build_once, write_json
from ganaug.core.text import composed, numbers_of
from ganaug.data import LabelledImages, open_images
from ganaug.sampling.class_sampler import ClassSampler

logger = logging.getLogger(__name__)


def auto_ratio(
    dataset: Any, validation: Any, sampler: ClassSampler, *, class_map: Mapping[str, str] | None, cache_dir: Path
) -> float:
    """The ratio that helps most on validation images, 0 if none helps. It takes minutes; the log says how many.

    The choice is made once for given images and a given generator, so that all processes of a run get the same one.

    Args:
        dataset, validation: objects that :func:`ganaug.open_images` takes; their images before any transform.
        sampler (ClassSampler): has the generator, the filter of its images, and how strongly it varies real ones.
        class_map (mapping, optional): {dataset class name: generator class name} for classes whose names differ.
        cache_dir (Path): where the choice and the trained classifiers' answers are kept.

    Returns:
        float: in [0, 1).

    Raises:
        InputError: the generator or the classifiers train on 1 % or more of the validation images, too few images of
            a class remain where copies are left out, or the two datasets have other classes.
        DataError: the images cannot be read.
        OSError: ``cache_dir`` cannot be written to or the disk is full.
    """
    from ganaug.evaluation.ratio import CANDIDATES, RULE, choose_ratio  # evaluation is imported where it is needed

    channels, side, _ = sampler.image_shape
    label_of = numbers_of(sampler.classes)
    names = {composed(name): other for name, other in (class_map or {}).items()}

    def numbered(found: LabelledImages) -> LabelledImages:
        """The images under the generator's class names; if there is a filter, with the labels that it is given."""
        unknown = [name for name in found.classes if composed(name) not in label_of]
        if unknown:
            raise InputError(
                f"{found.name} has the class {unknown[0]}, but the dataset to mix has {', '.join(sampler.classes)}. "
                "Give images of the same classes, under the same names"
            )
        labels = torch.tensor([label_of[composed(name)] for name in found.classes])
        classes = sampler.classes if sampler.accept else found.classes
        targets = labels[found.targets] if sampler.accept else found.targets
        return replace(found, targets=targets, classes=tuple(names.get(composed(name), name) for name in classes))

    real = open_images(dataset, resolution=side, channels=channels)
    held_back = open_images(validation, resolution=side, channels=channels, like=real)
    train, held_out = numbered(real), numbered(held_back)

    def choose(path: Path) -> None:
        choice = choose_ratio(
            train,
            held_out,
            sampler.generator,
            accept=sampler.accept,
            max_tries=sampler.max_tries,
            vary=sampler.vary,
            cache_dir=cache_dir / "evaluation",
        )
        write_json(path, {"ratio": choice.ratio, "sentence": choice.sentence})

    known_by = [train.fingerprint, held_out.fingerprint, sampler.fingerprint, version("ganaug"), RULE, CANDIDATES]
    path = cache_dir / "ratios" / f"{fingerprints.of_values(*known_by)[:32]}.json"
    choice = json.loads(build_once(path, choose, what="the choice of a ratio").read_text(encoding="utf-8"))
    logger.warning(choice["sentence"])
    return float(choice["ratio"])
