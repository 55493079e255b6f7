"""Generators: one file per family, which also has the discriminator that the generator is trained against.

:class:`Generator` is the contract that all keep, and :func:`register_generator` adds one of your own to those that
``Generator.from_pretrained`` can load.
"""

from ganaug.generators.acgan import ACGAN28Discriminator, ACGAN28Generator, ACGAN64Discriminator, ACGAN64Generator
from ganaug.generators.base import Generator
from ganaug.generators.cgan import (
    CGANMaxoutDiscriminator,
    CGANMaxoutGenerator,
    CGANMLPDiscriminator,
    CGANMLPGenerator,
)
from ganaug.generators.dcgan import DCGAN32Discriminator, DCGAN32Generator
from ganaug.generators.flow import FlowGenerator, VelocityUNet
from ganaug.generators.one_pass import ACGANGenerator, FlowDiscriminator
from ganaug.generators.sngan import SNGANDiscriminator, SNGANGenerator
from ganaug.hub.registry import register_generator, registered_generators

__all__ = [
    "ACGAN28Discriminator",
    "ACGAN28Generator",
    "ACGAN64Discriminator",
    "ACGAN64Generator",
    "ACGANGenerator",
    "CGANMLPDiscriminator",
    "CGANMLPGenerator",
    "CGANMaxoutDiscriminator",
    "CGANMaxoutGenerator",
    "DCGAN32Discriminator",
    "DCGAN32Generator",
    "FlowDiscriminator",
    "FlowGenerator",
    "Generator",
    "SNGANDiscriminator",
    "SNGANGenerator",
    "VelocityUNet",
    "register_generator",
    "registered_generators",
]
