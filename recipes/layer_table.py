"""What ``--summary`` prints."""

from __future__ import annotations

import torch
from torch import nn

from ganaug.training import GANTrainer, Trainer


def layer_tables(trainer: Trainer) -> str:
    """Layers, shapes and numbers of weights of all networks in training."""
    generator = trainer.bare_generator
    labels = torch.zeros(2, dtype=torch.int64)
    tables = [_table(generator, torch.zeros(2, generator.latent_dim), labels)]
    if isinstance(trainer, GANTrainer):
        images = torch.zeros(2, generator.channels, generator.image_size, generator.image_size)
        tables.append(_table(trainer.bare_discriminator, images, labels))
    return "\n".join(tables)


def _table(network: nn.Module, *inputs: torch.Tensor) -> str:
    from torchinfo import summary  # takes a moment to import

    columns = ("output_size", "num_params", "trainable")
    return str(summary(network, input_data=inputs, col_names=columns, depth=4, verbose=0, device="cpu"))
