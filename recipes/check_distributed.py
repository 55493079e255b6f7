"""Do all devices here do the same as one, and several machines the same as one? Takes about three minutes.

    python recipes/check_distributed.py
    python recipes/check_distributed.py --processes 2

Starts torchrun with one process for each accelerator (two on CPUs), then as many torchruns of one process, which meet
on the loopback interface as machines would on a network, then one process. All train with as many images in a batch,
on scikit-learn's digits in fp32, and draw images with what the first have trained. Compared are: losses, weights on
all processes, how far the averaged generator has come, updates of each network, and the bytes of the images.
"""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory

import torch
from accelerate import PartialState
from torch import Tensor

from ganaug import InputError, open_images
from ganaug.cli.flags import run
from ganaug.core.files import read_tensors, write_tensors
from ganaug.core.hardware import usable_cores
from ganaug.sampling.class_sampler import ClassSampler
from ganaug.sampling.export import generate_shards
from ganaug.training import MODELS, make_trainer, start_accelerator

STEPS = 10
# A loss after the first updates, relative. Rounding differs between batches, and in a GAN it grows soon.
COMPARED, TOLERANCE = 2, 1e-3
FAR = 0.05  # how far the averaged weights have moved, relative to on one
GENERATOR, IMAGES = "generator", "images"  # folders: of what the first have trained, and of what all have drawn


@dataclass(frozen=True)
class Arguments:
    """Flags of this check.

    Args:
        processes: How many work together; by default one for each accelerator, and two on CPUs.
        batch: Images of all together in a step.
        systems: Models that are trained. Those with dropout cannot be compared, as each process drops what it likes.
        worker: Folder that a process of the check writes to; not for you.
    """

    processes: int | None = None
    batch: int = 32
    systems: tuple[str, ...] = ("flow", "sngan")
    worker: Path | None = None


def main(args: Arguments) -> None:
    """Train and draw on all, on as many machines, and on one, and compare."""
    if args.worker is not None:
        train_a_little(args, args.worker)
        draw_a_little(args.worker)
        return
    processes = args.processes or (torch.accelerator.device_count() if torch.accelerator.is_available() else 2)
    if processes < 2 or args.batch % processes:
        raise InputError(f"{processes} processes cannot share {args.batch} images. Give two or more, and a multiple")
    with TemporaryDirectory() as temporary:
        together, apart, alone = (Path(temporary, name) for name in ("together", "apart", "alone"))
        launch(args, together, machines=1, processes=processes)
        launch(args, apart, machines=processes, processes=1)
        launch(args, alone, machines=1, processes=1)
        good = []
        for name in args.systems:
            one = read_tensors(alone / f"{name}-0.safetensors")
            found, on_machines = (
                [read_tensors(folder / f"{name}-{rank}.safetensors") for rank in range(processes)]
                for folder in (together, apart)
            )
            good += [compare(name, found, one), compare_machines(name, on_machines, found)]
        good.append(compare_images(together, apart, alone))
    if not all(good):
        raise InputError("several processes or machines differ from one; see the lines that say NO")


def launch(args: Arguments, folder: Path, *, machines: int, processes: int) -> None:
    """Run this file once more, as so many machines of so many processes, each with its part of the same batch."""
    folder.mkdir()
    with socket.socket() as free:  # a port for the machines to meet at
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    visible = os.environ.get("CUDA_VISIBLE_DEVICES") or ",".join(map(str, range(machines)))
    agents, logs = [], [folder / f"machine-{rank}.log" for rank in range(machines)]
    for rank, log in enumerate(logs):
        meet = ["--nnodes", machines, "--node_rank", rank, "--master_addr", "127.0.0.1", "--master_port", port]
        command = ["-m", "torch.distributed.run", *meet, "--nproc_per_node", processes, __file__, "--worker", folder]
        command += ["--batch", args.batch // (machines * processes), "--systems", *args.systems]
        own = {"CUDA_VISIBLE_DEVICES": visible.split(",")[rank]} if machines > 1 and torch.cuda.is_available() else {}
        with log.open("w", encoding="utf-8") as output:
            words = [sys.executable, *map(str, command)]
            agents.append(subprocess.Popen(words, stdout=output, stderr=output, env={**os.environ, **own}))
    codes = [agent.wait() for agent in agents]
    if any(codes):
        said = "\n".join(log.read_text(encoding="utf-8") for log in logs)
        raise InputError(f"{machines} machines of {processes} processes could not train or draw:\n{said}")


def train_a_little(args: Arguments, folder: Path) -> None:
    """Train a few steps, and write what is compared: this rank's losses, weights, averages and moments."""
    digits = open_images("sklearn:digits")
    threads = max(1, usable_cores() // int(os.environ["WORLD_SIZE"]))  # of all machines, which are this one
    for name in args.systems:
        model = MODELS[name]
        settings = replace(model.settings, train_batch_size=args.batch, mixed_precision="no", cpu_threads=threads)
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
        if accelerator.is_main_process and not (folder.parent / GENERATOR).exists():
            average.save_pretrained(folder.parent / GENERATOR)


def draw_a_little(folder: Path) -> None:
    """Draw images together, into files of this rank and of others."""
    processes = PartialState()
    processes.wait_for_everyone()  # for the generator, which the main process of the first has saved
    sampler = ClassSampler(str(folder.parent / GENERATOR), device=processes.device)
    generate_shards(sampler, 100, folder / IMAGES, format="npy", images_per_shard=16, processes=processes)
    processes.destroy_process_group()


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


def compare_machines(name: str, apart: list[dict[str, Tensor]], together: list[dict[str, Tensor]]) -> bool:
    """Print whether machines of one process do as one machine of as many processes, rank by rank; whether they do.

    On CPUs they do so bit for bit. On GPUs sums may be taken in another order where processes reach one another in
    another way, so only losses are compared.
    """
    if torch.accelerator.is_available():
        pairs = [(a["losses"][:COMPARED], b["losses"][:COMPARED]) for a, b in zip(apart, together, strict=True)]
        well = all(torch.allclose(a, b, rtol=TOLERANCE, atol=0) for a, b in pairs)
        what = f"losses on {len(apart)} machines as on one, to {TOLERANCE:g}"
    else:
        well = all(
            a.keys() == b.keys() and all(torch.equal(value, b[key]) for key, value in a.items())
            for a, b in zip(apart, together, strict=True)
        )
        what = f"losses, weights, averages and moments on {len(apart)} machines as on one, bit for bit"
    print(f"{name}: {what}: {'yes' if well else 'NO'}")
    return well


def compare_images(*folders: Path) -> bool:
    """Print whether all have drawn files of the same bytes; whether they have."""
    drawn = [{path.name: path.read_bytes() for path in (folder / IMAGES).iterdir()} for folder in folders]
    well = "images.npy" in drawn[0] and all(each == drawn[0] for each in drawn)
    print(f"images: the same bytes from one process, several, and several machines: {'yes' if well else 'NO'}")
    return well


if __name__ == "__main__":
    run(Arguments, main, __doc__)
