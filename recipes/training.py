"""What the train_*.py recipes share: their flags, and a run from data to saved generator."""

from __future__ import annotations

from argparse import ArgumentParser
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal, get_args, get_type_hints

import torch
from arguments import DataArguments, run
from layer_table import layer_tables
from resuming import checkpoint_of, with_saved_flags
from starting import hold_back, new_trainer, open_all, run_folder, with_choices

from ganaug import Generator, InputError, PublishError, publish
from ganaug.training import SYSTEMS, GANObjective, TrainingSettings, check_same_run, start_accelerator, train
from ganaug.training.presets import QUICK
from ganaug.training.run_page import write_run_page


@dataclass(frozen=True)
class TrainingArguments:
    """Flags of every training recipe.

    Args:
        unlabeled_data: Folder of further images, or another source of them; labels that they may have are not looked
            at. They are labelled by classifiers trained on the labelled ones, with init_from on images of that
            generator too, and trained on.
        output_dir: Folder for the generator, its card and the files of the run; by default outputs/ and the
            name of its architecture, with -2 and so on where that is taken.
        report_to: Show the monitors and grids in this tracker; TensorBoard's are in training/logs. The monitors always
            go to training/metrics.jsonl.
        latent_dim: Length of the generator's latent vector; by default that of the model. A flow has one number for
            each value of an image, and takes no other.
        init_from: Folder or Hub id of a trained generator of the same model to start from; its classes may be others.
        budget_minutes: Train no longer than about this: a few steps are timed, and the budget in kimg is lowered if it
            would take more. Without a model, a network that needs less time is taken where that is better.
        resume_from_checkpoint: Go on with a run that was stopped: latest, of output_dir or of all in outputs/, or the
            folder of a run or of one of its checkpoints. Its flags need not be given again.
        override: With resume_from_checkpoint, train to another total_kimg, or with another precision or number of
            threads.
        summary: Print a table of the layers of both networks first.
        push_to_hub: Publish the generator when it is trained; see recipes/publish.py.
        hub_model_id: Where to, as user/repo.
        hub_strategy: Publish the best generator of the run, which is the one that is saved, or the one at its end.
        hub_private_repo: Make a new repository private.
        licence: Of the generator, for its card, such as mit.
    """

    data: DataArguments = field(default_factory=DataArguments)
    training: TrainingSettings = field(default_factory=TrainingSettings)
    objective: GANObjective = field(default_factory=GANObjective)
    unlabeled_data: str | None = None
    output_dir: Path | None = None
    report_to: Literal["tensorboard", "trackio", "wandb", "none"] = "tensorboard"
    latent_dim: int | None = None
    init_from: str | None = None
    budget_minutes: float | None = None
    resume_from_checkpoint: str | None = None
    override: bool = False
    summary: bool = False
    push_to_hub: bool = False
    hub_model_id: str | None = None
    hub_strategy: Literal["best", "end"] = "best"
    hub_private_repo: bool = False
    licence: str | None = None

    def network_options(self) -> dict[str, Any]:
        """Arguments of the generator beside those that the images give."""
        return {} if self.latent_dim is None else {"latent_dim": self.latent_dim}


def main(given: Any) -> None:
    """Train, save, publish if that is asked for, and say how to use what was saved."""
    check_hub_flags(given)
    checkpoint = checkpoint_of(given)
    args = with_saved_flags(given, checkpoint) if checkpoint else given
    accelerator = start_accelerator(args.training, report_to=args.report_to)
    images, labelled = open_all(args, accelerator)
    if checkpoint is None:
        args = with_choices(args, images, labelled, accelerator)
    images, held_out = hold_back(args.training, images, labelled)
    trainer = new_trainer(args, images, accelerator)
    if checkpoint:
        check_same_run(checkpoint, trainer, override=args.override)
        accelerator.print(f"going on after {checkpoint.facts['kimg']:.1f} kimg, from {checkpoint.path}")
    folder = run_folder(args, trainer, checkpoint) if accelerator.is_main_process else None
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
    system = SYSTEMS[QUICK if model == "auto" else model]
    defaults = arguments(model=model, training=system.settings, objective=system.objective)
    run(arguments, main, description, default=replace(defaults, data=DataArguments(resolution=system.resolution)))
