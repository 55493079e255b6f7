"""``--config FILE``: flags that stand in a YAML file, by name, as they would stand on the command line."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable, Mapping, Sequence
from contextlib import redirect_stderr
from dataclasses import is_dataclass, make_dataclass
from difflib import get_close_matches
from io import StringIO
from pathlib import Path
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin, get_type_hints

import tyro
import yaml

from ganaug.cli.hints import hint_for
from ganaug.core.errors import InputError

_FLAT = "Write all flags side by side, as in seed: 1"

Config = Mapping[str, Any]  # each value a str, bool or None, or a list of these


class _Loader(yaml.SafeLoader):  # type: ignore[misc]
    """Numbers and words stay as they are written: ``mixed_precision: no`` is a word, and ``classes: [007, yes]`` two.

    Only true, false and null have a meaning of their own, as in JSON, which this reads too.
    """

    yaml_implicit_resolvers: dict[str, Any] = {}  # noqa: RUF012 - not YAML 1.1's, in which no is false

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        """As usual, but a key that is given twice is an error."""
        keys: list[Any] = []
        for key, _ in node.value:
            if key.value in keys:
                raise yaml.constructor.ConstructorError(None, None, f"{key.value} is there twice", key.start_mark)
            keys.append(key.value)
        found: dict[Any, Any] = super().construct_mapping(node, deep)
        return found


_Loader.add_implicit_resolver("tag:yaml.org,2002:bool", re.compile("(?i:true|false)$"), list("tTfF"))
_Loader.add_implicit_resolver("tag:yaml.org,2002:null", re.compile("(?i:null|~|)$"), ["n", "N", "~", ""])


def names_of_flags(words: Sequence[str]) -> list[str]:
    """Flags that are given by the words of a command; tyro knows no abbreviations, and no value begins with --."""
    flags = [word[2:].partition("=")[0].replace("-", "_") for word in words if word.startswith("--")]
    return [name for name in flags if name]


def fields_of_flags(words: Sequence[str]) -> frozenset[str]:
    """As :func:`names_of_flags`, with the field's name for a switch that is turned off."""
    return frozenset(name.removeprefix("no_") for name in names_of_flags(words))


def flags_of(arguments: type) -> dict[str, Any]:
    """Name and type of each flag that stands for a field of a dataclass, or of one in it; none for what has none."""
    found: dict[str, Any] = {}
    for name, hint in get_type_hints(arguments, include_extras=True).items():
        if is_dataclass(hint):
            found |= flags_of(hint)  # type: ignore[arg-type]
        elif get_origin(hint) is not Annotated:  # what is given by its place, or not by the user
            found[name] = hint
    return found


def split_config(words: Sequence[str]) -> tuple[list[str], Path | None]:
    """The words of a command without ``--config FILE``, and the file; None where there is none.

    Raises:
        InputError: there are two, or the name is missing.
    """
    words = list(words)
    places = [k for k, word in enumerate(words) if word.partition("=")[0] == "--config"]
    if not places:
        return words, None
    if len(places) > 1:
        raise InputError("--config is given twice. Give one file, and what differs as flags")
    _, equals, value = words.pop(places[0]).partition("=")
    if not equals:
        if places[0] == len(words):
            raise InputError("--config names no file. Give a YAML file of flags")
        value = words.pop(places[0])
    return words, Path(value)


def without_config(
    words: Sequence[str], arguments: type, flags_in: Callable[[Path, Config], Config] | None = None
) -> tuple[list[str], list[str]]:
    """The words of a command without ``--config FILE``, and the words that the file stands for.

    A flag of the file that the command has too is left out: the command goes before.

    Args:
        words (sequence of str): of the command.
        arguments (type): the dataclass whose fields are the flags.
        flags_in (callable, optional): takes the file and what is in it, and gives the flags. Default: that is what
            they are

    Raises:
        InputError: the file cannot be read, or has something else in it than flags with values that they take.
    """
    words, file = split_config(words)
    if file is None:
        return words, []
    config, given = read_config(file, arguments, flags_in), fields_of_flags(words)
    return words, [word for name, value in config.items() if name not in given for word in words_of(name, value)]


def read_config(
    file: Path, arguments: type, flags_in: Callable[[Path, Config], Config] | None = None
) -> dict[str, Any]:
    """The flags in a YAML file, each checked; arguments and errors as of :func:`without_config`."""
    try:
        config = yaml.load(file.read_text("utf-8"), _Loader)
    except OSError as error:
        raise InputError(f"--config {file} cannot be read: {error.strerror}. Give a YAML file of flags") from error
    except (yaml.YAMLError, UnicodeDecodeError, RecursionError) as error:
        what, mark = getattr(error, "problem", None), getattr(error, "problem_mark", None)
        why = f"{what} in line {mark.line + 1}" if what and mark else " ".join(str(error).split())
        raise InputError(f"--config {file} is not YAML: {why}. Write a line for each flag, as in seed: 1") from error
    if not isinstance(config, dict | None):
        raise InputError(f"--config {file} has no names of flags in it. Write a line for each, as in seed: 1")
    config = config or {}
    flags, found = flags_of(arguments), {}
    for key, value in (flags_in(file, config) if flags_in else config).items():
        name = str(key).replace("-", "_")
        if name in found:
            raise InputError(f"{file}: {name} is there twice, as {key} too. Leave one out")
        if name not in flags:
            raise InputError(f"{file}: {key} is not a flag of this command. {_instead(name, value, arguments)}")
        if isinstance(value, dict):
            raise InputError(f"{file}: {name} has keys of its own ({', '.join(map(str, value))}). {_FLAT}")
        if not _takes(name, flags[name], value):
            raise InputError(f"{file}: {name} cannot be {_shown(value)}. It takes {_in_words(flags[name])}")
        # As a shell does before a program sees it.
        found[name] = os.path.expanduser(value) if isinstance(value, str) and value.startswith("~/") else value
    return found


def words_of(name: str, value: Any) -> list[str]:
    """A flag and its value as they stand in a command."""
    if isinstance(value, bool):
        return [f"--{name}" if value else f"--no_{name}"]
    if isinstance(value, list | tuple):
        return [f"--{name}={value[0]}", *map(str, value[1:])] if value else [f"--{name}"]
    return [f"--{name}={value}"]


def _takes(name: str, hint: Any, value: Any) -> bool:
    """Whether a flag of some type takes a value, as it stands in the file."""
    kinds = get_args(hint) if get_origin(hint) in (Union, UnionType) else (hint,)
    if value is None:
        return NoneType in kinds
    if isinstance(value, bool) or bool in kinds:
        return isinstance(value, bool) and bool in kinds
    if isinstance(value, list):
        several = any(get_origin(kind) is tuple for kind in kinds)
        if not several or not all(isinstance(each, str) for each in value):
            return False
    # What it takes of words is up to the parser, which reads them as it reads a command with this flag alone.
    alone = make_dataclass("Alone", [(name, hint)])
    try:
        with redirect_stderr(StringIO()):
            tyro.cli(alone, args=words_of(name, value), use_underscores=True, add_help=False)
    except SystemExit:
        return False
    return True


def _shown(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def _in_words(hint: Any) -> str:
    """What a flag of some type takes."""
    if get_origin(hint) is Literal:
        return ", ".join(str(each) for each in get_args(hint))
    if get_origin(hint) is tuple:
        return f"a list, each {_in_words(get_args(hint)[0])}"
    if args := get_args(hint):
        return " or ".join(_in_words(each) for each in args)
    names = {bool: "true or false", int: "a whole number", float: "a number", NoneType: "null"}
    return names.get(hint, "words")


def _instead(name: str, value: Any, arguments: type) -> str:
    """What to write for a key that is no flag."""
    flags = flags_of(arguments)
    if isinstance(value, dict):
        return _FLAT
    if flags.get(name.removeprefix("no_")) is bool:
        return f"Write {name.removeprefix('no_')}: false"
    hint = get_type_hints(arguments, include_extras=True).get(name)
    if tyro.conf.Positional in getattr(hint, "__metadata__", ()):
        return "Give it in the command"
    close = get_close_matches(name, list(flags), n=1, cutoff=0.75)
    said = hint_for(name, flags) or (f"did you mean {close[0]}?" if close else "leave it out; --help has all flags")
    return said[0].upper() + said[1:]
