"""JSON that anybody may have written."""

from __future__ import annotations

import json
import re
from typing import Any

# A comma, an opening bracket, or a string. No string here has so many escapes; without that limit, matching would take
# a hundred times their memory.
_TOKEN = re.compile(rb'[,\[{]|"[^"\\]*(?:\\.[^"\\]*){0,5000}(?P<end>")?', re.DOTALL)


def strict_json(content: bytes, *, entry: str = "key", most: int | None = None) -> Any:
    """Parse UTF-8 JSON without the liberties that Python's parser takes.

    Args:
        content (bytes): the whole text.
        entry (str): what the keys of objects name, for the message. Default: key
        most (int, optional): how many strings, commas and brackets there may be, because a value can take thirty
            times as much memory as its text. Default: any number

    Raises:
        ValueError: the text is not JSON, an object has a key twice, NaN or Infinity stands for a number, the text is
            nested too deeply, or has more than ``most`` strings, commas and brackets.
    """

    def without_doubles(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        found = dict(pairs)
        if len(found) < len(pairs):
            raise ValueError(f"the same {entry} is there twice")
        return found

    def no_number(name: str) -> None:
        raise ValueError(f"{name} is not a number in JSON")

    if most is not None:
        for number, token in enumerate(_TOKEN.finditer(content), 1):
            if number > most:
                raise ValueError("it has too many values")
            if content[token.start()] == ord('"') and token["end"] is None:
                raise ValueError("a string in it has no end, or thousands of escapes")
    try:
        return json.loads(content.decode("utf-8"), object_pairs_hook=without_doubles, parse_constant=no_number)
    except RecursionError:
        raise ValueError("it is nested too deeply") from None
