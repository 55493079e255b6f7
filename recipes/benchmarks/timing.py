"""Measuring speed and memory. Arms take turns, so that a busy machine slows all of them, not one."""

from __future__ import annotations

import platform
import statistics
import threading
import time
from collections.abc import Callable, Mapping
from multiprocessing import get_context
from multiprocessing.connection import Connection
from typing import Any

import psutil  # which accelerate brings
import torch
from tqdm import tqdm


def hardware(device: torch.device) -> str:
    """What speeds were measured on."""
    return f"{device}, {torch.get_num_threads()} threads, torch {torch.__version__}, {platform.machine()}"


def in_turns(arms: Mapping[str, Callable[[], Any]], rounds: int) -> dict[str, list[float]]:
    """Seconds that each arm takes in each round, after a first round, which warms up and is not counted."""
    found: dict[str, list[float]] = {name: [] for name in arms}
    for number in tqdm(range(rounds + 1), unit="round"):
        for name, arm in arms.items():
            started = time.perf_counter()
            arm()
            if torch.accelerator.is_available():
                torch.accelerator.synchronize()
            if number:
                found[name].append(time.perf_counter() - started)
    return found


class Process:
    """An arm in a process of its own, so that what another arm does to memory and settings neither helps nor hurts it.

    Args:
        make (callable): called with ``args`` in that process, it returns the function to time; picklable.
    """

    def __init__(self, make: Callable[..., Callable[[], Any]], *args: Any) -> None:
        context = get_context("spawn")
        self._mine, theirs = context.Pipe()
        self._process = context.Process(target=_serve, args=(theirs, make, args), daemon=True)
        self._process.start()
        theirs.close()

    def __call__(self, times: int = 1) -> Any:
        """Call the function this many times, wait, and return the last result."""
        self.send(times)
        return self.receive()

    def send(self, times: int) -> None:
        """Let it call the function this many times, without waiting for that."""
        self._mine.send(times)

    def receive(self) -> Any:
        """Wait for the calls, and return the last result."""
        return self._mine.recv()

    def close(self) -> None:
        """End the process."""
        self._mine.send(0)
        self._process.join()


def _serve(connection: Connection, make: Callable[..., Callable[[], Any]], args: tuple[Any, ...]) -> None:
    function, result = make(*args), None
    while times := connection.recv():
        for _ in range(times):
            result = function()
        if torch.accelerator.is_available():
            torch.accelerator.synchronize()
        connection.send(result)


def report(title: str, arms: dict[str, list[float]], unit: str = "s") -> dict[str, list[float]]:
    """Print medians and ranges, and the last arm's ratio to each other one, taken round by round; returns all."""
    *others, last = arms
    found = dict(arms)
    print(title)
    for name in others:
        label = "ratio" if len(others) == 1 else f"ratio to {name}"
        found[label] = [b / a for a, b in zip(arms[name], arms[last], strict=True)]
    for name, values in found.items():
        shown = "x" if name.startswith("ratio") else unit
        print(f"  {name:32s} median {statistics.median(values):8.3f}  [{min(values):.3f}, {max(values):.3f}] {shown}")
    return found


def memory() -> float:
    """Resident memory of this process, in MB."""
    return float(psutil.Process().memory_info().rss) / 2**20


def peak_memory(action: Callable[[], Any]) -> float:
    """How much the resident memory of this process grows at most during an action, in MB; looked at every 0.1 s."""
    seen, done = [memory()], threading.Event()

    def look() -> None:
        while not done.wait(0.1):
            seen.append(memory())

    watcher = threading.Thread(target=look)
    watcher.start()
    action()
    done.set()
    watcher.join()
    return max(seen) - seen[0]
