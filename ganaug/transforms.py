"""Transforms of batches on the training device."""

from ganaug.mixing.batch import GANMix

__all__ = ["GANMix"]
