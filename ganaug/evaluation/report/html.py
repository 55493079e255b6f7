"""The report of an evaluation as one self-contained HTML file."""

from __future__ import annotations

import io
from collections.abc import Mapping
from dataclasses import asdict, dataclass

from jinja2 import Environment, PackageLoader, StrictUndefined
from PIL import Image

from ganaug.evaluation.learning_curve import Worth
from ganaug.evaluation.memorization import Memorization
from ganaug.evaluation.report import figures
from ganaug.evaluation.report.contents import GeneratorFacts, Report
from ganaug.evaluation.report.drawing import data_uri
from ganaug.evaluation.report.wording import FILTERS, count, drawn_by, interval, percent, points

LEAST_DIVERSITY = 0.5  # of a class, relative to real images; the report warns of less
FEW_TRAININGS = 2  # of each arm; the report warns of so few

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
        settings=asdict(report.settings),
        forest={"svg": figures.forest_plot(report), "alt": _forest_words(report)},
        curve={"svg": figures.learning_curve(report), "alt": _curve_words(report)},
        recall={"svg": figures.recall_plot(report), "alt": _recall_words(report)},
        meanings={generator.name: _meaning(report, generator) for generator in report.generators},
        copying={generator.name: _copying(generator.memorization) for generator in report.generators},
        distances=SET_DISTANCES,
        least_diversity=LEAST_DIVERSITY,
        few_trainings=FEW_TRAININGS,
    )
    return html.encode("utf-8", "replace").decode()  # the name of a folder may hold what UTF-8 cannot


def _meaning(report: Report, generator: GeneratorFacts) -> list[str]:
    """The verdict in plain sentences."""
    verdict = generator.verdict
    with_them, without = percent(report.arm(verdict.arm).mean), percent(report.reference_arm.mean)
    sentences = [
        f"With {100 * verdict.ratio:g} % of the training images generated, the classifier reached a balanced "
        f"accuracy of {with_them} on {count(report.data.test_images)} real test images; without generated "
        f"images, {without}."
    ]
    if verdict.outcome == "helps":
        sentences.append("The whole 95 % interval lies above zero, so chance is an unlikely explanation.")
    elif verdict.outcome == "hurts":
        sentences.append(
            "The whole 95 % interval lies below zero, so chance is an unlikely explanation. Train without them."
        )
    else:
        sentences.append(
            "The 95 % interval includes zero: these images may have helped a little, hurt a little, or done nothing. "
            f"Effects of less than about {100 * verdict.detectable:.1f} points cannot be told from chance here; "
            "more seeds or more test images would show smaller ones."
        )
    if verdict.worth and verdict.outcome in ("helps", "hurts"):
        sentences.append(_worth_words(verdict.worth, report.curve.measured_to))
    use = verdict.recommended_ratio
    sentences.append(f"On the validation images the best choice was {f'ratio {use:g}' if use else 'to mix in none'}.")
    return sentences


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
        f"{interval(generator.verdict.difference)} points: {generator.verdict.outcome}."
        for generator in report.generators
    ]
    best = max(report.arms, key=lambda arm: arm.mean)
    return " ".join([*found, f"Best of all {len(report.arms)}: {best.name}, {percent(best.mean)}."])


def _curve_words(report: Report) -> str:
    first, last = report.curve.points[0], report.curve.points[-1]
    found = [
        f"With {drawn_by(generator.name)} it is {percent(arm.mean)} at {count(report.data.train_images)} real images."
        for generator, arm in zip(report.generators, report.primary_arms, strict=True)
    ]
    start = f"Balanced accuracy is {percent(last.mean)} with {count(last.images)} real images"
    if first != last:
        start += f", and {percent(first.mean)} with {count(first.images)}"
    return " ".join([f"{start}.", *found])


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
