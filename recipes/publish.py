"""Publish a trained generator on the Hugging Face Hub: weights, config, card, grid and report, and nothing else.

python recipes/publish.py outputs/flow user/repo --dry_run
python recipes/publish.py outputs/flow user/repo --licence mit
"""

from __future__ import annotations

from ganaug import publish
from ganaug.cli.flags import run
from ganaug.cli.publish import PublishArguments, check_licence, how_to_load, listing


def main(args: PublishArguments) -> None:
    """Show what is published, publish it, and say how to load it."""
    # A rehearsal: the files are checked, and the card is written, but not sent.
    planned = publish(args.folder, args.repo_id, dry_run=True, **args.options())
    print(f"{listing(planned)}\n\n{planned.card}")
    if args.dry_run:
        return

    # One commit with all files, which is there as a whole or not at all.
    check_licence(planned)
    made = publish(args.folder, args.repo_id, **args.options())
    print(f"published: {made.url}\n\n{how_to_load(made)}")


if __name__ == "__main__":
    run(PublishArguments, main, __doc__)
