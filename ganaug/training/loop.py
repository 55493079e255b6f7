"""A training run from the first step to the saved generator."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

import torch
from tqdm import tqdm

from ganaug.data import LabelledImages, grids
from ganaug.generators.base import Generator
from ganaug.training.checkpoints import Checkpoint
from ganaug.training.interruption import StoppedError, StopSignals
from ganaug.training.monitoring import RunningMeans, Watch
from ganaug.training.recovery import Recovery
from ganaug.training.run_folder import RunFolder
from ganaug.training.selection import Selection
from ganaug.training.trainer import Trainer


def train(
    trainer: Trainer,
    folder: RunFolder | None,
    *,
    resume: Checkpoint | None = None,
    held_out: LabelledImages | None = None,
) -> Generator:
    """Train to the end, with monitors, grids and checkpoints on the way, and save the averaged generator.

    With held-out images, that is the one that :class:`Selection` chooses of those along the run; the last one is saved
    too, in ``training/last``. Where there are checkpoints, the first SIGTERM or SIGINT ends training at the next
    step, with one more; a second ends the program at once.

    Args:
        trainer (Trainer): as it starts.
        folder (RunFolder, optional): where grids, metrics, checkpoints and the generator go; None writes nothing, as
            on all processes but the main one.
        resume (Checkpoint, optional): to go on from, given to all processes; see :func:`check_same_run`. Default:
            start anew
        held_out (LabelledImages, optional): real images to choose a generator by, given to all processes; see
            :class:`ganaug.evaluation.GeneratorScore`. They count as seen by the generator. Default: the last is taken

    Returns:
        Generator: the averaged generator.

    Raises:
        InputError: the held-out images are no other ones of the same kind, or too few.
        FloatingPointError: gradients are not finite, also after going back to the last checkpoint with half the
            learning rate.
        StoppedError: a signal came.
        LoadError: the checkpoint is of other networks.
        OSError: the folder can no longer be written to.
    """
    accelerator = trainer.accelerator
    monitors, watch, recovery = RunningMeans(accelerator), Watch(trainer, folder, resume), Recovery(trainer, resume)
    stop = StopSignals(accelerator, handle=trainer.settings.checkpointing_kimg is not None)
    selection = Selection(trainer, held_out, stop)
    first = step = 0 if resume is None else _load(resume, trainer, selection)
    if first == 0:
        watch.show(grids.real_grid(trainer.data), "real", "real", 0)
    # The dropout seeds move torch's global state; give it back as it was.
    with torch.random.fork_rng(), _progress_bar(trainer, step) as bar, stop:
        if selection.missed(step):  # a signal came while it was scored
            _look(step, {"evaluation"}, {}, watch, selection, bar)
            _end_if(stop.received(), step, watch, trainer)
        while step < trainer.total_steps and not selection.exhausted:
            monitors.add(trainer.step(step), trainer.skipped)
            bar.update(trainer.images_per_step)
            if trainer.settings.compile and step == first:
                bar.write(f"the first step, which compiles the networks, took {watch.seconds:.0f} s")
            step += 1
            due, signal = _due(trainer, selection, step), stop.received()
            if not due and not signal:
                continue
            means, skipped = monitors.take(), monitors.skipped_in_a_row()
            _look(step, due - {"evaluation"} if skipped else due, means, watch, selection, bar)
            signal = signal or stop.received()
            if skipped and skipped >= min(Recovery.PATIENCE, trainer.total_steps - 1):
                step = _load(recovery.roll_back(watch.saved, trainer.kimg(step), skipped), trainer, selection)
                monitors = RunningMeans(accelerator)
                bar.reset()
                bar.update(step * trainer.images_per_step)
            elif not skipped and ("checkpoint" in due or signal or selection.exhausted):
                watch.save_checkpoint(step, selection, rollbacks=recovery.rollbacks)
            _end_if(signal, step, watch, trainer)

    generator = _finish(trainer, folder, watch, selection, held_out)
    watch.trackers.finish()
    accelerator.wait_for_everyone()
    return generator


def _load(checkpoint: Checkpoint, trainer: Trainer, selection: Selection) -> int:
    """Go back, or on, to a checkpoint; the number of steps it was made after."""
    state = checkpoint.state()
    trainer.load_state(state)
    selection.load(checkpoint, state)
    return checkpoint.step


def _due(trainer: Trainer, selection: Selection, step: int) -> set[str]:
    """What is to be done after so many steps."""
    settings = trainer.settings
    intervals = {
        "log": settings.log_kimg,
        "grid": settings.sample_kimg,
        "evaluation": selection.interval,
        "checkpoint": settings.checkpointing_kimg,
    }
    return {name for name, kimg in intervals.items() if trainer.is_due(kimg, step)}


def _look(step: int, due: set[str], monitors: dict[str, float], watch: Watch, selection: Selection, bar: Any) -> None:
    """Report the monitors, with what else is due; a candidate comes with a sample grid."""
    closer, signs = watch.closer_look(step) if due & {"grid", "evaluation"} else ({}, [])
    scores = selection.consider(step, signs) if "evaluation" in due else {}
    watch.report(step, {**monitors, **closer, **scores}, bar, grid="grid" in due or bool(scores))


def _end_if(signal: int, step: int, watch: Watch, trainer: Trainer) -> None:
    """End training where a signal came."""
    if signal:
        watch.trackers.finish()
        trainer.accelerator.wait_for_everyone()  # one that ended earlier would take the others with it
        raise StoppedError(signal, trainer.kimg(step), watch.saved)


def _finish(
    trainer: Trainer, folder: RunFolder | None, watch: Watch, selection: Selection, held_out: LabelledImages | None
) -> Generator:
    """The chosen generator, with what is known of it, saved; and the last one beside it."""
    last, candidate = trainer.averaged_generator, selection.chosen
    chosen = last if candidate is None else selection.generator()
    # One that is trained further has seen the images of its earlier training too.
    seen = [trainer.data.image_hashes, *(data.image_hashes for data in [held_out] if data)]
    seen += [last.seen_images] if last.seen_images is not None else []
    for generator in (last, chosen):
        generator.seen_images = torch.cat(seen).unique()
        generator.info = run_facts(trainer, watch.latest, seconds=watch.seconds)
    if candidate is not None:
        chosen.info["training"] |= {"chosen_after_kimg": candidate.kimg, "candidates": len(selection.candidates)}
        chosen.info["training"] |= {f"chosen_{name}": round(value, 4) for name, value in candidate.scores.items()}
    if folder:
        if folder.command is not None:
            for generator in (last, chosen):
                generator.info["training"]["command"] = folder.command
        if candidate is not None:
            last.save_pretrained(folder.training / "last")
        chosen.save_pretrained(folder.path)
    return chosen


def run_facts(trainer: Trainer, monitors: dict[str, float], *, seconds: float) -> dict[str, Any]:
    """What ``config.json`` and the card say of data and training."""
    data, accelerator = trainer.data, trainer.accelerator
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
            "minutes": round(seconds / 60, 1),
            **{f"last_{name}": round(value, 4) for name, value in monitors.items()},
        },
    }


def _progress_bar(trainer: Trainer, first: int) -> Any:
    return tqdm(
        initial=first * trainer.images_per_step,
        total=trainer.total_steps * trainer.images_per_step,
        unit="img",
        unit_scale=True,
        disable=not trainer.accelerator.is_local_main_process,
    )
