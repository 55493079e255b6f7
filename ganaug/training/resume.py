"""Going on from a checkpoint: the same run, or none."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from ganaug.core.errors import InputError
from ganaug.training.checkpoints import IN_RUN, Checkpoint, Checkpoints, open_checkpoint
from ganaug.training.trainer import Trainer

# What a run leaves on disk, and when; nothing that is trained depends on it.
WATCHING = ("log_kimg", "sample_kimg", "checkpointing_kimg", "checkpoints_total_limit")
# What changes results, as much as another machine would or by training longer, but leaves steps what they are.
BUDGET = ("total_kimg", "evaluation_kimg", "patience", "mixed_precision", "cpu_threads", "compile")


def run_settings(trainer: Trainer) -> dict[str, Any]:
    """What the steps of a run depend on, as JSON values."""
    network = trainer.bare_generator
    values = {
        **asdict(trainer.settings),
        **trainer.facts(),
        "mixed_precision": trainer.accelerator.mixed_precision,
        "num_processes": trainer.accelerator.num_processes,
        "architecture": network.architecture,
        **network.network_options(),
        "images": trainer.data.fingerprint,
    }
    return {name: list(value) if isinstance(value, tuple) else value for name, value in values.items()}


def check_same_run(checkpoint: Checkpoint, trainer: Trainer, *, override: bool = False) -> None:
    """Refuse to go on with other settings than a checkpoint was made with.

    Args:
        checkpoint (Checkpoint): to go on from.
        trainer (Trainer): that would.
        override (bool): take another budget, precision or number of threads. Default: False

    Raises:
        InputError: settings differ.
    """
    saved: Mapping[str, Any] = checkpoint.facts["settings"]
    here = run_settings(trainer)
    names = [name for name in {**saved, **here} if name not in WATCHING and saved.get(name) != here.get(name)]
    firm = [name for name in names if name not in BUDGET]
    refused = firm if override else names
    if refused:
        changes = "; ".join(f"{name}: {saved.get(name)} there, {here.get(name)} here" for name in refused)
        advice = "Start another run, if need be from its generator with init_from" if firm else "Go on with override"
        raise InputError(f"{checkpoint.path} was made with other settings. {changes}. {advice}")


def find_checkpoint(where: str | Path) -> Checkpoint:
    """The checkpoint of a folder of its own, or the newest whole one of a run's folder.

    Raises:
        InputError: there is none.
        LoadError: the one that was asked for is damaged.
    """
    path = Path(where)
    if path.name.startswith("step-"):
        return open_checkpoint(path)
    folder = path / IN_RUN
    found = Checkpoints(folder).newest()
    if found is None:
        raise InputError(f"no whole checkpoint in {folder}. Give the folder of a run, or start without resuming")
    return found
