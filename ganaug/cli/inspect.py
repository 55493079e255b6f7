"""``ganaug inspect``: what a generator is, before it is used. It needs no extra."""

from __future__ import annotations

import sys
from argparse import ArgumentParser
from collections.abc import Sequence

from ganaug.core.errors import InputError
from ganaug.hub.description import description
from ganaug.hub.download import fetch


def main(words: Sequence[str]) -> None:
    """Run the command with these words after its name."""
    parser = ArgumentParser(
        prog="ganaug inspect", description="Say what a generator is and whether it is safe to load."
    )
    parser.add_argument("generator", metavar="NAME_OR_FOLDER", help="a folder, or a Hub id such as user/repo@revision")
    parser.add_argument("--token", help="of the Hub, for private repositories")
    parser.add_argument("--endpoint", help="address of the Hub, if it is not huggingface.co")
    given = parser.parse_args(words)
    try:
        folder = fetch(given.generator, token=given.token, endpoint=given.endpoint, with_card=True)
        print(description(folder, given.generator))
    except InputError as error:
        sys.exit(f"error: {error}")
