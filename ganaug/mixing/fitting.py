"""Fitting a generator to a dataset that came without one, once, in a separate process; the generator is kept."""

from __future__ import annotations

import io
import json
import logging
import os
import re
import shutil
import subprocess
import sys
from collections import deque
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import IO, Any, cast

import torch
from safetensors.torch import load_file
from torch.utils.data import get_worker_info

from ganaug.core import fingerprints
from ganaug.core.errors import DataError, InputError
from ganaug.core.files import build_once, user_cache, write_json, write_tensors
from ganaug.data import LabelledImages, open_images
from ganaug.generators.base import Generator
from ganaug.hub.config import FORMAT_VERSION
from ganaug.hub.registry import registered_generators
from ganaug.training import MODELS, GANObjective, TrainingSettings, choose_preset, fit

logger = logging.getLogger(__name__)

LARGEST = 64  # pixels: the largest side that the preset draws in reasonable time
FACTOR = 2  # sides are multiples of it

_INSTEAD = (
    "Instead, train a generator with ganaug train --train_data_dir FOLDER --resolution 64, and pass the "
    "folder of that run"
)
_JOB, _IMAGES = "job.json", "images.safetensors"
# -c, because -m would run this module a second time besides the one that the package has imported.
_RUN_JOB = "import sys; from ganaug.mixing.fitting import run_job; run_job(*sys.argv[1:])"
# Variables by which launchers tell a process its rank.
_LAUNCHER = re.compile(
    r"((LOCAL|GROUP|ROLE)_)?(RANK|WORLD_SIZE)|ROLE_NAME|MASTER_(ADDR|PORT)|"
    r"(TORCHELASTIC|ACCELERATE|MPI|OMPI|PMI|MV2)_.*"
)


def fit_generator(dataset: Any, *, resolution: int | None = None, cache_dir: str | Path | None = None) -> Path:
    """Fit a generator to a dataset with the default preset, or find the one fitted to the same images before.

    It is trained in a separate process, which takes no part in the accelerate state, the random state or the process
    group of this one. Of several processes that ask at once, one trains and the others wait.

    Args:
        dataset: an object that :func:`ganaug.open_images` takes; its images before any transform.
        resolution (int, optional): side to resize and crop the images to, in pixels. Default: that of the images
        cache_dir (str or Path, optional): where generators are kept. Default: :func:`ganaug.core.files.user_cache`

    Returns:
        Path: folder of the generator.

    Raises:
        InputError: the images cannot be read, or have a size that the preset does not draw.
        ValueError: the dataset's class names cannot be a generator's.
        RuntimeError: this is a DataLoader worker, or the training failed; then nothing is kept.
        OSError: the folder cannot be written to or the disk is full.
    """
    if get_worker_info() is not None:
        raise RuntimeError(
            "a DataLoader worker cannot fit a generator. Make the dataset before the loader starts, or pass a "
            "generator"
        )
    images = _open(dataset, resolution)
    job = _job(images)
    key = fingerprints.of_values(
        images.fingerprint,
        *(job[name] for name in ("architecture", "network", "settings", "objective")),
        FORMAT_VERSION,
    )
    folder = Path(cache_dir or user_cache()).absolute() / "fitted" / key[:32]
    if folder.exists():
        logger.info("using the generator that was fitted to these images before: %s", folder)
    return build_once(folder, partial(_train, images, job, folder), what=f"a generator for {images.name}")


def suitable_resolution(height: int, width: int) -> int:
    """Side, in pixels, to resize and crop images to, so that the preset can draw them.

    Args:
        height (int), width (int): of the images, in pixels.
    """
    return max(FACTOR, min(height, width, LARGEST) // FACTOR * FACTOR)


def _open(dataset: Any, resolution: int | None) -> LabelledImages:
    try:
        images = open_images(dataset, resolution=resolution)
    except DataError as error:
        raise DataError(f"no generator can be fitted to this dataset: {error}. {_INSTEAD}") from error
    height, width = images.images.shape[2:]
    if height != width or height % FACTOR or height > LARGEST:
        raise InputError(
            f"no generator can be fitted to {images.name}: the default preset draws squares whose side is even and "
            f"at most {LARGEST} pixels, and these images are {width}x{height}. {_INSTEAD}"
        )
    return images


def _job(images: LabelledImages) -> dict[str, Any]:
    """What the training process must know besides pixels and labels, as plain JSON values."""
    # The generator is made here too: it refuses class names that cannot be, and knows its network's options.
    preset = choose_preset(images)
    model = MODELS[preset.model]
    with torch.random.fork_rng(devices=[]):
        generator = model.make_generator(images)
    return {
        "architecture": generator.architecture,
        "network": generator.network_options(),
        "settings": asdict(preset.settings),
        "objective": asdict(model.objective),
        "classes": images.classes,
        "name": images.name,
        "preset": str(preset),
    }


def _train(images: LabelledImages, job: dict[str, Any], kept_in: Path, output: Path) -> None:
    """Fill the folder ``output`` with a generator, trained in a separate process."""
    logger.warning(
        "No generator was given, so one is fitted first to %s: %d images of %dx%d pixels, %d classes. It takes "
        "minutes, is kept in %s and used again for the same images. A generator of your own goes in as the second "
        "argument\n%s",
        images.name,
        len(images),
        images.image_size,
        images.image_size,
        len(images.classes),
        kept_in,
        job["preset"],
    )
    folder = output / "job"  # inside, so that it is cleaned up with the rest if this process is killed
    folder.mkdir(parents=True)
    write_tensors(folder / _IMAGES, {"images": images.images, "targets": images.targets})
    write_json(folder / _JOB, job)
    code, last_lines = _run_showing_output([sys.executable, "-c", _RUN_JOB, str(folder), str(output)], cwd=folder)
    if code:
        raise RuntimeError(
            f"fitting a generator to {images.name} failed; its process ended with "
            f"{f'exit code {code}' if code > 0 else f'signal {-code}'}. Its last lines: {last_lines or 'none'}\n"
            f"Nothing was kept. Remove the cause and try again. {_INSTEAD}"
        )
    shutil.rmtree(folder)


def _run_showing_output(command: list[str], *, cwd: Path) -> tuple[int, str]:
    """Run a command and pass on to standard error what it writes, as it comes; returns its exit code and last lines.

    If this process is killed, the command ends too: the next time it writes to the pipe, nobody reads from it.
    """
    none, pipe, same = subprocess.DEVNULL, subprocess.PIPE, subprocess.STDOUT
    with subprocess.Popen(command, cwd=cwd, env=_environment(), stdin=none, stdout=pipe, stderr=same) as process:
        last = deque[str](maxlen=10)
        try:
            # newline="" keeps line ends as they are; a progress bar's are carriage returns.
            with io.TextIOWrapper(cast(IO[bytes], process.stdout), "utf-8", "replace", newline="") as output:
                for piece in output:
                    sys.stderr.write(piece)
                    sys.stderr.flush()
                    if not piece.endswith("\r"):
                        last.append(piece)
        except BaseException:
            process.kill()
            raise
    return process.returncode, "".join(last).strip()


def _environment() -> dict[str, str]:
    """This process's environment, without a launcher's variables, and importing from the same places."""
    kept = {name: value for name, value in os.environ.items() if not _LAUNCHER.fullmatch(name)}
    return {**kept, "PYTHONPATH": os.pathsep.join(os.path.abspath(path) for path in sys.path)}


def run_job(job_folder: str, output: str) -> None:
    """Train as a job folder says, in the process that :func:`fit_generator` starts.

    Args:
        job_folder (str): folder with ``job.json`` and ``images.safetensors``.
        output (str): folder for the generator, made here.
    """
    job = json.loads(Path(job_folder, _JOB).read_text(encoding="utf-8"))
    stored = load_file(Path(job_folder, _IMAGES))
    images = LabelledImages(stored["images"], stored["targets"], tuple(job["classes"]), job["name"])
    settings = TrainingSettings(**job["settings"])
    cls = cast(type[Generator], registered_generators()[job["architecture"]])
    make = partial(cls, images.classes, image_size=images.image_size, channels=images.channels, **job["network"])
    fit(make, GANObjective(**job["objective"]), images, settings, output)
