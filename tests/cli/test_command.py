"""The command ``ganaug``: from a wheel, without a clone, and on an install without extras."""

from __future__ import annotations

import json
import os
import re
import shutil
import sys
from importlib.metadata import version
from pathlib import Path

import pytest
from helpers.loopback_hub import LoopbackHub
from helpers.programs import REPOSITORY, run

from ganaug import Generator
from ganaug.cli import COMMANDS, NEEDED, main

TINY = ["--total_kimg", "0.064", "--train_batch_size", "32", "--report_to", "none"]
SKLEARN = ["--dataset_name", "sklearn:digits"]


@pytest.fixture(scope="module")
def installed(tmp_path_factory) -> tuple[str, dict[str, str]]:
    """The command of a wheel built from here and installed, and the environment in which Python finds no other one."""
    folder = tmp_path_factory.mktemp("wheel")
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check"]
    wheel = ["wheel", "--quiet", "--no-deps", "--no-index", "--no-build-isolation", "--wheel-dir", str(folder)]
    run(*pip, *wheel, str(REPOSITORY), cwd=folder)
    made = str(next(folder.glob("ganaug-*.whl")))
    target = folder / "installed"
    run(*pip, "install", "--quiet", "--no-deps", "--no-index", "--target", str(target), made, cwd=folder)
    return str(target / "bin" / "ganaug"), {**os.environ, "PYTHONPATH": str(target)}


# The command, one time after another in one process, which imports torch once.
SEVERAL = """
import runpy, sys, ganaug
print(ganaug.__file__)
for words in {commands!r}:
    sys.argv = [{command!r}, *words]
    try:
        runpy.run_path(sys.argv[0], run_name="__main__")
    except SystemExit as ended:
        assert not ended.code, ended
"""


def test_all_commands_work_in_an_empty_folder(installed, tmp_path):
    command, environment = installed
    small = ["--images_per_class", "5", "--steps", "1", "--seeds", "2", "--ratios", "0.3", "--processes", "1"]
    small += ["--max_steps", "1", "--no_learning_curve", "--augmentations", "none", "--budget_minutes", "60"]
    hub = LoopbackHub(tokens={"alices": "alice"})
    commands = [
        ["train", *SKLEARN, "--model", "cgan-mlp", *TINY],
        ["evaluate", "--generator", "outputs/cgan-mlp", *SKLEARN, *small],
        ["generate", "--generator", "outputs/cgan-mlp", "--num_images", "20", "--output_dir", "drawn"],
        ["inspect", "outputs/cgan-mlp"],
        ["publish", "outputs/cgan-mlp", "alice/digits", "--dry_run", "--endpoint", hub.endpoint],
    ]
    try:
        program = SEVERAL.format(command=command, commands=commands)
        told = run(sys.executable, "-c", program, cwd=tmp_path, env={**environment, "HF_TOKEN": "alices"})
    finally:
        hub.close()
    assert os.access(command, os.X_OK)
    assert Path(told.splitlines()[0]).parents[1] == Path(command).parents[1]  # nothing of the clone was used
    assert "Use it:" in told
    settings = json.loads((tmp_path / "outputs" / "cgan-mlp" / "training" / "settings.json").read_text())
    assert settings["command"] == f"ganaug {' '.join(commands[0])}"
    assert "The report: outputs/cgan-mlp/evaluation/report.html" in told
    assert list((tmp_path / "drawn" / "data").glob("*.parquet"))
    assert re.search(r"verdict +by its own card, [+-]", told)
    assert "# cgan-mlp: 10 classes, 8x8 pixels" in told
    assert not hub.commits


@pytest.mark.slow
@pytest.mark.parametrize(
    "launcher",
    [
        [],
        ["accelerate.commands.launch", "-m", "ganaug"],
        ["torch.distributed.run", "--standalone", "--nproc_per_node", "2", "-m", "ganaug"],
    ],
    ids=["alone", "accelerate", "torchrun"],
)
def test_training_on_the_bundled_digits_however_it_is_started(installed, tmp_path, launcher):
    command, environment = installed
    start = [sys.executable, "-m", *launcher] if launcher else [command]
    assert run(*start, "train", "--total_kimg", "2", cwd=tmp_path, env=environment).count("Use it:") == 1
    training = Generator.from_pretrained(tmp_path / "outputs" / "flow").info["training"]
    assert training["command"] == "ganaug train --total_kimg 2"
    assert training["num_processes"] == (2 if "2" in launcher else 1)


def test_what_it_says_of_itself(capsys):
    with pytest.raises(SystemExit, match="0"):
        main(["--version"])
    assert capsys.readouterr().out == f"ganaug {version('ganaug')}\n"
    with pytest.raises(SystemExit, match="0"):
        main(["--help"])
    shown = capsys.readouterr().out
    assert all(re.search(rf"{name} +{what}", shown) for name, what in COMMANDS.items())
    for words, told in ((["fly"], "'fly'"), ([], "give a command: check, train, ")):
        with pytest.raises(SystemExit, match="2"):
            main(words)
        assert told in capsys.readouterr().err


@pytest.mark.parametrize("name", [name for name, needed in NEEDED.items() if needed])
def test_without_the_extra_a_command_says_which_in_a_line(monkeypatch, name):
    monkeypatch.setitem(sys.modules, "tyro", None)
    with pytest.raises(SystemExit) as told:
        main([name, "--help"])
    line = f'error: ganaug {name} needs tyro, which is not installed: pip install "ganaug[recipes]"'
    assert told.value.code == line


EXTRAS = ("tyro", "scipy", "sklearn", "matplotlib", "mlxtend", "tensorboard", "torchinfo", "torchmetrics")
HEAVY = ("torch._dynamo", "torchvision", "datasets", "accelerate")


def test_a_core_install_imports_nothing_heavy_and_inspects(generator_folder, tmp_path):
    """What extras bring is not there then. torchvision would import what torch.compile is made of, which takes as long
    as all of torch."""
    program = (
        f"import sys, ganaug; print([name for name in {HEAVY + EXTRAS} if name in sys.modules]);"
        f"sys.modules.update(dict.fromkeys({EXTRAS}));"
        f"from ganaug.cli import main; main(['inspect', {str(generator_folder)!r}])"
    )
    imported, *inspected = run(sys.executable, "-c", program, cwd=tmp_path).splitlines()
    assert imported == "[]"
    assert "acgan-28, 326,601 parameters" in "\n".join(inspected)


@pytest.mark.parametrize("took", [{"seconds": 90.2}, {"minutes": 1.5}])  # the second as in earlier configs
def test_inspecting_says_how_long_the_training_took(generator_folder, tmp_path, capsys, took):
    folder = shutil.copytree(generator_folder, tmp_path / "copy")
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "training": took}))
    main(["inspect", str(folder)])
    assert re.search(r"training +minutes 1\.5\n", capsys.readouterr().out)
