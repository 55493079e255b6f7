"""The warning for when images should change with the epoch, but nothing tells the dataset its epoch."""

from __future__ import annotations

import itertools
import logging

import pytest
import torch
from helpers.images import small_images
from helpers.programs import run_python
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.utils.data import ConcatDataset, DataLoader, Subset, WeightedRandomSampler

from ganaug import ConditionalGANAugment
from ganaug.testing import check_augmented_dataset

CHANGING = [{"resample": True}, {"mode": "replace"}, {"mode": "replace", "resample": True}]


def mixed_of(generator, **options) -> ConditionalGANAugment:
    return ConditionalGANAugment(small_images(), generator, 0.25, **options)


def loader_of(dataset, **options) -> DataLoader:
    return DataLoader(dataset, **{"batch_size": 16, "generator": torch.Generator(), **options})


def read(loader) -> None:
    for _ in loader:
        pass


@pytest.fixture
def warned(caplog):
    """How many warnings there have been so far."""
    return lambda: sum("is read again" in message for message in caplog.messages)


@pytest.mark.parametrize("options", CHANGING, ids=str)
@pytest.mark.parametrize("batch_size", [None, 7, 100])
def test_the_second_pass_without_set_epoch_is_warned_of_once(three, warned, caplog, options, batch_size):
    loader = loader_of(mixed_of(three, **options), batch_size=batch_size)
    read(loader)
    assert warned() == 0
    read(loader)
    assert warned() == 1
    assert "epoch 0 is read again" in caplog.text
    assert "call dataset.set_epoch(epoch) before it" in caplog.text
    read(loader)
    assert warned() == 1


@settings(deadline=None, max_examples=25)
@given(
    sizes=st.lists(st.integers(1, 100), min_size=1, max_size=20),
    passes=st.lists(st.booleans(), min_size=1, max_size=4),
)
def test_whatever_the_batches(three, sizes, passes):
    """Passes in batches of any sizes, some after set_epoch: a warning comes only when an epoch is repeated."""
    mixed, batches = mixed_of(three, resample=True), itertools.cycle(sizes)
    messages = Messages()
    logger = logging.getLogger("ganaug.mixing.epoch_watch")
    logger.addHandler(messages)
    try:
        for number, told in enumerate(passes):
            if told:
                mixed.set_epoch(number)
            left = len(mixed)
            while left:
                size = min(left, next(batches))
                mixed.__getitems__([0] * size)
                left -= size
    finally:
        logger.removeHandler(messages)
    # Without set_epoch, an epoch may be read once; after it, twice.
    in_epochs = [len(list(group)) for _, group in itertools.groupby(itertools.accumulate(passes))]
    allowed = [1 if k == 0 and not passes[0] else 2 for k in range(len(in_epochs))]
    expected = any(count > most for count, most in zip(in_epochs, allowed, strict=True))
    assert len(messages.records) == expected


class Messages(logging.Handler):
    def __init__(self):
        super().__init__()
        self.records = []

    def emit(self, record):
        self.records.append(record)


@pytest.mark.parametrize("wrapped", [lambda it: ConcatDataset([it]), lambda it: Subset(it, range(len(it)))])
def test_within_other_datasets_too(three, warned, wrapped):
    loader = loader_of(wrapped(mixed_of(three, resample=True)), shuffle=True)
    read(loader)
    assert warned() == 0
    read(loader)
    assert warned() == 1


def test_an_epoch_that_is_left_early_and_told_again(three, warned, accelerator):
    """accelerate counts an epoch when an iteration ends by itself, not by ``break``."""
    loader = accelerator.prepare(loader_of(mixed_of(three, resample=True)))
    for times in range(3):
        for k, _ in enumerate(loader):
            assert warned() == (times > 0)
            if k == 2:
                break


def test_epochs_that_accelerate_tells(three, warned, accelerator):
    mixed = mixed_of(three, resample=True)
    loader = accelerator.prepare(loader_of(mixed))
    for epoch in range(3):
        read(loader)
        assert mixed.epoch == epoch
    assert warned() == 0


def test_an_epoch_that_is_told_once_for_all(three, warned):
    mixed = mixed_of(three, resample=True)
    mixed.set_epoch(3)
    for times in range(3):
        assert warned() == 0
        read(loader_of(mixed))
        assert warned() == (times == 2)


def test_looking_around_before_training(three, warned):
    mixed = mixed_of(three, resample=True)
    for _ in range(3):
        check_augmented_dataset(mixed, num_workers=0)
    for index in (0, 1, -1):
        assert mixed[index]
    read(loader_of(mixed))  # as for a mean and a standard deviation
    for epoch in range(3):
        mixed.set_epoch(epoch)
        read(loader_of(mixed, shuffle=True))
        read(loader_of(mixed))  # as to evaluate
    assert warned() == 0


def test_check_alignment_does_not_count_as_a_pass(three, warned):
    mixed = mixed_of(three, resample=True)
    for _ in range(5):
        with pytest.raises(ValueError, match="mean"):  # an untrained generator draws nothing like them
            mixed.check_alignment()
    assert warned() == 0


def test_a_sampler_of_as_many_items_as_there_are(three, warned):
    mixed = mixed_of(three, resample=True)
    sampler = WeightedRandomSampler(mixed.sample_weights(0.5), len(mixed), generator=torch.Generator())
    read(loader_of(mixed, sampler=sampler))
    assert warned() == 0


def test_a_resumed_epoch(three, warned):
    mixed = mixed_of(three, resample=True)
    mixed.set_epoch(2)
    read(loader_of(Subset(mixed, range(70))))
    again = mixed_of(three, resample=True)
    again.load_state_dict(mixed.state_dict())
    for epoch in (2, 3, 4):
        again.set_epoch(epoch)
        read(loader_of(again))
    assert warned() == 0


@pytest.mark.parametrize("options", [{}, {"resample": True, "sampling_strategy": {}}, {"resample": True, "ratio": 0}])
def test_where_nothing_changes_with_the_epoch_nothing_is_said(three, warned, options):
    mixed = ConditionalGANAugment(small_images(), three, **options)
    for _ in range(4):
        read(loader_of(mixed))
    assert warned() == 0


@pytest.mark.parametrize(("rank", "expected"), [("0", 1), ("1", 0)])
def test_a_rank_reads_its_share(three, warned, monkeypatch, rank, expected):
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setenv("RANK", rank)
    mixed = mixed_of(three, resample=True)
    share = loader_of(Subset(mixed, range(int(rank), len(mixed), 2)))
    read(share)
    assert warned() == 0
    read(share)
    assert warned() == expected


PROGRAM = """
import sys
import torch
from torch.utils.data import DataLoader
from helpers.generators import make_generator
from helpers.images import THREE, small_images
from ganaug import ConditionalGANAugment

persistent, tells = sys.argv[1] == "persistent", sys.argv[2] == "tells"
mixed = ConditionalGANAugment(small_images(), make_generator(THREE, image_size=12), 0.25, resample=True)
loader = DataLoader(mixed, batch_size=4, num_workers=2, persistent_workers=persistent)
for epoch in range(4):
    if tells:
        mixed.set_epoch(epoch)
    for _ in loader:
        pass
    print("epoch", epoch, flush=True)
"""


@pytest.mark.parametrize("life", ["persistent", "new"])
@pytest.mark.parametrize(("tells", "expected"), [("tells", 0), ("silent", 1)])
def test_workers_speak_once_for_all(tmp_path, life, tells, expected):
    (tmp_path / "program.py").write_text(PROGRAM)
    output = run_python("program.py", life, tells, cwd=tmp_path)
    assert output.count("epoch 3") == 1
    assert output.count("epoch 0 is read again") == expected
