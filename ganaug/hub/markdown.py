"""Markdown of the README.md files that ganaug writes: blocks between marks, around which the words are the user's."""

from __future__ import annotations

import html

from ganaug.core.text import as_text

Marks = tuple[str, str]


def marks(what: str) -> Marks:
    """The lines before and after a block."""
    return f"<!-- ganaug {what}: begin -->", f"<!-- ganaug {what}: end -->"


def marked(block: str, of: Marks) -> str:
    """A block between its marks."""
    return f"{of[0]}\n{block}\n{of[1]}"


def inside(text: str, of: Marks) -> str | None:
    """The block that is between two marks; None where they are not there."""
    _, begin, rest = text.partition(of[0])
    block, end, _ = rest.partition(of[1])
    return block.strip() if begin and end else None


def replaced(text: str, block: str, of: Marks, *, title: str = "") -> str:
    """The text with another block between the marks; where they are missing they go to its end, under a title."""
    if inside(text, of) is None:
        return f"{text.rstrip()}\n\n{title}{marked(block, of)}\n"
    before, _, rest = text.partition(of[0])
    return before + marked(block, of) + rest.partition(of[1])[2]


def cell(value: object) -> str:
    """A value in a table: what Markdown or HTML would take for its own is written out."""
    text = html.escape(as_text(str(value)), quote=False)
    return "".join(f"\\{letter}" if letter in "\\|`*_[]" else letter for letter in text)
