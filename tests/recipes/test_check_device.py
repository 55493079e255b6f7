"""The check for a GPU, in small on the CPU: what it says, writes and ends with."""

from __future__ import annotations

import json
from pathlib import Path

import torch

from ganaug import Generator

UNKNOWN = "not checked on a CPU"


def test_all_checks_pass_here_and_say_what_a_cpu_cannot_tell(in_process, capsys):
    assert in_process(name="check_device") is None
    shown = capsys.readouterr().out
    assert "NO" not in shown
    found = json.loads(Path("outputs/check_device.json").read_text())
    assert found["passed"] is True
    assert (found["machine"]["device"], found["machine"]["torch"]) == ("cpu", torch.__version__)
    assert found["settings"]["small"] is True

    checks = found["checks"]
    assert list(checks) == ["training", "drawing", "images", "materialize", "mixing", "resume", "waiting"]
    assert checks.pop("waiting")["passed"] == UNKNOWN
    assert all(result["passed"] is True for result in checks.values())
    assert f"waiting: a step of sngan waits for nothing: {UNKNOWN}" in shown
    assert checks["training"]["claims"]["in bf16"] == UNKNOWN
    assert checks["mixing"]["claims"]["without waiting for the GPU"] == UNKNOWN

    trained = [row for row in checks["training"]["figures"].values() if isinstance(row, dict)]
    assert len(trained) >= 3
    assert all(row["images_per_second"] > 0 and row["share_of_peak"] > 0 for row in trained)
    for drawn in (checks["drawing"]["figures"][name] for name in ("flow", "sngan", "acgan-28")):
        assert set(drawn["images_per_second"]) == {"16", "32"}
        assert str(drawn["fastest_rows"]) in drawn["images_per_second"]
    resumed = checks["resume"]["figures"]
    assert 0 < resumed["killed_after"] < resumed["steps"]
    assert (resumed["bit_equal"], resumed["apart"]) == (True, 0)


def test_weights_that_differ_fail_and_so_does_a_check_that_breaks(in_process, monkeypatch, capsys):
    load = Generator.from_pretrained
    rng = torch.Generator().manual_seed(0)

    def other_each_time(folder):
        generator = load(folder)
        with torch.no_grad():
            for weight in generator.parameters():
                weight += 0.1 * torch.randn(weight.shape, generator=rng)
        return generator

    def broken(*_, **__):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Generator, "from_pretrained", other_each_time)
    monkeypatch.setattr("ganaug.ConditionalGANAugment.materialize", broken)
    told = in_process("--checks", "images", "materialize", "mixing", "--output", "found.json", name="check_device")
    assert told == "error: images, materialize failed; see the lines that say NO"
    shown = capsys.readouterr().out
    assert "of pixels are within a grey level of the CPU's: NO" in shown
    assert "materialize: runs without OSError: [Errno 28] No space left on device: NO" in shown
    found = json.loads(Path("found.json").read_text())
    assert found["passed"] is False
    assert {name: result["passed"] for name, result in found["checks"].items()} == {
        "images": False,
        "materialize": False,
        "mixing": True,
    }


def test_an_unknown_check_is_refused(in_process):
    assert "checks must be of training, drawing, " in in_process("--checks", "speed", name="check_device")
