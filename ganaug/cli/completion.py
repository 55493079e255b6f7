"""``ganaug --completion SHELL``: a script by which a shell completes all commands and their flags."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from importlib import import_module
from typing import Annotated, Any, Literal, Union

import tyro

from ganaug.cli import COMMANDS
from ganaug.cli.flags import with_config_flag


@dataclass(frozen=True)
class InspectArguments:
    """Flags of ``ganaug inspect``, which reads them without tyro.

    Args:
        generator: A folder, or a Hub id such as user/repo@revision.
        token: Of the Hub, for private repositories.
        endpoint: Address of the Hub, if it is not huggingface.co.
    """

    generator: tyro.conf.Positional[str]
    token: str | None = None
    endpoint: str | None = None


def print_completion(shell: Literal["bash", "zsh", "fish"]) -> None:
    """Print the script; it needs nothing of ganaug when it runs.

    Each module of a command has its flags in a dataclass of the command's name.
    """
    commands = []
    for name, what in COMMANDS.items():
        found: Any = InspectArguments
        if name != "inspect":
            found = with_config_flag(getattr(import_module(f"ganaug.cli.{name}"), f"{name.capitalize()}Arguments"))
        commands.append(Annotated[found, tyro.conf.subcommand(name, description=what)])
    any_of_them: Any = Union[tuple(commands)]  # noqa: UP007 - their number is not known here
    try:
        tyro.cli(
            any_of_them,
            prog="ganaug",
            args=["--tyro-print-completion", shell],
            use_underscores=True,
            config=(tyro.conf.OmitArgPrefixes,),
        )
    except SystemExit as ended:
        if ended.code:
            sys.exit(ended.code)
