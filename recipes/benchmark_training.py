"""Images per second of the training loop, for every system, against the same networks in plain PyTorch.

The baseline is in plain_training.py. The arms take turns in one run, so that a busy machine slows both, each with all
cores and in a process of its own. Each system is timed with the batch size of its recipe, on the bundled digits at its
resolution; public-acgan-32 is in public_acgan.py. The ceiling is what one large convolution reaches.
"""

from __future__ import annotations

import platform
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
from plain_training import plain_form, plain_step
from public_acgan import PublicACGANGenerator
from timing import Process, in_turns, report
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from ganaug import Generator, LabelledImages, open_images
from ganaug.cli.flags import run
from ganaug.core.files import write_json
from ganaug.core.hardware import best_device
from ganaug.training import CLASSIC_MODELS, GANTrainer, TrainingSettings, start_accelerator
from ganaug.training.models import Model

BENCHMARKED = {
    "public-acgan-32": Model(
        PublicACGANGenerator,
        CLASSIC_MODELS["acgan-28"].objective,
        TrainingSettings(train_batch_size=64),
        resolution=32,
    ),
    **CLASSIC_MODELS,
}


@dataclass(frozen=True)
class Arguments:
    """Flags of this benchmark.

    Args:
        models: Which systems.
        rounds: How often each arm is timed.
        seconds: How long an arm is timed in each round, about.
        batch_size: Images per step; by default the system's own.
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

    def settings(self, model: str) -> TrainingSettings:
        """Those of the system, with what the flags change."""
        settings = replace(BENCHMARKED[model].settings, mixed_precision=self.mixed_precision, compile=self.compile)
        return replace(settings, train_batch_size=self.batch_size) if self.batch_size else settings


def networks(model: str) -> tuple[Generator, nn.Module, LabelledImages]:
    """Generator, discriminator and images of a system."""
    system = BENCHMARKED[model]
    set_seed(0)
    data = open_images(resolution=system.resolution)
    generator = system.make_generator(data)
    return generator, generator.make_discriminator(), data


def plain_arm(model: str, args: Arguments) -> Callable[[], None]:
    """A step of the baseline, as a function."""
    generator, discriminator, data = networks(model)
    pair = plain_form(generator), plain_form(discriminator)
    return plain_step(*pair, BENCHMARKED[model].objective, data, args.settings(model), best_device())


def our_arm(model: str, args: Arguments) -> Callable[[], int]:
    """A step of ours, as a function that returns how many floating point operations it took."""
    settings = args.settings(model)
    accelerator = start_accelerator(settings)
    generator, discriminator, data = networks(model)
    trainer = GANTrainer(generator, discriminator, BENCHMARKED[model].objective, data, settings, accelerator)
    numbers = iter(range(10**9))
    with FlopCounterMode(display=False) as counter:
        trainer.step(next(numbers))
    operations = counter.get_total_flops()
    return lambda: (trainer.step(next(numbers)), operations)[1]


def ceiling(accelerator: Accelerator) -> float:
    """GFLOP/s of a convolution of 64 x 128 x 16 x 16 with 128 3x3 filters, forward, in the training's precision."""
    kind = {"device": accelerator.device, "dtype": torch.bfloat16 if accelerator.mixed_precision == "bf16" else None}
    images = torch.randn(64, 128, 16, 16, **kind).to(memory_format=torch.channels_last)
    layer = nn.Conv2d(128, 128, 3, padding=1, **kind).to(memory_format=torch.channels_last).requires_grad_(False)
    seconds = min(in_turns({"": lambda: [layer(images) for _ in range(20)]}, 5)[""]) / 20
    return 2 * 128 * 128 * 9 * images[:, 0].numel() / seconds / 1e9


def measure(model: str, args: Arguments, precision: str, top: float) -> dict[str, Any]:
    """Time both arms of a system in turn, and print images per second and their ratio."""
    settings = args.settings(model)
    arms = {
        "plain fp32 NCHW": Process(plain_arm, model, args),
        f"ganaug, precision {precision}": Process(our_arm, model, args),
    }
    steps, first_step = {}, {}
    for name, arm in arms.items():
        first_step[name] = seconds(arm)
        arm(3)
        steps[name] = max(2, round(args.seconds / seconds(lambda arm=arm: arm(2)) * 2))  # type: ignore[misc]
    timed = in_turns({name: partial(arm, steps[name]) for name, arm in arms.items()}, args.rounds)
    operations = [arm() for arm in arms.values()][1]
    for arm in arms.values():
        arm.close()

    images = settings.train_batch_size // (2 if settings.half_batches else 1)
    rates = {name: [images * steps[name] / taken for taken in timed[name]] for name in arms}
    found: dict[str, Any] = report(f"{model}, batch {settings.train_batch_size}", rates, unit="images/s")
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
    """Measure the systems one after another."""
    accelerator = start_accelerator(TrainingSettings(mixed_precision=args.mixed_precision))
    top, precision = ceiling(accelerator), accelerator.mixed_precision
    machine = (
        f"{accelerator.device}, {torch.get_num_threads()} threads, torch {torch.__version__}, {platform.machine()}"
    )
    print(f"{machine}; a convolution reaches {top:.0f} GFLOP/s in precision {precision}")
    found: dict[str, Any] = {"machine": machine, "ceiling_gflops": top}
    for model in args.models:
        found[model] = measure(model, args, precision, top)
        if args.output:
            write_json(args.output, found)


if __name__ == "__main__":
    run(Arguments, main, __doc__)
