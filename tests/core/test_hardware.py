"""Threads of torch: what a block changes is as it was when all have left it, in whatever order they do."""

import math
import os
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch

from ganaug.core.hardware import cores_of_cgroups, cpu_threads, keep_freed_memory, one_thread_each, usable_cores


@pytest.mark.parametrize("first_to_leave", ["the first", "the second"])
def test_threads_that_overlap_leave_torch_its_number_of_threads(first_to_leave):
    entered, may_leave, left = ({name: threading.Event() for name in ("the first", "the second")} for _ in range(3))
    found = {}

    def compute(name):
        with one_thread_each() as there_were:
            inside = torch.get_num_threads()
            entered[name].set()
            assert may_leave[name].wait(30)
        found[name] = (there_were, inside, torch.get_num_threads())
        left[name].set()

    before = torch.get_num_threads()
    torch.set_num_threads(3)
    try:
        running = {name: threading.Thread(target=compute, args=(name,)) for name in entered}
        for name, thread in running.items():
            thread.start()
            assert entered[name].wait(30)
        for name in sorted(running, key=lambda name: name != first_to_leave):
            may_leave[name].set()
            assert left[name].wait(30)
        later = {}
        new = threading.Thread(target=lambda: later.update(threads=torch.get_num_threads()))
        new.start()
        for thread in (*running.values(), new):
            thread.join(30)
        assert found == dict.fromkeys(running, (3, 1, 3))
        assert later == {"threads": 3}
        assert torch.get_num_threads() == 3
    finally:
        torch.set_num_threads(before)


def test_a_block_within_a_block_leaves_the_outer_one_its_own():
    before = torch.get_num_threads()
    with one_thread_each() as there_were:
        with one_thread_each() as within:
            assert within == 1
        assert torch.get_num_threads() == 1
        torch.set_num_threads(2)  # as an evaluation does whose batches alone are prepared on the CPU
        with one_thread_each() as within:
            assert (within, torch.get_num_threads()) == (2, 1)
        assert torch.get_num_threads() == 2
    assert there_were == before == torch.get_num_threads()


@pytest.fixture
def three_threads():
    before = torch.get_num_threads()
    torch.set_num_threads(3)
    yield
    torch.set_num_threads(before)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork")
@pytest.mark.filterwarnings("ignore:.*multi-threaded, use of fork")
def test_a_process_that_is_forked_while_another_thread_is_inside_keeps_its_own_number(three_threads):
    """As a DataLoader's workers are, each of which computes with one thread."""
    entered, may_leave = threading.Event(), threading.Event()

    def compute():
        with one_thread_each():
            entered.set()
            assert may_leave.wait(30)

    thread = threading.Thread(target=compute)
    thread.start()
    assert entered.wait(30)
    child = os.fork()
    if not child:
        torch.set_num_threads(1)
        with one_thread_each() as there_were:
            pass
        os._exit(10 * there_were + torch.get_num_threads())
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 11
    may_leave.set()
    thread.join(30)
    assert torch.get_num_threads() == 3


def test_a_generator_that_another_thread_closes_is_no_longer_inside(three_threads):
    def inside():
        with one_thread_each():
            yield

    suspended = inside()
    next(suspended)
    other = threading.Thread(target=suspended.close)
    other.start()
    other.join(30)
    torch.set_num_threads(3)
    with one_thread_each() as there_were:
        assert there_were == 3
    torch.set_num_threads(2)
    with one_thread_each() as there_were:
        assert there_were == 2


def test_a_block_that_fails_leaves_torch_its_number_of_threads(three_threads):
    for _ in range(2):
        with pytest.raises(ZeroDivisionError), one_thread_each() as there_were:
            1 / 0  # noqa: B018
        assert there_were == torch.get_num_threads() == 3


def test_a_thread_of_a_pool_that_is_inside_computes_with_one(three_threads):
    """Else each of several shards would be drawn by a pool of as many threads again."""

    def number(_):
        with one_thread_each(), one_thread_each() as there_were:
            return there_were

    with one_thread_each(), ThreadPoolExecutor(2) as pool:
        assert set(pool.map(number, range(6))) == {1}


@pytest.mark.skipif(sys.platform != "linux", reason="other systems do not show the environment of a process")
@pytest.mark.parametrize("launcher", ["ACCELERATE_DYNAMO_BACKEND", "LOCAL_WORLD_SIZE"])
@pytest.mark.parametrize(
    ("started_with", "expected"),
    [
        ({}, (6, "of 6 cores; OMP_NUM_THREADS=1 is the launcher's")),
        ({"OMP_NUM_THREADS": "1"}, (1, "OMP_NUM_THREADS")),
        # A script between the launcher and this process, which has all that the launcher set.
        ({"OMP_NUM_THREADS": "1", "launched": "1"}, (6, "of 6 cores; OMP_NUM_THREADS=1 is the launcher's")),
    ],
)
def test_a_launchers_one_thread_is_told_from_the_users(monkeypatch, launcher, started_with, expected):
    monkeypatch.delenv("LOCAL_WORLD_SIZE", raising=False)
    monkeypatch.delenv("ACCELERATE_DYNAMO_BACKEND", raising=False)
    monkeypatch.setattr("os.sched_getaffinity", lambda _: set(range(6)))
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    monkeypatch.setenv(launcher, "1")
    own = {launcher if name == "launched" else name: value for name, value in started_with.items()}
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    with subprocess.Popen(["cat"], env={"PATH": os.defpath, **own}, bufsize=0, **pipes) as parent:
        parent.stdin.write(b"1")
        assert parent.stdout.read(1) == b"1"  # it runs: just after it was started, its environment is still empty
        monkeypatch.setattr("os.getppid", lambda: parent.pid)
        assert cpu_threads(None) == expected
        assert cpu_threads(2) == (2, "cpu_threads")
        parent.stdin.close()


@pytest.mark.parametrize(
    ("groups", "files", "cores"),
    [
        ("0::/\n", {"cpu.max": "250000 100000\n"}, 2.5),  # a container, version 2
        ("0::/user/job\n", {"user/cpu.max": "400000 100000\n", "user/job/cpu.max": "max 100000\n"}, 4),
        ("0::/job\n", {"job/cpu.max": "max 100000\n"}, math.inf),
        (
            "4:memory:/other\n2:cpuacct,cpu:/job\n0::/\n",  # version 1
            {"cpu/job/cpu.cfs_quota_us": "150000\n", "cpu/job/cpu.cfs_period_us": "50000\n"},
            3,
        ),
        ("1:cpu:/docker/1f\n", {"cpu/cpu.cfs_quota_us": "50000\n", "cpu/cpu.cfs_period_us": "100000\n"}, 0.5),
        ("1:cpu:/\n", {"cpu/cpu.cfs_quota_us": "-1\n", "cpu/cpu.cfs_period_us": "100000\n"}, math.inf),
        (None, {}, math.inf),
    ],
)
def test_a_containers_limit_counts(tmp_path, monkeypatch, groups, files, cores):
    if groups is not None:
        files = {"proc/self/cgroup": groups} | {f"sys/fs/cgroup/{name}": text for name, text in files.items()}
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    assert cores_of_cgroups(tmp_path) == cores
    monkeypatch.setattr("ganaug.core.hardware.cores_of_cgroups", lambda: cores)
    monkeypatch.setattr("os.cpu_count", lambda: 16)
    monkeypatch.delattr("os.sched_getaffinity", raising=False)
    assert usable_cores() == {0.5: 1, 2.5: 2, math.inf: 16}.get(cores, cores)


def test_where_the_system_does_not_tell_which_cores_may_be_used_all_count(monkeypatch):
    monkeypatch.setattr("ganaug.core.hardware.cores_of_cgroups", lambda: math.inf)
    if hasattr(os, "sched_getaffinity"):
        monkeypatch.setattr("os.sched_getaffinity", lambda _: {2, 5, 7})
        assert usable_cores() == 3
        monkeypatch.delattr("os.sched_getaffinity")
    monkeypatch.setattr("os.cpu_count", lambda: 12)
    assert usable_cores() == 12
    monkeypatch.setattr("os.cpu_count", lambda: None)
    assert usable_cores() == 1


def test_where_the_launchers_environment_cannot_be_read_its_one_thread_is_the_launchers(monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "2")
    monkeypatch.setattr("os.getppid", lambda: 2**30)  # no process has this number
    monkeypatch.setattr("ganaug.core.hardware.usable_cores", lambda: 8)
    assert cpu_threads(None) == (4, "of 8 cores, for 2 processes; OMP_NUM_THREADS=1 is the launcher's")


@pytest.mark.parametrize("platform", ["win32", "darwin"])
def test_only_glibc_is_told_to_keep_freed_memory(monkeypatch, platform):
    def missing(_):
        raise TypeError("LoadLibrary() argument 1 must be str, not None")

    monkeypatch.setattr("sys.platform", platform)
    monkeypatch.setattr("ctypes.CDLL", missing)
    keep_freed_memory()
