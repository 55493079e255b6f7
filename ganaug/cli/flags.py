"""How a command reads its flags, ends on wrong input, and says how it was started."""

from __future__ import annotations

import shlex
import signal
import sys
from collections.abc import Callable, Sequence
from dataclasses import fields, make_dataclass
from pathlib import Path
from typing import Annotated, Any, TypeVar

import tyro

from ganaug.cli.config import fields_of_flags, flags_of, names_of_flags, split_config, without_config
from ganaug.cli.console import ending_with_the_reader, spell_out
from ganaug.cli.hints import hint_for
from ganaug.core.errors import InputError
from ganaug.core.text import as_text
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
        arguments (type): the dataclass, whose fields are the flags; nested ones have no prefix. Where it has a field
            ``given``, the names of the flags that the user gave are added to that.
        description (str): for ``--help``.
        default (dataclass): values of the flags that are not given. Default: the fields' own
        words (sequence of str): the flags. Default: those this program was started with
        prog (str): name of the program, for ``--help``. Default: that of its file

    Raises:
        SystemExit: after ``--help``, or after telling which flag is wrong.
        InputError: the file of ``--config`` cannot be used.
    """
    words, from_file = without_config(sys.argv[1:] if words is None else words, arguments)
    flags = with_config_flag(arguments)
    found: Any
    try:
        found = tyro.cli(
            flags,
            prog=prog,
            description=description,
            args=[*words, *from_file],
            default=tyro.MISSING_NONPROP if default is None else flags(**vars(default)),
            use_underscores=True,
            config=(tyro.conf.OmitArgPrefixes,),
        )
    except SystemExit as ended:
        if ended.code:
            tell_other_names(words, arguments)
        raise
    values = {field.name: getattr(found, field.name) for field in fields(arguments)}  # type: ignore[arg-type]
    if "given" in values:
        values["given"] |= fields_of_flags([*words, *from_file])
    return arguments(**values)


def with_config_flag(arguments: type[Any]) -> type[Any]:
    """The dataclass with a flag more, which :func:`without_config` reads; here it is for ``--help`` alone."""
    what = "YAML file of flags by name, such as seed: 1; flags in the command go before those in the file."
    flag = ("config", Annotated[Path | None, tyro.conf.arg(help=what)], None)
    frozen = arguments.__dataclass_params__.frozen
    return make_dataclass(
        arguments.__name__, [flag], bases=(arguments,), namespace={"__doc__": arguments.__doc__}, frozen=frozen
    )


def tell_other_names(words: Sequence[str], arguments: type) -> None:
    """Print what flags that the command does not have are called here, if other programs have them."""
    flags = flags_of(arguments)
    for word in words:
        given, name = word.partition("=")[0], "".join(names_of_flags([word]))
        hint = hint_for(name, flags) if name and name not in flags else None
        if hint:
            print(f"{given}: {hint}", file=sys.stderr)


def run(
    arguments: type[Arguments],
    main: Callable[[Arguments], None],
    description: str | None,
    *,
    words: Sequence[str] | None = None,
    prog: str | None = None,
    parse: Callable[..., Arguments] = parse,
) -> None:
    """Read the flags and call ``main`` with them; wrong input and Ctrl-C end the program in one line, no traceback.

    Args:
        arguments, description, words, prog: as of :func:`parse`.
        main (callable): the program.
        parse (callable): reads the flags, with the same arguments. Default: :func:`parse`
    """
    spell_out()
    try:
        with ending_with_the_reader():
            main(parse(arguments, description, words=words, prog=prog))
    except (InputError, FloatingPointError, OSError) as error:
        # Names of files and classes, which others may have chosen, must not move the cursor or colour the terminal.
        sys.exit("\n".join(map(as_text, f"error: {error}".splitlines())))
    except KeyboardInterrupt:
        print("stopped", file=sys.stderr)
        sys.exit(128 + signal.SIGINT)
    except StoppedError as stopped:
        print(stopped, file=sys.stderr)
        sys.exit(stopped.exit_code)


def command(from_file: Sequence[str] = ()) -> str:
    """The command that starts this program again.

    Absolute paths are cut to their last name, since the command is published on the generator's card.

    Args:
        from_file (sequence of str): what ``--config`` stood for; the file may not be there again.
    """
    program = Path(sys.argv[0])
    words = ["ganaug"] if program.stem in ("ganaug", "__main__") else ["python", f"recipes/{program.name}"]
    given, _ = split_config(sys.argv[1:])
    for word in [*given, *from_file]:
        flag, equals, value = word.rpartition("=")
        words.append(f"{flag}{equals}{Path(value).name if Path(value).is_absolute() else value}")
    return shlex.join(words)
