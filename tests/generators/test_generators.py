from __future__ import annotations

import re

import pytest
import torch
from torch import nn

from ganaug import ConditionalGANAugment, InputError, sample
from ganaug.evaluation import label_fidelity
from ganaug.generators import (
    ACGAN28Discriminator,
    ACGAN28Generator,
    ACGAN64Generator,
    CGANMaxoutGenerator,
    CGANMLPGenerator,
    DCGAN32Generator,
    FlowGenerator,
    Generator,
    SNGANGenerator,
    register_generator,
    registered_generators,
)
from ganaug.sampling.inference import InferenceCopy
from ganaug.training import MODELS

NAMES = tuple("0123456789")
WITH_A_WIDTH = (FlowGenerator, SNGANGenerator)
ALL = (CGANMLPGenerator, CGANMaxoutGenerator, ACGAN28Generator, ACGAN64Generator, DCGAN32Generator)


def build(cls: type[Generator], names=NAMES, **options) -> Generator:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return cls(names, **options)


def pair(cls: type[Generator], names=NAMES, **options) -> tuple[Generator, nn.Module]:
    generator = build(cls, names, **options)
    with torch.random.fork_rng():
        return generator, generator.make_discriminator()


def trainable(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters() if parameter.requires_grad)


def draws(module: nn.Module, n: int, classes: int) -> torch.Tensor:
    """What a network in training mode makes of n latents."""
    with torch.random.fork_rng():
        torch.manual_seed(1)
        return module(torch.randn(n, module.latent_dim), torch.arange(n) % classes)


@pytest.mark.parametrize(
    ("cls", "names", "options", "published"),
    [
        (CGANMLPGenerator, NAMES, {}, (1_511_412, 932_965)),
        (CGANMaxoutGenerator, NAMES, {}, (1_125_296, 1_224_351)),
        (CGANMaxoutGenerator, NAMES, {"norm_after_sigmoid": True}, (1_125_296, 1_224_351)),
        (ACGAN28Generator, NAMES, {}, (326_601, 98_763)),
        (ACGAN64Generator, ("a", "b"), {}, (12_675_915, 11_070_851)),
        # in place of the embedding, two more inputs of the linear layer
        (ACGAN64Generator, ("a", "b"), {"conditioning": "concat"}, (12_675_915 - 200 + 2 * 16384, 11_070_851)),
        (DCGAN32Generator, (), {}, (1_466_115, 522_497)),
        # an embedding of ten classes, and a class head on 4096 features
        (DCGAN32Generator, NAMES, {}, (1_466_115 + 1000, 522_497 + 40_970)),
    ],
)
def test_networks_have_the_published_number_of_weights(cls, names, options, published):
    assert tuple(trainable(network) for network in pair(cls, names, **options)) == published


@pytest.mark.parametrize(
    ("cls", "size", "channels", "classes"),
    [
        (CGANMLPGenerator, 28, 1, 10), (CGANMLPGenerator, 13, 3, 2), (CGANMaxoutGenerator, 8, 4, 3),
        (ACGAN28Generator, 28, 1, 10), (ACGAN28Generator, 32, 3, 2), (ACGAN28Generator, 12, 4, 1),
        (ACGAN64Generator, 64, 3, 2), (ACGAN64Generator, 16, 1, 1), (DCGAN32Generator, 32, 3, 0),
        (DCGAN32Generator, 40, 1, 4),
    ],
)  # fmt: skip
def test_shapes_and_range(cls, size, channels, classes):
    names = [f"c{k}" for k in range(classes)]
    generator, discriminator = pair(cls, names, image_size=size, channels=channels, latent_dim=7)
    images = draws(generator, 4, max(classes, 1))
    assert images.shape == (4, channels, size, size)
    assert float(images.detach().abs().max()) <= 1
    with torch.random.fork_rng():
        logits, class_logits = discriminator(images, torch.arange(4) % max(classes, 1))
    assert logits.shape == (4,)
    assert class_logits is None or class_logits.shape == (4, classes)
    has_class_head = cls in (ACGAN28Generator, ACGAN64Generator, DCGAN32Generator) and classes > 0
    assert (class_logits is not None) == has_class_head


@pytest.mark.parametrize("cls", ALL)
def test_the_label_and_the_latent_decide_the_image(cls):
    generator = build(cls, ("a", "b"), latent_dim=9).eval()
    with torch.no_grad():
        z = torch.linspace(-1, 1, 18).view(2, 9)
        images = generator(z[[0, 0, 1]], torch.tensor([0, 1, 0]))
    assert not torch.equal(images[0], images[1])
    assert not torch.equal(images[0], images[2])


@pytest.mark.parametrize(
    ("cls", "options"),
    [
        *((cls, {}) for cls in ALL if cls is not ACGAN64Generator),
        (ACGAN64Generator, {"image_size": 16}),  # whose layers are those of any size; the first has more outputs
        pytest.param(ACGAN64Generator, {}, marks=pytest.mark.slow),
    ],
)
def test_an_image_is_the_same_bytes_whatever_it_is_drawn_with(cls, options):
    generator = build(cls, NAMES, **options)
    draws(generator, 64, 10)  # statistics for BatchNorm
    labels = [k % 10 for k in range(21)]
    together = generator.sample(labels, seed=5)
    inference_copy = InferenceCopy(generator)
    one_by_one = [sample(inference_copy, [labels[k]], seed=5, indices=[k]) for k in range(21)]
    assert torch.equal(together, torch.cat(one_by_one))
    shifted = sample(inference_copy, labels[3:], seed=5, indices=range(3, 21))
    assert torch.equal(together[3:], shifted)


@pytest.mark.parametrize("cls", [CGANMLPGenerator, CGANMaxoutGenerator])
def test_discriminators_without_a_class_head_see_the_label(cls):
    _, discriminator = pair(cls, ("a", "b"), image_size=8)
    logits, _ = discriminator.eval()(torch.zeros(2, 1, 8, 8), torch.tensor([0, 1]))
    assert logits[0] != logits[1]


@pytest.mark.parametrize("cls", ALL)
def test_batch_norm_momentum_is_momentum_and_not_eps(cls):
    """Public code passes Keras' momentum 0.8 as the second argument, which is eps."""
    norms = [
        part
        for network in pair(cls)
        for part in network.modules()
        if isinstance(part, nn.BatchNorm1d | nn.BatchNorm2d)
    ]
    assert {norm.eps for norm in norms} <= {1e-5}
    momentum = 0.2 if cls in (CGANMLPGenerator, ACGAN28Generator) else 0.1  # Keras' 0.8, where its source says so
    assert {norm.momentum for norm in norms} <= {momentum}
    counts = {CGANMLPGenerator: 3, CGANMaxoutGenerator: 4, ACGAN28Generator: 5, ACGAN64Generator: 7}
    assert len(norms) == counts.get(cls, 0)


def test_no_batch_norm_after_the_sigmoid_of_cgan_maxout():
    """After it, pixels leave [0, 1]; before it, every value stays inside and none is cut off."""
    inside, literal = build(CGANMaxoutGenerator), build(CGANMaxoutGenerator, norm_after_sigmoid=True)
    images = draws(inside, 64, 10)
    assert float(images.detach().abs().max()) < 1
    clipped = (draws(literal, 64, 10).abs() == 1).float().mean()
    assert clipped > 0.3
    assert literal.network_options() == {"latent_dim": 100, "norm_after_sigmoid": True}


def test_maxout_takes_the_largest_of_its_pieces():
    _, discriminator = pair(CGANMaxoutGenerator)
    layer = discriminator.label_branch[0]
    values = torch.eye(10)
    pieces = (values @ layer.affine.weight.T + layer.affine.bias).view(10, 50, 5)
    assert torch.allclose(layer(values), pieces.max(2).values)
    assert abs(layer.affine.bias.std().item() - 0.02) < 0.005


def test_acgan64_starts_as_dcgan_does():
    for network in pair(ACGAN64Generator):
        for part in network.modules():
            if isinstance(part, nn.Linear | nn.Conv2d | nn.ConvTranspose2d):
                assert abs(part.weight.std().item() - 0.02) < 0.002
                assert not part.bias.any()


def test_discriminators_pad_as_their_sources():
    """Stride-2 convolutions pad the bottom and the right, and acgan-28 pads 7x7 to 8x8."""
    for cls, size, expected in [
        (ACGAN28Generator, 28, [(29, 14), (15, 7), (9, 4), (4, 4)]),
        (DCGAN32Generator, 32, [(32, 32), (33, 16), (17, 8), (9, 4)]),
    ]:
        _, discriminator = pair(cls, image_size=size, channels=1)
        sizes = []
        for part in discriminator.layers:
            if isinstance(part, nn.Conv2d):
                part.register_forward_hook(lambda _, x, y, sizes=sizes: sizes.append((x[0].shape[2], y.shape[2])))
        discriminator.eval()(torch.zeros(1, 1, size, size))
        assert sizes == expected
    with torch.random.fork_rng():
        first = ACGAN28Discriminator(10).layers[0](torch.ones(1, 1, 28, 28))
    assert float(first[0, 0, 0, 0]) == 1
    assert float(first[0, 0, 28, 28]) == 0


@pytest.mark.parametrize("name", MODELS)
def test_the_smallest_images_that_a_model_takes_can_be_trained_on(name):
    """Both networks give numbers, with numbers as gradients; what is smaller is refused with a size that is not."""
    model, options = MODELS[name], {"width": 16} if issubclass(MODELS[name].generator, WITH_A_WIDTH) else {}
    refused, taken = {}, []
    for size in range(1, 17 if name == "acgan-64" else 9):
        try:
            with torch.random.fork_rng():
                names = ("a", "b") if model.conditional else ()
                generator = model.generator(names, image_size=size, channels=1, **options)
                networks = [generator] + ([] if name.startswith("flow") else [generator.make_discriminator()])
                z, labels = torch.randn(4, generator.latent_dim), torch.tensor([0, 1, 1, 0]) * model.conditional
                images = generator(z, labels)
                made = [images] if len(networks) == 1 else [images, *networks[1](images, labels)]
        except InputError as error:
            refused[size] = str(error)
            continue
        taken.append(size)
        sum(each.sum() for each in made if each is not None).backward()
        learned = [weight for network in networks for weight in network.parameters() if weight.grad is not None]
        assert learned
        assert all(values.isfinite().all() for values in [*filter(torch.is_tensor, made), *(w.grad for w in learned)])
    for size, told in refused.items():
        instead = int(re.search(r"--resolution (\d+)", told)[1])
        assert instead in taken or instead > max(taken), size


@pytest.mark.parametrize(
    ("cls", "options", "message"),
    [
        (ACGAN28Generator, {"image_size": 30}, r"multiple of 4; got 30.*--resolution 32"),
        (ACGAN64Generator, {"image_size": 28}, r"multiple of 16; got 28.*--resolution 32"),
        (DCGAN32Generator, {"image_size": 28}, r"multiple of 8; got 28.*--resolution 32"),
        (ACGAN64Generator, {"conditioning": "film"}, "conditioning must be one of multiply, concat, got 'film'"),
        (CGANMaxoutGenerator, {"norm_after_sigmoid": 1}, "norm_after_sigmoid must be True or False, got 1"),
        (CGANMLPGenerator, {"image_size": 0}, "image_size must be a positive int, got 0"),
        (ACGAN28Generator, {"channels": 1.0}, "channels must be a positive int, got 1.0"),
        (ACGAN28Generator, {"latent_dim": True}, "latent_dim must be a positive int, got True"),
    ],
)
def test_sizes_and_options_that_cannot_be_made_are_refused(cls, options, message):
    with pytest.raises(ValueError, match=message):
        cls(NAMES, **options)


@pytest.mark.parametrize("names", [[], ["a", "a"], ["a", ""], ["a", 1]])
def test_label_names_are_checked(names):
    with pytest.raises(ValueError, match="label_names must"):
        ACGAN28Generator(names)


@pytest.mark.parametrize(
    ("cls", "names", "options"),
    [
        (CGANMLPGenerator, NAMES, {"latent_dim": 3}),
        (CGANMaxoutGenerator, NAMES, {"norm_after_sigmoid": True}),
        (ACGAN64Generator, ("cat", "dog"), {"image_size": 16, "channels": 1, "conditioning": "concat"}),
        (DCGAN32Generator, NAMES, {"image_size": 16, "channels": 1}),
        (DCGAN32Generator, (), {}),
    ],
)
def test_every_network_is_saved_and_loaded(cls, names, options, tmp_path):
    generator = build(cls, names, **options)
    generator.save_pretrained(tmp_path)
    loaded = Generator.from_pretrained(tmp_path)
    assert type(loaded) is cls
    assert loaded.network_options() == generator.network_options()
    labels = [0] if not names else list(range(len(names)))
    assert torch.equal(loaded.sample(labels, seed=3), generator.sample(labels, seed=3))


def test_an_unconditional_generator_draws_but_has_no_classes(tmp_path, digits):
    generator = build(DCGAN32Generator, (), channels=1)
    assert not generator.conditional
    assert generator.sample([0] * 3).shape == (3, 1, 32, 32)
    with pytest.raises(ValueError, match="labels must be from 0 to 0, got 1; this generator is unconditional"):
        generator.sample([0, 1])
    with pytest.raises(ValueError, match="dcgan-32-conditional"):
        ConditionalGANAugment(digits, generator)
    with pytest.raises(InputError, match="this dcgan-32 has no classes"):
        label_fidelity(generator, nn.Identity())
    generator.save_pretrained(tmp_path)
    card = (tmp_path / "README.md").read_text()
    assert "This image generator is unconditional" in card
    assert "ConditionalGANAugment" not in card


def test_an_architecture_name_belongs_to_one_class():
    class Other(Generator):
        architecture = "acgan-28"

        def forward(self, z, labels):
            return z

    with pytest.raises(ValueError, match="already registered, by ACGAN28Generator"):
        register_generator(Other)
    assert register_generator(ACGAN28Generator) is ACGAN28Generator
    assert {cls.architecture for cls in ALL} <= registered_generators().keys()


def test_a_network_of_ones_own_without_a_discriminator_says_so():
    class Alone(Generator):
        architecture = "alone"

        def forward(self, z, labels):
            return z

    with pytest.raises(InputError, match="Alone has no discriminator to train against: define make_discriminator"):
        Alone(("a",), image_size=4, channels=1, latent_dim=2).make_discriminator()
