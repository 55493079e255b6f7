"""Checkpoints on disk, whole or not there, and going on from one: the same run, or none."""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from ganaug.core import fingerprints
from ganaug.core.errors import InputError, LoadError
from ganaug.core.files import atomic_path, remove, sha256_of, write_json, write_tensors
from ganaug.training.trainer import Trainer

logger = logging.getLogger(__name__)

IN_RUN = Path("training") / "checkpoints"  # where they are in a run's folder
MANIFEST = "manifest.json"
FORMAT = 2

# What a run leaves on disk, and when; nothing that is trained depends on it.
WATCHING = ("log_kimg", "sample_kimg", "checkpointing_kimg", "checkpoints_total_limit")
# What changes results, as much as another machine would or by training longer, but leaves steps what they are.
BUDGET = ("total_kimg", "evaluation_kimg", "patience", "mixed_precision", "cpu_threads", "compile")

State = Mapping[str, Mapping[str, Tensor]]  # of each part of a run, tensors by name


@dataclass(frozen=True)
class Checkpoint:
    """A checkpoint that was found to be whole.

    Attributes:
        path (Path): its folder, ``step-00001234``.
        step (int): number of steps that were taken.
        facts (dict): what the run says of itself; JSON values.
        written (float): when, in seconds since the epoch.
    """

    path: Path
    step: int
    facts: dict[str, Any]
    written: float

    @property
    def run(self) -> Path:
        """Folder of the run."""
        return self.path.parents[2]

    def state(self) -> dict[str, dict[str, Tensor]]:
        """The tensors of each part, on the CPU."""
        try:
            return {file.stem: load_file(file) for file in sorted(self.path.glob("*.safetensors"))}
        except (OSError, SafetensorError) as error:
            raise LoadError(f"checkpoint {self.path} cannot be read: {error}") from error


def open_checkpoint(path: str | Path) -> Checkpoint:
    """Check that a checkpoint is as it was written.

    Raises:
        LoadError: a file is missing, or has another size or content than its manifest says.
    """
    path = Path(path)
    manifest = _read_manifest(path)
    for name, wanted in manifest["files"].items():
        file = path / name
        found = file.stat().st_size if file.is_file() else None
        if found != wanted["bytes"]:
            what = "is missing" if found is None else f"has {found:,} bytes instead of {wanted['bytes']:,}"
            raise LoadError(f"checkpoint {path} is damaged: {name} {what}")
        if sha256_of(file) != wanted["sha256"]:
            raise LoadError(f"checkpoint {path} is damaged: {name} has another content than it was written with")
    return Checkpoint(path, manifest["step"], manifest["facts"], manifest["written"])


class Checkpoints:
    """The checkpoints of a run.

    Args:
        folder (str or Path): where they are, or will be.
        limit (int): how many are kept; the ones written last. Default: all
    """

    def __init__(self, folder: str | Path, limit: int | None = None) -> None:
        self.folder = Path(folder)
        self.limit = limit

    def save(self, step: int, state: State, facts: Mapping[str, Any]) -> Path:
        """Write a checkpoint; when it is whole and on the disk, remove those beyond the limit.

        Args:
            step (int): number of steps that were taken.
            state (mapping): what :meth:`Checkpoint.state` gives back.
            facts (mapping): what :attr:`Checkpoint.facts` gives back; JSON values.

        Raises:
            OSError: it cannot be written. The earlier ones are still there.
        """
        final = self.folder / f"step-{step:08d}"
        with atomic_path(final) as temporary:
            temporary.mkdir()
            for name, tensors in state.items():
                write_tensors(temporary / f"{name}.safetensors", tensors)
            files = sorted(temporary.iterdir())
            manifest = {
                "format": FORMAT,
                "step": step,
                "written": time.time(),
                "versions": {"ganaug": version("ganaug"), "torch": torch.__version__},
                "facts": dict(facts),
                "files": {file.name: {"bytes": file.stat().st_size, "sha256": sha256_of(file)} for file in files},
            }
            write_json(temporary / MANIFEST, {**manifest, "sha256": fingerprints.of_values(manifest)})
        for old in [] if self.limit is None else self._newest_first()[self.limit :]:
            remove(old)
        return final

    def newest(self) -> Checkpoint | None:
        """The checkpoint that was written last of those that are whole; a warning for each one that is not."""
        for path in self._newest_first():
            try:
                return open_checkpoint(path)
            except LoadError as error:
                logger.warning("%s. The one before it is used", error)
        return None

    def _newest_first(self) -> list[Path]:
        found = [path for path in self.folder.glob("step-*") if path.is_dir()]
        return sorted(found, key=lambda path: (_written(path), path.name), reverse=True)


def _written(path: Path) -> float:
    # A manifest that cannot be read says nothing; its folder was last changed about when it was made.
    try:
        return float(_read_manifest(path)["written"])
    except LoadError:
        return path.stat().st_mtime


def _read_manifest(path: Path) -> dict[str, Any]:
    if not path.is_dir():
        raise LoadError(f"no checkpoint {path}")
    try:
        manifest: dict[str, Any] = json.loads((path / MANIFEST).read_bytes())
        digest = manifest.pop("sha256")
    except FileNotFoundError:
        raise LoadError(f"checkpoint {path} is damaged: {MANIFEST} is missing") from None
    except (OSError, ValueError, KeyError, AttributeError, TypeError):
        raise LoadError(f"checkpoint {path} is damaged: {MANIFEST} cannot be read") from None
    if digest != fingerprints.of_values(manifest):
        raise LoadError(f"checkpoint {path} is damaged: {MANIFEST} has another content than it was written with")
    if manifest["format"] != FORMAT:
        raise LoadError(f"checkpoint {path} has format {manifest['format']}, this ganaug reads format {FORMAT}")
    return manifest


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
