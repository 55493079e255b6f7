"""SIGTERM and SIGINT during training: it ends at the next step, with a checkpoint."""

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

SIGNALS = (signal.SIGTERM, signal.SIGINT)
LAUNCHED = ("ACCELERATE_MIXED_PRECISION", "TORCHELASTIC_RUN_ID")  # what accelerate launch and torchrun set


class StoppedError(Exception):
    """Training was stopped by a signal, and can go on.

    Attributes:
        exit_code (int): that a program stopped by this signal has: 143 after SIGTERM, 130 after SIGINT.
    """

    def __init__(self, number: int, kimg: float, checkpoint: Path | None) -> None:
        where = f"It goes on from {checkpoint} with resume_from_checkpoint" if checkpoint else "Nothing was saved"
        super().__init__(f"stopped by {signal.Signals(number).name} after {kimg:.1f} kimg. {where}")
        self.exit_code = 128 + number


class BrokenOffError(Exception):
    """A signal came in a block of :meth:`StopSignals.raising`."""


class StopSignals:
    """While a block runs, the first signal is noted and a second one ends the program at once.

    On all processes :meth:`received` gives the same, so that they stop at the same step. A launcher that has ended
    counts as SIGTERM: ``accelerate launch`` does not pass it on. Outside the main thread, where Python lets nobody
    handle signals, they do what they did before.

    Args:
        accelerator (Accelerator): the processes.
        handle (bool): False leaves signals alone.
    """

    ECHO = 2.0  # seconds: a launcher passes on what a terminal has sent to all processes already

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
        """Number of the signal that any process has received, 0 for none; to be called by all of them together."""
        if self._handle and self._launcher not in (None, os.getppid()):
            self._number = self._number or signal.SIGTERM
        if not self._handle or self._accelerator.num_processes == 1:
            return self._number
        number = torch.tensor(self._number, device=self._accelerator.device)
        return int(self._accelerator.gather(number).max())

    @contextmanager
    def raising(self) -> Iterator[None]:
        """A block that takes long, leaves nothing half-done, and is broken off by the first signal.

        Raises:
            BrokenOffError: it came, before the block or in it.
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
