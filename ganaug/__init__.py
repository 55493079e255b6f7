"""Train a class-conditional generator on labelled images, and mix its samples into a training set."""

from ganaug.augment import ConditionalGANAugment
from ganaug.data import LabelledImages, bundled_digits, open_images
from ganaug.errors import DataError, InputError, LoadError
from ganaug.generators import Generator, register_generator
from ganaug.sampling import sample

__all__ = [
    "ConditionalGANAugment",
    "DataError",
    "Generator",
    "InputError",
    "LabelledImages",
    "LoadError",
    "bundled_digits",
    "open_images",
    "register_generator",
    "sample",
]
