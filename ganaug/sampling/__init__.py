"""From labels to uint8 images: drawing with a generator, for a dataset's classes, with a filter."""

from ganaug.sampling.class_sampler import ClassSampler
from ganaug.sampling.draw import sample
from ganaug.sampling.filters import ClassifierAgreement, DiscriminatorScore, Filter, StarvedFilterError
from ganaug.sampling.inference import ConditionalGenerator

__all__ = [
    "ClassSampler",
    "ClassifierAgreement",
    "ConditionalGenerator",
    "DiscriminatorScore",
    "Filter",
    "StarvedFilterError",
    "sample",
]
