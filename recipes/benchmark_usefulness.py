"""Do images of the default preset help a classifier? In several settings, each with the best that goes without them.

Each setting trains a generator by the default preset, on the very images it augments or on others, and evaluates it in
the way of recipes/evaluate.py, whose rule it shares: the ratio is chosen on a quarter of the held-out images, and the
others judge. Finished generators and classifiers are kept, so that a command that was stopped goes on.

    python recipes/benchmark_usefulness.py
    python recipes/benchmark_usefulness.py --table outputs/usefulness/usefulness.json
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any, cast

from results import machine
from usefulness_cases import Case, prepare
from usefulness_settings import SETTINGS
from usefulness_table import plot, table

from ganaug import InputError, LabelledImages
from ganaug.cli.flags import run
from ganaug.core.files import write_json
from ganaug.core.hardware import set_cpu_threads
from ganaug.evaluation import Utility, UtilitySettings, evaluate, utility
from ganaug.evaluation.cells import Cells, right_answers
from ganaug.evaluation.statistics import Difference, balanced_accuracy, paired_difference
from ganaug.evaluation.study import Arm, Study
from ganaug.evaluation.utility import outcome_of
from ganaug.training.usefulness import PSEUDO_LABELLED

MOST_TRIES = 50  # images drawn for one that the filter keeps


@dataclass(frozen=True)
class Arguments:
    """Flags of this benchmark.

    Args:
        settings: Which settings; all by default.
        utility: How the classifiers are trained.
        output_dir: Folder for the generators and usefulness.json, to which results are added.
        processes: Classifiers trained at a time on a CPU, each by one thread; by default one for each core.
        table: Train nothing: print the table of this usefulness.json.
    """

    settings: tuple[str, ...] = tuple(SETTINGS)
    utility: UtilitySettings = field(default_factory=UtilitySettings)
    output_dir: Path = Path("outputs/usefulness")
    processes: int | None = None
    table: Path | None = None


def measure(key: str, args: Arguments) -> dict[str, Any]:
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
    """What evaluate() says of generated images beside real ones."""
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
    """Generated images alone against real ones (classification accuracy score; Ravuri and Vinyals 2019)."""
    study = Study(
        case.images,
        case.held_out,
        {"flow": case.generator},
        settings=settings,
        accept=case.accept,
        max_tries=MOST_TRIES,
    )
    real = Arm("real + classic")
    generated = study.generated_arm("flow", real)
    answers = Cells(study, processes=processes).run([real, generated], "generated images alone")
    targets, classes = case.held_out.targets, len(case.held_out.classes)
    correct = {name: right_answers(cells, targets) for name, cells in answers.items()}
    return {
        "best_without": real.name,
        "with": generated.name,
        "ratio": 1.0,
        "scores": {name: balanced_accuracy(each, targets, classes).tolist() for name, each in correct.items()},
        **outcome(paired_difference(correct[generated.name], correct[real.name], targets, classes)),
    }


def scores(found: Utility) -> dict[str, list[float]]:
    """Of each arm, on the test images, one for each seed."""
    return {name: result.scores.tolist() for name, result in found.arms.items()}


def outcome(difference: Difference) -> dict[str, Any]:
    """A difference as JSON values, and what it says."""
    ends = {key: getattr(difference, key) for key in ("estimate", "low", "high", "p")}
    return {"outcome": outcome_of(difference), "difference": ends}


def main(args: Arguments) -> None:
    """Fill what is not there yet, and print the table of all results so far."""
    path = args.table or args.output_dir / "usefulness.json"
    results: dict[str, Any] = json.loads(path.read_text()) if path.exists() or args.table else {"rows": {}}
    if not args.table:
        unknown = [key for key in args.settings if key not in SETTINGS]
        if unknown:
            raise InputError(f"settings must be of {', '.join(SETTINGS)}; got {unknown[0]}")
        results["machine"] = machine()
        for key in args.settings:
            if key not in results["rows"]:
                results["rows"][key] = measure(key, args)
                write_json(path, results)
                plot(results, path.with_suffix(".png"))
    print(table(results))


if __name__ == "__main__":
    run(Arguments, main, __doc__)
