"""A mixed dataset in a Lightning data module, trained on through its own Trainer."""

from __future__ import annotations

import logging
import random
import warnings

import numpy as np
import torch
from helpers.images import small_images
from torch.utils.data import DataLoader

from ganaug import ConditionalGANAugment


def test_lightning_trains_on_every_item(three, tmp_path):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # its own, about workers and what it imports
        from lightning import LightningDataModule, LightningModule, Trainer
    logging.getLogger("lightning").setLevel(logging.ERROR)
    seen: list[tuple[int, bytes]] = []

    class Data(LightningDataModule):
        def setup(self, stage):
            self.train = ConditionalGANAugment(small_images(), three, ratio=0.5, return_source=True)

        def train_dataloader(self):
            return DataLoader(self.train, batch_size=16, shuffle=True, num_workers=1)

    class Model(LightningModule):
        def __init__(self):
            super().__init__()
            self.layer = torch.nn.Linear(144, 3)

        def training_step(self, batch, _):
            images, labels, source = batch
            seen.extend((int(k), image.numpy().tobytes()) for k, image in zip(source, images, strict=True))
            return torch.nn.functional.cross_entropy(self.layer(images.flatten(1) / 255), labels)

        def configure_optimizers(self):
            return torch.optim.SGD(self.parameters(), 0.1)

    data, states = Data(), (random.getstate(), np.random.get_state())
    with torch.random.fork_rng(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        quiet = {"logger": False, "enable_checkpointing": False, "enable_progress_bar": False}
        trainer = Trainer(
            max_epochs=1, accelerator="cpu", default_root_dir=tmp_path, enable_model_summary=False, **quiet
        )
        trainer.fit(Model(), datamodule=data)
    random.setstate(states[0])
    np.random.set_state(states[1])
    assert sorted(seen) == sorted((source, image.numpy().tobytes()) for image, _, source in data.train)
