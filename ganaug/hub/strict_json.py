"""JSON that anybody may have written."""

from __future__ import annotations

import json
from typing import Any


def strict_json(content: bytes, *, entry: str = "key") -> Any:
    """Parse UTF-8 JSON without the liberties that Python's parser takes.

    Args:
        content (bytes): the whole text.
        entry (str): what the keys of objects name, for the message. Default: key

    Raises:
        ValueError: the text is not JSON, an object has a key twice, NaN or Infinity stands for a number, or the text
            is nested too deeply.
    """

    def without_doubles(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        found = dict(pairs)
        if len(found) < len(pairs):
            raise ValueError(f"the same {entry} is there twice")
        return found

    def no_number(name: str) -> None:
        raise ValueError(f"{name} is not a number in JSON")

    try:
        return json.loads(content.decode("utf-8"), object_pairs_hook=without_doubles, parse_constant=no_number)
    except RecursionError:
        raise ValueError("it is nested too deeply") from None
