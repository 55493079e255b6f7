"""Publish a trained generator on the Hugging Face Hub: weights, config, card, grid and report, and nothing else.

python recipes/publish.py outputs/flow user/repo --dry_run
python recipes/publish.py outputs/flow user/repo --licence mit
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import tyro

from ganaug import InputError, publish
from ganaug.cli.flags import run
from ganaug.hub.upload import Publication


@dataclass(frozen=True)
class Arguments:
    """Flags of this recipe.

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


def main(args: Arguments) -> None:
    """Show what is published, publish it, and say how to load it."""
    options = {
        "licence": args.licence,
        "private": args.private or None,
        "branch": args.branch,
        "create_pr": args.create_pr,
        "endpoint": args.endpoint,
    }
    planned = publish(args.folder, args.repo_id, dry_run=True, **options)
    print(f"{listing(planned)}\n\n{planned.card}")
    if args.dry_run:
        return
    if "\nlicense: " not in planned.card:
        raise InputError(
            "the card names no licence, without which nobody may use the generator. Give one with --licence, such as "
            "--licence mit"
        )
    made = publish(args.folder, args.repo_id, **options)
    print(f"published: {made.url}\n\n{how_to_load(made)}")


def listing(planned: Publication) -> str:
    """The files that are published, and their sizes."""
    sizes = {name: path.stat().st_size for name, path in planned.files.items()}
    sizes["README.md"] = len(planned.card.encode())
    lines = [f"  {size:>12,} bytes  {name}" for name, size in sizes.items()]
    return "\n".join([f"to {planned.repo_id}:", *lines])


def how_to_load(made: Publication) -> str:
    """The lines that load what was published, pinned to its commit."""
    return f'from ganaug import Generator\ngenerator = Generator.from_pretrained("{made.repo_id}@{made.commit}")'


if __name__ == "__main__":
    run(Arguments, main, __doc__)
