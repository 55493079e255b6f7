"""Draw any number of labelled images, into Parquet files for load_dataset or into one file to memory-map.

    accelerate launch recipes/generate.py --generator outputs/flow --num_images 60000 --output_dir digits

The files are the same whatever the number of processes. The same command goes on where one was stopped.
"""

from __future__ import annotations

from ganaug.cli.flags import run
from ganaug.cli.generate import GenerateArguments, open_sampler, start, usage
from ganaug.sampling.export import generate_shards


def main(args: GenerateArguments) -> None:
    """Draw this rank's share of the images; the main one says how to load them all."""
    # The processes that share the work, and the threads of each.
    threads, state = start(args)

    # A sampler draws image k of a class from the generator, its seed and k alone, in whichever process.
    sampler = open_sampler(args, state)

    # Files that are whole or not there; those that are there already are not drawn again.
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


if __name__ == "__main__":
    run(GenerateArguments, main, __doc__)
