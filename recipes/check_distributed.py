"""Does training on all devices here do the same as on one? Takes about two minutes.

    python recipes/check_distributed.py
    python recipes/check_distributed.py --processes 2

Starts torchrun with one process for each accelerator (two on CPUs), then one process with as many images in a batch,
on scikit-learn's digits in fp32, and compares: losses, weights on all processes, how far the averaged generator has
come, updates of each network.
"""

from __future__ import annotations

import subprocess
import sys
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory

import torch
from torch import Tensor

from ganaug import InputError, open_images
from ganaug.cli.flags import run
from ganaug.core.files import read_tensors, write_tensors
from ganaug.training import MODELS, make_trainer, start_accelerator

STEPS = 10
# A loss after the first updates, relative. Rounding differs between batches, and in a GAN it grows soon.
COMPARED, TOLERANCE = 2, 1e-3
FAR = 0.05  # how far the averaged weights have moved, relative to on one


@dataclass(frozen=True)
class Arguments:
    """Flags of this check.

    Args:
        processes: How many train together; by default one for each accelerator, and two on CPUs.
        batch: Images of all together in a step.
        systems: Models that are trained. Those with dropout cannot be compared, as each process drops what it likes.
        worker: Folder that a process of the check writes to; not for you.
    """

    processes: int | None = None
    batch: int = 32
    systems: tuple[str, ...] = ("flow", "sngan")
    worker: Path | None = None


def main(args: Arguments) -> None:
    """Train on all and on one, and compare."""
    if args.worker is not None:
        train_a_little(args, args.worker)
        return
    processes = args.processes or (torch.accelerator.device_count() if torch.accelerator.is_available() else 2)
    if processes < 2 or args.batch % processes:
        raise InputError(f"{processes} processes cannot share {args.batch} images. Give two or more, and a multiple")
    with TemporaryDirectory() as temporary:
        # This file once more, as so many processes and as one, each with its part of the same batch.
        for number in (processes, 1):
            folder = Path(temporary) / str(number)
            folder.mkdir()
            command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", str(number)]
            command += [__file__, "--worker", str(folder), "--batch", str(args.batch // number)]
            done = subprocess.run([*command, "--systems", *args.systems], capture_output=True, text=True, check=False)
            if done.returncode:
                raise InputError(f"{number} processes could not train:\n{done.stderr}")
        good = []
        for name in args.systems:
            of_ranks = [Path(temporary, str(processes), f"{name}-{rank}.safetensors") for rank in range(processes)]
            alone = read_tensors(Path(temporary, "1", f"{name}-0.safetensors"))
            good.append(compare(name, [read_tensors(path) for path in of_ranks], alone))
    if not all(good):
        raise InputError("training on several processes differs from training on one; see the lines that say NO")


def train_a_little(args: Arguments, folder: Path) -> None:
    """Train a few steps, and write what is compared: this rank's losses, weights, averages and moments."""
    digits = open_images("sklearn:digits")
    for name in args.systems:
        model = MODELS[name]
        settings = replace(model.settings, train_batch_size=args.batch, mixed_precision="no")
        accelerator = start_accelerator(settings)
        torch.manual_seed(0)
        trainer = make_trainer(model.make_generator(digits), model.objective, digits, settings, accelerator)
        average, rows = trainer.averaged_generator, []
        start = {key: value.clone() for key, value in average.named_parameters()}
        for step in range(STEPS):
            losses = {key: value for key, value in trainer.step(step).items() if "loss" in key}
            rows.append(torch.stack([losses[key].float() for key in sorted(losses)]))
        values = {f"{part}.{key}": value for part, some in trainer.state().items() for key, value in some.items()}
        moved = [(value - start[key]).square().sum() for key, value in average.named_parameters()]
        values["moved"] = torch.stack(moved).sum().sqrt().detach()
        values["losses"] = accelerator.reduce(torch.stack(rows), "mean")
        values["processes"] = torch.tensor(accelerator.num_processes)
        write_tensors(folder / f"{name}-{accelerator.process_index}.safetensors", values)


def compare(name: str, together: list[dict[str, Tensor]], alone: dict[str, Tensor]) -> bool:
    """Print what was found of one model, of each rank and of the process that was alone; whether all is well."""
    first = together[0]
    losses, expected = first["losses"][:COMPARED], alone["losses"][:COMPARED]
    difference = ((losses - expected).abs().max() / expected.abs().mean()).item()
    moved = (first["moved"] / alone["moved"]).item()
    updates = {float(value) for key, value in first.items() if key.endswith(".step")}
    checks = {
        f"{len(together)} processes see one another": int(first["processes"]) == len(together),
        f"losses as on one, to {TOLERANCE:g} ({difference:.1e})": difference < TOLERANCE,
        f"the averaged generator has moved as far as on one, to {FAR:.0%} ({moved:.3f} times)": abs(moved - 1) < FAR,
        "the same weights, averages and moments on all": all(
            torch.equal(value, other[key]) for other in together[1:] for key, value in first.items()
        ),
        f"as many updates of each network as it should have ({', '.join(f'{n:g}' for n in sorted(updates))})": updates
        == {float(STEPS), float(STEPS * MODELS[name].settings.discriminator_steps)},
    }
    for what, well in checks.items():
        print(f"{name}: {what}: {'yes' if well else 'NO'}")
    return all(checks.values())


if __name__ == "__main__":
    run(Arguments, main, __doc__)
