"""Cards, links, ids and answers of the Hub that anybody may have made: refused by one exception that says why."""

from __future__ import annotations

import json
import os
import shutil
import threading
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import datasets
import pytest
from helpers import loopback_hub
from helpers.generators import make_generator
from helpers.limits import soon_and_small
from helpers.loopback_hub import LoopbackHub
from helpers.verdict_example import example_verdict
from PIL import Image

from ganaug import Generator, InputError, LoadError, PublishError, generate_dataset, publish, publish_dataset
from ganaug.__main__ import main
from ganaug.hub.card import model_card, write_verdict
from ganaug.hub.dataset_card import dataset_card, facts_of


@pytest.fixture(scope="module")
def hub():
    server = LoopbackHub(tokens={"alices": "alice"})
    yield server
    server.close()


@pytest.fixture(scope="module")
def published_before(hub, generator_folder, tmp_path_factory):
    """What the client imports when it is first used counts for no test."""
    hub.commit("models/user/repo", generator_folder)
    publish(generator_folder, "alice/digits", token="alices", endpoint=hub.endpoint, dry_run=True)
    Generator.from_pretrained("user/repo", endpoint=hub.endpoint, cache_dir=tmp_path_factory.mktemp("cache"))
    return generator_folder


@pytest.fixture
def folder(published_before, tmp_path):
    return shutil.copytree(published_before, tmp_path / "folder")


@pytest.fixture
def put(hub, folder):
    def put(repo_id: Any = "alice/digits", **options):
        return publish(folder, repo_id, token="alices", endpoint=hub.endpoint, **options)

    return put


@pytest.fixture
def load(hub, folder, tmp_path):
    def load(name: Any = "user/repo", **options):
        return Generator.from_pretrained(name, cache_dir=tmp_path / "cache", endpoint=hub.endpoint, **options)

    return load


# Metadata of README.md.

TAG = "tag: !!python/object/apply:os.system ['touch harmed']"
METADATA = {
    "broken": "a: [1",
    "broken by a tab": "a:\n\t- b",
    "control character": "a: \x07",
    "list": "- a\n- b",
    "word": "word",
    "number for a key": "1: a",
    "list for a key": "? [a]\n: b",
    "deep lists": "a: " + "[" * 50_000,
    "deep objects": "a: " + '{"b": ' * 5_000 + "1" + "}" * 5_000,
    "deep by indentation": "\n".join(f"{' ' * k}a:" for k in range(200)),
    "tag that runs code": TAG,
    "tag unknown": "a: !evil b",
    "tag without content": "a: !!int ''",
    "tag of no time": "a: !!timestamp x",
    "time that is none": "a: 2001-99-99",
    "alias": "a: &x [1]\nb: *x",
    "a billion laughs": "\n".join(["a0: &a0 [x]", *(f"a{k}: &a{k} [{f'*a{k - 1}, ' * 9}]" for k in range(1, 20))]),
    "list in itself": "a: &x [*x]",
    "merged into itself": "a: &x\n  <<: *x",
    "long": "a: " + "x" * 200_000,
    "many": "a: [" + "1," * 60_000 + "]",
    "number of many digits": "a: " + "9" * 5_000,
    "two documents": "a: 1\n...\nb: 2",
    "tags a number": "tags: 5",
    "tags of lists": "tags: [[a], [b]]",
    "tags of objects": "tags: [{a: b}]",
    "datasets of numbers": "datasets: [1]",
    "library a list": "library_name: [a]",
    "name of the model a list": "model_name: [a]",
    "results of the client's own name": "eval_results: [1]",
    "results that are a number": "model-index: 5",
    "results without a task": "model-index: [{name: a, results: [{}]}]",
    "results of strings": "model-index: [{name: a, results: x}]",
    "the client's own argument": "ignore_metadata_errors: true",
}


def with_metadata(folder: Path, metadata: str) -> Path:
    card = folder / "README.md"
    card.write_text(f"---\n{metadata}\n---\n" + card.read_text().split("---\n", 2)[2])
    return card


@pytest.mark.parametrize("name", METADATA)
def test_metadata_that_cannot_be_read(folder, put, hub, name, monkeypatch, tmp_path, capsys):
    monkeypatch.chdir(tmp_path)
    card = with_metadata(folder, METADATA[name])
    content, requests = card.read_bytes(), len(hub.requests)
    with soon_and_small(), pytest.raises(PublishError, match="the metadata of README.md") as caught:
        put()
    assert len(str(caught.value)) < 400
    assert str(caught.value).isprintable()
    with soon_and_small(), pytest.raises(InputError, match="the metadata of README.md"):
        write_verdict(card, example_verdict())
    with soon_and_small():
        main(["inspect", str(folder)])
    assert "the card cannot be read" in capsys.readouterr().out
    assert card.read_bytes() == content
    assert not any("/commit/" in request for request in hub.requests[requests:])
    assert not Path("harmed").exists()


@pytest.mark.parametrize("name", ["broken", "deep lists", "tag that runs code", "a billion laughs", "tags a number"])
def test_metadata_on_the_hub_that_cannot_be_read(hub, put, name):
    readme = f"---\n{METADATA[name]}\n---\n# Mine\n".encode()
    hub.put("models/alice/digits", {"README.md": readme})
    with soon_and_small(), pytest.raises(PublishError, match="the metadata of README.md"):
        put()
    assert hub.head("models/alice/digits") == {"README.md": readme}
    del hub.refs["models/alice/digits", "main"]
    with pytest.raises(InputError, match="the metadata of README.md"):
        dataset_card(facts_of(generated()), theirs=readme.decode())


def test_metadata_with_one_tag_or_one_licence_is_kept(folder, put):
    card = with_metadata(folder, "tags: mine\nlicense: mit")
    assert "- mine" in put(dry_run=True).card
    assert "- mine" in dataset_card(facts_of(generated()), theirs=card.read_text())


BAD_CLAIMS = [".nan", ".inf", "1" + "0" * 400, "1.5", "x", "[1]", "true", "null"]


def claim_of_0_1(value: str) -> str:
    results = "".join(
        f"    - type: balanced_accuracy\n      value: {value}\n      name: Difference made by generated images{end}\n"
        for end in ("", ", lower end of its 95 % interval", ", upper end of its 95 % interval")
    )
    return (
        "model-index:\n- name: a\n  results:\n  - task:\n      type: t\n    dataset:\n      type: d\n      name: n\n"
        f"    metrics:\n{results}".rstrip()
    )


@pytest.mark.parametrize(
    "claim",
    [
        *map(claim_of_0_1, BAD_CLAIMS),
        *(f"ganaug_difference: {{estimate: {value}, low: 0, high: 0}}" for value in BAD_CLAIMS),
        *(f"ganaug_difference: {value}" for value in ("1", "x", "[]", "{}", "[0, 0, 0]", "{estimate: 0.1}")),
    ],
)
def test_a_claim_that_cannot_be(folder, claim, capsys):
    with_metadata(folder, claim)
    main(["inspect", str(folder)])
    assert "the card cannot be read" in capsys.readouterr().out


# Files that are none, or are not the folder's own.


@pytest.mark.parametrize("name", ["README.md", "samples/grid.png", "evaluation/report.html", "evaluation/report.json"])
@pytest.mark.parametrize("kind", ["link", "link to a device", "pipe", "folder", "link to nothing"])
def test_what_is_not_the_folders_own_is_not_published(folder, put, hub, tmp_path, name, kind):
    key = tmp_path / "id_rsa"
    key.write_text("a private key")
    path = folder / name
    path.parent.mkdir(exist_ok=True)
    path.unlink(missing_ok=True)
    if kind == "pipe":
        os.mkfifo(path)
    elif kind == "folder":
        path.mkdir()
    else:
        path.symlink_to({"link": key, "link to a device": "/dev/zero"}.get(kind, tmp_path / "nothing"))
    before = dict(hub.uploads)
    with soon_and_small(), pytest.raises(PublishError, match=f"{path.name} is"):
        put()
    assert hub.uploads == before


@pytest.mark.parametrize("name", ["samples", "evaluation"])
def test_a_folder_that_is_a_link_is_not_published(folder, put, tmp_path, name):
    away = tmp_path / "away"
    away.mkdir()
    for file in ("grid.png", "report.html"):
        (away / file).write_text("private")
    shutil.rmtree(folder / name, ignore_errors=True)
    (folder / name).symlink_to(away)
    with pytest.raises(PublishError, match="outside the folder"):
        put()


@pytest.mark.parametrize("name", ["config.json", "model.safetensors"])
def test_a_link_for_what_is_loaded_is_not_published(folder, put, tmp_path, name):
    (folder / name).rename(tmp_path / name)
    (folder / name).symlink_to(tmp_path / name)
    with pytest.raises(PublishError, match="outside the folder"):
        put()


def test_links_within_the_folder_are_published_and_so_is_what_was_downloaded(folder, put, load, hub, tmp_path):
    (folder / "samples" / "grid.png").rename(folder / "real.png")
    (folder / "samples" / "grid.png").symlink_to("../real.png")
    assert "samples/grid.png" in put(dry_run=True).files
    load()
    (snapshot,) = (tmp_path / "cache" / "models--user--repo" / "snapshots").iterdir()
    assert (snapshot / "config.json").is_symlink()
    (snapshot / "README.md").write_text("# Mine\n")
    assert publish(snapshot, "alice/digits", token="alices", endpoint=hub.endpoint, dry_run=True).files


def generated() -> datasets.Dataset:
    return generate_dataset(make_generator(("cat", "dog"), image_size=8), 2)


def test_images_of_a_dataset_that_are_links_are_not_published(tmp_path):
    (tmp_path / "images").mkdir()
    key = tmp_path / "id_rsa"
    key.write_text("a private key")
    rows = generated()
    paths = [tmp_path / "images" / f"{k}.png" for k in range(len(rows))]
    for path in paths[1:]:
        Image.new("L", (8, 8)).save(path)
    paths[0].symlink_to(key)
    cells = [{"bytes": None, "path": str(path)} for path in paths]
    features = datasets.Features({**rows.features, "image": datasets.Image()})
    other = datasets.Dataset.from_dict(
        {**rows.remove_columns("image")[:], "image": cells}, features=features, info=None
    )
    other.info.description = rows.info.description
    with pytest.raises(PublishError, match="outside the folder"):
        publish_dataset(other, "alice/rows", token="alices")


# What reaches a card.


def test_what_others_named_is_escaped():
    harm = "<script>alert(1)</script>`|<!-- ganaug generator: end -->"
    generator = make_generator(("cat", harm), image_size=8)
    generator.info = {
        "dataset": {"name": harm, "class_counts": {"cat": harm, harm: 2}},
        "training": {"command": f"{harm}```", harm: harm},
    }
    card = model_card(generator, "0" * 64)
    assert card.count("ganaug generator: end -->") == 1 + card.count("< !-- ganaug generator: end -->")
    assert card.count("<!-- ganaug generator: end -->") == 1
    outside = [line for line in card.splitlines() if "<script>" in line and not line.startswith(("| `", "<script>"))]
    assert outside == []


def test_a_verdict_escapes_names(folder):
    harm = "<script>|<!-- ganaug evaluation: end -->"
    write_verdict(folder / "README.md", example_verdict(harm))
    card = (folder / "README.md").read_text().split("---\n", 2)[2]
    assert card.count("<!-- ganaug evaluation: end -->") == 1
    assert all("<script>" not in line.replace("`<script>", "") for line in card.splitlines())


# Ids and revisions.

BAD_IDS = [
    "", "a", "a/b/c", "/a", "a/", "a//b", "a b/c", "a/b--c", "a/b..c", "a/b.git", "a/b.", "a/-b", "../b/c",
    "~nobody-here/b", "a/" + "b" * 100, "a/" + "b" * 5000, "a\0/b", "a/b\n", "ä/b", "https://huggingface.co/a/b",
    5, None, b"a/b", ["a/b"],
]  # fmt: skip


@pytest.mark.parametrize("name", BAD_IDS, ids=ascii)
def test_ids_of_a_bad_form(load, put, hub, name, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    requests = len(hub.requests)
    with soon_and_small(), pytest.raises(LoadError, match="user/repo|is a folder|has no config"):
        load(name)
    with soon_and_small(), pytest.raises(PublishError, match="user/repo"):
        put(name)
    assert len(hub.requests) == requests


@pytest.mark.parametrize(
    "revision", ["", "..", "../../x", "a/../b", "/etc/passwd", "a b", "a\0b", "x" * 300, "\x1b[2J"]
)
def test_revisions_of_a_bad_form(load, hub, revision):
    requests = len(hub.requests)
    with pytest.raises(LoadError, match="is no revision"):
        load(revision=revision)
    with pytest.raises(LoadError, match=r"is no revision|Hub id|can be no folder"):
        load(f"user/repo@{revision}")
    assert len(hub.requests) == requests


# Answers.


def answer(**changes: Any) -> Callable[[Any, bytes], bytes]:
    return lambda body: json.dumps({**json.loads(body), **changes}).encode()


def of_files(**changes: Any) -> Callable[[bytes], bytes]:
    return lambda body: answer(siblings=[{**each, **changes} for each in json.loads(body)["siblings"]])(body)


ANSWERS = {
    "null for the commit": answer(sha=None),
    "number for the commit": answer(sha=5),
    "list for the commit": answer(sha=["a"]),
    "path for the commit": answer(sha="../../../../evil"),
    "short commit": answer(sha="abc"),
    "list for a size": of_files(size=[1]),
    "string for a size": of_files(size="12"),
    "object for a size": of_files(size={"a": 1}),
    "fraction for a size": of_files(size=1.5),
    "bool for a size": of_files(size=True),
    "negative size": of_files(size=-1),
    "huge size": of_files(size=2**60),
    "number for a file's name": of_files(rfilename=None, size="x"),
    "files without names": answer(siblings=[{}]),
    "number for the files": answer(siblings=5),
    "strings for the files": answer(siblings=["config.json"]),
    "list": lambda _: b"[]",
    "string": lambda _: b'"x"',
    "null": lambda _: b"null",
    "deep": lambda _: b"[" * 100_000,
    "not JSON": lambda _: b"<html>",
    "nothing": lambda _: b"",
    "wrong bytes": lambda _: b"\xff\xfe\xfd",
    "number of many digits": lambda _: b"9" * 5000,
}


@pytest.fixture
def changed(monkeypatch):
    """Every answer about a repository is changed, with the right length."""
    whole = loopback_hub._Handler._json

    def change(by: Callable[[bytes], bytes]) -> None:
        def changed(handler, value):
            if isinstance(value, dict) and "siblings" in value:
                headers = {"Content-Type": "application/json"}
                handler._answer(200, by(json.dumps(value).encode()), headers)
            else:
                whole(handler, value)

        monkeypatch.setattr(loopback_hub._Handler, "_json", changed)

    return change


@pytest.mark.parametrize("name", ANSWERS)
def test_answers_that_cannot_be_used(load, changed, name, tmp_path):
    changed(ANSWERS[name])
    with soon_and_small(), pytest.raises(LoadError, match="user/repo") as caught:
        load()
    assert len(str(caught.value)) < 600
    assert not list(tmp_path.rglob("evil*"))


@pytest.mark.parametrize(
    "name", ["number for the commit", "path for the commit", "number for the files", "list", "deep"]
)
def test_answers_to_a_publication_that_cannot_be_used(put, hub, folder, changed, name):
    hub.commit("models/alice/other", folder)
    changed(ANSWERS[name])
    with soon_and_small(), pytest.raises(PublishError, match="alice/other was not published"):
        put("alice/other")


@pytest.fixture
def slow(hub, monkeypatch):
    """Slow answers, which end with the test; and a client with little patience."""
    monkeypatch.setattr("ganaug.hub.requests.PATIENCE", 0.3)
    monkeypatch.setattr("ganaug.hub.requests.SLOWEST", 1e9)
    over = threading.Event()

    def a_byte_at_a_time(handler: Any, _: bytes) -> None:
        handler.close_connection = True
        with suppress(OSError):  # the client is gone
            handler.wfile.write(
                b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 9999999\r\n\r\n"
            )
            while not over.wait(0.02):
                handler.wfile.write(b" ")

    def nothing(handler: Any, _: bytes) -> None:
        handler.close_connection = True
        over.wait()

    def come_tomorrow(handler: Any, _: bytes) -> None:
        status = "503 Service Unavailable" if handler.command == "POST" else "429 Too Many Requests"
        handler.wfile.write(f"HTTP/1.1 {status}\r\nRetry-After: 100000\r\nContent-Length: 0\r\n\r\n".encode())

    yield {"byte": a_byte_at_a_time, "nothing": nothing, "tomorrow": come_tomorrow}
    over.set()
    hub.faults.clear()


@pytest.mark.timeout(60)
@pytest.mark.parametrize("how", ["byte", "nothing", "tomorrow"])
@pytest.mark.parametrize("request_", ["GET /api/models/user/repo", r"GET .*config\.json", r"GET .*safetensors"])
def test_slow_answers_end_in_a_stated_time(load, hub, slow, how, request_):
    hub.fail(request_, slow[how], times=9)
    with soon_and_small(), pytest.raises(LoadError, match=r"user/repo could not be .* after 0\.\d+ s|answered 429"):
        load()


@pytest.mark.timeout(60)
@pytest.mark.parametrize("how", ["byte", "nothing", "tomorrow"])
@pytest.mark.parametrize(
    "request_", ["POST /api/repos/create", "GET /api/models/alice/slow", "PUT", "POST .*/commit/"]
)
def test_slow_answers_to_a_publication_end_in_a_stated_time(put, hub, folder, slow, how, request_):
    hub.commit("models/alice/slow", folder)
    hub.uploads.clear()
    hub.fail(request_, slow[how], times=9)
    with (
        soon_and_small(),
        pytest.raises(PublishError, match=r"alice/slow was not published: .* (after 0\.\d+ s|429|503)"),
    ):
        put("alice/slow")
