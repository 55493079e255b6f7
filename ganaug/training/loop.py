"""A training run from the first step to the saved generator."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from tqdm import tqdm

from ganaug.core.defaults import usual_defaults
from ganaug.core.errors import InputError
from ganaug.core.files import naming
from ganaug.core.progress import describe
from ganaug.data import LabelledImages, grids
from ganaug.generators.base import Generator
from ganaug.hub.config import UNRECORDED
from ganaug.hub.folder import check_round_trip
from ganaug.training.checkpoints import Candidate, Checkpoint, check_held_out, run_settings
from ganaug.training.distributed import check_same_on_all, on_main
from ganaug.training.interruption import StoppedError, StopSignals
from ganaug.training.monitoring import FINAL_SCORE, ROWS, Hook, RunningMeans, Watch
from ganaug.training.recovery import Recovery
from ganaug.training.run_folder import RunFolder
from ganaug.training.selection import Selection
from ganaug.training.trainer import Trainer

WORTH_TELLING = 10.0  # seconds, in which a bar that stands still needs a word


@usual_defaults()
def train(
    trainer: Trainer,
    folder: RunFolder | None,
    *,
    resume: Checkpoint | None = None,
    held_out: LabelledImages | None = None,
    on_grid: Hook | None = None,
    on_checkpoint: Hook | None = None,
) -> Generator:
    """Train to the end, with monitors, grids and checkpoints along the way, and save the averaged generator.

    With held-out images, the generator that is saved is the one that :class:`Selection` chose along the run, and the
    last one is saved too, in ``training/last``. If the settings ask for checkpoints, the first SIGTERM or SIGINT ends
    training after the current step with one more checkpoint, or amid what a step needs first (see
    :meth:`Trainer.prepare`), and a second signal ends the program at once.

    Hooks are functions of your own that are called along the way with a :class:`TrainingEvent`, on the main process,
    while the others wait. What they draw at random changes nothing in the run. If one raises an exception, training
    ends with it, after one more checkpoint if the settings ask for checkpoints, so that it can be resumed.

    Args:
        trainer (Trainer): before its first step.
        folder (RunFolder, optional): where grids, metrics, checkpoints and the generator go; None writes nothing, as
            on all processes but the main one.
        resume (Checkpoint, optional): where the run resumes, the same on all processes; see
            :func:`ganaug.training.check_same_run`. Default: it starts from scratch
        held_out (LabelledImages, optional): real images by which a generator is chosen, the same on all processes; see
            :class:`ganaug.evaluation.GeneratorScore`. They count as seen by the generator. Default: the last one is
            saved
        on_grid (callable, optional): called after each step whose generator is drawn in a grid, that is, when one is
            due (``sample_kimg``) and when a generator was scored. Not for steps that are undone. Default: nothing is
            called
        on_checkpoint (callable, optional): called after each checkpoint. Default: nothing is called

    Returns:
        Generator: the averaged generator.

    Raises:
        InputError: the held-out images have other classes or another form than the training images, are too few, or
            are not those of the checkpoint; ``on_checkpoint`` is given, but no checkpoints are written; or, before the
            first step, the processes have other images or settings, the networks' weights cannot be trained, or the
            generator cannot be saved in its folder and loaded again.
        FloatingPointError: gradients are not finite, even after going back to the last checkpoint with half the
            learning rate.
        StoppedError: a signal ended training.
        LoadError: the checkpoint belongs to other networks.
        OSError: the folder can no longer be written to.
    """
    if resume is not None:
        check_held_out(resume, held_out)
    if on_checkpoint and trainer.settings.checkpointing_kimg is None:
        raise InputError(
            "on_checkpoint would never be called, for no checkpoints are written. Set checkpointing_kimg (and in fit, "
            "resume=True), or leave on_checkpoint out"
        )
    accelerator = trainer.accelerator
    monitors, watch, recovery = RunningMeans(accelerator), Watch(trainer, folder, resume), Recovery(trainer, resume)
    stop = StopSignals(accelerator, handle=trainer.settings.checkpointing_kimg is not None)
    selection = Selection(trainer, held_out, stop)
    _check(trainer, folder, watch, held_out)
    first = step = 0 if resume is None else _load(resume, trainer, selection)
    if first == 0:
        watch.show(grids.real_grid(trainer.data, rows=ROWS), "real", "real", 0)
    # Seeds for dropout change torch's global random state, which is restored at the end.
    with torch.random.fork_rng(), _progress_bar(trainer, step) as bar, stop:
        # A signal may have broken off the score that was due when the run stopped.
        if selection.missed(step):
            drawn = _look(step, _Due(evaluation=True), {}, watch, selection, bar)
            _call([(on_grid, watch.grid)] * drawn, step, watch)
            _end_if(stop.received(), step, watch, trainer)

        written = True  # whether there is a checkpoint of this step; of the first one there need not be any
        while step < trainer.total_steps and not selection.exhausted:
            phase = trainer.phase(step)
            if step == phase.first:
                describe(bar, phase.name)
            save = partial(watch.save_checkpoint, rollbacks=recovery.rollbacks)

            # A signal amid what the step needs first ends training before it.
            if signal := _prepare(step, trainer, stop, bar):
                if means := monitors.take():
                    _look(step, _Due(), means, watch, selection, bar)
                written = not written and not monitors.skipped_in_a_row() and save(step, selection)
                _call([(on_checkpoint, watch.saved)] * written, step, watch)
                _end_if(signal, step, watch, trainer)

            monitors.add(trainer.step(step), trainer.skipped)
            bar.update(trainer.images_per_step)
            if trainer.settings.compile and step == first:
                bar.write(f"the first step, which compiles the networks, took {watch.seconds:.0f} s")
            step, written = step + 1, False
            due, signal = _due_after(step, trainer, selection), stop.received()
            if due == _Due() and not signal:
                continue

            # Log, draw a grid, and score the generator, unless its last update was skipped.
            means, skipped = monitors.take(), monitors.skipped_in_a_row()
            if skipped:
                due = replace(due, evaluation=False)
            drawn = _look(step, due, means, watch, selection, bar)
            signal = signal or stop.received()

            # Go back if too many steps in a row were skipped; otherwise write a checkpoint, unless this one was.
            if skipped and skipped >= min(Recovery.PATIENCE, trainer.total_steps - 1):
                step = _load(recovery.roll_back(watch.saved, trainer.kimg(step), skipped), trainer, selection)
                monitors = RunningMeans(accelerator)
                bar.reset()
                bar.update(step * trainer.images_per_step)
                _end_if(signal, step, watch, trainer)
                written = True
                continue
            if not skipped and (due.checkpoint or signal or selection.exhausted):
                written = save(step, selection)

            # Hooks come last: if one fails, there is a checkpoint of this step, unless it was skipped.
            hooks = [(on_grid, watch.grid)] * drawn + [(on_checkpoint, watch.saved)] * written
            _call(hooks, step, watch, save=None if written or skipped else partial(save, step, selection))
            _end_if(signal, step, watch, trainer)

    generator = _finish(trainer, folder, watch, selection, held_out)
    if selection.chosen:
        watch.trackers.log({FINAL_SCORE: selection.chosen.scores["score"]}, step * trainer.images_per_step)
    watch.trackers.finish()
    accelerator.wait_for_everyone()
    return generator


def _check(trainer: Trainer, folder: RunFolder | None, watch: Watch, held_out: LabelledImages | None) -> None:
    """Refuse, on all processes, what cannot be trained, saved in its folder or loaded again."""

    def can_be_trained_and_saved() -> None:
        trainer.check_weights()
        if folder:
            generator = trainer.averaged_generator
            generator.info = run_facts(trainer, watch, folder, held_out)
            with naming(folder.path):
                check_round_trip(generator, within=folder.path)

    try:
        check_same_on_all(trainer.accelerator, run_settings(trainer))
        on_main(trainer.accelerator, can_be_trained_and_saved)
    except (InputError, OSError) as error:
        watch.trackers.finish()
        if folder:
            with suppress(OSError):  # not empty if a run is resumed; any other may start here again
                folder.training.rmdir()
        raise InputError(str(error)) from error


@dataclass(frozen=True)
class _Due:
    """What is due after a step."""

    log: bool = False
    grid: bool = False
    evaluation: bool = False
    checkpoint: bool = False


def _due_after(step: int, trainer: Trainer, selection: Selection) -> _Due:
    settings = trainer.settings
    return _Due(
        log=trainer.is_due(settings.log_kimg, step),
        grid=trainer.is_due(settings.sample_kimg, step),
        evaluation=trainer.is_due(selection.interval, step) and trainer.may_be_chosen(step),
        checkpoint=trainer.is_due(settings.checkpointing_kimg, step),
    )


def _load(checkpoint: Checkpoint, trainer: Trainer, selection: Selection) -> int:
    """Restore a checkpoint; the number of steps after which it was written."""
    state = on_main(trainer.accelerator, checkpoint.state)
    trainer.load_state(state)
    selection.load(checkpoint, state)
    return checkpoint.step


def _prepare(step: int, trainer: Trainer, stop: StopSignals, bar: Any) -> int:
    """Do what a step needs first, which may take minutes; returns the signal that broke it off, or 0."""
    phase, started, told = trainer.phase(step).name, time.monotonic(), False
    for share in trainer.prepare(step):
        describe(bar, f"{phase} (preparing, {share:.0%})")
        seconds = (time.monotonic() - started) / share
        if not told and seconds > WORTH_TELLING and not bar.disable:
            bar.write(f"preparing for the {phase} phase takes about {seconds:.0f} s")
        told = True
        if signal := stop.received():
            return signal
    if told:
        describe(bar, phase)
        bar.refresh()  # so that who reads it knows from when on its pace is that of steps
    return 0


def _look(step: int, due: _Due, monitors: dict[str, float], watch: Watch, selection: Selection, bar: Any) -> bool:
    """Report the monitors, with a grid or a score if one is due, and say whether there is a new grid.

    A candidate always comes with a grid.
    """
    if due.grid or due.evaluation:
        describe(bar, "drawing images")
    closer, signs = watch.closer_look(step) if due.grid or due.evaluation else ({}, [])
    scores = selection.consider(step, signs) if due.evaluation else {}
    drawn = due.grid or bool(scores)
    watch.report(step, {**monitors, **closer, **scores}, bar, grid=drawn)
    describe(bar, watch.phase_after(step))
    return drawn


def _call(
    hooks: Sequence[tuple[Hook | None, Path | None]],
    step: int,
    watch: Watch,
    *,
    save: Callable[[], object] | None = None,
) -> None:
    """Call hooks, those that there are, with their paths; if one fails, save what there is and end training."""
    try:
        for hook, path in hooks:
            if hook:
                watch.tell(hook, step, path)
    except Exception:
        if save:
            save()
        watch.trackers.finish()
        raise


def _end_if(signal: int, step: int, watch: Watch, trainer: Trainer) -> None:
    """End training if a signal came."""
    if signal:
        watch.trackers.finish()
        trainer.accelerator.wait_for_everyone()  # a process that ended earlier would take the others with it
        raise StoppedError(signal, trainer.kimg(step), watch.saved)


def _finish(
    trainer: Trainer, folder: RunFolder | None, watch: Watch, selection: Selection, held_out: LabelledImages | None
) -> Generator:
    """Save the chosen generator, and the last one beside it if that is another."""
    last, candidate = trainer.averaged_generator, selection.chosen
    chosen = last if candidate is None else selection.generator()
    # A generator that was trained further has seen the images of its earlier training too.
    seen = [trainer.data.image_hashes]
    seen += [held_out.image_hashes] if held_out else []
    seen += [last.seen_images] if last.seen_images is not None else []
    for generator, choice in ((last, None), (chosen, candidate)):
        generator.seen_images = torch.cat(seen).unique()
        generator.info = run_facts(trainer, watch, folder, held_out, chosen=choice, of=len(selection.candidates))
    if folder:
        if candidate is not None:
            last.save_pretrained(folder.training / "last")
        chosen.save_pretrained(folder.path)
    return chosen


def run_facts(
    trainer: Trainer,
    watch: Watch,
    folder: RunFolder | None,
    held_out: LabelledImages | None,
    *,
    chosen: Candidate | None = None,
    of: int = 0,
) -> dict[str, Any]:
    """What ``config.json`` and the card say about data and training, as JSON values.

    Args:
        trainer (Trainer), watch (Watch): of the run, at its end.
        folder (RunFolder, optional): of the run, whose settings have the command that started it.
        held_out (LabelledImages, optional): the images that were held back to choose a generator by.
        chosen (Candidate, optional): the generator that was chosen, if there was a choice.
        of (int): the number of candidates it was chosen from.
    """
    data, accelerator = trainer.data, trainer.accelerator
    command = folder.command if folder else None
    # With none of these, settings and images are enough to train such a generator again.
    further = {
        "the weights of a trained generator": trainer.starts_trained,
        "pseudo-labelled images": folder is not None and folder.has_unlabeled_data,
        "code of the user's own": not trainer.is_standard,
    }
    choice: dict[str, Any] = {}
    if chosen is not None:
        choice = {"chosen_after_kimg": chosen.kimg, "candidates": of}
        choice |= {f"chosen_{name}": round(value, 4) for name, value in chosen.scores.items()}
    return {
        "dataset": {
            "name": data.name,
            "fingerprint": data.fingerprint,
            "num_images": len(data),
            "class_counts": dict(zip(data.classes, data.class_counts, strict=True)),
        },
        "training": {
            **asdict(trainer.settings),
            **trainer.facts(),
            "mixed_precision": accelerator.mixed_precision,
            "num_processes": accelerator.num_processes,
            "device": accelerator.device.type,
            "seconds": round(watch.seconds, 1),
            "held_back": len(held_out) if held_out else 0,
            "further_inputs": [what for what, given in further.items() if given],
            **({UNRECORDED: True} if trainer.unrecorded else {}),
            **{f"last_{name}": round(value, 4) for name, value in watch.latest.items()},
            **choice,
            **({"command": command} if command is not None else {}),
        },
    }


def _progress_bar(trainer: Trainer, first: int) -> Any:
    return tqdm(
        desc="training",
        initial=first * trainer.images_per_step,
        total=trainer.total_steps * trainer.images_per_step,
        unit="img",
        unit_scale=True,
        disable=not trainer.accelerator.is_main_process,
    )
