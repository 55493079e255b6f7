"""Ints of numpy, pandas and torch are taken wherever an int is; bools and floats are not."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from helpers.generators import Honest
from helpers.images import small_images
from helpers.streams import Plain, Reals
from hypothesis import given
from hypothesis import strategies as st

from ganaug import ConditionalGANAugment, ConditionalGANStream, InputError, MixedBatchSampler
from ganaug.core.integers import positive_int, to_int, unsigned_int
from ganaug.data import reduce_images
from ganaug.evaluation import UtilitySettings, train_classifier
from ganaug.generators import FlowGenerator
from ganaug.mixing.huggingface import generate_dataset
from ganaug.sampling import sample
from ganaug.training.settings import TrainingSettings

KINDS = [int, np.int64, np.uint8, np.array, torch.tensor, lambda value: torch.tensor(value, dtype=torch.int16)]
NOT_INTS = [
    True,
    np.True_,
    torch.tensor(True),
    1.0,
    np.float32(1),
    torch.tensor(1.0),
    "1",
    None,
    [1],
    np.array([1, 2]),
]


@given(value=st.integers(-(2**63), 2**63 - 1))
def test_an_int_of_any_library_is_the_same_plain_int(value):
    for kind in (int, np.int64, torch.tensor):
        assert to_int(kind(value)) == value
        assert type(to_int(kind(value))) is int


@pytest.mark.parametrize("value", NOT_INTS, ids=repr)
def test_values_that_are_not_ints(value):
    assert to_int(value) is None
    for check in (positive_int, lambda name, value: unsigned_int(name, value, bits=8)):
        with pytest.raises(InputError, match="number must be .* got"):
            check("number", value)


def test_ranges():
    assert [unsigned_int("it", np.int16(value), bits=8) for value in (0, 255)] == [0, 255]
    assert positive_int("it", np.int16(1)) == 1
    for check in (lambda: positive_int("it", 0), lambda: unsigned_int("it", -1, bits=8)):
        with pytest.raises(InputError, match="it must be"):
            check()
    with pytest.raises(InputError, match=r"from 0 to 2\*\*8 - 1, got 256"):
        unsigned_int("it", 256, bits=8)


@pytest.mark.parametrize("kind", KINDS)
def test_every_set_epoch_takes_it_and_states_stay_json(kind):
    train = ConditionalGANAugment(small_images(size=1), Plain(), 0.5, seed=kind(3), max_tries=kind(2))
    stream = ConditionalGANStream(Reals([0, 1]), Plain(), seed=kind(3), buffer=kind(2))
    batches = MixedBatchSampler(train, kind(8), seed=kind(3))
    for one in (train, stream, batches):
        one.set_epoch(kind(4))
    assert (train.epoch, stream.epoch, stream.dataset.epoch) == (4, 4, 4)
    assert len(next(iter(batches))) == 8
    assert [json.loads(json.dumps(one.state_dict()))["epoch"] for one in (train, stream)] == [4, 4]
    for bad in (True, -1, 1.0, "1"):
        for one in (train, stream, batches):
            with pytest.raises(ValueError, match="epoch must be an int"):
                one.set_epoch(bad)


@pytest.mark.parametrize("kind", KINDS)
def test_sizes_counts_and_settings_take_it(kind, tmp_path):
    with torch.random.fork_rng():
        flow = FlowGenerator(["a", "b"], image_size=kind(8), channels=kind(1), width=kind(16), steps=kind(2))
    assert json.loads(json.dumps([flow.image_size, flow.channels, flow.latent_dim, flow.network_options()]))
    settings = TrainingSettings(train_batch_size=kind(8), seed=kind(3))
    assert type(settings.train_batch_size) is type(settings.seed) is int
    with pytest.raises(InputError, match="train_batch_size must be positive"):
        TrainingSettings(train_batch_size=kind(0))
    assert type(UtilitySettings(seeds=kind(3), steps=kind(5)).steps) is int
    train_classifier(small_images(), steps=kind(1), batch_size=kind(4), seed=kind(3))
    assert len(reduce_images(small_images(), images_per_class=kind(4))[0]) == 12
    honest = Honest("ant", "bee")
    honest.latent_dim = kind(1)
    assert len(sample(honest, [kind(0), kind(1)], seed=kind(3))) == 2
    assert len(generate_dataset(honest, {"ant": kind(3)}, cache_dir=tmp_path)) == 3
    assert len(generate_dataset(honest, kind(2), cache_dir=tmp_path)) == 4
    assert ConditionalGANAugment(small_images(size=1), Plain(), sampling_strategy={"class 1": kind(25)}).n_fake == 5
