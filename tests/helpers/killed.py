"""Training that is started again and again in processes that end at any moment; importable by them."""

from __future__ import annotations

import os
import resource
import shutil
import signal
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from ganaug import Generator, open_images
from ganaug.evaluation import generator_score
from ganaug.generators import FlowGenerator
from ganaug.training import (
    MODELS,
    AdaptingTrainer,
    Checkpoints,
    FlowTrainer,
    RunFolder,
    StoppedError,
    Trainer,
    check_same_run,
    make_trainer,
    selection,
    start_accelerator,
    train,
)

BATCH = 8
ADAPTED = "adapted"  # a flow of other classes, which stands in the place of a model
DIGITS = open_images("sklearn:digits").take([6] * 10)[0]
HELD_OUT = open_images("sklearn:digits", split="test").take([3] * 10)[0]


def new_trainer(
    system: str,
    precision: str,
    steps: int,
    *,
    adapt: Callable[[Generator], Generator] = lambda it: it,
    **settings: Any,
) -> Trainer:
    """A trainer with a checkpoint after every second step; ``adapt`` may change the generator that it is given."""
    chosen = MODELS["flow" if system == ADAPTED else system]
    images_per_step = BATCH * chosen.settings.discriminator_steps
    options = {"width": 16} if issubclass(chosen.generator, FlowGenerator) else {}
    settings = {
        "train_batch_size": BATCH,
        "total_kimg": steps * images_per_step / 1000,
        "checkpointing_kimg": 2 * images_per_step / 1000,
        "log_kimg": 3 * images_per_step / 1000,
        "lr_decay": 0.5,
        "mixed_precision": precision,
        "cpu_threads": 1,
        **settings,
    }
    settings = replace(chosen.settings, **settings)
    accelerator = start_accelerator(settings)
    torch.manual_seed(0)
    if system == ADAPTED:
        source = FlowGenerator(("ant", "bee", "cat"), image_size=DIGITS.image_size, channels=1, **options)
        return AdaptingTrainer(source, DIGITS, settings, accelerator)
    generator = adapt(chosen.make_generator(DIGITS, **options))
    return make_trainer(generator, chosen.objective, DIGITS, settings, accelerator)


def go_on(folder: str, system: str, precision: str = "no", steps: int = 12, *, scoring: int = 2) -> None:
    """Train to the end, from the newest checkpoint if there is one; exits as a recipe does.

    Every fourth step gives a candidate, whose score takes a classifier of ``scoring`` steps; the file ``scoring`` in
    the folder says that one is made.
    """
    for name, value in (("STEPS", scoring), ("REFERENCE_STEPS", 2), ("IMAGES", 40)):
        setattr(generator_score, name, value)

    class Score(generator_score.GeneratorScore):
        def __call__(self, generator: Generator) -> dict[str, float]:
            (Path(folder) / "scoring").touch()
            return super().__call__(generator)

    selection.GeneratorScore = Score  # type: ignore[misc]
    trainer = new_trainer(system, precision, steps, evaluation_kimg=4 * BATCH / 1000)
    found = Checkpoints(Path(folder) / "training" / "checkpoints").newest()
    if found:
        check_same_run(found, trainer)
    run = (
        RunFolder(folder, after_kimg=found.facts["kimg"] if found else 0)
        if trainer.accelerator.is_main_process
        else None
    )
    try:
        train(trainer, run, resume=found, held_out=HELD_OUT)
    except StoppedError as stopped:
        os._exit(stopped.exit_code)


def go_on_by_clock(offset: float, do: Callable[..., None], *args: Any) -> None:
    """Call a function on a machine whose clock is wrong by so many seconds."""
    right = time.time
    time.time = lambda: right() + offset  # type: ignore[assignment]
    do(*args)


def go_on_and_die(part: float, folder: str, *args: Any) -> None:
    """As :func:`go_on`, but die as by SIGKILL, in a checkpoint or on the way to another.

    That is, counted from the second checkpoint's beginning, after ``part`` checkpoints; a fraction of one is that of
    the time that the last one took with the steps before it. A negative one is counted in hundredths of a second from
    the first one's beginning, so that there may be none.
    """
    save, begun = Checkpoints.save, list[float]()

    def counted(*args: Any) -> Path:
        begun.append(time.monotonic())
        if len(begun) == 1 and part < 0:
            signal.setitimer(signal.ITIMER_REAL, -part / 100)
        if len(begun) == 2 + int(part):  # not by time alone: the first candidate takes longer than those after it
            signal.setitimer(signal.ITIMER_REAL, max(1e-6, (part - int(part)) * (begun[-1] - begun[-2])))
        return save(*args)

    signal.signal(signal.SIGALRM, signal.SIG_DFL)  # it ends a process at once
    Checkpoints.save = counted  # type: ignore[method-assign]
    go_on(folder, *args)


def go_on_and_stop(number: int, folder: str, *args: Any) -> None:
    """As :func:`go_on`, but with a signal in the first checkpoint, however busy the one who would send it is."""
    save = Checkpoints.save

    def signalled(*args: Any) -> Path:
        Checkpoints.save = save  # type: ignore[method-assign]
        os.kill(os.getpid(), number)
        return save(*args)

    Checkpoints.save = signalled  # type: ignore[method-assign]
    go_on(folder, *args)


def go_on_and_stop_preparing(number: int, folder: str, *args: Any) -> None:
    """As :func:`go_on`, but with a signal amid what a step needs first, which then takes very long."""
    prepare = FlowTrainer.prepare

    def endless(trainer: FlowTrainer, step: int) -> Iterator[float]:
        for share in prepare(trainer, step):
            os.kill(os.getpid(), number)
            yield share
            time.sleep(1000)

    FlowTrainer.prepare = endless  # type: ignore[method-assign]
    go_on(folder, *args)


def go_on_without_room(folder: str, system: str) -> None:
    """As :func:`go_on`, on a disk that takes no file as large as weights are."""
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, 200_000))
    go_on(folder, system)


def die_in_call(number: int, folder: str) -> None:
    """Save a second checkpoint and remove the first, but be killed when something on disk changes for that time."""
    left = number

    def dying(function: Callable[..., Any]) -> Callable[..., Any]:
        def call(*args: Any, **kwargs: Any) -> Any:
            nonlocal left
            if left == 0:
                os.kill(os.getpid(), signal.SIGKILL)
            left -= 1
            return function(*args, **kwargs)

        return call

    for module, name in ((os, "fsync"), (os, "unlink"), (os, "rmdir"), (os, "mkdir")):
        setattr(module, name, dying(getattr(module, name)))
    for name in ("replace", "rename", "mkdir"):
        setattr(Path, name, dying(getattr(Path, name)))
    shutil.rmtree = dying(shutil.rmtree)  # type: ignore[assignment]
    Checkpoints(folder, limit=1).save(2, {"some": {"weight": torch.full((100,), 2.0)}}, {"number": 2})


if __name__ == "__main__":  # of several processes
    go_on(*sys.argv[1:])
