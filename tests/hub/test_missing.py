"""Where there is no generator, the error says what is there instead, and what to do."""

from __future__ import annotations

import re
import shlex
import shutil
from pathlib import Path

import pytest
from helpers.images import small_images
from helpers.programs import as_a_program

from ganaug import ConditionalGANAugment, Generator, LoadError, publish
from ganaug.__main__ import main

NOWHERE = "http://127.0.0.1:9"  # where no Hub answers


@pytest.fixture
def here(tmp_path, monkeypatch, generator_folder):
    """The working folder and home, with runs of all kinds in ``outputs``."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    for run, files in {
        "done": ["settings.json", "checkpoints/step-00000002/manifest.json"],
        "stopped": ["settings.json", "checkpoints/step-00000002/manifest.json"],
        "just begun": ["settings.json"],
        "own": ["checkpoints/step-00000002/manifest.json"],
    }.items():
        for file in files:
            path = tmp_path / "outputs" / run / "training" / file
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text("{}")
    shutil.copytree(generator_folder, tmp_path / "outputs" / "done", dirs_exist_ok=True)
    shutil.copytree(generator_folder, tmp_path / "outputs" / "done" / "training" / "last")
    return tmp_path


@pytest.mark.parametrize(
    "name",
    ["outputs/done", "outputs/done/", "~/outputs/done", "./outputs/done", "outputs/done/training/last"],
)
@pytest.mark.parametrize("kind", [str, Path])
def test_names_of_a_folder(here, name, kind):
    assert Generator.from_pretrained(kind(name)).num_classes == 10


@pytest.mark.parametrize("name", ["outputs/flow", "outputs/flow/", Path("outputs/flow"), Path("user/repo")])
def test_a_run_that_was_never_trained(tmp_path, monkeypatch, name):
    """The Hub is not asked."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("ganaug.hub.download.patiently", None)
    with pytest.raises(
        LoadError, match=rf"^no folder {re.escape(repr(str(name)))}\. ganaug train makes one"
    ) as caught:
        Generator.from_pretrained(name)
    assert "Hub" not in str(caught.value)


def test_the_runs_that_are_there_are_named(here):
    with pytest.raises(LoadError, match=r"no folder 'outputs/flow'\. There is one in outputs/done$"):
        Generator.from_pretrained("outputs/flow")
    for folder in ("outputs", "."):
        with pytest.raises(LoadError, match=r"no config\.json.*There is one in outputs/done$"):
            Generator.from_pretrained(folder)
    for number in range(9):
        shutil.copytree("outputs/done/training/last", f"outputs/flow-{number}")
    with pytest.raises(LoadError, match=r"outputs/done, outputs/flow-0, .*outputs/flow-3 and 5 more$"):
        Generator.from_pretrained("outputs/flow")


@pytest.mark.parametrize("name", ["photos/flow", "user/repo", "user/repo@main", "outputs/flow@main"])
@pytest.mark.parametrize("options", [{}, {"force_download": True}])
def test_a_name_that_may_be_of_the_hub_is_said_to_be_neither(here, name, options):
    with pytest.raises(LoadError, match=f"no folder '{name.partition('@')[0]}' here.*(not reached|not be downloaded)"):
        Generator.from_pretrained(name, endpoint=NOWHERE, cache_dir=here / "cache", **options)


@pytest.mark.parametrize("name", ["flow", "./flow", "../flow", "~/flow", "a/b/c", "C:\\flow"])
def test_a_name_that_can_only_be_of_a_folder(here, name):
    with pytest.raises(LoadError, match=rf"no folder {re.escape(repr(name))}, and it is not a Hub id"):
        Generator.from_pretrained(name, endpoint=NOWHERE)


RESUME = r"ganaug train --resume_from_checkpoint outputs/stopped$"
WHAT = {
    "outputs/stopped": RESUME,
    "outputs/stopped/": RESUME,
    "outputs/stopped/training": RESUME,
    "outputs/stopped/training/checkpoints/step-00000002": RESUME,
    "outputs/just begun": r"--resume_from_checkpoint latest --output_dir 'outputs/just begun'$",
    "outputs/own": r"resume=find_checkpoint\('outputs/own'\)\)$",
    "outputs/done/training/checkpoints/step-00000002": r"Give outputs/done, which holds one$",
    "outputs/done/samples": r"Give outputs/done, which holds one$",
}


@pytest.mark.parametrize("name", WHAT)
def test_a_run_without_a_generator_and_parts_of_one(here, name):
    with pytest.raises(LoadError, match=rf"no config\.json, so it holds no generator.*{WHAT[name]}"):
        Generator.from_pretrained(name)
    with pytest.raises(LoadError, match=WHAT[name]):
        publish(name, "user/repo", dry_run=True)
    with pytest.raises(LoadError, match=WHAT[name]):
        ConditionalGANAugment(small_images(), name)


@pytest.mark.parametrize("name", ["config.json", "model.safetensors", "samples/grid.png"])
def test_a_file(here, name):
    with pytest.raises(
        LoadError, match=r"is a file, and a generator is a folder\. Give outputs/done, which holds one"
    ):
        Generator.from_pretrained(f"outputs/done/{name}")


@pytest.mark.parametrize(
    "command",
    [
        "inspect {}",
        "publish {} user/repo --dry_run",
        "generate --generator {} --num_images 3 --output_dir made",
        "evaluate --generator {} --dataset_name sklearn:digits",
    ],
)
def test_every_command_says_how_to_go_on_with_a_stopped_run(here, command):
    how = r"ganaug train --resume_from_checkpoint \S*outputs/stopped$"
    found = r"no folder 'outputs/flow'\. There is one in outputs/done$"
    for name, message in (("outputs/stopped", how), ("~/outputs/stopped", how), ("outputs/flow", found)):
        with as_a_program(), pytest.raises(SystemExit, match=f"^error: .*{message}"):
            main(shlex.split(command.format(name)))
    assert not (here / "made").exists()
