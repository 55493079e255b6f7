"""Repositories that mean harm, or are broken: each is refused by one exception that says why, soon and small."""

from __future__ import annotations

import hashlib
import json
import os
import pickle
import random
import shutil
import socket
import struct
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
import torch
from helpers.limits import LONGEST, soon_and_small
from helpers.programs import run_python
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file, save

from ganaug import Generator, LoadError


@pytest.fixture(scope="module")
def loaded_before(generator_folder):
    Generator.from_pretrained(generator_folder)  # the meta device imports much when it is first used
    return generator_folder


@pytest.fixture
def folder(loaded_before, tmp_path):
    return shutil.copytree(loaded_before, tmp_path / "copy")


def config_of(folder: Path) -> dict[str, Any]:
    return json.loads((folder / "config.json").read_text())


def config(**changes: Any) -> Callable[[Path], None]:
    """Change parts of the config; those of an object in it, where a dict is given."""

    def change(folder: Path) -> None:
        found = config_of(folder)
        for key, value in changes.items():
            found[key] = {**found[key], **value} if isinstance(value, dict) and key in found else value
        (folder / "config.json").write_text(json.dumps(found))

    return change


def text(before: str, after: str) -> Callable[[Path], None]:
    """Change the config's text, to what json.dumps would not write."""

    def change(folder: Path) -> None:
        path = folder / "config.json"
        assert before in path.read_text()
        path.write_text(path.read_text().replace(before, after, 1))

    return change


def raw(content: bytes) -> Callable[[Path], None]:
    return lambda folder: (folder / "config.json").write_bytes(content)


def weights(content: Callable[[dict[str, torch.Tensor]], bytes]) -> Callable[[Path], None]:
    """Other weights, with a config that names their hash."""

    def change(folder: Path) -> None:
        path = folder / "model.safetensors"
        made = content(load_file(path))
        path.unlink()
        path.write_bytes(made)
        config(weights={"sha256": hashlib.sha256(made).hexdigest()})(folder)

    return change


def tensors(**changes: torch.Tensor | None) -> Callable[[Path], None]:
    return weights(
        lambda found: save({name: value for name, value in {**found, **changes}.items() if value is not None})
    )


def header(change: Callable[[dict[str, Any]], str | dict[str, Any]]) -> Callable[[Path], None]:
    """Another header before the same bytes."""

    def made(found: dict[str, torch.Tensor]) -> bytes:
        whole = save(found)
        length = struct.unpack("<Q", whole[:8])[0]
        new = change(json.loads(whole[8 : 8 + length]))
        encoded = (new if isinstance(new, str) else json.dumps(new)).encode()
        return struct.pack("<Q", len(encoded)) + encoded + whole[8 + length :]

    return weights(made)


def with_entry(name: str, **changes: Any) -> Callable[[Path], None]:
    return header(lambda entries: {**entries, name: {**entries[name], **changes}})


class Harm:
    def __reduce__(self):
        return (Path.touch, (Path("harmed"),))


def pickle_alone(folder: Path) -> None:
    (folder / "model.safetensors").unlink()
    (folder / "pytorch_model.bin").write_bytes(pickle.dumps(Harm()))


def sparse(name: str, size: int) -> Callable[[Path], None]:
    """A file that says it is large and takes no room."""

    def change(folder: Path) -> None:
        with open(folder / name, "ab") as file:
            file.truncate(size)

    return change


KINDS = ("a device", "a pipe", "a socket", "a folder", "a link to itself", "a link to nothing", "a file of the system")


def other_kind(name: str, kind: str) -> Callable[[Path], None]:
    """Anything but a file in the place of one."""
    links = {"a device": "/dev/zero", "a link to itself": name, "a link to nothing": "nothing"}

    def change(folder: Path) -> None:
        path = folder / name
        path.unlink(missing_ok=True)
        if kind == "a pipe":
            os.mkfifo(path)
        elif kind == "a folder":
            path.mkdir()
        elif kind == "a socket":
            here = os.open(folder, os.O_RDONLY)  # a socket's path may have 107 characters
            with socket.socket(socket.AF_UNIX) as made:
                made.bind(f"/proc/self/fd/{here}/{name}")
            os.close(here)
        else:
            path.symlink_to(links.get(kind, "/proc/self/maps"))

    return change


def flow(**options: int) -> Callable[[Path], None]:
    """The config of another architecture."""

    def change(folder: Path) -> None:
        found = config_of(folder)
        (folder / "config.json").write_text(json.dumps({**found, "architecture": "flow", "network": options}))

    return change


SEEN, NAME = "training_images.safetensors", "sha256_prefix"


def entry(count: int) -> dict[str, Any]:
    return {"dtype": "I64", "shape": [count], "data_offsets": [0, 8 * count]}


def hashes(entries: dict[str, Any] | Callable[[], Any], values: bytes = b"") -> Callable[[Path], None]:
    def change(folder: Path) -> None:
        header = json.dumps(entries() if callable(entries) else entries).encode()
        raw_hashes(struct.pack("<Q", len(header)) + header + values)(folder)

    return change


def raw_hashes(content: bytes) -> Callable[[Path], None]:
    return lambda folder: (folder / SEEN).write_bytes(content)


def both(first: Callable[[Path], None], second: Callable[[Path], None]) -> Callable[[Path], None]:
    return lambda folder: (first(folder), second(folder))[0]


BIAS = "layers.0.bias"
HOSTILE: dict[str, tuple[Callable[[Path], None], str]] = {
    "huge latent": (config(network={"latent_dim": 10**9}), "latent_dim must be a name or a small number"),
    "large latent": (config(network={"latent_dim": 99_999}), r"embedding.weight must be F32 of \[10, 99999\]"),
    "huge image": (config(image={"size": 10**6}), "size must be 1 to 1024"),
    "large image": (config(image={"size": 1024}), "must be F32 of"),
    "many channels": (config(image={"channels": 10**6}), "channels must be 1 to 4"),
    "million classes": (config(label_names=[str(k) for k in range(10**5)]), "label_names must be at most 10,000"),
    "ten thousand classes": (config(label_names=[str(k) for k in range(10**4)]), r"must be F32 of \[10000, 100\]"),
    "bool for int": (config(image={"size": True}), "size must be 1 to 1024, got True"),
    "float for int": (config(image={"size": 28.0}), r"size must be 1 to 1024, got 28\.0"),
    "string for int": (config(network={"latent_dim": "100"}), "latent_dim must be a positive int, got '100'"),
    "negative": (config(network={"latent_dim": -5}), "latent_dim must be a positive int, got -5"),
    "list for object": (config(network=[1, 2]), "network must be an object"),
    "object for name": (config(label_names=["a", {}]), "label_names must be of 1 to 200 characters"),
    "empty name": (config(label_names=[*"012345678", ""]), "label_names must be of 1 to 200 characters"),
    "long name": (config(label_names=[*"012345678", "9" * 10_000]), "label_names must be of 1 to 200 characters"),
    "terminal codes": (config(label_names=[*"012345678", "\x1b[2J"]), "label_names must be of 1 to 200 characters"),
    "writing that turns": (
        config(label_names=[*"012345678", "\u202eexe"]),
        "label_names must be of 1 to 200 characters",
    ),
    "half a character": (text('"9"', '"\\ud800"'), "label_names must be of 1 to 200 characters"),
    "same name twice": (config(label_names=["a"] * 10), "label_names must differ"),
    "no classes": (config(label_names=[]), "label_names must be one or more"),
    "unknown option": (config(network={"depth": 3}), "unexpected keyword argument 'depth'"),
    "option of the constructor": (config(network={"label_names": "x"}), "multiple values for"),
    "option with a path": (config(network={"../../etc": 1}), r"\.\./\.\./etc must be a name"),
    "missing option": (config(network={}, architecture="acgan-64"), "must be"),
    "unknown key": (config(auto_map={"AutoModel": "evil.py"}), "missing or unknown keys: auto_map"),
    "unknown class": (config(architecture="os.system"), "known are"),
    "class with a path": (config(architecture="../../evil"), "known are"),
    "class as list": (config(architecture=["acgan-28"]), "architecture must be a string"),
    "future version": (config(format_version=99, ganaug_version="7.1"), "written by ganaug 7.1: upgrade"),
    "version zero": (config(format_version=0), "not a config of ganaug"),
    "bool version": (config(format_version=True), "not a config of ganaug"),
    "bad hash": (config(weights={"sha256": "../../../etc/passwd"}), "sha256"),
    "other type of weights": (config(weights={"dtype": "float16"}), "dtype must be float32"),
    "other range": (config(image={"range": [0, 255]}), r"range must be \[-1, 1\]"),
    "facts with control characters": (config(dataset={"name": "\x1b]0;owned\x07"}), "plain JSON"),
    "facts too long": (config(training={"note": "x" * 10_000}), "plain JSON"),
    "nested facts": (config(training={"note": {"a": {"b": 1}}}), "plain JSON"),
    "huge number in facts": (config(training={"note": 10**100}), "plain JSON"),
    "unknown fact of the data": (config(dataset={"path": "/etc/passwd"}), "dataset: path is unknown"),
    "counts that are none": (config(dataset={"class_counts": {"0": [1, [2]]}}), "0 must be the name of a class"),
    "key twice": (text('"image"', '"image": {}, "image"'), "there twice"),
    "NaN": (text('"size": 28', '"size": NaN'), "NaN is not a number"),
    "Infinity": (text('"size": 28', '"size": Infinity'), "Infinity is not a number"),
    "overflow": (text('"size": 28', '"size": 1e999'), "size must be 1 to 1024"),
    "long number": (text('"size": 28', '"size": ' + "9" * 5000), "cannot be read"),
    "deep nesting": (raw(b'{"a":' * 100_000), "nested too deeply"),
    "millions of lists": (raw(b'{"a": [' + b"[]," * 5_000_000 + b"0]}"), "too many values"),
    "millions of escapes": (raw(b'{"a": "' + b'\\"' * 8_000_000 + b'"}'), "thousands of escapes"),
    "not JSON": (raw(b"\x80\x04\x95pickle"), "cannot be read"),
    "wrong bytes": (raw(b'{"format_version": 1, "a": "\xff"}'), "cannot be read"),
    "null": (raw(b"null"), "not a config of ganaug"),
    "a gigabyte of config": (sparse("config.json", 2**30), "a config has at most"),
    "pickle alone": (pickle_alone, "pytorch_model.bin may run code when it is opened, and is never loaded"),
    "pickle renamed": (weights(lambda _: pickle.dumps(Harm())), "is damaged, or holds other weights"),
    "zip renamed": (weights(lambda _: b"PK\x03\x04" + b"\0" * 1000), "is damaged, or holds other weights"),
    "no weights": (lambda folder: (folder / "model.safetensors").unlink(), "has no model.safetensors"),
    "weights are a folder": (
        lambda folder: ((folder / "model.safetensors").unlink(), (folder / "model.safetensors").mkdir())[0],
        "has no model.safetensors",
    ),
    "empty weights": (weights(lambda _: b""), "is damaged"),
    "missing tensor": (tensors(**{BIAS: None}), f"lack 1 tensors, as {BIAS}"),
    "extra tensor": (tensors(extra=torch.zeros(3)), "also have 1 tensors, as extra"),
    "tensor with a path": (tensors(**{"../../etc/passwd": torch.zeros(3)}), "also have 1 tensors"),
    "many tensors": (
        weights(lambda found: save({**found, **{f"t{k}": torch.zeros(1) for k in range(20_000)}})),
        "is damaged, or holds other weights",
    ),
    "reshaped": (
        tensors(**{BIAS: torch.zeros(8, 8)}),
        rf"{BIAS} must be F32 of \[64\] by the config, and is F32 of \[8, 8\]",
    ),
    "retyped": (tensors(**{BIAS: torch.zeros(64, dtype=torch.float16)}), rf"{BIAS} must be F32 of \[64\]"),
    "integers": (tensors(**{BIAS: torch.zeros(64, dtype=torch.int64)}), "and is I64"),
    "NaN in weights": (tensors(**{BIAS: torch.full((64,), float("nan"))}), f"NaN or infinite values in {BIAS}"),
    "infinity in a buffer": (
        tensors(**{"layers.1.running_var": torch.full((64,), float("inf"))}),
        "NaN or infinite values in layers.1.running_var",
    ),
    "truncated": (weights(lambda found: save(found)[:-4]), "bytes instead of"),
    "appended": (weights(lambda found: save(found) + b"\0" * 64), "bytes instead of"),
    "a terabyte of weights": (sparse("model.safetensors", 2**40), "bytes instead of"),
    "header bomb": (weights(lambda _: struct.pack("<Q", 10**8) + b"{" * 1000), "its header has 100,000,000 bytes"),
    "header that overflows": (weights(lambda _: struct.pack("<Q", 2**64 - 1)), "its header has"),
    "header not JSON": (header(lambda _: "{" * 500), "header cannot be read"),
    "header deep": (header(lambda _: '{"a":' * 3000), "header cannot be read"),
    "header a list": (header(lambda _: "[]"), "not an object"),
    "header of strings": (header(lambda entries: {**entries, BIAS: "x"}), f"{BIAS} must be F32"),
    "tensor twice": (
        header(lambda entries: json.dumps(entries)[:-1] + f', "{BIAS}": {json.dumps(entries[BIAS])}}}'),
        "there twice",
    ),
    "overlapping": (with_entry(BIAS, data_offsets=[0, 256]), "cannot be read"),
    "beyond the end": (with_entry(BIAS, data_offsets=[2**40, 2**40 + 256]), "cannot be read"),
    "backwards": (with_entry(BIAS, data_offsets=[256, 0]), "cannot be read"),
    "huge shape": (with_entry(BIAS, shape=[2**62, 0]), f"{BIAS} must be F32"),
    **{f"config.json is {kind}": (other_kind("config.json", kind), "config.json") for kind in KINDS},
    **{f"model.safetensors is {kind}": (other_kind("model.safetensors", kind), "model.safetensors") for kind in KINDS},
    **{f"{SEEN} is {kind}": (other_kind(SEEN, kind), SEEN) for kind in KINDS},
    "data's name behind a setting's": (
        config(dataset={"name": "\x1b]0;owned\x07"}, training={"name": "x"}),
        "dataset: name",
    ),
    "fingerprint behind a setting": (
        config(dataset={"fingerprint": "\x1b[2J"}, training={"fingerprint": "x"}),
        "dataset: fingerprint",
    ),
    "ten-line name behind a setting": (config(dataset={"name": "x\n" * 10}, training={"name": 1}), "dataset: name"),
    "long number behind a setting": (
        config(dataset={"num_images": 10**4000}, training={"num_images": 1}),
        "dataset: num_images must be short, plain JSON",
    ),
    "nested counts behind a setting": (
        config(dataset={"class_counts": {"0": [[1]]}}, training={"0": 1, "class_counts": 1}),
        "class_counts: 0 must be",
    ),
    "setting behind a count": (config(training={"3": {"a": [1]}}), "training: 3 must be"),
    "settings of lists in lists": (config(training={"betas": [[0.1]]}), "training: betas must be"),
    "setting of a long list": (config(training={"betas": [0] * 101}), "training: betas must be"),
    "terminal codes in a list": (config(training={"betas": ["\x1b[2J"]}), "training: betas must be"),
    "terminal codes in a setting's name": (config(training={"\x1b[2J": 1}), "training: .* must be"),
    "setting without a name": (config(training={"": 1}), "training:  must be"),
    "script for a count": (config(dataset={"class_counts": {"0": "<script>alert(1)</script>"}}), "0 must be the name"),
    "end of the block for a count": (
        config(dataset={"class_counts": {"0": "<!-- ganaug generator: end -->"}}),
        "0 must be the name",
    ),
    "negative count": (config(dataset={"class_counts": {"0": -1}}), "0 must be the name"),
    "half a count": (config(dataset={"class_counts": {"0": 0.5}}), "0 must be the name"),
    "bool for a count": (config(dataset={"class_counts": {"0": True}}), "0 must be the name"),
    "no count": (config(dataset={"class_counts": {"0": None}}), "0 must be the name"),
    "huge count": (config(dataset={"class_counts": {"0": 10**4000}}), "0 must be the name"),
    "count of terminal codes": (config(dataset={"class_counts": {"\x1b[2J": 1}}), "must be the name"),
    "counts of too many": (config(dataset={"class_counts": {str(k): 1 for k in range(10_001)}}), "at most 10,000"),
    "negative number of images": (config(dataset={"num_images": -1}), "num_images must be a count"),
    "long number of weights": (config(weights={"num_parameters": 10**4000}), "num_parameters must be a number"),
    "version of many digits": (config(format_version=10**4000), "reads up to"),
    "name of two lines": (config(label_names=[*"012345678", "a\u2028b"]), "label_names must be of"),
    "name of two paragraphs": (config(label_names=[*"012345678", "a\u2029b"]), "label_names must be of"),
    "endless drawing": (flow(width=8, steps=100_000), "steps must be an int from 1 to 1,000"),
    "long drawing": (flow(width=8, steps=1_001), "steps must be an int from 1 to 1,000"),
    "drawing in no step": (flow(width=8, steps=0), "steps must be an int from 1 to 1,000"),
    "widest flow": (flow(width=99_992, steps=8), "lack"),
    "many empty tensors of hashes": (
        hashes(lambda: {f"t{k}": entry(0) for k in range(100_000)}),  # made where it is needed
        f"{SEEN} is damaged, or holds other hashes: its header has",
    ),
    "some empty tensors of hashes": (hashes({"a": entry(0), NAME: entry(0)}), "must hold one tensor"),
    "no tensor of hashes": (hashes({}), "must hold one tensor"),
    "hashes of another name": (hashes({"x": entry(2)}, b"\0" * 16), "must hold one tensor"),
    "hashes as a string": (hashes({NAME: "x"}), "must hold one tensor"),
    "hashes that are floats": (hashes({NAME: {**entry(2), "dtype": "F64"}}, b"\0" * 16), "must hold one tensor"),
    "hashes in a square": (hashes({NAME: {**entry(2), "shape": [1, 2]}}, b"\0" * 16), "must hold one tensor"),
    "hashes without a shape": (hashes({NAME: {"dtype": "I64"}}, b"\0" * 16), "must hold one tensor"),
    "one hash without a dimension": (hashes({NAME: {**entry(1), "shape": []}}, b"\0" * 8), "must hold one tensor"),
    "hashes of negative number": (hashes({NAME: {**entry(2), "shape": [-2]}}, b"\0" * 16), "must hold one tensor"),
    "hashes of huge number": (hashes({NAME: {**entry(2), "shape": [2**62]}}, b"\0" * 16), "must hold one tensor"),
    "hashes that go down": (hashes({NAME: entry(2)}, struct.pack("<2q", 5, 4)), "its values are not"),
    "hashes that repeat": (hashes({NAME: entry(2)}, struct.pack("<2q", 5, 5)), "its values are not"),
    "hashes elsewhere": (
        hashes({NAME: {**entry(2), "data_offsets": [2**40, 2**40 + 16]}}, struct.pack("<2q", 4, 5)),
        f"{SEEN} cannot be read",
    ),
    "hashes backwards": (
        hashes({NAME: {**entry(2), "data_offsets": [16, 0]}}, struct.pack("<2q", 4, 5)),
        f"{SEEN} cannot be read",
    ),
    "a gigabyte of no hashes": (
        both(
            hashes({NAME: entry(2**27 - 50)}),
            sparse(SEEN, 8 + len(json.dumps({NAME: entry(2**27 - 50)})) + 2**30 - 400),
        ),
        "its values are not",
    ),
    "a terabyte of nothing": (sparse(SEEN, 2**40), "its header has 0 bytes"),
    "header of hashes deep": (raw_hashes(struct.pack("<Q", 9_000) + b"[" * 9_000), "header cannot be read"),
    "header of hashes a list": (raw_hashes(struct.pack("<Q", 2) + b"[]"), "not an object"),
    "hashes pickled": (raw_hashes(pickle.dumps(Harm())), "its header has"),
    "half a header of hashes": (raw_hashes(struct.pack("<Q", 100) + b"{"), "header cannot be read"),
    "metadata of numbers": (header(lambda entries: {**entries, "__metadata__": {"a": 1}}), "cannot be read"),
}


def test_there_are_enough_of_them():
    assert len(HOSTILE) >= 140


@pytest.mark.parametrize("name", HOSTILE)
def test_it_is_refused(folder, name, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    change, message = HOSTILE[name]
    change(folder)
    modules = set(sys.modules)
    with soon_and_small(), pytest.raises(LoadError, match=message) as caught:
        Generator.from_pretrained(folder)
    assert len(str(caught.value)) < 1000 + len(str(folder))
    assert str(caught.value).isprintable()
    assert not Path("harmed").exists()
    assert set(sys.modules) == modules


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=10), inner, max_size=4),
    max_leaves=10,
)
quick = settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


@quick
@given(data=st.data())
def test_a_config_with_anything_in_it_loads_or_is_refused(folder, data):
    original = (folder / "config.json").read_text()
    found = json.loads(original)
    place = found
    key = data.draw(st.sampled_from(sorted(place)))
    if isinstance(place[key], dict) and place[key] and data.draw(st.booleans()):
        place = place[key]
        key = data.draw(st.sampled_from(sorted(place)))
    place[key] = data.draw(JSON)
    try:
        (folder / "config.json").write_text(json.dumps(found))
        loads_or_is_refused(folder)
    finally:
        (folder / "config.json").write_text(original)


@quick
@given(file=st.sampled_from(["config.json", "model.safetensors"]), where=st.floats(0, 1), new=st.binary(max_size=8))
def test_files_with_any_bytes_changed_load_or_are_refused(folder, file, where, new):
    """Of the weights, those of the header; the values are known by their hash."""
    path = folder / file
    original = path.read_bytes()
    end = len(original) if file == "config.json" else 8 + struct.unpack("<Q", original[:8])[0]
    start = int(where * end)
    changed = original[:start] + new + original[start + len(new) :]
    try:
        path.write_bytes(changed)
        if file != "config.json":
            config(weights={"sha256": hashlib.sha256(changed).hexdigest()})(folder)
        loads_or_is_refused(folder)
    finally:
        path.write_bytes(original)


def loads_or_is_refused(folder: Path) -> None:
    with suppress(LoadError):
        Generator.from_pretrained(folder)


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_ten_minutes_of_changed_bytes_load_or_are_refused(folder):
    """Several at a time, taken from each other, repeated or left out; of the weights, in the header."""
    rng, originals = (
        random.Random(0),
        {name: (folder / name).read_bytes() for name in ("config.json", "model.safetensors")},
    )
    ended, tried = time.monotonic() + 600, 0
    while time.monotonic() < ended:
        name = rng.choice(list(originals))
        content = originals[name]
        end = len(content) if name == "config.json" else 8 + struct.unpack("<Q", content[:8])[0]
        for _ in range(rng.randint(1, 4)):
            start, length = rng.randrange(end), rng.choice((0, 1, 2, 8, 40))
            other = rng.randrange(end)
            new = rng.choice(
                (rng.randbytes(length), content[other : other + length], b"", b'"', b"9" * length, b"[{" * length)
            )
            content = content[:start] + new + content[start + rng.choice((0, len(new), length)) :]
        (folder / name).write_bytes(content)
        if name != "config.json":
            config(weights={"sha256": hashlib.sha256(content).hexdigest()})(folder)
        started = time.process_time()
        loads_or_is_refused(folder)
        assert time.process_time() - started < LONGEST
        for each, original in originals.items():
            (folder / each).write_bytes(original)
        tried += 1
    assert tried > 1000


PROGRAM = """
import sys
from ganaug import Generator
Generator.from_pretrained(sys.argv[1])
modules, opened = set(sys.modules), []
sys.addaudithook(lambda event, args: opened.append(args[0]) if event == "open" else None)
Generator.from_pretrained(sys.argv[2])
print(sorted(set(sys.modules) - modules), sorted({str(path) for path in opened}))
"""


def test_loading_opens_the_repositorys_files_alone(folder, generator_folder, tmp_path):
    for name in ("evil.py", "modeling.py", "__init__.py", "config.py"):
        (folder / name).write_text("raise SystemExit('harm')")
    printed = run_python("-c", PROGRAM, str(generator_folder), str(folder), cwd=tmp_path)
    modules, opened = printed.strip().split("] [")
    assert modules == "["
    paths = {Path(name.strip("'\"]")) for name in opened.split(", ")}
    assert paths
    assert paths <= {folder / "config.json", folder / "model.safetensors"}
