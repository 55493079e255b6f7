"""Networks and the hardware they are on: devices, precision, threads, memory."""

from __future__ import annotations

import ctypes
import os
import sys
import threading
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any

import torch
from torch import nn
from torch.utils.data import get_worker_info

_CPU_BF16 = ("avx512_bf16", "amx_bf16", "bf16")  # names of the capability on x86 and ARM


def device_of(module: nn.Module) -> torch.device:
    """Where a module's parameters are; the CPU for one without."""
    return next((parameter.device for parameter in module.parameters()), torch.device("cpu"))


def best_device() -> torch.device:
    """The accelerator where there is one, else the CPU."""
    found = torch.accelerator.current_accelerator() if torch.accelerator.is_available() else None
    return found or torch.device("cpu")


def has_bf16(device: torch.device) -> bool:
    """Whether a device has instructions for bf16, rather than emulating it."""
    if device.type == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    # get_capabilities is newer than the oldest torch we take.
    capabilities: dict[str, bool] = getattr(torch.cpu, "get_capabilities", dict)() if device.type == "cpu" else {}
    return any(capabilities.get(name) for name in _CPU_BF16)


def check_usable_here(device: torch.device, what: str) -> None:
    """Refuse to compute on a device that a DataLoader worker cannot use.

    Raises:
        RuntimeError: this is a worker, and ``device`` is not the CPU.
    """
    if device.type != "cpu" and get_worker_info() is not None:
        raise RuntimeError(
            f"{what} is on {device}, and a DataLoader worker cannot use it there. Call materialize() on a "
            "ConditionalGANAugment before the loader starts, keep the network on the CPU, or use num_workers=0"
        )


@contextmanager
def one_thread_each() -> Iterator[int]:
    """Compute with one thread at a time, so that results do not depend on how many there are; gives that number.

    With three threads a transposed convolution gives other last bits than with one. Several passes side by side, each
    with one thread, are no slower than several threads on one pass after the other.
    """
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield threads
    finally:
        torch.set_num_threads(threads)


class _DeterministicCudnn:
    """Without cuDNN's benchmark mode, which picks what is fastest today, and without algorithms that vary.

    Its flags are global: the first thread that enters sets them, the last one that leaves puts them back.
    """

    def __init__(self) -> None:
        self._lock, self._inside, self._before = threading.Lock(), 0, (False, False)

    def __enter__(self) -> None:
        cudnn = torch.backends.cudnn
        with self._lock:
            if not self._inside:
                self._before = cudnn.benchmark, cudnn.deterministic
                cudnn.benchmark, cudnn.deterministic = False, True
            self._inside += 1

    def __exit__(self, *_: object) -> None:
        cudnn = torch.backends.cudnn
        with self._lock:
            self._inside -= 1
            if not self._inside:
                cudnn.benchmark, cudnn.deterministic = self._before


_deterministic_cudnn = _DeterministicCudnn()


def deterministic_passes(device: torch.device) -> AbstractContextManager[None]:
    """A context in which a device computes the same from the same each time, as far as torch's flags go."""
    return _deterministic_cudnn if device.type == "cuda" else nullcontext()


@contextmanager
def evaluation_mode(module: nn.Module) -> Iterator[None]:
    """Put a module and all its parts in evaluation mode, and each back as it was."""
    modes: list[tuple[Any, bool]] = [(part, part.training) for part in module.modules()]
    module.eval()
    try:
        yield
    finally:
        for part, training in modes:
            part.training = training


def set_cpu_threads(requested: int | None) -> int:
    """Let this process compute on its share of the cores, and return how many that is.

    ``accelerate launch`` and ``torchrun`` set OMP_NUM_THREADS=1 where the user set nothing, so a 1 there says nothing
    and is overridden; any other number is the user's and stays.

    Args:
        requested (int, optional): threads; default: the cores this process may use, divided by the local processes.
    """
    told = int(os.environ.get("OMP_NUM_THREADS", "1").split(",")[0])  # "4,2" is for nested regions
    threads = requested or (told if told > 1 else max(1, _cores() // int(os.environ.get("LOCAL_WORLD_SIZE", "1"))))
    torch.set_num_threads(threads)
    return threads


def keep_freed_memory() -> None:
    """Let this process keep the memory it frees, with glibc; elsewhere nothing happens.

    Otherwise every step gives its largest tensors back to the system and takes them anew, page by page: that was a
    fifth of a step of acgan-64.
    """
    if sys.platform == "linux" and hasattr(ctypes.CDLL(None), "mallopt"):
        trim_threshold, mmap_threshold = -1, -3  # glibc's malloc.h
        ctypes.CDLL(None).mallopt(mmap_threshold, 2**30)
        ctypes.CDLL(None).mallopt(trim_threshold, 2**31 - 1)


def _cores() -> int:
    # The affinity mask knows of taskset and of many schedulers; not every system has one.
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
