"""Generators that are always the same."""

from __future__ import annotations

import torch

from ganaug.generators import ACGAN28Generator


def make_generator(names: tuple[str, ...] = tuple("0123456789"), **options: int) -> ACGAN28Generator:
    """Untrained generator whose weights are always the same."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        generator = ACGAN28Generator(names, **options)
        # One forward pass in training mode gives BatchNorm statistics that an evaluation pass can use.
        generator(torch.randn(64, generator.latent_dim), torch.arange(64) % len(names))
    return generator.eval()
