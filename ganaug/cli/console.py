"""What commands write, where standard output has no character for it, or nobody reads it any more."""

from __future__ import annotations

import codecs
import io
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress

SIGPIPE = 13  # which Windows does not have

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


@contextmanager
def ending_with_the_reader() -> Iterator[None]:
    """A context that ends the program without a word where its output is read no further, as by ``| head``.

    Raises:
        SystemExit: standard output is a pipe that nobody reads, with the code of a program that SIGPIPE ended; or it
            cannot be written to, as on a full disk, with the reason.
        BrokenPipeError: it was another pipe.
    """
    try:
        yield
    except BrokenPipeError:
        _write_out("\n")
        raise
    finally:
        _write_out()  # here, where an error can be caught, not when the interpreter ends


def _write_out(text: str = "") -> None:
    try:
        print(text, end="", flush=True)
    except OSError as error:
        with open(os.devnull, "wb") as nowhere:  # for what is still to be flushed
            os.dup2(nowhere.fileno(), sys.stdout.fileno())
        unread = isinstance(error, BrokenPipeError)
        sys.exit(128 + SIGPIPE if unread else f"error: the output cannot be written: {error.strerror}")
