"""Loading from the Hub with the real client, over the loopback interface."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time

import pytest
import torch
from helpers.generators import make_generator
from helpers.images import hf_dataset, small_images
from helpers.loopback_hub import LoopbackHub
from safetensors.torch import save_file

from ganaug import Generator, LoadError


@pytest.fixture
def hub():
    server = LoopbackHub()
    yield server
    server.close()


@pytest.fixture
def load(hub, tmp_path):
    """``Generator.from_pretrained`` from the loopback Hub into a cache of its own."""

    def from_pretrained(name: str, **options):
        return Generator.from_pretrained(name, cache_dir=tmp_path / "cache", endpoint=hub.endpoint, **options)

    return from_pretrained


def test_one_commit_is_downloaded_and_only_what_is_needed(hub, load, generator, generator_folder):
    sha = hub.commit("models/user/repo", generator_folder)
    loaded = load("user/repo")
    assert torch.equal(loaded.sample(range(10)), generator.sample(range(10)))
    files = [request for request in hub.requests if "/resolve/" in request]
    assert files
    assert all(f"/resolve/{sha}/config.json" in file or f"/resolve/{sha}/model.safetensors" in file for file in files)


def test_branch_tag_and_commit(hub, load, generator_folder, tmp_path):
    first = hub.commit("models/user/repo", generator_folder)
    other = make_generator(("cat", "dog"), image_size=8)
    other.save_pretrained(tmp_path / "other")
    hub.commit("models/user/repo", tmp_path / "other", ref="v2")
    assert load("user/repo").num_classes == 10
    assert load("user/repo@v2").label_names == ("cat", "dog")
    assert load("user/repo", revision="v2").label_names == ("cat", "dog")
    assert load(f"user/repo@{first}").num_classes == 10


def test_a_cached_generator_needs_no_hub(hub, load, generator_folder):
    sha = hub.commit("models/user/repo", generator_folder)
    load("user/repo")
    hub.requests.clear()
    load("user/repo", local_files_only=True)
    load(f"user/repo@{sha}")
    assert hub.requests == []


def test_hashes_of_the_training_images_are_downloaded_where_they_are(hub, load, generator_folder, tmp_path):
    folder = shutil.copytree(generator_folder, tmp_path / "recorded")
    save_file({"sha256_prefix": torch.tensor([3, 4])}, folder / "training_images.safetensors")
    without = hub.commit("models/user/repo", generator_folder)
    assert load("user/repo").seen_images is None
    sha = hub.commit("models/user/repo", folder)
    assert load("user/repo").seen_images.tolist() == [3, 4]
    hub.requests.clear()
    assert load(f"user/repo@{sha}").seen_images.tolist() == [3, 4]
    assert load(f"user/repo@{without}").seen_images is None
    assert hub.requests == []


def test_weights_are_downloaded_last(hub, load, generator_folder, tmp_path):
    """So that a pinned generator is never taken from the cache of a download that was cut short."""
    folder = shutil.copytree(generator_folder, tmp_path / "recorded")
    save_file({"sha256_prefix": torch.tensor([3, 4])}, folder / "training_images.safetensors")
    hub.commit("models/user/repo", folder)
    load("user/repo")
    files = [request.rpartition("/")[2] for request in hub.requests if "/resolve/" in request]
    others = files[: files.index("model.safetensors")]
    assert set(others) == {"config.json", "training_images.safetensors"}
    assert set(files[len(others) :]) == {"model.safetensors"}


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("user/missing", r"no folder and no Hub repository 'user/missing'; a private one needs token="),
        ("user/repo@v9", r"user/repo has no revision 'v9'"),
        ("user/gated", r"user/gated is gated: ask for access"),
    ],
)
def test_what_is_not_there(hub, load, generator_folder, name, message):
    hub.commit("models/user/repo", generator_folder)
    hub.commit("models/user/gated", generator_folder)
    hub.gated.add("models/user/gated")
    with pytest.raises(LoadError, match=message):
        load(name)


def test_a_hub_that_is_down_is_reported_at_once(hub, load):
    hub.close()
    started = time.monotonic()
    with pytest.raises(LoadError, match=r"user/repo (is not in the cache|could not be downloaded)"):
        load("user/repo")
    assert time.monotonic() - started < 3


def test_an_hf_dataset_by_its_hub_id(hub, tmp_path):
    """``--dataset_name user/pets``: HF_ENDPOINT is read when datasets is imported, hence a process of its own."""
    data = small_images(channels=3)
    (tmp_path / "repo" / "data").mkdir(parents=True)
    hf_dataset(data).to_parquet(tmp_path / "repo" / "data" / "train-00000-of-00001.parquet")
    sha = hub.commit("datasets/user/pets", tmp_path / "repo")
    program = (
        "import json; from ganaug import open_images; d = open_images('user/pets'); "
        "print(json.dumps([d.name, d.classes, d.class_counts, d.fingerprint]))"
    )
    environment = {**os.environ, "HF_ENDPOINT": hub.endpoint, "HF_HOME": str(tmp_path / "home")}
    done = subprocess.run(
        [sys.executable, "-c", program], env=environment, capture_output=True, text=True, timeout=100, check=False
    )
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout.splitlines()[-1]) == [
        f"HF dataset user/pets@{sha}, train split", list(data.classes), data.class_counts, data.fingerprint,
    ]  # fmt: skip
