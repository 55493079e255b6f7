"""torch's global defaults, which a caller may have changed and on which no network here may depend."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

import torch


class _Float32Default:
    """Makes float32 the default dtype, which is global: the first to enter sets it, the last to leave restores it."""

    def __init__(self) -> None:
        self._lock, self._inside, self._before = threading.Lock(), 0, torch.float32

    def __enter__(self) -> None:
        with self._lock:
            if not self._inside:
                self._before = torch.get_default_dtype()
                torch.set_default_dtype(torch.float32)
            self._inside += 1

    def __exit__(self, *_: object) -> None:
        with self._lock:
            self._inside -= 1
            if not self._inside:
                torch.set_default_dtype(self._before)


_float32_default = _Float32Default()


@contextmanager
def usual_defaults() -> Iterator[None]:
    """Make tensors as an untouched torch does: float32, on the CPU, and fit for training.

    Undoes ``torch.set_default_dtype``, ``torch.set_default_device``, a surrounding ``torch.device`` and a surrounding
    ``torch.inference_mode`` for a block or, as a decorator, for each call of a function.
    """
    with ExitStack() as stack:
        stack.enter_context(_float32_default)
        if torch.get_default_device().type != "cpu":
            stack.enter_context(torch.device("cpu"))
        if torch.is_inference_mode_enabled():
            stack.enter_context(torch.inference_mode(False))
        yield
