"""The house: each room imports only what stands below it, no files import one another in a circle, a tidy root."""

from __future__ import annotations

import ast
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest
from helpers.programs import REPOSITORY

# "" is the package's root, which hands on what the rooms below it have.
ORDER = ["core", "data", "hub", "sampling", "generators", "evaluation", "training", "mixing", "", "cli"]
ROOT = {"__init__.py", "__main__.py", "filters.py", "testing.py", "transforms.py"}
PACKAGE = REPOSITORY / "ganaug"
MAIN = PACKAGE / "__main__.py"  # may import anything
FILES = sorted(PACKAGE.rglob("*.py"))


def imported(path: Path) -> set[Path]:
    """Files of the package that one imports, in its functions too."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert not node.level, f"{path}: a relative import"
            names = [f"{node.module}.{alias.name}" for alias in node.names]
        else:
            continue
        found |= {file_of(name) for name in names if name.partition(".")[0] == "ganaug"}
    return found


def file_of(name: str) -> Path:
    """File of a module, or of the one that has a name."""
    for place in (name, name.rpartition(".")[0]):
        path = REPOSITORY.joinpath(*place.split("."))
        for file in (path.with_suffix(".py"), path / "__init__.py"):
            if file.exists():
                return file
    raise AssertionError(f"{name} is nowhere")


def room(path: Path) -> str:
    parts = path.relative_to(PACKAGE).parts
    return parts[0] if len(parts) > 1 else ""


@pytest.fixture(scope="module")
def imports() -> dict[Path, set[Path]]:
    """Of each file of the package."""
    return {path: imported(path) for path in FILES}


def test_a_file_imports_only_what_stands_below_it(imports):
    climbing = [
        f"{path.relative_to(PACKAGE)} imports {other.relative_to(PACKAGE)}"
        for path in FILES
        if path != MAIN
        for other in imports[path]
        if ORDER.index(room(other)) > ORDER.index(room(path))
    ]
    assert climbing == []


def test_no_files_import_one_another_in_a_circle(imports):
    assert len(FILES) > 50
    try:
        list(TopologicalSorter(imports).static_order())
    except CycleError as error:
        pytest.fail(" imports ".join(str(path.relative_to(PACKAGE)) for path in reversed(error.args[1])))


def test_there_is_nothing_new_at_the_root():
    assert {path.name for path in PACKAGE.glob("*.py")} == ROOT
    assert {path.parent.name for path in PACKAGE.glob("*/__init__.py")} <= set(ORDER)


def test_a_circle_and_a_climb_would_be_seen(tmp_path):
    """The checks above can fail."""
    program = tmp_path / "late.py"
    program.write_text("def f():\n    from ganaug.mixing import dataset\n    import ganaug.core.files\n")
    assert {room(path) for path in imported(program)} == {"mixing", "core"}
