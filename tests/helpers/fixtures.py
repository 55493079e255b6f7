"""Shared fixtures, and how tests are ordered and leave memory. No test reads or writes the global random state."""

from __future__ import annotations

import gc
import random
import runpy
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import sklearn.datasets  # noqa: F401 - its first import moves the random module's state, in whichever test it comes
import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState

from ganaug import LabelledImages, bundled_digits
from ganaug.generators import ACGAN28Generator
from helpers.generators import make_generator
from helpers.images import THREE
from helpers.programs import as_a_program, give_freed_memory_back, recipe_path, without_page


@pytest.fixture(autouse=True)
def _global_random_state_untouched() -> Iterator[None]:
    """Every test checks that nothing moved a global random state."""
    before = (torch.get_rng_state(), np.random.get_state()[1].copy(), random.getstate())
    yield
    assert torch.equal(before[0], torch.get_rng_state()), "torch's global random state was moved"
    assert np.array_equal(before[1], np.random.get_state()[1]), "numpy's global random state was moved"
    assert before[2] == random.getstate(), "the random module's state was moved"


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    # Files go to whichever process is free, in this order; those that take longest first, or one process waits long
    # for the other's last.
    items.sort(key=lambda item: "training" not in item.path.parts)


def pytest_collection_finish() -> None:
    give_freed_memory_back()
    gc.collect()
    gc.freeze()  # a million objects that stay for ever, which no later collection needs to look at


@pytest.fixture(autouse=True, scope="module")
def _memory_given_back() -> Iterator[None]:
    """A file's networks, which refer to themselves, end with it, and so does the memory that they took."""
    yield
    gc.collect()
    give_freed_memory_back()


@pytest.fixture(scope="session")
def digits() -> LabelledImages:
    return bundled_digits("train")


@pytest.fixture
def accelerator() -> Iterator[Accelerator]:
    """Of one process on the CPU, in fp32."""
    AcceleratorState._reset_state(True)
    yield Accelerator(cpu=True)
    AcceleratorState._reset_state(True)


@pytest.fixture(scope="session")
def generator() -> ACGAN28Generator:
    return make_generator()


@pytest.fixture(scope="session")
def three() -> ACGAN28Generator:
    """Generator of the classes and size of ``small_images``."""
    return make_generator(THREE, image_size=12)


@pytest.fixture(scope="session")
def generator_folder(generator: ACGAN28Generator, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("generator")
    generator.save_pretrained(folder)
    return folder


@pytest.fixture
def in_process(monkeypatch, tmp_path):
    """Run a recipe with some flags in this process: the code it exits with, None after a good run."""
    monkeypatch.chdir(tmp_path)

    def recipe(*flags: str, name: str = "train_flow", page: bool = False) -> int | str | None:
        monkeypatch.setattr(sys, "argv", [recipe_path(name), *flags])
        try:
            with pytest.MonkeyPatch.context() as patch, as_a_program():
                if not page:
                    without_page(patch)
                runpy.run_path(recipe_path(name), run_name="__main__")
        except SystemExit as exit_:
            return exit_.code
        return None

    return recipe
