"""Checkpoints on disk: folders that are whole or not there, and that can be checked before they are used."""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from ganaug.core import fingerprints
from ganaug.core.errors import LoadError
from ganaug.core.files import atomic_path, json_text, remove, sha256_of, write_json, write_tensors

logger = logging.getLogger(__name__)

IN_RUN = Path("training") / "checkpoints"  # where they are in a run's folder
MANIFEST = "manifest.json"
FORMAT = 2

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
        text = (path / MANIFEST).read_text(encoding="utf-8")
        manifest: dict[str, Any] = json.loads(text)
        as_written = json_text(manifest) == text  # another last digit of a float can be the same number
        digest = manifest.pop("sha256")
    except FileNotFoundError:
        raise LoadError(f"checkpoint {path} is damaged: {MANIFEST} is missing") from None
    except (OSError, ValueError, KeyError, AttributeError, TypeError):
        raise LoadError(f"checkpoint {path} is damaged: {MANIFEST} cannot be read") from None
    if not as_written or digest != fingerprints.of_values(manifest):
        raise LoadError(f"checkpoint {path} is damaged: {MANIFEST} has another content than it was written with")
    if manifest["format"] != FORMAT:
        raise LoadError(f"checkpoint {path} has format {manifest['format']}, this ganaug reads format {FORMAT}")
    return manifest
