"""How a command reads its flags, ends on wrong input, and says how it was started."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import tyro

from ganaug.core.errors import InputError
from ganaug.training import StoppedError

Arguments = TypeVar("Arguments")


def parse(arguments: type[Arguments], description: str | None = None, default: Arguments | None = None) -> Arguments:
    """The flags of this program, and the default's values for those not given."""
    found: Arguments = tyro.cli(  # type: ignore[assignment] # its None is for a default of None
        arguments,
        description=description,
        default=default,
        use_underscores=True,
        config=(tyro.conf.OmitArgPrefixes, tyro.conf.FlagCreatePairsOff),
    )
    return found


def parse_again(default: Arguments) -> Arguments:
    """The flags of this program that were parsed before, and other values than before for those not given."""
    # In pairs: of a switch that is on in the default there would be no_switch alone.
    return tyro.cli(type(default), default=default, use_underscores=True, config=(tyro.conf.OmitArgPrefixes,))


def run(
    arguments: type[Arguments],
    main: Callable[[Arguments], None],
    description: str | None,
    default: Arguments | None = None,
) -> None:
    """Parse the flags and run ``main`` with them; a wrong input ends in one line instead of a traceback."""
    try:
        main(parse(arguments, description, default))
    except (InputError, FloatingPointError, OSError) as error:
        sys.exit(f"error: {error}")
    except StoppedError as stopped:
        print(stopped, file=sys.stderr)
        sys.exit(stopped.exit_code)


def command() -> str:
    """How this program was started; of folders of this machine only the last name, since it is published."""
    words = [f"recipes/{Path(sys.argv[0]).name}"]
    for word in sys.argv[1:]:
        flag, equals, value = word.rpartition("=")
        words.append(f"{flag}{equals}{Path(value).name if Path(value).is_absolute() else value}")
    return shlex.join(words)
