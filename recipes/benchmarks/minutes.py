"""Minutes that training the default presets takes, by the size and number of the images.

For each size the networks of the presets are timed for a few seconds of steps, in turns, each in a process of its own.
Their speed does not depend on how many images there are, so the minutes are the preset's length over the images per
second. Opening the images, grids and checkpoints come on top. By default the rounds take about three minutes, on two
cores as on more, while no step takes longer than 5 seconds; starting the processes comes on top. Sizes that were
timed on this kind of device are not timed again, so that a command that was stopped goes on; the results of CPUs with
bf16 instructions, of those without and of a GPU go into one file.

    python recipes/benchmarks/minutes.py
    python recipes/benchmarks/minutes.py --table outputs/minutes/minutes.json
"""

from __future__ import annotations

import math
import statistics
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import torch
from accelerate.utils import set_seed
from common import Results, fill_and_show, require_known
from timing import Process, hardware, in_turns

from ganaug import LabelledImages, open_images
from ganaug.cli.flags import run
from ganaug.training import MODELS, TrainingSettings, make_trainer, start_accelerator
from ganaug.training.presets import QUICK, Preset, choose_preset

SIZES = (28, 32, 64, 128)
NUMBERS = (200, 2_000, 20_000)
DEVICES = {"cpu": "CPU with bf16", "cpu fp32": "CPU without bf16", "cuda": "GPU"}


@dataclass(frozen=True)
class Arguments:
    """Flags of this benchmark.

    Args:
        sizes: Sides of the images in pixels, of 28, 32, 64 and 128.
        rounds: How often each network is timed, after a first time that is not counted.
        seconds: How long a network is timed in each round, about; one step at the least.
        output_dir: Folder for minutes.json, to which results are added.
        table: Time nothing: print the table of this minutes.json.
    """

    sizes: tuple[int, ...] = SIZES
    rounds: int = 3
    seconds: float = 5.0
    output_dir: Path = Path("outputs/minutes")
    table: Path | None = None


def random_images(number: int, size: int) -> LabelledImages:
    """RGB images of ten classes; neither the speed of a step nor the choice of a preset depends on what they show."""
    pixels = torch.randint(256, (number, 3, size, size), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    return open_images((pixels, [k % 10 for k in range(number)]))


def presets() -> list[tuple[str, Preset]]:
    """The default preset for each number of images, with the title of its column; the last is for a short time."""
    many = NUMBERS[-1]
    found = [(f"{number:,} images", choose_preset(random_images(number, 8))) for number in NUMBERS]
    return [*found, (f"{many:,}, if time is short", choose_preset(random_images(many, 8), model=QUICK))]


def steps_of(model: str, images: LabelledImages) -> Callable[[], None]:
    """A function that takes a training step of the model, as the default settings have it."""
    set_seed(0)
    settings = MODELS[model].settings
    trainer = make_trainer(
        MODELS[model].make_generator(images), MODELS[model].objective, images, settings, start_accelerator(settings)
    )
    numbers = iter(range(10**9))

    def step() -> None:
        trainer.step(next(numbers))

    return step


def images_per_second(size: int, models: list[str], args: Arguments) -> dict[str, list[float]]:
    """Of each model, in each round."""
    arms = {model: Process(steps_of, model, random_images(256, size)) for model in models}
    steps = {}
    for model, process in arms.items():
        process(2)  # which are slower
        started = time.perf_counter()
        process()
        steps[model] = max(1, round(args.seconds / (time.perf_counter() - started)))
    timed = in_turns({model: partial(process, steps[model]) for model, process in arms.items()}, args.rounds)
    for process in arms.values():
        process.close()
    return {
        model: [MODELS[model].settings.train_batch_size * steps[model] / seconds for seconds in timed[model]]
        for model in models
    }


def measure(args: Arguments, results: Results) -> Iterator[None]:
    """Time the sizes that were not timed on this kind of device."""
    require_known(map(str, args.sizes), map(str, SIZES), "sizes")
    accelerator = start_accelerator(TrainingSettings())
    models = list(dict.fromkeys(preset.model for _, preset in presets()))
    machine = f"{hardware(accelerator.device)}, precision {accelerator.mixed_precision}"
    slow = accelerator.device.type == "cpu" and accelerator.mixed_precision == "no"
    own = results.setdefault(
        "cpu fp32" if slow else accelerator.device.type, {"machine": machine, "images_per_second": {}}
    )
    for size in args.sizes:
        if str(size) not in own["images_per_second"]:
            own["images_per_second"][str(size)] = images_per_second(size, models, args)
            yield


def table(results: Results) -> str:
    """Markdown of each device: a table of minutes, so narrow that it fits on a phone, and what it was measured on."""
    parts = []
    for device, name in DEVICES.items():
        rates = results.get(device, {}).get("images_per_second", {})
        if not rates:
            parts.append(f"On a {name}: not measured.")
            continue
        sizes = [size for size in SIZES if str(size) in rates]
        lines = [f"| on a {name} | {' | '.join(map(str, sizes))} |", "|---|" + "---|" * len(sizes)]
        for what, preset in presets():
            cells = [minutes(preset, statistics.median(rates[str(size)][preset.model])) for size in sizes]
            how = f"{what}: `{preset.model}`, {preset.settings.total_kimg:g} kimg"
            lines.append(f"| {how} | {' | '.join(cells)} |")
        rounds = [(rate, own) for by_model in rates.values() for own in by_model.values() for rate in own]
        apart = max(abs(statistics.median(own) / rate - 1) for rate, own in rounds)
        machine = f"Machine: {results[device]['machine']}"
        parts.append(
            "\n".join([*lines, "", f"{machine}; each round within {math.ceil(100 * apart)} % of the median."])
        )
    return "\n\n".join(parts)


def minutes(preset: Preset, rate: float) -> str:
    """Minutes of a preset at so many images per second."""
    value = 1000 * preset.settings.total_kimg / rate / 60
    return f"{value:.1f}" if value < 10 else f"{value:,.0f}"


def main(args: Arguments) -> None:
    """Measure, and print the table of all results so far."""
    fill_and_show("minutes", args, measure, table)


if __name__ == "__main__":
    run(Arguments, main, __doc__)
