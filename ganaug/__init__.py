"""Train a class-conditional generator on labelled images, mix its samples into a training set, and see if it helps.

- :class:`ConditionalGANAugment`, :class:`ConditionalGANStream`, :class:`GANMix` and :func:`augment_dataset` mix
  generated images into a dataset, a stream, a batch and a Hugging Face dataset;
- :class:`Generator` loads, saves and publishes generators, and :func:`sample` draws from any;
- :func:`open_images` opens labelled images from anywhere;
- :func:`fit` trains a generator, :func:`adapt` makes one of other classes yours, and :func:`evaluate` says whether it
  helps, as ``ganaug train``, ``ganaug adapt`` and ``ganaug evaluate`` do in the shell; :func:`pseudo_label` labels
  images for all of these;
- ``ganaug.training`` and ``ganaug.evaluation`` have all that these two are made of, ``ganaug.filters`` has filters of
  generated images, and ``ganaug.testing`` checks networks and datasets of your own.
"""

from ganaug.core.errors import DataError, InputError, LoadError, PublishError
from ganaug.data import LabelledImages, bundled_digits, open_images
from ganaug.generators import Generator, register_generator
from ganaug.hub.upload import publish, publish_dataset
from ganaug.mixing.batch import GANMix
from ganaug.mixing.batch_sampler import MixedBatchSampler
from ganaug.mixing.commands import adapt, evaluate, fit, pseudo_label
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
    "adapt",
    "augment_dataset",
    "bundled_digits",
    "evaluate",
    "fit",
    "generate_dataset",
    "open_images",
    "pseudo_label",
    "publish",
    "publish_dataset",
    "register_generator",
    "sample",
]
