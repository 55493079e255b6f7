"""Generators, one file per family, each with its discriminator beside it."""

from ganaug.generators.acgan28 import ACGAN28Discriminator, ACGAN28Generator
from ganaug.generators.base import Generator, register_generator, registered_generators

__all__ = [
    "ACGAN28Discriminator",
    "ACGAN28Generator",
    "Generator",
    "register_generator",
    "registered_generators",
]
