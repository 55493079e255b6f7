"""``--config FILE``: flags in a YAML file, or in the settings that a run wrote."""

from __future__ import annotations

import json
import shlex
from pathlib import Path

import pytest
from helpers.programs import REPOSITORY, as_a_program

from ganaug import InputError
from ganaug.cli.evaluate import EvaluateArguments
from ganaug.cli.flags import parse
from ganaug.cli.publish import PublishArguments
from ganaug.cli.train import TrainArguments
from ganaug.cli.train_flags import parse_training, with_saved_flags
from ganaug.core.files import sha256_of
from ganaug.training import MODELS, Checkpoint
from ganaug.training.run_folder import read_settings

WRITTEN_BY_0_1 = REPOSITORY / "tests" / "fixtures" / "v0.1" / "settings.json"


def training(*words: str) -> TrainArguments:
    with as_a_program():  # tyro draws random numbers
        return parse_training(TrainArguments, words=words)


def evaluation(*words: str) -> EvaluateArguments:
    with as_a_program():
        return parse(EvaluateArguments, words=words)


@pytest.fixture
def written(tmp_path):
    """Write a file of flags, and give its path."""

    def write(text: str) -> str:
        path = tmp_path / "flags.yaml"
        path.write_text(text, "utf-8")
        return str(path)

    return write


def test_a_file_stands_for_flags(written):
    file = written(
        "# of the photos\nmodel: dcgan-32\ntotal-kimg: 7.5\nseed: 3\nlearning_rate: 1e-4\nhalf_batches: false\n"
        "evaluation_kimg: null\naugment: [flip, shift]\nclass_sampling: 0.5\nresolution: 32\nsummary: true\n"
    )
    words = ["--model", "dcgan-32", "--total_kimg", "7.5", "--seed", "3", "--learning_rate", "1e-4"]
    words += ["--no_half_batches", "--evaluation_kimg", "None", "--augment", "flip", "shift"]
    words += ["--class_sampling", "0.5", "--resolution", "32", "--summary"]
    by_file, by_words = training("--config", file), training(*words)
    assert by_file.given == by_words.given
    for name in ("model", "data", "training", "objective", "summary", "latent_dim"):
        assert getattr(by_file, name) == getattr(by_words, name)
    assert training(f"--config={file}") == by_file


def test_what_the_command_has_goes_before(written):
    file = written("model: acgan-28\ntotal_kimg: 9\nhalf_batches: true\nsummary: true\nclass_names: [a, b]")
    args = training("--config", file, "--no_half_batches", "--class_names", "c", "--model", "flow", "--no-summary")
    assert (args.model, args.training.total_kimg, args.training.half_batches) == ("flow", 9, False)
    assert (args.data.class_names, args.summary) == (("c",), False)
    assert args.training.learning_rate == MODELS["flow"].settings.learning_rate
    # In whatever order: a list that ends the command takes no word of the file.
    assert training("--class_names", "c", "--config", file).data.class_names == ("c",)


def test_words_and_numbers_are_read_as_written(written, monkeypatch):
    monkeypatch.setenv("HOME", "/home/alice")
    monkeypatch.setenv("USERPROFILE", "/home/alice")
    args = training(
        "--config",
        written(
            "mixed_precision: no\nclasses: [007, yes, 1_0, 0x1, 3.10, 2020-01-01, Würfel, '😀', null of them]\n"
            "train_data_dir: ~/photos\nunlabeled_data: a=b c\nbackground: '#ff8000'\naugment: []"
        ),
    )
    assert args.training.mixed_precision == "no"
    assert args.data.classes == ("007", "yes", "1_0", "0x1", "3.10", "2020-01-01", "Würfel", "😀", "null of them")
    assert args.data.train_data_dir == Path("/home/alice/photos")
    assert (args.unlabeled_data, args.data.background, args.training.augment) == ("a=b c", "#ff8000", ())


def test_other_commands_have_it_too(written):
    args = evaluation("--config", written("generator: [outputs/a, outputs/b]\nlearning_curve: false\nsteps: 5"))
    assert args.generator == ("outputs/a", "outputs/b")
    assert (args.settings.learning_curve, args.settings.steps) == (False, 5)
    with as_a_program():
        args = parse(PublishArguments, words=["--config", written("licence: mit\ndry_run: true"), "run", "a/b"])
    assert (args.folder, args.repo_id, args.licence, args.dry_run) == (Path("run"), "a/b", "mit", True)
    assert evaluation("--config", written("# nothing\n"), "--generator", "x").generator == ("x",)


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("num_epochs: 10", "num_epochs is not a flag .* Use --total_kimg"),
        ("total_kimgs: 10", "total_kimgs is not a flag .* Did you mean total_kimg"),
        ("sieve: 10", "sieve is not a flag .* Leave it out"),
        ("config: other.yaml", "config is not a flag"),
        ("given: [seed]", "given is not a flag"),
        ("no_half_batches: true", "no_half_batches is not a flag .* Write half_batches: false"),
        ("training: {seed: 1}", "training is not a flag .* side by side"),
        ("seed: {a: 1, b: 2}", r"seed has keys of its own \(a, b\)"),
        ("seed: 1.5", "seed cannot be 1.5. It takes a whole number"),
        ("seed: [1, 2]", r"seed cannot be \[.*It takes a whole number"),
        ("seed: null", "seed cannot be null"),
        ("seed:", "seed cannot be null"),
        ("background: null", "background cannot be null. It takes words"),
        ("total_kimg: many", "total_kimg cannot be many. It takes a number"),
        ("total_kimg: true", "total_kimg cannot be true"),
        ("half_batches: yes", "half_batches cannot be yes. It takes true or false"),
        ("half_batches: 1", "half_batches cannot be 1"),
        ("model: flows", "model cannot be flows. It takes auto, flow, flow-wide"),
        ("channels: 2", "channels cannot be 2. It takes 1, 3 or null"),
        ("augment: [flip, blur]", "augment cannot be .*blur.* It takes a list, each shift, flip"),
        ("augment: [[flip]]", "augment cannot be"),
        ("classes: [a, --b]", "classes cannot be"),
        ("seed: 1\nseed: 2", "seed is there twice.*line 2"),
        ("log_kimg: 1\nlog-kimg: 2", "log_kimg is there twice"),
        ("- seed", "has no names of flags"),
        ("seed", "has no names of flags"),
        ("seed: [1", "is not YAML.*line 1"),
        ("seed: !!python/object/apply:os.getcwd []", "is not YAML"),
        ("[" * 500 + "]" * 500, "is not YAML"),
    ],
)
def test_what_no_flag_takes_is_refused_with_file_and_key(written, capsys, text, told):
    file = written(text)
    with pytest.raises(InputError, match=f"(?s)flags.yaml.*{told}"):
        training("--config", file)
    assert capsys.readouterr() == ("", "")  # what the parser says of it names no file


def test_a_file_that_cannot_be_read_is_refused(tmp_path, written):
    (tmp_path / "picture").write_bytes(b"\xff\xd8\xff")
    for words, told in (
        (["--config", "gone.yaml"], "gone.yaml cannot be read: No such file"),
        (["--config", str(tmp_path)], "cannot be read"),
        (["--config", str(tmp_path / "picture")], "picture is not YAML"),
        (["--config"], "names no file"),
        (["--config", "a", "--config=b"], "is given twice"),
    ):
        with pytest.raises(InputError, match=told):
            training(*words)
    with pytest.raises(InputError, match=r"folder is not a flag .* Give it in the command"):
        parse(PublishArguments, words=["--config", written("folder: run")])
    for read in (training, evaluation):
        with pytest.raises(InputError, match=r"given is not a flag .* Leave it out"):
            read("--config", written("given: [seeds]"))


def test_settings_of_a_run_train_the_same_weights(in_process, tmp_path):
    flags = ["--model", "cgan-mlp", "--dataset_name", "sklearn:digits", "--images_per_class", "8", "--seed", "4"]
    flags += ["--total_kimg", "0.064", "--train_batch_size", "16", "--augment", "shift", "--log_kimg", "0.032"]
    flags += ["--latent_dim", "7", "--evaluation_kimg", "None", "--mixed_precision", "no"]
    rest = ["--report_to", "none", "--output_dir"]
    assert in_process(*flags, *rest, "first", name="train_cgan") is None
    settings = tmp_path / "first" / "training" / "settings.json"
    assert in_process("--config", str(settings), *rest, "second", name="train_cgan") is None
    second = read_settings(tmp_path / "second")

    assert sha256_of(tmp_path / "first" / "model.safetensors") == sha256_of(tmp_path / "second" / "model.safetensors")

    # The command on the card does without the file, and has the same flags.
    python, recipe, *words = shlex.split(second["command"])
    assert (python, recipe, "--config" in words) == ("python", "recipes/train_cgan.py", False)
    assert "--no_half_batches" in words
    by_words, by_file = training(*words), training("--config", str(settings))
    for part in ("model", "data", "training", "objective", "latent_dim", "unlabeled_data", "init_from"):
        assert getattr(by_words, part) == getattr(by_file, part)
    assert {**second, "command": ""} == {**read_settings(tmp_path / "first"), "command": ""}


def test_settings_of_0_1_are_read_as_by_a_resumed_run(tmp_path):
    args = training("--config", str(WRITTEN_BY_0_1))
    (tmp_path / "training").mkdir()
    (tmp_path / "training" / "settings.json").write_bytes(WRITTEN_BY_0_1.read_bytes())
    resumed = with_saved_flags(training(), Checkpoint(tmp_path / "training" / "checkpoints" / "step-1", 1, {}, 0.0))
    for name in ("model", "data", "training", "objective", "unlabeled_data", "init_from"):
        assert getattr(args, name) == getattr(resumed, name)
    assert training("--config", str(WRITTEN_BY_0_1), "--total_kimg", "2").training.total_kimg == 2


def test_settings_that_no_run_wrote_are_refused(written):
    settings = json.loads(WRITTEN_BY_0_1.read_text())
    for change, told in (
        ({"objective": [1]}, "is not as a run writes it"),
        ({"network": None}, "is not as a run writes it"),
        ({"model": "unet"}, "is not as a run writes it"),
        ({"network": {"width": 7, "steps": 8}}, "width 7, and flow has 96 now"),
        ({"data": {"sieve": 3}}, "sieve is not a flag"),
    ):
        with pytest.raises(InputError, match=f"flags.yaml.*{told}"):
            training("--config", written(json.dumps({**settings, **change})))
    with pytest.raises(InputError, match="command is not a flag"):  # of another command than train
        evaluation("--config", str(WRITTEN_BY_0_1), "--generator", "x")
