"""The images that a command works on: those with labels, and others that classifiers label."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from accelerate import Accelerator
from accelerate.utils import broadcast
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from ganaug import DataError, Generator, InputError, LabelledImages, open_images
from ganaug.core.files import atomic_path, write_tensors
from ganaug.data import joined, open_unlabeled, reduce_images
from ganaug.training import Checkpoint, RunFolder
from ganaug.training.pseudo_labels import pseudo_label

LABELS = Path("training", "pseudo_labels.safetensors")  # in the run's folder


@dataclass(frozen=True)
class DataArguments:
    """Labelled images; without a flag, the bundled MNIST digits.

    Args:
        train_data_dir: Folder with one subfolder of images per class, with IDX files (plain or .gz), with Parquet
            files, or written by save_to_disk of HF datasets.
        dataset_name: Id of a dataset on the Hugging Face Hub, torchvision:NAME (as torchvision:FashionMNIST; it is
            downloaded to the folder data), or sklearn:digits.
        dataset_config_name: Configuration of the HF dataset.
        resolution: Resize the shorter side to this many pixels and crop the centre; default: the images' own size.
        channels: 1 makes grey images, 3 RGB; default: grey if all images are, else RGB.
        background: Colour behind transparent pixels, such as white or #ff8000.
        skip_bad_images: Leave out images that cannot be decoded, with a warning, instead of ending with an error.
        images_per_class: Train on this many images of each class only, the same ones every time.
        long_tail: Make the images long-tailed: the first class has this many times the images of the last, and they
            fall exponentially in between; images_per_class is then the number of images of the first class.
    """

    train_data_dir: Path | None = None
    dataset_name: str | None = None
    dataset_config_name: str | None = None
    resolution: int | None = None
    channels: Literal[1, 3] | None = None
    background: str = "white"
    skip_bad_images: bool = False
    images_per_class: int | None = None
    long_tail: float | None = None

    def open(self) -> LabelledImages:
        """Open the images to train on.

        Raises:
            DataError: as :meth:`open_split`, or there are fewer images than are asked for.
        """
        return self.open_with_rest()[0]

    def open_with_rest(self) -> tuple[LabelledImages, LabelledImages | None]:
        """Open the images to train on, and those that images_per_class or long_tail leave out (None: no image).

        Raises:
            DataError: as :meth:`open`.
        """
        images = self.open_split("train")
        return reduce_images(images, images_per_class=self.images_per_class, long_tail=self.long_tail)

    def open_split(self, split: str) -> LabelledImages:
        """Open all images of a split.

        Raises:
            DataError: two sources are given, or :func:`ganaug.open_images` finds nothing usable.
        """
        if self.train_data_dir is not None and self.dataset_name is not None:
            raise DataError(
                f"give train_data_dir ({self.train_data_dir}) or dataset_name ({self.dataset_name}), not both: they "
                "are two sources"
            )
        return open_images(
            self.dataset_name if self.train_data_dir is None else self.train_data_dir,
            config_name=self.dataset_config_name,
            split=split,
            resolution=self.resolution,
            channels=self.channels,
            background=self.background,
            skip_bad_images=self.skip_bad_images,
        )


def open_all(
    args: Any, accelerator: Accelerator, checkpoint: Checkpoint | None
) -> tuple[LabelledImages, LabelledImages]:
    """What is trained on, and those of it that came with labels."""
    with accelerator.local_main_process_first():  # what is downloaded is downloaded once
        images = args.data.open()
        if args.unlabeled_data is None:
            return images, images
        how = {"background": args.data.background, "skip_bad_images": args.data.skip_bad_images}
        unlabeled = open_unlabeled(args.unlabeled_data, images, **how)
    targets = torch.zeros(len(unlabeled), dtype=torch.int64)
    if accelerator.is_main_process:
        # Made anew they could differ, and the run would be another: threads and devices round differently.
        kept = checkpoint and checkpoint.run / LABELS
        if kept and kept.exists():
            targets = kept_labels(kept, len(unlabeled))
        else:
            teacher = teacher_of(images, args.init_from, accelerator)
            flip = "flip" in args.training.augment
            targets = pseudo_label(images, unlabeled, generator=teacher, horizontal_flip=flip).targets
    # Classifiers trained on other devices may answer differently.
    targets = broadcast(targets.to(accelerator.device)).cpu()
    name = f"{len(targets):,} pseudo-labelled images"
    return joined(images, LabelledImages(unlabeled, targets, images.classes, name)), images


def keep_labels(folder: RunFolder, images: LabelledImages, labelled: LabelledImages) -> None:
    """Write the labels that classifiers gave to where a resumed run finds them."""
    if len(images) > len(labelled):
        with atomic_path(folder.path / LABELS) as path:
            write_tensors(path, {"labels": images.targets[len(labelled) :]})


def kept_labels(path: Path, count: int) -> Tensor:
    """Labels that the run gave to so many images.

    Raises:
        InputError: the file is damaged, or of another number of images.
    """
    try:
        labels = load_file(path)["labels"]
    except (OSError, SafetensorError, KeyError) as error:
        raise InputError(f"{path} cannot be read: {error}. Start another run") from error
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
    accelerator.print(f"{trained} has other classes or sizes: images are labelled without it")
    return None
