"""Going on with a run that was stopped: its checkpoint, and the flags it was started with."""

from __future__ import annotations

import json
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

from arguments import DataArguments, parse_again

from ganaug import InputError
from ganaug.training import Checkpoint, GANObjective, TrainingSettings, find_checkpoint
from ganaug.training.checkpoints import IN_RUN


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
