"""How a command reads its flags, ends on wrong input, and says how it was started."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TypeVar

import tyro

from ganaug.cli.console import spell_out
from ganaug.core.errors import InputError
from ganaug.training import StoppedError

Arguments = TypeVar("Arguments")


def parse(
    arguments: type[Arguments],
    description: str | None = None,
    *,
    default: Arguments | None = None,
    words: Sequence[str] | None = None,
    prog: str | None = None,
) -> Arguments:
    """Read flags into a dataclass.

    Args:
        arguments (type): the dataclass, whose fields are the flags; nested ones have no prefix.
        description (str): for ``--help``.
        default (dataclass): values of the flags that are not given. Default: the fields' own
        words (sequence of str): the flags. Default: those this program was started with
        prog (str): name of the program, for ``--help``. Default: that of its file

    Raises:
        SystemExit: after ``--help``, or after telling which flag is wrong.
    """
    return tyro.cli(
        arguments,
        prog=prog,
        description=description,
        args=words,
        default=tyro.MISSING_NONPROP if default is None else default,
        use_underscores=True,
        config=(tyro.conf.OmitArgPrefixes, tyro.conf.FlagCreatePairsOff),
    )


def run(
    arguments: type[Arguments],
    main: Callable[[Arguments], None],
    description: str | None,
    *,
    words: Sequence[str] | None = None,
    prog: str | None = None,
    parse: Callable[..., Arguments] = parse,
) -> None:
    """Read the flags and call ``main`` with them; wrong input ends the program in one line, without a traceback.

    Args:
        arguments, description, words, prog: as of :func:`parse`.
        main (callable): the program.
        parse (callable): reads the flags, with the same arguments. Default: :func:`parse`
    """
    spell_out()
    try:
        main(parse(arguments, description, words=words, prog=prog))
    except (InputError, FloatingPointError, OSError) as error:
        sys.exit(f"error: {error}")
    except StoppedError as stopped:
        print(stopped, file=sys.stderr)
        sys.exit(stopped.exit_code)


def command() -> str:
    """The command that starts this program again.

    Absolute paths are cut to their last name, since the command is published on the generator's card.
    """
    program = Path(sys.argv[0])
    words = ["ganaug"] if program.stem in ("ganaug", "__main__") else ["python", f"recipes/{program.name}"]
    for word in sys.argv[1:]:
        flag, equals, value = word.rpartition("=")
        words.append(f"{flag}{equals}{Path(value).name if Path(value).is_absolute() else value}")
    return shlex.join(words)
