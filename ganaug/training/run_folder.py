"""The folder that a training run fills."""

from __future__ import annotations

import errno
import json
import logging
import math
import os
from pathlib import Path
from typing import Any

from PIL.Image import Image

from ganaug.core.errors import InputError
from ganaug.core.files import atomic_path, naming, remove_leftovers, write_json, write_text
from ganaug.hub.missing import CHECKPOINTS, SETTINGS
from ganaug.hub.weights import WEIGHTS

logger = logging.getLogger(__name__)

METRICS = Path("training", "metrics.jsonl")  # in the run's folder


def new_run_folder(wanted: str | Path) -> Path:
    """``wanted``, or if it already holds a run, the first of ``wanted-2``, ``wanted-3``, ... that does not.

    With a default name, a command can be run again without a flag, and an earlier result is never overwritten.
    """
    folder, number = Path(wanted), 1
    while (folder / "training").exists() or (folder / WEIGHTS).exists():
        number += 1
        folder = Path(f"{wanted}-{number}")
    return folder


def read_settings(run: Path) -> dict[str, Any] | None:
    """What ``training/settings.json`` says in the folder of a run; None if it is missing or damaged."""
    try:
        settings = json.loads((run / SETTINGS).read_bytes())
    except (OSError, ValueError, RecursionError):
        return None
    return settings if isinstance(settings, dict) else None


def read_metrics(run: Path) -> list[dict[str, float]]:
    """The lines of ``training/metrics.jsonl`` in the folder of a run, each with the kimg it is of.

    Those that are not whole are left out, with a warning: a machine that goes down can leave half of one.
    """
    path = run / METRICS
    lines = path.read_bytes().splitlines() if path.exists() else []
    rows = [row for line in lines if (row := _row_of(line)) is not None]
    if len(rows) < len(lines):
        logger.warning("%s: %d of %d lines are damaged and left out", path, len(lines) - len(rows), len(lines))
    return rows


def _row_of(line: bytes) -> dict[str, float] | None:
    try:
        row = json.loads(line)
    except (ValueError, RecursionError):
        return None
    if not isinstance(row, dict) or "kimg" not in row:
        return None
    return row if all(type(value) in (int, float) and math.isfinite(value) for value in row.values()) else None


class RunFolder:
    """The files of one run: ``samples/*.png``, and in ``training`` settings.json, metrics.jsonl and checkpoints.

    Args:
        path (str or Path): created if missing.
        after_kimg (float, optional): resume the run in this folder, if there is one, after so many kimg: metrics of
            later steps are removed, and so are the leftovers of a killed process. Default: the folder must not hold a
            run yet

    Raises:
        InputError: the folder already holds a run, or cannot be written to.
    """

    def __init__(self, path: str | Path, *, after_kimg: float | None = None) -> None:
        self.path = Path(path)
        if after_kimg is None and new_run_folder(path) != self.path:
            raise InputError(f"{path} already holds a run. Give another output_dir, or move that one away")
        try:
            self.training.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise InputError(f"output_dir {path} cannot be written to: {error.strerror}. Give another one") from error
        if after_kimg is not None:
            remove_leftovers(self.path)
            self._drop_metrics(after_kimg)

    @property
    def training(self) -> Path:
        """The subfolder with everything about the run that is not needed to use the generator."""
        return self.path / "training"

    @property
    def checkpoints(self) -> Path:
        """The subfolder with the checkpoints."""
        return self.path / CHECKPOINTS

    def write_settings(self, settings: dict[str, Any]) -> None:
        """Write ``training/settings.json``."""
        write_json(self.path / SETTINGS, settings)

    @property
    def command(self) -> str | None:
        """The command that started the run, and those that went on with other settings; None if no settings say so."""
        settings = read_settings(self.path) or {}
        commands = [settings.get("command"), *settings.get("resumed_with", [])]
        return "; ".join(command for command in commands if command is not None) or None

    @property
    def has_unlabeled_data(self) -> bool:
        """Whether the run's settings say that it trains on unlabelled images too, labelled by classifiers."""
        return "unlabeled_data" in (read_settings(self.path) or {})

    def append_metrics(self, row: dict[str, float]) -> None:
        """Append a whole line to ``training/metrics.jsonl``, or nothing.

        Raises:
            OSError: it cannot be written; the file is as it was before.
        """
        line = (json.dumps(row) + "\n").encode()
        path = self.path / METRICS
        with naming(path), open(path, "ab", buffering=0) as file:
            size = os.fstat(file.fileno()).st_size
            if file.write(line) < len(line):  # the disk is full, and took what fitted
                file.truncate(size)
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    def save_picture(self, name: str, picture: Image) -> Path:
        """Write ``samples/<name>.png``, and return its path."""
        whole = self.path / "samples" / f"{name}.png"
        with atomic_path(whole) as path:
            picture.save(path)
        return whole

    def _drop_metrics(self, kimg: float) -> None:
        if (self.path / METRICS).exists():
            kept = [row for row in read_metrics(self.path) if row["kimg"] <= kimg]
            write_text(self.path / METRICS, "".join(json.dumps(row) + "\n" for row in kept))
