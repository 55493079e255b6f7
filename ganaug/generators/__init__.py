"""Generators, one file per family, each with its discriminator beside it."""

from ganaug.generators.acgan28 import ACGAN28Discriminator, ACGAN28Generator
from ganaug.generators.acgan64 import ACGAN64Discriminator, ACGAN64Generator
from ganaug.generators.base import Generator, register_generator, registered_generators
from ganaug.generators.cgan_maxout import CGANMaxoutDiscriminator, CGANMaxoutGenerator
from ganaug.generators.cgan_mlp import CGANMLPDiscriminator, CGANMLPGenerator
from ganaug.generators.dcgan32 import DCGAN32Discriminator, DCGAN32Generator

__all__ = [
    "ACGAN28Discriminator",
    "ACGAN28Generator",
    "ACGAN64Discriminator",
    "ACGAN64Generator",
    "CGANMLPDiscriminator",
    "CGANMLPGenerator",
    "CGANMaxoutDiscriminator",
    "CGANMaxoutGenerator",
    "DCGAN32Discriminator",
    "DCGAN32Generator",
    "Generator",
    "register_generator",
    "registered_generators",
]
