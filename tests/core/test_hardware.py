"""Threads of torch: what a block changes is as it was when all have left it, in whatever order they do."""

import threading

import pytest
import torch

from ganaug.core.hardware import one_thread_each


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
