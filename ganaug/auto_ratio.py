"""``ratio="auto"``: what the wrapper must bring together for the ratio to be chosen."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from ganaug.class_sampler import ClassSampler
from ganaug.data import LabelledImages, open_images

logger = logging.getLogger(__name__)


def auto_ratio(
    dataset: Any, validation: Any, sampler: ClassSampler, *, class_map: Mapping[str, str] | None, cache_dir: Path
) -> float:
    """The ratio that does best on validation images, 0 if none helps; takes minutes, and says so in a log line.

    Args:
        dataset, validation: objects that :func:`ganaug.open_images` takes, before any transform.
        sampler (ClassSampler): has the generator.
        class_map (mapping, optional): {dataset class name: generator class name}.
        cache_dir (Path): where trained classifiers' answers are kept.

    Raises:
        InputError: validation images are among those that the generator or the classifiers train on.
        DataError: the images cannot be read.
    """
    from ganaug.evaluation.ratio import choose_ratio  # evaluation is imported where it is needed

    logger.warning(
        "choosing the ratio: classifiers are trained with and without generated images, which takes minutes"
    )
    channels, side, _ = sampler.image_shape
    names = class_map or {}

    def opened(images: Any) -> LabelledImages:
        found = open_images(images, resolution=side, channels=channels)
        return replace(found, classes=tuple(names.get(name, name) for name in found.classes))  # the generator's names

    choice = choose_ratio(opened(dataset), opened(validation), sampler.generator, cache_dir=cache_dir / "evaluation")
    logger.warning(choice.sentence)
    return choice.ratio
