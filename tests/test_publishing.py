"""Publishing with the real client, over the loopback interface."""

from __future__ import annotations

import shutil
import threading

import huggingface_hub
import pytest
import torch
from conftest import make_generator
from huggingface_hub import ModelCard
from loopback_hub import LoopbackHub, cut_after, flipped

from ganaug import Generator, LoadError, PublishError, publish, publishing

HIS = "models/alice/digits"


@pytest.fixture
def hub(monkeypatch):
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_DISABLE_XET", True)  # no server for it here
    monkeypatch.setattr(publishing, "PAUSE", 0.01)
    server = LoopbackHub(tokens={"alices": "alice", "bobs": "bob"})
    yield server
    server.close()


@pytest.fixture
def folder(generator_folder, tmp_path):
    return shutil.copytree(generator_folder, tmp_path / "folder")


@pytest.fixture
def put(hub, folder):
    """``publish`` a folder to the loopback Hub as alice."""

    def put(source=folder, repo_id="alice/digits", **options):
        return publish(source, repo_id, **{"token": "alices", "endpoint": hub.endpoint, **options})

    return put


@pytest.fixture
def load(hub, tmp_path):
    def load(name="alice/digits", **options):
        return Generator.from_pretrained(name, cache_dir=tmp_path / "cache", endpoint=hub.endpoint, **options)

    return load


def test_what_is_published_comes_back(hub, put, load, folder, generator):
    (folder / "training").mkdir()
    (folder / "training" / "checkpoints.safetensors").write_bytes(b"not for others")
    (folder / "photos.zip").write_bytes(b"not for others")
    made = put(licence="mit")
    assert hub.head(HIS).keys() == {
        ".gitattributes",
        "README.md",
        "config.json",
        "model.safetensors",
        "samples/grid.png",
    }
    assert made.url.endswith(f"/alice/digits/commit/{made.commit}")
    assert sum("/commit/main" in request for request in hub.requests) == 1
    for name in ("alice/digits", "alice/digits@main", f"alice/digits@{made.commit}"):
        assert torch.equal(load(name).sample(range(10)), generator.sample(range(10)))
    card = ModelCard(hub.head(HIS)["README.md"].decode())
    assert card.data.license == "mit"
    assert 'Generator.from_pretrained("alice/digits")' in card.text
    assert "path/to/this/folder" in (folder / "README.md").read_text()  # which is as it was


def test_a_generator_publishes_itself(hub, load, generator):
    url = generator.push_to_hub("alice/digits", token="alices", endpoint=hub.endpoint, branch="small")
    assert url.startswith(hub.endpoint)
    assert torch.equal(load("alice/digits@small").sample([3]), generator.sample([3]))
    with pytest.raises(LoadError, match="has no config"):
        load("alice/digits@main")


def test_private_repositories_want_a_token(hub, put, load):
    put(private=True)
    assert HIS in hub.private
    with pytest.raises(LoadError, match="a private one needs token="):
        load()
    with pytest.raises(LoadError, match="a private one needs token="):
        load(token="bobs")
    assert load(token="alices").num_classes == 10


def test_who_may_not_publish_is_told(hub, put, folder):
    before = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    for token, message in (
        (False, "Log in with `hf auth login`"),
        ("wrong", "the token is not valid"),
        ("bobs", "may not write"),
    ):
        with pytest.raises(
            PublishError, match=f"alice/digits was not published: .*{message}.*Nothing local was changed"
        ):
            put(token=token)
    assert not hub.commits
    assert {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()} == before


def test_publishing_again_keeps_what_is_not_ours(hub, put, load, folder):
    put(licence="mit")
    files = hub.head(HIS)
    theirs = files["README.md"].decode().replace("## Limits", "## My own words\n\nUse with care.\n\n## Limits")
    theirs = theirs.replace("license: mit", "license: apache-2.0\nlanguage: de")
    hub.put(HIS, {**files, "README.md": theirs.encode(), "notes.txt": b"mine", "config.old": b"old"})
    other = make_generator(image_size=32)
    other.save_pretrained(folder)
    put()
    now = hub.head(HIS)
    card = ModelCard(now["README.md"].decode())
    assert (now["notes.txt"], now["config.old"]) == (b"mine", b"old")
    assert "Use with care." in card.text
    assert (card.data.license, card.data.language) == ("apache-2.0", "de")
    assert card.text.count("<!-- ganaug generator: begin -->") == 1
    assert load().image_size == 32
    assert "uint8 (10, 1, 32, 32)" in card.text
    assert "uint8 (10, 1, 28, 28)" not in card.text


def test_a_readme_of_the_users_own_gets_the_blocks_at_its_end(hub, put):
    hub.put(HIS, {"README.md": b"# My generator\n\nAll my own.\n"})
    put()
    text = hub.head(HIS)["README.md"].decode()
    assert text.index("All my own.") < text.index("<!-- ganaug generator: begin -->") < text.index("## Does it help")
    assert ModelCard(text).data.library_name == "ganaug"


def test_of_those_who_publish_at_once_one_wins_and_nothing_is_lost(hub, put, tmp_path, generator_folder):
    put()
    folders = [shutil.copytree(generator_folder, tmp_path / str(number)) for number in range(6)]
    ready, found = threading.Barrier(6), []
    there = publishing._there

    def together(*args):
        answer = there(*args)
        ready.wait()
        return answer

    def go(number):
        try:
            found.append(put(folders[number], commit_message=str(number)).commit)
        except PublishError as error:
            found.append(str(error))

    with pytest.MonkeyPatch.context() as patch, torch.random.fork_rng():  # which is one for all threads
        patch.setattr(publishing, "_there", together)
        threads = [threading.Thread(target=go, args=(number,)) for number in range(6)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    lost = [each for each in found if "was changed meanwhile. Run the same again" in each]
    assert len(lost) == 5
    assert hub.refs[HIS, "main"] in found
    assert {"config.json", "model.safetensors", "README.md"} <= hub.head(HIS).keys()


@pytest.mark.parametrize("request_", ["create$", "GET /api/models/alice/digits", "commit/main", "PUT /_upload"])
def test_a_hub_with_trouble_is_asked_again(hub, put, load, request_):
    hub.fail(request_, 503, times=1)
    put()
    assert not hub.faults
    assert load().num_classes == 10


def test_a_hub_that_stays_in_trouble_or_is_gone_is_reported(hub, put):
    hub.fail("commit/main", 500, times=9)
    with pytest.raises(PublishError, match=r"the Hub answered 500\. Nothing local was changed"):
        put()
    hub.close()
    with pytest.raises(PublishError, match="alice/digits was not published"):
        put()


def test_a_dry_run_changes_nothing(hub, put):
    shown = put(dry_run=True, licence="mit")
    assert not hub.commits
    assert shown.files.keys() == {"config.json", "model.safetensors", "samples/grid.png"}
    assert shown.commit is None
    assert "license: mit" in shown.card
    assert not any(request.startswith(("POST", "PUT")) for request in hub.requests)
    put()
    commits = dict(hub.commits)
    assert "license" not in put(dry_run=True).card
    assert hub.commits == commits


def test_what_cannot_be_loaded_is_not_published(hub, put, folder):
    (folder / "model.safetensors").write_bytes(b"")
    with pytest.raises(LoadError, match="is damaged"):
        put()
    assert not hub.requests


def test_downloads_that_are_cut_go_on_and_wrong_bytes_are_refused(hub, put, load, generator):
    made = put()
    hub.fail("GET .*/resolve/.*model.safetensors", cut_after(100_000))
    assert torch.equal(load().sample([3]), generator.sample([3]))
    hub.fail("GET .*/resolve/.*model.safetensors", flipped)
    with pytest.raises(LoadError, match="SHA-256 differs"):
        load(force_download=True)
    assert load(f"alice/digits@{made.commit}", force_download=True).num_classes == 10
