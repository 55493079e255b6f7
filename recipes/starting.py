"""What a training recipe starts from: a preset if none was chosen, a length, networks, a folder."""

from __future__ import annotations

from dataclasses import asdict, replace
from inspect import signature
from pathlib import Path
from typing import Any

from accelerate import Accelerator
from accelerate.utils import set_seed
from arguments import parse_again
from launching import command

from ganaug import Generator, InputError, LabelledImages
from ganaug.hub.weights import WEIGHTS
from ganaug.training import (
    MODELS,
    Checkpoint,
    RunFolder,
    Trainer,
    choose_preset,
    init_from,
    kimg_within,
    make_trainer,
    new_run_folder,
)
from ganaug.training.presets import ENOUGH, WIDE, Preset


def with_choices(given: Any, images: LabelledImages, labelled: LabelledImages, accelerator: Accelerator) -> Any:
    """The flags, with what is chosen here where the user did not choose: a preset, a length."""
    args = given
    if given.model == "auto":
        preset = choose_preset(images, labelled=labelled)
        args = with_preset(given, preset, accelerator)
    args = within_budget(args, images, accelerator)
    if given.model == "auto":
        if preset.model == WIDE and args.training.total_kimg < ENOUGH * preset.settings.total_kimg:
            preset = choose_preset(images, labelled=labelled, quick=True)
            args = within_budget(with_preset(given, preset, accelerator), images, accelerator)
        accelerator.print(preset)
    return args


def with_preset(given: Any, preset: Preset, accelerator: Accelerator) -> Any:
    """The flags with a preset where the user gave none; its batch is that of all processes together."""
    share = max(1, preset.settings.train_batch_size // accelerator.num_processes)
    # Parsed once more, so that what the user gave stays.
    args = parse_again(replace(given, model=preset.model, training=replace(preset.settings, train_batch_size=share)))
    return replace(args, model=preset.model)


def within_budget(args: Any, images: LabelledImages, accelerator: Accelerator) -> Any:
    """The flags with a length that fits into the minutes they give, if they give any."""
    if args.budget_minutes is None:
        return args
    kimg = kimg_within(args.budget_minutes, new_trainer(args, images, accelerator))
    accelerator.print(f"{args.model}: {kimg:.3g} kimg take {args.budget_minutes:g} minutes here")
    return replace(args, training=replace(args.training, total_kimg=min(kimg, args.training.total_kimg)))


def new_trainer(args: Any, images: LabelledImages, accelerator: Accelerator) -> Trainer:
    """A trainer of the flags' model, as it starts."""
    set_seed(args.training.seed)
    system, options = MODELS[args.model], args.network_options()
    if "latent_dim" in options and "latent_dim" not in signature(system.generator).parameters:
        raise InputError(f"the latents of {args.model} follow from the images; leave out --latent_dim")
    if args.init_from is None:
        generator = system.make_generator(images, **options)
    else:
        trained = Generator.from_pretrained(args.init_from)
        if isinstance(trained, system.generator):
            options = {**trained.network_options(), **options}
        generator = system.make_generator(images, **options)
        init_from(generator, trained)
    return make_trainer(generator, args.objective, images, args.training, accelerator)


def run_folder(args: Any, trainer: Trainer, checkpoint: Checkpoint | None) -> RunFolder:
    """The folder of the run, with its settings."""
    if checkpoint is not None:
        return RunFolder(checkpoint.run, after_kimg=checkpoint.facts["kimg"])
    wanted = args.output_dir or new_run_folder(f"outputs/{trainer.bare_generator.architecture}")
    # One that was stopped before it had a checkpoint starts anew where it was.
    again = args.resume_from_checkpoint == "latest" and not (wanted / WEIGHTS).exists()
    folder = RunFolder(wanted, after_kimg=0 if again else None)
    given = {"unlabeled_data": args.unlabeled_data, "init_from": args.init_from}
    data = {name: str(value) if isinstance(value, Path) else value for name, value in asdict(args.data).items()}
    folder.write_settings(
        {
            "command": command(),
            "model": args.model,
            **asdict(args.training),
            "objective": asdict(args.objective),
            "network": trainer.bare_generator.network_options(),
            "data": {name: value for name, value in data.items() if value is not None},
            **{name: value for name, value in given.items() if value is not None},
        }
    )
    return folder
