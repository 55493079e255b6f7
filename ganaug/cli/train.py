"""A training run from flags to a saved generator."""

from __future__ import annotations

from argparse import ArgumentParser
from dataclasses import asdict, replace
from inspect import signature
from pathlib import Path
from typing import Any, get_args, get_type_hints

import torch
from accelerate import Accelerator
from accelerate.utils import set_seed
from torch import nn

from ganaug import Generator, InputError, LabelledImages, PublishError, publish
from ganaug.cli.flags import command, parse_again, run
from ganaug.cli.images import DataArguments, keep_labels, open_all
from ganaug.cli.train_flags import checkpoint_of, with_saved_flags
from ganaug.hub.weights import WEIGHTS
from ganaug.training import (
    MODELS,
    Checkpoint,
    GANTrainer,
    RunFolder,
    Trainer,
    check_same_run,
    choose_preset,
    hold_back,
    init_from,
    kimg_within,
    make_trainer,
    new_run_folder,
    start_accelerator,
    train,
)
from ganaug.training.presets import ENOUGH, QUICK, WIDE, Preset
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


def layer_tables(trainer: Trainer) -> str:
    """Layers, shapes and numbers of weights of all networks in training."""
    generator = trainer.bare_generator
    labels = torch.zeros(2, dtype=torch.int64)
    tables = [_table(generator, torch.zeros(2, generator.latent_dim), labels)]
    if isinstance(trainer, GANTrainer):
        images = torch.zeros(2, generator.channels, generator.image_size, generator.image_size)
        tables.append(_table(trainer.bare_discriminator, images, labels))
    return "\n".join(tables)


def _table(network: nn.Module, *inputs: torch.Tensor) -> str:
    from torchinfo import summary  # takes a moment to import

    columns = ("output_size", "num_params", "trainable")
    return str(summary(network, input_data=inputs, col_names=columns, depth=4, verbose=0, device="cpu"))


def check_hub_flags(args: Any) -> None:
    """Refuse, before training, what would fail after it."""
    if args.push_to_hub and (args.hub_model_id is None or args.licence is None):
        raise InputError("push_to_hub needs hub_model_id (user/repo) and licence (such as mit)")


def publish_run(path: Path, args: Any) -> None:
    """Publish the generator of a run; where that fails, say how to do it later."""
    last = path / "training" / "last"
    folder = last if args.hub_strategy == "end" and last.exists() else path
    try:
        made = publish(folder, args.hub_model_id, licence=args.licence, private=args.hub_private_repo or None)
    except PublishError as error:
        again = f"python recipes/publish.py {folder} {args.hub_model_id} --licence {args.licence}"
        raise PublishError(f"{error}. The generator is in {folder}. To publish it: {again}") from error
    print(f"\npublished: {made.url}")


def run_recipe(arguments: type[Any], description: str | None) -> None:
    """Parse the flags, whose defaults are the chosen model's, and train."""
    parser = ArgumentParser(add_help=False, allow_abbrev=False)
    models = get_args(get_type_hints(arguments)["model"])
    parser.add_argument("--model", default=arguments.model, choices=models)
    model = parser.parse_known_args()[0].model
    system = MODELS[QUICK if model == "auto" else model]
    defaults = arguments(model=model, training=system.settings, objective=system.objective)
    run(arguments, main, description, default=replace(defaults, data=DataArguments(resolution=system.resolution)))
