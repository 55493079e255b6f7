"""An evaluation as files: report.json with all numbers, report.html to read."""

from __future__ import annotations

import os
import platform
from collections.abc import Mapping
from dataclasses import asdict
from datetime import datetime, timezone
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from PIL.Image import Image

from ganaug.core.files import write_json, write_text
from ganaug.core.hardware import best_device, has_bf16
from ganaug.data import LabelledImages, grids
from ganaug.evaluation.evaluate import Evaluation
from ganaug.evaluation.report.html import Picture, render_html
from ganaug.evaluation.utility import METHOD, ArmResult, Utility

_COLUMNS = 10  # classes in a grid; more would be too small to see


def write_report(
    evaluation: Evaluation, folder: str | Path, *, sources: Mapping[str, str], classifier: str
) -> dict[str, Any]:
    """Write ``report.json`` and ``report.html``, each whole or not at all; returns what is in the first.

    Args:
        evaluation (Evaluation): what was found.
        folder (str or Path): made if missing. Older reports in it are replaced.
        sources (mapping): generator name to the folder or Hub id it came from.
        classifier (str): name of the classifier.

    Raises:
        OSError: the folder cannot be written to.
    """
    report = report_of(evaluation, sources=sources, classifier=classifier)
    html = render_html(report, _pictures(evaluation))
    write_json(Path(folder) / "report.json", report)
    write_text(Path(folder) / "report.html", html)
    return report


def _pictures(evaluation: Evaluation) -> dict[str, Picture]:
    train = evaluation.utility.study.train
    pictures = {
        "real": Picture(
            "Real images",
            f"Grid of real training images, one class in each column: {_shown(train)}.",
            _grid(train),
            "The first training images of each class.",
        )
    }
    for name, judged in evaluation.judged.items():
        pictures[f"samples {name}"] = Picture(
            f"Images of {name}",
            f"Grid of generated images, one class in each column: {_shown(train)}.",
            _grid(judged.generated),
            "The first generated images of each class; nothing was selected.",
        )
        pictures[f"pairs {name}"] = Picture(
            "Closest pairs",
            "Pairs of a generated image and, beneath it, the training image that is nearest to it.",
            judged.pairs,
            "The generated images that are nearest to a training image, the nearest first.",
        )
    return pictures


def _shown(data: LabelledImages) -> str:
    more = f" and {len(data.classes) - _COLUMNS} more, which are not shown" if len(data.classes) > _COLUMNS else ""
    return ", ".join(data.classes[:_COLUMNS]) + more


def _grid(data: LabelledImages) -> Image:
    some = torch.nonzero(data.targets < _COLUMNS).squeeze(1)
    classes = data.classes[:_COLUMNS]
    return grids.real_grid(LabelledImages(data.images[some], data.targets[some], classes, data.name), rows=8)


def report_of(evaluation: Evaluation, *, sources: Mapping[str, str], classifier: str) -> dict[str, Any]:
    """All numbers of an evaluation as plain JSON values; shares and scores in [0, 1].

    Args:
        evaluation (Evaluation): what was found.
        sources (mapping): generator name to the folder or Hub id it came from.
        classifier (str): name of the classifier.
    """
    found = evaluation.utility
    study = found.study
    law = found.curve.fit()
    settings = asdict(study.settings)
    return {
        "format_version": 1,
        "created": datetime.now(timezone.utc).isoformat(timespec="seconds"),
        "ganaug_version": version("ganaug"),
        "data": {**_data(found), "left_out": evaluation.left_out},
        "settings": {
            **settings,
            "seeds": list(range(study.settings.seeds)),
            "ratios": list(study.settings.ratios),
            "classifier": classifier,
            "max_shift": study.classic.max_shift,
            "filter_of_generated_images": study.filter_name,
        },
        "method": list(METHOD),
        "metric": "balanced accuracy",
        "reference": found.reference.name,
        "arms": [_arm(result, found) for result in found.arms.values()],
        "skipped_arms": (
            {"real + classic + oversampling": "the classes are balanced, so it is the same as real + classic"}
            if study.balanced
            else {}
        ),
        "curve": {
            "points": [
                {"images": images, "scores": scores.tolist(), "mean": scores.mean().item(), "sd": scores.std().item()}
                for images, scores in zip(found.curve.images, found.curve.scores, strict=True)
            ],
            "fit": asdict(law) if law else None,
            "measured_to": found.curve.images[-1],
        },
        "generators": [_generator(name, evaluation, sources[name]) for name in found.verdicts],
        "cost": _cost(evaluation),
    }


def _data(found: Utility) -> dict[str, Any]:
    train = found.study.train
    return {
        "name": train.name,
        "held_out_name": found.study.held_out.name,
        "train_images": len(train),
        "train_counts": dict(zip(train.classes, train.class_counts, strict=True)),
        "validation_images": len(found.validation),
        "test_images": len(found.test),
        "image_size": train.image_size,
        "channels": train.channels,
        "classes": list(train.classes),
        "balanced": found.study.balanced,
        "fingerprint": train.fingerprint,
    }


def _arm(result: ArmResult, found: Utility) -> dict[str, Any]:
    difference = result.difference
    return {
        "name": result.arm.name,
        "generator": result.arm.generator,
        "ratio": result.arm.ratio if result.arm.generator else None,
        "scores": result.scores.tolist(),
        "mean": result.mean,
        "sd": result.scores.std().item(),
        "validation_mean": result.validation.mean().item(),
        "accuracy": result.accuracy,
        "macro_f1": result.macro_f1,
        "calibration_error": result.calibration_error,
        "recall": dict(zip(found.test.classes, result.recall.tolist(), strict=True)),
        "difference": None if difference is None else {**asdict(difference), "p_holm": result.p_holm},
        "seconds": result.seconds,
    }


def _generator(name: str, evaluation: Evaluation, source: str) -> dict[str, Any]:
    found, judged = evaluation.utility, evaluation.judged[name]
    verdict = found.verdicts[name]
    info = getattr(found.study.generators[name], "info", {})
    return {
        "name": name,
        "source": source,
        "verdict": {
            "outcome": verdict.outcome,
            "sentence": verdict.sentence,
            "arm": verdict.primary.arm.name,
            "ratio": verdict.primary.arm.ratio,
            "recommended_ratio": verdict.recommended_ratio,
            "difference": asdict(verdict.difference),
            "detectable": (verdict.difference.high - verdict.difference.low) / 2,
            "worth": asdict(verdict.worth) if verdict.worth else None,
        },
        "generated_only": found.arms[found.study.generated_arm(name, found.reference).name].mean,
        "fidelity": {**asdict(judged.fidelity), "inception": judged.inception},
        "memorization": asdict(judged.memorization),
        "leakage": asdict(evaluation.leakage[name]),
        "training": info.get("training", {}),
    }


def _cost(evaluation: Evaluation) -> dict[str, Any]:
    found = evaluation.utility
    device = best_device()
    return {
        "seconds": evaluation.seconds,
        "cells": found.cells,
        "cell_seconds": found.cell_seconds,
        "processes": found.processes,
        "machine": {
            "cpu": _cpu(),
            "cores": os.cpu_count() or 1,
            "device": device.type,
            "torch": torch.__version__,
            "python": platform.python_version(),
            "precision": "bf16" if has_bf16(device) else "fp32",
        },
    }


def _cpu() -> str:
    """Name of the processor; platform.processor() is empty on many Linux systems."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        lines = []
    named = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return named[0] if named else platform.processor() or platform.machine()
