"""Do images of the default preset help a classifier? In several settings, against the best training without them.

Each setting (utility_cases.py) is judged by the rule of recipes/evaluate.py, over several draws of its images and as
many trainings of the generator. On draw 0, a quarter of the held-out images chooses the reference and the ratio; on
the other draws, the other images judge. A setting takes about one to two hours on two cores, most of it for
classifiers. Finished generators and classifiers are kept, so that a command that was stopped goes on.

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

import torch
from common import Results, fill_and_show, machine, plot_for_a_phone, require_known, spread
from torch import Tensor
from utility_cases import SETTINGS, Case, factory_of, held_out_of, prepare

from ganaug import LabelledImages
from ganaug.cli.flags import run
from ganaug.core.files import build_once, read_tensors, write_tensors
from ganaug.core.hardware import best_device, set_cpu_threads
from ganaug.core.text import in_points
from ganaug.evaluation import (
    Draw,
    Draws,
    ShiftFlip,
    TrivialAugment,
    Utility,
    UtilitySettings,
    predict,
    train_semi_supervised,
    utility,
)
from ganaug.evaluation.report.drawing import LINE
from ganaug.evaluation.statistics import balanced_accuracy, paired_difference
from ganaug.evaluation.verdict import answer, headline
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
    """Train the generators of a setting, and evaluate it."""
    setting = SETTINGS[key]
    folder = args.output_dir / (setting.generator or key)
    cases = [prepare(setting, folder, draw) for draw in range(setting.draws + 1)]
    settings = replace(args.utility, horizontal_flip=setting.flip, learning_curve=False, seeds=setting.draws)
    if setting.pretrained:  # fine-tuning is shorter
        settings = replace(settings, steps=settings.steps // 4, max_steps=settings.max_steps // 4)
    if setting.alone:  # only a reason to have an arm beside real images; it is not what is judged
        settings = replace(settings, ratios=settings.ratios[-1:])
    judge = partial(
        utility,
        held_out=held_out_of(setting),
        factory=factory_of(setting, args.output_dir),
        settings=settings,
        max_tries=MOST_TRIES,
        processes=args.processes or set_cpu_threads(None),
    )
    found = judge(
        cases[0].images,
        generators={"flow": cases[0].generator},
        accept=cases[0].accept,
        draws=Draws(tuple(Draw(case.images, {"flow": case.generator}) for case in cases[1:])),
    )
    reference, helped = found.arms[found.reference.arm.name], found.verdicts["flow"].primary
    if setting.alone:
        helped = next(result for result in found.arms.values() if result.arm.ratio == 1)
    without = reference.arm.name
    if setting.consistent:
        steps, test = settings.max_steps, found.test
        answers = [answers_of_both(case, found, steps, folder / f"{k}-both") for k, case in enumerate(cases[1:], 1)]
        correct = torch.stack(answers) == test.targets
        reference = replace(
            reference,
            arm=replace(reference.arm, name=(without := "real and unlabelled, by consistency"), steps=steps),
            correct=correct,
            scores=balanced_accuracy(correct, test.targets, len(test.classes)),
        )
    elif setting.generator_from == PSEUDO_LABELLED:
        draws = tuple(Draw(cast(LabelledImages, case.pseudo_labelled), {}) for case in cases[1:])
        plain = judge(cast(LabelledImages, cases[0].pseudo_labelled), generators={}, draws=Draws(draws))
        reference = plain.arms[plain.reference.arm.name]
        without = reference.arm.name.replace("real", "real and pseudo-labelled", 1)
    seeds, test = len(helped.scores), found.test
    difference = paired_difference(
        helped.correct, reference.correct[:seeds], test.targets, len(test.classes), range(seeds)
    )
    outcome, note = answer(difference, settings.margin, repeated="draws", test_images=len(test))
    counts = cases[0].images.class_counts
    ends = {end: getattr(difference, end) for end in ("estimate", "low", "high", "p")}
    return {
        "name": setting.name,
        "generator_from": ", ".join(filter(None, [setting.generator_from, setting.model])),
        "classifier": setting.classifier + ", pre-trained on digits" * setting.pretrained,
        "images_per_class": len(cases[0].images) / len(counts),
        "imbalance": max(counts) / min(counts),
        "kimg": cases[0].generator.info["training"]["total_kimg"],
        "draws": found.draws,
        "steps": reference.arm.steps,
        "learning_rate_factor": reference.arm.learning_rate_factor,
        "batch_size": settings.batch_size,
        "best_without": without,
        "rising": found.reference.rising,
        "with": helped.arm.name,
        "ratio": helped.arm.ratio,
        "scores": {without: reference.scores.tolist(), helped.arm.name: helped.scores.tolist()},
        "beside": {name: result.scores.tolist() for name, result in found.arms.items()},
        "search": [
            [trial.arm.name, trial.arm.steps, trial.arm.learning_rate_factor, trial.mean] for trial in found.search
        ],
        "outcome": outcome,
        "note": note,
        "too_short": found.too_short,
        "difference": ends,
    }


def answers_of_both(case: Case, found: Utility, steps: int, path: Path) -> Tensor:
    """The classes, int64 (N,), of the test images by a classifier of a draw's labelled and unlabelled images."""
    both, test = cast(LabelledImages, case.pseudo_labelled), found.test
    weak = ShiftFlip.like(case.images, flip=found.study.settings.horizontal_flip)

    def build(path: Path) -> None:
        classifier = train_semi_supervised(
            case.images,
            both.images[len(case.images) :],
            found.study.factory,
            weak=weak,
            strong=TrivialAugment(weak),
            steps=steps,
            device=best_device(),
        )
        write_tensors(path, {"predicted": predict(classifier, test.images)})

    path = path.with_name(f"{path.name}-{len(test)}-{steps}.safetensors")
    return read_tensors(build_once(path, build, what="a classifier of labelled and unlabelled images"))["predicted"]


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
        "| real images | generator trained on | classifier | best without generated images | with them, at ratio "
        "| difference, points [95 % interval] | verdict |",
        "|---|---|---|---|---|---|---|",
    ]
    for found in results["rows"].values():
        scores, gain = found["scores"], found["difference"]
        note = f": {found['note']}" if found["note"] else ""
        draws = f"{found['draws']} draws" if found["draws"] > 1 else "one draw"
        lines.append(
            f"| {found['name']}, {draws} | {found['generator_from']}, {found['kimg']:g} kimg "
            f"| {found['classifier']} "
            f"| {found['best_without']}, {found['steps']:,} steps: {spread(scores[found['best_without']])} "
            f"| {spread(scores[found['with']])} at {found['ratio']:g} "
            f"| {in_points(gain['estimate'], gain['low'], gain['high'])} "
            f"| {headline(found['outcome'], found.get('too_short', ''))}{note} |"
        )
    return "\n".join(lines)


def plot(results: Results, path: Path) -> None:
    """Differences with their intervals, one line for each setting."""
    rows = list(results["rows"].values())
    one, *others = dict.fromkeys(found["classifier"] for found in rows)  # one classifier is named below
    names = []
    for found in rows:
        saw = found["generator_from"] + (f"; {found['classifier']}" if others else "")
        names.append("\n".join(fill(part, 25, break_on_hyphens=False) for part in (found["name"], f"({saw})")))
    heights = [LINE * (1.6 + name.count("\n")) for name in names]  # inches: lines of text, and what parts two rows
    middles = [sum(heights[:row]) + height / 2 for row, height in enumerate(heights)]
    with plot_for_a_phone(path, sum(heights) + 1) as axes:
        for y, found in zip(middles, rows, strict=True):
            low, middle, high = (100 * found["difference"][key] for key in ("low", "estimate", "high"))
            axes.errorbar(middle, y, xerr=[[middle - low], [high - middle]], fmt="o", color="C0", capsize=3)
        axes.axvline(0, color="grey", linewidth=1)
        axes.set_yticks(middles, names)
        axes.set_ylim(sum(heights), 0)
        axes.figure.suptitle("real images\n(images that the generator saw)", x=0.01, ha="left", fontsize="medium")
        axes.set_xlabel("gain, points" if others else f"gain of {one}, points")


def main(args: Arguments) -> None:
    """Measure, and print the table of all results so far."""
    fill_and_show("utility", args, measure, table, plot)


if __name__ == "__main__":
    run(Arguments, main, __doc__)
