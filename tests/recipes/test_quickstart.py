"""The notebook: its cells run in order to a verdict, and what it shows is what a run of it showed."""

from __future__ import annotations

import json
import re
from typing import Any, get_args

import pytest
from helpers.programs import REPOSITORY, run_python

from ganaug.evaluation.verdict import Outcome

NOTEBOOK = REPOSITORY / "recipes" / "quickstart.ipynb"
ANSWER = re.compile(rf"({'|'.join(get_args(Outcome))}): .*points \[")

# Training has tests of its own, and takes a process more; this judges with little.
QUICK = """
from functools import partial
from unittest.mock import create_autospec

import ganaug
from ganaug.mixing import commands
from helpers.evaluated import TinyClassifier
from helpers.generators import make_generator

made = make_generator(tuple("0123456789"), image_size=28)
ganaug.fit = create_autospec(ganaug.fit, return_value=made)
commands.classifier_named = lambda name: TinyClassifier
commands.UtilitySettings = partial(
    commands.UtilitySettings, seeds=2, steps=4, max_steps=4, batch_size=16, ratios=(0.5,), augmentations=("none",),
    learning_curve=False,
)
"""


def cells(kind: str) -> list[dict[str, Any]]:
    return [cell for cell in json.loads(NOTEBOOK.read_text("utf-8"))["cells"] if cell["cell_type"] == kind]


def source_of(cell: dict[str, Any]) -> str:
    return "".join(cell["source"])


def shown_by(cell: dict[str, Any]) -> str:
    """All text that a cell has written."""
    texts = [output.get("text", output.get("data", {}).get("text/plain", "")) for output in cell["outputs"]]
    return "".join("".join(text) for text in texts)


def test_the_cells_lead_to_a_verdict(tmp_path):
    program = "\n".join([QUICK, *map(source_of, cells("code"))])
    for asked, fewer in (('"train", 30', '"train", 8'), ('"test", 100', '"test", 12')):
        assert program.count(asked) == 1
        program = program.replace(asked, fewer)
    (tmp_path / "quickstart.py").write_text(program, "utf-8")
    written = run_python("quickstart.py", cwd=tmp_path)
    assert "training: {'0': 8, '1': 8," in written
    assert ANSWER.search(written)
    assert len(list((tmp_path / "photos").glob("*/*/*.png"))) == 200
    assert (tmp_path / "report" / "report.html").exists()


def test_what_it_shows_is_whole_small_and_of_no_machine():
    assert NOTEBOOK.stat().st_size < 1_000_000
    code = cells("code")
    assert [cell["execution_count"] for cell in code] == list(range(1, len(code) + 1))
    assert ANSWER.match(shown_by(code[-1]))
    pictures = {kind for cell in code for output in cell["outputs"] for kind in output.get("data", {})}
    assert pictures == {"image/png", "image/svg+xml", "text/plain"}
    texts = "".join(map(shown_by, code))
    for unwanted in ("Traceback", "it/s", "█", "/root", "/tmp"):
        assert unwanted not in texts


def test_its_links_lead_somewhere():
    links = re.findall(r"\]\(([^)\s#]+)", "".join(map(source_of, cells("markdown"))))
    assert links
    for link in links:
        assert (NOTEBOOK.parent / link).is_file(), link


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_it_runs_as_it_is(tmp_path):
    """In ten minutes on two cores that have nothing else to do."""
    import nbformat
    from nbclient import NotebookClient

    notebook = nbformat.read(NOTEBOOK, nbformat.current_nbformat)
    done = NotebookClient(notebook, resources={"metadata": {"path": str(tmp_path)}}).execute()
    assert ANSWER.match(shown_by([cell for cell in done.cells if cell.cell_type == "code"][-1]))
