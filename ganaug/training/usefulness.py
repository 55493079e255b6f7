"""What generated images were good for where it was measured: the table of recipes/benchmarks/utility.py."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from functools import cache
from importlib.resources import files
from typing import Any

SAME, OTHERS, UNLABELED = "the same images", "all other training images", "the same and unlabelled images"
PSEUDO_LABELLED = "those images"  # which the classifiers see too
IMBALANCED = 5  # largest class to smallest, from which on the rows of imbalanced images are the nearest


@cache
def measured() -> dict[str, Any]:
    """The table as it was measured, of which ``rows`` are the settings."""
    table: dict[str, Any] = json.loads(files("ganaug.training").joinpath("usefulness.json").read_text("utf-8"))
    return table


def expected_usefulness(class_counts: Sequence[int], *, unlabeled: bool = False) -> str:
    """What a generator trained on the images that it augments brought for about so many, in a sentence or two.

    Args:
        class_counts (sequence of int): labelled images of each class.
        unlabeled (bool): whether unlabelled ones are trained on too. Default: False
    """
    present = [count for count in class_counts if count]
    imbalanced = max(present) > IMBALANCED * min(present)
    table = list(measured()["rows"].values())
    own, helped_by_unlabeled = ([row for row in table if row["generator_from"] == what] for what in (SAME, UNLABELED))
    rows = helped_by_unlabeled if unlabeled and helped_by_unlabeled else own
    rows = [row for row in rows if (row["imbalance"] > IMBALANCED) == imbalanced] or rows
    mean = sum(class_counts) / len(class_counts)
    # Of several at one size, the one that promises least.
    row = min(rows, key=lambda row: (abs(math.log(mean / row["images_per_class"])), row["difference"]["estimate"]))
    estimate, low, high = (100 * row["difference"][key] for key in ("estimate", "low", "high"))
    found = f"{estimate:+.1f} points [{low:.1f}, {high:.1f}] of balanced accuracy"
    advice = {
        "helped": f"Expect about as much, at ratio {row['ratio']:g}",
        "no measurable effect": "Expect no gain",
        "hurt": "Expect harm",
    }[row["outcome"]]
    return (
        f"what to expect: nearest to your images, of what was measured, is {row['name']}. There, images of this "
        f"preset brought {found}. {advice}, and measure: recipes/evaluate.py"
    )
