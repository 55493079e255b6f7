"""The README files: every block of code is run, every command is read, every link leads somewhere."""

from __future__ import annotations

import os
import re
import runpy
import shlex
import sys
import tarfile
from importlib import import_module
from importlib.metadata import metadata
from pathlib import Path
from unittest.mock import create_autospec

import pytest
import torch
from helpers.generators import make_generator
from helpers.images import small_images, write_class_folders, write_idx_pair
from helpers.programs import REPOSITORY, as_a_program, run, run_python
from helpers.readmes import READMES, code_blocks, readme
from torch.utils.flop_counter import FlopCounterMode

import ganaug
from ganaug.cli import COMMANDS, flags, main
from ganaug.generators import FlowGenerator
from ganaug.training import pseudo_labels
from ganaug.training.presets import measured_utility

OWN = r"(?:--multi_gpu +)?(?:--\w+ +[\w.]+ +)*(?:-m )?"  # of a launcher: how many processes, on which machines
LAUNCHERS = rf"(?:accelerate launch {OWN}|torchrun {OWN}|python )"  # of a recipe or a module
COMMAND = re.compile(rf"`({LAUNCHERS}?(?:ganaug|recipes/[\w/]+\.py) [^`]*--[^`]*)`")  # one with flags, within a text

END = """
assert sum(len(labels) for _, labels in loader) in (5714, 5715)
assert (len(balanced), len(some_more), len(replaced), replaced.n_fake) == (4000, 4150, 4000, 1200)
assert (many.n_real, many.n_fake) == (80000, 80000)
assert varied.n_fake == 4000
assert (len(mixed), len(synthetic)) == (5714, 200)
assert mixed[5713]["source"] == 1
data = Data()
data.setup("fit")
assert len(data.train_dataloader()) == 90
print("the end")
"""


def test_every_block_of_python_is_one_that_a_test_runs():
    """Those of evaluation and generators in training/test_models.py, the others here."""
    assert {path: len(code_blocks(path, "python")) for path in READMES if code_blocks(path, "python")} == {
        "README.md": 2,
        "ganaug/evaluation/README.md": 1,
        "ganaug/generators/README.md": 1,
        "ganaug/mixing/README.md": 14,
        "recipes/README.md": 1,
    }


def test_the_ways_in_work_as_written(tmp_path):
    """The examples of mixing as one program: a fresh process, and the folders they name."""
    with torch.random.fork_rng():
        FlowGenerator(tuple("0123456789"), width=8).save_pretrained(tmp_path / "outputs" / "flow")
    for prefix in ("train", "t10k"):
        write_idx_pair(tmp_path / "data" / "MNIST" / "raw", small_images(n=40, classes=10, size=28), prefix)
    program = "\n".join(code_blocks("ganaug/mixing/README.md", "python"))
    adapted = program.replace("train.check_alignment()\n", "")  # an untrained one draws nothing like digits
    (tmp_path / "program.py").write_text(f"{adapted}{END}")
    assert run_python("program.py", cwd=tmp_path).startswith("the end\n")  # then, on stderr, progress


def test_the_first_hour_in_python_runs_as_written(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    images = small_images(n=14, classes=2, size=20, channels=3)
    write_class_folders(tmp_path / "photos", images)
    generator = make_generator(images.classes, image_size=64, channels=3)
    generator.save_pretrained("outputs/photos")
    mix, in_python = code_blocks("README.md", "python")
    names: dict = {}
    exec(mix, names)
    assert (names["train"].n_real, names["train"].n_fake) == (14, 6)
    with torch.random.fork_rng():  # its transform draws from the global state
        assert names["train"][0][0].shape == names["train"][19][0].shape == (3, 64, 64)
    # Training and judging have tests of their own; here their arguments are checked.
    monkeypatch.setattr(ganaug, "fit", create_autospec(ganaug.fit, return_value=generator))
    monkeypatch.setattr(ganaug, "evaluate", create_autospec(ganaug.evaluate))
    exec(in_python, names)
    assert names["train"].n_fake == 6


def test_images_without_labels_in_python_as_written(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(pseudo_labels, "STEPS", 2)
    labelled, more = small_images(n=30, classes=3, size=12), small_images(n=12, classes=3, size=12, seed=1)
    write_class_folders(tmp_path / "photos", labelled)
    write_class_folders(tmp_path / "more_photos", more)
    monkeypatch.setattr(ganaug, "fit", create_autospec(ganaug.fit))
    (block,) = code_blocks("recipes/README.md", "python")
    exec(block.replace("0.9", "0.3"), {})  # in two steps they do not become sure
    assert "12 pseudo-labelled images: " in capsys.readouterr().out
    (images,) = ganaug.fit.call_args.args
    assert 30 < len(images) <= 42
    assert torch.isin(labelled.image_hashes, images.image_hashes).all()  # it learns from these, too
    assert torch.isin(images.image_hashes, torch.cat([labelled.image_hashes, more.image_hashes])).all()


def test_what_larger_images_cost_is_what_a_step_computes():
    def operations(width: int, size: int) -> int:
        with torch.random.fork_rng(), FlopCounterMode(display=False) as counter, torch.no_grad():
            generator = FlowGenerator(["a", "b"], image_size=size, channels=3, width=width)
            generator.velocity(torch.zeros(1, 3, size, size), torch.zeros(1), torch.zeros(1, dtype=torch.int64))
        return counter.get_total_flops()

    narrow, wide = (operations(width, 128) / operations(width, 28) for width in (96, 192))
    said = " ".join(readme("README.md").split())
    assert f"computes {narrow:.0f} times as much as at 28, or {wide:.0f} times with the wide network" in said


def commands() -> list[tuple[str, str]]:
    """Each README's commands, in blocks and within the text."""
    found = []
    for path in READMES:
        variables: dict[str, str] = {}
        for line in "".join(code_blocks(path, "bash")).replace("\\\n", "").splitlines():
            if set_ := re.fullmatch(r'(\w+)="(.*)"', line):
                variables[f"${set_[1]}"] = set_[2]
                continue
            for name, value in variables.items():
                line = line.replace(name, value)
            found += [(path, command) for command in line.split(" && ")]
        text = re.sub(r"```.*?```", "", readme(path), flags=re.DOTALL)
        found += [(path, " ".join(command.split())) for command in COMMAND.findall(text) if "COMMAND" not in command]
    return list(dict.fromkeys(found))


@pytest.mark.parametrize(("path", "command"), commands(), ids=lambda value: value.replace("/", "-"))
def test_every_command_is_one_that_its_program_reads(monkeypatch, tmp_path, capsys, path, command):
    """All is as when it is typed, but what the flags ask for is not done."""
    words = shlex.split(command)
    if words[0] == "pip":
        extras = re.search(r"\[(.*)\]", command)
        assert extras is None or set(extras[1].split(",")) <= set(metadata("ganaug").get_all("Provides-Extra"))
        return
    if words in (["pytest"], ["mkdir", "-p", "~/.local/share/bash-completion/completions"]):
        return
    # The files that commands read flags from: the one shown, and one that a run leaves.
    monkeypatch.chdir(tmp_path)
    (shown,) = code_blocks("recipes/README.md", "yaml")
    Path("flags.yaml").write_text(shown, "utf-8")
    Path("outputs/flow/training").mkdir(parents=True)
    Path("outputs/flow/training/settings.json").write_text('{"total_kimg": 40}', "utf-8")
    read = []

    def only_read(arguments, main, description, **options):
        flags_run(arguments, lambda args: read.append(args), description, **options)

    flags_run = flags.run
    monkeypatch.setattr(flags, "run", only_read)
    words = shlex.split(re.sub(f"^{LAUNCHERS}", "", command))
    if words[0] != "ganaug":
        monkeypatch.setattr(sys, "argv", words)
        monkeypatch.setattr(sys, "path", [str(REPOSITORY / os.path.dirname(words[0])), *sys.path])
        with as_a_program():  # which imports what moves a random state
            runpy.run_path(str(REPOSITORY / words[0]), run_name="__main__")
    elif words[1] == "inspect":
        monkeypatch.setattr("ganaug.cli.inspect.fetch", lambda *args, **options: read.append(args))
        monkeypatch.setattr("ganaug.cli.inspect.description", lambda *args: "")
        main(words[1:])
    elif words[1:] in (["--version"], [words[1], "--help"]):
        with as_a_program(), pytest.raises(SystemExit, match="0"):
            main(words[1:])
        read.append(capsys.readouterr().out)
    elif words[1] == "--completion":
        with as_a_program():
            main(words[1 : words.index(">")])
        read.append(capsys.readouterr().out)
    else:
        with as_a_program():
            monkeypatch.setattr(import_module(f"ganaug.cli.{words[1]}"), "run", only_read)
            main(words[1:])
    assert len(read) == 1


def test_every_flag_that_is_named_is_one_of_a_command(capsys):
    shown = ["--version --help --nproc_per_node --num_processes --multi_gpu --repo-type"]  # of launchers, and hf's
    for name in COMMANDS:
        with as_a_program(), pytest.raises(SystemExit, match="0"):
            main([name, "--help"])
        shown.append(capsys.readouterr().out)
    flags = set(re.findall(r"--[a-z][\w-]*", " ".join(shown)))
    for path in READMES:
        without_blocks = re.sub(r"```.*?```", "", readme(path), flags=re.DOTALL)
        quoted = " ".join(re.findall(r"`([^`]*)`", without_blocks))
        named = set(re.findall(r"--[a-z][\w-]*", quoted))
        assert named <= flags, path


def anchors(path: str) -> set[str]:
    """Of a file's headings, as GitHub makes them."""
    headings = re.findall(r"^#+ (.*)$", re.sub(r"```.*?```", "", readme(path), flags=re.DOTALL), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def links(path: str) -> list[str]:
    text = re.sub(r"```.*?```", "", readme(path), flags=re.DOTALL)
    return [*re.findall(r"\]\(([^)\s]+)\)", text), *re.findall(r'src="([^"]+)"', text)]


@pytest.mark.parametrize("path", READMES)
def test_every_link_leads_to_a_file_and_a_heading(path):
    for link in links(path):
        assert "://" not in link, link  # none leaves the repository
        name, _, anchor = link.partition("#")
        target = os.path.normpath(os.path.join(os.path.dirname(path), name)) if name else path
        assert (REPOSITORY / target).is_file(), link
        assert not anchor or anchor in anchors(target), link


def test_a_source_distribution_has_all_that_readmes_link_to(tmp_path):
    build = ["-m", "hatchling", "build", "--target", "sdist", "--directory", str(tmp_path)]
    run(sys.executable, *build, cwd=REPOSITORY)
    (made,) = tmp_path.glob("ganaug-*.tar.gz")
    with tarfile.open(made) as archive:
        packed = {name.partition("/")[2] for name in archive.getnames()}
    wanted = {
        os.path.normpath(os.path.join(os.path.dirname(path), link.partition("#")[0]))
        for path in READMES
        for link in links(path)
        if not link.startswith("#")
    }
    assert wanted | set(READMES) <= packed
    assert {".images/utility.png", "recipes/train_acgan.py", "LICENSE"} <= packed
    assert not any(name.startswith(("outputs/", ".git/")) for name in packed)


def test_the_first_readme_is_short_and_its_newest_version_is_this_one():
    text = readme("README.md")
    assert len(text.splitlines()) <= 200
    (version,) = re.findall(r'^version = "(.*)"$', (REPOSITORY / "pyproject.toml").read_text(), re.MULTILINE)
    assert re.findall(r"^\*\*(\d+\.\d+\.\d+)\*\*", text, re.MULTILINE)[0] == version


@pytest.mark.parametrize(
    ("sentence", "answers", "rows"),
    [
        ("**It helps** if you have few images", {"helps"}, ["fashion-20-published"]),
        ("**It helps** if you also have many images without labels", {"helps"}, ["fashion-20-unlabeled"]),
        (
            "**It has not helped measurably**",
            {"cannot tell yet", "no worthwhile effect"},
            ["fashion-20", "fashion-100"],
        ),
    ],
)
def test_when_it_helps_is_what_was_measured(sentence, answers, rows):
    said = " ".join(re.split(r"\n- |\n\n", readme("README.md").split("\n- " + sentence)[1])[0].split())
    for key in rows:
        row = measured_utility()["rows"][key]
        assert row["outcome"] in answers
        estimate, low, high = (100 * row["difference"][name] for name in ("estimate", "low", "high"))
        assert f"{estimate:+.1f} [{low:.1f}, {high:.1f}] beside {row['images_per_class']:g}" in said
