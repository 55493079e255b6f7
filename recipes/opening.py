"""The images that a training recipe trains on: those with labels, and others that classifiers label."""

from __future__ import annotations

from typing import Any

import torch
from accelerate import Accelerator
from accelerate.utils import broadcast

from ganaug import Generator, LabelledImages
from ganaug.data import joined, open_unlabeled
from ganaug.pseudo_labels import pseudo_label


def open_all(args: Any, accelerator: Accelerator) -> tuple[LabelledImages, LabelledImages]:
    """What is trained on, and those of it that came with labels."""
    with accelerator.local_main_process_first():  # what is downloaded is downloaded once
        images = args.data.open()
        if args.unlabeled_data is None:
            return images, images
        how = {"background": args.data.background, "skip_bad_images": args.data.skip_bad_images}
        unlabeled = open_unlabeled(args.unlabeled_data, images, **how)
    targets = torch.zeros(len(unlabeled), dtype=torch.int64)
    if accelerator.is_main_process:
        teacher = teacher_of(images, args.init_from, accelerator)
        flip = "flip" in args.training.augment
        targets = pseudo_label(images, unlabeled, generator=teacher, horizontal_flip=flip).targets
    # Classifiers trained on other devices may answer differently.
    targets = broadcast(targets.to(accelerator.device)).cpu()
    name = f"{len(targets):,} pseudo-labelled images"
    return joined(images, LabelledImages(unlabeled, targets, images.classes, name)), images


def teacher_of(images: LabelledImages, trained: str | None, accelerator: Accelerator) -> Generator | None:
    """The generator to start from, if it can show the classifiers more of the labelled classes."""
    if trained is None:
        return None
    generator = Generator.from_pretrained(trained)
    shape = generator.channels, generator.image_size, generator.image_size
    if set(images.classes) <= set(generator.label_names) and shape == images.images.shape[1:]:
        return generator
    accelerator.print(f"{trained} has other classes or sizes: images are labelled without it")
    return None
