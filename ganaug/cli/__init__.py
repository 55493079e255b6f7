"""The command ``ganaug``; each file here is one of its commands, or what commands and recipes share."""

from __future__ import annotations

import sys
from argparse import REMAINDER, ArgumentParser, RawDescriptionHelpFormatter
from collections.abc import Sequence
from importlib import import_module
from importlib.metadata import version
from importlib.util import find_spec

from ganaug.cli.console import ending_with_the_reader, spell_out
from ganaug.cli.hints import command_like

COMMANDS = {
    "check": "say what is wrong with labelled images, and what a generator could do for them",
    "train": "train a generator on labelled images",
    "adapt": "make a generator of other classes one of labelled images",
    "evaluate": "measure whether a generator's images help a classifier",
    "generate": "draw labelled images into files",
    "publish": "publish a generator on the Hugging Face Hub",
    "inspect": "say what a generator is and whether it is safe to load",
}
# What they import that only an extra brings. Looked for first: an evaluation must not fail after an hour of training.
_JUDGING = ("tyro", "scipy", "matplotlib")
NEEDED = {
    "check": _JUDGING,
    "train": _JUDGING,
    "adapt": _JUDGING,
    "evaluate": _JUDGING,
    "generate": ("tyro",),
    "publish": ("tyro",),
    "inspect": (),
}

_COMPLETION = """Completion, from the next shell on:
  ganaug --completion bash > ~/.local/share/bash-completion/completions/ganaug
  ganaug --completion zsh > FOLDER/_ganaug, where FOLDER is in $fpath
  ganaug --completion fish > ~/.config/fish/completions/ganaug.fish"""


def main(words: Sequence[str] | None = None) -> None:
    """Run ``ganaug COMMAND ...``.

    Args:
        words (sequence of str): what stands after ``ganaug``. Default: as this program was started

    Raises:
        SystemExit: with another code than 0 where the command cannot be run, or ends with an error.
    """
    spell_out()
    with ending_with_the_reader():
        _run(words)


def _run(words: Sequence[str] | None) -> None:
    # argparse, not tyro, which only an extra brings: --version and inspect need none.
    listing = "\n".join(f"  {name:<10} {what}" for name, what in COMMANDS.items())
    parser = ArgumentParser(
        prog="ganaug",
        description="Data augmentation by a class-conditional generator of one's own.",
        epilog=f"commands:\n{listing}\n\nganaug COMMAND --help explains the flags of one.\n\n{_COMPLETION}",
        formatter_class=RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"ganaug {version('ganaug')}")
    parser.add_argument(
        "--completion",
        choices=("bash", "zsh", "fish"),
        help="print a script that completes commands and flags in this shell",
    )
    parser.add_argument("command", nargs="?", metavar="COMMAND", help="one of the commands below")
    parser.add_argument("flags", nargs=REMAINDER, metavar="...", help="its flags")
    given = parser.parse_args(words)
    if given.completion and given.command:
        parser.error(f"--completion is of all commands. Leave {given.command} out")
    if given.completion:
        _check_installed("--completion", _JUDGING)
        import_module("ganaug.cli.completion").print_completion(given.completion)
        return
    if given.command not in COMMANDS:
        wrong = f"there is no command {given.command!r}; " if given.command else ""
        like = command_like(given.command, COMMANDS) if given.command else None
        parser.error(wrong + (f"did you mean {like}?" if like else f"give a command: {', '.join(COMMANDS)}"))
    _check_installed(given.command, NEEDED[given.command])
    import_module(f"ganaug.cli.{given.command}").main(given.flags)


def _check_installed(what: str, needed: Sequence[str]) -> None:
    for name in needed:
        if find_spec(name) is None:
            sys.exit(f'error: ganaug {what} needs {name}, which is not installed: pip install "ganaug[recipes]"')
