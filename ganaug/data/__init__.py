"""Labelled images from anywhere, as one uint8 tensor.

:func:`open_images` opens a folder, a dataset of torchvision or of the Hugging Face Hub, or a dataset object, and
returns :class:`LabelledImages`; :func:`open_unlabeled` opens images without labels. :func:`reduce_images` keeps a
part of them, balanced or long-tailed. :func:`audit_images` finds what may be wrong with them.
"""

from ganaug.data.audit import Audit, audit_images
from ganaug.data.labelled import LabelledImages, classes_with_counts, joined
from ganaug.data.readers import bundled_digits
from ganaug.data.sources import open_images
from ganaug.data.subsets import long_tail_counts, reduce_images
from ganaug.data.unlabeled import open_unlabeled

__all__ = [
    "Audit",
    "LabelledImages",
    "audit_images",
    "bundled_digits",
    "classes_with_counts",
    "joined",
    "long_tail_counts",
    "open_images",
    "open_unlabeled",
    "reduce_images",
]
