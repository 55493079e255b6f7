"""Flags of training: their defaults are the model's, a preset's or a stopped run's; what the user gave goes before."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields, is_dataclass, make_dataclass, replace
from functools import partial
from inspect import signature
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar, get_args, get_type_hints

import tyro

from ganaug import InputError
from ganaug.cli.config import fields_of_flags, flags_of, without_config
from ganaug.cli.flags import parse
from ganaug.cli.images import DataArguments
from ganaug.hub.missing import CHECKPOINTS, RUNS, SETTINGS
from ganaug.training import MODELS, Checkpoint, GANObjective, TrainingSettings, find_checkpoint
from ganaug.training.checkpoints import Progress
from ganaug.training.presets import QUICK, models_with_presets, possible_settings
from ganaug.training.run_folder import read_settings

NETWORK = {"passes": "steps"} | {name: name for name in ("latent_dim", "conditioning", "norm_after_sigmoid")}
FLAGS = {option: flag for flag, option in NETWORK.items()}  # of a network's options, where they are flags
PARTS = ("objective", "data", "network")  # of a run's settings, whose other flags stand side by side


@dataclass(frozen=True)
class RunArguments:
    """Flags of every command that trains a generator.

    Args:
        output_dir: Folder for the generator, its card and the files of the run; by default outputs/ and the
            name of its architecture, with -2 and so on where that is taken.
        report_to: Show the monitors and grids in this tracker; TensorBoard's are in training/logs. The monitors always
            go to training/metrics.jsonl.
        budget_minutes: Train no longer than about this: a few steps are timed, and the budget in kimg is lowered if it
            would take more. Without a model, a network that needs less time is taken where that is better.
        resume_from_checkpoint: Go on with a run that was stopped: latest, of output_dir or of all in outputs/, or the
            folder of a run or of one of its checkpoints. Its flags need not be given again, but those of publishing
            and report_to.
        override: With resume_from_checkpoint, allow another total_kimg (but not of acgan, of a flow of fewer than 8
            passes, or of one that is adapted, whose phases would have other lengths), evaluation_kimg, patience,
            precision, number of threads, or compile.
        summary: Print a table of the layers of both networks first.
        push_to_hub: Publish the generator when it is trained, as ganaug publish does.
        hub_model_id: Where to, as user/repo.
        hub_strategy: Publish the best generator of the run, which is the one that is saved, or the one at its end.
        hub_private_repo: Make a new repository private.
        licence: Of the generator, for its card, such as mit.
        given: Names of the flags that the user gave; not a flag.
        from_file: Words that the file of config stood for; not a flag.
    """

    CHOICE = ""  # the flag that says what is trained, or from what; itself not one, as it has no type

    data: DataArguments = field(default_factory=DataArguments)
    training: TrainingSettings = field(default_factory=TrainingSettings)
    output_dir: Path | None = None
    report_to: Literal["tensorboard", "trackio", "wandb", "none"] = "tensorboard"
    budget_minutes: float | None = None
    resume_from_checkpoint: str | None = None
    override: bool = False
    summary: bool = False
    push_to_hub: bool = False
    hub_model_id: str | None = None
    hub_strategy: Literal["best", "end"] = "best"
    hub_private_repo: bool = False
    licence: str | None = None
    given: tyro.conf.Suppress[tyro.conf.Fixed[frozenset[str]]] = frozenset()
    from_file: tyro.conf.Suppress[tyro.conf.Fixed[tuple[str, ...]]] = ()

    def what_is_trained(self) -> dict[str, Any]:
        """The flags that say what is trained, besides the images, the settings and the network's options."""
        return {}

    def goes_on_with(self, saved: Mapping[str, Any]) -> bool:
        """Whether this command can go on with a run that has these settings."""
        return False


@dataclass(frozen=True)
class TrainingArguments(RunArguments):
    """Flags of every command that trains a generator of a model.

    Args:
        unlabeled_data: Folder of further images, or another source of them; labels that they may have are not looked
            at. They are labelled by classifiers trained on the labelled ones, with init_from on images of that
            generator too, and trained on.
        latent_dim: Length of the generator's latent vector; by default that of the model. A flow has one number for
            each value of an image, and takes no other.
        passes: Of a flow: passes through its network to draw an image, 8 by default. With fewer, the last third of
            the training is spent on learning to draw in so few.
        init_from: Folder or Hub id of a trained generator of the same model to start from, or of a flow for acgan; its
            classes may be others.
    """

    CHOICE = "model"

    model: str = "auto"
    objective: GANObjective = field(default_factory=GANObjective)
    unlabeled_data: str | None = None
    latent_dim: int | None = None
    passes: int | None = None
    init_from: str | None = None

    def what_is_trained(self) -> dict[str, Any]:
        """See :meth:`RunArguments.what_is_trained`."""
        others = {"unlabeled_data": self.unlabeled_data, "init_from": self.init_from}
        return {"model": self.model, "objective": asdict(self.objective), **others}

    def goes_on_with(self, saved: Mapping[str, Any]) -> bool:
        """See :meth:`RunArguments.goes_on_with`: if it has the model."""
        return "generator" not in saved and saved["model"] in get_args(get_type_hints(type(self))["model"])

    def network_options(self) -> dict[str, Any]:
        """Arguments of the generator beside those that the images give."""
        taken, options = signature(MODELS[self.model].generator).parameters, {}
        for flag in fields(self):
            value = getattr(self, flag.name)
            # One that was chosen for a network that does not have it is refused where the network is made.
            option = NETWORK.get(flag.name)
            if option and (value != flag.default or (option in taken and value is not None)):
                options[option] = value
        return options


Arguments = TypeVar("Arguments", bound=RunArguments)
ModelArguments = TypeVar("ModelArguments", bound=TrainingArguments)


def parse_training(
    arguments: type[ModelArguments],
    description: str | None = None,
    *,
    words: Sequence[str] | None = None,
    prog: str | None = None,
) -> ModelArguments:
    """As :func:`ganaug.cli.flags.parse`, with the chosen model's numbers as the defaults.

    Args:
        arguments (type): its field ``model`` is a Literal of names in :data:`ganaug.training.MODELS`, or auto.
        description, words, prog: as of :func:`ganaug.cli.flags.parse`.
    """
    words, from_file = words_with_config(words, arguments)
    if "--" in words or any(word.startswith("--tyro-") for word in words):
        # A shell asks for completion, or -- ends the flags, which tyro refuses: both are for the parser below.
        name, others = arguments.model, words
    else:
        # --model is taken out of the words first: it decides what the other flags are by default.
        choice = make_dataclass("Choice", [("model", get_type_hints(arguments)["model"], arguments.model)])
        chosen: Any
        chosen, others = tyro.cli(choice, args=words, prog=prog, return_unknown_args=True, add_help=False)
        name = chosen.model
    asked = None if name == "auto" else name
    model = MODELS[asked or QUICK]
    settings = model.settings
    if asked is None or asked in models_with_presets():
        settings = shown_as_presets(settings, possible_settings(asked))
    default = arguments(
        model=name,
        data=DataArguments(resolution=model.resolution),
        training=settings,
        objective=model.objective,
        given=fields_of_flags(words),
        from_file=tuple(from_file),
    )
    args = parse(arguments, description, default=default, words=others, prog=prog)
    return replace(args, training=TrainingSettings(**vars(args.training)))


def words_with_config(words: Sequence[str] | None, arguments: type[RunArguments]) -> tuple[list[str], list[str]]:
    """The words of a command with those that its ``--config`` stands for in the file's place, and these alone.

    The file may be the settings of a run.

    Args:
        words (sequence of str, optional): of the command. Default: those this program was started with
        arguments (type): its flags.
    """
    flags_in = partial(_flags_in_config, arguments=arguments)
    others, from_file = without_config(sys.argv[1:] if words is None else words, arguments, flags_in)
    return [*others, *from_file], from_file


def shown_as_presets(settings: TrainingSettings, possible: Sequence[TrainingSettings]) -> TrainingSettings:
    """The settings, whose ``--help`` says what is left to the preset that is chosen for the images.

    Args:
        settings (TrainingSettings): of a model.
        possible (sequence of TrainingSettings): those of its presets.
    """
    hinted = []
    for name, hint in get_type_hints(TrainingSettings).items():
        values = sorted({getattr(each, name) for each in possible}, key=str)
        if len(values) > 1:
            shown = f"(default: from the preset, {min(values):g} {'to' if len(values) > 2 else 'or'} {max(values):g})"
            hinted.append((name, Annotated[hint, tyro.conf.arg(help_behavior_hint=shown)], getattr(settings, name)))
    described = {"__doc__": TrainingSettings.__doc__}
    cls = make_dataclass("TrainingSettings", hinted, bases=(TrainingSettings,), namespace=described, frozen=True)
    shown_so: TrainingSettings = cls(**vars(settings))
    return shown_so


def flags_in_settings(saved: Mapping[str, Any], arguments: type[RunArguments]) -> dict[str, Any]:
    """The flags by name in what a run writes as ``training/settings.json``.

    Options of the network that are no flags are left out: they follow from the model, or from init_from.

    Raises:
        KeyError, TypeError, AttributeError: it is not as a run writes it.
    """
    flags = {name: value for name, value in saved.items() if name not in (*PARTS, "command", "resumed_with")}
    options = {FLAGS.get(name, name): value for name, value in saved["network"].items()}
    network = {name: value for name, value in options.items() if name in flags_of(arguments)}
    objective = saved["objective"] if issubclass(arguments, TrainingArguments) else {}
    return {**flags, **objective, **saved["data"], **network}


def _flags_in_config(file: Path, config: Mapping[str, Any], *, arguments: type[RunArguments]) -> Mapping[str, Any]:
    """The flags in a file of flags, which may be the settings of a run."""
    with_a_model = issubclass(arguments, TrainingArguments)
    if not {name for name in PARTS if with_a_model or name != "objective"} <= config.keys():
        return config
    try:
        flags = flags_in_settings(config, arguments)
        if not with_a_model:
            return flags
        model = MODELS[flags["model"]]
        usual = {name: parameter.default for name, parameter in signature(model.generator).parameters.items()}
        for name, value in config["network"].items():
            expected = {**usual, **model.network}.get(name)
            if FLAGS.get(name, name) not in flags and "init_from" not in flags and str(value) != str(expected):
                raise InputError(
                    f"{file}: the run's network had {name} {value}, and {flags['model']} has {expected} now. No flag "
                    f"changes that, so leave {name} out to train this one"
                )
    except (KeyError, TypeError, AttributeError) as error:
        raise InputError(f"{file} is not as a run writes it. Give the settings.json of a run as it is") from error
    return flags


def with_defaults(args: Arguments, **defaults: Any) -> Arguments:
    """Flags with other defaults, under what the user gave.

    Args:
        args (RunArguments): the flags.
        defaults: values of their fields. Of a nested dataclass the user's own fields stay, and the others change.
    """

    def under(default: Any, current: Any) -> Any:
        given = {name: getattr(current, name) for name in args.given & {field.name for field in fields(default)}}
        return replace(default, **given)

    changes = {
        name: under(value, getattr(args, name)) if is_dataclass(value) else value
        for name, value in defaults.items()
        if name not in args.given
    }
    return replace(args, **changes)


def checkpoint_of(args: Any) -> Checkpoint | None:
    """What the flags say to go on from; None to start anew.

    Raises:
        InputError: there is no such checkpoint, or it belongs to another run than output_dir.
    """
    where = args.resume_from_checkpoint
    if where is None:
        return None
    if where == "latest":
        run = args.output_dir or latest_run(RUNS)
        if run is None or not any(run.glob(f"{CHECKPOINTS}/step-*")):
            print(f"no checkpoint in {run or 'outputs'}: the run starts anew")
            return None
        return find_checkpoint(run)
    checkpoint = find_checkpoint(where)
    if checkpoint.path.resolve() != (checkpoint.run / CHECKPOINTS / checkpoint.path.name).resolve():
        raise InputError(
            f"{checkpoint.path} is not in the folder of a run. Put it into {CHECKPOINTS} of its run, and resume from "
            "there"
        )
    if args.output_dir is not None and args.output_dir.resolve() != checkpoint.run.resolve():
        raise InputError(f"{checkpoint.path} is not of a run in {args.output_dir}. Leave output_dir out")
    return checkpoint


def latest_run(folder: Path) -> Path | None:
    """The run in a folder that wrote a checkpoint last."""
    found = folder.glob(f"*/{CHECKPOINTS}/step-*")
    newest = max(found, key=lambda path: path.stat().st_mtime, default=None)
    return None if newest is None else newest.parents[2]


def with_saved_flags(args: Arguments, checkpoint: Checkpoint | None) -> Arguments:
    """The flags that a run was started with, under those that the user gave now; of a new run, the same.

    Raises:
        InputError: the run is of a model that this command does not train, it started from another generator than
            init_from, its images are not where they were, or its settings are missing or damaged and no model is
            given.
    """
    choice = getattr(args, args.CHOICE)
    if checkpoint is None:
        # A run that was stopped before its first checkpoint starts with its flags again, unless of another model now.
        begun = args.output_dir if args.resume_from_checkpoint == "latest" else None
        saved = (read_settings(begun) if begun else None) or {}
        if begun is None or (args.CHOICE in args.given and choice != saved.get(args.CHOICE)):
            return args
        return _under_flags_of(begun, args) or args
    found = _under_flags_of(checkpoint.run, args)
    if found is not None:
        if isinstance(args, TrainingArguments) and "init_from" in args.given:
            _check_init_from(args.init_from, (read_settings(checkpoint.run) or {}).get("init_from"), checkpoint.run)
        return found
    if choice in ("auto", None):
        raise InputError(
            f"{checkpoint.run / SETTINGS}, which has the flags of the run, is missing or damaged. Give them again, "
            f"first of all --{args.CHOICE} and those of the images; the checkpoint tells whether they are the same"
        )
    kept = Progress.of(checkpoint).settings
    training = TrainingSettings(**{field.name: kept[field.name] for field in fields(TrainingSettings)})
    return _without_budget(with_defaults(args, training=training))


def _under_flags_of(run: Path, args: Arguments) -> Arguments | None:
    """The flags of a run's settings, under those that the user gave now; None if its settings are not whole."""
    saved = read_settings(run)
    try:
        return None if saved is None else _under(saved, args, run)
    except (KeyError, TypeError, AttributeError):  # it is JSON, but not as we wrote it
        return None


def _under(saved: dict[str, Any], args: Arguments, run: Path) -> Arguments:
    if not args.goes_on_with(saved):
        command = "adapt" if "generator" in saved else "train"
        what = f"adapts {saved['generator']}" if "generator" in saved else f"trains {saved['model']}"
        raise InputError(
            f"{run} {what}, which this command does not. Resume it with: ganaug {command} "
            f"--resume_from_checkpoint {run}"
        )
    values = flags_in_settings(saved, type(args))
    values = {name: tuple(value) if isinstance(value, list) else value for name, value in values.items()}
    if "train_data_dir" in values:
        values["train_data_dir"] = where = Path(values["train_data_dir"])
        if not where.exists() and "train_data_dir" not in args.given:
            raise InputError(f"the images of {run} were in {where}, which is not there. Give --train_data_dir")
    training = TrainingSettings(**{field.name: values.pop(field.name) for field in fields(TrainingSettings)})
    nested = {"objective": GANObjective, "data": DataArguments}
    parts = {
        part: cls(**{field.name: values.pop(field.name) for field in fields(cls) if field.name in values})
        for part, cls in nested.items()
        if hasattr(args, part)
    }
    if getattr(args, args.CHOICE) == "auto":  # which the run has chosen for
        args = replace(args, given=args.given - {args.CHOICE})
    return _without_budget(with_defaults(args, training=training, **parts, **values))


def _check_init_from(asked: str | None, saved: str | None, run: Path) -> None:
    """Refuse another generator to start from than the run had; where that has been moved, it may be given anew."""
    if asked == saved:
        return
    # Folders were saved with their whole path, unlike ids of the Hub, which are no folder here either.
    if asked and saved and Path(saved).is_absolute():
        moved = not Path(saved).exists() and Path(asked).exists()
        if moved or Path(asked).absolute() == Path(saved):
            return
    raise InputError(
        f"{run} started from {saved or 'random weights'}, and goes on with what it learned since: --init_from "
        f"{asked} would change nothing. Leave it out, or start another run from that generator"
    )


def _without_budget(args: Arguments) -> Arguments:
    """The flags of a run that goes on: its length was fitted to a budget when it started."""
    if args.budget_minutes is not None:
        print(
            f"budget_minutes is left out: the run goes on to its end, at {args.training.total_kimg:g} kimg. To change "
            "that, give --total_kimg with --override"
        )
    return replace(args, budget_minutes=None)


def check_hub_flags(args: RunArguments) -> None:
    """Refuse, before training, what would fail after it.

    Raises:
        InputError: push_to_hub is given without hub_model_id or without licence.
    """
    if args.push_to_hub and (args.hub_model_id is None or args.licence is None):
        raise InputError("push_to_hub needs hub_model_id (user/repo) and licence (such as mit)")
