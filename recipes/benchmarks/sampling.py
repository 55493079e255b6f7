"""Images per second when drawing: ganaug against plain PyTorch, one image at a time and in batches of 64.

The baselines run the generator as most people would: evaluation mode, no gradients, fp32, NCHW, torch's own layers,
then the same rounding to uint8. The arms take turns, each with all cores and in a process of its own. Then, of ganaug
alone: how speed depends on the number of images in a pass, and how speed and memory depend on the number asked for.

A generator is given as the folder of a trained one, or as the name of a model, which is left untrained. The two differ
in what can be computed in bf16 without a visible change, so take a trained one for a number that counts. At the speeds
in recipes/README.md the two by default are about ten minutes on two cores, half of it for the 111,000 images of
acgan-64.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from baselines import plain_form
from timing import Process, hardware, in_turns, peak_memory, report

from ganaug import Generator, sample
from ganaug.cli.flags import run
from ganaug.core.files import write_json
from ganaug.core.hardware import best_device, keep_freed_memory, set_cpu_threads
from ganaug.core.pixels import to_uint8
from ganaug.sampling.inference import InferenceCopy
from ganaug.training import MODELS

ROWS = (8, 16, 32, 64)


@dataclass(frozen=True)
class Arguments:
    """Flags of this benchmark.

    Args:
        generators: Folders or Hub ids, or names of models.
        rounds: How often each arm is timed.
        seconds: How long an arm is timed in each round, about.
        counts: How many images to ask for at once.
        output: Write the numbers to this JSON file too.
    """

    generators: tuple[str, ...] = ("acgan-28", "acgan-64")
    rounds: int = 7
    seconds: float = 2.0
    counts: tuple[int, ...] = (1_000, 10_000, 100_000)
    output: Path | None = None


def load(name: str) -> Generator:
    """A trained generator, or an untrained one of a model, on the best device."""
    if name in MODELS:
        model = MODELS[name]
        size = {"image_size": model.resolution} if model.resolution else {}
        return model.generator(tuple("0123456789"), **size, **model.network).eval().to(best_device())
    return Generator.from_pretrained(name).to(best_device())


def plain_arm(name: str, batch_size: int) -> Callable[[], int]:
    """A function that draws a batch as most people would, and returns how many images that is."""
    set_cpu_threads(None)
    generator, device = plain_form(load(name)), best_device()

    def draw() -> int:
        with torch.no_grad():
            labels = torch.randint(generator.num_classes, (batch_size,), device=device)
            to_uint8(generator(torch.randn(batch_size, generator.latent_dim, device=device), labels)).cpu()
        return batch_size

    return draw


def our_arm(name: str, rows: int | None = None) -> Callable[[], int]:
    """A function that draws 256 images by :func:`ganaug.sample`, and returns how many that is."""
    set_cpu_threads(None)
    keep_freed_memory()  # as recipes/generate.py does
    inference_copy = InferenceCopy(load(name))
    inference_copy.rows = rows or inference_copy.rows
    labels = torch.arange(256) % 10
    return lambda: len(sample(inference_copy, labels))


def speeds(arms: dict[str, Process], args: Arguments) -> dict[str, list[float]]:
    """Images per second of each arm in each round."""
    calls, images = {}, {}
    for name, arm in arms.items():
        images[name] = arm(2)
        started = time.perf_counter()
        arm(2)
        calls[name] = max(1, round(args.seconds / (time.perf_counter() - started) * 2))
    timed = in_turns({name: partial(arm, calls[name]) for name, arm in arms.items()}, args.rounds)
    for arm in arms.values():
        arm.close()
    return {name: [calls[name] * images[name] / seconds for seconds in timed[name]] for name in arms}


def growth(name: str, args: Arguments) -> list[dict[str, float]]:
    """Images per second and memory for ever larger requests, drawn chunk by chunk as for a file."""
    inference_copy = InferenceCopy(load(name))
    found = []
    for count in args.counts:

        def draw(count: int = count) -> None:
            for start in range(0, count, 512):
                some = range(start, min(start + 512, count))
                sample(inference_copy, torch.tensor(some) % 10, indices=some)

        started = time.perf_counter()
        grown = peak_memory(draw)
        rate = count / (time.perf_counter() - started)
        print(f"  {count:8d} images: {rate:8.1f} images/s, memory grew by {grown:.0f} MB at the most")
        found.append({"count": count, "images_per_second": rate, "grown_mb": grown})
    return found


def measure(name: str, args: Arguments) -> dict[str, Any]:
    """Everything about one generator."""
    shortcuts = InferenceCopy(load(name)).shortcuts
    arms = {
        "one at a time": Process(plain_arm, name, 1),
        "batches of 64": Process(plain_arm, name, 64),
        "ganaug": Process(our_arm, name),
    }
    found: dict[str, Any] = report(f"{name}: {shortcuts}", speeds(arms, args), unit="images/s")
    found["rows"] = speeds({str(rows): Process(our_arm, name, rows) for rows in ROWS}, args)
    for rows, rates in found["rows"].items():
        print(f"  {rows:>2s} images in a pass {statistics.median(rates):22.1f} images/s")
    return {**found, "growth": growth(name, args)}


def main(args: Arguments) -> None:
    """Measure the generators one after another."""
    set_cpu_threads(None)
    keep_freed_memory()
    machine = hardware(best_device())
    print(machine)
    found: dict[str, Any] = {"machine": machine}
    for name in args.generators:
        found[name] = measure(name, args)
        if args.output:
            write_json(args.output, found)


if __name__ == "__main__":
    run(Arguments, main, __doc__)
