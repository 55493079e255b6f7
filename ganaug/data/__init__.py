"""Labelled images from anywhere, as one uint8 tensor."""

from ganaug.data.labelled import LabelledImages
from ganaug.data.readers import bundled_digits
from ganaug.data.sources import open_images
from ganaug.data.subsets import long_tail_counts, reduce_images

__all__ = ["LabelledImages", "bundled_digits", "long_tail_counts", "open_images", "reduce_images"]
