"""What the train_*.py recipes share: a run from data to saved generator."""

from __future__ import annotations

from argparse import ArgumentParser
from dataclasses import replace
from pathlib import Path
from typing import Any, get_args, get_type_hints

import torch
from arguments import DataArguments, run
from layer_table import layer_tables
from opening import keep_labels, open_all
from publish import check_hub_flags, publish_run
from resuming import checkpoint_of, with_saved_flags
from starting import new_trainer, run_folder, with_choices

from ganaug import Generator
from ganaug.training import MODELS, check_same_run, hold_back, start_accelerator, train
from ganaug.training.presets import QUICK
from ganaug.training.run_page import write_run_page


def main(given: Any) -> None:
    """Train, save, publish if that is asked for, and say how to use what was saved."""
    check_hub_flags(given)
    checkpoint = checkpoint_of(given)
    args = with_saved_flags(given, checkpoint) if checkpoint else given
    accelerator = start_accelerator(args.training, report_to=args.report_to)
    everything, labelled = open_all(args, accelerator, checkpoint)
    if checkpoint is None:
        args = with_choices(args, everything, labelled, accelerator)
    images, held_out = hold_back(args.training, everything, labelled)
    trainer = new_trainer(args, images, accelerator)
    if checkpoint:
        check_same_run(checkpoint, trainer, override=args.override)
        accelerator.print(f"going on after {checkpoint.facts['kimg']:.1f} kimg, from {checkpoint.path}")
    folder = run_folder(args, trainer, checkpoint) if accelerator.is_main_process else None
    if folder:
        keep_labels(folder, everything, labelled)
    accelerator.print(
        f"images: {images}\n"
        f"held back, to choose a generator by: {held_out or 'none, so the last one is saved'}\n"
        f"device: {accelerator.device}, processes: {accelerator.num_processes}, "
        f"threads: {torch.get_num_threads()}, precision: {accelerator.mixed_precision}\n"
        f"output: {folder and folder.path}"
    )
    if args.summary:
        accelerator.print(layer_tables(trainer))
    trained = train(trainer, folder, resume=checkpoint, held_out=held_out)
    accelerator.end_training()
    if folder:
        write_run_page(folder.path)
        print(how_to_use(trained, folder.path))
        if args.push_to_hub:
            publish_run(folder.path, args)


def how_to_use(generator: Generator, path: Path) -> str:
    """The lines that load a saved generator and draw from it."""
    use = (
        "train = ConditionalGANAugment(dataset, generator, ratio=0.3)"
        if generator.conditional
        else "images = generator.sample([0] * 10)  # of no class in particular: this generator has none"
    )
    return (
        "\nUse it:\n"
        "from ganaug import ConditionalGANAugment, Generator\n"
        f"generator = Generator.from_pretrained({str(path)!r})\n"
        f"{use}"
    )


def run_recipe(arguments: type[Any], description: str | None) -> None:
    """Parse the flags, whose defaults are the chosen model's, and train."""
    parser = ArgumentParser(add_help=False, allow_abbrev=False)
    models = get_args(get_type_hints(arguments)["model"])
    parser.add_argument("--model", default=arguments.model, choices=models)
    model = parser.parse_known_args()[0].model
    system = MODELS[QUICK if model == "auto" else model]
    defaults = arguments(model=model, training=system.settings, objective=system.objective)
    run(arguments, main, description, default=replace(defaults, data=DataArguments(resolution=system.resolution)))
