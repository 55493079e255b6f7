"""Functions of the user's own that are called along a run."""

from __future__ import annotations

import json

import pytest
import torch
from accelerate.tracking import GeneralTracker
from helpers.generators import make_generator
from helpers.killed import BATCH, DIGITS, HELD_OUT, new_trainer
from helpers.programs import as_a_program
from PIL import Image

from ganaug import InputError
from ganaug.training import (
    GANObjective,
    RunFolder,
    TrainingEvent,
    TrainingSettings,
    find_checkpoint,
    fit,
    open_checkpoint,
    selection,
    train,
)

GRID_EVERY = 3 * BATCH / 1000  # kimg: every third step; a checkpoint is written after every second one


def six_steps(folder, *, resume=None, held_out=None, hooks=None, trackers=(), **settings):
    """Train 6 steps, and return the weights; without a folder nothing is written."""
    with as_a_program():
        trainer = new_trainer("acgan-28", "no", 6, **{"sample_kimg": GRID_EVERY, "evaluation_kimg": None, **settings})
        trainer.accelerator.log_with = list(trackers)
        run = None if folder is None else RunFolder(folder, after_kimg=resume and resume.facts["kimg"])
        return train(trainer, run, resume=resume, held_out=held_out, **(hooks or {})).state_dict()


@pytest.fixture
def folder(tmp_path):
    return tmp_path / "run"


@pytest.fixture(scope="module")
def weights_without_hooks(tmp_path_factory):
    return six_steps(tmp_path_factory.mktemp("runs") / "run")


def same(ours, theirs):
    return ours.keys() == theirs.keys() and all(torch.equal(ours[name], theirs[name]) for name in ours)


def test_what_hooks_are_given(folder):
    grids, checkpoints = [], []

    def note(event: TrainingEvent) -> None:
        checkpoints.append(event)
        assert not event.generator.training
        state = open_checkpoint(event.path).state()
        assert same(dict(event.generator.state_dict()), state["average"])  # now, not at the end of the run

    weights = six_steps(folder, hooks={"on_grid": grids.append, "on_checkpoint": note}, log_kimg=GRID_EVERY)
    assert [(event.step, event.kimg) for event in grids] == [(3, 0.024), (6, 0.048)]
    assert [(event.step, event.kimg) for event in checkpoints] == [(2, 0.016), (4, 0.032), (6, 0.048)]
    for event in grids:
        assert event.path.parent == folder / "samples"
        with Image.open(event.path) as picture:
            assert picture.size[1] > 7 * 8
    lines = (folder / "training" / "metrics.jsonl").read_text().splitlines()
    row = next(row for row in map(json.loads, lines) if row["kimg"] == 0.024)
    assert grids[0].monitors == {name: value for name, value in row.items() if name not in ("kimg", "seconds")}
    assert same(grids[1].generator.state_dict(), weights)
    assert not same(grids[0].generator.state_dict(), weights)


def test_a_generator_that_is_scored_comes_with_its_grid(folder, monkeypatch):
    monkeypatch.setattr(selection, "GeneratorScore", lambda *_, **__: lambda generator: {"score": 0.5})
    told = []
    every = {"evaluation_kimg": 2 * BATCH / 1000, "sample_kimg": 1}
    six_steps(folder, hooks={"on_grid": told.append}, held_out=HELD_OUT, **every)
    assert [(event.step, event.monitors["score"]) for event in told] == [(2, 0.5), (4, 0.5), (6, 0.5)]


def test_a_run_that_writes_nothing_calls_them_too():
    told = []
    six_steps(None, hooks={"on_grid": told.append})
    assert [(event.step, event.path) for event in told] == [(3, None), (6, None)]


def test_what_a_hook_does_changes_nothing_in_the_run(folder, weights_without_hooks):
    def meddle(event: TrainingEvent) -> None:
        torch.rand(5)
        event.generator.sample([0, 1])
        event.generator.train()
        event.monitors.clear()
        for weight in event.generator.parameters():
            weight.data.zero_()

    assert same(six_steps(folder, hooks={"on_grid": meddle, "on_checkpoint": meddle}), weights_without_hooks)


class Finishing(GeneralTracker):
    """Notes whether it was finished."""

    name, requires_logging_directory, finished = "finishing", False, False

    @property
    def tracker(self) -> Finishing:
        return self

    def start(self) -> None: ...

    def store_init_configuration(self, values: dict) -> None: ...

    def log(self, values: dict, step: int) -> None: ...

    def finish(self) -> None:
        self.finished = True


@pytest.mark.parametrize("hook", ["on_grid", "on_checkpoint"])
def test_a_hook_that_fails_ends_a_run_that_can_be_resumed(folder, weights_without_hooks, hook):
    def fail(event: TrainingEvent) -> None:
        raise RuntimeError("no space on the other disk")

    tracker = Finishing()
    with pytest.raises(RuntimeError, match="no space on the other disk"):
        six_steps(folder, hooks={hook: fail}, trackers=[tracker])
    assert tracker.finished
    found = find_checkpoint(folder)
    assert found.step == {"on_grid": 3, "on_checkpoint": 2}[hook]
    assert not (folder / "model.safetensors").exists()
    assert same(six_steps(folder, resume=found), weights_without_hooks)


def test_a_hook_that_fails_writes_no_checkpoint_where_none_are_written(folder):
    def fail(event: TrainingEvent) -> None:
        raise KeyError("it")

    with pytest.raises(KeyError):
        six_steps(folder, hooks={"on_grid": fail}, checkpointing_kimg=None)
    assert not (folder / "training" / "checkpoints").exists()


def test_a_hook_that_would_never_be_called_is_refused(folder):
    with pytest.raises(InputError, match="on_checkpoint would never be called"):
        six_steps(folder, hooks={"on_checkpoint": print}, checkpointing_kimg=None)


def test_fit_takes_hooks(tmp_path):
    settings = TrainingSettings(
        total_kimg=0.032, train_batch_size=8, sample_kimg=0.032, checkpointing_kimg=0.016, cpu_threads=1
    )
    told = []

    def make():
        return make_generator(DIGITS.classes, image_size=8)

    with as_a_program():
        hooks = {
            "on_grid": lambda event: told.append("grid"),
            "on_checkpoint": lambda event: told.append("checkpoint"),
        }
        with pytest.raises(InputError, match="resume=True"):
            fit(make, GANObjective(), DIGITS, settings, tmp_path / "refused", **hooks)
        fit(make, GANObjective(), DIGITS, settings, tmp_path / "run", resume=True, **hooks)
    assert told == ["checkpoint", "grid", "checkpoint"]
