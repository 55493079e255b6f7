"""The parts of a training run that every training command has: what it starts from, its folder, its last words."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import asdict, fields, replace
from functools import partial
from inspect import signature
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from accelerate.utils import set_seed
from torch import nn

from ganaug import Generator, InputError, LabelledImages, PublishError, publish
from ganaug.cli.flags import command
from ganaug.cli.train_flags import (
    FLAGS,
    NETWORK,
    Arguments,
    ModelArguments,
    RunArguments,
    TrainingArguments,
    with_defaults,
)
from ganaug.core.files import json_text
from ganaug.core.hardware import cpu_threads
from ganaug.core.integers import check_minutes
from ganaug.generators.flow import check_steps
from ganaug.hub.missing import RUNS
from ganaug.hub.weights import WEIGHTS
from ganaug.training import (
    MODELS,
    Checkpoint,
    RunFolder,
    Trainer,
    TrainingSettings,
    check_same_run,
    init_from,
    new_run_folder,
    preset_within,
    train,
)
from ganaug.training.adversarial import AdversarialTrainer
from ganaug.training.checkpoints import check_held_out
from ganaug.training.distributed import check_same_on_all
from ganaug.training.models import model_of
from ganaug.training.preflight import Preflight, cost, cost_of
from ganaug.training.presets import QUICK, Preset, in_kimg, models_with_presets, seconds_to_time, time_training
from ganaug.training.run_folder import read_settings
from ganaug.training.run_page import write_run_page

# Flags that can name a folder.
PLACES = ("train_data_dir", "dataset_name", "unlabeled_data", "init_from", "generator")


def say(accelerator: Accelerator, what: object) -> None:
    """Print on the main process alone; accelerate's own print does so once on each machine."""
    if accelerator.is_main_process:
        print(what)


def check_same_start(
    args: RunArguments,
    images: LabelledImages,
    accelerator: Accelerator,
    checkpoint: Checkpoint | None,
    **further: Any,
) -> None:
    """Refuse, on all processes, to train on a machine that has other images, another checkpoint or other flags.

    Args:
        args (RunArguments): the flags.
        images (LabelledImages): with labels, as they were opened.
        accelerator (Accelerator): of the run.
        checkpoint (Checkpoint, optional): that it goes on from. Default: it starts anew
        further: JSON values by name that must be the same too.

    Raises:
        InputError: a process differs from the main one.
    """
    if accelerator.num_processes == 1:  # it would read all images for nothing
        return
    # Flags come from the checkpoint's run. Another run, or an older copy, may have one of the same step.
    same = {"step to resume after": checkpoint and checkpoint.step, "written at": checkpoint and checkpoint.written}
    check_same_on_all(accelerator, same)
    facts = {
        "number of images": len(images),
        "fingerprint of the images": images.fingerprint,
        "precision": accelerator.mixed_precision,
        "budget_minutes": args.budget_minutes,
        **{name: value is not None if name in PLACES else value for name, value in args.what_is_trained().items()},
        **{flag: getattr(args, flag, None) for flag in NETWORK},
        **asdict(args.training),
    }
    check_same_on_all(accelerator, facts | further)


def new_generator(args: TrainingArguments, images: LabelledImages) -> Generator:
    """The generator of the flags' model as it starts: with random weights, or those of --init_from.

    Global random states are set by the flags' seed, so that the networks made next start alike each time.

    Raises:
        InputError: the model has no use for an option or a setting, or init_from is a generator of another form or
            of another model than the user asked for.
    """
    set_seed(args.training.seed)
    model, options = MODELS[args.model], args.network_options()
    for name in options:
        flag = FLAGS[name]
        having = [each for each, other in MODELS.items() if name in signature(other.generator).parameters]
        if args.model not in having:
            raise InputError(
                f"{args.model} has no {flag} to choose. Leave out --{flag}, or train a model that has it: "
                f"{', '.join(having)}"
            )
    if args.passes is not None:
        check_steps(args.passes, "passes")
    model.trainer.check_settings(args.training, args.objective)  # before a generator is fetched
    if args.init_from is None:
        return model.make_generator(images, **options)
    trained = Generator.from_pretrained(args.init_from)
    found = model_of(trained)
    # Models that differ in options alone: those of the trained network would silently go before what was asked for.
    if "model" in args.given and found not in (None, args.model) and MODELS[found].generator is model.generator:
        raise InputError(
            f"--model asks for {args.model}, and {args.init_from} is of {found} ({_options(trained)}), which stays "
            f"what it is when it is trained further. Give --model {found} to go on with it, or leave out --init_from "
            f"to train {args.model}"
        )
    if isinstance(trained, model.generator) or issubclass(model.generator, type(trained)):
        taken = signature(model.generator).parameters
        known = {name: value for name, value in trained.network_options().items() if name in taken}
        options = {**known, **options}
    generator = model.make_generator(images, **options)
    init_from(generator, trained)
    return generator


def _options(generator: Generator) -> str:
    """A network's options, in words."""
    return ", ".join(f"{FLAGS.get(name, name)} {value}" for name, value in generator.network_options().items())


def _asked_for(args: TrainingArguments) -> str | None:
    """The model that the flags name, or else that of the flow they start from; None to choose one for the images."""
    if args.model != "auto":
        return args.model
    if args.init_from is None:
        return None
    MODELS[QUICK].trainer.check_settings(args.training, args.objective)  # before a generator is fetched
    found = model_of(Generator.from_pretrained(args.init_from))
    return found if found and MODELS[found].generator is MODELS[QUICK].generator else None


def with_choices(
    args: ModelArguments,
    images: LabelledImages,
    labelled: LabelledImages,
    accelerator: Accelerator,
    new_trainer: Callable[[ModelArguments, LabelledImages, Accelerator], Trainer],
) -> ModelArguments:
    """The flags, with what the user left open filled in: a preset, and a length that fits the budget.

    What is known before the training starts is printed.

    Args:
        args (TrainingArguments): the flags.
        images (LabelledImages): what will be trained on.
        labelled (LabelledImages): those of it that came with labels.
        accelerator (Accelerator): of the run.
        new_trainer (callable): makes a trainer of the flags' model, of which a few steps are timed.
    """

    asked = _asked_for(args)
    if asked and asked not in models_with_presets():
        chosen, takes = within_budget(args, partial(new_trainer, args, images, accelerator))
        model = f"{asked}, as you asked, for {in_kimg(chosen.training.total_kimg)}"
        say(accelerator, Preflight(labelled, model, takes))
        return chosen

    told: list[str] = []  # the last is of the preset that is taken

    def settings_of(preset: Preset) -> TrainingSettings:
        own = with_preset(args, preset, accelerator.num_processes)
        chosen, takes = within_budget(own, partial(new_trainer, own, images, accelerator))
        told.append(takes)
        return chosen.training

    preset = preset_within(images, settings_of, labelled=labelled, model=asked)
    say(accelerator, Preflight(labelled, preset, told[-1]))
    return replace(args, model=preset.model, training=preset.settings)


def within_budget(args: Arguments, new_trainer: Callable[[], Trainer]) -> tuple[Arguments, str]:
    """The flags with a length that fits into the minutes they give, and what that takes, in words.

    Args:
        args (RunArguments): the flags.
        new_trainer (callable): makes a trainer of these flags, of which a few steps are timed.
    """
    if args.budget_minutes is None:
        return args, cost_of(new_trainer, args.training)
    check_minutes("budget_minutes", args.budget_minutes)
    pace = time_training(new_trainer(), seconds=seconds_to_time(args.budget_minutes))
    kimg = min(pace.kimg_within(args.budget_minutes), args.training.total_kimg)
    return replace(args, training=replace(args.training, total_kimg=kimg)), cost(pace, kimg)


def with_preset(args: ModelArguments, preset: Preset, num_processes: int) -> ModelArguments:
    """The flags with a preset where the user gave none."""
    return replace(with_settings(args, preset.settings, num_processes), model=preset.model)


def with_settings(args: Arguments, settings: TrainingSettings, num_processes: int) -> Arguments:
    """The flags with settings where the user gave none; their batch is that of all processes together."""
    share = max(1, settings.train_batch_size // num_processes)
    return with_defaults(args, training=replace(settings, train_batch_size=share))


def start_run(
    args: RunArguments, trainer: Trainer, checkpoint: Checkpoint | None, held_out: LabelledImages | None
) -> RunFolder | None:
    """Open the run's folder, write its settings there, and say what is trained; None on all ranks but the main one.

    Raises:
        InputError: the checkpoint was made with other settings, or the folder holds a run or cannot be written to.
    """
    accelerator = trainer.accelerator
    if checkpoint:
        check_same_run(checkpoint, trainer, override=args.override, names=FLAGS)
        check_held_out(checkpoint, held_out)
        say(accelerator, f"going on after {checkpoint.facts['kimg']:.1f} kimg, from {checkpoint.path}")
    folder = run_folder(args, trainer, checkpoint) if accelerator.is_main_process else None
    _, why = cpu_threads(trainer.settings.cpu_threads)
    shares = f", which compute {trainer.shares} shares of each batch side by side" if trainer.shares > 1 else ""
    say(
        accelerator,
        f"images: {trainer.data}\n"
        f"held back, to choose a generator by: {held_out or 'none, so the last one is saved'}\n"
        f"device: {accelerator.device}, processes: {accelerator.num_processes}, "
        f"threads: {torch.get_num_threads()} ({why}){shares}, precision: {accelerator.mixed_precision}\n"
        f"output: {folder and folder.path}",
    )
    if accelerator.is_local_main_process and not accelerator.is_main_process:
        print(f"process {accelerator.process_index} of the same run; what it says and writes is on the first machine")
    if args.summary:
        say(accelerator, layer_tables(trainer))
    return folder


def run_folder(args: RunArguments, trainer: Trainer, checkpoint: Checkpoint | None) -> RunFolder:
    """The folder of the run, with its settings."""
    flags = saved_flags(args, trainer)
    if checkpoint is not None:
        folder = RunFolder(checkpoint.run, after_kimg=checkpoint.facts["kimg"])
        before = read_settings(folder.path)
        old = before or {}
        # The card has the settings of the end; it shows the commands that changed them too.
        commands: dict[str, Any] = {name: old[name] for name in ("command", "resumed_with") if name in old}
        if any(old.get(field.name) != flags[field.name] for field in fields(TrainingSettings)):
            commands["resumed_with"] = [*commands.get("resumed_with", []), command(args.from_file)]
        if {**commands, **flags} != before:
            folder.write_settings({**commands, **flags})
        return folder
    wanted = args.output_dir or new_run_folder(RUNS / trainer.bare_generator.architecture)
    # A run that was stopped before its first checkpoint starts over in the same folder.
    again = args.resume_from_checkpoint == "latest" and not (wanted / WEIGHTS).exists()
    folder = RunFolder(wanted, after_kimg=0 if again else None)
    folder.write_settings({"command": command(args.from_file), **flags})
    return folder


def saved_flags(args: RunArguments, trainer: Trainer) -> dict[str, Any]:
    """The flags that a run is resumed with, as JSON values; folders as they are found from anywhere."""

    def kept(value: Any) -> Any:
        return str(Path(value).absolute()) if isinstance(value, str | Path) and Path(value).exists() else value

    what = {name: kept(value) if name in PLACES else value for name, value in args.what_is_trained().items()}
    data = {name: kept(value) if name in PLACES else value for name, value in asdict(args.data).items()}
    flags = {
        **{name: value for name, value in what.items() if value is not None},
        **asdict(args.training),
        "network": trainer.bare_generator.network_options(),
        "data": {name: value for name, value in data.items() if value is not None},
    }
    found: dict[str, Any] = json.loads(json_text(flags))
    return found


def layer_tables(trainer: Trainer) -> str:
    """Layers, shapes and numbers of weights of all networks in training."""
    generator = trainer.bare_generator
    labels = torch.zeros(2, dtype=torch.int64)
    tables = [_table(generator, torch.zeros(2, generator.latent_dim), labels)]
    if isinstance(trainer, AdversarialTrainer):
        images = torch.zeros(2, generator.channels, generator.image_size, generator.image_size)
        tables.append(_table(trainer.bare_discriminator, images, labels))
    return "\n".join(tables)


def _table(network: nn.Module, *inputs: torch.Tensor) -> str:
    try:
        from torchinfo import summary  # takes a moment to import
    except ImportError as error:
        raise InputError('--summary needs torchinfo: pip install "ganaug[recipes]"') from error

    columns = ("output_size", "num_params", "trainable")
    return str(summary(network, input_data=inputs, col_names=columns, depth=4, verbose=0, device="cpu"))


def finish_run(
    args: RunArguments,
    trainer: Trainer,
    folder: RunFolder | None,
    checkpoint: Checkpoint | None,
    held_out: LabelledImages | None,
) -> None:
    """Train, save, publish if that is asked for, and say how to use what was saved."""
    generator = train(trainer, folder, resume=checkpoint, held_out=held_out)
    trainer.accelerator.end_training()
    if folder:
        write_run_page(folder.path)
        print(how_to_use(generator, folder.path))
        publish_run(args, folder.path)


def how_to_use(generator: Generator, path: Path) -> str:
    """Where to look at a saved generator, and the lines that load it and draw from it."""
    use = (
        "train = ConditionalGANAugment(dataset, generator, ratio=0.3)"
        if generator.conditional
        else "images = generator.sample([0] * 10)  # of no class in particular: this generator has none"
    )
    return (
        f"\nLook at it: {path / 'training' / 'run.html'}\n"
        "\nUse it:\n"
        "from ganaug import ConditionalGANAugment, Generator\n"
        f"generator = Generator.from_pretrained({str(path)!r})\n"
        f"{use}"
    )


def publish_run(args: RunArguments, path: Path) -> None:
    """Publish the generator of a run where --push_to_hub asks for it.

    Raises:
        PublishError: publishing failed; the message says how to do it later.
    """
    if not args.push_to_hub:
        return
    assert args.hub_model_id is not None  # see check_hub_flags
    last = path / "training" / "last"
    folder = last if args.hub_strategy == "end" and last.exists() else path
    try:
        made = publish(folder, args.hub_model_id, licence=args.licence, private=args.hub_private_repo or None)
    except PublishError as error:
        again = f"ganaug publish {folder} {args.hub_model_id} --licence {args.licence}"
        raise PublishError(f"{error}. The generator is in {folder}. To publish it: {again}") from error
    print(f"\npublished: {made.url}")
