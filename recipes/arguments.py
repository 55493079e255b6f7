"""Flags that several recipes share, as dataclasses for tyro."""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TypeVar

import tyro

from ganaug import InputError, LabelledImages, open_images

Arguments = TypeVar("Arguments")


@dataclass(frozen=True)
class DataArguments:
    """Labelled images; without a flag, the bundled MNIST digits.

    Args:
        train_data_dir: Folder with one subfolder of images per class, or with IDX files (plain or .gz).
        dataset_name: HF dataset: a Hub id, or a local folder that load_dataset reads.
        dataset_config_name: Configuration of the HF dataset.
        resolution: Resize the shorter side to this many pixels and crop the centre; default: the images' own size.
    """

    train_data_dir: Path | None = None
    dataset_name: str | None = None
    dataset_config_name: str | None = None
    resolution: int | None = None

    def open(self, split: str = "train") -> LabelledImages:
        """Open the images of a split."""
        return open_images(**asdict(self), split=split)


def run(
    arguments: type[Arguments],
    main: Callable[[Arguments], None],
    description: str | None,
    default: Arguments | None = None,
) -> None:
    """Parse the flags and run ``main`` with them; a wrong input ends in one line instead of a traceback."""
    try:
        main(
            tyro.cli(
                arguments,
                description=description,
                default=default,
                use_underscores=True,
                config=(tyro.conf.OmitArgPrefixes, tyro.conf.FlagCreatePairsOff),
            )
        )
    except (InputError, FloatingPointError, OSError) as error:
        sys.exit(f"error: {error}")
