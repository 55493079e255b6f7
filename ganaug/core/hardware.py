"""The hardware that networks run on: which device, how many threads, and passes that repeat to the bit."""

from __future__ import annotations

import copy
import ctypes
import logging
import math
import os
import sys
import threading
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path
from typing import Any
from weakref import finalize

import psutil
import torch
from torch import Tensor, nn
from torch.utils.data import get_worker_info

from ganaug.core.errors import InputError

logger = logging.getLogger(__name__)

_CPU_BF16 = ("avx512_bf16", "amx_bf16", "bf16")  # names of the capability on x86 and ARM


def device_of(module: nn.Module) -> torch.device:
    """The device of a module's parameters; the CPU if it has none."""
    return next((parameter.device for parameter in module.parameters()), torch.device("cpu"))


def best_device() -> torch.device:
    """The accelerator if there is one, else the CPU."""
    found = torch.accelerator.current_accelerator() if torch.accelerator.is_available() else None
    return found or torch.device("cpu")


def to_device(values: Tensor, device: torch.device) -> Tensor:
    """Values of the CPU on a device; to a GPU they come from pinned memory, so that the CPU need not wait for it."""
    pinned = values.pin_memory() if device.type == "cuda" and values.device.type == "cpu" else values
    return pinned.to(device, non_blocking=True)


class LateChecks:
    """What must hold of values that a device computes, looked at once they are there, so that the CPU never waits.

    On a CPU that is at once. Elsewhere an error comes with a later call, and one of the last calls, after which there
    is none, is logged when these checks are no longer used: at the end of the process, if not before.
    """

    def __init__(self) -> None:
        self._open: deque[tuple[Tensor, torch.Event, Callable[[], Exception]]] = deque()
        finalize(self, _tell_of_the_last, self._open, os.getpid())

    def expect(self, holds: Tensor, error: Callable[[], Exception]) -> None:
        """Raise what ``error`` returns if ``holds``, bool (), is False, or if it was so in an earlier call."""
        if holds.device.type == "cpu":
            if not holds:
                raise error()
            return
        told = holds.to("cpu", non_blocking=True), torch.Event(holds.device), error
        told[1].record()
        self._open.append(told)
        while self._open and self._open[0][1].query():
            here, _, late = self._open.popleft()
            if not here:
                raise late()

    def __deepcopy__(self, memo: object) -> LateChecks:
        return LateChecks()  # what is computed now is the original's

    def __reduce__(self) -> tuple[type[LateChecks], tuple[()]]:
        return LateChecks, ()


def _tell_of_the_last(left: deque[tuple[Tensor, torch.Event, Callable[[], Exception]]], process: int) -> None:
    """Log the first error among checks that no later call has looked at."""
    if os.getpid() != process:  # a fork, which cannot ask the device
        return
    for here, event, late in left:
        event.synchronize()
        if not here:
            logger.error("%s", late())
            return


def has_bf16(device: torch.device) -> bool:
    """Whether a device has instructions for bf16, rather than having to emulate it."""
    if device.type == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    # The oldest torch we support has no get_capabilities.
    capabilities: dict[str, bool] = getattr(torch.cpu, "get_capabilities", dict)() if device.type == "cpu" else {}
    return any(capabilities.get(name) for name in _CPU_BF16)


def check_usable_here(device: torch.device, what: str) -> None:
    """Refuse to compute on a device that this process, if it is a DataLoader worker, cannot use.

    Args:
        device (torch.device): where ``what`` is.
        what (str): what would compute, for the message.

    Raises:
        RuntimeError: this is a worker, and ``device`` is not the CPU.
    """
    if device.type != "cpu" and get_worker_info() is not None:
        raise RuntimeError(
            f"{what} is on {device}, and a DataLoader worker cannot use it there. Call materialize() on a "
            "ConditionalGANAugment before the loader starts, keep the network on the CPU, or use num_workers=0"
        )


def evaluation_copy(module: nn.Module) -> nn.Module:
    """A copy of a module, in evaluation mode and without gradients, that nobody else trains, switches or moves."""
    return copy.deepcopy(module).eval().requires_grad_(False)


@contextmanager
def evaluation_mode(module: nn.Module) -> Iterator[None]:
    """Put a module and all its parts in evaluation mode for a block, and each back in its own mode afterwards."""
    modes: list[tuple[Any, bool]] = [(part, part.training) for part in module.modules()]
    module.eval()
    try:
        yield
    finally:
        for part, training in modes:
            part.training = training


def set_cpu_threads(requested: int | None) -> int:
    """Let this process compute with as many threads as :func:`cpu_threads` says, and return how many."""
    threads, _ = cpu_threads(requested)
    torch.set_num_threads(threads)
    return threads


def cpu_threads(requested: int | None) -> tuple[int, str]:
    """How many threads this process should compute with, and why.

    What the user asks for comes first, then what the user set OMP_NUM_THREADS to. ``accelerate launch`` and
    ``torchrun`` set it to 1 if the user has not; that 1 is nobody's wish. It is told from a 1 of the user's by the
    environment that the launcher itself was started with, which Linux shows; elsewhere, a 1 beside a launcher's
    variables is taken for the launcher's.

    Args:
        requested (int, optional): number of threads. Default: OMP_NUM_THREADS; if the user has not set it, the cores
            this process may use, divided by the number of processes on this machine

    Returns:
        tuple: the number, and the reason as a few words to print in brackets behind it.
    """
    if requested:
        return requested, "cpu_threads"
    told = os.environ.get("OMP_NUM_THREADS", "").split(",")[0].strip()  # "4,2" is for nested regions
    if told.isdecimal() and int(told) and not (int(told) == 1 and _launcher_set_omp()):
        return int(told), "OMP_NUM_THREADS"
    cores = usable_cores()
    processes = int(os.environ.get("LOCAL_WORLD_SIZE", "1"))
    reason = f"of {cores} cores, for {processes} processes" if processes > 1 else f"of {cores} cores"
    if told == "1":
        reason += "; OMP_NUM_THREADS=1 is the launcher's"
    return max(1, cores // processes), reason


def usable_cores() -> int:
    """How many cores this process may use; on macOS and Windows, which do not tell, how many there are."""
    # The affinity mask, which taskset and many schedulers set; and the limit of a container, which may be a fraction.
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, int(min(cores, cores_of_cgroups())))


def cores_of_cgroups(root: Path = Path("/")) -> float:
    """How many cores' time Linux grants to the control groups that this process is in; infinite if it is not limited.

    Args:
        root (Path): of the file system.
    """
    try:
        lines = (root / "proc/self/cgroup").read_text(encoding="utf-8").splitlines()
    except OSError:
        return math.inf  # there are none, or none that can be seen
    limits = [math.inf]
    for line in lines:
        _, controllers, path = line.split(":", 2)
        if controllers and "cpu" not in controllers.split(","):
            continue
        # Version 2 has one tree, version 1 one for each kind of limit. A container sees its own group as the root;
        # elsewhere a group has the limits of those above it too.
        tree = root / "sys/fs/cgroup" / ("cpu" if controllers else "")
        files = ("cpu.cfs_quota_us", "cpu.cfs_period_us") if controllers else ("cpu.max",)
        group = tree / path.strip("/")
        for each in (group, *group.parents[: len(group.parts) - len(tree.parts)]):
            try:
                quota, period = " ".join((each / name).read_text(encoding="utf-8") for name in files).split()
                if quota not in ("max", "-1"):
                    limits.append(float(quota) / float(period))
            except (OSError, ValueError, ZeroDivisionError):
                continue  # it is out of sight, or the uppermost one, which has no limit
    return min(limits)


def _launcher_set_omp() -> bool:
    """Whether a launcher started this process, as its variables show, and not the user who set OMP_NUM_THREADS."""
    launchers = ("ACCELERATE_DYNAMO_BACKEND", "LOCAL_WORLD_SIZE")  # of accelerate launch, and of torchrun
    if not any(name in os.environ for name in launchers):
        return False
    try:
        started_with = Path(f"/proc/{os.getppid()}/environ").read_bytes().split(b"\0")
    except OSError:
        return True
    names = {entry.partition(b"=")[0].decode(errors="replace") for entry in started_with}
    # A parent that has the launcher's variables itself is not the launcher.
    return "OMP_NUM_THREADS" not in names or not names.isdisjoint(launchers)


def check_processes(seen: int) -> None:
    """Refuse to work alone, or among fewer, where several processes were to work together.

    Args:
        seen (int): how many processes accelerate sees.

    Raises:
        InputError: a launcher started another number of them; or ``accelerate launch`` was told of several processes
            or machines, and started this process alone.
    """
    started = int(os.environ.get("WORLD_SIZE", "1"))
    if started != seen:
        raise InputError(
            f"{started} processes were started (WORLD_SIZE), and accelerate sees {seen}. Start them with torchrun "
            "--nproc_per_node, or with accelerate launch after accelerate config"
        )
    # Where it finds no GPU it says where several processes would meet, and starts one that knows of no other.
    if "WORLD_SIZE" not in os.environ and {"ACCELERATE_MIXED_PRECISION", "MASTER_ADDR"} <= os.environ.keys():
        raise InputError(
            "accelerate launch was told of several processes or machines (MASTER_ADDR is set), and started one that "
            "would work alone, as it does where it finds no GPU. Add --multi_gpu, which is right for CPUs too, or "
            "start them with torchrun; for one process, unset MASTER_ADDR"
        )


def keep_freed_memory() -> None:
    """Let this process keep the memory it frees; only glibc can, and elsewhere nothing happens.

    Otherwise every step returns its largest tensors to the system and gets them back page by page, which took a fifth
    of a step of acgan-64.
    """
    if sys.platform == "linux" and hasattr(ctypes.CDLL(None), "mallopt"):
        trim_threshold, mmap_threshold = -1, -3  # glibc's malloc.h
        ctypes.CDLL(None).mallopt(mmap_threshold, 2**30)
        ctypes.CDLL(None).mallopt(trim_threshold, 2**31 - 1)


def memory_held(process: int | None = None) -> int:
    """Bytes of memory that a process holds now, or 0 if it has ended.

    Args:
        process (int, optional): its number. Default: this process
    """
    try:
        return int(psutil.Process(process).memory_info().rss)
    except psutil.Error:
        return 0


def in_gibibytes(size: int) -> str:
    """A number of bytes, in words."""
    return f"{size / 2**30:.1f} GiB"


class _OneThreadEach:
    """Counts the threads that compute inside :func:`one_thread_each`.

    torch has one number of threads for the process and one for each thread that has computed already; a new thread
    starts with the process's. So a thread that enters while another is inside would read the other's 1, and leave it
    behind.
    """

    def __init__(self) -> None:
        self._before = 1
        self.forget()
        if hasattr(os, "register_at_fork"):
            # A DataLoader's worker has none of the other threads, which may have been inside, or held the lock.
            os.register_at_fork(after_in_child=self.forget)

    def forget(self) -> None:
        """Start again with no thread inside."""
        self._lock = threading.Lock()
        self._inside: dict[object, int] = {}  # blocks, and the threads that entered them

    @contextmanager
    def __call__(self) -> Iterator[int]:
        block, thread = object(), threading.get_ident()
        with self._lock:
            # Within a block of its own, a thread's number is its own.
            if not self._inside:
                self._before = torch.get_num_threads()
            before = torch.get_num_threads() if thread in self._inside.values() else self._before
            self._inside[block] = thread
            torch.set_num_threads(1)
        try:
            yield before
        finally:
            with self._lock:
                self._inside.pop(block, None)
                torch.set_num_threads(before)


_one_thread_each = _OneThreadEach()


def one_thread_each() -> AbstractContextManager[int]:
    """Compute with one thread, so that results do not depend on how many there are; gives how many there were.

    With three threads a transposed convolution gives other last bits than with one. Several passes side by side, each
    on one thread, are no slower than one pass after another on several threads. Several threads of a program may be
    inside at once; when all have left, torch has the number that it had before.
    """
    return _one_thread_each()


class _DeterministicCuda:
    """Turns off cuDNN's benchmark mode, which picks what is fastest today, and algorithms whose results vary; and TF32
    for matrix products, which :func:`ganaug.training.start_accelerator` turns on, so that what was trained is drawn
    alike in the same process and in another.

    The flags are global: the first thread that enters sets them, the last one that leaves restores them.
    """

    def __init__(self) -> None:
        self._lock, self._inside, self._before = threading.Lock(), 0, (False, False, "highest")

    def __enter__(self) -> None:
        cudnn = torch.backends.cudnn
        with self._lock:
            if not self._inside:
                self._before = cudnn.benchmark, cudnn.deterministic, torch.get_float32_matmul_precision()
                cudnn.benchmark, cudnn.deterministic = False, True
                torch.set_float32_matmul_precision("highest")  # torch refuses to mix this switch with its newer ones
            self._inside += 1

    def __exit__(self, *_: object) -> None:
        cudnn = torch.backends.cudnn
        with self._lock:
            self._inside -= 1
            if not self._inside:
                cudnn.benchmark, cudnn.deterministic, precision = self._before
                torch.set_float32_matmul_precision(precision)


_deterministic_cuda = _DeterministicCuda()


def deterministic_passes(device: torch.device) -> AbstractContextManager[None]:
    """A context in which a device computes the same results from the same inputs, as far as torch's flags reach."""
    return _deterministic_cuda if device.type == "cuda" else nullcontext()
