"""A training in a process of its own, done once: the generator is kept, and a training that was stopped is resumed.

The training is a run with checkpoints, in a folder beside the generator's. It takes no part in the accelerate state,
the random state or the process group of the process that asks for it.
"""

from __future__ import annotations

import io
import json
import logging
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections import deque
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import IO, Any, cast

import torch
from accelerate import Accelerator
from accelerate.utils import set_seed
from filelock import FileLock
from tqdm import tqdm

from ganaug.core import fingerprints
from ganaug.core.errors import LoadError
from ganaug.core.files import build_once, read_tensors, write_json, write_tensors
from ganaug.core.hardware import in_gibibytes, memory_held
from ganaug.data import LabelledImages
from ganaug.data.stored import from_tensors, to_tensors
from ganaug.generators import FlowGenerator, Generator
from ganaug.generators.flow import MARGIN, distils
from ganaug.hub.config import FORMAT_VERSION
from ganaug.hub.folder import load
from ganaug.hub.missing import CHECKPOINTS
from ganaug.hub.registry import Origin, registered_generators
from ganaug.training.adapting import AdaptingTrainer, history_of
from ganaug.training.distributed import start_accelerator
from ganaug.training.fit import fit, train_to_the_end
from ganaug.training.interruption import StoppedError
from ganaug.training.losses import GANObjective
from ganaug.training.models import MODELS, make_trainer
from ganaug.training.presets import Preset, kimg_within, preset_within
from ganaug.training.selection import hold_back
from ganaug.training.settings import TrainingSettings
from ganaug.training.trainer import Trainer

logger = logging.getLogger(__name__)

_JOB, _IMAGES, _SOURCE = "job.json", "images.safetensors", "source"
# -c, because -m would run this module a second time besides the one that the package has imported.
_RUN_JOB = "import sys; from ganaug.training.own_process import run_job; run_job(*sys.argv[1:])"
_LOCK = ".lock"  # held in a run's folder by the process that trains there
_FITTED = ".recipe.json"  # in a run's folder: the recipe as it fits into the time that was given
_BAR = "{n}/{total}\n"  # the training's progress bar, as _PROGRESS reads it
_PROGRESS = re.compile(r"\s*(\d+)/(\d+)\s*")
TIMED = 5.0  # seconds of training before it says how long the rest takes
# What asks a training to stop. Windows' terminate() would end it at once; a process group there can be sent a break.
_STOP = getattr(signal, "CTRL_BREAK_EVENT", signal.SIGTERM)
_OWN_GROUP = getattr(subprocess, "CREATE_NEW_PROCESS_GROUP", 0)
LAST_STEP = 30.0  # seconds that a stopped training has for its last step and a checkpoint
# Variables by which launchers tell a process its rank, and those by which users change what progress bars look like.
_NOT_PASSED_ON = re.compile(
    r"TQDM_.*|((LOCAL|GROUP|ROLE)_)?(RANK|WORLD_SIZE)|ROLE_NAME|MASTER_(ADDR|PORT)|"
    r"(TORCHELASTIC|ACCELERATE|MPI|OMPI|PMI|MV2)_.*"
)


@dataclass(frozen=True)
class Recipe:
    """What a generator is trained by, besides the images.

    Attributes:
        architecture (str): of a registered generator.
        network (mapping): options of the network, see :meth:`Generator.network_options`.
        settings (TrainingSettings): how it is trained; ``evaluation_kimg`` says whether images are held back, by which
            the generator is chosen.
        objective (GANObjective): the losses of a GAN; a flow ignores this.
    """

    architecture: str
    network: Mapping[str, Any]
    settings: TrainingSettings
    objective: GANObjective

    @property
    def has_later_phases(self) -> bool:
        """Whether its training has phases after the first, which take more memory and more time for an image."""
        flow = issubclass(registered_generators()[self.architecture], FlowGenerator)
        return flow and distils(int(self.network.get("steps", 1)))

    @classmethod
    def of(cls, preset: Preset, images: LabelledImages) -> Recipe:
        """That of a preset.

        Raises:
            ValueError: its network cannot draw these images, or have these class names.
        """
        model = MODELS[preset.model]
        with torch.random.fork_rng(devices=[]):
            generator = model.make_generator(images)
        return cls(generator.architecture, generator.network_options(), preset.settings, model.objective)


@dataclass(frozen=True)
class Wording:
    """How a training is talked about.

    Attributes:
        doing (str): what is done, such as "fitting a generator"; "to" and the images follow.
        instead (str): what the user can do if it fails, a sentence.
        begin (callable): says that it begins, given where the generator will be kept and how long that takes.
    """

    doing: str
    instead: str
    begin: Callable[[Path, str], None]


def folder_of(
    recipe: Recipe,
    images: LabelledImages,
    cache: Path,
    *,
    minutes: float | None = None,
    source: Generator | None = None,
) -> Path:
    """Where :func:`train_once` keeps the generator of a recipe, images, time and source."""
    key = fingerprints.of_values(
        images.fingerprint,
        recipe.architecture,
        dict(recipe.network),
        asdict(recipe.settings),
        asdict(recipe.objective),
        [FORMAT_VERSION, version("ganaug"), torch.__version__, MARGIN],
        *([] if minutes is None else [minutes]),
        *([] if source is None else [fingerprints.of_module(source), history_of(source)]),
    )
    return cache.absolute() / key[:32]


def train_once(
    recipe: Recipe,
    images: LabelledImages,
    cache: Path,
    wording: Wording,
    *,
    minutes: float | None = None,
    source: Generator | None = None,
) -> Path:
    """Train a generator in a separate process, or find the one trained by the same recipe on the same images before.

    Of several processes that ask at once, one trains and the others wait. If it is stopped or killed, the next call
    resumes it from the last checkpoint, to the same generator bit for bit.

    Args:
        recipe (Recipe): network, losses and settings.
        images (LabelledImages): what it is trained on.
        cache (Path): where generators are kept, each in a folder of its own.
        wording (Wording): for messages and the progress bar.
        minutes (float, optional): train for no longer than about this, see :func:`kimg_within`. The recipe is then the
            default preset's; where the time is short for its network, the narrow one is trained. Default: the recipe
            says how long
        source (Generator, optional): adapt this one; the recipe is then that of adapting. Default: random weights

    Returns:
        Path: folder of the generator.

    Raises:
        RuntimeError: the training was stopped, or it failed; then nothing is kept.
        OSError: the folder cannot be written to or the disk is full.
    """
    folder = folder_of(recipe, images, cache, minutes=minutes, source=source)
    unfinished = folder.with_name(f".{folder.name}.unfinished")
    build_once(
        folder,
        partial(_train, recipe, images, wording, minutes, source, folder, unfinished),
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


def _train(
    recipe: Recipe,
    images: LabelledImages,
    wording: Wording,
    minutes: float | None,
    source: Generator | None,
    kept_in: Path,
    unfinished: Path,
    output: Path,
) -> None:
    """Fill the folder ``output`` with a generator, trained in a separate process in the folder ``unfinished``."""
    stopped_before = any(unfinished.glob(f"{CHECKPOINTS}/step-*"))
    how_long = "It takes minutes" if minutes is None else f"It takes {minutes:g} minutes or less"
    wording.begin(kept_in, "It goes on where an earlier call stopped" if stopped_before else how_long)
    folder = output / "job"  # inside, so that it is cleaned up with the rest if this process is killed
    folder.mkdir(parents=True)
    unfinished.mkdir(exist_ok=True)
    tensors, files = to_tensors(images.images)
    write_tensors(folder / _IMAGES, {**tensors, "targets": images.targets})
    described = {"files": files, "classes": images.classes, "name": images.name}
    job = {**asdict(recipe), "minutes": minutes, **described}
    if source is not None:
        source.save_pretrained(folder / _SOURCE)
        job["source"] = cast(Origin, source.origin).name  # on the Hub, which its folder here does not tell
    write_json(folder / _JOB, job)

    command = [sys.executable, "-c", _RUN_JOB, str(folder), str(unfinished)]
    try:
        bar = _ProgressBar(wording.doing, 1000 * recipe.settings.total_kimg, at_least=recipe.has_later_phases)
        code, last_lines = _run_with_bar(command, bar, cwd=folder)
    except KeyboardInterrupt:
        logger.warning("%s was stopped. The next call for the same images goes on where it was", wording.doing)
        raise
    if code:
        stopped = code < 0 or code > 128  # by a signal: as Python says it, and as the training itself does
        if stopped:
            then = f"Its checkpoints are kept in {unfinished}. Try again, and it goes on from there"
        else:
            shutil.rmtree(unfinished)  # or the next try would resume it, and fail again
            then = "Nothing was kept. Remove the cause and try again"
        raise RuntimeError(
            f"{wording.doing} to {images.name} {'was stopped' if stopped else 'failed'}; its process ended with "
            f"{f'exit code {code}' if code > 0 else f'signal {-code}'}. Its last lines: {last_lines or 'none'}\n"
            f"{then}. {wording.instead}"
        )
    shutil.rmtree(folder)
    without = shutil.ignore_patterns(_LOCK, _FITTED, CHECKPOINTS.name)
    shutil.copytree(unfinished, output, ignore=without, dirs_exist_ok=True)


def _run_with_bar(command: list[str], bar: _ProgressBar, *, cwd: Path) -> tuple[int, str]:
    """Run a training with a progress bar from the first moment; returns its exit code and last lines.

    The training's own bar comes as bare numbers, and other lines are passed on to standard error. If this process is
    killed, the training ends too: the next time it writes to the pipe, nobody reads from it.
    """
    none, pipe, same = subprocess.DEVNULL, subprocess.PIPE, subprocess.STDOUT
    with (
        bar,
        subprocess.Popen(
            command, cwd=cwd, env=_environment(), stdin=none, stdout=pipe, stderr=same, creationflags=_OWN_GROUP
        ) as process,
        io.TextIOWrapper(cast(IO[bytes], process.stdout), "utf-8", "replace") as output,
    ):
        last = deque[str](maxlen=10)
        try:
            for line in output:
                if state := _PROGRESS.fullmatch(line):
                    done, total = map(int, state.groups())
                    bar.follow(done, total, process.pid)
                elif line.strip():
                    last.append(line)
                    bar.write(line.rstrip(), file=sys.stderr)
        except BaseException:
            process.send_signal(_STOP)  # it writes a checkpoint, as long as its output is read meanwhile
            try:
                with suppress(subprocess.TimeoutExpired):
                    process.communicate(timeout=LAST_STEP)
            finally:
                process.kill()
            raise
    return process.returncode, "".join(last).strip()


class _ProgressBar(tqdm):  # type: ignore[misc]
    """A progress bar that follows that of a training, and says once, after some seconds, what the rest takes.

    Args:
        doing (str): what is done.
        total (float): images to be shown.
        at_least (bool): whether the rest may take more than these seconds tell.
    """

    def __init__(self, doing: str, total: float, *, at_least: bool) -> None:
        # tqdm's ten updates a second would be too many in a file, where each is a line of its own.
        super().__init__(total=total, desc=doing, unit="img", unit_scale=True, mininterval=1, file=sys.stderr)
        self._done_before: int | None = None  # in an earlier call
        self._steps_began = 0.0
        self._said, self._at_least = False, at_least

    def follow(self, done: int, total: int, process: int) -> None:
        """Take over the state of the other bar, which is that of a process with this number."""
        now = time.monotonic()
        if self._done_before is None:
            self._done_before = self.initial = self.n = done
            self.total = total
            self.refresh()
        if done == self._done_before:
            self._steps_began = now
        self.update(done - self.n)
        seconds, images = now - self._steps_began, done - self._done_before
        if not self._said and seconds >= TIMED and images > 0:
            self._said = True
            minutes = round(seconds / images * (total - done) / 60)
            if self._at_least:
                takes = f"at least {minutes} minutes" if minutes > 1 else "at least a minute"
            else:
                takes = f"about {minutes} minutes" if minutes > 1 else "a minute or less"
            takes += f", and {in_gibibytes(memory_held(process))} of memory"
            with self.external_write_mode(sys.stderr):
                logger.warning("the rest takes %s", takes)


def _environment() -> dict[str, str]:
    """This process's environment, without a launcher's variables, and importing from the same places."""
    kept = {name: value for name, value in os.environ.items() if not _NOT_PASSED_ON.fullmatch(name)}
    paths = os.pathsep.join(os.path.abspath(path) for path in sys.path)
    ours = {"PYTHONUNBUFFERED": "1", "PYTHONIOENCODING": "utf-8", "TQDM_BAR_FORMAT": _BAR}
    return {**kept, "PYTHONPATH": paths, **ours}


def run_job(job_folder: str, run: str) -> None:
    """Train as a job folder says, in the process that :func:`train_once` starts.

    Args:
        job_folder (str): folder with ``job.json`` and ``images.safetensors``.
        run (str): folder of the run, which goes on from its last checkpoint if it has one.
    """
    job = json.loads(Path(job_folder, _JOB).read_text(encoding="utf-8"))
    stored = read_tensors(Path(job_folder, _IMAGES))
    pixels = from_tensors(stored, job["files"])
    everything = LabelledImages(pixels, stored["targets"], tuple(job["classes"]), job["name"])
    recipe = _recipe_from(job)
    # The training of a call that was killed may still be in its last step.
    with FileLock(Path(run, _LOCK)):
        try:
            if "source" in job:
                _adapt(job, recipe, everything, Path(job_folder, _SOURCE), Path(run))
                return
            if (minutes := job.get("minutes")) is not None:
                recipe = _fitted(recipe, everything, minutes, Path(run, _FITTED))
            images, held_out = hold_back(recipe.settings, everything, everything)
            cls = cast(type[Generator], registered_generators()[recipe.architecture])
            make = partial(
                cls, images.classes, image_size=images.image_size, channels=images.channels, **recipe.network
            )
            fit(make, recipe.objective, images, recipe.settings, run, resume=True, held_out=held_out)
        except StoppedError as stopped:
            sys.exit(stopped.exit_code)


def _adapt(job: Mapping[str, Any], recipe: Recipe, images: LabelledImages, saved: Path, run: Path) -> None:
    """Adapt a saved generator to images, for no longer than the job's minutes if it gives any."""
    source: Generator = load(saved)
    source.origin = cast(Origin, source.origin)._replace(name=job["source"])

    def new_trainer(settings: TrainingSettings, accelerator: Accelerator) -> AdaptingTrainer:
        return AdaptingTrainer(source, images, settings, accelerator)

    if job["minutes"] is not None:
        recipe = _shortened(recipe, new_trainer, job["minutes"], run / _FITTED)
    train_to_the_end(new_trainer, recipe.settings, run, resume=True)


def _shortened(
    recipe: Recipe, new_trainer: Callable[[TrainingSettings, Accelerator], Trainer], minutes: float, kept: Path
) -> Recipe:
    """The recipe, for no longer than the minutes; ``kept`` has what an earlier call found, to be resumed."""
    if kept.exists():
        return _recipe_from(json.loads(kept.read_text(encoding="utf-8")))
    kimg = _kimg_here(recipe.settings, new_trainer, minutes, "adapting")
    found = replace(recipe, settings=replace(recipe.settings, total_kimg=min(kimg, recipe.settings.total_kimg)))
    write_json(kept, asdict(found))
    return found


def _kimg_here(
    settings: TrainingSettings,
    new_trainer: Callable[[TrainingSettings, Accelerator], Trainer],
    minutes: float,
    what: str,
) -> float:
    """How many thousand images fit into the minutes, which is said."""
    accelerator = start_accelerator(settings)
    set_seed(settings.seed)
    kimg = kimg_within(minutes, new_trainer(settings, accelerator))
    logger.warning("%s: %.3g kimg take %g minutes here", what, kimg, minutes)
    return kimg


def _fitted(recipe: Recipe, images: LabelledImages, minutes: float, kept: Path) -> Recipe:
    """The default preset's recipe as it fits into a time; ``kept`` has what an earlier call found, to be resumed."""
    if kept.exists():
        return _recipe_from(json.loads(kept.read_text(encoding="utf-8")))

    def settings_of(preset: Preset) -> TrainingSettings:
        settings, model = replace(preset.settings, augment=recipe.settings.augment), MODELS[preset.model]

        def new_trainer(settings: TrainingSettings, accelerator: Accelerator) -> Trainer:
            return make_trainer(model.make_generator(images), model.objective, images, settings, accelerator)

        kimg = _kimg_here(settings, new_trainer, minutes, preset.model)
        return replace(settings, total_kimg=min(kimg, settings.total_kimg))

    preset = preset_within(images, settings_of)
    logger.warning("%s", preset)
    found = Recipe.of(preset, images)
    write_json(kept, asdict(found))
    return found


def _recipe_from(written: Mapping[str, Any]) -> Recipe:
    settings, objective = TrainingSettings(**written["settings"]), GANObjective(**written["objective"])
    return Recipe(written["architecture"], written["network"], settings, objective)
