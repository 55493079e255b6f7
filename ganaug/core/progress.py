"""What a progress bar says that it is doing: much in a terminal, and no more than it must in a file."""

from __future__ import annotations

import sys
from typing import Any


def describe(bar: Any, what: str) -> None:
    """Set the description of a bar of tqdm; at once in a terminal, and with its next update in a file.

    Args:
        bar (tqdm): the bar.
        what (str): is done now.
    """
    bar.set_description(what, refresh=in_terminal())


def in_terminal() -> bool:
    """Whether progress bars are shown in a terminal."""
    return bool(sys.stderr) and sys.stderr.isatty()
