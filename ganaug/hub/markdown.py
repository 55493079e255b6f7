"""Markdown of README.md files: ganaug writes blocks between marks, and the words around them are the user's."""

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
    """The block between two marks; None if the text does not have them."""
    _, begin, rest = text.partition(of[0])
    block, end, _ = rest.partition(of[1])
    return block.strip() if begin and end else None


def replaced(text: str, block: str, of: Marks, *, title: str = "") -> str:
    """The text with another block between the marks; without marks, the block goes to the end, under a title."""
    if inside(text, of) is None:
        return f"{text.rstrip()}\n\n{title}{marked(block, of)}\n"
    before, _, rest = text.partition(of[0])
    return before + marked(block, of) + rest.partition(of[1])[2]


def cell(value: object) -> str:
    """A value for a table, with the characters escaped that mean something in Markdown or HTML."""
    text = html.escape(as_text(str(value)), quote=False)
    return "".join(f"\\{letter}" if letter in "\\|`*_[]" else letter for letter in text)
