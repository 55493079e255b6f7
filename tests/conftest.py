"""Shared fixtures. No test reads or writes the home directory, the network or the global random state."""

from __future__ import annotations

import os
import random
import runpy
import struct
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

# Tests run beside one another: threads that wait for work must not take the cores from them. Read with libgomp.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

import numpy as np
import pytest
import torch

# A home of the tests' own, and no token. huggingface_hub and datasets read these when they are imported.
_home = tempfile.TemporaryDirectory()
os.environ.update(dict.fromkeys(("HOME", "HF_HOME", "XDG_CACHE_HOME", "MPLCONFIGDIR"), _home.name))
os.environ.update(HF_HUB_DISABLE_TELEMETRY="1", HF_HUB_DISABLE_PROGRESS_BARS="1", HF_HUB_DISABLE_XET="1")
os.environ.pop("HF_TOKEN", None)

from accelerate import Accelerator  # noqa: E402
from accelerate.state import AcceleratorState  # noqa: E402

from ganaug import LabelledImages, bundled_digits  # noqa: E402
from ganaug.generators import ACGAN28Generator  # noqa: E402

REPOSITORY = Path(__file__).parent.parent
THREE = ("class 0", "class 1", "class 2")


@pytest.fixture(autouse=True)
def _global_random_state_untouched() -> Iterator[None]:
    """Every test checks that nothing moved a global random state."""
    before = (torch.get_rng_state(), np.random.get_state()[1].copy(), random.getstate())
    yield
    assert torch.equal(before[0], torch.get_rng_state()), "torch's global random state was moved"
    assert np.array_equal(before[1], np.random.get_state()[1]), "numpy's global random state was moved"
    assert before[2] == random.getstate(), "the random module's state was moved"


@pytest.fixture(scope="session")
def digits() -> LabelledImages:
    return bundled_digits("train")


def make_generator(names: tuple[str, ...] = tuple("0123456789"), **options: int) -> ACGAN28Generator:
    """Untrained generator whose weights are always the same."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        generator = ACGAN28Generator(names, **options)
        # One forward pass in training mode gives BatchNorm statistics that an evaluation pass can use.
        generator(torch.randn(64, generator.latent_dim), torch.arange(64) % len(names))
    return generator.eval()


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


def small_images(n: int = 60, classes: int = 3, size: int = 12, channels: int = 1, seed: int = 0) -> LabelledImages:
    """Noise with a class-dependent brightness; labels 0, 1, 2, 0, 1, ..."""
    rng = np.random.default_rng(seed)
    targets = torch.arange(n) % classes
    pixels = torch.from_numpy(rng.integers(0, 100, (n, channels, size, size), dtype=np.uint8))
    images = pixels + (targets * 50).to(torch.uint8)[:, None, None, None]
    return LabelledImages(images, targets, tuple(f"class {k}" for k in range(classes)), "noise")


def write_idx(path: Path, array: np.ndarray) -> None:
    """Write unsigned bytes in the IDX format."""
    path.parent.mkdir(parents=True, exist_ok=True)
    header = bytes([0, 0, 8, array.ndim]) + b"".join(struct.pack(">I", size) for size in array.shape)
    path.write_bytes(header + array.astype(np.uint8).tobytes())


def write_idx_pair(folder: Path, data: LabelledImages, prefix: str = "train") -> None:
    """Write grey images and their labels as the MNIST files do."""
    write_idx(folder / f"{prefix}-images-idx3-ubyte", data.images[:, 0].numpy())
    write_idx(folder / f"{prefix}-labels-idx1-ubyte", data.targets.numpy())


def recipe_path(name: str) -> str:
    return str(REPOSITORY / "recipes" / f"{name}.py")


@contextmanager
def as_a_program() -> Iterator[None]:
    """What a recipe may do in a process of its own: start accelerate, set threads, seed everything."""
    threads, numpy_state, python_state = torch.get_num_threads(), np.random.get_state(), random.getstate()
    AcceleratorState._reset_state(True)
    try:
        with torch.random.fork_rng():
            yield
    finally:
        AcceleratorState._reset_state(True)
        torch.set_num_threads(threads)
        np.random.set_state(numpy_state)
        random.setstate(python_state)


@pytest.fixture
def in_process(monkeypatch, tmp_path):
    """Run a recipe with some flags in this process: the code it exits with, None after a good run."""
    monkeypatch.syspath_prepend(str(REPOSITORY / "recipes"))
    monkeypatch.chdir(tmp_path)

    def recipe(*flags: str, name: str = "train_acgan") -> int | str | None:
        monkeypatch.setattr(sys, "argv", [recipe_path(name), *flags])
        try:
            with as_a_program():
                runpy.run_path(recipe_path(name), run_name="__main__")
        except SystemExit as exit_:
            return exit_.code
        return None

    return recipe
