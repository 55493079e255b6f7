"""Flags of training, and those of a run that was stopped."""

from __future__ import annotations

import json
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any, Literal

from ganaug import InputError
from ganaug.cli.flags import parse_again
from ganaug.cli.images import DataArguments
from ganaug.training import Checkpoint, GANObjective, TrainingSettings, find_checkpoint
from ganaug.training.checkpoints import IN_RUN


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
            folder of a run or of one of its checkpoints. Its flags need not be given again, but those of publishing
            and report_to.
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


def checkpoint_of(args: Any) -> Checkpoint | None:
    """What the flags say to go on from; None to start anew.

    Raises:
        InputError: it is not there, or of another run than output_dir.
    """
    where = args.resume_from_checkpoint
    if where is None:
        return None
    if where == "latest":
        run = args.output_dir or latest_run(Path("outputs"))
        if run is None or not any(run.glob(f"{IN_RUN}/step-*")):
            print(f"no checkpoint in {run or 'outputs'}: the run starts anew")
            return None
        return find_checkpoint(run)
    checkpoint = find_checkpoint(where)
    if args.output_dir is not None and args.output_dir.resolve() != checkpoint.run.resolve():
        raise InputError(f"{checkpoint.path} is not of a run in {args.output_dir}. Leave output_dir out")
    return checkpoint


def latest_run(folder: Path) -> Path | None:
    """The run in a folder that wrote a checkpoint last."""
    found = folder.glob(f"*/{IN_RUN}/step-*")
    newest = max(found, key=lambda path: path.stat().st_mtime, default=None)
    return None if newest is None else newest.parents[2]


def with_saved_flags(given: Any, checkpoint: Checkpoint) -> Any:
    """The flags of the run where the user gave none."""
    saved = json.loads((checkpoint.run / "training" / "settings.json").read_text())
    own = {field.name for field in fields(given)}
    data = saved["data"]
    if "train_data_dir" in data:
        data["train_data_dir"] = Path(data["train_data_dir"])
    default = replace(
        given,
        **{name: value for name, value in saved["network"].items() if name in own},
        model=saved["model"],
        training=TrainingSettings(**{field.name: saved[field.name] for field in fields(TrainingSettings)}),
        objective=GANObjective(**saved["objective"]),
        data=DataArguments(**data),
        unlabeled_data=saved.get("unlabeled_data"),
        init_from=saved.get("init_from"),
        budget_minutes=None,  # what fits into them was found out at the start
    )
    # Parsed once more, so that what the user gave stays, to be refused or to be taken.
    return replace(parse_again(default), budget_minutes=None)
