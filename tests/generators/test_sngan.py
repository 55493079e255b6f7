from __future__ import annotations

import pytest
import torch
from torch import nn

from ganaug import Generator, InputError, sample
from ganaug.generators import SNGANDiscriminator, SNGANGenerator
from ganaug.sampling.inference import InferenceCopy

NAMES = ("a", "b", "c")


def build(names=NAMES, **options) -> SNGANGenerator:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return SNGANGenerator(names, **{"image_size": 16, "width": 32, "latent_dim": 8, **options})


def discriminator_of(generator: SNGANGenerator) -> SNGANDiscriminator:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return generator.make_discriminator()


def noise(*shape: int) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize(("size", "channels"), [(28, 1), (32, 3), (64, 3), (44, 4), (8, 1), (2, 1)])
def test_shapes_and_range(size, channels):
    generator = build(image_size=size, channels=channels)
    images = generator(noise(4, 8), torch.tensor([0, 1, 2, 0]))
    assert images.shape == (4, channels, size, size)
    assert images.detach().abs().max() <= 1
    logits, class_logits = discriminator_of(generator)(images, torch.tensor([0, 1, 2, 0]))
    assert (logits.shape, class_logits.shape) == ((4,), (4, 3))


def test_every_layer_of_the_discriminator_but_the_class_head_has_norm_one():
    discriminator = discriminator_of(build())
    with torch.no_grad():
        for _ in range(60):  # each pass in training mode is a step of the power iteration
            discriminator(noise(2, 1, 16, 16), torch.tensor([0, 1]))
    layers = [part for part in discriminator.modules() if isinstance(part, nn.Conv2d | nn.Linear | nn.Embedding)]
    norms = {name: torch.linalg.matrix_norm(name.weight.detach().flatten(1), ord=2).item() for name in layers}
    head = norms.pop(discriminator.class_head)
    assert len(norms) >= 8
    assert all(abs(norm - 1) < 0.02 for norm in norms.values())
    assert abs(head - 1) > 0.05
    assert not any(isinstance(part, nn.BatchNorm2d) for part in discriminator.modules())


def test_the_label_is_judged_with_the_image():
    discriminator = discriminator_of(build()).eval()
    image = noise(1, 1, 16, 16).expand(3, -1, -1, -1)
    logits, class_logits = discriminator(image, torch.tensor([0, 1, 2]))
    assert len(logits.unique()) == 3
    assert torch.allclose(class_logits[0], class_logits[1], atol=1e-6)


def test_label_and_latent_decide_the_image_and_nothing_else_does():
    generator = build()
    with torch.no_grad():
        generator(noise(64, 8), torch.arange(64) % 3)  # statistics for BatchNorm
    labels = [k % 3 for k in range(21)]
    together = generator.sample(labels, seed=5)
    inference_copy = InferenceCopy(generator)
    one_by_one = [sample(inference_copy, [labels[k]], seed=5, indices=[k]) for k in range(21)]
    assert torch.equal(together, torch.cat(one_by_one))
    others = generator.sample([(label + 1) % 3 for label in labels], seed=5)
    assert all(not torch.equal(a, b) for a, b in zip(together, others, strict=True))
    assert len(together.unique(dim=0)) == 21


def test_it_is_saved_and_loaded(tmp_path):
    generator = build()
    generator.save_pretrained(tmp_path)
    loaded = Generator.from_pretrained(tmp_path)
    assert type(loaded) is SNGANGenerator
    assert loaded.network_options() == {"latent_dim": 8, "width": 32}
    assert torch.equal(loaded.sample([0, 1, 2]), generator.sample([0, 1, 2]))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"image_size": 15}, "multiple of 2; got 15"),
        ({"width": 20}, "width must be a positive multiple of 8, got 20"),
        ({"width": True}, "width must be a positive multiple of 8, got True"),
    ],
)
def test_what_it_cannot_be_is_refused(options, message):
    with pytest.raises(InputError, match=message):
        build(**options)
