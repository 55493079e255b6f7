"""The figures of a report, as SVG that stays readable on a phone."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ganaug.evaluation.report.contents import ArmFacts, GeneratorFacts, Report
from ganaug.evaluation.report.drawing import INK, LINE, PALE, SOFT, WIDTH, look, svg, wrapped
from ganaug.evaluation.report.wording import drawn_by, percent, points
from ganaug.evaluation.statistics import Difference
from ganaug.evaluation.utility import in_images

MOST_CLASSES = 30  # rows of the recall plot
_AXIS = 0.75  # inches below a plot, for its ticks and label


def forest_plot(report: Report) -> str:
    """Differences of all arms to the reference with their 95 % intervals; primary arms are marked.

    Args:
        report (Report): of :func:`ganaug.evaluate` or :func:`ganaug.evaluation.report_of`.

    Returns:
        str: the text of an SVG file. In a notebook, ``IPython.display.SVG`` shows it.

    Raises:
        ImportError: matplotlib is not installed.
    """
    arms, primary = report.arms, report.primary_arms
    names = [generator.name for generator in report.generators]

    # Each row has a name at its left, in as many lines as it needs, its interval, and its score at the right.
    labels = [wrapped(_arm_name(arm, report), WIDTH / 3, bold=arm in primary) for arm in arms]
    rows, height = _rows(labels, 0.16)

    def draw(axes: Any) -> None:
        axes.axvline(0, color=SOFT, linewidth=1, gid="zero")
        axes.set(xlim=_forest_range(arms), ylim=(height, 0))
        scores = axes.secondary_yaxis("right")
        axes.set_yticks(rows, ["\n".join(label) for label in labels])
        scores.set_yticks(rows, [percent(arm.mean) for arm in arms])
        for k, (arm, row) in enumerate(zip(arms, rows, strict=True)):
            chosen = arm in primary
            colour, shape = look(names.index(arm.generator)) if arm.generator else (INK, "o")
            _interval(axes, arm.difference, row, colour, shape if chosen else "o", chosen)
            for words in (axes.get_yticklabels()[k], scores.get_yticklabels()[k]):
                words.set_weight("bold" if chosen else "normal")
            axes.axhline(row + len(labels[k]) * LINE / 2 + 0.08, color=PALE, linewidth=0.8, zorder=0)
        for side in (axes, scores):
            side.tick_params(axis="y", length=0, pad=7)
            side.spines[:].set_visible(False)
        axes.spines["bottom"].set_visible(True)
        axes.xaxis.set_major_locator(_few_ticks(*axes.get_xlim()))
        axes.xaxis.set_major_formatter(lambda value, _: points(value).removesuffix(".0"))
        axes.set_xlabel("difference in points\n← worse   better →".replace(" ", "\N{NO-BREAK SPACE}"))

    return svg(height + _AXIS + LINE, draw)


def learning_curve(report: Report) -> str:
    """Balanced accuracy against the number of real images, and what each generator's gain is worth in them, as SVG."""
    train, law, measured = report.data.train_images, report.curve.fit, report.curve.measured_to
    measures = report.curve.points
    ends = [_worth_end(generator, train) for generator in report.generators]
    labels = [_legend(generator) + _worth(generator) for generator in report.generators]
    first, last = measures[0].images, max([measured, train, *(end for end in ends if end)]) * 1.25

    left = first / 1.2  # of the plot, whose right end is last

    def draw(axes: Any) -> None:
        axes.set_xscale("log")
        sizes, means = [point.images for point in measures], [100 * point.mean for point in measures]
        spread = [100 * point.sd for point in measures]
        axes.errorbar(sizes, means, spread, fmt="none", ecolor=INK, capsize=3)
        axes.plot(sizes, means, "o", color=INK, markersize=5, zorder=3, label="real images alone, ± sd over seeds")
        reference = 100 * report.reference_arm.mean
        axes.plot(train, reference, "o", color="none", markeredgecolor=INK, markersize=11, label="the reference")
        if law:
            steps = [step / 50 for step in range(51)]
            for start, end, style, name in (
                (first, measured, "-", "fitted curve"),
                (measured, last, "--", "extrapolated"),
            ):
                drawn = [start * (end / start) ** step for step in steps]
                axes.plot(
                    drawn, [100 * law.score(size) for size in drawn], style, color=SOFT, linewidth=1.3, label=name
                )
        for k, (generator, reached, label) in enumerate(zip(report.generators, ends, labels, strict=True)):
            colour, shape = look(k)
            score = report.arm(generator.verdict.arm).mean
            axes.plot(train, 100 * score, shape, color=colour, markersize=8, zorder=5, label="\n".join(label))
            if law and reached:
                # The difference is added to the curve, which may pass the reference's own point above or below.
                level = 100 * (law.score(train) + generator.verdict.difference.estimate)
                stop = max(reached, left)
                axes.plot([train, train, stop], [100 * score, level, level], ":", color=colour, linewidth=2, zorder=4)
                mark = "<" if reached < left else "|" if reached < last / 1.2 else ">"
                axes.plot(stop, level, mark, color=colour, markersize=12, zorder=4, clip_on=False)
        axes.set(xlim=(left, last), xlabel="real training images", ylabel="balanced accuracy (%)")
        ticks = _log_ticks(first, last)
        axes.set_xticks(ticks, [f"{tick:,.0f}" for tick in ticks])
        axes.minorticks_off()
        axes.grid(alpha=0.35, linewidth=0.6)
        axes.figure.legend(loc="outside lower left", handlelength=1.6)

    return svg(3.8 + LINE * sum(map(len, labels)), draw)


def recall_plot(report: Report) -> str:
    """Recall of each class with and without generated images, as SVG; of many classes, those that change most."""
    reference, changed = report.reference_arm.recall, recall_changes(report)
    classes = sorted(changed, key=lambda name: -abs(changed[name]))[:MOST_CLASSES]
    classes.sort(key=lambda name: -changed[name])

    names = [wrapped(name, WIDTH / 3) for name in classes]
    rows, height = _rows(names, 0.1)
    labels = [_legend(generator) for generator in report.generators]

    def draw(axes: Any) -> None:
        before = [100 * reference[name] for name in classes]
        for k, (label, arm) in enumerate(zip(labels, report.primary_arms, strict=True)):
            colour, shape = look(k)
            after = [100 * arm.recall[name] for name in classes]
            lanes = [row + 0.07 * (k - (len(labels) - 1) / 2) for row in rows]
            axes.hlines(lanes, before, after, color=colour, linewidth=1.6, alpha=0.7, zorder=2)
            axes.plot(after, lanes, shape, color=colour, markersize=7, zorder=3, label="\n".join(label))
        hollow = {"markerfacecolor": "white", "markeredgecolor": INK, "markeredgewidth": 1.4, "markersize": 7}
        axes.plot(before, rows, "o", **hollow, zorder=4, label="reference", linestyle="none")
        axes.set_yticks(rows, ["\n".join(name) for name in names])
        axes.set(ylim=(height, 0), xlabel="recall (%)")
        axes.tick_params(axis="y", length=0)
        axes.spines["left"].set_visible(False)
        axes.grid(alpha=0.35, linewidth=0.6)
        if len(classes) < len(changed):
            axes.set_title(f"the {len(classes)} of {len(changed)} classes that change most", loc="right")
        axes.figure.legend(loc="outside lower left", handlelength=1.6)

    return svg(height + _AXIS + 0.6 + LINE * sum(map(len, labels)), draw)


def recall_changes(report: Report) -> dict[str, float]:
    """Class name to the change in recall from the reference, averaged over the generators' primary arms."""
    primary = report.primary_arms
    return {
        name: sum(arm.recall[name] for arm in primary) / len(primary) - before
        for name, before in report.reference_arm.recall.items()
    }


def _arm_name(arm: ArmFacts, report: Report) -> str:
    if arm.difference is None:
        return f"{arm.name} (reference)"
    return f"▸ {arm.name}" if arm in report.primary_arms else arm.name


def _legend(generator: GeneratorFacts) -> list[str]:
    """Lines of a legend, which has room for a mark at its left."""
    return wrapped(f"with {drawn_by(generator.name)}", WIDTH - 0.7)


def _rows(names: Sequence[Sequence[str]], space: float) -> tuple[list[float], float]:
    """Middles of rows as high as the lines of their names and a space, and the height of all, in inches."""
    heights = [LINE * len(name) + space for name in names]
    return [sum(heights[:row]) + height / 2 for row, height in enumerate(heights)], sum(heights)


def _few_ticks(low: float, high: float) -> Any:
    """Places for so few ticks that their labels stay apart in a third of the width; whole points have short ones."""
    from matplotlib.ticker import MaxNLocator

    return MaxNLocator(nbins=5 if high - low > 0.05 else 4, steps=[1, 2, 5, 10])


def _forest_range(arms: Sequence[ArmFacts]) -> tuple[float, float]:
    """Ends of the axis. An arm that is far off, such as generated images alone, must not squash the others."""
    mixed = [arm.difference for arm in arms if arm.difference and arm.ratio is not None and arm.ratio < 1]
    limit = max([0.005, *(3 * max(-each.low, each.high) for each in mixed)])
    shown = [arm.difference for arm in arms if arm.difference and abs(arm.difference.estimate) <= limit]
    low, high = min([0, *(each.low for each in shown)]), max([0, *(each.high for each in shown)])

    # What is off the scale is written in numbers at that end, which needs room beside the zero line.
    estimates = [arm.difference.estimate for arm in arms if arm.difference]
    if min(estimates, default=0) < -limit:
        low = min(low, -high)
    if max(estimates, default=0) > limit:
        high = max(high, -low)
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
    if estimate <= left:
        axes.text(left, row, f" ← {points(estimate)}", color=colour, ha="left", va="center")
    else:
        axes.text(right, row, f"{points(estimate)} → ", color=colour, ha="right", va="center")


def _worth_end(generator: GeneratorFacts, train: int) -> float | None:
    """Number of real images that gives the score with generated ones; None if it is not known."""
    worth = generator.verdict.worth
    return max(1.0, train + worth.images) if worth else None


def _worth(generator: GeneratorFacts) -> list[str]:
    verdict = generator.verdict
    if not verdict.worth or verdict.outcome not in ("helps", "hurts"):
        return []
    return wrapped(in_images(verdict.worth), WIDTH - 0.7)


def _log_ticks(first: float, last: float) -> list[float]:
    for steps in ((1, 2, 5), (1, 3), (1,)):
        ticks = [float(step * 10**power) for power in range(9) for step in steps]
        ticks = [tick for tick in ticks if first / 1.2 <= tick <= last]
        if len(ticks) <= 6:
            break
    return ticks
