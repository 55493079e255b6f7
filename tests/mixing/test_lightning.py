"""A mixed dataset in a Lightning data module, trained on through its own Trainer."""

from __future__ import annotations

import logging
import random
import warnings
from typing import Any

import numpy as np
import pytest
import torch
from helpers.images import small_images
from helpers.readmes import code_blocks
from torch.utils.data import DataLoader

from ganaug import ConditionalGANAugment


@pytest.fixture
def fit(three, tmp_path):
    """Train in a Lightning trainer: what was in the batches, (source, image) by epoch."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # its own, about workers and what it imports
        from lightning import LightningDataModule, LightningModule, Trainer
    logging.getLogger("lightning").setLevel(logging.ERROR)

    class Data(LightningDataModule):
        def __init__(self, workers: int, options: dict[str, Any]):
            super().__init__()
            self.workers, self.options = workers, options

        def setup(self, stage):
            self.train = ConditionalGANAugment(small_images(), three, 0.5, return_source=True, **self.options)

        def train_dataloader(self):
            return DataLoader(self.train, batch_size=16, shuffle=True, num_workers=self.workers)

    class Model(LightningModule):
        def __init__(self):
            super().__init__()
            self.layer = torch.nn.Linear(144, 3)
            self.seen: list[list[tuple[int, bytes]]] = []

        def on_train_epoch_start(self):
            self.seen.append([])

        def training_step(self, batch, _):
            images, labels, source = batch
            self.seen[-1] += [(int(k), image.numpy().tobytes()) for k, image in zip(source, images, strict=True)]
            return torch.nn.functional.cross_entropy(self.layer(images.flatten(1) / 255), labels)

        def configure_optimizers(self):
            return torch.optim.SGD(self.parameters(), 0.1)

    def run(epochs: int, callbacks: list[Any], *, workers: int = 1, **options: Any):
        data, states = Data(workers, options), (random.getstate(), np.random.get_state())
        with torch.random.fork_rng(), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            model = Model()
            trainer = Trainer(
                max_epochs=epochs,
                accelerator="cpu",
                default_root_dir=tmp_path,
                callbacks=callbacks,
                logger=False,
                enable_checkpointing=False,
                enable_progress_bar=False,
                enable_model_summary=False,
            )
            trainer.fit(model, datamodule=data)
        random.setstate(states[0])
        np.random.set_state(states[1])
        return data.train, model.seen

    return run


def items_of(dataset: ConditionalGANAugment) -> list[tuple[int, bytes]]:
    return sorted((source, image.numpy().tobytes()) for image, _, source in dataset)


def callback_of_the_readme() -> Any:
    (block,) = [each for each in code_blocks("ganaug/mixing/README.md", "python") if "(Callback)" in each]
    names: dict[str, Any] = {}
    exec(block, names)
    return names["SetEpoch"]()


def test_lightning_trains_on_every_item(fit):
    train, (seen,) = fit(1, [])
    assert sorted(seen) == items_of(train)


@pytest.mark.parametrize("options", [{"resample": True}, {"mode": "replace"}], ids=str)
def test_with_the_callback_of_the_readme_every_epoch_has_its_own(fit, options):
    train, seen = fit(3, [callback_of_the_readme()], **options)
    for epoch in range(3):
        train.set_epoch(epoch)
        assert sorted(seen[epoch]) == items_of(train)
    assert sorted(seen[0]) != sorted(seen[1]) != sorted(seen[2])


def test_without_it_there_is_one_warning(fit, caplog):
    fit(3, [], workers=0, resample=True)
    assert sum("epoch 0 is read again" in message for message in caplog.messages) == 1
