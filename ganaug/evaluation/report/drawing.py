"""Drawing for the pages of reports and runs: SVG that stays readable on a phone, and names broken into lines."""

from __future__ import annotations

import base64
import io
import re
import unicodedata
import warnings
from collections.abc import Callable
from typing import Any

WIDTH = 4.5  # inches; on a phone, 358 CSS px wide, 11 points are 12 px
TEXT = 11  # points
LINE = 1.2 * TEXT / 72  # inches from one line of text to the next
INK, SOFT, PALE = "#1a2029", "#4b5563", "#e3e7ec"
COLOURS = ("#0072b2", "#c44f00", "#00795a", "#8a4f7d")  # for the colour-blind too; the shapes differ
SHAPES = ("D", "s", "^", "v")
_STYLE = {
    "font.size": TEXT,
    "axes.titlesize": TEXT,
    "axes.labelsize": TEXT,
    "legend.fontsize": TEXT,
    "xtick.labelsize": TEXT,
    "ytick.labelsize": TEXT,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.edgecolor": SOFT,
    "axes.labelcolor": INK,
    "text.color": INK,
    "xtick.color": SOFT,
    "xtick.labelcolor": INK,
    "ytick.color": SOFT,
    "ytick.labelcolor": INK,
    "legend.frameon": False,
    "text.parse_math": False,  # a class may be called "$"
    "svg.fonttype": "none",  # the browser has fonts for every script
    "svg.hashsalt": "ganaug",  # the same report gives the same file
}


def svg(height: float, draw: Callable[[Any], None]) -> str:
    """A figure as the text of an SVG file, the same for the same drawing.

    Args:
        height (float): in inches; the width is ``WIDTH``.
        draw (callable): draws on the figure's matplotlib axes.

    Raises:
        ImportError: matplotlib is not installed.
    """
    from matplotlib import style
    from matplotlib.figure import Figure

    file = io.StringIO()
    with style.context(["default", _STYLE]), warnings.catch_warnings():
        warnings.filterwarnings("ignore", ".*[Gg]lyph")  # the browser looks for them in other fonts
        figure = Figure(figsize=(WIDTH, height), layout="constrained")
        draw(figure.subplots())
        figure.savefig(file, format="svg", metadata={"Date": None})
    return file.getvalue()


def look(k: int) -> tuple[str, str]:
    """Colour and shape of the k-th of several things that a figure tells apart."""
    return COLOURS[k % len(COLOURS)], SHAPES[k % len(SHAPES)]


def wrapped(text: str, width: float, *, bold: bool = False) -> list[str]:
    """A text in lines that are at most so wide, all of it; what SVG cannot hold becomes �.

    Args:
        text (str): a name that may be of any length.
        width (float): in inches, if written at the size ``TEXT``.
        bold (bool): whether it is written in bold. Default: False
    """
    text = "".join(letter if letter.isprintable() else "�" for letter in text)

    # What no line can hold is parted at spaces; words that none can hold, at their hyphens and slashes, or anywhere.
    parts = [text]
    for separators in (r"\S*\s*", r"[^/_-]*[/_-]*", "."):
        parts = [
            smaller
            for part in parts
            for smaller in (re.findall(separators, part) if _width(part, bold) > width else [part])
        ]

    # Each line takes as many parts as fit.
    lines = [""]
    for part in parts:
        if part and lines[-1] and _width(lines[-1] + part, bold) > width:
            lines.append("")
        lines[-1] += part
    return [line.rstrip() for line in lines]


def _width(text: str, bold: bool) -> float:
    """In inches, without spaces at the end: in matplotlib's font, but for wide letters, which it lacks."""
    from matplotlib.font_manager import FontProperties
    from matplotlib.textpath import text_to_path

    font = FontProperties(size=TEXT, weight="bold" if bold else "normal")
    narrow = "".join(letter for letter in text.rstrip() if unicodedata.east_asian_width(letter) not in "WF")
    wide = TEXT * (len(text.rstrip()) - len(narrow))
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", ".*[Gg]lyph")
        return (text_to_path.get_text_width_height_descent(narrow, font, ismath=False)[0] + wide) / 72


def data_uri(content: bytes | str) -> str:
    """A PNG file (bytes) or an SVG file (str) as the address of a picture that is part of the page."""
    kind, content = ("svg+xml", content.encode()) if isinstance(content, str) else ("png", content)
    return f"data:image/{kind};base64,{base64.b64encode(content).decode()}"
