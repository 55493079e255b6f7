"""Flags of training: what the user gave goes before a preset's and a stopped run's."""

from __future__ import annotations

import json
import re
import shutil
import sys
from contextlib import nullcontext, redirect_stdout
from dataclasses import is_dataclass, replace
from io import StringIO
from pathlib import Path
from typing import get_args

import pytest
from helpers.programs import REPOSITORY, as_a_program
from helpers.programs import run as run_program

from ganaug import InputError
from ganaug.cli import COMMANDS, main
from ganaug.cli.adapt import AdaptArguments, parse_adapting
from ganaug.cli.check import CheckArguments
from ganaug.cli.completion import InspectArguments
from ganaug.cli.config import flags_of
from ganaug.cli.evaluate import EvaluateArguments
from ganaug.cli.flags import command, parse
from ganaug.cli.generate import GenerateArguments
from ganaug.cli.hints import OTHER_NAMES, hint_for
from ganaug.cli.publish import PublishArguments
from ganaug.cli.runs import with_preset
from ganaug.cli.train import ModelName, TrainArguments
from ganaug.cli.train_flags import parse_training, with_saved_flags
from ganaug.data import reduce_images
from ganaug.training import MODELS, Checkpoint, TrainingSettings, presets
from ganaug.training.adapting import possible_adapting_settings
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


def test_what_would_change_nothing_in_a_run_that_goes_on_is_refused_or_told(old_run, tmp_path, capsys):
    assert with_saved_flags(parsed("--model", "auto"), old_run).model == "flow"
    with_saved_flags(parsed("--budget_minutes", "3", "--total_kimg", "200"), old_run)
    assert "budget_minutes is left out: the run goes on to its end, at 200 kimg" in capsys.readouterr().out
    with pytest.raises(InputError, match="started from random weights.*--init_from elsewhere would change nothing"):
        with_saved_flags(parsed("--init_from", "elsewhere"), old_run)
    # Of a run that did start from a generator, the same one may be given again, also where it is now.
    file = old_run.run / "training" / "settings.json"
    (tmp_path / "moved").mkdir()
    for start, given, refused in (
        (tmp_path / "old", tmp_path / "moved", False),
        (tmp_path / "moved", tmp_path / "run", True),
        (tmp_path / "moved", tmp_path / "moved", False),
        ("user/removed", tmp_path / "moved", True),  # on the Hub, which is no folder that was moved
        ("user/removed", "user/removed", False),
    ):
        file.write_text(json.dumps({**json.loads(file.read_text()), "init_from": str(start)}))
        with pytest.raises(InputError, match=r"started from .*moved") if refused else nullcontext():
            assert with_saved_flags(parsed("--init_from", str(given)), old_run).init_from == str(given)


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
        if path.stem in told | {"label_fidelity", "check_distributed", "check_device"}:
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


ARGUMENTS = {"train": TrainArguments, "adapt": AdaptArguments, "evaluate": EvaluateArguments}
ARGUMENTS |= {"generate": GenerateArguments, "publish": PublishArguments, "check": CheckArguments}


def words_told(told: str) -> str:
    """What stands in tyro's boxes, on one line."""
    return " ".join(re.sub("[│╭╮╰╯─]", " ", told).split())


def refusal(capsys, command: str, *words: str) -> str:
    with as_a_program(), pytest.raises(SystemExit, match="2"):
        main([command, *words])
    return capsys.readouterr().err


@pytest.mark.parametrize(
    ("command", "words", "told"),
    [
        ("train", ["--num_epochs", "10"], "--num_epochs: use --total_kimg"),
        ("train", ["--max-train-steps=9", "--seed", "1"], "--max-train-steps: use --total_kimg"),
        ("train", ["--lr", "1e-3"], "--lr: use --learning_rate"),
        ("train", ["--batch_size", "8"], "--batch_size: use --train_batch_size"),
        ("train", ["--random_flip"], "--random_flip: use --augment flip"),
        ("train", ["--center_crop"], "--center_crop: leave it out, --resolution"),
        ("adapt", ["--init_from", "x"], "--init_from: use --generator"),
        ("evaluate", ["--generator", "x", "--num_epochs", "10"], "--num_epochs: use --steps"),
        ("evaluate", ["--checkpoint", "x"], "--checkpoint: use --generator"),
        ("generate", ["--num_samples", "5"], "--num_samples: use --num_images"),
        ("publish", ["a", "b/c", "--license", "mit"], "--license: use --licence"),
    ],
)
def test_a_flag_of_other_programs_is_refused_with_its_name_here(capsys, command, words, told):
    lines = refusal(capsys, command, *words).splitlines()
    assert lines[-1].startswith(told)
    assert sum(": use " in line or ": leave " in line for line in lines) == 1


def test_no_hint_where_nothing_is_known(capsys):
    assert "Perhaps you meant" in refusal(capsys, "train", "--learning_rat", "1")
    assert refusal(capsys, "train", "--sieve", "1", "--batch", "lr").count(": use ") == 1  # not of a value
    assert ": use " not in refusal(capsys, "generate", "--num_epochs", "1")


@pytest.mark.parametrize("command", ARGUMENTS)
def test_hints_name_flags_that_the_command_has(command):
    flags = flags_of(ARGUMENTS[command])
    for others, needed, _ in OTHER_NAMES:
        assert any(needed in flags_of(arguments) for arguments in ARGUMENTS.values())
        for name in set(others.split()) - flags.keys():
            told = hint_for(name, flags) or ""
            assert set(re.findall(r"--(\w+)", told)) <= flags.keys(), name


def test_a_misspelt_command_is_refused_with_the_right_one(capsys):
    for given, meant in (("trian", "train"), ("evalute", "evaluate"), ("Publish", "publish"), ("sample", "generate")):
        assert f"did you mean {meant}?" in refusal(capsys, given)
    told = refusal(capsys, "fly")
    assert "did you mean" not in told
    assert "'fly'" in told


def helped(capsys, *words: str) -> str:
    with as_a_program(), pytest.raises(SystemExit, match="0"):
        main([*words, "--help"])
    return words_told(capsys.readouterr().out)


def default_shown(told: str, flag: str) -> str:
    return re.search(rf" --{flag} .*?\(default: (.*?)\)", told).group(1)


@pytest.mark.parametrize("model", [None, "flow", "acgan", "acgan-28", "dcgan-32"])
def test_help_shows_the_numbers_that_will_be_used(capsys, model):
    told = helped(capsys, "train", *(["--model", model] if model else []))
    if model in (None, "flow", "acgan"):
        possible = presets.possible_settings(model)
        for flag in ("total_kimg", "sample_kimg", "class_sampling"):
            values = [getattr(settings, flag) for settings in possible]
            least, word, most = re.search(r"from the preset, (\S+) (to|or) (\S+)$", default_shown(told, flag)).groups()
            assert (float(least), float(most)) == (min(values), max(values))
            assert (word == "or") == (len(set(values)) == 2)
        same = {name for name in vars(possible[0]) if len({getattr(each, name) for each in possible}) == 1}
    else:
        assert "from the preset" not in told
        same = set(vars(MODELS[model].settings))
    settings = MODELS[model or presets.QUICK].settings
    for flag in same - {"augment"}:
        value = getattr(settings, flag)
        shown = default_shown(told, f"no_{flag}" if isinstance(value, bool) else flag)
        assert shown == str(value) or float(shown) == value


def test_a_chosen_presets_settings_are_among_those_that_help_is_about(digits):
    for images in (digits, reduce_images(digits, images_per_class=20)[0]):
        for model in (None, *presets.models_with_presets()):
            assert presets.choose_preset(images, model=model).settings in presets.possible_settings(model)


def test_help_of_adapting_shows_the_numbers_that_will_be_used(capsys):
    told, possible = helped(capsys, "adapt"), possible_adapting_settings()
    for flag in ("total_kimg", "sample_kimg", "class_sampling"):
        values = [getattr(settings, flag) for settings in possible]
        ends = re.search(r"from the preset, (\S+) (?:to|or) (\S+)$", default_shown(told, flag)).groups()
        assert ends == (f"{min(values):g}", f"{max(values):g}")
    assert float(default_shown(told, "learning_rate")) == possible[0].learning_rate
    with as_a_program():
        training = parse_adapting(AdaptArguments, words=["--learning_rate", "0.5"]).training
    assert training == replace(possible[0], learning_rate=0.5)
    assert type(training) is TrainingSettings


def test_what_help_shows_leaves_no_trace_in_the_settings():
    assert type(parsed().training) is TrainingSettings
    assert parsed().training == MODELS[presets.QUICK].settings


@pytest.mark.parametrize("command", ARGUMENTS)
def test_every_switch_goes_both_ways(command):
    """Whatever its default is: a file or a preset may have turned it on."""
    needed = {"evaluate": ["--generator=x"], "generate": ["--generator=x", "--num_images=1", "--output_dir=o"]}
    needed["publish"] = ["folder", "user/repo"]
    switches = [name for name, hint in flags_of(ARGUMENTS[command]).items() if hint is bool]
    assert not any(name.startswith(("no_", "not_")) for name in switches)  # whose negative would be a double one
    for value in (True, False):
        words = [f"--{name}" if value else f"--no_{name}" for name in switches]
        with as_a_program():
            args = parse(ARGUMENTS[command], words=[*needed.get(command, []), *words])
        parts = [args, *(part for part in vars(args).values() if is_dataclass(part))]
        found = {name: getattr(part, name) for part in parts for name in switches if hasattr(part, name)}
        assert found == dict.fromkeys(switches, value)


def test_help_says_of_a_switch_what_it_does_when_on(capsys):
    told = helped(capsys, "evaluate")
    shown = re.search(r"--learning_curve, --no_learning_curve (.*?)\(default: True\)", told).group(1)
    assert shown.startswith("Train with other numbers")
    assert "no_" not in shown


@pytest.fixture(scope="module")
def completion_script(tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("completion") / "ganaug"
    with as_a_program(), redirect_stdout(StringIO()) as out:
        main(["--completion", "bash"])
    path.write_text(out.getvalue())
    run_program("bash", "-n", str(path), cwd=path.parent)
    return path


@pytest.mark.skipif(shutil.which("bash") is None, reason="there is no bash here")
def test_bash_completes_commands_flags_and_values(completion_script):
    typed = [["ev"], ["train", "--total_k"], ["evaluate", "--no_lear"], ["train", "--model", "acgan"]]
    typed += [["train", "--conf"], ["inspect", "--tok"]]
    program = f"source {completion_script}; complete -p ganaug; "
    for words in typed:
        program += f"COMP_WORDS=(ganaug {' '.join(words)}); COMP_CWORD={len(words)}; _tyro_ganaug; "
        program += 'echo "${COMPREPLY[@]}"; '
    registered, *found = run_program("bash", "-c", program, cwd=completion_script.parent).splitlines()
    assert registered == "complete -F _tyro_ganaug ganaug"
    assert found == [
        "evaluate",
        "--total_kimg",
        "--no_learning_curve",
        "acgan acgan-28 acgan-64",
        "--config",
        "--token",
    ]


def test_completion_knows_every_command_and_flag(completion_script, capsys):
    script = completion_script.read_text()
    assert all(f"'{name}': {{'description'" in script for name in COMMANDS)
    for arguments in ARGUMENTS.values():
        assert all(f"'--{flag}'" in script for flag in flags_of(arguments))
    inspects = helped(capsys, "inspect")
    assert set(re.findall(r"--\w+", inspects)) - {"--help"} == {f"--{flag}" for flag in flags_of(InspectArguments)}


def test_completion_of_one_command_is_refused(capsys):
    assert "Leave train out" in refusal(capsys, "--completion", "bash", "train")


def test_a_shell_completes_all_flags(capsys):
    with pytest.raises(SystemExit) as ended:
        parsed("--tyro-print-completion", "bash")
    assert not ended.value.code
    shown = capsys.readouterr().out
    assert all(flag in shown for flag in ("--model", "--total_kimg", "--train_data_dir"))
