"""An evaluation as files: report.json with all numbers, report.html to read, and the verdict on a generator's card."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path

import torch
from PIL.Image import Image

from ganaug.core.errors import InputError
from ganaug.core.files import write_json, write_text
from ganaug.data import LabelledImages, grids
from ganaug.evaluation.evaluate import Evaluation
from ganaug.evaluation.report.contents import ArmFacts, Report, report_of
from ganaug.evaluation.report.html import Picture, render_html
from ganaug.evaluation.report.wording import drawn_by
from ganaug.hub.card import CardArm, CardClass, CardDifference, CardVerdict, write_verdict

_COLUMNS = 10  # classes in a grid; more would be too small to see


def write_report(evaluation: Evaluation, folder: str | Path, *, sources: Mapping[str, str], classifier: str) -> Report:
    """Write ``report.json`` and ``report.html``, each whole or not at all.

    Args:
        evaluation (Evaluation): what was found.
        folder (str or Path): created if it does not exist. Older reports in it are replaced.
        sources (mapping): generator name to the folder or Hub id it came from.
        classifier (str): name of the classifier.

    Returns:
        Report: what ``report.json`` holds.

    Raises:
        OSError: the folder cannot be written to.
    """
    report = report_of(evaluation, sources=sources, classifier=classifier)
    html = render_html(report, _pictures(evaluation))
    write_json(Path(folder) / "report.json", asdict(report))
    write_text(Path(folder) / "report.html", html)
    return report


def _pictures(evaluation: Evaluation) -> dict[str, Picture]:
    train = evaluation.utility.study.train
    more = len(train.classes) - _COLUMNS
    shown = ", ".join(train.classes[:_COLUMNS]) + (f" and {more} more, which are not shown" if more > 0 else "")
    pictures = {
        "real": Picture(
            "Real images",
            f"Grid of real training images, one class in each column: {shown}.",
            _grid(train),
            "The first training images of each class.",
        )
    }
    for name, judged in evaluation.judged.items():
        pictures[f"samples {name}"] = Picture(
            f"The generator “{name}”",
            f"Grid of {drawn_by(name)}, one class in each column: {shown}.",
            _grid(judged.generated),
            "The first images of each class that it drew; nothing was selected.",
        )
        pictures[f"pairs {name}"] = Picture(
            "Closest pairs",
            "Pairs of a generated image and, beneath it, the training image that is nearest to it.",
            judged.pairs,
            "The generated images that are nearest to a training image, the nearest first, each with its distance, "
            "the root mean square over the pixels from 0 to 1, and the class that was asked for.",
        )
    return pictures


def _grid(data: LabelledImages) -> Image:
    some = data.subset(torch.nonzero(data.targets < _COLUMNS).squeeze(1), data.name)
    return grids.real_grid(LabelledImages(some.images, some.targets, data.classes[:_COLUMNS], data.name), rows=8)


def add_verdicts(report: Report) -> list[str]:
    """Write each verdict into the model card of its generator, where that came from a folder.

    Returns:
        list of str: for each card that it could not be written into, a sentence that says why.
    """
    problems = []
    for found in report.generators:
        card = Path(found.source) / "README.md"
        if card.is_file():
            try:
                add_verdict(card, report, found.name)
            except (InputError, OSError) as error:  # the evaluation is done, and its other results are told
                problems.append(f"the verdict was not written into {card}: {error}")
    return problems


def add_verdict(card: str | Path, report: Report, name: str) -> None:
    """Write the verdict on a generator into its model card, and its scores into the card's ``model-index``.

    Good or bad: see :func:`ganaug.hub.card.write_verdict`.

    Args:
        card (str or Path): README.md of the generator.
        report (Report): of :func:`write_report` or :func:`report_of`.
        name (str): the generator's name in the report.

    Raises:
        OSError: the card cannot be read or written.
        ValueError: its metadata is not valid.
    """
    found, data, settings = report.generator(name), report.data, report.settings
    made = found.verdict.difference
    arms = [arm for arm in report.arms if arm.generator in (None, name)]
    write_verdict(
        card,
        CardVerdict(
            generator=name,
            sentence=found.verdict.sentence,
            covers=report.covers,
            arms=tuple(_card_arm(arm) for arm in arms),
            reference=_card_arm(report.reference_arm),
            primary=_card_arm(report.arm(found.verdict.arm)),
            generated_only=_card_arm(next(arm for arm in arms if arm.ratio == 1)),
            difference=CardDifference(made.estimate, made.low, made.high),
            data=data.name,
            train_images=data.train_images,
            test_images=data.test_images,
            classifier=settings.classifier,
            steps=report.reference_arm.steps,
            batch_size=settings.batch_size,
            label_fidelity=found.fidelity.label_fidelity,
            real_label_fidelity=found.fidelity.real_label_fidelity,
            lowest_diversity=found.fidelity.lowest_diversity,
            lowest_diversity_class=found.fidelity.lowest_diversity_class,
            classes=tuple(
                CardClass(
                    name,
                    report.reference_arm.recall[name],
                    report.arm(found.verdict.arm).recall[name],
                    found.fidelity.label_fidelity_per_class[name],
                    found.fidelity.diversity.get(name),
                )
                for name in data.classes
            ),
            exact_copies=found.memorization.exact_copies,
            near_copies=found.memorization.near_copies,
            varied=settings.vary is not None,
            leakage=found.leakage.note,
            left_out=data.left_out_in_words,
            ganaug_version=report.ganaug_version,
            created=report.created,
        ),
    )


def _card_arm(arm: ArmFacts) -> CardArm:
    difference = None
    if arm.difference is not None:
        difference = CardDifference(arm.difference.estimate, arm.difference.low, arm.difference.high)
    return CardArm(arm.name, arm.mean, arm.sd, arm.accuracy, len(arm.scores), difference)
