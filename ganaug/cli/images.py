"""Flags that say which labelled images a command works on."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, cast

from ganaug import DataError, LabelledImages, open_images
from ganaug.data import Audit, audit_images, reduce_images


@dataclass(frozen=True)
class DataArguments:
    """Labelled images; without a flag, the bundled MNIST digits.

    Args:
        train_data_dir: Folder with one subfolder of images per class, also inside folders train, val and test; with
            IDX files (plain or .gz), with Parquet files, or written by save_to_disk of HF datasets.
        dataset_name: Id of a dataset on the Hugging Face Hub, torchvision:NAME (as torchvision:FashionMNIST; it is
            downloaded to the folder data), or sklearn:digits.
        dataset_config_name: Configuration of the HF dataset.
        image_column: The column with the images, for an HF dataset that has several of them.
        label_column: The column with the labels, such as fine_label, for an HF dataset that has several of them.
        classes: Open only the images of these classes; default: all classes that have an image.
        class_names: One name for each label, for data that has only numbers, such as IDX files.
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
    image_column: str | None = None
    label_column: str | None = None
    classes: tuple[str, ...] | None = None
    class_names: tuple[str, ...] | None = None
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

    def open_split(self, split: str, *, like: LabelledImages | None = None) -> LabelledImages:
        """Open all images of a split, with the classes of other images if these are given (``like``).

        Raises:
            DataError: two sources are given, or :func:`ganaug.open_images` finds nothing usable.
        """
        return open_images(
            self.source,
            split=split,
            like=like,
            resolution=self.resolution,
            channels=self.channels,
            skip_bad_images=self.skip_bad_images,
            **self._how(),
        )

    def audit_split(
        self, split: str, resolution: Callable[[int, int], int], *, like: LabelledImages | None = None
    ) -> Audit:
        """Find out what may be wrong with the images of a split.

        Args:
            split (str): which one.
            resolution (callable): chooses a side, where no flag does; see :func:`ganaug.data.audit_images`.
            like (LabelledImages, optional): the training images, whose form and classes held-out ones get.

        Raises:
            DataError: two sources are given, or there is nothing usable.
        """
        side = resolution if self.resolution is None else self.resolution
        channels = self.channels
        if like is not None:
            side, channels = like.image_size, cast(Literal[1, 3], like.channels)
        return audit_images(self.source, split=split, like=like, resolution=side, channels=channels, **self._how())

    @property
    def source(self) -> Path | str | None:
        """Where the images are, as :func:`ganaug.open_images` takes it.

        Raises:
            DataError: two sources are given.
        """
        if self.train_data_dir is not None and self.dataset_name is not None:
            raise DataError(
                f"give train_data_dir ({self.train_data_dir}) or dataset_name ({self.dataset_name}), not both: they "
                "are two sources"
            )
        return self.dataset_name if self.train_data_dir is None else self.train_data_dir

    def _how(self) -> dict[str, Any]:
        """What is read of a source, and how."""
        return {
            "config_name": self.dataset_config_name,
            "classes": self.classes,
            "class_names": self.class_names,
            "image_column": self.image_column,
            "label_column": self.label_column,
            "background": self.background,
        }
