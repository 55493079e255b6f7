"""Flags of training: what the user gave goes before a preset's and a stopped run's."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path
from typing import get_args

import pytest
from helpers.programs import REPOSITORY, as_a_program

from ganaug.cli.flags import command
from ganaug.cli.runs import with_preset
from ganaug.cli.train import ModelName, TrainArguments
from ganaug.cli.train_flags import parse_training, with_saved_flags
from ganaug.training import MODELS, Checkpoint, TrainingSettings
from ganaug.training.presets import Preset


def parsed(*words: str) -> TrainArguments:
    with as_a_program():  # tyro draws random numbers
        return parse_training(TrainArguments, words=words)


def test_every_model_can_be_trained_by_its_name():
    assert set(get_args(ModelName)) == {"auto", *MODELS}


@pytest.mark.parametrize("model", MODELS)
def test_defaults_are_the_models(model):
    for words in (["--model", model, "--seed", "3"], ["--seed=3", f"--model={model}"]):
        args = parsed(*words)
        assert (args.model, args.training.seed) == (model, 3)
        assert (args.objective, args.data.resolution) == (MODELS[model].objective, MODELS[model].resolution)
        assert args.training.total_kimg == MODELS[model].settings.total_kimg


def test_a_preset_goes_under_the_flags_even_where_they_repeat_a_default():
    default = parsed().training
    args = parsed("--total_kimg", f"{default.total_kimg:g}", "--class-sampling=1", "--evaluation_kimg", "None")
    preset = Preset("flow-wide", TrainingSettings(total_kimg=7, class_sampling=0.5, train_batch_size=10), "", "")
    found = with_preset(args, preset, 2)
    assert found.model == "flow-wide"
    assert (found.training.total_kimg, found.training.class_sampling) == (default.total_kimg, 1)
    assert (found.training.evaluation_kimg, found.training.train_batch_size) == (None, 5)


def test_a_switch_can_be_turned_off():
    assert MODELS["dcgan-32"].settings.half_batches
    args = parsed("--model", "dcgan-32", "--no_half_batches")
    preset = Preset("dcgan-32", MODELS["dcgan-32"].settings, "", "")
    assert not with_preset(args, preset, 1).training.half_batches


@pytest.fixture
def old_run(tmp_path) -> Checkpoint:
    """A checkpoint of a run whose settings ganaug 0.1 wrote."""
    run = tmp_path / "run"
    (run / "training").mkdir(parents=True)
    shutil.copy(REPOSITORY / "tests" / "fixtures" / "v0.1" / "settings.json", run / "training")
    return Checkpoint(run / "training" / "checkpoints" / "step-00000001", 1, {}, 0.0)


def test_a_run_of_0_1_goes_on_with_its_flags_and_with_those_given_now(old_run):
    args = with_saved_flags(parsed("--total_kimg", "200", "--override", "--budget_minutes", "3"), old_run)
    assert (args.model, args.override, args.budget_minutes) == ("flow", True, None)
    assert (args.training.total_kimg, args.training.augment, args.training.sample_kimg) == (200, ("flip",), 8)
    assert (args.data.dataset_name, args.data.images_per_class) == ("sklearn:digits", 50)
    assert with_saved_flags(parsed("--images_per_class", "9"), old_run).data.images_per_class == 9
    assert with_saved_flags(parsed("--model", "sngan"), old_run).model == "sngan"  # to be refused by its networks


def test_a_run_of_another_recipes_model_is_refused_with_the_command_that_goes_on(in_process, old_run, monkeypatch):
    monkeypatch.setattr("ganaug.cli.train_flags.find_checkpoint", lambda _: old_run)
    told = in_process("--resume_from_checkpoint", "run", name="train_cgan")
    assert f"ganaug train --resume_from_checkpoint {old_run.run}" in told


@pytest.mark.parametrize(
    ("program", "expected"),
    [
        ("/home/alice/bin/ganaug", "ganaug train --seed 1 --output_dir 'my run' --train_data_dir=photos"),
        ("/lib/ganaug/__main__.py", "ganaug train --seed 1 --output_dir 'my run' --train_data_dir=photos"),
        ("recipes/train_flow.py", "python recipes/train_flow.py --seed 1 --output_dir 'my run'"),
    ],
)
def test_the_recorded_command_starts_the_program_again_without_this_machines_folders(monkeypatch, program, expected):
    words = ["--seed", "1", "--output_dir", "/home/alice/my run"]
    if "flow" not in program:
        words = ["train", *words, "--train_data_dir=/data/photos"]
    monkeypatch.setattr(sys, "argv", [program, *words])
    assert command() == expected


def test_a_recipe_imports_only_the_package():
    """Nothing of its own folder."""
    recipes = [path for path in (REPOSITORY / "recipes").glob("*.py") if not path.name.startswith("benchmark")]
    here = {path.stem for path in Path(REPOSITORY / "recipes").glob("*.py")}
    told = {"train_flow", "train_acgan", "train_cgan", "train_dcgan", "evaluate", "generate", "publish"}
    assert told <= {path.stem for path in recipes}
    for path in recipes:
        if path.stem in told | {"label_fidelity", "check_distributed"}:
            lines = [line.split() for line in path.read_text().splitlines() if line.startswith(("from ", "import "))]
            assert not {words[1].partition(".")[0] for words in lines} & here, path


def test_flags_after_two_dashes_are_refused(capsys):
    for words, refused in (
        (["--", "--total_kimg", "5"], "--total_kimg"),
        (["--model", "flow", "--", "--seed", "3"], "--seed"),
    ):
        with pytest.raises(SystemExit, match="2"):
            parsed(*words)
        assert refused in capsys.readouterr().err


def test_a_shell_completes_all_flags(capsys):
    with pytest.raises(SystemExit) as ended:
        parsed("--tyro-print-completion", "bash")
    assert not ended.value.code
    shown = capsys.readouterr().out
    assert all(flag in shown for flag in ("--model", "--total_kimg", "--train_data_dir"))
