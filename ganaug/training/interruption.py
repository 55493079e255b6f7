"""SIGTERM, SIGINT or Windows' SIGBREAK during training: the run ends after the current step, with a checkpoint."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType, TracebackType
from typing import Any

import torch
from accelerate import Accelerator

# On Windows the first can only come from the process itself, and the last is what others can send it, or Ctrl+Break.
SIGNALS = tuple(getattr(signal, name) for name in ("SIGTERM", "SIGINT", "SIGBREAK") if hasattr(signal, name))
LAUNCHED = ("ACCELERATE_MIXED_PRECISION", "TORCHELASTIC_RUN_ID")  # what accelerate launch and torchrun set


class StoppedError(Exception):
    """Training was stopped by a signal and can be resumed.

    Args:
        number (int): of the signal.
        kimg (float): thousands of images shown so far.
        checkpoint (Path, optional): the last one; None if there is none.

    Attributes:
        exit_code (int): the usual one of a program that this signal stopped: 143 for SIGTERM, 130 for SIGINT, 149 for
            SIGBREAK.
    """

    def __init__(self, number: int, kimg: float, checkpoint: Path | None) -> None:
        where = f"Resume from {checkpoint} with resume_from_checkpoint" if checkpoint else "Nothing was saved"
        super().__init__(f"stopped by {signal.Signals(number).name} after {kimg:.1f} kimg. {where}")
        self.exit_code = 128 + number


class BrokenOffError(Exception):
    """A signal arrived before or in a block of :meth:`StopSignals.raising`."""


class StopSignals:
    """A context in which the first of :data:`SIGNALS` is noted, and a second one ends the program at once.

    :meth:`received` returns the same on all processes, so that they stop after the same step. If the launcher has
    died, which Windows does not tell, that counts as SIGTERM, because ``accelerate launch`` does not pass signals on.
    Outside the main thread Python cannot handle signals, so they keep their usual effect.

    Args:
        accelerator (Accelerator): the processes.
        handle (bool): False leaves signals alone.
    """

    ECHO = 2.0  # seconds in which a second signal is the same one, sent by the terminal and passed on by a launcher

    def __init__(self, accelerator: Accelerator, *, handle: bool) -> None:
        self._accelerator = accelerator
        self._handle = handle
        self._number, self._came = 0, 0.0
        self._raises = False
        self._launcher = os.getppid() if any(name in os.environ for name in LAUNCHED) else None
        self._before: dict[signal.Signals, Any] = {}

    def __enter__(self) -> StopSignals:
        if self._handle and threading.current_thread() is threading.main_thread():
            self._before = {number: signal.signal(number, self._note) for number in SIGNALS}
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def received(self) -> int:
        """The number of the signal that any process has received, or 0. All processes must call this together."""
        if self._handle and self._launcher not in (None, os.getppid()):
            self._number = self._number or signal.SIGTERM
        if not self._handle or self._accelerator.num_processes == 1:
            return self._number
        number = torch.tensor(self._number, device=self._accelerator.device)
        return int(self._accelerator.gather(number).max())

    @contextmanager
    def raising(self) -> Iterator[None]:
        """A context for long work that is safe to abandon: the first signal breaks it off.

        Raises:
            BrokenOffError: a signal arrived before the block or in it.
        """
        self._raises = True
        try:
            if self._number:
                raise BrokenOffError
            yield
        finally:
            self._raises = False

    def _note(self, number: int, frame: FrameType | None) -> None:
        now = time.monotonic()
        if self._number and now - self._came > self.ECHO:
            os._exit(128 + number)
        if not self._number:
            self._number, self._came = number, now
            if self._raises:
                raise BrokenOffError
