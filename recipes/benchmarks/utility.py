"""Do images of the default preset help a classifier? In several settings, against the best training without them.

Each setting (utility_cases.py) trains a generator by the default preset, on the very images it augments or on others,
and evaluates it by the rule of recipes/evaluate.py: a quarter of the held-out images chooses the ratio, the others
judge. A setting takes the better part of an hour on two cores, as a rule 50 classifiers of 60 to 100 seconds of one
core each; of the generators, the largest takes another 27 minutes. Finished generators and classifiers are kept, so
that a command that was stopped goes on.

    python recipes/benchmarks/utility.py
    python recipes/benchmarks/utility.py --table outputs/utility/utility.json
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from textwrap import fill
from typing import Any, cast

from common import Results, fill_and_show, machine, require_known, spread
from utility_cases import SETTINGS, Case, prepare

from ganaug import LabelledImages
from ganaug.cli.flags import run
from ganaug.core.hardware import set_cpu_threads
from ganaug.evaluation import Utility, UtilitySettings, classification_accuracy, evaluate, utility
from ganaug.evaluation.statistics import Difference, paired_difference
from ganaug.evaluation.utility import outcome_of
from ganaug.training.presets import PSEUDO_LABELLED

MOST_TRIES = 50  # images drawn for one that the filter keeps


@dataclass(frozen=True)
class Arguments:
    """Flags of this benchmark.

    Args:
        settings: Which settings; all by default.
        utility: How the classifiers are trained.
        output_dir: Folder for the generators and utility.json, to which results are added.
        processes: Classifiers trained at a time on a CPU, each by one thread; by default one for each core.
        table: Train nothing: print the table of this utility.json.
    """

    settings: tuple[str, ...] = tuple(SETTINGS)
    utility: UtilitySettings = field(default_factory=UtilitySettings)
    output_dir: Path = Path("outputs/utility")
    processes: int | None = None
    table: Path | None = None


def train_and_judge(key: str, args: Arguments) -> dict[str, Any]:
    """Train the generator of a setting, and evaluate it."""
    setting = SETTINGS[key]
    case = prepare(setting, args.output_dir / (setting.generator or key))
    settings, processes = replace(args.utility, horizontal_flip=setting.flip), args.processes or set_cpu_threads(None)
    compare = against_pseudo_labels if setting.generator_from == PSEUDO_LABELLED else alone if setting.alone else mixed
    counts = [count for count in case.images.class_counts if count]
    return {
        "name": setting.name,
        "generator_from": setting.generator_from,
        "images_per_class": len(case.images) / len(case.images.classes),
        "imbalance": max(counts) / min(counts),
        "kimg": case.generator.info["training"]["total_kimg"],
        "steps": args.utility.steps,
        "batch_size": args.utility.batch_size,
        **compare(case, settings=settings, processes=processes),
    }


def mixed(case: Case, *, settings: UtilitySettings, processes: int) -> dict[str, Any]:
    """Generated images beside real ones, by evaluate()."""
    found = evaluate(
        case.images,
        case.held_out,
        {"flow": case.generator},
        accept=case.accept,
        max_tries=MOST_TRIES,
        settings=settings,
        processes=processes,
    )
    verdict, judged = found.utility.verdicts["flow"], found.judged["flow"]
    return {
        "best_without": found.utility.reference.name,
        "with": verdict.primary.arm.name,
        "ratio": verdict.primary.arm.ratio,
        "recommended_ratio": verdict.recommended_ratio,
        "scores": scores(found.utility),
        "sentence": verdict.sentence,
        **outcome(verdict.difference),
        "label_fidelity": judged.fidelity.label_fidelity,
        "real_label_fidelity": judged.fidelity.real_label_fidelity,
        "diversity": judged.fidelity.mean_diversity,
        "lowest_diversity": judged.fidelity.lowest_diversity,
        "near_copies": judged.memorization.near_copies,
        "closer_to_train": judged.memorization.closer_to_train,
    }


def against_pseudo_labels(case: Case, *, settings: UtilitySettings, processes: int) -> dict[str, Any]:
    """Generated images beside real ones, against pseudo-labelled ones; both chosen as evaluate() chooses."""
    settings = replace(settings, learning_curve=False)
    compare = partial(utility, held_out=case.held_out, settings=settings, processes=processes)
    helped = compare(case.images, generators={"flow": case.generator})
    plain = compare(cast(LabelledImages, case.pseudo_labelled), generators={})
    primary, test = helped.verdicts["flow"].primary, helped.test
    reference = plain.arms[plain.reference.name]
    without = {_with_pseudo_labels(name): each for name, each in scores(plain).items()}
    return {
        "best_without": _with_pseudo_labels(reference.arm.name),
        "with": primary.arm.name,
        "ratio": primary.arm.ratio,
        "scores": scores(helped) | without,
        **outcome(paired_difference(primary.correct, reference.correct, test.targets, len(test.classes))),
    }


def _with_pseudo_labels(arm: str) -> str:
    return arm.replace("real", "real and pseudo-labelled", 1)


def alone(case: Case, *, settings: UtilitySettings, processes: int) -> dict[str, Any]:
    """Generated images alone against real ones."""
    train = partial(classification_accuracy, case.images, case.held_out, settings=settings, processes=processes)
    real = train()
    generated = train(case.generator, accept=case.accept, max_tries=MOST_TRIES)
    return {
        "best_without": "real + classic",
        "with": "generated only",
        "ratio": 1.0,
        "scores": {"real + classic": real.scores.tolist(), "generated only": generated.scores.tolist()},
        **outcome(paired_difference(generated.correct, real.correct, real.targets, real.num_classes)),
    }


def scores(found: Utility) -> dict[str, list[float]]:
    """Balanced accuracy on the test images, for each arm and seed."""
    return {name: result.scores.tolist() for name, result in found.arms.items()}


def outcome(difference: Difference) -> dict[str, Any]:
    """A difference and its verdict, as JSON values."""
    ends = {key: getattr(difference, key) for key in ("estimate", "low", "high", "p")}
    return {"outcome": outcome_of(difference), "difference": ends}


def measure(args: Arguments, results: Results) -> Iterator[None]:
    """Train and judge the settings that are not there yet."""
    require_known(args.settings, SETTINGS, "settings")
    results["machine"] = machine()
    rows = results.setdefault("rows", {})
    for key in args.settings:
        if key not in rows:
            rows[key] = train_and_judge(key, args)
            yield


def table(results: Results) -> str:
    """Markdown table of results."""
    lines = [
        "| real images | generator trained on | steps | best without generated images | with them, at ratio "
        "| difference, points [95 % interval] | verdict |",
        "|---|---|---|---|---|---|---|",
    ]
    for found in results["rows"].values():
        scores, gain = found["scores"], found["difference"]
        lines.append(
            f"| {found['name']} | {found['generator_from']}, {found['kimg']:g} kimg "
            f"| {found['steps']:,} of {found['batch_size']} "
            f"| {found['best_without']}: {spread(scores[found['best_without']])} "
            f"| {spread(scores[found['with']])} at {found['ratio']:g} "
            f"| **{100 * gain['estimate']:+.1f}** [{100 * gain['low']:.1f}, {100 * gain['high']:.1f}] "
            f"| {found['outcome']} |"
        )
    return "\n".join(lines)


def plot(results: Results, path: Path) -> None:
    """Differences with their intervals, one line for each setting."""
    from matplotlib.figure import Figure

    rows = list(results["rows"].values())
    figure = Figure(figsize=(8, 0.75 * len(rows) + 1.2), layout="constrained")
    axes = figure.subplots()
    for y, found in enumerate(rows):
        low, middle, high = (100 * found["difference"][key] for key in ("low", "estimate", "high"))
        axes.errorbar(middle, y, xerr=[[middle - low], [high - middle]], fmt="o", color="C0", capsize=3)
    axes.axvline(0, color="grey", linewidth=1)
    names = [f"{fill(found['name'], 44)}\n(generator: {found['generator_from']})" for found in rows]
    axes.set_yticks(range(len(rows)), names)
    axes.invert_yaxis()
    axes.set_xlabel("gain by generated images, points")
    figure.savefig(path, dpi=110)


def main(args: Arguments) -> None:
    """Measure, and print the table of all results so far."""
    fill_and_show("utility", args, measure, table, plot)


if __name__ == "__main__":
    run(Arguments, main, __doc__)
