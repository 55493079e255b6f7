"""Markdown of README.md files: ganaug writes blocks between marks, and the words around them are the user's."""

from __future__ import annotations

import html
import re

from ganaug.core.text import as_text

Marks = tuple[str, str]


def marks(what: str) -> Marks:
    """The lines before and after a block."""
    return f"<!-- ganaug {what}: begin -->", f"<!-- ganaug {what}: end -->"


def marked(block: str, of: Marks) -> str:
    """A block between its marks. No mark within it can end it, whatever was written into it."""
    whole = block.replace("<!-- ganaug", "< !-- ganaug")
    return f"{of[0]}\n{whole}\n{of[1]}"


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
    return "".join(f"\\{letter}" if letter in "\\|`*_[]" else letter for letter in prose(value))


def prose(value: object) -> str:
    """A sentence that names what others named, with the characters escaped that mean something in HTML."""
    return html.escape(as_text(str(value)), quote=False)


def code(value: object) -> str:
    """A name as code within a line or a table."""
    return f"`{as_text(str(value)).replace('`', chr(39)).replace('|', chr(92) + '|')}`"


def fenced(value: object) -> str:
    """A line as a block of code."""
    text = as_text(str(value))
    fence = "`" * max([3, *(len(run) + 1 for run in re.findall("`+", text))])
    return f"{fence}\n{text}\n{fence}"
