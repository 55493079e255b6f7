"""The figures of a report, as SVG that stays readable on a phone."""

from __future__ import annotations

import io
import unicodedata
import warnings
from collections.abc import Callable, Sequence
from typing import Any

from ganaug.evaluation.report.contents import ArmFacts, GeneratorFacts, Report
from ganaug.evaluation.report.wording import percent, points
from ganaug.evaluation.statistics import Difference
from ganaug.evaluation.utility import in_images

WIDTH = 4.5  # inches; on a phone, 358 CSS px wide, 10 points are 11 px
MOST_CLASSES = 30  # rows of the recall plot
_INK, _SOFT = "#1a2029", "#4b5563"
_COLOURS = ("#0072b2", "#c44f00", "#00795a", "#8a4f7d")  # for the colour-blind too; the shapes differ
_SHAPES = ("D", "s", "^", "v")
_STYLE = {
    "font.size": 10,
    "axes.labelsize": 10,
    "legend.fontsize": 10,
    "xtick.labelsize": 10,
    "ytick.labelsize": 10,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.edgecolor": _SOFT,
    "axes.labelcolor": _INK,
    "text.color": _INK,
    "xtick.color": _SOFT,
    "xtick.labelcolor": _INK,
    "ytick.color": _SOFT,
    "ytick.labelcolor": _INK,
    "legend.frameon": False,
    "text.parse_math": False,  # a class may be called "$"
    "svg.fonttype": "none",  # the browser has fonts for every script
    "svg.hashsalt": "ganaug",  # the same report gives the same file
}


def forest_plot(report: Report) -> str:
    """Differences of all arms to the reference with their 95 % intervals, as SVG; primary arms are marked."""
    arms, primary = report.arms, report.primary_arms
    names = [generator.name for generator in report.generators]

    def draw(axes: Any) -> None:
        axes.axvline(0, color=_SOFT, linewidth=1)
        axes.set(xlim=_forest_range(arms), ylim=(len(arms) - 0.45, -0.55), yticks=[])
        across = axes.get_yaxis_transform()  # x in shares of the width, y in rows
        for row, arm in enumerate(arms):
            chosen = arm in primary
            colour, shape = _look(names.index(arm.generator)) if arm.generator else (_INK, "o")
            words = {"va": "center", "weight": "bold" if chosen else "normal", "transform": across}
            words["bbox"] = {"facecolor": "white", "edgecolor": "none", "pad": 1.2}  # the zero line stops at the words
            axes.text(0, row - 0.22, ("▸ " if chosen else "") + _arm_name(arm, report), **words)
            axes.text(1, row - 0.22, percent(arm.mean), ha="right", **words)
            _interval(axes, arm.difference, row + 0.16, colour, shape if chosen else "o", chosen)
            if row:
                axes.axhline(row - 0.5, color="#e3e7ec", linewidth=0.8, zorder=0)
        axes.spines["left"].set_visible(False)
        axes.xaxis.set_major_formatter(lambda value, _: points(value))
        axes.set_xlabel("← worse     difference in points     better →".replace(" ", "\N{NO-BREAK SPACE}"))

    return _svg(0.75 + 0.5 * len(arms), draw)


def learning_curve(report: Report) -> str:
    """Balanced accuracy against the number of real images, and what each generator's gain is worth in them, as SVG."""
    train, law, measured = report.data.train_images, report.curve.fit, report.curve.measured_to
    measures = report.curve.points
    ends = [_worth_end(generator, train) for generator in report.generators]
    first, last = measures[0].images, max([measured, train, *(end for end in ends if end)]) * 1.25

    def draw(axes: Any) -> None:
        axes.set_xscale("log")
        sizes, means = [point.images for point in measures], [100 * point.mean for point in measures]
        spread = [100 * point.sd for point in measures]
        axes.errorbar(sizes, means, spread, fmt="none", ecolor=_INK, capsize=3)
        axes.plot(sizes, means, "o", color=_INK, markersize=5, zorder=3, label="real images alone, ± sd over seeds")
        reference = 100 * report.reference_arm.mean
        axes.plot(train, reference, "o", color="none", markeredgecolor=_INK, markersize=11, label="the reference")
        if law:
            steps = [step / 50 for step in range(51)]
            for start, end, style, name in (
                (first, measured, "-", "fitted curve"),
                (measured, last, "--", "extrapolated"),
            ):
                drawn = [start * (end / start) ** step for step in steps]
                axes.plot(
                    drawn, [100 * law.score(size) for size in drawn], style, color=_SOFT, linewidth=1.3, label=name
                )
        for k, (generator, reached) in enumerate(zip(report.generators, ends, strict=True)):
            colour, shape = _look(k)
            score = report.arm(generator.verdict.arm).mean
            label = f"with images of {short(generator.name, 30)}{_worth(generator)}"
            axes.plot(train, 100 * score, shape, color=colour, markersize=8, zorder=5, label=label)
            if law and reached:
                # The difference is added to the curve, which may pass the reference's own point above or below.
                level = 100 * (law.score(train) + generator.verdict.difference.estimate)
                axes.plot(
                    [train, train, reached], [100 * score, level, level], ":", color=colour, linewidth=2, zorder=4
                )
                axes.plot(reached, level, "|" if reached < last / 1.2 else ">", color=colour, markersize=12, zorder=4)
        axes.set(xlim=(first / 1.2, last), xlabel="real training images", ylabel="balanced accuracy (%)")
        ticks = _log_ticks(first, last)
        axes.set_xticks(ticks, [f"{tick:,.0f}" for tick in ticks])
        axes.minorticks_off()
        axes.grid(alpha=0.35, linewidth=0.6)
        axes.figure.legend(loc="outside lower left", handlelength=1.6)

    return _svg(3.6 + 0.2 * len(report.generators), draw)


def recall_plot(report: Report) -> str:
    """Recall of each class with and without generated images, as SVG; of many classes, those that change most."""
    reference, changed = report.reference_arm.recall, recall_changes(report)
    classes = sorted(changed, key=lambda name: -abs(changed[name]))[:MOST_CLASSES]
    classes.sort(key=lambda name: -changed[name])

    def draw(axes: Any) -> None:
        before = [100 * reference[name] for name in classes]
        for k, (generator, arm) in enumerate(zip(report.generators, report.primary_arms, strict=True)):
            colour, shape = _look(k)
            after = [100 * arm.recall[name] for name in classes]
            rows = [row + 0.25 * (k - (len(report.generators) - 1) / 2) for row in range(len(classes))]
            axes.hlines(rows, before, after, color=colour, linewidth=1.6, alpha=0.7, zorder=2)
            label = f"with images of {short(generator.name, 30)}"
            axes.plot(after, rows, shape, color=colour, markersize=7, zorder=3, label=label)
        hollow = {"markerfacecolor": "white", "markeredgecolor": _INK, "markeredgewidth": 1.4, "markersize": 7}
        axes.plot(before, range(len(classes)), "o", **hollow, zorder=4, label="reference", linestyle="none")
        axes.set_yticks(range(len(classes)), [short(name, 18) for name in classes])
        axes.set(ylim=(len(classes) - 0.4, -0.6), xlabel="recall (%)")
        axes.tick_params(axis="y", length=0)
        axes.spines["left"].set_visible(False)
        axes.grid(alpha=0.35, linewidth=0.6)
        if len(classes) < len(changed):
            axes.set_title(f"the {len(classes)} of {len(changed)} classes that change most", fontsize=10, loc="right")
        axes.figure.legend(loc="outside lower left", handlelength=1.6)

    return _svg(1.2 + 0.26 * len(classes) + 0.2 * len(report.generators), draw)


def recall_changes(report: Report) -> dict[str, float]:
    """Class name to the change in recall from the reference, averaged over the generators' primary arms."""
    primary = report.primary_arms
    return {
        name: sum(arm.recall[name] for arm in primary) / len(primary) - before
        for name, before in report.reference_arm.recall.items()
    }


def short(name: str, most: int) -> str:
    """A name in at most ``most`` columns, without characters that SVG cannot hold; it is cut in the middle."""
    name = "".join(letter if letter.isprintable() else "�" for letter in name)
    if _columns(name) <= most:
        return name
    head, tail = name, name
    while _columns(head) > most - 1 - most // 3:
        head = head[:-1]
    while _columns(tail) > most // 3:
        tail = tail[1:]
    return f"{head}…{tail}"


def _columns(name: str) -> int:
    return sum(2 if unicodedata.east_asian_width(letter) in "WF" else 1 for letter in name)


def _svg(height: float, draw: Callable[[Any], None]) -> str:
    from matplotlib import style
    from matplotlib.figure import Figure

    file = io.StringIO()
    with style.context(["default", _STYLE]), warnings.catch_warnings():
        warnings.filterwarnings("ignore", ".*[Gg]lyph")  # the browser looks for them in other fonts
        figure = Figure(figsize=(WIDTH, height), layout="constrained")
        draw(figure.subplots())
        figure.savefig(file, format="svg", metadata={"Date": None})
    return file.getvalue()


def _look(generator: int) -> tuple[str, str]:
    return _COLOURS[generator % len(_COLOURS)], _SHAPES[generator % len(_SHAPES)]


def _arm_name(arm: ArmFacts, report: Report) -> str:
    if arm.difference is None:
        return short(arm.name, 32) + " (reference)"
    if _columns(arm.name) <= 42:
        return short(arm.name, 42)
    return short(arm.name.replace(report.reference + " + ", "… + ", 1), 36)


def _forest_range(arms: Sequence[ArmFacts]) -> tuple[float, float]:
    """Ends of the axis. An arm that is far off, such as generated images alone, must not squash the others."""
    mixed = [arm.difference for arm in arms if arm.difference and arm.ratio is not None and arm.ratio < 1]
    limit = max([0.005, *(3 * max(-each.low, each.high) for each in mixed)])
    shown = [arm.difference for arm in arms if arm.difference and abs(arm.difference.estimate) <= limit]
    low, high = min([0, *(each.low for each in shown)]), max([0, *(each.high for each in shown)])
    margin = 0.06 * max(high - low, 0.01)
    return low - margin, high + margin


def _interval(axes: Any, difference: Difference | None, row: float, colour: str, shape: str, chosen: bool) -> None:
    if difference is None:
        axes.plot(0, row, "o", color="white", markeredgecolor=colour, markeredgewidth=1.4, markersize=7, zorder=4)
        return
    estimate, (left, right) = difference.estimate, axes.get_xlim()
    if left < estimate < right:
        axes.plot([difference.low, difference.high], [row, row], color=colour, linewidth=2.6 if chosen else 1.5)
        axes.plot(estimate, row, shape, color=colour, markersize=9 if chosen else 6, zorder=4)
        return
    edge, arrow, side, away = (left, "<", "left", 10) if estimate <= left else (right, ">", "right", -10)
    axes.plot(edge, row, arrow, color=colour, markersize=8, clip_on=False)
    near = {"xytext": (away, 0), "textcoords": "offset points", "ha": side, "va": "center"}
    axes.annotate(f"off the scale: {points(estimate)}", (edge, row), color=_SOFT, **near)


def _worth_end(generator: GeneratorFacts, train: int) -> float | None:
    """Number of real images that gives the score with generated ones; None if it is not known."""
    worth = generator.verdict.worth
    return max(1.0, train + worth.images) if worth else None


def _worth(generator: GeneratorFacts) -> str:
    verdict = generator.verdict
    if not verdict.worth or verdict.outcome not in ("helps", "hurts"):
        return ""
    return f":\n{in_images(verdict.worth)}"


def _log_ticks(first: float, last: float) -> list[float]:
    for steps in ((1, 2, 5), (1, 3), (1,)):
        ticks = [float(step * 10**power) for power in range(9) for step in steps]
        ticks = [tick for tick in ticks if first / 1.2 <= tick <= last]
        if len(ticks) <= 6:
            break
    return ticks
