"""Transforms of batches on the training device; :class:`GANMix` goes where torchvision's MixUp would."""

from ganaug.mixing.batch import GANMix

__all__ = ["GANMix"]
