"""Shares of a batch, computed side by side: the same results as the whole batch, whoever computes them when."""

from __future__ import annotations

import subprocess
import sys
import threading
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from ganaug.core.shares import LEAST, can_be_shared, each_image_by_itself, in_shares, number_of_shares


class Network(nn.Module):
    """Computes a tensor, or a list of two, of images and what else there is of each."""

    def __init__(self) -> None:
        super().__init__()
        self.layer, self.unused = nn.Conv2d(2, 3, 3, padding=1), nn.Linear(1, 1)
        self.seen: list[tuple[int, int, int]] = []  # images, the thread that computed them, and torch's threads

    @each_image_by_itself
    def forward(self, images: Tensor, other: Tensor) -> Tensor:
        self.seen.append((len(images), threading.get_ident(), torch.get_num_threads()))
        return self.layer(images).sigmoid() * other[:, None, None, None]

    @each_image_by_itself
    def both(self, images: Tensor, other: Tensor) -> list[Tensor]:
        return [self(images, other), images * 2]


@pytest.fixture
def network() -> Network:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return Network().double()


def batches(count: int = 2 * LEAST + 3) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(1)
    return (
        torch.randn(count, 2, 4, 4, generator=generator, dtype=torch.double, requires_grad=True),
        torch.rand(count, generator=generator, dtype=torch.double),
    )


@pytest.mark.parametrize("kind", ["forward", "both"])
def test_values_and_gradients_are_those_of_the_whole_batch(network, kind):
    found = []
    for count in (1, 2):
        images, other = batches()
        with in_shares(count):
            made = getattr(network, kind)(images, other)
            assert isinstance(made, list) is (kind == "both")
            made = made if isinstance(made, list) else [made]
            sum(each.square().sum() for each in made).backward()
        weight = network.layer.weight
        found.append([*made, images.grad, weight.grad])
        assert network.unused.weight.grad is None
        network.zero_grad()
    for one, other in zip(*found, strict=True):
        torch.testing.assert_close(one, other)


def test_shares_are_computed_by_threads_of_their_own(network):
    with in_shares(2):
        network(*batches(2 * LEAST + 3))
        network(*batches(2 * LEAST - 1))  # too few for two shares
    sizes, threads, _ = zip(*network.seen, strict=True)
    assert sorted(sizes[:2]) == [LEAST + 1, LEAST + 2]
    assert sizes[2] == 2 * LEAST - 1
    assert threading.get_ident() not in threads[:2]
    assert threads[2] == threading.get_ident()


def test_what_needs_no_gradient_gets_none(network):
    images, other = batches()
    network.requires_grad_(False)
    with in_shares(2):
        network(images, other).sum().backward()  # a discriminator judges so
        with torch.no_grad():
            assert not network(images, other).requires_grad
    assert images.grad is not None
    assert network.layer.weight.grad is None


def test_precision_is_that_of_the_context(network):
    images, other = (each.detach().float() for each in batches())
    network.float()
    with in_shares(2), torch.autocast("cpu", torch.bfloat16):
        shared = network(images, other)
    with torch.autocast("cpu", torch.bfloat16):
        whole = network(images, other)
    assert shared.dtype == whole.dtype
    assert torch.equal(shared, whole)


def test_threads_are_divided_and_given_back(network):
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(5)
        with in_shares(2):
            network(*batches())
            assert torch.get_num_threads() == 2
        assert torch.get_num_threads() == 5
        assert [threads for _, _, threads in network.seen] == [2, 2]
        with pytest.raises(RuntimeError), in_shares(2):
            network(torch.zeros(3 * LEAST, 7, 4, 4).double(), torch.zeros(3 * LEAST))  # seven channels
        assert torch.get_num_threads() == 5
    finally:
        torch.set_num_threads(before)


def test_other_threads_of_the_program_are_left_alone(network):
    with in_shares(2):
        other = threading.Thread(target=network, args=batches())
        other.start()
        other.join()
    assert [(images, thread) for images, thread, _ in network.seen] == [(2 * LEAST + 3, other.ident)]


def test_what_says_nothing_is_not_shared(network):
    assert can_be_shared(nn.Sequential(network))
    assert not can_be_shared(nn.ReLU())


def test_each_thread_of_the_program_has_shares_of_its_own(network):
    """Entered and left in whatever order."""
    first, second, order = in_shares(2), in_shares(2), threading.Barrier(2)

    def other() -> None:
        second.__enter__()
        order.wait()
        order.wait()
        network(*batches(4 * LEAST))
        second.__exit__(None, None, None)

    thread = threading.Thread(target=other)
    first.__enter__()
    thread.start()
    order.wait()
    first.__exit__(None, None, None)
    network(*batches(4 * LEAST))
    order.wait()
    thread.join()
    assert [images for images, _, _ in network.seen] == [4 * LEAST, 2 * LEAST, 2 * LEAST]


@pytest.mark.parametrize(
    ("threads", "images", "count"),
    [
        (1, 64, 1),
        (2, 64, 2),
        (3, 64, 3),
        (4, 64, 4),
        (5, 64, 4),
        (6, 64, 3),
        (7, 64, 3),
        (8, 64, 4),
        (10, 64, 4),
        (11, 64, 3),
        (14, 64, 4),
        (64, 64, 4),
        (2, 31, 1),
        (4, 5, 1),
        (2, 1, 1),
    ],
)
def test_shares_leave_few_threads_without_work(threads, images, count):
    assert number_of_shares(threads, images) == count
    assert count * (threads // count) >= 0.8 * threads


def run(program: str) -> None:
    """A Python program that may use what is in this file."""
    here = f"import os, sys, threading; sys.path.append({str(Path(__file__).parent)!r})\nfrom test_shares import *\n"
    subprocess.run([sys.executable, "-c", here + program], check=True, timeout=60)


@pytest.mark.skipif(sys.platform == "win32", reason="Windows does not fork")
@pytest.mark.parametrize("inside", [False, True])
def test_a_forked_process_starts_again(inside):
    run(f"""
network = Network().double()
outer = in_shares(2)
outer.__enter__()
network(*batches())
if not {inside}:
    outer.__exit__(None, None, None)
if not os.fork():
    network(*batches())
    with in_shares(2):
        network(*batches())
    os._exit(0 if sorted(images for images, _, _ in network.seen[2:]) == [17, 18, 35] else 1)
assert os.wait()[1] == 0
""")


def test_a_thread_computes_on_when_the_main_one_has_ended():
    run("""
network = Network().double()
def work():
    threading.main_thread().join()
    with in_shares(2):
        network(*batches())[0].sum().backward()
    os._exit(0 if [images for images, _, _ in network.seen] == [18, 17] else 1)
threading.Thread(target=work).start()
""")
