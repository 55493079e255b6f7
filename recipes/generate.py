"""Draw as many labelled images as wanted, into Parquet files for load_dataset, or into one file to be mapped.

For example: accelerate launch recipes/generate.py --generator outputs/flow --num_images 60000 --output_dir digits

The files are the same whatever the number of processes. The same command goes on where one was stopped.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

import torch
from accelerate import PartialState

from ganaug import InputError
from ganaug.cli.flags import run
from ganaug.core.hardware import keep_freed_memory, set_cpu_threads
from ganaug.sampling.class_sampler import ClassSampler
from ganaug.sampling.export import Format, generate_shards


@dataclass(frozen=True)
class Arguments:
    """Flags of this recipe.

    Args:
        generator: Folder or Hub id of the generator.
        num_images: How many images to draw; as many of each class, up to one.
        output_dir: Folder for the files.
        format: parquet has the columns image, label, seed and index; npy makes images.npy and labels.npy.
        classes: Names of the classes to draw; by default all that the generator knows.
        images_per_shard: Images in a Parquet file; a command that goes on begins with the first unfinished one.
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


def main(args: Arguments) -> None:
    """Draw this process's share, and say how to load the whole."""
    threads = set_cpu_threads(None) if args.cpu_threads is None else args.cpu_threads
    keep_freed_memory()
    torch.set_num_threads(1)  # several files at a time, each by one thread, are faster than several threads a file
    # Those who are done wait for the others, for as long as it takes.
    state = PartialState(cpu=not torch.accelerator.is_available(), timeout=timedelta(days=100))
    try:
        with state.local_main_process_first():  # what is downloaded is downloaded once
            sampler = ClassSampler(args.generator, seed=args.seed, device=state.device)
    except ValueError as error:
        raise InputError(str(error)) from error
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


def usage(args: Arguments) -> str:
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


if __name__ == "__main__":
    run(Arguments, main, __doc__)
