"""Labelled images from anywhere, as one uint8 tensor."""

from ganaug.data.labelled import LabelledImages
from ganaug.data.readers import bundled_digits
from ganaug.data.sources import open_images

__all__ = ["LabelledImages", "bundled_digits", "open_images"]
