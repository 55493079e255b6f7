"""The images of colour.py, as a user has them: folders of PNG files, one for each class, inside train and test.

Emoji are of nine uneven categories, drawn on nothing, 64x64 pixels. Photographs are of ten scenes, from which patches
are cut; one class is one photograph, and the patches of its left part are trained on, those of its right part judge.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from importlib.resources import files
from importlib.util import find_spec
from pathlib import Path
from random import Random

from PIL import Image

from ganaug import InputError

EMOJI, PHOTOGRAPHS = "emoji", "photographs"
SIDES = {EMOJI: 64, PHOTOGRAPHS: 128}  # of the files, in pixels; larger ones would show nothing more
SCENES = {  # class to the package that has it, and where
    "astronaut": ("skimage", "data/astronaut.png"),
    "cat": ("skimage", "data/chelsea.png"),
    "coffee": ("skimage", "data/coffee.png"),
    "flower": ("sklearn", "datasets/images/flower.jpg"),
    "galaxies": ("skimage", "data/hubble_deep_field.jpg"),
    "motorcycle": ("skimage", "data/motorcycle_left.png"),
    "retina": ("skimage", "data/retina.jpg"),
    "rocket": ("skimage", "data/rocket.jpg"),
    "temple": ("sklearn", "datasets/images/china.jpg"),
    "tissue": ("skimage", "data/ihc.png"),
}
SEEN = 0.6  # share of a photograph's width that is trained on
HELD_OUT = 0.25  # share of the emoji of a category that judge
JUDGES = 100  # patches of each photograph that judge


def write_images(name: str, number: int, folder: Path, package: Path | None) -> None:
    """Write a set, with up to so many training images of each class.

    Args:
        name: of the set.
        number: of training images of each class; of a smaller class, all.
        folder: for train and test.
        package: folder of npm's emoji-datasource-google, unpacked; only emoji need it.
    """
    if name == PHOTOGRAPHS:
        _write_photographs(number, folder)
    else:
        _write_emoji(number, folder, package)


def _write_emoji(number: int, folder: Path, package: Path | None) -> None:
    if package is None:
        raise InputError(
            "emoji need --emoji, the folder that `npm pack emoji-datasource-google` and `tar -xf` of what it fetches "
            "leave; or give --sets photographs"
        )
    categories: dict[str, list[Path]] = {}
    for entry in json.loads((package / "emoji.json").read_text(encoding="utf-8")):
        if entry["has_img_google"] and entry["category"] != "Component":  # parts of emoji, such as skin tones
            image = package / "img" / "google" / "64" / entry["image"]
            categories.setdefault(entry["category"], []).append(image)
    for category, images in sorted(categories.items()):
        Random(category).shuffle(images)
        judges = round(HELD_OUT * len(images))
        for split, chosen in (("test", images[:judges]), ("train", images[judges : judges + number])):
            target = folder / split / category
            target.mkdir(parents=True)
            for image in chosen:
                shutil.copy(image, target)


def _write_photographs(number: int, folder: Path) -> None:
    if missing := {module for module, _ in SCENES.values() if find_spec(module) is None}:
        raise InputError(
            f"photographs come with {', '.join(sorted(missing))}, which is not installed. Install the extra "
            "benchmarks: pip install -e '.[benchmarks]'; or give --sets emoji"
        )
    for scene, (module, path) in SCENES.items():
        with files(module).joinpath(path).open("rb") as stream, Image.open(stream) as opened:
            photograph = opened.convert("RGB")
        border = round(SEEN * photograph.width)
        parts = {"train": (0, border, number), "test": (border, photograph.width, JUDGES)}
        for split, (left, right, count) in parts.items():
            target = folder / split / scene
            target.mkdir(parents=True)
            part = photograph.crop((left, 0, right, photograph.height))
            for k, patch in enumerate(_patches(part, count, Random(f"{split} {scene}"))):
                patch.save(target / f"{k}.png")


def _patches(part: Image.Image, count: int, random: Random) -> Iterator[Image.Image]:
    """Squares from anywhere in a part of a photograph."""
    side = SIDES[PHOTOGRAPHS]
    for _ in range(count):
        x, y = random.randint(0, part.width - side), random.randint(0, part.height - side)
        yield part.crop((x, y, x + side, y + side))
