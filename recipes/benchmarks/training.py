"""Images per second of the training loop, for classic models and flows, against the same networks in plain PyTorch.

The plain loop is in baselines.py, and so is public-acgan-32. The two arms take turns, each with all cores and in a
process of its own. Each model is timed with the batch size of its recipe, on the bundled digits at its resolution. The
ceiling that is printed is what one large convolution reaches. By default a model is timed for about 50 seconds and all
nine for eight minutes, on two cores as on more; starting the processes comes on top.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from accelerate.utils import set_seed
from baselines import PublicACGANGenerator, plain_flow_step, plain_form, plain_step
from timing import Process, hardware, in_turns, report
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from ganaug import Generator, LabelledImages, open_images
from ganaug.cli.flags import run
from ganaug.core.files import write_json
from ganaug.core.hardware import best_device
from ganaug.generators import FlowGenerator
from ganaug.training import CLASSIC_MODELS, MODELS, TrainingSettings, make_trainer, start_accelerator
from ganaug.training.models import Model

BENCHMARKED = {
    "public-acgan-32": Model(
        PublicACGANGenerator,
        CLASSIC_MODELS["acgan-28"].objective,
        TrainingSettings(train_batch_size=64),
        resolution=32,
    ),
    **CLASSIC_MODELS,
    "flow": MODELS["flow"],
    "flow-wide": MODELS["flow-wide"],
}


@dataclass(frozen=True)
class Arguments:
    """Flags of this benchmark.

    Args:
        models: Which models.
        rounds: How often each arm is timed.
        seconds: How long an arm is timed in each round, about.
        batch_size: Images per step; by default the model's own.
        mixed_precision: Of our arm; auto takes bf16 where the processor has it.
        compile: Compile our arm with torch.compile.
        output: Write the numbers to this JSON file too.
    """

    models: tuple[str, ...] = tuple(BENCHMARKED)
    rounds: int = 7
    seconds: float = 3.0
    batch_size: int | None = None
    mixed_precision: str = "auto"
    compile: bool = False
    output: Path | None = None

    def settings(self, name: str) -> TrainingSettings:
        """The model's, with what the flags change."""
        settings = replace(BENCHMARKED[name].settings, mixed_precision=self.mixed_precision, compile=self.compile)
        return replace(settings, train_batch_size=self.batch_size) if self.batch_size else settings


def new_generator(name: str) -> tuple[Generator, LabelledImages]:
    """A generator of a model, and images for it."""
    model = BENCHMARKED[name]
    set_seed(0)
    data = open_images(resolution=model.resolution)
    return model.make_generator(data), data


def plain_arm(name: str, args: Arguments) -> Callable[[], None]:
    """A function that takes a step of the plain loop."""
    generator, data = new_generator(name)
    settings, device = args.settings(name), best_device()
    if isinstance(generator, FlowGenerator):
        return plain_flow_step(plain_form(generator), data, settings, device)
    pair = plain_form(generator), plain_form(generator.make_discriminator())
    return plain_step(*pair, BENCHMARKED[name].objective, data, settings, device)


def our_arm(name: str, args: Arguments) -> Callable[[], int]:
    """A function that takes a step of ours, and returns how many floating-point operations a step has."""
    settings = args.settings(name)
    accelerator = start_accelerator(settings)
    generator, data = new_generator(name)
    trainer = make_trainer(generator, BENCHMARKED[name].objective, data, settings, accelerator)
    numbers = iter(range(10**9))
    shares, trainer.shares = trainer.shares, 1  # in other threads, nobody counts
    with FlopCounterMode(display=False) as counter:
        trainer.step(next(numbers))
    operations, trainer.shares = counter.get_total_flops(), shares
    return lambda: (trainer.step(next(numbers)), operations)[1]


def ceiling(accelerator: Accelerator) -> float:
    """GFLOP/s of a convolution of 64 x 128 x 16 x 16 with 128 3x3 filters, forward, in the training's precision."""
    kind = {"device": accelerator.device, "dtype": torch.bfloat16 if accelerator.mixed_precision == "bf16" else None}
    images = torch.randn(64, 128, 16, 16, **kind).to(memory_format=torch.channels_last)
    layer = nn.Conv2d(128, 128, 3, padding=1, **kind).to(memory_format=torch.channels_last).requires_grad_(False)
    seconds = min(in_turns({"": lambda: [layer(images) for _ in range(20)]}, 5)[""]) / 20
    return 2 * 128 * 128 * 9 * images[:, 0].numel() / seconds / 1e9


def measure(name: str, args: Arguments, precision: str, top: float) -> dict[str, Any]:
    """Time both arms of a model in turns, and print images per second and their ratio."""
    settings = args.settings(name)
    arms = {
        "plain fp32 NCHW": Process(plain_arm, name, args),
        f"ganaug, precision {precision}": Process(our_arm, name, args),
    }
    # As many steps in a round as take about the time asked for.
    steps, first_step = {}, {}
    for arm, process in arms.items():
        first_step[arm] = seconds(process)
        process(3)
        steps[arm] = max(2, round(args.seconds / seconds(partial(process, 2)) * 2))
    timed = in_turns({arm: partial(process, steps[arm]) for arm, process in arms.items()}, args.rounds)
    operations = [process() for process in arms.values()][1]
    for process in arms.values():
        process.close()

    # Images per second; of half batches only the real half counts.
    images = settings.train_batch_size // (2 if settings.half_batches else 1)
    rates = {arm: [images * steps[arm] / taken for taken in timed[arm]] for arm in arms}
    found: dict[str, Any] = report(f"{name}, batch {settings.train_batch_size}", rates, unit="images/s")
    reached = operations * statistics.median(list(rates.values())[1]) / images / 1e9
    print(f"  {operations / 1e9:.1f} GFLOP per step, {reached:.0f} GFLOP/s, {reached / top:.0%} of the ceiling")
    if args.compile:
        print(f"  our first step, which compiles, took {list(first_step.values())[1]:.0f} s")
    return {**found, "gflop_per_step": operations / 1e9, "share_of_ceiling": reached / top}


def seconds(action: Callable[[], Any]) -> float:
    """How long something takes once."""
    started = time.perf_counter()
    action()
    return time.perf_counter() - started


def main(args: Arguments) -> None:
    """Measure the models one after another."""
    accelerator = start_accelerator(TrainingSettings(mixed_precision=args.mixed_precision))
    top, precision = ceiling(accelerator), accelerator.mixed_precision
    machine = hardware(accelerator.device)
    print(f"{machine}; a convolution reaches {top:.0f} GFLOP/s in precision {precision}")
    found: dict[str, Any] = {"machine": machine, "ceiling_gflops": top}
    for name in args.models:
        found[name] = measure(name, args, precision, top)
        if args.output:
            write_json(args.output, found)


if __name__ == "__main__":
    run(Arguments, main, __doc__)
