from __future__ import annotations

import pytest
import torch
from torch import nn

from ganaug.generators import ACGAN28Discriminator, ACGAN28Generator, Generator, register_generator

NAMES = tuple("0123456789")


def trainable(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters() if parameter.requires_grad)


def test_acgan28_has_the_published_number_of_weights():
    with torch.random.fork_rng():
        assert trainable(ACGAN28Generator(NAMES)) == 326_601
        assert trainable(ACGAN28Discriminator(10)) == 98_763


@pytest.mark.parametrize(("size", "channels", "classes"), [(28, 1, 10), (32, 3, 2), (12, 4, 1), (64, 1, 3)])
def test_shapes_and_range(size, channels, classes):
    with torch.random.fork_rng():
        generator = ACGAN28Generator([f"c{k}" for k in range(classes)], image_size=size, channels=channels)
        discriminator = ACGAN28Discriminator(classes, channels=channels)
        images = generator(torch.randn(4, 100), torch.arange(4) % classes)
        real_fake, class_logits = discriminator(images)
    assert images.shape == (4, channels, size, size)
    assert float(images.detach().abs().max()) <= 1
    assert real_fake.shape == (4,)
    assert class_logits.shape == (4, classes)


def test_the_label_decides_the_image(generator):
    z = torch.zeros(2, 100) + 1
    with torch.no_grad():
        images = generator(z, torch.tensor([0, 1]))
    assert not torch.equal(images[0], images[1])


def test_batch_norm_momentum_is_momentum_and_not_eps(generator):
    with torch.random.fork_rng():
        parts = [*generator.modules(), *ACGAN28Discriminator(10).modules()]
    norms = [part for part in parts if isinstance(part, nn.BatchNorm2d)]
    assert len(norms) == 5
    assert {(norm.momentum, norm.eps) for norm in norms} == {(0.2, 1e-5)}


def test_discriminator_pads_as_its_source(generator):
    """Stride-2 convolutions pad the bottom and the right, and 7x7 is padded to 8x8: 28, 14, 7, 8, 4, 4."""
    with torch.random.fork_rng():
        discriminator = ACGAN28Discriminator(10).eval()
    sizes = []
    for part in discriminator.layers:
        if isinstance(part, nn.Conv2d):
            part.register_forward_hook(lambda _, inputs, output: sizes.append((inputs[0].shape[2], output.shape[2])))
    discriminator(torch.zeros(1, 1, 28, 28))
    assert sizes == [(29, 14), (15, 7), (9, 4), (4, 4)]
    first = discriminator.layers[0](torch.ones(1, 1, 28, 28))
    assert float(first[0, 0, 0, 0]) == 1
    assert float(first[0, 0, 28, 28]) == 0


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"image_size": 30}, r"multiple of 4; got 30.*--resolution 32"),
        ({"image_size": 0}, "image_size must be a positive int, got 0"),
        ({"channels": 1.0}, "channels must be a positive int, got 1.0"),
        ({"latent_dim": True}, "latent_dim must be a positive int, got True"),
    ],
)
def test_sizes_that_cannot_be_made_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        ACGAN28Generator(NAMES, **options)


@pytest.mark.parametrize("names", [[], ["a", "a"], ["a", ""], ["a", 1]])
def test_label_names_are_checked(names):
    with pytest.raises(ValueError, match="label_names must"):
        ACGAN28Generator(names)


def test_an_architecture_name_belongs_to_one_class():
    class Other(Generator):
        architecture = "acgan-28"

        def forward(self, z, labels):
            return z

    with pytest.raises(ValueError, match="already registered, by ACGAN28Generator"):
        register_generator(Other)
    assert register_generator(ACGAN28Generator) is ACGAN28Generator
