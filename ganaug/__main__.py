"""``python -m ganaug inspect NAME_OR_FOLDER``: what a generator is, before it is used."""

from __future__ import annotations

import argparse
import sys

from ganaug.core.errors import InputError
from ganaug.hub.description import description
from ganaug.hub.download import fetch


def main(arguments: list[str] | None = None) -> None:
    """Run the command that the arguments name."""
    parser = argparse.ArgumentParser(
        prog="python -m ganaug", description="Generators of images, from the command line."
    )
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    command = commands.add_parser("inspect", help="say what a generator is and whether it is safe to load")
    command.add_argument(
        "generator", metavar="NAME_OR_FOLDER", help="a folder, or a Hub id such as user/repo@revision"
    )
    command.add_argument("--token", help="of the Hub, for private repositories")
    command.add_argument("--endpoint", help="address of the Hub, if it is not huggingface.co")
    given = parser.parse_args(arguments)
    try:
        folder = fetch(given.generator, token=given.token, endpoint=given.endpoint, with_card=True)
        sys.stdout.write(description(folder, given.generator) + "\n")
    except InputError as error:
        sys.exit(f"error: {error}")


if __name__ == "__main__":
    main()
