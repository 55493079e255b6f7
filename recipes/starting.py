"""What a training recipe starts from: images, a preset if none was chosen, a length, networks, a folder."""

from __future__ import annotations

from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from accelerate.utils import broadcast, set_seed
from arguments import parse_again
from launching import command

from ganaug import Generator, LabelledImages
from ganaug.data import joined, open_unlabeled
from ganaug.model_weights import WEIGHTS
from ganaug.pseudo_labels import pseudo_label
from ganaug.training import (
    SYSTEMS,
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
        args = with_preset(given, preset)
    args = within_budget(args, images, accelerator)
    if given.model == "auto":
        if preset.model == WIDE and args.training.total_kimg < ENOUGH * preset.settings.total_kimg:
            preset = choose_preset(images, labelled=labelled, quick=True)
            args = within_budget(with_preset(given, preset), images, accelerator)
        accelerator.print(preset)
    return args


def with_preset(given: Any, preset: Preset) -> Any:
    """The flags with a preset where the user gave none."""
    # Parsed once more, so that what the user gave stays.
    args = parse_again(replace(given, model=preset.model, training=preset.settings))
    return replace(args, model=preset.model)


def within_budget(args: Any, images: LabelledImages, accelerator: Accelerator) -> Any:
    """The flags with a length that fits into the minutes they give, if they give any."""
    if args.budget_minutes is None:
        return args
    kimg = kimg_within(args.budget_minutes, new_trainer(args, images, accelerator))
    accelerator.print(f"{args.model}: {kimg:.3g} kimg take {args.budget_minutes:g} minutes here")
    return replace(args, training=replace(args.training, total_kimg=min(kimg, args.training.total_kimg)))


def open_all(args: Any, accelerator: Accelerator) -> tuple[LabelledImages, LabelledImages]:
    """What is trained on, and those of it that came with labels."""
    with accelerator.local_main_process_first():  # what is downloaded is downloaded once
        images = args.data.open()
        unlabeled = open_unlabeled(args.unlabeled_data, images) if args.unlabeled_data is not None else None
    if unlabeled is None:
        return images, images
    targets = torch.zeros(len(unlabeled), dtype=torch.int64)
    if accelerator.is_main_process:
        teacher = None if args.init_from is None else Generator.from_pretrained(args.init_from)
        flip = "flip" in args.training.augment
        targets = pseudo_label(images, unlabeled, generator=teacher, horizontal_flip=flip).targets
    # Classifiers trained on other devices may answer differently.
    targets = broadcast(targets.to(accelerator.device)).cpu()
    name = f"{len(targets):,} pseudo-labelled images"
    return joined(images, LabelledImages(unlabeled, targets, images.classes, name)), images


def new_trainer(args: Any, images: LabelledImages, accelerator: Accelerator) -> Trainer:
    """A trainer of the flags' model, as it starts."""
    set_seed(args.training.seed)
    system, options = SYSTEMS[args.model], args.network_options()
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
