"""Going on in the middle of a stream."""

from __future__ import annotations

import json
from itertools import islice

import pytest
import torch
from helpers.generators import make_generator
from helpers.images import THREE
from helpers.streams import Noise, Plain, Reals, StatefulReals, facts
from torch.utils.data import IterableDataset

from ganaug.mixing.stream import ConditionalGANStream


def check_resume(make, stop: int, *, ended: bool = False) -> None:
    """Save after ``stop`` items of epoch 2, go on in another stream, and in the epoch after that."""
    stream = make()
    stream.set_epoch(2)
    whole = facts(stream)
    running = iter(stream)
    assert facts(islice(running, stop)) == whole[:stop]
    if ended:
        assert next(running, None) is None
    state = json.loads(json.dumps(stream.state_dict()))
    assert facts(running) == whole[stop:]
    stream.set_epoch(3)
    following = facts(stream)
    assert following != whole

    again = make()
    again.load_state_dict(state)
    assert again.epoch == 2
    assert json.loads(json.dumps(again.state_dict())) == state
    assert facts(again) == whole[stop:]
    again.set_epoch(3)
    assert facts(again) == following


@pytest.mark.parametrize("kind", [Reals, StatefulReals])
@pytest.mark.parametrize("ratio", [0.3, 0.6])
def test_resume(kind, ratio):
    """Two buffers of 8 reals and 4 more: at the start, within and between buffers, and at the end."""
    labels = [0, 0, 1, 2, 1, 1, 0, 2, 2, 0] * 2

    def make(buffer=8):
        return ConditionalGANStream(kind(labels, size=4), Noise(), ratio, buffer=buffer, return_source=True)

    end = len(list(make()))
    first_buffer = len(list(ConditionalGANStream(kind(labels[:8], size=4), Noise(), ratio)))
    for stop in (0, 1, 5, first_buffer - 1, first_buffer, first_buffer + 1, end - 1, end):
        check_resume(make, stop)
    check_resume(make, end, ended=True)
    # The buffer may change in between, and 20 reals may fill buffers to the last one.
    buffers = iter([8, 3])
    check_resume(lambda: make(next(buffers)), first_buffer + 4)
    check_resume(lambda: make(10), end)
    check_resume(lambda: make(10), end, ended=True)


def test_a_stateful_dataset_is_not_read_again():
    def make():
        return ConditionalGANStream(StatefulReals([0, 1, 2] * 20), Plain(), 0.5, buffer=6)

    stream = make()
    running = iter(stream)
    assert len(list(islice(running, 100))) == 100
    again = make()
    again.load_state_dict(stream.state_dict())
    assert facts(again) == facts(running)
    assert len(facts(again)) == 120
    assert again.dataset.reads == 60 - 48 + 60


def test_resume_of_a_hugging_face_stream(three):
    from datasets import ClassLabel, Dataset, Features, Value

    rows = Dataset.from_dict(
        {"label": [0, 1, 2, 2, 1, 0] * 4, "grey": list(range(24))},
        Features({"label": ClassLabel(names=list(THREE)), "grey": Value("uint8")}),
    )

    def make():
        return ConditionalGANStream(Pairs(rows.to_iterable_dataset(num_shards=3)), three, 0.5, buffer=5)

    for stop in (0, 7, 10, 31, 48):
        check_resume(make, stop)
    stream = make()
    whole, running = facts(stream), iter(stream)
    assert facts(islice(running, 20)) == whole[:20]
    state = stream.state_dict()
    for resumed in (stream, make()):
        resumed.load_state_dict(state)
        assert facts(resumed) == whole[20:]
        assert facts(resumed) == whole
    with pytest.raises(
        TypeError, match=r"items of IterableDataset must be \(image, int label\) .* a dict of label, grey"
    ):
        list(ConditionalGANStream(rows.to_iterable_dataset(), three, classes=THREE))


class Pairs(IterableDataset):
    """An HF stream as pairs."""

    def __init__(self, rows):
        self.rows, self.classes = rows, rows.features["label"].names
        self.set_epoch, self.state_dict, self.load_state_dict = rows.set_epoch, rows.state_dict, rows.load_state_dict

    def __iter__(self):
        for row in self.rows:
            yield torch.full((1, 12, 12), row["grey"], dtype=torch.uint8), row["label"]


def test_stateful_loaders_see_a_new_start_before_its_first_item():
    """They ask for the state after iter() and before next(), and may begin an iteration that they do not use."""
    stream = ConditionalGANStream(Reals([0, 1, 2]), Plain(), 0.5)
    start = stream.state_dict()
    whole = facts(stream)
    assert stream.state_dict()["yielded"] == 6
    running = iter(stream)
    assert stream.state_dict() == start
    assert facts(running) == whole
    stream.load_state_dict(stream.state_dict())
    iter(stream)
    assert facts(stream) == whole


def test_another_epoch_drops_a_loaded_state():
    stream = ConditionalGANStream(Reals([0, 1, 2]), Plain(), 0.5)
    running = iter(stream)
    next(running)
    state = stream.state_dict()
    stream.load_state_dict(state)
    stream.set_epoch(0)
    assert len(list(stream)) == 5
    stream.load_state_dict(state)
    stream.set_epoch(1)
    assert (stream.epoch, len(list(stream))) == (1, 6)
    with pytest.raises(ValueError, match="epoch must be an int from 0"):
        stream.set_epoch(-1)


def test_states_of_other_streams_are_refused(three, monkeypatch):
    def stream(generator=three, **options):
        return ConditionalGANStream(Reals([0, 1, 2], size=12), generator, **options)

    state = stream().state_dict()
    for other, message in [
        (stream(ratio=0.5), r"another stream \(ratio: saved 3/10, here 1/2\)\. Load it into one made with the same"),
        (stream(seed=1), r"\(seed: saved 0, here 1; generator: saved"),
        (stream(make_generator(THREE[::-1], image_size=12)), r"\(generator: saved \w+, here \w+\)"),
    ]:
        with pytest.raises(ValueError, match=message):
            other.load_state_dict(state)
    monkeypatch.setenv("RANK", "1")
    with pytest.raises(ValueError, match=r"\(shard: saved 0, here 1\).*same worker and rank"):
        stream().load_state_dict(state)
