"""Which classes the int labels of streams and batches stand for."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from ganaug.core.errors import InputError
from ganaug.core.text import repeated, shortened
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
    """A sampler for int labels, if it is sure that they mean the same to their owner and to the generator.

    Without names, label k is taken for class k of the generator only if the generator calls that class "k".

    Args:
        generator (module, str or Path): see :class:`ClassSampler`.
        classes (sequence of str): names of the labels, in order; empty if they have none.
        owner (str): whose labels they are, for messages.
        class_map (mapping, optional): {name of a label: generator class name} for classes whose names differ.
        options: further arguments of :class:`ClassSampler`.

    Raises:
        ValueError: the labels have no names and the generator's classes are not called "0", "1", "2" and so on; or see
            :class:`ClassSampler`.
    """
    if isinstance(classes, str) or not isinstance(classes, Iterable):
        raise InputError(f"classes must be a sequence of class names, in the order of the labels; got {classes!r:.80}")
    names = tuple(map(str, classes))
    if twice := repeated(names):
        raise InputError(
            f"two labels of {owner} have the same name: {shortened(twice)}. Give classes names that differ"
        )
    if names:
        present = [name for k, name in enumerate(names) if name != unnamed(k)]
        return ClassSampler(generator, names, present=present, class_map=class_map, **options)
    if class_map:
        raise InputError(
            f"class_map was given, but the labels of {owner} have no names. Give classes: their names, in order"
        )
    sampler = ClassSampler(generator, **options)
    if not sampler.classes:
        raise InputError(
            f"neither {owner} nor the generator ({sampler.name}) says what the classes are. Give classes: their "
            "names, in the order of the labels"
        )
    if sampler.classes != tuple(map(str, range(len(sampler.classes)))):
        raise InputError(
            f"it is not known which classes the labels of {owner} stand for; the generator's are "
            f"{shortened(sampler.classes)}. Give classes: the names of the labels, in order; if they are the "
            "generator's, classes=generator.label_names"
        )
    return sampler
