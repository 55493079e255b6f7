"""Filters of generated images, for the argument ``accept``: which of them to keep.

A :data:`Filter` is any callable from uint8 images (N, C, H, W) and int64 labels (N,), the dataset's, to bool (N,). A
module is copied, so training it further changes nothing; a network that a function uses must be left alone.
:class:`ClassifierAgreement` and :class:`DiscriminatorScore` are two ready-made ones, and :class:`StarvedFilterError`
says that one refused every image drawn for an item.
"""

from ganaug.sampling.filters import ClassifierAgreement, DiscriminatorScore, Filter, StarvedFilterError

__all__ = ["ClassifierAgreement", "DiscriminatorScore", "Filter", "StarvedFilterError"]
