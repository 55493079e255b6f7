"""Publishing with the real client, over the loopback interface."""

from __future__ import annotations

import random
import re
import shutil
import threading
import time
from dataclasses import replace
from hashlib import sha256
from importlib.metadata import version

import datasets
import huggingface_hub
import pytest
import torch
from helpers.generators import make_generator
from helpers.loopback_hub import LoopbackHub, cut_after, flipped
from huggingface_hub import DatasetCard, HfApi, ModelCard

from ganaug import (
    Generator,
    InputError,
    LoadError,
    PublishError,
    augment_dataset,
    generate_dataset,
    publish,
    publish_dataset,
)
from ganaug.__main__ import main
from ganaug.hub import upload
from ganaug.hub.config import MOST_BYTES
from ganaug.hub.dataset_card import Provenance, dataset_card, facts_of, provenance_in

HIS = "models/alice/digits"


@pytest.fixture
def hub(monkeypatch):
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_DISABLE_XET", True)  # no server for it here
    monkeypatch.setattr("ganaug.hub.requests.PAUSE", 0.01)
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


def test_a_generator_publishes_itself(hub, load):
    generator = make_generator()
    url = generator.push_to_hub("alice/digits", token="alices", endpoint=hub.endpoint, branch="small")
    assert url.startswith(hub.endpoint)
    assert torch.equal(load("alice/digits@small").sample([3]), generator.sample([3]))
    assert generator.origin.name == f"alice/digits@{url.rpartition('/')[2]}"
    with pytest.raises(LoadError, match="has no config"):
        load("alice/digits@main")


def test_private_repositories_want_a_token(hub, put, load):
    put(private=True)
    assert HIS in hub.private
    with pytest.raises(LoadError, match="a private one needs token="):
        load()
    with pytest.raises(LoadError, match="a private one needs token="):
        load(token="bobs")
    with pytest.raises(LoadError, match="could not be downloaded: the token is not valid"):
        load(token="wrong")
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
    there = upload._there

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
        patch.setattr(upload, "_there", together)
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


@pytest.mark.parametrize("request_", [r"digits\?", "revision", "tree", "HEAD", "GET .*/config", "GET .*/model.s"])
def test_loading_from_a_hub_with_trouble(hub, put, load, generator, request_):
    put()
    hub.fail(request_, 503)
    assert torch.equal(load().sample([3]), generator.sample([3]))
    assert not hub.faults
    if request_.startswith("GET"):  # others have been answered by the cache, or are asked again for half a minute
        hub.fail(request_, 503, times=99)
        with pytest.raises(LoadError, match=r"alice/digits could not be downloaded: the Hub answered 503\. Try again"):
            load(force_download=True)


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
    with pytest.raises(LoadError, match="model.safetensors has other bytes than the Hub says"):
        load(force_download=True)
    assert load(f"alice/digits@{made.commit}", force_download=True).num_classes == 10
    hub.fail("GET .*/resolve/.*config.json", flipped)  # harmless as JSON: a space at its end
    for again in ({"force_download": True}, {}):
        with pytest.raises(LoadError, match="config.json has other bytes than the Hub says.*force_download=True"):
            load(**again)


def test_the_recipe_shows_what_it_will_publish_and_how_to_load_it(hub, in_process, folder, monkeypatch, capsys, load):
    monkeypatch.setenv("HF_TOKEN", "alices")
    flags = [str(folder), "alice/digits", "--endpoint", hub.endpoint]
    assert in_process(*flags, "--dry_run", name="publish") is None
    shown = capsys.readouterr().out
    assert re.search(r"1,310,612 bytes  model\.safetensors", shown)
    assert "# acgan-28: 10 classes, 28x28 pixels" in shown
    assert not hub.commits
    assert "the card names no licence" in in_process(*flags, name="publish")
    assert not hub.commits
    assert in_process(*flags, "--licence", "mit", "--private", name="publish") is None
    shown = capsys.readouterr().out
    assert shown.index("license: mit") < shown.index("published: ")
    pinned = re.search(r'Generator\.from_pretrained\("(alice/digits@[0-9a-f]{40})"\)', shown).group(1)
    assert load(pinned, token="alices").num_classes == 10
    assert in_process(*flags, name="publish") is None  # the licence is on the card by now


TINY = ["--dataset_name", "sklearn:digits", "--model", "acgan-28", "--total_kimg", "0.064", "--cpu_threads", "1"]


def test_training_publishes_and_never_loses_what_it_trained(hub, in_process, tmp_path, monkeypatch, load):
    monkeypatch.setenv("HF_TOKEN", "alices")
    monkeypatch.setattr("ganaug.hub.upload.HfApi", lambda **options: HfApi(**{**options, "endpoint": hub.endpoint}))
    assert "push_to_hub needs hub_model_id (user/repo) and licence" in in_process(
        *TINY, "--push_to_hub", name="train_acgan"
    )
    assert not (tmp_path / "outputs").exists()
    there = str(tmp_path / "outputs" / "acgan-28")
    flags = [*TINY, "--push_to_hub", "--hub_model_id", "alice/digits", "--licence", "mit", "--output_dir"]
    hub.fail("commit/main", 500, times=9)
    told = in_process(*flags, there, name="train_acgan")
    assert f"To publish it: ganaug publish {there} alice/digits --licence mit" in told
    assert Generator.from_pretrained("outputs/acgan-28").image_size == 8
    hub.faults.clear()
    assert in_process(*flags, f"{there}-2", name="train_acgan") is None
    assert load().image_size == 8
    assert not any("training/" in path for path in hub.head(HIS))
    published = b"".join(hub.head(HIS).values()).decode(errors="replace")
    # On the card, on a line of its own.
    assert "\npython recipes/train_acgan.py --dataset_name sklearn:digits" in published
    assert "--output_dir acgan-28-2" in published
    assert str(tmp_path) not in published


def test_inspecting_says_what_it_is_without_building_it(hub, put, folder, tmp_path, capsys, monkeypatch):
    made = put()
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "cache"))
    for name in (str(folder), "alice/digits", f"alice/digits@{made.commit}"):
        main(["inspect", name, "--endpoint", hub.endpoint])
        shown = capsys.readouterr().out
        assert shown.startswith(f"{name}\n")
        assert re.search(r"architecture +acgan-28, 326,601 parameters", shown)
        assert re.search(r"classes +10: 0, 1, 2, 3", shown)
        assert re.search(r"verdict +not measured", shown)
        assert re.search(r"SHA-256 [0-9a-f]{64}", shown)
    (folder / "model.safetensors").write_bytes(b"")
    with pytest.raises(SystemExit, match=r"error: .*model\.safetensors is damaged"):
        main(["inspect", str(folder)])


def test_files_that_are_too_large_are_not_downloaded(hub, put, load):
    put()
    files = hub.head(HIS)
    for name, content in (
        ("config.json", b" " * (MOST_BYTES + 1)),
        ("model.safetensors", files["model.safetensors"] + b"\0" * 2**20),
    ):
        hub.put(HIS, {**files, name: content})
        hub.requests.clear()
        with pytest.raises(
            LoadError, match=rf"alice/digits: {name} has [\d,]+ bytes, and at most [\d,]+ can be right"
        ):
            load()
        assert not any(f"/{name}" in request for request in hub.requests)


def test_a_cached_branch_loads_without_the_hub(hub, put, load, generator):
    put()
    load()
    hub.close()
    started = time.monotonic()
    assert torch.equal(load().sample([3]), generator.sample([3]))
    assert time.monotonic() - started < 3


def test_a_folder_does_not_silently_stand_for_a_repository(put, load, folder, tmp_path, monkeypatch, caplog):
    put()
    load()
    monkeypatch.chdir(tmp_path)
    for name in ("alice/digits", "outputs/flow"):
        shutil.copytree(folder, tmp_path / name)
        assert load(name).num_classes == 10
    assert "alice/digits is a folder here, and is loaded instead of the Hub repository of that name" in caplog.text
    assert "outputs/flow" not in caplog.text
    with pytest.raises(LoadError, match="alice/digits is a folder here, which has no revisions"):
        Generator.from_pretrained("alice/digits", revision="v2")


def test_provenance_is_read_back_as_data(folder, tmp_path):
    loaded = Generator.from_pretrained(folder)
    rows = generate_dataset(loaded, 1, cache_dir=tmp_path)
    (told,) = provenance_in(rows.info.description)
    weights = sha256((folder / "model.safetensors").read_bytes()).hexdigest()
    assert told == Provenance(version("ganaug"), None, "acgan-28", weights, seed=0, filtered=False)
    assert rows.info.description.startswith(f"{told.sentence}\n\n")
    options = {"seed": 2**64 - 1, "accept": lambda images, labels: labels >= 0}
    refusing = generate_dataset(loaded, 1, **options, cache_dir=tmp_path)
    both = datasets.concatenate_datasets([rows, refusing, rows])
    wanted = (told, replace(told, seed=2**64 - 1, filtered=True))
    for made in (both, both.select(range(3)).map(lambda row: row).shuffle(seed=0)):
        assert facts_of(made).drawn == wanted
    assert all(each.sentence in dataset_card(facts_of(both)) for each in wanted)


def test_a_dataset_that_ganaug_0_1_made_still_publishes(his_dataset, tmp_path):
    rows = generate_dataset(make_generator(), 1, cache_dir=tmp_path)
    (told,) = facts_of(rows).drawn
    old = told.sentence.replace(version("ganaug"), "0.1.0")
    rows.info.description = f"Photos.\n\n{old}"  # there was no line of JSON
    assert facts_of(rows).drawn == (old,)
    card, _ = his_dataset(rows, licence="mit")
    assert f"**Synthetic data.** {old}" in card
    newer = replace(told, seed=1)
    rows.info.description = "\n\n".join([rows.info.description, newer.description, old])
    assert facts_of(rows).drawn == (old, newer)


@pytest.mark.parametrize(
    "line",
    ["{", "7", "{}", '{"ganaug_provenance": 7}', '{"ganaug_provenance": {"seed": 1}}', "wrong type", "another key"],
)
def test_lines_that_are_no_provenance_are_passed_over(line):
    good = Provenance("0.2.0", "a/b@c", "flow", "0" * 64, seed=1, filtered=False)
    sentence, right = good.description.split("\n\n")
    wrong = {
        "wrong type": right.replace('"seed": 1', '"seed": "1"'),
        "another key": right.replace('"seed": 1', '"seed": 1, "colour": "blue"'),
    }
    assert provenance_in(wrong.get(line, line)) == ()
    assert provenance_in(f"{sentence}\n\n{wrong.get(line, line)}") == (sentence,)  # for people, it is still said
    assert provenance_in(right) == provenance_in(f"{right}\n\n{sentence}") == (good,)


@pytest.fixture
def his_dataset(hub, monkeypatch, tmp_path):
    """``publish_dataset`` to the loopback Hub as alice; its README.md and rows."""
    monkeypatch.setattr("ganaug.hub.upload.HfApi", lambda **options: HfApi(**{**options, "endpoint": hub.endpoint}))
    monkeypatch.setattr("datasets.config.HF_ENDPOINT", hub.endpoint)

    def put(rows, **options):
        state = random.getstate()  # the client draws how long it would wait
        url = publish_dataset(rows, "alice/made", token="alices", **options)
        files = hub.head("datasets/alice/made", options.get("branch", "main"))
        assert url.endswith(hub.refs["datasets/alice/made", options.get("branch", "main")])
        random.setstate(state)
        (tmp_path / "shard").write_bytes(next(content for path, content in files.items() if path.startswith("data/")))
        rows = datasets.Dataset.from_parquet(str(tmp_path / "shard"), cache_dir=str(tmp_path / "cache"))
        return files["README.md"].decode(), rows

    return put


def test_generated_datasets_say_what_they_are(hub, put, load, his_dataset, tmp_path):
    made = put()
    rows = generate_dataset(load(), {"3": 5, "7": 2}, seed=4, cache_dir=tmp_path)
    card, back = his_dataset(rows, licence="cc0-1.0")
    weights = sha256(hub.head(HIS)["model.safetensors"]).hexdigest()
    assert f"alice/digits@{made.commit} (acgan-28, SHA-256 of its weights {weights}), seed 4" in card
    assert re.findall(r"^\| (\d) \| (\d) \| (\d+) \|$", card, re.M) == [
        (str(k), str(k), {3: "5", 7: "2"}.get(k, "0")) for k in range(10)
    ]
    metadata = DatasetCard(card).data
    assert metadata.license == "cc0-1.0"
    assert {"ganaug", "synthetic"} <= set(metadata["tags"])
    assert metadata.task_categories == ["image-classification"]
    assert back["label"][:] == [3] * 5 + [7] * 2
    assert back["image"][0].tobytes() == rows["image"][0].tobytes()
    assert metadata["dataset_info"]["features"][1]["dtype"]["class_label"]["names"]["9"] == "9"  # the client's own


def test_publishing_a_dataset_again_keeps_what_is_not_ours(hub, his_dataset, tmp_path):
    rows = generate_dataset(make_generator(), 1, cache_dir=tmp_path)
    card, _ = his_dataset(rows, licence="mit", branch="small")
    assert "a generator that was not saved (ACGAN28Generator), seed 0" in card
    files = hub.head("datasets/alice/made", "small")
    theirs = card.replace("# Labelled images", "# My digits").replace("license: mit", "license: mit\nlanguage: de")
    hub.put("datasets/alice/made", {**files, "README.md": theirs.encode(), "notes.txt": b"mine"}, "small")
    card, back = his_dataset(rows.select(range(3)).map(lambda row: row), branch="small")
    assert len(back) == 3
    assert card.count("**Synthetic data.**") == 1
    assert ("# My digits" in card, "| 9 | 9 | 0 |" in card, "language: de" in card) == (True, True, True)
    assert hub.head("datasets/alice/made", "small")["notes.txt"] == b"mine"
    hub.fail("commit/small", 412)
    with pytest.raises(
        PublishError, match="alice/made was not published: it was changed meanwhile. Run the same again"
    ):
        his_dataset(rows, branch="small")


def test_where_generated_images_come_from(folder, tmp_path):
    loaded = Generator.from_pretrained(folder)
    rows = generate_dataset(loaded, 1, cache_dir=tmp_path)
    assert "a generator that is not on the Hub (acgan-28, SHA-256 of its weights" in rows.info.description
    real = rows.select(range(5))
    real.info.description = "Photos."
    mixed = augment_dataset(real, loaded, 0.5, source_column="source", cache_dir=tmp_path)
    assert mixed.info.description == f"Photos.\n\n{rows.info.description}"
    assert facts_of(mixed).counts == {str(k): 2 * (k < 5) for k in range(10)}
    with torch.no_grad():
        next(loaded.parameters()).add_(1)
    changed = generate_dataset(loaded, 1, cache_dir=tmp_path)
    assert "a generator that was not saved (ACGAN28Generator)" in changed.info.description
    loaded.save_pretrained(folder)
    saved = generate_dataset(loaded, 1, cache_dir=tmp_path).info.description
    assert saved == generate_dataset(folder, 1, cache_dir=tmp_path).info.description != rows.info.description
    with pytest.raises(InputError, match="does not say that ganaug generated images in it"):
        publish_dataset(real, "alice/made")
    with pytest.raises(InputError, match=r"must have one ClassLabel column, found \['label', 'other'\]"):
        publish_dataset(rows.add_column("other", rows["label"][:], feature=rows.features["label"]), "alice/made")
