"""Fitting a generator to a dataset that came without one, once, in a separate process; the generator is kept.

The training is a run with checkpoints, in a folder beside the generator's; if it is stopped, the next call resumes it.
"""

from __future__ import annotations

import io
import json
import logging
import os
import re
import shutil
import subprocess
import sys
import time
from collections import deque
from dataclasses import asdict
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import IO, Any, cast

import torch
from filelock import FileLock
from safetensors.torch import load_file
from torch.utils.data import get_worker_info
from tqdm import tqdm

from ganaug.core import fingerprints
from ganaug.core.errors import DataError, InputError, LoadError
from ganaug.core.files import build_once, user_cache, write_json, write_tensors
from ganaug.data import LabelledImages, open_images
from ganaug.generators.base import Generator
from ganaug.hub.config import FORMAT_VERSION
from ganaug.hub.folder import load
from ganaug.hub.missing import CHECKPOINTS
from ganaug.hub.registry import registered_generators
from ganaug.training import MODELS, GANObjective, StoppedError, TrainingSettings, choose_preset, fit

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
_LOCK = ".lock"  # held in a run's folder by the process that trains there
_BAR = "{n}/{total}\n"  # the training's progress bar, as _PROGRESS reads it
_PROGRESS = re.compile(r"\s*(\d+)/(\d+)\s*")
TIMED = 5.0  # seconds of training before it says how long the rest takes
LAST_STEP = 30.0  # seconds that a stopped training has for its last step and a checkpoint
# Variables by which launchers tell a process its rank, and those by which users change what progress bars look like.
_NOT_PASSED_ON = re.compile(
    r"TQDM_.*|((LOCAL|GROUP|ROLE)_)?(RANK|WORLD_SIZE)|ROLE_NAME|MASTER_(ADDR|PORT)|"
    r"(TORCHELASTIC|ACCELERATE|MPI|OMPI|PMI|MV2)_.*"
)


def fit_generator(dataset: Any, *, resolution: int | None = None, cache_dir: str | Path | None = None) -> Path:
    """Fit a generator to a dataset with the default preset, or find the one fitted to the same images before.

    It is trained in a separate process, which takes no part in the accelerate state, the random state or the process
    group of this one. Of several processes that ask at once, one trains and the others wait. If it is stopped or
    killed, the next call for the same images resumes it from the last checkpoint, to the same generator bit for bit.

    Args:
        dataset: an object that :func:`ganaug.open_images` takes; its images before any transform.
        resolution (int, optional): side to resize and crop the images to, in pixels. Default: that of the images
        cache_dir (str or Path, optional): where generators are kept. Default: :func:`ganaug.core.files.user_cache`

    Returns:
        Path: folder of the generator.

    Raises:
        InputError: the images cannot be read, or have a size that the preset does not draw.
        ValueError: the dataset's class names cannot be a generator's.
        RuntimeError: this is a DataLoader worker, the training was stopped, or it failed; then nothing is kept.
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
        [FORMAT_VERSION, version("ganaug"), torch.__version__],
    )
    folder = Path(cache_dir or user_cache()).absolute() / "fitted" / key[:32]
    unfinished = folder.with_name(f".{folder.name}.unfinished")
    if folder.exists():
        logger.info("using the generator that was fitted to these images before: %s", folder)
    build_once(
        folder,
        partial(_train, images, job, folder, unfinished),
        what=f"a generator for {images.name}",
        problem=_problem_of,
    )
    shutil.rmtree(unfinished, ignore_errors=True)  # only now: a process may be killed before the folder is complete
    return folder


def _problem_of(folder: Path) -> str | None:
    try:
        load(folder)  # which compares the weights with their SHA-256
    except LoadError as error:
        return str(error)
    return None


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


def _train(images: LabelledImages, job: dict[str, Any], kept_in: Path, unfinished: Path, output: Path) -> None:
    """Fill the folder ``output`` with a generator, trained in a separate process in the folder ``unfinished``."""
    logger.warning(
        "No generator was given, so one is fitted first to %s: %d images of %dx%d pixels, %d classes. %s, is kept in "
        "%s and used again for the same images. A generator of your own goes in as the second argument\n%s",
        images.name,
        len(images),
        images.image_size,
        images.image_size,
        len(images.classes),
        "It goes on where an earlier call stopped"
        if any(unfinished.glob(f"{CHECKPOINTS}/step-*"))
        else "It takes minutes",
        kept_in,
        job["preset"],
    )
    folder = output / "job"  # inside, so that it is cleaned up with the rest if this process is killed
    folder.mkdir(parents=True)
    unfinished.mkdir(exist_ok=True)
    write_tensors(folder / _IMAGES, {"images": images.images, "targets": images.targets})
    write_json(folder / _JOB, job)

    command = [sys.executable, "-c", _RUN_JOB, str(folder), str(unfinished)]
    try:
        code, last_lines = _run_with_bar(command, cwd=folder, total=1000 * job["settings"]["total_kimg"])
    except KeyboardInterrupt:
        logger.warning("the fitting was stopped. The next call for the same images goes on where it was")
        raise
    if code:
        stopped = code < 0 or code > 128  # by a signal: as Python says it, and as the training itself does
        if stopped:
            then = f"Its checkpoints are kept in {unfinished}. Try again, and it goes on from there"
        else:
            shutil.rmtree(unfinished)  # or the next try would resume it, and fail again
            then = "Nothing was kept. Remove the cause and try again"
        raise RuntimeError(
            f"fitting a generator to {images.name} {'was stopped' if stopped else 'failed'}; its process ended with "
            f"{f'exit code {code}' if code > 0 else f'signal {-code}'}. Its last lines: {last_lines or 'none'}\n"
            f"{then}. {_INSTEAD}"
        )
    shutil.rmtree(folder)
    without = shutil.ignore_patterns(_LOCK, CHECKPOINTS.name)
    shutil.copytree(unfinished, output, ignore=without, dirs_exist_ok=True)


def _run_with_bar(command: list[str], *, cwd: Path, total: float) -> tuple[int, str]:
    """Run a training with a progress bar from the first moment; returns its exit code and last lines.

    The training's own bar comes as bare numbers, and other lines are passed on to standard error. If this process is
    killed, the training ends too: the next time it writes to the pipe, nobody reads from it.
    """
    none, pipe, same = subprocess.DEVNULL, subprocess.PIPE, subprocess.STDOUT
    with (
        _ProgressBar(total) as bar,
        subprocess.Popen(command, cwd=cwd, env=_environment(), stdin=none, stdout=pipe, stderr=same) as process,
        io.TextIOWrapper(cast(IO[bytes], process.stdout), "utf-8", "replace") as output,
    ):
        last = deque[str](maxlen=10)
        try:
            for line in output:
                if state := _PROGRESS.fullmatch(line):
                    bar.follow(*map(int, state.groups()))
                elif line.strip():
                    last.append(line)
                    bar.write(line.rstrip(), file=sys.stderr)
        except BaseException:
            process.terminate()  # it writes a checkpoint, as long as its output is read meanwhile
            try:
                process.communicate(timeout=LAST_STEP)
            finally:
                process.kill()
            raise
    return process.returncode, "".join(last).strip()


class _ProgressBar(tqdm):  # type: ignore[misc]
    """A progress bar that follows that of a training, and says once, after some seconds, how long the rest takes."""

    def __init__(self, total: float) -> None:
        # tqdm's ten updates a second would be too many in a file, where each is a line of its own.
        super().__init__(
            total=total, desc="fitting a generator", unit="img", unit_scale=True, mininterval=1, file=sys.stderr
        )
        self._training_began: float | None = None
        self._said = False

    def follow(self, done: int, total: int) -> None:
        """Take over the state of the other bar."""
        now = time.monotonic()
        if self._training_began is None:  # what is done by now was done in an earlier call
            self._training_began, self.initial, self.n, self.total = now, done, done, total
            self.refresh()
        self.update(done - self.n)
        seconds, images = now - self._training_began, done - self.initial
        if not self._said and seconds >= TIMED and images > 0:
            self._said = True
            minutes = round(seconds / images * (total - done) / 60)
            with self.external_write_mode(sys.stderr):
                logger.warning("the rest takes %s", f"about {minutes} minutes" if minutes > 1 else "a minute or less")


def _environment() -> dict[str, str]:
    """This process's environment, without a launcher's variables, and importing from the same places."""
    kept = {name: value for name, value in os.environ.items() if not _NOT_PASSED_ON.fullmatch(name)}
    paths = os.pathsep.join(os.path.abspath(path) for path in sys.path)
    return {**kept, "PYTHONPATH": paths, "PYTHONUNBUFFERED": "1", "TQDM_BAR_FORMAT": _BAR}


def run_job(job_folder: str, run: str) -> None:
    """Train as a job folder says, in the process that :func:`fit_generator` starts.

    Args:
        job_folder (str): folder with ``job.json`` and ``images.safetensors``.
        run (str): folder of the run, which goes on from its last checkpoint if it has one.
    """
    job = json.loads(Path(job_folder, _JOB).read_text(encoding="utf-8"))
    stored = load_file(Path(job_folder, _IMAGES))
    images = LabelledImages(stored["images"], stored["targets"], tuple(job["classes"]), job["name"])
    settings = TrainingSettings(**job["settings"])
    cls = cast(type[Generator], registered_generators()[job["architecture"]])
    make = partial(cls, images.classes, image_size=images.image_size, channels=images.channels, **job["network"])
    # The training of a call that was killed may still be in its last step.
    with FileLock(Path(run, _LOCK)):
        try:
            fit(make, GANObjective(**job["objective"]), images, settings, run, resume=True)
        except StoppedError as stopped:
            sys.exit(stopped.exit_code)
