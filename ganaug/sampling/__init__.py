"""From labels to uint8 images.

:func:`sample` draws for a generator's own labels. :class:`ClassSampler` draws for a dataset's labels: it loads the
generator, matches classes by name, and lets a filter refuse images. ``sampling.export`` writes images to files.
"""

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
