"""Trackers of experiments, none of which may stop a run."""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from accelerate import Accelerator
from PIL.Image import Image

logger = logging.getLogger(__name__)


class Trackers:
    """accelerate's trackers. One that fails is told of, once, and the run goes on without it.

    Args:
        accelerator (Accelerator): has those that were asked for.
        folder (Path, optional): of the run's logs, for trackers that write to one.
        settings (dict): of the run, for the trackers to show.
    """

    def __init__(self, accelerator: Accelerator, folder: Path | None, settings: dict[str, Any]) -> None:
        self._accelerator = accelerator
        if folder:
            accelerator.project_configuration.logging_dir = str(folder)
        plain = {name: _plain(value) for name, value in settings.items() if value is not None}
        try:
            accelerator.init_trackers("ganaug", plain)
        except Exception as error:  # what a tracker raises is its own affair
            _warn(", ".join(str(getattr(kind, "name", kind)) for kind in accelerator.log_with), error)
            accelerator.trackers.clear()

    def log(self, values: dict[str, float], seen: int) -> None:
        """Show numbers after so many images."""
        self._each(lambda tracker: tracker.log(values, step=seen))

    def show(self, tag: str, picture: Image, seen: int) -> None:
        """Show a picture after so many images, where a tracker takes some."""

        def show(tracker: Any) -> None:
            if tracker.name == "tensorboard":  # it has a format of its own
                tracker.log_images({tag: np.asarray(picture.convert("RGB")).transpose(2, 0, 1)[None]}, step=seen)
            elif hasattr(tracker, "log_images"):
                tracker.log_images({tag: [picture]}, step=seen)

        self._each(show)

    def finish(self) -> None:
        """Let them write what they have not written."""
        self._each(lambda tracker: tracker.finish())
        self._accelerator.trackers.clear()

    def _each(self, action: Callable[[Any], None]) -> None:
        for tracker in list(self._accelerator.trackers):
            try:
                action(tracker)
            except Exception as error:
                _warn(tracker.name, error)
                self._accelerator.trackers.remove(tracker)


def _plain(value: Any) -> Any:
    return ", ".join(map(str, value)) if isinstance(value, tuple) else value  # TensorBoard takes no tuples


def _warn(name: str, error: Exception) -> None:
    logger.warning("the tracker %s failed, and the run goes on without it: %s: %s", name, type(error).__name__, error)
