"""What the default preset is worth on colour images, by their size and number: emoji, and patches of photographs.

For each row ``ganaug train`` trains on a folder, in a process of its own whose time and memory are taken. A classifier
of 1,000 training images of each class, or all, usually more than the generator saw, then judges what it draws, and
:func:`ganaug.evaluation.evaluate` says what that is worth beside the real images, within --verdict_minutes. What each
training took is in the table: 6 or 7 minutes of a core without bf16 for 20 images of each class of 32 pixels, beside
other work on two cores. What is finished is kept, so that a command that was stopped goes on.

    npm pack emoji-datasource-google && tar -xf emoji-datasource-google-*.tgz
    python recipes/benchmarks/colour.py --emoji package
    python recipes/benchmarks/colour.py --table outputs/colour/colour.json
"""

from __future__ import annotations

import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

import psutil  # which accelerate brings
import torch
from colour_sets import SIDES, write_images
from common import Results, fill_and_show, kept_classifier, machine, require_known
from torch import Tensor, nn

from ganaug import Generator, LabelledImages, open_images
from ganaug.cli.flags import run
from ganaug.core.files import build_once
from ganaug.core.hardware import best_device, set_cpu_threads
from ganaug.core.text import in_points
from ganaug.data.grids import sample_grid
from ganaug.evaluation import (
    ShiftFlip,
    TrivialAugment,
    UtilitySettings,
    evaluate,
    fidelity,
    memorization,
    predict,
    train_classifier,
)
from ganaug.evaluation.verdict import headline

ALL = 1_000  # images of each class, or as many as there are, that the judge learns
DRAWN = 200  # images of each class that are judged, or more where more real ones judge


@dataclass(frozen=True)
class Arguments:
    """Flags of this benchmark.

    Args:
        emoji: Folder of npm's emoji-datasource-google, unpacked; needed for emoji.
        sets: Which images: emoji, photographs (these need the extra benchmarks).
        sizes: Sides of the images in pixels; larger ones than a set has are left out.
        numbers: Up to how many training images of each class.
        settings: How the classifiers of verdicts are trained.
        kimg: How long generators are trained; by default as the preset says.
        judge_steps: Steps of the classifier that judges the images.
        verdict_minutes: For each row's verdict; 0 asks for none.
        cpu_threads: Of each training; by default one for each core.
        output_dir: Folder for images, generators, grids and colour.json, to which results are added.
        table: Train nothing: print the table of this colour.json.
    """

    emoji: Path | None = None
    sets: tuple[str, ...] = tuple(SIDES)
    sizes: tuple[int, ...] = (32, 64, 128)
    numbers: tuple[int, ...] = (20, 100, ALL)
    settings: UtilitySettings = field(default_factory=lambda: UtilitySettings(horizontal_flip=True))
    kimg: float | None = None
    judge_steps: int = 2_000
    verdict_minutes: float = 60
    cpu_threads: int | None = None
    output_dir: Path = Path("outputs/colour")
    table: Path | None = None


@dataclass(frozen=True)
class Row:
    """Images of one kind, side and number."""

    name: str
    side: int
    number: int

    def __str__(self) -> str:
        return f"{self.name}-{self.side}-{self.number}"


def measure(args: Arguments, results: Results) -> Iterator[None]:
    """Train and judge the rows that are not there yet, the smallest first."""
    require_known(args.sets, SIDES, "sets")
    set_cpu_threads(args.cpu_threads)
    results.setdefault("machine", machine())
    rows = [
        Row(name, side, number)
        for side in sorted(args.sizes)
        for number in sorted(args.numbers)
        for name in args.sets
        if side <= SIDES[name]
    ]
    found = results.setdefault("rows", {})
    for row in rows:
        of_row = found.setdefault(str(row), {"set": row.name, "side": row.side, "number": row.number})
        for part in (training, quality, worth):
            if part.__name__ not in of_row and (part is not worth or args.verdict_minutes):
                of_row[part.__name__] = part(row, args)
                yield


def folder_of(name: str, number: int, args: Arguments) -> Path:
    """The images of a set as PNG files, written once."""
    write = partial(write_images, name, number, package=args.emoji)
    return build_once(args.output_dir / "images" / f"{name}-{number}", write, what=f"the images of {name}")


def opened(row: Row, args: Arguments) -> tuple[LabelledImages, LabelledImages]:
    """A row's images, to train on and to judge by."""
    opens = partial(open_images, folder_of(row.name, row.number, args), resolution=row.side, channels=3)
    train = opens()
    return train, opens(split="test", like=train)


def training(row: Row, args: Arguments) -> dict[str, Any]:
    """Train as a user does, and take the time, in minutes of a core, and the most memory, in MB."""
    target = args.output_dir / str(row)
    shutil.rmtree(target, ignore_errors=True)  # of a run that was stopped
    flags = ["--train_data_dir", str(folder_of(row.name, row.number, args)), "--resolution", str(row.side)]
    flags += ["--channels", "3", "--output_dir", str(target)]
    flags += ["--augment", "flip"] if args.settings.horizontal_flip else []
    flags += [] if args.kimg is None else ["--total_kimg", str(args.kimg)]
    flags += [] if args.cpu_threads is None else ["--cpu_threads", str(args.cpu_threads)]
    process = psutil.Popen([sys.executable, "-m", "ganaug", "train", *flags])
    most, seconds = 0, 0.0
    while process.poll() is None:
        with suppress(psutil.NoSuchProcess, psutil.AccessDenied):  # it ends in between
            most, times = max(most, process.memory_info().rss), process.cpu_times()
            seconds = times.user + times.system
        time.sleep(0.1)
    if process.returncode:
        raise subprocess.CalledProcessError(process.returncode, process.args)
    trained = Generator.from_pretrained(target)
    return {
        "model": trained.architecture,
        "kimg": trained.info["training"]["total_kimg"],
        "core_minutes": seconds / 60,
        "megabytes": most / 2**20,
    }


def quality(row: Row, args: Arguments) -> dict[str, float | None]:
    """What the generator draws, as a classifier of all images of the set sees it; and a grid of it."""
    train, real = opened(row, args)
    everything = replace(row, number=max(ALL, row.number))
    generator = Generator.from_pretrained(args.output_dir / str(row))
    sample_grid(generator).save(args.output_dir / f"{row}.png")

    def learn_everything() -> nn.Module:
        images = opened(everything, args)[0]
        strong = TrivialAugment(ShiftFlip.like(images, flip=args.settings.horizontal_flip))
        return train_classifier(images, steps=args.judge_steps, augment=strong, device=best_device())

    kept = args.output_dir / f"judge-{everything}-{args.judge_steps}.safetensors"
    judge = kept_classifier(kept, train, learn_everything, what="the judge")

    labels = torch.arange(len(real.classes)).repeat(max(DRAWN, *real.class_counts))
    drawn = LabelledImages(generator.sample(labels), labels, real.classes, "generated images")
    seen, copied = fidelity(drawn, real, judge), memorization(drawn, train, real, judge)[0]
    return {
        "label_fidelity": (predict(judge, drawn.images) == labels).double().mean().item(),
        "real_label_fidelity": seen.real_label_fidelity,
        "diversity": seen.mean_diversity,
        "fd_cnn": seen.generated.fd_cnn,
        "real_fd_cnn": seen.real.fd_cnn,
        "near_copies": copied.near_copies,
        "pure": share_of_pure(drawn.images[:]),
        "real_pure": share_of_pure(real.images[:]),
    }


def share_of_pure(images: Tensor) -> float:
    """Share of the values of uint8 images that are 0 or 255, as in backgrounds of one pure colour."""
    return ((images == 0) | (images == 255)).double().mean().item()


def worth(row: Row, args: Arguments) -> dict[str, Any]:
    """The verdict on the generator beside the row's own real images."""
    found = evaluate(
        *opened(row, args),
        {"generator": Generator.from_pretrained(args.output_dir / str(row))},
        settings=args.settings,
        processes=set_cpu_threads(args.cpu_threads),
        budget_minutes=args.verdict_minutes,
    ).utility
    verdict = found.verdicts["generator"]
    ends = {end: getattr(verdict.difference, end) for end in ("estimate", "low", "high")}
    return {"headline": headline(verdict.outcome, found.too_short), "ratio": verdict.primary.arm.ratio, **ends}


def table(results: Results) -> str:
    """Markdown with a line for each row; of what is compared with real images, these in brackets."""
    lines = [
        "| images, of each class | pixels | trained | core-minutes | memory, MB | label fidelity (real) | diversity "
        "| FD-cnn (real) | near copies | values 0 or 255 (real) | worth, points [95 % interval] |",
        "|---|---|---|---|---|---|---|---|---|---|---|",
    ]
    for row in results["rows"].values():
        trained, seen, judged = (row.get(part.__name__) for part in (training, quality, worth))
        cells = [f"{row['set']}, {row['number']:,}", row["side"]]
        if trained:
            cells += [f"`{trained['model']}`, {trained['kimg']:g} kimg"]
            cells += [f"{trained[key]:,.0f}" for key in ("core_minutes", "megabytes")]
        if seen:
            cells += [f"{seen['label_fidelity']:.2f} ({seen['real_label_fidelity']:.2f})", f"{seen['diversity']:.2f}"]
            known = seen["fd_cnn"] is not None  # with fewer images than features it is not
            cells += [f"{seen['fd_cnn']:.1f} ({seen['real_fd_cnn']:.1f})" if known else ""]
            cells += [f"{100 * seen['near_copies']:.1f} %"]
            cells += [f"{100 * seen['pure']:.1f} % ({100 * seen['real_pure']:.1f} %)"]
        if judged:
            gain = in_points(judged["estimate"], judged["low"], judged["high"])
            cells += [f"{judged['headline']}: {gain} at {judged['ratio']:g}"]
        cells += [""] * (lines[0].count(" | ") + 1 - len(cells))  # for what is not measured
        lines.append(f"| {' | '.join(map(str, cells))} |")
    return "\n".join(lines)


def main(args: Arguments) -> None:
    """Measure, and print the table of all results so far."""
    fill_and_show("colour", args, measure, table)


if __name__ == "__main__":
    run(Arguments, main, __doc__)
