"""How good images are for the core-minutes that their generator was trained for: ours, and those of other packages.

Each is trained by one thread for the same time on the same images, in a process of its own (peer_models.py says where
each comes from). Ours must know beforehand how long they are trained, so they miss the time a little, and the table
has what it was. Then classifiers are trained on equally many images of each alone and asked about held-out real ones
(Ravuri and Vinyals 2019), and compared with classifiers trained on as many real images. The other packages come with
the extra `benchmarks`.

The trainings take two hours at the defaults, on two cores as on more, for they run one by one; drawing, mostly by the
other packages, and the classifiers come on top. What is finished is kept, so that a command that was stopped goes on.

    python recipes/benchmarks/peers.py --train_data_dir /usr/share/datasets/fashion-mnist --horizontal_flip
    python recipes/benchmarks/peers.py --table outputs/peers/peers.json
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
from accelerate.utils import set_seed
from common import Results, fill_and_show, machine, plot_accuracy, require_known, spread
from peer_models import ARMS
from timing import Process
from torch import Tensor

from ganaug import InputError
from ganaug.cli.flags import run
from ganaug.cli.images import DataArguments
from ganaug.core.hardware import best_device, keep_freed_memory, set_cpu_threads
from ganaug.data import LabelledImages
from ganaug.evaluation import UtilitySettings, classification_accuracy
from ganaug.evaluation.cells import Answers
from ganaug.evaluation.leakage import without_overlap

PACKAGES = ("torchcfm", "diffusers")  # that have the arms of these names


@dataclass(frozen=True)
class Arguments:
    """Flags of this benchmark.

    Args:
        settings: How the classifiers are trained; of them, only seeds, steps, batch_size and horizontal_flip are used.
        arms: What is trained.
        minutes: Budgets, in minutes of one core; each is a training of its own.
        images: How many images the classifiers are trained on: as many of each class, so perhaps a few less.
        output_dir: Folder for peers.json, to which results are added.
        processes: Classifiers trained at a time, each by one thread; by default one for each core.
        table: Train nothing: print the table of this peers.json.
    """

    data: DataArguments = field(default_factory=DataArguments)
    settings: UtilitySettings = field(default_factory=lambda: UtilitySettings(steps=2000, seeds=4))
    arms: tuple[str, ...] = tuple(ARMS)
    minutes: tuple[float, ...] = (2, 5, 15)
    images: int = 2000
    output_dir: Path = Path("outputs/peers")
    processes: int | None = None
    table: Path | None = None


def training(arm: str, minutes: float, data: LabelledImages, labels: Tensor) -> Callable[[], tuple[Results, Tensor]]:
    """A function that trains an arm and draws images of the labels; what it took, and the images."""
    set_cpu_threads(1)
    keep_freed_memory()  # as our training does
    set_seed(0)

    def train_and_draw() -> tuple[Results, Tensor]:
        trained = ARMS[arm](data, 60 * minutes)
        started = time.process_time()
        images = trained.draw(labels)
        seconds = time.process_time() - started
        facts = {"shown": trained.shown, "seconds": trained.seconds, "drawing_seconds": seconds}
        return facts, images

    return train_and_draw


def train_one(arm: str, minutes: float, data: LabelledImages, labels: Tensor) -> tuple[Results, Tensor]:
    """Train an arm and draw images of the labels, in a process of its own; what it took, and the images."""
    process = Process(training, arm, minutes, data, labels)
    found: tuple[Results, Tensor] = process()
    process.close()
    return found


def check(args: Arguments) -> None:
    """Refuse, before minutes are spent on it, what would fail or compare unlike with like.

    Raises:
        InputError: an arm is unknown or its package is missing, or there is a GPU.
    """
    require_known(args.arms, ARMS, "arms")
    if missing := [name for name in PACKAGES if name in args.arms and find_spec(name) is None]:
        raise InputError(
            f"{' and '.join(missing)} cannot be imported. pip install {' '.join(missing)}, or leave "
            f"{'it' if len(missing) == 1 else 'them'} out of --arms"
        )
    if best_device().type != "cpu":
        raise InputError(
            f"minutes of a core are compared, and there is {best_device()}. Hide it: CUDA_VISIBLE_DEVICES="
        )


def measure(args: Arguments, results: Results) -> Iterator[None]:
    """Train and judge what is not there yet."""
    check(args)
    train = args.data.open()
    held_out = args.data.open_split("test", like=train)
    held_out = without_overlap(held_out, [(train, ())])[0]  # published splits share a few images
    each = args.images // len(train.classes)
    labels = torch.arange(each * len(train.classes)) % len(train.classes)
    if (before := results.setdefault("images", len(labels))) != len(labels):
        raise InputError(f"the results so far are of {before} images, not of {len(labels)}. Give --images {before}")
    results |= {"data": f"{train}", "machine": machine()}
    processes = args.processes or set_cpu_threads(None)
    judge = partial(classification_accuracy, held_out=held_out, settings=args.settings, processes=processes)

    def shares(answers: Answers) -> list[float]:
        return answers.correct.double().mean(1).tolist()

    if "real" not in results:
        results["real"] = shares(judge(train.take([each] * len(train.classes))[0]))
        yield
    runs = results.setdefault("runs", {})
    for minutes in args.minutes:
        for arm in args.arms:
            if (name := f"{arm}, {minutes:g} minutes") not in runs:
                facts, images = train_one(arm, minutes, train, labels)
                drawn = LabelledImages(images, labels, train.classes, f"images of {name}")
                runs[name] = {"arm": arm, "minutes": minutes, **facts, "scores": shares(judge(drawn))}
                yield


def table(results: Results) -> str:
    """Markdown table of results, the budgets in their order."""
    lines = [
        "| trained on | core-minutes of training | images shown [per core-second] | drawn per core-second "
        "| accuracy, mean ± standard deviation |",
        "|---|---|---|---|---|",
        f"| {results['images']:,} real images | | | | {spread(results['real'])} |",
    ]

    def order(run: dict[str, Any]) -> tuple[float, int]:
        return run["minutes"], list(ARMS).index(run["arm"])

    for run_ in sorted(results["runs"].values(), key=order):
        shown, seconds = run_["shown"], run_["seconds"]
        lines.append(
            f"| `{run_['arm']}` | {seconds / 60:.1f} | {shown:,} [{shown / seconds:,.0f}] "
            f"| {results['images'] / run_['drawing_seconds']:,.3g} | {spread(run_['scores'])} |"
        )
    return "\n".join([*lines, "", f"Machine: {results['machine']}"])


def plot(results: Results, path: Path) -> None:
    """Accuracy against core-minutes, a line for each arm."""
    lines: dict[str, list[tuple[float, list[float]]]] = {}
    for one in results.get("runs", {}).values():
        lines.setdefault(one["arm"], []).append((one["seconds"] / 60, one["scores"]))
    plot_accuracy(path, lines, results["real"], "core-minutes of training")


def main(args: Arguments) -> None:
    """Measure, and print the table of all results so far."""
    fill_and_show("peers", args, measure, table, plot)


if __name__ == "__main__":
    run(Arguments, main, __doc__)
