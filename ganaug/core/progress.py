"""What a progress bar says that it is doing."""

from __future__ import annotations

import sys
from typing import Any


def describe(bar: Any, what: str) -> None:
    """Set the description of a bar of tqdm; at once in a terminal, and with its next update in a file.

    Args:
        bar (tqdm): the bar.
        what (str): is done now.
    """
    bar.set_description(what, refresh=bool(sys.stderr) and sys.stderr.isatty())
