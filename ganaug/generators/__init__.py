"""Generators, one file per family, each with the network it is trained with beside it."""

from ganaug.generators.acgan28 import ACGAN28Discriminator, ACGAN28Generator
from ganaug.generators.acgan64 import ACGAN64Discriminator, ACGAN64Generator
from ganaug.generators.base import Generator
from ganaug.generators.cgan_maxout import CGANMaxoutDiscriminator, CGANMaxoutGenerator
from ganaug.generators.cgan_mlp import CGANMLPDiscriminator, CGANMLPGenerator
from ganaug.generators.dcgan32 import DCGAN32Discriminator, DCGAN32Generator
from ganaug.generators.flow import FlowGenerator, VelocityUNet
from ganaug.generators.sngan import SNGANDiscriminator, SNGANGenerator
from ganaug.hub.registry import register_generator, registered_generators

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
    "FlowGenerator",
    "Generator",
    "SNGANDiscriminator",
    "SNGANGenerator",
    "VelocityUNet",
    "register_generator",
    "registered_generators",
]
