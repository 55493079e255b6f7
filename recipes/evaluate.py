"""Do a generator's images help a classifier? Trains it with and without them, for a verdict with error bars.

    python recipes/evaluate.py --generator outputs/flow

Writes report.html and report.json, and adds the verdict to the card of a generator in a folder. Run a stopped command
again and it continues where it was: every trained classifier is kept.
"""

from __future__ import annotations

from ganaug import Generator
from ganaug.cli.draws import make_draws
from ganaug.cli.evaluate import EvaluateArguments, how_to_go_on, open_splits, processes_of, report_folder, tell
from ganaug.cli.flags import run
from ganaug.evaluation import evaluate, write_report
from ganaug.evaluation.inputs import by_short_names


def main(args: EvaluateArguments) -> None:
    """Evaluate, write the report, and print the verdict."""
    # The generators: one, or several that are compared.
    sources = by_short_names(args.generator)
    folder = report_folder(args)
    generators = {name: Generator.from_pretrained(source) for name, source in sources.items()}

    # Real images: to train on, further ones to compare generated images with, and those that judge.
    train, extra, held_out = open_splits(args, generators)

    # With --draws, other images that could have been collected, and generators trained on them.
    draws = make_draws(args.draws, train, extra, generators)

    # Classifiers of several seeds, without generated images and with several shares of them.
    evaluation = evaluate(
        train,
        held_out,
        generators,
        factory=args.factory,
        settings=args.settings,
        extra=extra,
        vary=args.vary,
        draws=draws,
        leave_out_copies=args.leave_out_copies,
        inception_weights=args.inception_weights,
        processes=processes_of(args),
        budget_minutes=args.budget_minutes,
        fixed=args.fixed,
    )

    # What was found: in the report, on the generators' cards, and here.
    report = write_report(evaluation, folder, sources=sources, classifier=args.classifier_in_words)
    tell(report, folder, how_to_go_on(args, evaluation.utility))


if __name__ == "__main__":
    run(EvaluateArguments, main, __doc__)
