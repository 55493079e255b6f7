"""Train a class-conditional generator on labelled images, and mix its samples into a training set."""

from ganaug.core.errors import DataError, InputError, LoadError, PublishError
from ganaug.data import LabelledImages, bundled_digits, open_images
from ganaug.generators import Generator, register_generator
from ganaug.hub.upload import publish, publish_dataset
from ganaug.mixing.batch import GANMix
from ganaug.mixing.batch_sampler import MixedBatchSampler
from ganaug.mixing.dataset import ConditionalGANAugment
from ganaug.mixing.huggingface import augment_dataset, generate_dataset
from ganaug.mixing.stream import ConditionalGANStream
from ganaug.sampling.draw import sample

__all__ = [
    "ConditionalGANAugment",
    "ConditionalGANStream",
    "DataError",
    "GANMix",
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
