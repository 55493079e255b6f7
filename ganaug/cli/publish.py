"""Publish a trained generator on the Hugging Face Hub: weights, config, card, grid and report, and nothing else.

For example: ganaug publish outputs/flow user/repo --licence mit --dry_run, and then without --dry_run
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import tyro

from ganaug import InputError, publish
from ganaug.cli.flags import run
from ganaug.hub.upload import Publication


@dataclass(frozen=True)
class PublishArguments:
    """Flags of ``ganaug publish``.

    Args:
        folder: Of a training run, or written by save_pretrained.
        repo_id: Where to publish, as user/repo; made if it is not there.
        licence: Of the generator, for its card, such as mit or cc-by-4.0. That of the images it was trained on may
            ask for something.
        private: Make a new repository private.
        branch: Publish on this branch.
        create_pr: Propose the change instead of making it.
        dry_run: Show the files and the card; change nothing.
        endpoint: Address of the Hub, if it is not huggingface.co.
    """

    folder: tyro.conf.Positional[Path]
    repo_id: tyro.conf.Positional[str]
    licence: str | None = None
    private: bool = False
    branch: str | None = None
    create_pr: bool = False
    dry_run: bool = False
    endpoint: str | None = None

    def options(self) -> dict[str, Any]:
        """Arguments of :func:`ganaug.publish`."""
        return {
            "licence": self.licence,
            "private": self.private or None,
            "branch": self.branch,
            "create_pr": self.create_pr,
            "endpoint": self.endpoint,
        }


def show_and_publish(args: PublishArguments) -> None:
    """Show what is published, publish it, and say how to load it."""
    planned = publish(args.folder, args.repo_id, dry_run=True, **args.options())
    print(f"{listing(planned)}\n\n{planned.card}")
    if not args.dry_run:
        check_licence(planned)
        made = publish(args.folder, args.repo_id, **args.options())
        print(f"published: {made.url}\n\n{how_to_load(made)}")


def listing(planned: Publication) -> str:
    """The files that are published, and their sizes."""
    sizes = {name: path.stat().st_size for name, path in planned.files.items()}
    sizes["README.md"] = len(planned.card.encode())
    lines = [f"  {size:>12,} bytes  {name}" for name, size in sizes.items()]
    return "\n".join([f"to {planned.repo_id}:", *lines])


def check_licence(planned: Publication) -> None:
    """Refuse to publish what nobody could use.

    Raises:
        InputError: the card names no licence.
    """
    if "\nlicense: " not in planned.card:
        raise InputError(
            "the card names no licence, without which nobody may use the generator. Give one with --licence, such as "
            "--licence mit"
        )


def how_to_load(made: Publication) -> str:
    """The lines that load what was published, pinned to its commit."""
    return f'from ganaug import Generator\ngenerator = Generator.from_pretrained("{made.repo_id}@{made.commit}")'


def main(words: Sequence[str]) -> None:
    """Run the command with these words after its name."""
    run(PublishArguments, show_and_publish, __doc__, words=words, prog="ganaug publish")
