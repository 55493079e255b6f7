"""Draw any number of labelled images, into Parquet files for load_dataset or into one file to memory-map.

For example: ganaug generate --generator outputs/flow --num_images 60000 --output_dir digits

The files are the same whatever the number of processes (accelerate launch -m ganaug generate starts several). The
same command goes on where one was stopped.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

import torch
from accelerate import PartialState

from ganaug import InputError
from ganaug.cli.flags import run
from ganaug.core.hardware import check_processes, cpu_threads, keep_freed_memory
from ganaug.sampling.class_sampler import ClassSampler
from ganaug.sampling.export import Format, generate_shards


@dataclass(frozen=True)
class GenerateArguments:
    """Flags of ``ganaug generate``.

    Args:
        generator: Folder or Hub id of the generator.
        num_images: How many images to draw; the numbers for any two classes differ by at most one.
        output_dir: Folder for the files.
        format: parquet has the columns image, label, seed and index; npy makes images.npy and labels.npy.
        classes: Names of the classes to draw; by default all that the generator knows.
        images_per_shard: Images in a Parquet file; a command that is run again starts at the first unfinished file.
        seed: Image k of a class depends on the generator, the seed and k alone.
        cpu_threads: Files each process works on at a time; by default the cores are divided among the processes.
    """

    generator: str
    num_images: int
    output_dir: Path
    format: Format = "parquet"
    classes: tuple[str, ...] = ()
    images_per_shard: int = 2048
    seed: int = 0
    cpu_threads: int | None = None


def draw(args: GenerateArguments) -> None:
    """Draw this rank's share of the images; the main one says how to load them all."""
    threads, state = start(args)
    sampler = open_sampler(args, state)
    found = generate_shards(
        sampler,
        args.num_images,
        args.output_dir,
        classes=args.classes,
        format=args.format,
        images_per_shard=args.images_per_shard,
        cpu_threads=threads,
        processes=state,
    )
    if state.is_main_process:
        already = f", {found} of which were there already" if found else ""
        print(f"{args.output_dir} holds {args.num_images} generated images{already}\n\nLoad them:\n{usage(args)}")
    state.destroy_process_group()


def start(args: GenerateArguments) -> tuple[int, PartialState]:
    """The number of threads for this process, which the main one prints, and its link to the other processes."""
    threads, reason = (args.cpu_threads, "cpu_threads") if args.cpu_threads is not None else cpu_threads(None)
    keep_freed_memory()
    torch.set_num_threads(1)  # several files at a time, each by one thread, are faster than several threads a file
    # Ranks that are done wait for the others, for as long as it takes.
    state = PartialState(cpu=not torch.accelerator.is_available(), timeout=timedelta(days=100))
    check_processes(state.num_processes)
    state.print(f"device: {state.device}, processes: {state.num_processes}, threads: {threads} ({reason})")
    return threads, state


def open_sampler(args: GenerateArguments, state: PartialState) -> ClassSampler:
    """The generator, to draw images of a class from.

    Raises:
        InputError: the generator cannot be loaded, or has no classes to ask for.
    """
    try:
        with state.local_main_process_first():  # what is downloaded is downloaded once
            return ClassSampler(args.generator, seed=args.seed, device=state.device)
    except ValueError as error:
        raise InputError(str(error)) from error


def usage(args: GenerateArguments) -> str:
    """The lines that load what was made."""
    if args.format == "parquet":
        return (
            "from datasets import load_dataset\n"
            f"dataset = load_dataset({str(args.output_dir)!r}, split='train')  # image, label, seed, index"
        )
    return (
        "import numpy as np\n"
        f"images = np.load({str(args.output_dir / 'images.npy')!r}, mmap_mode='r')  # uint8 (N, C, H, W)\n"
        f"labels = np.load({str(args.output_dir / 'labels.npy')!r})"
    )


def main(words: Sequence[str]) -> None:
    """Run the command with these words after its name."""
    run(GenerateArguments, draw, __doc__, words=words, prog="ganaug generate")
