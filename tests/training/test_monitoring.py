"""Trackers of experiments: what they are shown, and that none of them stops a run."""

from __future__ import annotations

import errno

import pytest
from accelerate import Accelerator
from accelerate.tracking import GeneralTracker
from helpers.killed import new_trainer
from helpers.programs import as_a_program

from ganaug import InputError
from ganaug.training import RunFolder, TrainingSettings, start_accelerator, train


class Breaking(GeneralTracker):
    """Notes what it is told, until it breaks."""

    name = "breaking"
    requires_logging_directory = False

    def __init__(self, at: str = "never") -> None:
        super().__init__()
        self.at, self.told = at, []

    def _note(self, what: str) -> None:
        if what == self.at:
            raise RuntimeError("no connection")
        self.told.append(what)

    @property
    def tracker(self) -> Breaking:
        return self

    def start(self) -> None:
        self._note("start")

    def store_init_configuration(self, values: dict) -> None:
        self.settings = values
        self._note("settings")

    def log(self, values: dict, step: int) -> None:
        assert all(isinstance(value, float) for value in values.values())
        self._note("numbers")

    def log_images(self, values: dict, step: int) -> None:
        assert all(picture.width > 0 for pictures in values.values() for picture in pictures)
        self._note("pictures")

    def finish(self) -> None:
        self._note("finish")


@pytest.mark.parametrize("at", ["never", "start", "settings", "numbers", "pictures", "finish"])
def test_a_tracker_that_breaks_is_left_out(tmp_path, caplog, at):
    tracker = Breaking(at)
    with as_a_program():
        trainer = new_trainer("acgan-28", "no", 6, total_kimg=0.048)
        trainer.accelerator = Accelerator(cpu=True, log_with=tracker)
        train(trainer, RunFolder(tmp_path / "run"))
    assert (tmp_path / "run" / "model.safetensors").exists()
    assert caplog.text.count("the tracker breaking failed, and the run continues without it: RuntimeError") == (
        at != "never"
    )
    if at in ("never", "finish"):
        assert tracker.told[:4] == ["start", "settings", "pictures", "numbers"]
        last = ["pictures", "numbers", "finish"]
        assert tracker.told[-3:] == (last if at == "never" else ["numbers", *last[:2]])
        assert tracker.settings["train_batch_size"] == 8
    else:
        whole = ["start", "settings", "pictures", "numbers"]
        assert tracker.told == whole[: whole.index(at)]


@pytest.mark.parametrize(
    "error", [OSError(errno.ENOSPC, "No space left on device"), OSError(errno.EFBIG, "Too large")]
)
def test_a_tracker_without_room_is_left_out_with_the_folder(tmp_path, caplog, error):
    class Full(Breaking):
        def log(self, values: dict, step: int) -> None:
            raise error

    with as_a_program():
        trainer = new_trainer("acgan-28", "no", 2)
        trainer.accelerator = Accelerator(cpu=True, log_with=Full())
        train(trainer, RunFolder(tmp_path / "run"))
    assert f"{error.strerror}: '{tmp_path / 'run' / 'training' / 'logs'}'" in caplog.text


def test_a_tracker_that_is_not_installed(monkeypatch):
    monkeypatch.setattr("accelerate.tracking.get_available_trackers", list)
    with (
        as_a_program(),
        pytest.raises(InputError, match="pip install wandb"),
    ):
        start_accelerator(TrainingSettings(), report_to="wandb")
