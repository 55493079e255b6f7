"""What a run trains on: images with labels, and others that classifiers label."""

from __future__ import annotations

from pathlib import Path

import torch
from accelerate import Accelerator
from accelerate.utils import broadcast
from safetensors import SafetensorError
from torch import Tensor

from ganaug import Generator, InputError, LabelledImages
from ganaug.cli.runs import check_same_start, say
from ganaug.cli.train_flags import TrainingArguments
from ganaug.core.files import atomic_path, read_tensors, write_tensors
from ganaug.data import joined, open_unlabeled
from ganaug.data.stored import Pixels
from ganaug.training import Checkpoint, RunFolder
from ganaug.training.distributed import going_first
from ganaug.training.pseudo_labels import pseudo_label

LABELS = Path("training", "pseudo_labels.safetensors")  # in the run's folder


def open_all(
    args: TrainingArguments, accelerator: Accelerator, checkpoint: Checkpoint | None
) -> tuple[LabelledImages, LabelledImages]:
    """What is trained on, and those of it that came with labels."""
    with going_first(accelerator, accelerator.is_local_main_process):  # what is downloaded is downloaded once
        images = args.data.open()
        say(accelerator, f"opened: {images}")
        unlabeled = None
        if args.unlabeled_data is not None:
            unlabeled = open_unlabeled(
                args.unlabeled_data,
                images,
                background=args.data.background,
                skip_bad_images=args.data.skip_bad_images,
            )
    further = 0 if unlabeled is None else len(unlabeled)
    check_same_start(args, images, accelerator, checkpoint, unlabeled_images=further)
    if unlabeled is None:
        return images, images
    targets = torch.zeros(len(unlabeled), dtype=torch.int64)
    with going_first(accelerator, accelerator.is_main_process):
        if accelerator.is_main_process:
            targets = labels_for(unlabeled, images, args, accelerator, checkpoint)
    # Classifiers trained on other devices may answer differently.
    targets = broadcast(targets.to(accelerator.device)).cpu()
    name = f"{len(targets):,} pseudo-labelled images"
    return joined(images, LabelledImages(unlabeled, targets, images.classes, name)), images


def labels_for(
    unlabeled: Pixels,
    images: LabelledImages,
    args: TrainingArguments,
    accelerator: Accelerator,
    checkpoint: Checkpoint | None,
) -> Tensor:
    """A class for each unlabelled image, int64 (N,): as the run that goes on had them, or by classifiers."""
    # New labels could differ, since threads and devices round differently; it would no longer be the same run.
    kept = checkpoint and checkpoint.run / LABELS
    if kept and kept.exists():
        return kept_labels(kept, len(unlabeled), len(images.classes))
    teacher = teacher_of(images, args.init_from, accelerator)
    labels = pseudo_label(images, unlabeled, generator=teacher, horizontal_flip="flip" in args.training.augment)
    print(f"labelled: {labels}")
    return labels.images.targets


def keep_labels(folder: RunFolder, images: LabelledImages, labelled: LabelledImages) -> None:
    """Write the labels that classifiers gave to where a resumed run finds them."""
    if len(images) > len(labelled):
        with atomic_path(folder.path / LABELS) as path:
            write_tensors(path, {"labels": images.targets[len(labelled) :]})


def kept_labels(path: Path, count: int, classes: int) -> Tensor:
    """The pseudo-labels that the run saved, one for each of ``count`` images.

    Args:
        path (Path): of the file.
        count (int): number of unlabelled images now.
        classes (int): number of classes, which the labels are below.

    Raises:
        InputError: the file is damaged, or of another number of images.
    """
    try:
        labels = read_tensors(path)["labels"]
    except (OSError, SafetensorError, KeyError) as error:
        raise InputError(f"{path} cannot be read: {error}. Start another run") from error
    inside = labels.dtype == torch.int64 and labels.ndim == 1 and bool(((labels >= 0) & (labels < classes)).all())
    if not inside:
        raise InputError(f"{path} is damaged: it must have labels from 0 to {classes - 1}. Start another run")
    if len(labels) != count:
        raise InputError(f"the run had {len(labels):,} unlabelled images, and there are {count:,} now. Restore those")
    return labels


def teacher_of(images: LabelledImages, trained: str | None, accelerator: Accelerator) -> Generator | None:
    """The generator to start from, if it can show the classifiers more of the labelled classes."""
    if trained is None:
        return None
    generator = Generator.from_pretrained(trained)
    shape = generator.channels, generator.image_size, generator.image_size
    if set(images.classes) <= set(generator.label_names) and shape == images.images.shape[1:]:
        return generator
    say(accelerator, f"{trained} has other classes or sizes: images are labelled without it")
    return None
