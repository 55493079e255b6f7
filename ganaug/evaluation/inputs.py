"""What is evaluated, as users name it: generators by folder or Hub id, and images in the form that they draw."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Literal, cast

from ganaug.core.errors import InputError
from ganaug.generators.base import Generator


def place(source: str | Path) -> str:
    """The folder or Hub id that a generator is in; a folder by its expanded path, at which its card is found later."""
    folder = Path(source).expanduser()
    return str(folder) if folder.is_dir() else str(source)


def by_short_names(sources: Sequence[str | Path]) -> dict[str, str]:
    """Short name of each generator to its :func:`place`; the whole place where short names are the same.

    Raises:
        InputError: there is no source, or one is named twice.
    """
    if not sources:
        raise InputError("generator (--generator) names no generator. Give a folder or Hub id, or several")
    places = [place(source) for source in sources]
    if twice := [each for each in places if places.count(each) > 1]:
        raise InputError(f"generator (--generator) names {twice[0]} twice. Name each once")
    short = [Path(each).name for each in places]
    return {each if short.count(name) > 1 else name: each for name, each in zip(short, places, strict=True)}


def form_of(generators: Mapping[str, Generator]) -> tuple[int, Literal[1, 3]]:
    """Resolution and channels to open real images with: classifiers see images as the generators make them."""
    first = next(iter(generators.values()))
    return first.image_size, cast(Literal[1, 3], first.channels)


def check_drawn(classes: Sequence[str], generators: Mapping[str, Generator], *, images: str) -> None:
    """Refuse generators that are unconditional, or do not draw all classes of the real images.

    Args:
        classes (sequence of str): those of the real images.
        generators (mapping): generators by name.
        images (str): name of the real images.

    Raises:
        InputError: a generator does not draw a class.
    """
    for name, generator in generators.items():
        if not generator.conditional:
            raise InputError(
                f"{name} is unconditional, so its images have no class to learn. Give a conditional generator, as "
                "ganaug train makes by default"
            )
        missing = [wanted for wanted in classes if wanted not in generator.label_names]
        if not missing:
            continue
        numbered = all(wanted.isdecimal() for wanted in classes)
        names = "Name the classes as in training, with class_names (--class_names)" if numbered else ""
        fewer = "Leave the others out, with classes (--classes)" if len(missing) < len(classes) else ""
        raise InputError(
            f"{name} does not draw {', '.join(missing)}. It draws {', '.join(generator.label_names)}; {images} has "
            f"{', '.join(classes)}. {fewer or names or 'Give images of the classes that it draws'}"
        )
