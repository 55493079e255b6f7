"""What commands write, where standard output has no character for it, as in a file or pipe on Windows."""

from __future__ import annotations

import codecs
import io
import sys
from contextlib import suppress

_ALIKE = str.maketrans(
    {
        "\N{MINUS SIGN}": "-",
        "\N{EN DASH}": "-",
        "\N{MULTIPLICATION SIGN}": "x",
        "\N{PLUS-MINUS SIGN}": "+-",
        "\N{LEFT DOUBLE QUOTATION MARK}": '"',
        "\N{RIGHT DOUBLE QUOTATION MARK}": '"',
        "\N{LEFT SINGLE QUOTATION MARK}": "'",
        "\N{RIGHT SINGLE QUOTATION MARK}": "'",
        "\N{HORIZONTAL ELLIPSIS}": "...",
        "\N{LEFTWARDS ARROW}": "<-",
        "\N{RIGHTWARDS ARROW}": "->",
        "\N{NO-BREAK SPACE}": " ",
    }
)


def spell_out() -> None:
    """Let standard output and error write a character that they lack as one like it, or as its number (``\\u732b``).

    Otherwise a command would end with an error on the name of a class. What the user asked for, by PYTHONIOENCODING,
    stays.
    """
    codecs.register_error("ganaug", _spelt_out)
    for stream in (sys.stdout, sys.stderr):
        # Python's own ways: of output, of output in the locale C, and of errors.
        if isinstance(stream, io.TextIOWrapper) and stream.errors in ("strict", "surrogateescape", "backslashreplace"):
            with suppress(OSError):  # it was opened on a file and leads to a pipe now, where no position can be asked
                stream.reconfigure(errors="ganaug")


def _spelt_out(error: UnicodeError) -> tuple[str, int]:
    if not isinstance(error, UnicodeEncodeError):
        raise error
    wanted = error.object[error.start : error.end]
    return wanted.translate(_ALIKE).encode("ascii", "backslashreplace").decode(), error.end
