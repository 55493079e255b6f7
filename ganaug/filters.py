"""Filters of generated images, for ``accept``: which of them to keep."""

from ganaug.sampling.filters import ClassifierAgreement, DiscriminatorScore, Filter, StarvedFilterError

__all__ = ["ClassifierAgreement", "DiscriminatorScore", "Filter", "StarvedFilterError"]
