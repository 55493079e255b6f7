"""Trackers of experiments: what they are shown, and that none of them stops a run."""

from __future__ import annotations

import errno

import pytest
from accelerate import Accelerator
from accelerate.tracking import GeneralTracker
from helpers.killed import HELD_OUT, new_trainer
from helpers.programs import as_a_program

from ganaug import InputError
from ganaug.training import RunFolder, TrainingSettings, selection, start_accelerator, train


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


def test_tensorboard_compares_runs_by_hyperparameters_and_final_score(tmp_path, monkeypatch):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
    from tensorboard.plugins.hparams.plugin_data_pb2 import HParamsPluginData

    scores = iter([0.5, 0.2, 0.1])  # the first one is chosen
    monkeypatch.setattr(
        selection, "GeneratorScore", lambda *_, **__: lambda generator: {"score": next(scores), "usefulness": 0.25}
    )
    with as_a_program():
        trainer = new_trainer("acgan-28", "no", 6, evaluation_kimg=0.016, augment=("shift", "cutout"), patience=None)
        facts = trainer.facts()
        monkeypatch.setattr(trainer, "facts", lambda: {**facts, "sizes": [1, 2], "unknown": None})
        trainer.accelerator = Accelerator(cpu=True, log_with="tensorboard", project_dir=tmp_path)
        train(trainer, RunFolder(tmp_path / "run"), held_out=HELD_OUT)
    logs = tmp_path / "run" / "training" / "logs"
    (events,) = [path for path in logs.rglob("*") if path.is_file()]  # one run, with numbers and hyperparameters
    read = EventAccumulator(str(events.parent))
    read.Reload()
    found = {tag: HParamsPluginData.FromString(data) for tag, data in read.PluginTagToContent("hparams").items()}
    start = found["_hparams_/session_start_info"].session_start_info.hparams
    values = {name: value.string_value or value.number_value for name, value in start.items()}
    wanted = {
        "architecture": "acgan-28", "num_images": 60, "train_batch_size": 8, "augment": "shift, cutout",
        "lr_decay": 0.5, "sizes": "1, 2", **facts,
    }  # fmt: skip
    assert {name: values.get(name) for name in wanted} == wanted
    assert not {"patience", "unknown"} & values.keys()
    (metric,) = found["_hparams_/experiment"].experiment.metric_infos
    (final,) = read.Scalars(metric.name.tag)
    assert (final.value, final.step) == (0.5, 48)
    assert [round(event.value, 3) for event in read.Scalars("score")] == [0.5, 0.2, 0.1]


def test_a_tracker_that_is_not_installed(monkeypatch):
    monkeypatch.setattr("accelerate.tracking.get_available_trackers", list)
    with (
        as_a_program(),
        pytest.raises(InputError, match="pip install wandb"),
    ):
        start_accelerator(TrainingSettings(), report_to="wandb")
