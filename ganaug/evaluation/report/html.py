"""The report of an evaluation as one self-contained HTML file."""

from __future__ import annotations

import io
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from PIL import Image

from ganaug.evaluation.learning_curve import Worth
from ganaug.evaluation.memorization import Memorization
from ganaug.evaluation.report import figures
from ganaug.evaluation.report.contents import GeneratorFacts, Report, TrialFacts
from ganaug.evaluation.report.drawing import data_uri
from ganaug.evaluation.report.wording import FILTERS, MINUS, SPACE, count, drawn_by, interval, percent, points
from ganaug.evaluation.verdict import headline, in_words, margin_in_words, within

LEAST_DIVERSITY = 0.5  # of a class, relative to real images; the report warns of less
FEW_REPEATS = 2  # seeds or draws; the report warns of so few

# Name, what it says, and how it is written.
SET_DISTANCES = {
    "fd_cnn": ("FD-cnn", "Fréchet distance between the features of both sets; 0 if they are alike", "number"),
    "kd_cnn": ("KD-cnn", "kernel distance, the same for few images; 0 if they are alike", "number"),
    "precision": ("precision", "share of images that lie where real ones do", "percent"),
    "recall": ("recall", "share of real images that the set comes close to", "percent"),
    "density": ("density", "how many real neighbours an image has; about 1 for real images", "number"),
    "coverage": ("coverage", "share of real images with one of the set next to them", "percent"),
}


@dataclass(frozen=True)
class Picture:
    """A picture for the report.

    Args:
        title (str): its heading.
        alt (str): what it shows, for those who cannot see it.
        image (PIL.Image.Image): the picture.
        caption (str): how to read it.
    """

    title: str
    alt: str
    image: Image.Image
    caption: str


def render_html(report: Report, pictures: Mapping[str, Picture]) -> str:
    """The report as the text of one HTML file, without scripts and without anything loaded from elsewhere.

    Args:
        report (Report): of :func:`ganaug.evaluation.report_of`.
        pictures (mapping): ``"real"``, and ``"samples NAME"`` and ``"pairs NAME"`` of every generator.

    Raises:
        ImportError: matplotlib is not installed.
        jinja2.UndefinedError: something is missing from the report.
    """
    environment = Environment(
        loader=PackageLoader("ganaug.evaluation.report", "."),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update(FILTERS, png=_png, svg=data_uri)
    html = environment.get_template("report.html.j2").render(
        report=report,
        pictures=pictures,
        settings=_settings(report),
        tried=_by_steps(trial for trial in report.search.trials if trial.generator is None),
        ratios=_by_steps(trial for trial in report.search.trials if trial.generator is not None),
        forest={"svg": figures.forest_plot(report), "alt": _forest_words(report)},
        curve=_curve(report),
        recall={"svg": figures.recall_plot(report), "alt": _recall_words(report)},
        answers={generator.name: _answer(report, generator) for generator in report.generators},
        sentences={generator.name: _sentence(report, generator) for generator in report.generators},
        meanings={generator.name: _meaning(report, generator) for generator in report.generators},
        copying={generator.name: _copying(generator.memorization) for generator in report.generators},
        distances=SET_DISTANCES,
        least_diversity=LEAST_DIVERSITY,
        few_repeats=FEW_REPEATS,
    )
    html = re.sub(r"(?<=\d) %", f"{SPACE}%", html)  # a number and its sign stay on one line
    return html.encode("utf-8", "replace").decode()  # the name of a folder may hold what UTF-8 cannot


def _answer(report: Report, generator: GeneratorFacts) -> str:
    """The verdict's answer, with its reservation if it has one."""
    return headline(generator.verdict.outcome, report.search.too_short)


def _sentence(report: Report, generator: GeneratorFacts) -> str:
    """The verdict's sentence without its answer, with the minus signs of the page."""
    verdict, made = generator.verdict, in_words(generator.verdict.difference)
    return verdict.sentence.removeprefix(f"{_answer(report, generator)}: ").replace(made, made.replace("-", MINUS), 1)


def _meaning(report: Report, generator: GeneratorFacts) -> list[str]:
    """What the verdict means for the reader, in plain sentences."""
    verdict, margin = generator.verdict, report.settings.margin
    size = margin_in_words(margin)
    low, high = map(points, verdict.difference.interval(0.9))
    with_them, without = percent(report.arm(verdict.arm).mean), percent(report.reference_arm.mean)
    sentences = [
        f"With {100 * verdict.ratio:g} % of the training images generated, the classifier reached a balanced "
        f"accuracy of {with_them} on {count(report.data.test_images)} real test images; without generated "
        f"images, {without}."
    ]
    longer = (
        "But these classifiers were trained too briefly, and with longer training it may be otherwise: train them for "
        "longer before you decide."
    )
    if verdict.outcome == "no worthwhile effect":
        advice = longer if report.search.too_short else "So train without them. More seeds are not needed."
        sentences.append(
            f"The 90 % interval, {low} to {high} points, lies within {size} of zero, the margin that was fixed "
            "beforehand (two one-sided tests at 5 %). Whatever the effect is, it is too small to be worthwhile. "
            f"{advice}"
        )
    elif verdict.outcome == "cannot tell yet":
        sentences.append(
            f"The 95 % interval includes zero, and the 90 % interval, {low} to {high} points, reaches beyond the "
            f"margin of {size} that was fixed beforehand. So these images may help, hurt or do nothing: until it is "
            "known, train without them."
        )
        sentences.append("What would tell is worked out as if the difference stayed as it is.")
    else:
        side, advice = (
            ("above", f"Mix them in at ratio {verdict.recommended_ratio:g}.")
            if verdict.outcome == "helps"
            else ("below", "Train without them.")
        )
        advice = longer if report.search.too_short else advice
        sentences.append(f"The whole 95 % interval lies {side} zero, so chance is an unlikely explanation. {advice}")
        if within(verdict.difference, margin):
            sentences.append(
                f"The effect is real but small: the 90 % interval, {low} to {high} points, lies within {size} of "
                "zero, the margin that was fixed beforehand."
            )
        if verdict.worth:
            sentences.append(_worth_words(verdict.worth, report.curve.measured_to))
    return sentences


def _by_steps(trials: Iterable[TrialFacts]) -> dict[str, Any]:
    """A table with a row for each way of training and learning rate, and a column for each number of steps."""
    rows: dict[tuple[str, float], dict[int, TrialFacts]] = {}
    for trial in trials:
        rows.setdefault((trial.name, trial.learning_rate_factor), {})[trial.steps] = trial
    return {"rows": rows, "steps": sorted({steps for row in rows.values() for steps in row})}


def _settings(report: Report) -> list[tuple[str, Any]]:
    made = report.settings
    return [
        ("classifier", made.classifier),
        ("seeds of the judged trainings", f"{made.seeds[0]} to {made.seeds[-1]}"),
        ("steps, at first", made.steps),
        ("steps, at most", made.max_steps),
        ("images in a step", made.batch_size),
        ("augmentations that were tried", made.augmentations),
        ("ratios of generated images", made.ratios),
        ("margin of a worthwhile effect, in points", made.margin),
        ("shift of classic augmentation, in pixels", made.max_shift),
        ("flip of classic augmentation", made.horizontal_flip),
        ("filter of generated images", made.filter_of_generated_images),
        ("strength of variations of training images", made.vary),
        ("learning curve", made.learning_curve),
    ]


def _worth_words(worth: Worth, measured_to: int) -> str:
    images = count(abs(worth.images))
    if worth.images < 0:
        return f"The loss is as large as that of having {images} fewer real images."
    about = "More than" if worth.beyond else "About"
    low, high = (
        f"no {end} bound" if bound is None else count(bound)
        for end, bound in (("lower", worth.low), ("upper", worth.high))
    )
    words = f"{about} {images} extra real images would have given the same gain (95 % interval: {low} to {high})."
    if worth.extrapolated:
        words += f" That is extrapolated: nothing was measured beyond {count(measured_to)} real images."
    return words


def _forest_words(report: Report) -> str:
    found = [
        f"The generator “{generator.name}” at ratio {generator.verdict.ratio:g} changes balanced accuracy by "
        f"{interval(generator.verdict.difference)} points: {_answer(report, generator)}."
        for generator in report.generators
    ]
    best = max(report.arms, key=lambda arm: arm.mean)
    return " ".join([*found, f"Best of all {len(report.arms)}: {best.name}, {percent(best.mean)}."])


def _curve(report: Report) -> dict[str, str] | None:
    """The learning curve and its words; None if it was not measured: the reference alone is no curve."""
    if len(report.curve.points) < 2:
        return None
    return {"svg": figures.learning_curve(report), "alt": _curve_words(report)}


def _curve_words(report: Report) -> str:
    first, last = report.curve.points[0], report.curve.points[-1]
    found = [
        f"With {drawn_by(generator.name)} it is {percent(arm.mean)} at {count(report.data.train_images)} real images."
        for generator, arm in zip(report.generators, report.primary_arms, strict=True)
    ]
    start = (
        f"Balanced accuracy is {percent(last.mean)} with {count(last.images)} real images, and {percent(first.mean)} "
        f"with {count(first.images)}."
    )
    return " ".join([start, *found])


def _recall_words(report: Report) -> str:
    changed = figures.recall_changes(report)
    most, least = max(changed, key=changed.__getitem__), min(changed, key=changed.__getitem__)
    gained = sum(round(change, 3) > 0 for change in changed.values())
    lost = sum(round(change, 3) < 0 for change in changed.values())
    return (
        f"With generated images, recall rises for {gained} and falls for {lost} of {len(changed)} classes; most for "
        f"{most} ({points(changed[most])} points), least for {least} ({points(changed[least])} points)."
    )


def _copying(found: Memorization) -> list[str]:
    """Signs that training images were copied, in sentences; empty if there are none."""
    signs = []
    if found.exact_copies > 0:
        signs.append(f"{percent(found.exact_copies)} of its images are exact copies of training images.")
    for share, low, what in (
        (found.closer_to_train, found.closer_to_train_low, "pixels"),
        (found.closer_to_train_features, found.closer_to_train_features_low, "features"),
    ):
        if low > 0.5:
            signs.append(
                f"{percent(share)} of its images are closer to a training image than to any held-out one, by "
                f"{what}; 50 % would be chance."
            )
    return signs


def _png(image: Image.Image) -> str:
    file = io.BytesIO()
    image.save(file, "PNG", optimize=True)
    return data_uri(file.getvalue())
