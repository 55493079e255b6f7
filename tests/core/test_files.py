"""Files of tensors have the same bytes for the same tensors; what is kept is believed if it is as it was made."""

import json
import os
import stat
import sys
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
import torch
from helpers.programs import run_python
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors import safe_open
from safetensors.torch import load_file

from ganaug.core.files import build_once, move, read_tensors, remove, write_json, write_tensors

TENSORS = {"b.weight": torch.arange(6.0).view(2, 3).T, "a": torch.tensor(3), "none": torch.empty(0, 2)}


@settings(max_examples=50, deadline=None)
@given(st.dictionaries(st.text(max_size=8), st.text(max_size=30), max_size=6))
def test_the_same_tensors_give_the_same_bytes_and_are_read_back(metadata):
    with TemporaryDirectory() as folder:
        paths = [Path(folder, str(k)) for k in range(4)]
        for path, order in zip(paths, (1, -1, 1, -1), strict=True):
            write_tensors(path, dict(list(TENSORS.items())[::order]), dict(list(metadata.items())[::order]))
        assert len({path.read_bytes() for path in paths}) == 1
        found = load_file(paths[0])
        assert all(torch.equal(found[name], TENSORS[name]) for name in TENSORS)
        with safe_open(paths[0], "pt") as file:
            assert (file.metadata() or {}) == metadata


@pytest.mark.skipif(os.name == "nt", reason="there is no umask")
@pytest.mark.parametrize("umask", [0o022, 0o077, 0o002])
def test_who_may_read_a_file_is_up_to_the_umask(tmp_path, umask):
    path = tmp_path / "model.safetensors"
    # Twice: a new file, and one that is there.
    code = (
        "import os, torch, pathlib; from ganaug.core.files import write_tensors; "
        f"os.umask({umask}); path = pathlib.Path({str(path)!r}); "
        "[write_tensors(path, {'a': torch.zeros(3)}, {'format': 'pt'}) for _ in range(2)]"
    )
    run_python("-c", code, cwd=tmp_path)
    assert stat.S_IMODE(path.stat().st_mode) == 0o666 & ~umask


def kept(folder: Path, *, as_file: bool = False) -> Path:
    """What is built once: a file, or a folder with two."""

    def build(path: Path) -> None:
        if as_file:
            path.write_text("whole")
            return
        (path / "inner").mkdir(parents=True)
        (path / "inner" / "content").write_text("whole")
        (path / "empty").touch()

    return build_once(folder / "thing", build, what="the thing")


def text_of(path: Path) -> str:
    return (path if path.is_file() else path / "inner" / "content").read_text()


NOTES = ".thing.sha256.json"
DAMAGES = {
    "no notes": lambda folder: (folder / NOTES).unlink(),
    "empty notes": lambda folder: (folder / NOTES).write_text(""),
    "notes of nothing": lambda folder: (folder / NOTES).write_text("{}"),
    "notes of another format": lambda folder: (folder / NOTES).write_text('{"format": 9, "files": []}'),
    "a list": lambda folder: (folder / NOTES).write_text("[]"),
    "a number": lambda folder: (folder / NOTES).write_text("3"),
    "no text": lambda folder: (folder / NOTES).write_bytes(b"\xff\xfe"),
    "deep notes": lambda folder: (folder / NOTES).write_text("[" * 100_000),
    "half of the notes": lambda folder: os.truncate(folder / NOTES, 40),
    "other digests": lambda folder: (folder / NOTES).write_text((folder / NOTES).read_text().replace("a", "b")),
    "a file": lambda folder: [remove(folder / "thing"), (folder / "thing").write_text("half")],
    "an empty folder": lambda folder: [remove(folder / "thing"), (folder / "thing").mkdir()],
}


@pytest.mark.parametrize("as_file", [True, False])
@pytest.mark.parametrize("damage", DAMAGES)
def test_what_is_not_as_it_was_noted_is_made_again(tmp_path, damage, as_file, caplog):
    path = kept(tmp_path, as_file=as_file)
    made = path.stat().st_ino
    assert kept(tmp_path, as_file=as_file).stat().st_ino == made
    DAMAGES[damage](tmp_path)
    assert text_of(kept(tmp_path, as_file=as_file)) == "whole"
    assert "is damaged" in caplog.text
    made = path.stat().st_ino
    assert kept(tmp_path, as_file=as_file).stat().st_ino == made
    assert not list(tmp_path.glob(".*tmp*"))


def test_what_may_not_be_read_is_not_made_again(tmp_path, monkeypatch):
    """It may be whole, and another user's."""
    path = kept(tmp_path)

    def refused(*_, **__):
        raise PermissionError(13, "Permission denied", str(path))

    with monkeypatch.context() as patch:
        patch.setattr("ganaug.core.files.sha256_of", refused)
        with pytest.raises(PermissionError):
            kept(tmp_path)
    assert text_of(path) == "whole"


def test_a_process_of_the_same_number_that_was_killed_is_in_nobodys_way(tmp_path):
    """In a container each first process has the same."""
    path = kept(tmp_path)
    for left in (f".thing.tmp-{os.getpid()}-removed", f".thing.tmp-{os.getpid()}"):
        (tmp_path / left / "half").mkdir(parents=True)
    (path / "inner" / "content").write_text("other")
    assert text_of(kept(tmp_path)) == "whole"
    (tmp_path / f".thing.tmp-{os.getpid()}-removed" / "half").mkdir(parents=True)
    remove(path)
    assert not list(tmp_path.glob("*thing"))
    assert not list(tmp_path.glob(".*tmp*"))


def test_killed_between_notes_and_rename_it_is_made_again(tmp_path):
    code = (
        "import os, pathlib; from ganaug.core.files import build_once; replace = pathlib.Path.replace\n"
        "def killed(self, target):\n"
        "    os._exit(9) if target.name == 'thing' else replace(self, target)\n"
        "pathlib.Path.replace = killed\n"
        "build_once(pathlib.Path('thing'), lambda path: path.write_text('half') and None, what='it')"
    )
    run_python("-c", code, cwd=tmp_path, expected=9)
    assert json.loads((tmp_path / NOTES).read_text())
    assert text_of(kept(tmp_path, as_file=True)) == "whole"
    assert len(list(tmp_path.iterdir())) == 3  # thing, notes, lock


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux lists what is mapped")
def test_what_was_read_holds_no_file(tmp_path):
    """Windows could neither replace nor remove it."""
    path = tmp_path / "model.safetensors"
    write_tensors(path, {**TENSORS, "large": torch.ones(300, 300)})
    mapped = load_file(path)
    assert str(path) in Path("/proc/self/maps").read_text(encoding="utf-8")  # as safetensors reads it
    found = read_tensors(path)
    assert found.keys() == mapped.keys()
    assert all(torch.equal(found[name], mapped[name]) for name in mapped)
    del mapped
    assert str(path) not in Path("/proc/self/maps").read_text(encoding="utf-8")


@pytest.fixture
def open_elsewhere(monkeypatch):
    """Stands in for Windows: so many times, a file cannot get its name because another program has it open."""

    def times(count: float) -> list[str]:
        refused, rename = [], Path.replace

        def replace(self, target):
            if len(refused) < count:
                refused.append(self.name)
                raise PermissionError(13, "The process cannot access the file", str(self))
            return rename(self, target)

        monkeypatch.setattr(Path, "replace", replace)
        return refused

    return times


def test_windows_is_given_a_moment_to_close_a_file(tmp_path, monkeypatch, open_elsewhere):
    monkeypatch.setattr("ganaug.core.files.WINDOWS", True)
    refused = open_elsewhere(2)
    write_json(tmp_path / "settings.json", 1)
    assert len(refused) == 2
    assert [path.name for path in tmp_path.iterdir()] == ["settings.json"]


def test_a_file_that_stays_open_is_named_and_the_old_one_is_left(tmp_path, monkeypatch, open_elsewhere):
    path = tmp_path / "settings.json"
    write_json(path, "old")
    monkeypatch.setattr("ganaug.core.files.PATIENCE", 0.01)
    monkeypatch.setattr("ganaug.core.files.WINDOWS", True)
    open_elsewhere(float("inf"))
    with pytest.raises(PermissionError, match="open, close it") as raised:
        write_json(path, "new")
    assert raised.value.filename == str(path)
    assert {each.name: json.loads(each.read_bytes()) for each in tmp_path.iterdir()} == {"settings.json": "old"}


def test_elsewhere_nothing_is_waited_for(tmp_path, monkeypatch, open_elsewhere):
    monkeypatch.setattr("ganaug.core.files.WINDOWS", False)
    refused = open_elsewhere(float("inf"))
    (tmp_path / "a").touch()
    with pytest.raises(PermissionError, match="cannot access"):
        move(tmp_path / "a", tmp_path / "b")
    assert refused == ["a"]


def test_what_is_read_only_is_removed_where_that_keeps_it(tmp_path, monkeypatch):
    """As Windows does."""
    path = kept(tmp_path)
    (path / "inner" / "content").chmod(0o444)
    unlink = os.unlink

    def as_windows(name, *, dir_fd=None):
        if not os.stat(name, dir_fd=dir_fd).st_mode & stat.S_IWRITE:
            raise PermissionError(13, "Access is denied", name)
        unlink(name, dir_fd=dir_fd)

    monkeypatch.setattr(os, "unlink", as_windows)
    monkeypatch.setattr("ganaug.core.files.WINDOWS", True)
    remove(path)
    assert not [
        left for left in tmp_path.iterdir() if "thing" in left.name and left.name not in (NOTES, ".thing.lock")
    ]
