"""Does this machine's GPU do all that ganaug needs, right and fast? Made to take less than ten minutes on one GPU.

    python recipes/check_device.py
    python recipes/check_device.py --checks training drawing --compile

Says of each check whether it passed, ends with an error if one did not, and writes all it found to a JSON file.
Without a GPU it runs with small images and short times, as with --small, and says what cannot be checked on a CPU.
"""

from __future__ import annotations

import math
import platform
import subprocess
import sys
import time
import traceback
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import asdict, dataclass, field, replace
from importlib.metadata import version
from itertools import count
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
import torch.nn.functional as F
from accelerate import Accelerator
from accelerate.utils import set_seed
from torch import Tensor, nn
from torch.utils.data import DataLoader
from torch.utils.flop_counter import FlopCounterMode

from ganaug import ConditionalGANAugment, Generator, InputError, LabelledImages, open_images, sample
from ganaug.cli.flags import run
from ganaug.core.files import write_json
from ganaug.core.hardware import best_device, deterministic_passes, usable_cores
from ganaug.generators import FlowGenerator, SNGANGenerator
from ganaug.sampling.inference import InferenceCopy, Shortcuts
from ganaug.training import MODELS, Checkpoints, Trainer, TrainingSettings, fit, make_trainer, start_accelerator
from ganaug.training.monitoring import RunningMeans
from ganaug.transforms import GANMix

CHECKED = ("flow", "sngan", "acgan-28")
DRAWS = "sngan"  # what images are drawn by where any generator will do
NEAR = 0.999  # share of pixels that may differ by one grey level at most
GROWTH = 1.05  # a pass of twice as many images that is not this much faster ends the search
STEPS, EVERY, BATCH = 24, 4, 16  # of the training that is killed, from one of its checkpoints to the next, in a step
TOLERANCE = 0.02  # after it is resumed on a GPU: the distance between averaged weights, relative to the way they came

Claims = dict[str, bool | None]  # what should hold, and whether it does; None where this device cannot tell
Figures = dict[str, Any]  # measured, as JSON values


@dataclass(frozen=True)
class Sizes:
    """How much is computed.

    Args:
        images: training images, see :func:`ganaug.open_images`.
        width: of the networks that have one; by default their own.
        seconds: in which a speed is measured.
        batch: of a large step, whose speed is measured beside that of the model's own.
        steps: of training, after which a generator is good enough to be drawn from.
        drawn: images that are compared.
        rows: at most, in a pass.
        matrix: side of the matrices whose product gives the peak.
    """

    images: str | None
    width: int | None
    seconds: float
    batch: int
    steps: int
    drawn: int
    rows: int
    matrix: int


LARGE = Sizes(images=None, width=None, seconds=3.0, batch=2048, steps=200, drawn=512, rows=8192, matrix=8192)
SMALL = Sizes(images="sklearn:digits", width=16, seconds=0.05, batch=64, steps=3, drawn=32, rows=32, matrix=128)


@dataclass(frozen=True)
class Arguments:
    """Flags of this check.

    Args:
        checks: Which to run.
        small: Small images and networks, and short times, as always without a GPU; the speeds then mean nothing.
        compile: Measure training with torch.compile, which takes minutes more, on large batches alone.
        output: JSON file for all that is found.
        worker: Folder that a process of the check trains in; not for you.
    """

    checks: tuple[str, ...] = ("training", "drawing", "images", "materialize", "mixing", "resume", "waiting")
    small: bool = False
    compile: bool = False
    output: Path = Path("outputs/check_device.json")
    worker: Path | None = None


@dataclass
class Bench:
    """The device, and what all checks need on it."""

    sizes: Sizes
    folder: Path  # temporary
    compile: bool = False
    accelerator: Accelerator = field(default_factory=lambda: start_accelerator(TrainingSettings()))

    def __post_init__(self) -> None:
        self.device = self.accelerator.device
        self.data: LabelledImages = open_images(self.sizes.images)

    def new_generator(self, name: str) -> Generator:
        """An untrained generator of a model."""
        model, width = MODELS[name], self.sizes.width
        has_width = width and issubclass(model.generator, FlowGenerator | SNGANGenerator)
        return model.make_generator(self.data, **({"width": width} if has_width else {}))

    def trainer(self, name: str, batch: int | None = None, *, compiled: bool = False) -> Trainer:
        """A new trainer of a model, for as long as anybody likes."""
        model = MODELS[name]
        settings = replace(model.settings, total_kimg=1e6, compile=compiled)
        settings = replace(settings, train_batch_size=batch) if batch else settings
        set_seed(0)
        return make_trainer(self.new_generator(name), model.objective, self.data, settings, self.accelerator)

    def generator(self, name: str) -> Path:
        """The folder of a generator that was trained for a little while."""
        folder = self.folder / name
        if not folder.exists():
            trainer = self.trainer(name)
            for step in range(self.sizes.steps):
                trainer.step(step)
            trainer.averaged_generator.save_pretrained(folder)
        return folder

    def synchronize(self) -> None:
        """Wait until the device has done all it was told to."""
        if self.device.type != "cpu":
            torch.accelerator.synchronize()

    def per_second(self, action: Callable[[], object]) -> float:
        """How often something is done in a second, once it was done twice; until the device has done it."""
        for _ in range(2):
            action()
        self.synchronize()
        started, done = time.perf_counter(), 0
        while time.perf_counter() - started < self.sizes.seconds:
            action()
            done += 1
        self.synchronize()
        return done / (time.perf_counter() - started)

    def never_waits(self, action: Callable[[], object]) -> bool | None:
        """Whether the CPU waits for nothing that the GPU computes while it does something; None without a GPU."""
        if self.device.type != "cuda":
            action()
            return None
        self.synchronize()
        torch.cuda.set_sync_debug_mode("error")
        try:
            action()
        except RuntimeError as error:
            if "synchroniz" not in str(error):
                raise
            traceback.print_exc()  # says where it waits
            return False
        finally:
            torch.cuda.set_sync_debug_mode("default")
        return True


def peak(bench: Bench) -> float:
    """FLOP/s of a large matrix product or convolution, whichever is faster, in the training's precision."""
    side = bench.sizes.matrix
    dtype = torch.bfloat16 if bench.accelerator.mixed_precision == "bf16" else torch.float32
    matrix = torch.randn(side, side, device=bench.device, dtype=dtype)
    of_product = 2 * side**3 * bench.per_second(lambda: matrix @ matrix)
    images = torch.randn(side // 16, 256, 32, 32, device=bench.device, dtype=dtype).to(
        memory_format=torch.channels_last
    )
    kernel = torch.randn(256, 256, 3, 3, device=bench.device, dtype=dtype).to(memory_format=torch.channels_last)
    operations = 2 * 9 * 256 * images.numel()
    return max(of_product, operations * bench.per_second(lambda: F.conv2d(images, kernel, padding=1)))


def operations(trainer: Trainer) -> int:
    """Floating-point operations of a step, which it takes."""
    shares, trainer.shares = trainer.shares, 1  # in other threads, nobody counts
    as_it_is = torch.compiler.set_stance("force_eager") if trainer.settings.compile else nullcontext()
    with as_it_is, FlopCounterMode(display=False) as counter:
        trainer.step(0)
    trainer.shares = shares
    return counter.get_total_flops()


def check_training(bench: Bench, figures: Figures) -> Claims:
    """Images per second of training, with the model's own batch and a large one, and the share of the peak."""
    on_gpu = bench.device.type == "cuda"
    figures["precision"] = bench.accelerator.mixed_precision
    figures["peak_tflops"] = (top := peak(bench)) / 1e12
    claims: Claims = {
        "in bf16": figures["precision"] == "bf16" if on_gpu else None,
        "what is left in fp32 takes TF32": torch.backends.cuda.matmul.allow_tf32 if on_gpu else None,
    }
    for name in CHECKED:
        batches = (MODELS[name].settings.train_batch_size, bench.sizes.batch)
        for batch in batches[bench.compile :]:
            trainer, steps = bench.trainer(name, batch, compiled=bench.compile), count(1)
            each, sums = operations(trainer), RunningMeans(bench.accelerator)
            rate = bench.per_second(lambda: sums.add(trainer.step(next(steps)), trainer.skipped))  # noqa: B023
            means = sums.take()
            figures[f"{name}, batch {batch}"] = {
                "images_per_second": rate * trainer.images_per_step,
                "share_of_peak": rate * each / top,
            }
        kernels = [weight for weight in trainer.bare_generator.parameters() if weight.ndim == 4]
        claims[f"{name} is channels_last"] = all(
            weight.is_contiguous(memory_format=torch.channels_last) for weight in kernels
        )
        good = all(math.isfinite(value) for value in means.values()) and "skipped_steps" not in means
        claims[f"{name} has finite losses and gradients"] = good
    return claims


def check_drawing(bench: Bench, figures: Figures) -> Claims:
    """Images per second of drawing, in passes of ever more images while that is faster."""
    claims: Claims = {}
    for name in CHECKED:
        inference_copy = InferenceCopy(Generator.from_pretrained(bench.generator(name)).to(bench.device))
        labels = torch.arange(4 * bench.sizes.rows) % len(bench.data.classes)
        own = inference_copy.rows
        expected = sample(inference_copy, labels[: bench.sizes.drawn])
        alone = sample(inference_copy, labels[3:4], indices=[3])[0]
        claims[f"{name}: an image is the same alone and among others"] = torch.equal(alone, expected[3])

        rates = {inference_copy.rows: 0.0}
        while inference_copy.rows <= bench.sizes.rows:
            rows = inference_copy.rows
            some = labels[: 4 * rows]
            rates[rows] = len(some) * bench.per_second(lambda: sample(inference_copy, some))  # noqa: B023
            if rates[rows] < GROWTH * rates.get(rows // 2, 0.0):
                break
            inference_copy.rows *= 2
        best = inference_copy.rows = max(rates, key=rates.__getitem__)
        figures[name] = {
            "images_per_second": {str(rows): rate for rows, rate in rates.items()},
            "rows": own,
            "fastest_rows": best,
            "share_of_fastest": rates[own] / rates[best],
        }
        near = near_share(sample(inference_copy, labels[: bench.sizes.drawn]), expected)
        claims[f"{name}: passes of {best} draw what passes of {own} do, within a grey level"] = near >= NEAR
    return claims


def near_share(images: Tensor, others: Tensor) -> float:
    """Share of the pixels of uint8 images that are at most one grey level apart."""
    return float(((images.short() - others.short()).abs() <= 1).float().mean())


def check_images(bench: Bench, figures: Figures) -> Claims:
    """The same weights draw here, with all shortcuts, what they draw on a CPU without any."""
    labels = torch.arange(bench.sizes.drawn) % len(bench.data.classes)
    claims: Claims = {}
    for name in CHECKED:
        folder = bench.generator(name)
        here = sample(Generator.from_pretrained(folder).to(bench.device), labels)
        there = sample(InferenceCopy(Generator.from_pretrained(folder), Shortcuts(folded=False)), labels)
        figures[name] = near_share(here, there)
        claims[f"{name}: {figures[name]:.3%} of pixels are within a grey level of the CPU's"] = figures[name] >= NEAR
    return claims


def check_materialize(bench: Bench, figures: Figures) -> Claims:
    """A mixed dataset is drawn on the device, and read by workers."""
    train = ConditionalGANAugment(
        bench.data, bench.generator(DRAWS), ratio=0.5, device=bench.device, cache_dir=bench.folder
    )
    indices = torch.nonzero(train.source).squeeze(1).tolist()[: bench.sizes.drawn]
    drawn = torch.stack([image for image, _ in train.__getitems__(indices)])
    started = time.perf_counter()
    train.materialize()
    figures["images_per_second"] = train.n_fake / (time.perf_counter() - started)
    read = {}
    for workers in (0, 2):
        loader = DataLoader(train, sampler=indices, batch_size=8, num_workers=workers, generator=torch.Generator())
        read[workers] = torch.cat([images for images, _ in loader])
    return {
        "the file holds what is drawn without it": torch.equal(read[0], drawn),
        "two workers read the same bytes as none": torch.equal(read[0], read[2]),
    }


def check_mixing(bench: Bench, figures: Figures) -> Claims:
    """GANMix in the training loop of a classifier."""
    batch, ratio = 64, 0.25
    images, labels = bench.data.images[:batch], bench.data.targets[:batch]
    if bench.device.type == "cuda":
        images, labels = images.pin_memory(), labels.pin_memory()
    mix = GANMix(bench.generator(DRAWS), ratio, classes=bench.data.classes)
    classifier = nn.Sequential(nn.Flatten(), nn.LazyLinear(len(bench.data.classes))).to(bench.device)
    classifier(images.to(bench.device).float())  # now it knows how many weights it has
    optimizer = torch.optim.SGD(classifier.parameters(), lr=0.01)
    seen: list[tuple[Tensor, Tensor]] = []

    def step() -> None:
        real = images.to(bench.device, non_blocking=True)
        mixed, _ = mix(real, labels)  # labels are where the loader has them
        wanted = labels.to(bench.device, non_blocking=True)
        optimizer.zero_grad()
        F.cross_entropy(classifier(mixed.float().div(255)), wanted).backward()
        optimizer.step()
        seen.append((mixed, (mixed != real).flatten(1).any(1).sum()))

    step()  # brings the generator to the device
    waits_not = bench.never_waits(lambda: [step() for _ in range(5)])
    figures["images_per_second"] = batch * bench.per_second(step)
    return {
        f"batches stay on {bench.device.type}": all(mixed.device.type == bench.device.type for mixed, _ in seen),
        f"{ratio:.0%} of the images are generated": {int(replaced) for _, replaced in seen} == {round(ratio * batch)},
        "without waiting for the GPU": waits_not,
    }


def train_with_checkpoints(folder: Path, bench: Bench) -> Tensor:
    """Train from scratch or from the newest checkpoint, to the end; the generator's first weights, (number,)."""
    model = MODELS[DRAWS]
    each = BATCH * model.settings.discriminator_steps / 1000  # kimg of a step
    settings = replace(
        model.settings,
        train_batch_size=BATCH,
        total_kimg=STEPS * each,
        checkpointing_kimg=EVERY * each,
        cpu_threads=1,  # on other numbers, a CPU rounds differently
    )
    first = []

    def make_generator() -> Generator:
        generator = bench.new_generator(DRAWS)
        first.append(nn.utils.parameters_to_vector(generator.parameters()).detach().clone())
        return generator

    with deterministic_passes(bench.device):
        fit(make_generator, model.objective, bench.data, settings, folder, resume=True)
    return first[0]


def check_resume(bench: Bench, figures: Figures) -> Claims:
    """A training that is killed and goes on ends as one that nothing disturbed."""
    undisturbed, killed = bench.folder / "undisturbed", bench.folder / "killed"
    first = train_with_checkpoints(undisturbed, bench)

    # This file once more trains the same, until it has written a checkpoint.
    command = [sys.executable, __file__, "--worker", str(killed), *(["--small"] if bench.sizes is SMALL else [])]
    with (
        open(bench.folder / "worker.log", "w+", encoding="utf-8") as log,
        subprocess.Popen(command, stdout=log, stderr=log) as process,
    ):
        while process.poll() is None and not list(killed.glob("training/checkpoints/step-*")):
            time.sleep(0.01)
        process.kill()
        process.wait()
        log.seek(0)
        found = Checkpoints(killed / "training" / "checkpoints").newest()
        if found is None:
            raise RuntimeError(f"the training that was to be killed ended by itself:\n{log.read()}")
    figures["killed_after"], figures["steps"] = found.step, STEPS
    train_with_checkpoints(killed, bench)

    expected, got = (Checkpoints(run / "training" / "checkpoints").newest() for run in (undisturbed, killed))
    states = [each.state() if each else {} for each in (expected, got)]
    equal = all(
        torch.equal(value, states[1][part][key]) for part, some in states[0].items() for key, value in some.items()
    )
    ends = [Generator.from_pretrained(run) for run in (undisturbed, killed)]
    one, other = (nn.utils.parameters_to_vector(end.parameters()).detach() for end in ends)
    figures["bit_equal"], figures["apart"] = equal, float((one - other).norm() / (one - first).norm())
    claims: Claims = {f"it was killed on the way, after {found.step} of {STEPS} steps": found.step < STEPS}
    if bench.device.type == "cpu":
        claims["all weights, averages and moments are equal to the bit"] = equal
    else:
        where = f"averaged weights end at the same place, to {TOLERANCE:.0%} of their way ({figures['apart']:.1e})"
        claims[where] = figures["apart"] <= TOLERANCE
    return claims


def check_waiting(bench: Bench, figures: Figures) -> Claims:
    """A step of training tells the GPU what to do, and waits for nothing."""
    claims: Claims = {}
    for name in CHECKED:
        trainer, sums, steps = bench.trainer(name), RunningMeans(bench.accelerator), count()

        def step() -> None:
            sums.add(trainer.step(next(steps)), trainer.skipped)  # noqa: B023

        for _ in range(3):  # the first ones choose kernels and make the optimizers' state
            step()
        claims[f"a step of {name} waits for nothing"] = bench.never_waits(lambda: [step() for _ in range(3)])
    return claims


CHECKS: dict[str, Callable[[Bench, Figures], Claims]] = {
    "training": check_training,
    "drawing": check_drawing,
    "images": check_images,
    "materialize": check_materialize,
    "mixing": check_mixing,
    "resume": check_resume,
    "waiting": check_waiting,
}


def result_of(name: str, bench: Bench) -> dict[str, Any]:
    """Run a check and print what it finds; an error is a failure of this check, and the others go on."""
    figures: Figures = {}
    started = time.perf_counter()
    try:
        claims = CHECKS[name](bench, figures)
    except Exception as error:
        traceback.print_exc()
        claims = {f"runs without {type(error).__name__}: {error}": False}
    unknown = f"not checked on {'a CPU' if bench.device.type == 'cpu' else bench.device.type}"
    for what, holds in claims.items():
        print(f"{name}: {what}: {unknown if holds is None else 'yes' if holds else 'NO'}")
    for what, value in figures.items():
        print(f"  {what}: {value}")
    told = [holds for holds in claims.values() if holds is not None]
    return {
        "passed": all(told) if told else unknown,
        "claims": {what: unknown if holds is None else holds for what, holds in claims.items()},
        "figures": figures,
        "seconds": round(time.perf_counter() - started, 1),
    }


def machine(device: torch.device) -> dict[str, Any]:
    """Hardware and versions, as JSON values."""
    found: dict[str, Any] = {"device": device.type, "cores": usable_cores(), "platform": platform.platform()}
    if device.type == "cuda":
        found |= {"gpu": torch.cuda.get_device_name(), "capability": list(torch.cuda.get_device_capability())}
        found |= {"memory_gb": torch.cuda.get_device_properties(device).total_memory / 2**30}
    versions = {"python": platform.python_version(), "torch": torch.__version__, "cuda": torch.version.cuda}
    versions |= {name: version(name) for name in ("ganaug", "accelerate")}
    return {**found, **versions, "cudnn": torch.backends.cudnn.version()}


def main(args: Arguments) -> None:
    """Run the checks one after another, and write what was found after each."""
    if unknown := [name for name in args.checks if name not in CHECKS]:
        raise InputError(f"checks must be of {', '.join(CHECKS)}; got {', '.join(unknown)}")
    small = args.small or best_device().type == "cpu"
    sizes = SMALL if small else LARGE
    if args.worker is not None:
        with TemporaryDirectory() as folder:
            train_with_checkpoints(args.worker, Bench(sizes, Path(folder)))
        return
    with TemporaryDirectory() as folder:
        bench = Bench(sizes, Path(folder), args.compile)
        found: dict[str, Any] = {"machine": machine(bench.device)}
        found["settings"] = {"small": small, "compile": args.compile, **asdict(sizes)}
        found["checks"] = {}
        for name in args.checks:
            found["checks"][name] = result_of(name, bench)
            write_json(args.output, found)
    failed = [name for name, result in found["checks"].items() if result["passed"] is False]
    write_json(args.output, {**found, "passed": not failed})
    print(f"all of this is in {args.output}")
    if failed:
        raise InputError(f"{', '.join(failed)} failed; see the lines that say NO")


if __name__ == "__main__":
    run(Arguments, main, __doc__)
