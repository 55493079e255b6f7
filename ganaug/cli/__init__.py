"""The command ``ganaug``; each file here is one of its commands, or what commands and recipes share."""

from __future__ import annotations

import sys
from argparse import REMAINDER, ArgumentParser, RawDescriptionHelpFormatter
from collections.abc import Sequence
from importlib import import_module
from importlib.metadata import version
from importlib.util import find_spec

from ganaug.cli.console import spell_out

COMMANDS = {
    "train": "train a generator on labelled images",
    "evaluate": "measure whether a generator's images help a classifier",
    "generate": "draw labelled images into files",
    "publish": "publish a generator on the Hugging Face Hub",
    "inspect": "say what a generator is and whether it is safe to load",
}
# What they import that only an extra brings. Looked for first: an evaluation must not fail after an hour of training.
_JUDGING = ("tyro", "scipy", "matplotlib")
NEEDED = {"train": _JUDGING, "evaluate": _JUDGING, "generate": ("tyro",), "publish": ("tyro",), "inspect": ()}


def main(words: Sequence[str] | None = None) -> None:
    """Run ``ganaug COMMAND ...``.

    Args:
        words (sequence of str): what stands after ``ganaug``. Default: as this program was started

    Raises:
        SystemExit: with another code than 0 where the command cannot be run, or ends with an error.
    """
    spell_out()
    # argparse, not tyro, which only an extra brings: --version and inspect need none.
    listing = "\n".join(f"  {name:<10} {what}" for name, what in COMMANDS.items())
    parser = ArgumentParser(
        prog="ganaug",
        description="Data augmentation by a class-conditional generator of one's own.",
        epilog=f"commands:\n{listing}\n\nganaug COMMAND --help explains the flags of one.",
        formatter_class=RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"ganaug {version('ganaug')}")
    parser.add_argument("command", choices=COMMANDS, metavar="COMMAND", help="one of the commands below")
    parser.add_argument("flags", nargs=REMAINDER, metavar="...", help="its flags")
    if not (sys.argv[1:] if words is None else words):
        parser.error(f"give a command: {', '.join(COMMANDS)}")
    given = parser.parse_args(words)
    for name in NEEDED[given.command]:
        if find_spec(name) is None:
            sys.exit(
                f'error: ganaug {given.command} needs {name}, which is not installed: pip install "ganaug[recipes]"'
            )
    import_module(f"ganaug.cli.{given.command}").main(given.flags)
