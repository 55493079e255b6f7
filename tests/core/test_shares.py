"""Shares of a batch, computed side by side: the same results as the whole batch, whoever computes them when."""

from __future__ import annotations

import subprocess
import sys
import threading

import pytest
import torch
from torch import Tensor, nn

from ganaug.core.shares import LEAST, can_be_shared, each_image_by_itself, in_shares


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


@pytest.mark.skipif(sys.platform == "win32", reason="Windows does not fork")
def test_a_forked_process_shares_anew():
    program = """
import os, torch
from tests_network import Network, batches
from ganaug.core.shares import in_shares
network = Network().double()
with in_shares(2):
    network(*batches())
if not os.fork():
    with in_shares(2):
        network(*batches())
    os._exit(0 if len(network.seen) == 4 else 1)
assert os.wait()[1] == 0
"""
    program = program.replace("tests_network", "test_shares")
    path = str(__file__).rpartition("/")[0]
    subprocess.run([sys.executable, "-c", f"import sys; sys.path.append({path!r}){program}"], check=True, timeout=60)
