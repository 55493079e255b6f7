"""One of the processes that train together; writes the losses of all steps, and its state at their end."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from ganaug.generators import one_pass
from ganaug.generators.layers import ByteDropout
from ganaug.training import Trainer
from helpers.killed import new_trainer


def comparable(generator: Any, *, double: bool) -> Any:
    """Without dropout and noise for the discriminator, for each process draws its own, and in float64 where float32's
    rounding would grow. Processes but the first come with weights of their own, which must not matter.
    """
    for weights in generator.parameters():
        weights.data += int(os.environ.get("RANK", "0"))
    one_pass.LEAST_TIME = 1.0  # at which there is no noise
    make_discriminator = generator.make_discriminator

    def adapted(network: nn.Module) -> nn.Module:
        for part in network.modules():
            if isinstance(part, ByteDropout | nn.Dropout):
                part.p = 0.0
            if double:
                part.register_forward_pre_hook(in_double)
        return network.double() if double else network

    generator.make_discriminator = lambda: adapted(make_discriminator())
    return adapted(generator)


def in_double(_: nn.Module, inputs: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
    return tuple(value.double() if value.is_floating_point() else value for value in inputs)


def losses(trainer: Trainer) -> dict[str, Tensor]:
    """By name, of all steps that have them, float64; means over the processes."""
    found: dict[str, list[Tensor]] = {}
    for step in range(trainer.total_steps):
        for name, value in trainer.step(step).items():
            if "loss" in name or name == "distance":
                found.setdefault(name, []).append(value.double())
    return {name: trainer.accelerator.reduce(torch.stack(values), "mean") for name, values in found.items()}


def comparable_trainer(system: str, steps: int, *, double: bool = False, **settings: Any) -> Trainer:
    return new_trainer(system, "no", steps, adapt=lambda generator: comparable(generator, double=double), **settings)


if __name__ == "__main__":
    system, steps, batch, double, folder = sys.argv[1:]
    trainer = comparable_trainer(system, int(steps), double=double == "True", train_batch_size=int(batch))
    found = losses(trainer)
    torch.save({"losses": found, "state": trainer.state()}, Path(folder) / f"{trainer.accelerator.process_index}.pt")
