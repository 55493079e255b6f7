"""What works on Linux alone: text in the locale's encoding, files that stay mapped, names that Windows refuses."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest
import torch
from helpers.generators import make_generator
from helpers.images import small_images
from helpers.programs import REPOSITORY
from PIL import Image

from ganaug import ConditionalGANAugment, Generator
from ganaug.sampling.class_sampler import ClassSampler
from ganaug.sampling.export import generate_shards
from ganaug.training import Checkpoints, RunFolder

FILES = sorted([*(REPOSITORY / "ganaug").rglob("*.py"), *(REPOSITORY / "recipes").rglob("*.py")])
READER = REPOSITORY / "ganaug" / "core" / "files.py"


def calls(path: Path) -> list[ast.Call]:
    return [node for node in ast.walk(ast.parse(path.read_bytes())) if isinstance(node, ast.Call)]


def of_locale(call: ast.Call) -> bool:
    """Whether a call opens text without saying its encoding."""
    given = {keyword.arg for keyword in call.keywords}
    if isinstance(call.func, ast.Attribute) and call.func.attr in ("read_text", "write_text"):
        return "encoding" not in given and len(call.args) <= (call.func.attr == "write_text")
    if isinstance(call.func, ast.Name) and call.func.id == "open":
        mode = call.args[1] if len(call.args) > 1 else None
        binary = isinstance(mode, ast.Constant) and "b" in str(mode.value)
        return not binary and "encoding" not in given
    return False


def test_text_is_read_and_written_in_utf_8_on_every_system():
    found = [f"{path.name}:{call.lineno}" for path in FILES for call in calls(path) if of_locale(call)]
    assert found == []


@pytest.mark.parametrize(
    ("code", "expected"),
    [
        ("path.read_text()", True),
        ("build(path).read_text()", True),
        ("path.write_text('a')", True),
        ("open(path)", True),
        ("open(path, 'w')", True),
        ("path.read_text('utf-8')", False),
        ("path.write_text('a', encoding='utf-8')", False),
        ("write_text(path, 'a')", False),
        ("open(path, 'rb')", False),
        ("open(path, 'r', encoding='utf-8')", False),
    ],
)
def test_text_in_the_encoding_of_the_locale_would_be_seen(code, expected):
    (call, *_) = calls_in(code)
    assert of_locale(call) is expected


def calls_in(code: str) -> list[ast.Call]:
    return [node for node in ast.walk(ast.parse(code)) if isinstance(node, ast.Call)]


def test_tensors_are_read_by_the_one_function_that_leaves_no_file_mapped():
    found = [
        f"{path.name}: {name.name}"
        for path in FILES
        if path != READER
        for node in ast.walk(ast.parse(path.read_bytes()))
        if isinstance(node, ast.ImportFrom) and (node.module or "").partition(".")[0] == "safetensors"
        for name in node.names
        if name.name in ("load_file", "safe_open", "load_model")
    ]
    assert found == []


@pytest.fixture(scope="module")
def made(tmp_path_factory) -> Path:
    """A folder with what ganaug writes, of classes whose names no system would take for a file."""
    classes = ("AUX", "a:b?", "end. ")
    data = small_images()
    data = type(data)(data.images, data.targets, classes, "NUL: noise?")
    generator = make_generator(classes, image_size=12)
    generator.seen_images = data.image_hashes.unique()
    folder = tmp_path_factory.mktemp("made")
    run = RunFolder(folder / "run")
    generator.save_pretrained(run.path)
    run.save_picture("000001kimg", Image.new("L", (4, 4)))
    run.append_metrics({"kimg": 1.0})
    run.write_settings({"seed": 0})
    Checkpoints(run.checkpoints).save(3, {"generator": {"a": torch.ones(3)}}, {"kimg": 1.0})
    ConditionalGANAugment(data, generator, ratio=0.5, cache_dir=folder / "cache").materialize()
    for form in ("parquet", "npy"):
        generate_shards(ClassSampler(generator, classes), 9, folder / form, format=form, images_per_shard=4)
    return folder


RESERVED = {"con", "prn", "aux", "nul", *(f"{port}{k}" for port in ("com", "lpt") for k in range(10))}


def test_names_of_files_are_taken_by_every_system(made):
    names = [path.relative_to(made).as_posix() for path in made.rglob("*")]
    assert len(names) > 25
    for name in names:
        for part in name.split("/"):
            assert re.fullmatch(r"[\w.-]+", part, re.ASCII), name
            assert not part.endswith("."), name
            assert part.partition(".")[0].lower() not in RESERVED, name
        assert len(name) < 120  # of the 260 characters of a path on Windows
    assert len({name.lower() for name in names}) == len(names)


@pytest.mark.skipif(not Path("/proc/self/maps").exists(), reason="only Linux lists what is mapped")
def test_a_generator_and_a_checkpoint_hold_none_of_their_files(made):
    """On Windows the one could not be saved to where it was loaded from, nor the other be removed."""
    generator = Generator.from_pretrained(made / "run")
    state = Checkpoints(made / "run" / "training" / "checkpoints").newest().state()
    held = [line for line in Path("/proc/self/maps").read_text(encoding="utf-8").splitlines() if str(made) in line]
    assert generator.seen_images is not None
    assert state["generator"]["a"].sum() == 3
    assert [line for line in held if "images.npy" not in line] == []
