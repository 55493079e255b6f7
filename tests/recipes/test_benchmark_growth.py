from __future__ import annotations

import json

import growth
import minutes
import pytest
from helpers.programs import as_a_program

BATCH, WHOLE = "a training step of 64, `flow`", "hashing"


@pytest.fixture
def timed(monkeypatch):
    """Times by a law: a step takes as long for any number of images, other work is quadratic in it."""
    timed = []
    monkeypatch.setattr(growth, "FEW", 30)

    def seconds_of(work, images):
        if len(images) == growth.FEW:
            return None  # is not counted
        timed.append((work, len(images), images.image_size))
        return images.image_size / 1000 * (len(images) / 10) ** (2 * work.whole)

    monkeypatch.setattr(growth, "seconds_of", seconds_of)
    return timed


def test_exponents_of_rows_and_columns_are_fitted(timed, tmp_path, capsys):
    args = growth.Arguments(numbers=(10, 40, 160), sizes=(8, 16), output_dir=tmp_path)
    with as_a_program():
        growth.main(args)
    shown = capsys.readouterr().out
    assert f"| {WHOLE} | 8 | 0.008 | 0.13 | 2 | 2.00 |\n" in shown
    assert f"| {BATCH} | 16 | 0.016 | 0.016 | 0.016 | 0.00 |\n" in shown
    assert shown.count("| | exponent | 1.00 | 1.00 | 1.00 | |\n") == len(growth.WORKS)
    assert len(timed) == 6 * len(growth.WORKS)
    with as_a_program():
        growth.main(args)
    assert len(timed) == 6 * len(growth.WORKS)
    assert capsys.readouterr().out == shown


def test_what_would_take_too_long_or_too_much_memory_is_not_tried(timed, tmp_path, capsys):
    largest = 10_000 * 3 * 8**2 / 1e9
    args = growth.Arguments(
        numbers=(10, 100, 1000, 10_000), sizes=(8, 16), seconds=5, gigabytes=largest, output_dir=tmp_path
    )
    with as_a_program():
        growth.main(args)
    shown = capsys.readouterr().out
    # By the first two cells, 1,000 images would take 80 seconds.
    assert f"| {WHOLE} | 8 | 0.008 | 0.8 |  |  | 2.00 |\n" in shown
    # 10,000 images of 16 pixels would need more memory.
    assert f"| {BATCH} | 8 | 0.008 | 0.008 | 0.008 | 0.008 | 0.00 |\n" in shown
    assert f"| {BATCH} | 16 | 0.016 | 0.016 | 0.016 |  | 0.00 |\n" in shown
    assert {cell[1:] for cell in timed} == {(10, 8), (100, 8), (1000, 8), (10_000, 8), (10, 16), (100, 16), (1000, 16)}
    assert "longer than 5 s, or the images would be larger than 0.00192 GB" in shown


@pytest.mark.parametrize("name", growth.WORKS)
def test_each_kind_of_work_is_timed(monkeypatch, tmp_path, name):
    monkeypatch.setattr(growth, "SHORT", 1e-9)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    with as_a_program():
        assert growth.seconds_of(growth.WORKS[name], minutes.random_images(40, 8)) > 0


def test_times_are_medians_of_what_is_short(monkeypatch):
    calls = []
    work = growth.Work(lambda images, folder: lambda: calls.append(len(images)), parts=2)
    monkeypatch.setattr(growth, "SHORT", 0.001)
    assert 0 < growth.seconds_of(work, minutes.random_images(12, 8)) < 0.001
    assert len(calls) > 1


def test_the_table_is_of_the_file(timed, tmp_path, capsys):
    with as_a_program():
        growth.main(growth.Arguments(numbers=(10,), sizes=(8,), output_dir=tmp_path))
    shown = capsys.readouterr().out
    recorded = tmp_path / "growth.json"
    growth.main(growth.Arguments(table=recorded))
    assert capsys.readouterr().out == shown
    assert json.loads(recorded.read_text())["times"][WHOLE] == {"8": {"10": 0.008}}
