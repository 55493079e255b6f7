"""Training that is killed, stopped, or finds its checkpoints damaged, and ends as if nothing had happened."""

from __future__ import annotations

import hashlib
import json
import os
import random
import re
import shutil
import signal
import time
from functools import partial
from pathlib import Path

import pytest
import torch
from helpers.killed import (
    die_in_call,
    go_on,
    go_on_and_die,
    go_on_and_stop,
    go_on_and_stop_preparing,
    go_on_by_clock,
    go_on_without_room,
    new_trainer,
)
from helpers.programs import as_a_program, recipe_path, start, start_python
from safetensors.torch import load_file

from ganaug import Generator, InputError
from ganaug.core.errors import LoadError
from ganaug.core.files import write_json
from ganaug.core.fingerprints import of_values
from ganaug.training import Checkpoints, RunFolder, check_same_run, find_checkpoint, open_checkpoint, train

FEW = [("acgan-28", "bf16", 3), ("flow", "no", 3), ("acgan", "bf16", 3)]
ALL = [(system, precision, 25) for system in ("acgan-28", "flow", "acgan", "adapted") for precision in ("no", "bf16")]


METRICS = "training/metrics.jsonl"


def checkpoints(folder: Path) -> list[Path]:
    return sorted((folder / "training" / "checkpoints").glob("step-*"))


def leftovers(folder: Path) -> list[Path]:
    return list(folder.rglob(".*.tmp-*"))


def assert_same_result(ours: Path, theirs: Path, *, scored: int = 2) -> None:
    """The chosen generator and the last one, by the SHA-256 of their files, chosen of the same candidates."""
    for part in (".", "training/last"):
        mine, other = (load_file(folder / part / "model.safetensors") for folder in (ours, theirs))
        assert mine.keys() == other.keys()
        assert all(torch.equal(mine[name], other[name]) for name in mine), part
        files = [(folder / part / "model.safetensors").read_bytes() for folder in (ours, theirs)]
        assert len({hashlib.sha256(content).hexdigest() for content in files}) == 1, part
    candidates = [find_checkpoint(folder).facts["candidates"] for folder in (ours, theirs)]
    assert len(candidates[0]) >= scored
    assert candidates[0] == candidates[1]


@pytest.mark.parametrize(
    ("system", "precision", "kills"),
    [
        ("acgan-28", "bf16", 3),
        ("flow", "no", 3),
        ("acgan", "bf16", 3),
        ("adapted", "no", 2),
        *(pytest.param(*each, marks=pytest.mark.slow) for each in ALL),
    ],
)
@pytest.mark.timeout(900)
def test_a_run_that_is_killed_ends_with_the_same_weights(tmp_path, system, precision, kills):
    """Bit for bit, though the clock is moved before each start by up to three months, forwards or back."""
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    rng, steps, reached = random.Random(f"{system} {precision}"), 8 * kills + 8, [0]
    assert start(go_on, str(whole), system, precision, steps).wait() == 0
    run = str(killed), system, precision, steps
    for _ in range(kills):
        part, clock = rng.uniform(-1, 3), rng.uniform(-8e6, 8e6)
        assert start(go_on_by_clock, clock, go_on_and_die, part, *run).wait() == -signal.SIGALRM
        found = [open_checkpoint(path) for path in checkpoints(killed)]  # each that can be seen is whole
        reached.append(max([0, *(checkpoint.step for checkpoint in found)]))
        if found:  # nothing is lost but the steps since
            assert Checkpoints(killed / "training" / "checkpoints").newest().step == reached[-1]
    assert reached == sorted(reached)
    assert len(set(reached)) > 1
    assert start(go_on_by_clock, rng.uniform(-8e6, 8e6), go_on, *run).wait() == 0
    assert not leftovers(killed)
    assert_same_result(killed, whole, scored=1 if system == "acgan" else 2)  # whose last phase is short
    assert [open_checkpoint(path).step for path in checkpoints(killed)] == [steps - 2, steps]
    last = [open_checkpoint(checkpoints(folder)[-1]).state() for folder in (killed, whole)]
    assert all(torch.equal(last[0][part][name], last[1][part][name]) for part in last[1] for name in last[1][part])
    rows = [json.loads(line) for line in (killed / METRICS).read_text().splitlines()]
    kimg = [row["kimg"] for row in rows]
    assert kimg == sorted(set(kimg))
    assert kimg == [json.loads(line)["kimg"] for line in (whole / METRICS).read_text().splitlines()]


def test_killed_anywhere_in_a_write_it_leaves_a_whole_checkpoint(tmp_path):
    """At every change of what is on disk while one is written and the one before it removed."""
    ended, seen, number = False, set(), 0
    while not ended:
        folder = tmp_path / str(number)
        Checkpoints(folder).save(1, {"some": {"weight": torch.full((100,), 1.0)}}, {"number": 1})
        ended = start(die_in_call, number, str(folder)).wait() == 0
        for path in folder.glob("step-*"):
            assert open_checkpoint(path).state()["some"]["weight"].unique().item() == open_checkpoint(path).step
        newest = Checkpoints(folder).newest()
        assert newest.facts == {"number": newest.step}
        seen.add((newest.step, len(list(folder.glob("step-*"))), bool(leftovers(folder))))
        number += 1
    assert {(1, 1, True), (2, 2, False), (2, 1, True), (2, 1, False)} <= seen  # before, and after, and in between
    assert number > 10


@pytest.mark.parametrize("limit", [1, 2, 5])
@pytest.mark.parametrize("offsets", [(0, -600, -1200), (0, 86_400, -86_400), (0, 0, 0), (-1e9, 1e9, -1e9)])
def test_a_clock_that_is_put_back_loses_no_checkpoint(tmp_path, monkeypatch, offsets, limit):
    now, told = time.time(), iter(offsets * 4)
    monkeypatch.setattr(time, "time", lambda: now + next(told))
    checkpoints, written = Checkpoints(tmp_path, limit=limit), []
    for step in (100, 200, 300, 400, 200, 300, 400, 500):  # rolled back to 100 in between
        path = checkpoints.save(step, {"some": {"weight": torch.zeros(1)}}, {"number": len(written)})
        written = [*(other for other in written if other != path), path]
        assert sorted(tmp_path.iterdir()) == sorted(written[-limit:])
        assert checkpoints.newest().path == path
        del written[:-limit]


@pytest.mark.parametrize("damaged", [None, "step-00000100", "step-00000200"])
def test_checkpoints_of_0_1_come_before_those_with_a_number(tmp_path, caplog, damaged):
    """Even if they are from the future, and among themselves in the order of their times."""
    checkpoints, state = Checkpoints(tmp_path, limit=3), {"some": {"weight": torch.zeros(1)}}
    for step, ahead in ((200, 1e6), (100, 2e6)):  # rolled back in between
        manifest = checkpoints.save(step, state, {}) / "manifest.json"
        values = json.loads(manifest.read_text())
        del values["sha256"], values["number"]
        values["written"] += ahead
        write_json(manifest, {**values, "sha256": of_values(values)})
        assert (checkpoints.newest().step, checkpoints.newest().number) == (step, 0)
    if damaged:
        (tmp_path / damaged / "manifest.json").write_text('{"number": 99}')
        assert checkpoints.newest().path.name != damaged
        assert f"{damaged} is damaged" in caplog.text
    newer = checkpoints.save(150, state, {})
    assert (checkpoints.newest().path, checkpoints.newest().number) == (newer, 1)
    checkpoints.save(160, state, {})
    gone = damaged or "step-00000200"
    names = {"step-00000100", "step-00000200", "step-00000150", "step-00000160"}
    assert {path.name for path in tmp_path.iterdir()} == names - {gone}
    assert checkpoints.newest().number == 2


def test_a_damaged_checkpoint_makes_room_before_a_whole_one(tmp_path):
    checkpoints = Checkpoints(tmp_path, limit=2)
    first, second = (checkpoints.save(step, {"some": {"weight": torch.zeros(1)}}, {}) for step in (1, 2))
    (second / "manifest.json").write_text("{")
    third = checkpoints.save(3, {"some": {"weight": torch.zeros(1)}}, {})
    assert sorted(tmp_path.iterdir()) == [first, third]


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_a_signal_ends_training_with_a_checkpoint(undisturbed, tmp_path, number, code):
    stopped = tmp_path / "stopped"
    for _ in range(2):
        before = checkpoints(stopped)
        assert start(go_on_and_stop, number, str(stopped), "acgan-28").wait() == code
        assert find_checkpoint(stopped).path not in before
        assert not leftovers(stopped)
    assert start(go_on, str(stopped), "acgan-28").wait() == 0
    assert_same_result(stopped, undisturbed)


def test_a_signal_ends_training_while_a_candidate_is_scored(tmp_path):
    whole, stopped = tmp_path / "whole", tmp_path / "stopped"
    assert start(go_on, str(whole), "flow").wait() == 0
    process = start(partial(go_on, scoring=100_000), str(stopped), "flow")
    while not (stopped / "scoring").exists():
        time.sleep(0.001)
    time.sleep(1)
    started = time.monotonic()
    os.kill(process.pid, signal.SIGTERM)
    assert process.wait() == 143
    assert time.monotonic() - started < 60  # of minutes that the score would take
    checkpoint = find_checkpoint(stopped)
    assert (checkpoint.step, checkpoint.facts["candidates"]) == (4, [])
    assert start(go_on, str(stopped), "flow").wait() == 0
    assert_same_result(stopped, whole)


@pytest.mark.parametrize(
    ("number", "code", "steps", "flow"), [(signal.SIGTERM, 143, 22, 12), (signal.SIGINT, 130, 20, 11)]
)
def test_a_signal_ends_training_while_its_next_phase_is_prepared(tmp_path, number, code, steps, flow):
    """After the flow's steps, with a checkpoint of the last; and when the run goes on from there, with no other."""
    whole, stopped = tmp_path / "whole", tmp_path / "stopped"
    run = "acgan", "no", steps
    assert start(go_on, str(whole), *run).wait() == 0
    assert start(go_on_and_stop_preparing, number, str(stopped), *run).wait() == code
    checkpoint = find_checkpoint(stopped)
    assert checkpoint.step == flow
    assert start(go_on_and_stop_preparing, number, str(stopped), *run).wait() == code
    assert find_checkpoint(stopped) == checkpoint
    assert start(go_on, str(stopped), *run).wait() == 0
    assert_same_result(stopped, whole, scored=1)
    kimg = [json.loads(line)["kimg"] for line in (stopped / METRICS).read_text().splitlines()]
    assert kimg == sorted({*kimg, flow * 8 / 1000})


@pytest.fixture(scope="module")
def two_checkpoints(tmp_path_factory) -> Path:
    """Folder of a run that has two checkpoints."""
    folder = tmp_path_factory.mktemp("stopped") / "run"
    with as_a_program():
        train(new_trainer("acgan-28", "no", 6), RunFolder(folder))
    assert [open_checkpoint(path).step for path in checkpoints(folder)] == [4, 6]
    return folder


@pytest.fixture
def stopped_run(two_checkpoints, tmp_path):
    """A copy of that folder, and the run's trainer anew."""

    def trainer(steps: int = 6, **settings):
        return new_trainer("acgan-28", "no", steps, **settings)

    with as_a_program():
        yield shutil.copytree(two_checkpoints, tmp_path / "run"), trainer


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory) -> Path:
    """Folder of a whole run of ``acgan-28``."""
    folder = tmp_path_factory.mktemp("undisturbed")
    assert start(go_on, str(folder), "acgan-28").wait() == 0
    return folder


DAMAGES = {
    "truncated": lambda file: file.write_bytes(file.read_bytes()[:-100]),
    "flipped": lambda file: file.write_bytes(bytes([*file.read_bytes()[:-1], file.read_bytes()[-1] ^ 1])),
    "emptied": lambda file: file.write_bytes(b""),
    "deleted": lambda file: file.unlink(),
}


@pytest.mark.parametrize("file", ["average", "discriminator_optimizer", "manifest.json"])
@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_checkpoint_is_named_and_the_one_before_it_used(stopped_run, caplog, damage, file):
    folder, _ = stopped_run
    newest = checkpoints(folder)[-1]
    name = file if "." in file else f"{file}.safetensors"
    DAMAGES[damage](newest / name)
    assert find_checkpoint(folder).step == 4
    assert re.search(rf"{newest.name} is damaged: {re.escape(name)} .*The one before it is used", caplog.text)
    with pytest.raises(LoadError, match=f"{newest.name} is damaged: {re.escape(name)}"):
        find_checkpoint(newest)
    DAMAGES[damage](checkpoints(folder)[0] / name)
    with pytest.raises(InputError, match=r"no whole checkpoint in .*checkpoints\. Give the folder of a run"):
        find_checkpoint(folder)


def test_every_bit_of_a_manifest_counts(stopped_run):
    folder, _ = stopped_run
    manifest = checkpoints(folder)[-1] / "manifest.json"
    whole = manifest.read_bytes()
    for k in range(0, len(whole), 37):
        manifest.write_bytes(bytes([*whole[:k], whole[k] ^ 1, *whole[k + 1 :]]))
        with pytest.raises(LoadError, match="manifest"):
            open_checkpoint(manifest.parent)
    for number in set(re.findall(rb"\d+\.\d+", whole)):  # digits that may make no difference to the number
        for last in b"0123456789":
            changed = whole.replace(number, number[:-1] + bytes([last]))
            if changed != whole:
                manifest.write_bytes(changed)
                with pytest.raises(LoadError, match="manifest"):
                    open_checkpoint(manifest.parent)


def test_another_run_is_refused_with_what_differs(stopped_run):
    folder, trainer = stopped_run
    checkpoint = find_checkpoint(folder)
    check_same_run(checkpoint, trainer(log_kimg=1, checkpoints_total_limit=7))  # what is only watched may differ
    with pytest.raises(InputError, match=r"other settings\. learning_rate: 0\.0002 there, 0\.1 here\. Start another"):
        check_same_run(checkpoint, trainer(learning_rate=0.1), override=True)
    longer = trainer(steps=8)
    with pytest.raises(InputError, match=r"total_kimg: 0\.048 there, 0\.064 here\. Go on with override"):
        check_same_run(checkpoint, longer)
    check_same_run(checkpoint, longer, override=True)
    with pytest.raises(InputError, match=r"total_kimg: .*; seed: 0 there, 1 here\. Start another run"):
        check_same_run(checkpoint, trainer(steps=8, seed=1))
    with pytest.raises(LoadError, match="other networks"):
        longer.load_state({"average": {}})


def test_where_a_checkpoint_cannot_be_written_training_goes_on(stopped_run, monkeypatch, caplog):
    folder, trainer = stopped_run
    checkpoint = find_checkpoint(checkpoints(folder)[0])
    before = {path: open_checkpoint(path).step for path in checkpoints(folder)}

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("ganaug.training.checkpoints.write_tensors", full)
    train(trainer(), RunFolder(folder, after_kimg=checkpoint.facts["kimg"]), resume=checkpoint)
    assert re.search(
        r"could not be written: .*No space left on device: '.*step-00000006'\. The last one is .*step-00000004",
        caplog.text,
    )
    assert {path: open_checkpoint(path).step for path in checkpoints(folder)} == before
    assert not leftovers(folder)


def test_a_full_disk_leaves_the_last_checkpoint(undisturbed, tmp_path):
    """A limit on the size of files stands in for the disk."""
    full = tmp_path / "full"
    assert start(go_on_and_stop, signal.SIGTERM, str(full), "acgan-28").wait() == 143
    kept = [open_checkpoint(path).step for path in checkpoints(full)]
    assert kept
    assert start(go_on_without_room, str(full), "acgan-28").wait() == 1  # the generator could not be written either
    assert [open_checkpoint(path).step for path in checkpoints(full)] == kept
    assert not leftovers(full)
    assert start(go_on, str(full), "acgan-28").wait() == 0
    assert_same_result(full, undisturbed)


@pytest.mark.parametrize("launcher", [[], ["-m", "accelerate.commands.launch"]], ids=["python", "accelerate"])
def test_the_recipe_stops_and_goes_on(in_process, tmp_path, capsys, launcher):
    flags = [
        "--dataset_name",
        "sklearn:digits",
        "--model",
        "acgan-28",
        "--train_batch_size",
        "16",
        "--cpu_threads",
        "1",
    ]
    flags += ["--checkpointing_kimg", "0.032", "--total_kimg", "100", "--latent_dim", "8"]
    process = start_python(*launcher, recipe_path("train_acgan"), *flags, cwd=tmp_path)
    run = tmp_path / "outputs" / "acgan-28"
    while len(checkpoints(run)) < 2:
        assert process.running()
        time.sleep(0.01)
    os.kill(process.pid, signal.SIGTERM)
    assert process.wait() == (-signal.SIGTERM if launcher else 143)  # accelerate itself dies of it
    told = process.read()
    newest = find_checkpoint(run)
    assert re.search(
        rf"stopped by SIGTERM after [\d.]+ kimg\. Resume from .*{newest.path.name} with resume_from", told
    )
    assert not (run / "model.safetensors").exists()
    # Its own flags are taken, and only those that leave its steps what they are may change.
    kimg = newest.facts["kimg"] + 0.064
    assert "learning_rate: 0.0002 there" in in_process(
        "--resume_from_checkpoint", "latest", "--learning_rate", "1", name="train_acgan"
    )
    again = ["--resume_from_checkpoint", str(run), "--total_kimg", str(kimg)]
    assert "Go on with override" in in_process(*again, name="train_acgan")
    assert in_process(*again, "--override", name="train_acgan") is None
    assert f"going on after {newest.facts['kimg']:.1f} kimg, from " in capsys.readouterr().out
    generator = Generator.from_pretrained(run)
    assert (generator.latent_dim, generator.info["training"]["total_kimg"]) == (8, kimg)
    assert find_checkpoint(run).facts["kimg"] == pytest.approx(kimg, abs=0.017)
    assert "no checkpoint in there" in (
        in_process(
            "--resume_from_checkpoint",
            "latest",
            "--output_dir",
            "there",
            "--total_kimg",
            "0.032",
            "--dataset_name",
            "sklearn:digits",
            name="train_acgan",
        )
        or capsys.readouterr().out
    )
    assert "is not of a run in there" in in_process(
        "--resume_from_checkpoint", str(run), "--output_dir", "there", name="train_acgan"
    )
