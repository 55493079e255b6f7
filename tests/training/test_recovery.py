"""Steps whose gradients are not finite: skipped, and where they go on, training goes back and slows down."""

from __future__ import annotations

import json

import pytest
import torch
from helpers.killed import new_trainer
from helpers.programs import as_a_program

from ganaug.training import RunFolder, find_checkpoint, open_checkpoint, train
from ganaug.training.recovery import Recovery


@pytest.fixture
def poisoned(tmp_path, monkeypatch):
    """Train some steps, of which those that ``bad`` names see images that are not finite."""
    monkeypatch.setattr(Recovery, "PATIENCE", 2)

    def run(model, bad, steps=12, resume=None, **settings):
        trainer = new_trainer(model, "no", steps, **settings)
        shown, updates = trainer.batches.real, trainer.settings.discriminator_steps

        def real(number, part):
            images, labels = shown(number, part)
            return (images * float("nan") if bad(number // updates, trainer) else images), labels

        monkeypatch.setattr(trainer.batches, "real", real)
        folder = RunFolder(tmp_path / "run", after_kimg=None if resume is None else resume.facts["kimg"])
        return trainer, train(trainer, folder, resume=resume)

    with as_a_program():
        yield run


def rows(folder):
    return [json.loads(line) for line in (folder / "training" / "metrics.jsonl").read_text().splitlines()]


def finite(state):
    return all(value.isfinite().all() for part in state.values() for value in part.values())


@pytest.mark.parametrize(
    ("model", "bad"), [("acgan-28", 7), ("acgan-28", 11), ("sngan", 7), ("dcgan-32", 7), ("flow", 11)]
)
def test_a_batch_that_is_not_finite_is_skipped(poisoned, tmp_path, model, bad):
    """Also in the last of 12 steps."""
    trainer, _ = poisoned(model, lambda step, _: step == bad)
    assert finite(trainer.state())
    assert sum(row.get("skipped_steps", 0) for row in rows(tmp_path / "run")) == 1
    losses = [row["loss" if model == "flow" else "D_loss"] for row in rows(tmp_path / "run")]
    assert torch.tensor(losses).isfinite().all()
    optimizer = trainer.generator_optimizer if hasattr(trainer, "generator_optimizer") else trainer.optimizer
    counts = {float(value) for name, value in optimizer.moments().items() if name.endswith(".step")}
    assert counts <= {trainer.total_steps - 1, trainer.total_steps}  # G's own update may have been a good one


def test_a_skipped_step_changes_nothing_but_the_average(accelerator, monkeypatch):
    with as_a_program():
        trainer = new_trainer("acgan-28", "no", 4)
        trainer.step(0)
        before = {
            part: {name: value.clone() for name, value in values.items()} for part, values in trainer.state().items()
        }
        latent = trainer.batches.latent
        monkeypatch.setattr(
            trainer.batches, "latent", lambda *which: (latent(*which)[0] * float("inf"), latent(*which)[1])
        )
        trainer.step(1)
        assert trainer.skipped == 1
        after = trainer.state()
    for part in before.keys() - {"average"}:
        assert all(torch.equal(before[part][name], after[part][name]) for name in before[part]), part
    assert finite(after)


def test_training_goes_back_and_slows_down_until_it_holds(poisoned, tmp_path, caplog):
    def fast(step, trainer):
        return step >= 8 and trainer.learning_rate_factor > 0.3

    trainer, trained = poisoned("acgan-28", fast)
    assert trainer.learning_rate_factor == 0.25
    assert caplog.text.count("training diverged") == 2
    assert "step-00000008, with learning rates times 0.25" in caplog.text
    assert finite({"it": trained.state_dict()})
    checkpoint = find_checkpoint(tmp_path / "run")
    assert (checkpoint.step, checkpoint.facts["rollbacks"]) == (12, 2)
    # Gone on with, it is as slow.
    earlier = open_checkpoint(checkpoint.path.with_name("step-00000010"))
    assert poisoned("acgan-28", fast, resume=earlier)[0].learning_rate_factor == 0.25


def test_what_does_not_hold_ends_with_a_diagnosis(poisoned, tmp_path):
    with pytest.raises(FloatingPointError, match="3 halvings of the learning rate"):
        poisoned("acgan-28", lambda step, _: step >= 8)
    assert find_checkpoint(tmp_path / "run").step == 8  # none was written since
