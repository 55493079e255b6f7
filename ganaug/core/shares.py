"""Batches that a network computes in shares, side by side, each by threads of its own.

torch divides every layer among its threads, which wait for one another at its end. If another program has one of the
cores for a while, all of them wait. Threads that have a share of the batch each wait once, at the end of the network.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import lru_cache, partial, wraps
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

LEAST = 16  # images in a share: with fewer, a thread computes more slowly

Computes = Callable[..., Any]  # tensors that have the batch as their first dimension to one such, or a list of such


def each_image_by_itself(method: Computes) -> Computes:
    """Say that a method of a module computes each image of a batch by itself, so that shares of it may be computed.

    It takes tensors whose first dimension is the batch, and returns one or a list of such. It draws nothing at random,
    and changes no buffer. Inside :func:`in_shares` it computes in shares; elsewhere, as if nothing had been said.
    """

    @wraps(method)
    def compute(module: nn.Module, *batches: Tensor, **named: Any) -> Any:
        shares = None if torch.compiler.is_compiling() else _of_this_thread.shares
        if shares is None or named or len(batches[0]) < shares.count * LEAST:
            return method(module, *batches, **named)
        weights = [weight for weight in module.parameters() if weight.requires_grad]
        return shares.compute(partial(method, module), batches, weights)

    compute.in_shares = True  # type: ignore[attr-defined]
    return compute


def can_be_shared(module: nn.Module) -> bool:
    """Whether a module, or a part of it, computes in shares inside :func:`in_shares`."""
    return any(hasattr(type(part).forward, "in_shares") for part in module.modules())


def number_of_shares(threads: int, images: int) -> int:
    """Into how many shares so many threads divide a batch of so many images.

    As many as possible with enough images for each, and with work for four fifths of the threads.
    """
    counts = range(1, max(1, min(threads, images // LEAST)) + 1)
    return max(count for count in counts if count * (threads // count) >= 0.8 * threads)


@contextmanager
def in_shares(count: int) -> Iterator[None]:
    """A context in which this thread computes batches in shares, where a module can.

    torch's threads are divided among the shares; what is not shared has no more than a share has, and so has a thread
    of the program that begins to compute meanwhile. Results depend on the number of shares, by rounding, but not on
    how many of them run at the same time.

    Args:
        count (int): of the shares; with 1, nothing changes.
    """
    if count == 1:
        yield
        return
    threads_before, shares_before = torch.get_num_threads(), _of_this_thread.shares
    threads = max(1, threads_before // count)
    torch.set_num_threads(threads)
    _of_this_thread.shares = _Shares(count, threads)
    try:
        yield
    finally:
        _of_this_thread.shares = shares_before
        torch.set_num_threads(threads_before)


class _Shares:
    """Computes in shares, in as many other threads."""

    def __init__(self, count: int, threads: int) -> None:
        self.count, self.pool = count, _pool(count, threads)

    def compute(self, function: Computes, batches: Sequence[Tensor], weights: Sequence[Tensor]) -> Any:
        """What a function computes of batches, with gradients for them and for the weights that it uses."""
        dtype, enabled = torch.get_autocast_dtype("cpu"), torch.is_autocast_enabled("cpu")
        lists = []

        def compute(*share: Tensor) -> list[Tensor]:
            # Each thread casts weights for itself: a cache of what was cast would be that of all threads.
            with torch.autocast("cpu", dtype, enabled=enabled, cache_enabled=False):
                made = function(*share)
            lists.append(isinstance(made, list))
            return made if lists[0] else [made]

        if torch.is_grad_enabled():
            made = _SideBySide.apply(self, compute, len(batches), *batches, *weights)
        else:
            made = self.joined(self.each(torch.no_grad()(compute), self.divided(batches)))
        return list(made) if lists[0] else made[0]

    def divided(self, batches: Sequence[Tensor]) -> list[tuple[Tensor, ...]]:
        """The batches of each share."""
        return list(zip(*(batch.tensor_split(self.count) for batch in batches), strict=True))

    def joined(self, shares: Sequence[Sequence[Tensor | None]]) -> tuple[Tensor | None, ...]:
        """What all shares computed; None where they have nothing."""
        return tuple(
            torch.cat(of_all) if isinstance(of_all[0], Tensor) else None for of_all in zip(*shares, strict=True)
        )

    def each(self, function: Callable[..., Any], arguments: Sequence[Sequence[Any]]) -> list[Any]:
        """Call a function for each share at the same time; its results in the order of the shares."""
        try:
            done = self.pool.map(function, *zip(*arguments, strict=True))
        except RuntimeError:  # the program's main thread has ended, after which pools take nothing more
            shares, _of_this_thread.shares = _of_this_thread.shares, None  # no share is divided again
            try:
                return [function(*each) for each in arguments]
            finally:
                _of_this_thread.shares = shares
        return list(done)


class _SideBySide(torch.autograd.Function):
    """A function of batches and weights whose shares have each a graph of its own, forwards and backwards."""

    @staticmethod
    def forward(  # type: ignore[override]
        ctx: Any, shares: _Shares, compute: Computes, number: int, *values: Tensor
    ) -> tuple[Tensor, ...]:
        batches, ctx.weights, ctx.shares = values[:number], values[number:], shares
        needs = ctx.needs_input_grad[3 : 3 + number]

        def forward(*share: Tensor) -> tuple[list[Tensor], list[Tensor]]:
            given = [batch.detach().requires_grad_(need) for batch, need in zip(share, needs, strict=True)]
            with torch.enable_grad():
                return given, compute(*given)

        ctx.graphs = shares.each(forward, shares.divided(batches))
        return shares.joined([made for _, made in ctx.graphs])  # type: ignore[return-value]

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        def backward(graph: tuple[list[Tensor], list[Tensor]], of_made: Sequence[Tensor]) -> tuple[Any, Any]:
            given, made = graph
            wanted = [batch for batch in given if batch.requires_grad] + list(ctx.weights)
            found = iter(torch.autograd.grad(made, wanted, of_made, allow_unused=True))
            return [next(found) if batch.requires_grad else None for batch in given], list(found)

        shares: _Shares = ctx.shares
        done = shares.each(backward, list(zip(ctx.graphs, shares.divided(gradients), strict=True)))
        of_weights = [of_all[0] for of_all in zip(*(weights for _, weights in done), strict=True)]
        for _, weights in done[1:]:
            of_weights = [one if more is None else one + more for one, more in zip(of_weights, weights, strict=True)]
        return (None, None, None, *shares.joined([batches for batches, _ in done]), *of_weights)


class _OfThisThread(threading.local):
    shares: _Shares | None = None


_of_this_thread = _OfThisThread()


@lru_cache
def _pool(count: int, threads: int) -> ThreadPoolExecutor:
    """So many threads, in each of which torch computes with so many."""
    return ThreadPoolExecutor(count, "ganaug-share", torch.set_num_threads, (threads,))


def _forget() -> None:
    """Start again in a forked process, which has none of the pools' threads."""
    _pool.cache_clear()
    _of_this_thread.shares = None


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget)
