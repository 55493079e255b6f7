"""Checkpoints: folders that are either whole or not there, checked before use; and resuming a run from one."""

from __future__ import annotations

import json
import logging
import os
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from torch import Tensor

from ganaug.core import fingerprints
from ganaug.core.errors import InputError, LoadError
from ganaug.core.files import atomic_path, json_text, read_tensors, remove, sha256_of, write_json, write_tensors
from ganaug.data import LabelledImages
from ganaug.hub.missing import CHECKPOINTS
from ganaug.training.trainer import Trainer

logger = logging.getLogger(__name__)

MANIFEST = "manifest.json"
FORMAT = 2

# What a run writes, and how often: training does not depend on it, so it may differ when a run resumes.
WATCHING = ("log_kimg", "sample_kimg", "checkpointing_kimg", "checkpoints_total_limit")
# These change results, by a longer run or by as much as another machine would, but not what a step does. (Where a
# training has several phases, its length decides which phase a step is of.)
BUDGET = ("total_kimg", "evaluation_kimg", "patience", "mixed_precision", "cpu_threads", "compile")

State = Mapping[str, Mapping[str, Tensor]]  # the parts of a run by name, and of each its tensors by name


@dataclass(frozen=True)
class Checkpoint:
    """A checkpoint whose files were checked.

    Attributes:
        path (Path): its folder, ``step-00001234``.
        step (int): number of steps taken.
        facts (dict): what was saved beside the tensors, as JSON values; for a training run, :class:`Progress`.
        written (float): when, in seconds since the epoch, by this machine's clock.
        number (int): its place among those of its run in the order of writing, from 1; those of ganaug 0.1 have 0.
    """

    path: Path
    step: int
    facts: dict[str, Any]
    written: float
    number: int = 0

    @property
    def run(self) -> Path:
        """Folder of the run."""
        return Path(os.path.abspath(self.path)).parents[2]  # a relative path may begin in the run, or have .. in it

    def state(self) -> dict[str, dict[str, Tensor]]:
        """The tensors of each part of the run, on the CPU.

        Raises:
            LoadError: a file cannot be read.
        """
        try:
            return {file.stem: read_tensors(file) for file in sorted(self.path.glob("*.safetensors"))}
        except (OSError, SafetensorError) as error:
            raise LoadError(f"checkpoint {self.path} cannot be read: {error}") from error


@dataclass(frozen=True)
class Candidate:
    """An averaged generator that was scored.

    Attributes:
        step (int): number of steps it was trained for.
        kimg (float): the same in thousands of real images.
        scores (dict): ``"score"``, and the shares that it is the product of.
        signs (list of str): signs that training had failed by then, in sentences.
    """

    step: int
    kimg: float
    scores: dict[str, float]
    signs: list[str]


@dataclass(frozen=True)
class Progress:
    """What a training run saves in a checkpoint beside the tensors.

    Attributes:
        settings (dict): what its steps depend on, see :func:`run_settings`.
        kimg (float): thousands of real images shown so far.
        seconds (float): how long it has trained, resumed parts included.
        monitors (dict): their latest values.
        rollbacks (int): how often it was rolled back, see :class:`ganaug.training.recovery.Recovery`.
        candidates (list of Candidate): the generators scored so far.
        held_out (str, optional): fingerprint of the images that they were scored by; None if nothing was held out, or
            in checkpoints of earlier versions.
    """

    settings: dict[str, Any]
    kimg: float
    seconds: float
    monitors: dict[str, float]
    rollbacks: int
    candidates: list[Candidate]
    held_out: str | None = None

    @classmethod
    def of(cls, checkpoint: Checkpoint) -> Progress:
        """What a checkpoint of a training run says."""
        candidates = [Candidate(**values) for values in checkpoint.facts["candidates"]]
        return cls(**{**checkpoint.facts, "candidates": candidates})


def open_checkpoint(path: str | Path) -> Checkpoint:
    """Check that a checkpoint is still as it was written.

    Raises:
        LoadError: a file is missing, or its size or content differs from what the manifest says.
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
            raise LoadError(f"checkpoint {path} is damaged: {name} is not as it was written: its SHA-256 differs")
    number, written = _age(manifest)
    return Checkpoint(path, manifest["step"], manifest["facts"], written, number)


class Checkpoints:
    """The checkpoints of one run.

    Args:
        folder (str or Path): where they are, or will be.
        limit (int, optional): how many to keep, the newest ones. Default: all
    """

    def __init__(self, folder: str | Path, limit: int | None = None) -> None:
        self.folder = Path(folder)
        self.limit = limit

    def save(self, step: int, state: State, facts: Mapping[str, Any]) -> Path:
        """Write a checkpoint; once it is whole and on disk, remove the oldest ones beyond the limit.

        Args:
            step (int): number of steps taken.
            state (mapping): what :meth:`Checkpoint.state` will return.
            facts (mapping): what :attr:`Checkpoint.facts` will be; JSON values.

        Returns:
            Path: the checkpoint's folder.

        Raises:
            OSError: it cannot be written. Earlier checkpoints are still there.
        """
        final = self.folder / f"step-{step:08d}"
        ages = self._ages()
        number = 1 + max([0, *(age[0] for age in ages.values())])
        with atomic_path(final) as temporary:
            temporary.mkdir()
            for name, tensors in state.items():
                write_tensors(temporary / f"{name}.safetensors", tensors)
            files = sorted(temporary.iterdir())
            manifest = {
                "format": FORMAT,
                "step": step,
                "number": number,
                "written": time.time(),
                "versions": {"ganaug": version("ganaug"), "torch": torch.__version__},
                "facts": dict(facts),
                "files": {file.name: {"bytes": file.stat().st_size, "sha256": sha256_of(file)} for file in files},
            }
            write_json(temporary / MANIFEST, {**manifest, "sha256": fingerprints.of_values(manifest)})
        if self.limit is not None:
            ages.pop(final, None)  # of the one that was there before
            oldest = sorted(ages, key=lambda path: ages[path])
            for old in oldest[: max(0, len(oldest) + 1 - self.limit)]:
                remove(old)
        return final

    def newest(self) -> Checkpoint | None:
        """The newest checkpoint that is whole, or None; each newer one that is damaged is warned about."""
        ages = self._ages()
        for path in sorted(ages, key=lambda path: (ages[path] == _UNKNOWN, ages[path], path.name), reverse=True):
            try:
                return open_checkpoint(path)
            except LoadError as error:
                logger.warning("%s. The one before it is used", error)
        return None

    def _ages(self) -> dict[Path, tuple[int, float]]:
        """Of each checkpoint, what tells which of two is older; see :func:`_age`."""
        ages = {}
        for path in self.folder.glob("step-*"):
            if path.is_dir():
                try:
                    ages[path] = _age(_read_manifest(path))
                except LoadError:
                    ages[path] = _UNKNOWN
        return ages


_UNKNOWN = (0, 0.0)  # of a checkpoint without a readable manifest


def _age(manifest: Mapping[str, Any]) -> tuple[int, float]:
    """The number of a checkpoint among those of its run, which a clock that is put back does not change, and its time.

    A run that goes on from an earlier checkpoint, or was rolled back to one, writes smaller steps later. Checkpoints
    of ganaug 0.1 have no number: they come before all that have one, in the order of their times.
    """
    return manifest.get("number", 0), float(manifest["written"])


def _read_manifest(path: Path) -> dict[str, Any]:
    if not path.is_dir():
        raise LoadError(f"no checkpoint {path}")
    try:
        text = (path / MANIFEST).read_text(encoding="utf-8")
        manifest: dict[str, Any] = json.loads(text)
        as_written = json_text(manifest) == text  # another last digit of a float can be the same number
        digest = manifest.pop("sha256")
    except FileNotFoundError:
        raise LoadError(f"checkpoint {path} is damaged: {MANIFEST} is missing") from None
    except (OSError, ValueError, KeyError, AttributeError, TypeError):
        raise LoadError(f"checkpoint {path} is damaged: {MANIFEST} cannot be read") from None
    if not as_written or digest != fingerprints.of_values(manifest):
        raise LoadError(f"checkpoint {path} is damaged: {MANIFEST} is not as it was written: its SHA-256 differs")
    if manifest["format"] != FORMAT:
        raise LoadError(f"checkpoint {path} has format {manifest['format']}, this ganaug reads format {FORMAT}")
    return manifest


def run_settings(trainer: Trainer) -> dict[str, Any]:
    """Everything that the steps of a run depend on, as JSON values."""
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


def check_same_run(
    checkpoint: Checkpoint, trainer: Trainer, *, override: bool = False, names: Mapping[str, str] | None = None
) -> None:
    """Refuse to resume a run with settings other than those of its checkpoint.

    Args:
        checkpoint (Checkpoint): where the run would resume.
        trainer (Trainer): that would resume it.
        override (bool): allow other values of what :data:`BUDGET` lists; of total_kimg only if the training has one
            phase. Default: False
        names (mapping, optional): what settings are called where they were chosen. Default: as here

    Raises:
        InputError: a setting differs that must not.
    """
    saved = Progress.of(checkpoint).settings
    here = run_settings(trainer)
    differ = [name for name in {**saved, **here} if name not in WATCHING and saved.get(name) != here.get(name)]
    # The lengths of several phases follow from other settings.
    lengths = [name for name in differ if name.endswith("_kimg") and not hasattr(trainer.settings, name)]
    firm = [name for name in differ if name not in BUDGET or (name == "total_kimg" and lengths)]
    if refused := firm if override else differ:
        told = [name for name in refused if name not in lengths] or lengths
        changes = "; ".join(
            f"{(names or {}).get(name, name)}: {saved.get(name)} there, {here.get(name)} here" for name in told
        )
        phases = ", and its phases would have other lengths" if lengths and told != lengths else ""
        advice = "Start another run, if need be from its generator with init_from" if firm else "Go on with override"
        if told == lengths:
            advice = f"Its phases are those of another version of ganaug: go on with that. {advice}"
        raise InputError(f"{checkpoint.path} was made with other settings. {changes}{phases}. {advice}")


def check_held_out(checkpoint: Checkpoint, held_out: LabelledImages | None) -> None:
    """Refuse to resume a run with held-out images other than those its generators were scored by.

    Raises:
        InputError: they differ, or there are none now.
    """
    there, here = Progress.of(checkpoint).held_out, None if held_out is None else held_out.fingerprint
    if there is not None and there != here:
        raise InputError(
            f"the images that are held back to choose a generator by are not those of {checkpoint.path}: their "
            f"fingerprint is {there[:12]} there, {here[:12] if here else 'none'} here. Restore them, or start another "
            "run"
        )


def find_checkpoint(where: str | Path) -> Checkpoint:
    """The checkpoint in a folder ``step-...``, or the newest whole one in the folder of a run.

    Raises:
        InputError: the run has no whole checkpoint.
        LoadError: the checkpoint asked for by its own folder is missing or damaged.
    """
    path = Path(where)
    folder = path / CHECKPOINTS
    if Path(os.path.abspath(path)).name.startswith("step-") and not folder.is_dir():  # a run may have any name
        return open_checkpoint(path)
    found = Checkpoints(folder).newest()
    if found is None:
        raise InputError(f"no whole checkpoint in {folder}. Give the folder of a run, or start without resuming")
    return found
