"""Runs that go on though a file of theirs, their folder or their images are not as they were, or say what to do."""

from __future__ import annotations

import json
import re
import shutil
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from helpers.images import small_images, write_class_folders
from helpers.programs import as_a_program, without_curves, without_page
from PIL import Image

from ganaug import open_images
from ganaug.cli import main
from ganaug.core import fingerprints
from ganaug.core.files import json_text, sha256_of
from ganaug.evaluation import generator_score
from ganaug.training import MODELS, RunFolder, TrainingSettings, find_checkpoint, hold_back, write_run_page
from ganaug.training.run_folder import read_metrics

MODEL = ["--model", "cgan-mlp"]
QUICK = ["--train_batch_size", "32", "--report_to", "none", "--mixed_precision", "no", "--cpu_threads", "1"]
QUICK += ["--log_kimg", "0.032", "--checkpointing_kimg", "0.064", "--evaluation_kimg", "0.064", "--sample_kimg", "1"]
LONGER = ["--override", "--total_kimg", "0.256"]


@pytest.fixture(scope="module")
def ganaug():
    """Run ``ganaug train`` in this process and this folder: None after a good run, else what it ends with."""

    def train(*words: str, page: bool = False) -> int | str | None:
        with pytest.MonkeyPatch.context() as patch, as_a_program():
            if not page:
                without_page(patch)
            for name, value in (("STEPS", 2), ("REFERENCE_STEPS", 2), ("IMAGES", 40)):
                patch.setattr(generator_score, name, value)
            patch.setattr(sys, "argv", ["ganaug", "train", *words])
            try:
                main(["train", *words])
            except SystemExit as ended:
                return ended.code
        return None

    return train


@pytest.fixture(scope="module")
def begun(ganaug, tmp_path_factory) -> Path:
    """A folder with class folders ``photos`` and, begun there, a run in ``outputs/run`` with two checkpoints."""
    folder = tmp_path_factory.mktemp("begun")
    write_class_folders(folder / "photos", small_images(240, size=8))
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        flags = ["--train_data_dir", "photos", *MODEL, *QUICK, "--total_kimg", "0.128"]
        assert ganaug(*flags, "--output_dir", "outputs/run") is None
    return folder


@pytest.fixture
def here(begun, tmp_path, monkeypatch) -> Path:
    """A copy of the run, in the folder that this is called in; the images are where they were."""
    shutil.copytree(begun / "outputs", tmp_path / "outputs")
    monkeypatch.chdir(tmp_path)
    return tmp_path / "outputs" / "run"


@pytest.fixture(scope="module")
def whole(ganaug, begun, tmp_path_factory) -> str:
    """SHA-256 of the weights of the run when nothing has happened to it."""
    folder = tmp_path_factory.mktemp("whole")
    shutil.copytree(begun / "outputs", folder / "outputs")
    assert ganaug("--resume_from_checkpoint", str(folder / "outputs" / "run"), *LONGER) is None
    return sha256_of(folder / "outputs" / "run" / "model.safetensors")


def changed(change: Callable[[dict], object]) -> Callable[[bytes], bytes]:
    def apply(content: bytes) -> bytes:
        settings = json.loads(content)
        change(settings)
        return json.dumps(settings).encode()

    return apply


SETTINGS = {
    "empty": lambda content: b"",
    "cut": lambda content: content[: len(content) // 2],
    "zeros": lambda content: b"\0" * len(content),
    "not UTF-8": lambda content: b"\xff" + content,
    "nested": lambda content: b"[" * 100_000,
    "a list": lambda content: b"[]",
    "null": lambda content: b"null",
    "no model": changed(lambda settings: settings.pop("model")),
    "no seed": changed(lambda settings: settings.pop("seed")),
    "data a list": changed(lambda settings: settings.update(data=[1])),
    "unknown data": changed(lambda settings: settings["data"].update(sieve=3)),
    "network null": changed(lambda settings: settings.update(network=None)),
    "augment a number": changed(lambda settings: settings.update(augment=3)),
    "missing": None,
}


@pytest.mark.parametrize("damage", SETTINGS)
def test_damaged_settings_are_asked_for_again(ganaug, here, begun, whole, damage):
    path = here / "training" / "settings.json"
    if SETTINGS[damage]:
        path.write_bytes(SETTINGS[damage](path.read_bytes()))
    else:
        path.unlink()
    told = ganaug("--resume_from_checkpoint", "latest", *LONGER)
    assert re.search(r"settings\.json.* is missing or damaged\. Give them again, .*--model", told)
    photos = ["--train_data_dir", str(begun / "photos")]
    if damage in ("empty", "missing", "no model"):
        assert "images: " in ganaug("--resume_from_checkpoint", "latest", *MODEL, *LONGER)  # the bundled digits
        assert ganaug("--resume_from_checkpoint", "latest", *MODEL, *photos, *LONGER) is None
        assert sha256_of(here / "model.safetensors") == whole
        assert json.loads(path.read_bytes())["data"]["train_data_dir"] == photos[1]


METRICS = {
    "half a line": lambda content: content[:-20],
    "half a line in between": lambda content: content.replace(b'"seconds"', b'"sec\n', 1),
    "zeros at the end": lambda content: content + b"\0" * 300,
    "zeros in between": lambda content: content.replace(b"\n", b"\n\0\0\0\n", 1),
    "not UTF-8": lambda content: content.replace(b"kimg", b"\xff\xfe", 1),
    "no kimg": lambda content: b'{"loss": 1.0}\n' + content,
    "a word for kimg": lambda content: b'{"kimg": "many"}\n' + content,
    "not finite": lambda content: b'{"kimg": 0.032, "loss": NaN}\n' + content,
    "a list": lambda content: b"[0.032]\n" + content,
    "nested": lambda content: b"[" * 100_000 + b"\n" + content,
    "empty": lambda content: b"",
    "missing": None,
}


@pytest.mark.parametrize(
    "damage", ["half a line", "half a line in between", "zeros in between", "not UTF-8", "missing"]
)
def test_of_damaged_metrics_the_whole_lines_are_kept(ganaug, here, whole, caplog, monkeypatch, damage):
    without_curves(monkeypatch)  # which the test below draws
    path = here / "training" / "metrics.jsonl"
    before = path.read_text().splitlines()
    if METRICS[damage]:
        path.write_bytes(METRICS[damage](path.read_bytes()))
    else:
        path.unlink()
    kept = path.read_bytes().decode(errors="replace").splitlines() if path.exists() else []
    kept = [line for line in before if line in kept]
    assert ganaug("--resume_from_checkpoint", "latest", *LONGER, page=True) is None
    assert sha256_of(here / "model.safetensors") == whole
    after = path.read_text().splitlines()
    assert after[: len(kept)] == kept
    assert [json.loads(line)["kimg"] for line in after[len(kept) :]] == [0.16, 0.192, 0.224, 0.256]
    assert ("damaged and left out" in caplog.text) == (damage not in ("empty", "missing"))
    page = (here / "training" / "run.html").read_text()
    assert "The generator that was saved is the one after" in page


@pytest.mark.parametrize("damage", [*METRICS, "all"])
def test_the_page_of_a_run_is_written_from_what_is_whole(here, monkeypatch, damage):
    if damage not in ("half a line", "half a line in between", "empty"):  # what is left of others is what is of these
        without_curves(monkeypatch)
    path = here / "training" / "metrics.jsonl"
    if damage == "all":
        path.write_bytes(b"{" * 50)
    elif METRICS[damage]:
        path.write_bytes(METRICS[damage](path.read_bytes()))
    else:
        path.unlink()
    write_run_page(here)
    page = (here / "training" / "run.html").read_text()
    lost = 2 - sum("score" in row for row in read_metrics(here))
    assert (f"scores {lost} are missing" in page) == bool(lost)
    assert ("<p>There are none: <code>training/metrics.jsonl</code>" in page) == (
        damage in ("all", "empty", "missing")
    )


@pytest.mark.parametrize("name", ["step-1", "step-00000002", "step-by-step"])
def test_a_run_may_be_called_like_a_checkpoint(ganaug, here, monkeypatch, whole, name):
    run = here.rename(here.with_name(name))
    steps = sorted((run / "training" / "checkpoints").iterdir())
    assert find_checkpoint(run).path == steps[-1]
    monkeypatch.chdir(run)
    assert find_checkpoint(".").run == find_checkpoint(f"../{name}").run == run
    monkeypatch.chdir(steps[0].parent)
    assert [find_checkpoint(step.name).run for step in steps] == [run, run]
    assert find_checkpoint("../../training/checkpoints/" + steps[0].name).run == run
    monkeypatch.chdir(steps[1])
    assert find_checkpoint(".").step == find_checkpoint(steps[1]).step
    assert ganaug("--resume_from_checkpoint", f"../{steps[1].name}", *LONGER) is None
    assert sha256_of(run / "model.safetensors") == whole


def test_a_checkpoint_outside_of_a_run_is_refused(ganaug, here, tmp_path):
    step = find_checkpoint(here).path
    step.rename(tmp_path / step.name)
    assert re.search(r"not in the folder of a run\. Put it", ganaug("--resume_from_checkpoint", step.name))
    assert not (tmp_path / "training").exists()


def test_images_are_found_from_another_folder(ganaug, here, begun, whole):
    data = json.loads((here / "training" / "settings.json").read_text())["data"]
    assert data["train_data_dir"] == str(begun / "photos")
    assert str(begun) not in (here / "README.md").read_text()  # the card is published


def test_images_that_moved_are_asked_for(ganaug, here, begun, tmp_path, whole):
    """Earlier versions kept a relative folder as it was given."""
    path = here / "training" / "settings.json"
    settings = json.loads(path.read_text())
    for where in ("photos", "/gone/photos", "../photos"):
        settings["data"]["train_data_dir"] = where
        path.write_text(json.dumps(settings))
        told = ganaug("--resume_from_checkpoint", "latest", *LONGER)
        assert re.search(rf"were in {where}, which is not there\. Give --train_data_dir", told)
    shutil.copytree(begun / "photos", tmp_path / "moved")
    assert ganaug("--resume_from_checkpoint", "latest", "--train_data_dir", "moved", *LONGER) is None
    assert sha256_of(here / "model.safetensors") == whole
    assert json.loads(path.read_text())["data"]["train_data_dir"] == str(tmp_path / "moved")


def held_out_file(photos: Path) -> Path:
    images = open_images(photos)
    _, held_out = hold_back(TrainingSettings(), images, images)
    for path in sorted(photos.rglob("*.png")):
        with Image.open(path) as picture:
            if np.array_equal(np.asarray(picture), held_out.images[0, 0].numpy()):
                return path
    raise AssertionError("no file has the first of the held-out images")


@pytest.mark.parametrize("change", ["inverted", "black", "none held out"])
def test_a_held_out_image_that_changed_is_noticed(ganaug, here, begun, tmp_path, whole, change):
    photos = shutil.copytree(begun / "photos", tmp_path / "photos")
    file = held_out_file(photos)
    content = file.read_bytes()
    settings = (here / "training" / "settings.json").read_bytes()
    again = ["--resume_from_checkpoint", "latest", "--train_data_dir", str(photos), *LONGER]
    if change == "none held out":
        assert "other settings" in ganaug(*again, "--evaluation_kimg", "None")
    else:
        with Image.open(file) as picture:
            other = picture.point(lambda value: 255 - value if change == "inverted" else 0)
        other.save(file)
        assert "held back to choose a generator by are not those of" in ganaug(*again)
        file.write_bytes(content)
    assert (here / "training" / "settings.json").read_bytes() == settings  # of a run that was not resumed
    assert ganaug(*again) is None
    assert sha256_of(here / "model.safetensors") == whole


def test_a_checkpoint_without_held_out_images_fingerprint_is_resumed(ganaug, here, whole):
    """As those of earlier versions."""
    for step in (here / "training" / "checkpoints").iterdir():
        manifest = json.loads((step / "manifest.json").read_text())
        del manifest["facts"]["held_out"], manifest["sha256"]
        (step / "manifest.json").write_text(json_text({**manifest, "sha256": fingerprints.of_values(manifest)}))
    assert ganaug("--resume_from_checkpoint", "latest", *LONGER) is None
    assert sha256_of(here / "model.safetensors") == whole


def test_the_card_has_the_commands_that_changed_what_was_trained(ganaug, here):
    first = RunFolder(here, after_kimg=1).command
    assert ganaug("--resume_from_checkpoint", "latest", *LONGER) is None
    again = f"ganaug train --resume_from_checkpoint latest {' '.join(LONGER)}"
    for _ in range(2):  # going on as the run was left changes nothing
        card = (here / "README.md").read_text()
        assert f"\n{first}; {again}\n" in card
        assert "| `total_kimg` | 0.256 |" in card
        assert ganaug("--resume_from_checkpoint", "latest") is None
    assert "Go on with override" in ganaug("--resume_from_checkpoint", "latest", "--total_kimg", "0.32")
    assert ganaug("--resume_from_checkpoint", "latest", "--total_kimg", "0.32", "--override") is None
    card = (here / "README.md").read_text()
    assert f"\n{first}; {again}; ganaug train --resume_from_checkpoint latest --total_kimg 0.32 --override\n" in card
    assert "| `total_kimg` | 0.32 |" in card


def test_a_run_stopped_before_its_first_checkpoint_starts_with_its_flags(ganaug, here, tmp_path, whole):
    run = tmp_path / "outputs" / "again"
    (run / "training").mkdir(parents=True)
    shutil.copy(here / "training" / "settings.json", run / "training")
    flags = ["--resume_from_checkpoint", "latest", "--output_dir", str(run), "--total_kimg", "0.256"]
    assert ganaug(*flags) is None
    info = json.loads((run / "config.json").read_text())
    assert info["dataset"]["name"].startswith("class folders photos")
    assert info["training"]["total_kimg"] == 0.256
    assert sha256_of(run / "model.safetensors") == whole  # as if it had never been stopped
    # With another model it is another run, and has that one's defaults.
    shutil.rmtree(run / "training" / "checkpoints")
    (run / "model.safetensors").unlink()
    assert ganaug(*flags, *QUICK[2:], "--dataset_name", "sklearn:digits", "--model", "cgan-maxout") is None
    info = json.loads((run / "config.json").read_text())
    assert info["training"]["train_batch_size"] == MODELS["cgan-maxout"].settings.train_batch_size
    assert "photos" not in info["dataset"]["name"]
