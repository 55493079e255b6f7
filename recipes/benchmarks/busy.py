"""How much of its speed ganaug keeps beside other programs that compute: on a laptop, a shared server, in CI.

Each kind of work is timed alone, and then beside programs that keep a core busy each. A flow is trained as it is by
default, a share of the batch in each thread; and, as the baselines, by torch's threads, which divide each layer among
them, and by one thread. Images are drawn, and classifiers trained as an evaluation does, one process for each core.
It takes about seven minutes on two cores, and nothing else should run meanwhile.

    python recipes/benchmarks/busy.py
"""

from __future__ import annotations

import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import torch
from accelerate.utils import set_seed
from common import Results, fill_and_show, machine
from timing import Process, in_turns

from ganaug import open_images, sample
from ganaug.cli.flags import run
from ganaug.core.hardware import best_device, set_cpu_threads, usable_cores
from ganaug.evaluation import ShiftFlip, TrivialAugment, train_classifier
from ganaug.sampling.inference import InferenceCopy
from ganaug.training import MODELS, make_trainer, start_accelerator

DRAWN = 256  # images at a time
TRAINED = 20  # steps of a classifier at a time, of 64 images
Work = Callable[[], int]  # does some, and returns how many images that was


@dataclass(frozen=True)
class Arguments:
    """Flags of this benchmark.

    Args:
        busy: Programs that compute beside it.
        rounds: How often each kind of work is timed.
        seconds: How long it is timed in each round, about.
        output_dir: Folder for busy.json, to which results are added.
        table: Measure nothing: print the table of this busy.json.
    """

    busy: tuple[int, ...] = (0, 1, 5)
    rounds: int = 3
    seconds: float = 8.0
    output_dir: Path = Path("outputs/busy")
    table: Path | None = None


def training(threads: int | None, shares: int | None) -> Work:
    """A step of the default flow on the bundled digits, by so many threads and in so many shares."""
    images, model = open_images(), MODELS["flow"]
    settings = replace(model.settings, cpu_threads=threads)
    accelerator = start_accelerator(settings)
    set_seed(0)
    trainer = make_trainer(model.make_generator(images), model.objective, images, settings, accelerator)
    trainer.shares = shares or trainer.shares
    numbers = iter(range(10**9))

    def step() -> int:
        trainer.step(next(numbers))
        return trainer.images_per_step

    return step


def drawing() -> Work:
    """Drawing by an untrained flow."""
    set_cpu_threads(None)
    set_seed(0)
    inference_copy = InferenceCopy(MODELS["flow"].make_generator(open_images()).eval())
    labels = torch.arange(DRAWN) % 10
    return lambda: len(sample(inference_copy, labels))


def classifier() -> Work:
    """Steps of a classifier that is trained with TrivialAugment by one thread."""
    torch.set_num_threads(1)
    images = open_images()
    augment = TrivialAugment(ShiftFlip.like(images, flip=False))

    def train() -> int:
        train_classifier(images, steps=TRAINED, batch_size=64, augment=augment)
        return 64 * TRAINED

    return train


ARMS: dict[str, tuple[Callable[..., Work], tuple[int | None, ...]]] = {
    "training, torch's threads (baseline)": (training, (None, 1)),
    "training, one thread (baseline)": (training, (1, None)),
    "training": (training, (None, None)),
    "drawing": (drawing, ()),
    "evaluation": (classifier, ()),
}


@contextmanager
def beside(programs: int) -> Iterator[None]:
    """So many programs that do nothing but compute, for a while."""
    with ExitStack() as stack:
        for _ in range(programs):
            program = stack.enter_context(subprocess.Popen([sys.executable, "-c", "while True: pass"]))
            stack.callback(program.kill)
        yield


def rates(args: Arguments, programs: int) -> dict[str, list[float]]:
    """Images per second of each kind of work in each round."""
    found = {}
    for name, (make, arguments) in ARMS.items():
        # An evaluation has a process for each core, and each takes the next classifier when it is free.
        workers = [Process(make, *arguments) for _ in range(usable_cores() if make is classifier else 1)]

        def together(times: int, workers: list[Process] = workers) -> int:
            for worker in workers:
                worker.send(times)
            return sum(worker.receive() for worker in workers) * times

        together(2)
        with beside(programs):
            started = time.perf_counter()
            images = together(2)
            times = max(1, round(2 * args.seconds / (time.perf_counter() - started)))
            timed = in_turns({"": partial(together, times)}, args.rounds)[""]
        found[name] = [images / 2 * times / seconds for seconds in timed]
        for worker in workers:
            worker.close()
    return found


def measure(args: Arguments, results: Results) -> Iterator[None]:
    """Time what was not timed yet."""
    results["machine"] = f"{best_device()}, {machine()}"
    of_each = results.setdefault("images_per_second", {})
    for programs in args.busy:
        if str(programs) not in of_each:
            of_each[str(programs)] = rates(args, programs)
            yield


def table(results: Results) -> str:
    """Markdown table of results: images per second, and the share of the best that the quiet machine reaches."""
    found = results["images_per_second"]
    names = [f"beside {busy} busy program{'s' if busy != '1' else ''}" if busy != "0" else "alone" for busy in found]
    lines = [f"| images/s | {' | '.join(names)} |", "|---|" + "---|" * len(names)]
    for name in ARMS:
        medians = {busy: statistics.median(of_each[name]) for busy, of_each in found.items()}
        best = max(statistics.median(found["0"][other]) for other in ARMS if other.split(",")[0] == name.split(",")[0])
        cells = [f"{median:,.0f} [{median / best:.2f}]" for median in medians.values()]
        lines.append(f"| {name} | {' | '.join(cells)} |")
    return "\n".join([*lines, "", f"Machine: {results['machine']}"])


def main(args: Arguments) -> None:
    """Measure, and print the table of all results so far."""
    fill_and_show("busy", args, measure, table)


if __name__ == "__main__":
    run(Arguments, main, __doc__)
