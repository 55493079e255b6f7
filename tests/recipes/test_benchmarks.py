"""What all benchmarks have in common: flags that can be asked for, and a file of results."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace

import common
import pytest

from ganaug import InputError
from ganaug.cli.images import DataArguments

BENCHMARKS = (
    "adapting", "busy", "classifiers", "colour", "growth", "import_time", "labels", "loader", "minutes", "models",
    "peers", "quality", "sampling", "selection", "training", "utility",
)  # fmt: skip


@pytest.mark.parametrize("name", BENCHMARKS)
def test_each_says_what_it_measures_and_which_flags_it_has(in_process, capsys, name):
    assert in_process("--help", name=f"benchmarks/{name}") == 0
    shown = capsys.readouterr().out
    assert any(flag in shown for flag in ("--output ", "--output_dir "))
    assert "on two cores" in " ".join(shown.replace("│", " ").split())  # how long it takes


def test_results_are_written_part_by_part_and_gone_on_with(tmp_path, capsys):
    args = SimpleNamespace(output_dir=tmp_path, table=None, last=2)
    measured = []

    def measure(args, results):
        for part in ("one", "two", "three")[: args.last]:
            if part not in results:
                measured.append(part)
                results[part] = len(part)
                yield
        if args.last == 2:
            raise KeyboardInterrupt

    def table(results):
        return f"table of {len(results)}"

    plots = []
    fill = lambda: common.fill_and_show("parts", args, measure, table, lambda _, path: plots.append(path.name))  # noqa: E731
    with pytest.raises(KeyboardInterrupt):
        fill()
    assert json.loads((tmp_path / "parts.json").read_text()) == {"one": 3, "two": 3}
    args.last = 3
    fill()
    assert measured == ["one", "two", "three"]
    assert plots == ["parts.png"] * 3
    args.table = tmp_path / "parts.json"
    fill()
    assert capsys.readouterr().out == "table of 3\n" * 2
    assert len(measured) == 3


def test_an_unknown_name_is_refused_with_those_that_are_known():
    common.require_known(["flow"], {"flow": 1}, "models")
    with pytest.raises(InputError, match="flow, sngan; got biggan"):
        common.require_known(["flow", "biggan"], ["flow", "sngan"], "models")


def test_the_flags_of_images_say_what_they_were():
    flags = DataArguments(train_data_dir=Path("photos"), classes=("cat", "dog"), skip_bad_images=True)
    assert common.data_flags(flags) == ["--train_data_dir", "photos", "--classes", "cat", "dog", "--skip_bad_images"]
