"""What the int labels of streams and batches, which come without names, stand for."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ganaug.core.errors import InputError
from ganaug.data.label_form import unnamed
from ganaug.sampling.class_sampler import ClassSampler
from ganaug.sampling.inference import ConditionalGenerator


def sampler_of_labels(
    generator: ConditionalGenerator | str | Path,
    classes: Sequence[str],
    *,
    owner: str,
    class_map: Mapping[str, str] | None,
    **options: Any,
) -> ClassSampler:
    """A sampler for int labels, which must be known to mean the same to their owner and to the generator.

    Without names, label k of a dataset is taken for class k of the generator only if that one calls it "k" too.

    Args:
        generator (module, str or Path): see :class:`ClassSampler`.
        classes (sequence of str): names of the labels, in their order; empty if nobody gives them.
        owner (str): whose labels they are, for messages.
        class_map (mapping, optional): {name of a label: generator class name} for classes whose names differ.
        options: further arguments of :class:`ClassSampler`.

    Raises:
        ValueError: nobody names the labels and the generator's names are not 0, 1, 2 and so on; or see
            :class:`ClassSampler`.
    """
    if len(classes):
        names = tuple(map(str, classes))
        present = [name for k, name in enumerate(names) if name != unnamed(k)]
        return ClassSampler(generator, names, present=present, class_map=class_map, **options)
    if class_map:
        raise InputError(f"class_map was given, but nobody names the labels of {owner}. Give classes: their names")
    sampler = ClassSampler(generator, **options)
    if not sampler.classes:
        raise InputError(
            f"neither {owner} nor the generator ({sampler.name}) says what the classes are. Give classes: their "
            "names, in the order of the labels"
        )
    if sampler.classes != tuple(map(str, range(len(sampler.classes)))):
        raise InputError(
            f"nobody says which classes the labels of {owner} stand for; the generator's are "
            f"{', '.join(sampler.classes)}. Give classes: the names of the labels, in their order; if they are the "
            "generator's, classes=generator.label_names"
        )
    return sampler
