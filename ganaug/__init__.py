"""Train a class-conditional generator on labelled images, and mix its samples into a training set."""

from ganaug.augment import ConditionalGANAugment
from ganaug.data import LabelledImages, bundled_digits, open_images
from ganaug.errors import DataError, InputError, LoadError, PublishError
from ganaug.generators import Generator, register_generator
from ganaug.hf import augment_dataset, generate_dataset
from ganaug.publishing import publish, publish_dataset
from ganaug.samplers import MixedBatchSampler
from ganaug.sampling import sample
from ganaug.stream import ConditionalGANStream

__all__ = [
    "ConditionalGANAugment",
    "ConditionalGANStream",
    "DataError",
    "Generator",
    "InputError",
    "LabelledImages",
    "LoadError",
    "MixedBatchSampler",
    "PublishError",
    "augment_dataset",
    "bundled_digits",
    "generate_dataset",
    "open_images",
    "publish",
    "publish_dataset",
    "register_generator",
    "sample",
]
