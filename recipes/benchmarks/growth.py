"""How much longer ganaug takes for more images and for larger ones: seconds of each kind of work, and exponents.

All cores work on random RGB images, made on the spot, of every number and side. A cell of the table is left empty
where the cells before it show that it would take longer than a limit, or where the images would need too much memory.
The exponent p at the end of a row says that the time grows as number^p, and the one below a column that it grows as
side^p. By its limits all takes about half an hour at the most, on two cores that have nothing else to do. Cells that
were timed are not timed again, so that a command that was stopped goes on.

    python recipes/benchmarks/growth.py
    python recipes/benchmarks/growth.py --table outputs/growth/growth.json
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory, mkdtemp

import numpy as np
import torch
from accelerate.utils import set_seed
from common import Results, fill_and_show, machine
from minutes import random_images, steps_of

from ganaug import ConditionalGANAugment, LabelledImages, open_images, sample
from ganaug.cli.flags import run
from ganaug.core.hardware import best_device, keep_freed_memory, set_cpu_threads
from ganaug.core.pixels import to_pil
from ganaug.evaluation import SmallCNN, fidelity, memorization, train_classifier
from ganaug.sampling.inference import InferenceCopy
from ganaug.training import MODELS

SHORT = 1.0  # seconds: what takes less is done again, and the median counts
STEPS = 10  # of a classifier, at a time
FEW = 100  # images that each kind of work is done for first, which is not counted
Timed = Callable[[], object]
Times = dict[str, dict[str, float]]  # seconds, by side and number of images; keys of a JSON file


@dataclass(frozen=True)
class Arguments:
    """Flags of this benchmark.

    Args:
        numbers: Of images.
        sizes: Sides of the images in pixels; even.
        seconds: The limit for one cell.
        gigabytes: The limit for the images of one cell, in GB.
        output_dir: Folder for growth.json, to which results are added.
        table: Time nothing: print the table of this growth.json.
    """

    numbers: tuple[int, ...] = (1_000, 10_000, 100_000, 1_000_000)
    sizes: tuple[int, ...] = (16, 32, 64, 128)
    seconds: float = 20.0
    gigabytes: float = 3.5
    output_dir: Path = Path("outputs/growth")
    table: Path | None = None


def opening(images: LabelledImages, folder: Path) -> Timed:
    """Opening all images from PNG files in folders of their classes."""
    for name in images.classes:
        (folder / name).mkdir()
    for number, (image, label) in enumerate(images):
        to_pil(image).save(folder / images.classes[label] / f"{number}.png", compress_level=1)
    return lambda: open_images(folder)


def hashing(images: LabelledImages, folder: Path) -> Timed:
    """Hashing all images, together and one by one, as every training and evaluation does."""

    def hash_all() -> None:
        again = replace(images)  # which has no hashes yet
        _ = again.fingerprint, again.image_hashes

    return hash_all


def training(images: LabelledImages, folder: Path) -> Timed:
    """A step of the default model."""
    step = steps_of("flow", images)
    step()
    return step


def drawing(images: LabelledImages, folder: Path) -> Timed:
    """Drawing as many images as there are by the default model, untrained."""
    inference_copy = InferenceCopy(MODELS["flow"].make_generator(images).eval())
    return lambda: sample(inference_copy, images.targets)


def materialising(images: LabelledImages, folder: Path) -> Timed:
    """Drawing as many images into a file, by a model that takes little time for that."""
    few = images.subset(torch.arange(len(images.classes)), "one image of each class")
    each = dict.fromkeys(images.classes, 1 + len(images) // len(images.classes))
    generator = MODELS["cgan-mlp"].make_generator(images).eval()

    def materialise() -> None:
        cache = mkdtemp(dir=folder)  # an empty one, or what is there would be found
        ConditionalGANAugment(few, generator, sampling_strategy=each, cache_dir=cache).materialize()

    return materialise


def classifying(images: LabelledImages, folder: Path) -> Timed:
    """Some steps of a classifier."""
    return lambda: train_classifier(images, steps=STEPS, batch_size=64)


def comparing(images: LabelledImages, folder: Path) -> Timed:
    """Fidelity of as many generated images, against as many held-out ones."""
    others, classifier = random_images(len(images), images.image_size), untrained_classifier(images)
    return lambda: fidelity(images, others, classifier)


def copies(images: LabelledImages, folder: Path) -> Timed:
    """Looking for copies of as many training images among 1,000 generated ones."""
    few, classifier = random_images(1000, images.image_size), untrained_classifier(images)
    return lambda: memorization(few, images, few, classifier)


def untrained_classifier(images: LabelledImages) -> SmallCNN:
    """The classifier of an evaluation, for these images."""
    return SmallCNN(len(images.classes), channels=images.channels, image_size=images.image_size)


@dataclass(frozen=True)
class Work:
    """A kind of work.

    Attributes:
        prepare (callable): called with the images and an empty folder, returns the function to time.
        parts (int): of what is timed, where the time of one is meant. Default: 1
        whole (bool): whether all images are worked on, not only a batch. Default: True
    """

    prepare: Callable[[LabelledImages, Path], Timed]
    parts: int = 1
    whole: bool = True


WORKS = {
    "opening PNG files": Work(opening),
    "hashing": Work(hashing),
    "a training step of 64, `flow`": Work(training, whole=False),
    "drawing, `flow`": Work(drawing),
    "materialising, `cgan-mlp`": Work(materialising),
    "evaluation: a classifier's step of 64": Work(classifying, parts=STEPS, whole=False),
    "evaluation: fidelity": Work(comparing),
    "evaluation: copies among 1,000": Work(copies),
}


def seconds_of(work: Work, images: LabelledImages) -> float:
    """Time a kind of work for some images."""
    taken: list[float] = []
    with TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        timed = work.prepare(images, Path(folder))
        while sum(taken) < SHORT:
            started = time.perf_counter()
            timed()
            taken.append(time.perf_counter() - started)
    return statistics.median(taken) / work.parts


def expected(work: Work, times: Times, size: int, number: int) -> float:
    """Seconds that a cell will take, by those of fewer images of this size, or else of smaller images; 0 if none is.

    Two cells show how the time grows with the number of images. By one alone, it is taken to grow as the number does,
    or not at all where only a batch is worked on. With the size it is taken to grow as the number of pixels does.
    """
    of_size = {int(n): t for n, t in times.get(str(size), {}).items() if int(n) < number}
    of_number = {int(s): by[str(number)] for s, by in times.items() if int(s) < size and str(number) in by}
    if of_size:
        last = max(of_size)
        grows = exponent(of_size) if len(of_size) > 1 else float(work.whole)
        return of_size[last] * (number / last) ** grows * work.parts
    if of_number:
        last = max(of_number)
        return of_number[last] * (size / last) ** 2 * work.parts
    return 0.0


def exponent(times: Mapping[int, float]) -> float:
    """The p of t ~ x^p, by least squares of the logarithms."""
    return float(np.polyfit(np.log(list(times)), np.log(list(times.values())), 1)[0])


def measure(args: Arguments, results: Results) -> Iterator[None]:
    """Time what was not timed yet."""
    set_cpu_threads(None)
    keep_freed_memory()
    set_seed(0)
    results |= {"machine": f"{best_device()}, {machine()}", "seconds": args.seconds, "gigabytes": args.gigabytes}
    times: dict[str, Times] = results.setdefault("times", {name: {} for name in WORKS})
    cold = set(WORKS)
    for size in sorted(args.sizes):
        too_long: set[str] = set()
        for number in sorted(args.numbers):
            if 3 * size**2 * number > args.gigabytes * 1e9:
                break
            images = random_images(number, size)
            for name, work in WORKS.items():
                of_size = times[name].setdefault(str(size), {})
                if str(number) in of_size or name in too_long:
                    continue
                if expected(work, times[name], size, number) > args.seconds:
                    too_long.add(name)
                    continue
                if name in cold:  # the first time, code is imported
                    seconds_of(work, random_images(FEW, size))
                    cold.remove(name)
                of_size[str(number)] = seconds_of(work, images)
                yield


def table(results: Results) -> str:
    """Markdown table of results: a row for each side of the images, and one with the exponents of the sides."""
    every = [by_number for times in results["times"].values() for by_number in times.values()]
    numbers = sorted({int(number) for by_number in every for number in by_number})
    lines = [
        f"| seconds | pixels | {' | '.join(f'{number:,} images' for number in numbers)} | exponent |",
        "|---|---|" + "---|" * (len(numbers) + 1),
    ]
    for name, times in results["times"].items():
        cells = {(int(s), int(n)): t for s, by_number in times.items() for n, t in by_number.items()}
        for size in sorted({size for size, _ in cells}):
            row = {number: cells[size, number] for number in numbers if (size, number) in cells}
            shown = [f"{row[number]:.2g}" if number in row else "" for number in numbers]
            lines.append(f"| {name} | {size} | {' | '.join(shown)} | {in_words(row)} |")
        columns = [{size: t for (size, n), t in cells.items() if n == number} for number in numbers]
        if any(exponents := list(map(in_words, columns))):
            lines.append(f"| | exponent | {' | '.join(exponents)} | |")
    note = (
        f"Empty: it would take longer than {results['seconds']:g} s, or the images would be larger than "
        f"{results['gigabytes']:g} GB."
    )
    return "\n".join([*lines, "", f"{note} Machine: {results['machine']}"])


def in_words(times: Mapping[int, float]) -> str:
    """The exponent with two decimals; nothing where there are not two times to find it by."""
    return f"{round(exponent(times), 2) + 0.0:.2f}" if len(times) > 1 else ""  # and not -0.00


def main(args: Arguments) -> None:
    """Measure, and print the table of all results so far."""
    fill_and_show("growth", args, measure, table)


if __name__ == "__main__":
    run(Arguments, main, __doc__)
