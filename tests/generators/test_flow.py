"""Flow matching: the sampler against a known flow, training on images that are easily told apart, the contract."""

from __future__ import annotations

import math
import re
from itertools import pairwise

import pytest
import torch
from helpers.images import small_images

from ganaug import Generator, InputError, LabelledImages, sample
from ganaug.core.pixels import to_float, to_uint8
from ganaug.generators import ACGANGenerator, CGANMLPGenerator, FlowGenerator
from ganaug.generators.flow import with_margin
from ganaug.generators.layers import FloatGroupNorm
from ganaug.sampling.inference import InferenceCopy
from ganaug.training import FlowTrainer, GANObjective, TrainingSettings, make_trainer, train

NAMES = ("left", "right")


def build(names=NAMES, *, moving: bool = False, **options) -> FlowGenerator:
    """A small generator; a moving one has no layer of zeros, as after training."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        generator = FlowGenerator(names, **{"image_size": 8, "width": 32, "steps": 2, **options})
        if moving:
            for parameter in generator.parameters():
                parameter.data.add_(0.05 * torch.randn_like(parameter))
        return generator


def halves(n: int = 40) -> LabelledImages:
    """8x8 images whose left or right half is white, with some noise."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        images = torch.randint(0, 30, (n, 1, 8, 8), dtype=torch.uint8)
    labels = torch.arange(n) % 2
    for k, label in enumerate(labels.tolist()):
        images[k, :, :, 4 * label : 4 * label + 4] += 200
    return LabelledImages(images, labels, NAMES, "halves")


class ToTarget(FlowGenerator):
    """The exact flow of a data set that has one grey level for each class."""

    architecture = "to-target"
    TARGETS = torch.tensor([-0.5, 0.75])

    def velocity(self, images, times, labels):
        self.asked = [*getattr(self, "asked", []), float(times[0])]
        targets = self.TARGETS[labels][:, None, None, None]
        return (targets - images) / (1 - times[:, None, None, None])


@pytest.mark.parametrize("steps", [1, 2, 6])
def test_the_sampler_follows_a_known_flow_to_its_end(steps):
    with torch.random.fork_rng():
        generator = ToTarget(NAMES, image_size=8, width=32, steps=steps)
        z = torch.randn(6, 64)
    images = generator(z, torch.tensor([0, 1, 0, 1, 0, 1]))
    assert torch.allclose(images[0::2], torch.tensor(-0.5), atol=1e-5)
    assert torch.allclose(images[1::2], torch.tensor(0.75), atol=1e-5)
    assert len(generator.asked) == steps
    assert generator.asked == sorted(generator.asked)
    assert (generator.asked[0], generator.asked[-1] < 1) == (0, True)


class Decaying(FlowGenerator):
    """Towards grey, the faster the farther: the exact end is z / e."""

    architecture = "decaying"

    def velocity(self, images, times, labels):
        return -images


def test_the_error_of_the_sampler_is_of_second_order():
    errors = []
    for steps in (8, 16, 32):
        with torch.random.fork_rng():
            generator = Decaying(NAMES, image_size=8, width=32, steps=steps)
        z = torch.linspace(-1, 1, 64)[None]
        errors.append((generator(z, torch.tensor([0])).flatten() - z[0] / torch.e).abs().max().item())
    assert errors[0] < 0.01
    assert all(3 < coarse / fine < 5 for coarse, fine in pairwise(errors))


@pytest.mark.parametrize("steps", [8, 12])
def test_a_variation_at_full_strength_is_what_is_drawn(steps):
    generator, data = build(moving=True, steps=steps), halves(20)
    drawn = generator.sample(data.targets, seed=3)
    assert torch.equal(generator.vary(data.images, data.targets, strength=1, seed=3), drawn)
    assert not torch.equal(generator.vary(data.images, data.targets, strength=0.9, seed=3), drawn)


def test_a_variation_begins_at_the_image_with_noise_mixed_in():
    """A generator of velocity 0 leaves what it is given."""
    z, images = torch.linspace(-1, 1, 128).view(2, 1, 8, 8), torch.linspace(0.5, -0.5, 128).view(2, 1, 8, 8)
    for strength in (0.1, 0.25, 0.6, 1.0):
        varied = build(steps=8).forward_from(z.flatten(1), torch.tensor([0, 1]), images, strength)
        assert torch.allclose(varied, strength * z + (1 - strength) * images, atol=1e-6)


def test_only_black_and_white_have_a_margin_which_is_clamped_away():
    levels = to_float(torch.arange(256, dtype=torch.uint8).view(1, 1, 16, 16))
    learned = with_margin(levels)
    assert learned.flatten().diff()[[0, -1]].min() > 0.1
    assert torch.equal(learned[levels.abs() < 1], levels[levels.abs() < 1])
    assert torch.equal(to_uint8(learned).flatten(), torch.arange(256, dtype=torch.uint8))
    # Variations begin at such an image.
    half = build(image_size=16, steps=8).forward_from(torch.zeros(1, 256), torch.tensor([0]), levels, 0.5)
    assert torch.allclose(half, learned / 2)


@pytest.mark.parametrize(("strength", "passes"), [(0.1, 1), (0.5, 3), (0.7, 5), (1, 8)])
def test_a_variation_goes_a_part_of_the_way_in_a_part_of_the_steps(strength, passes):
    with torch.random.fork_rng():
        generator = ToTarget(NAMES, image_size=8, width=32, steps=8)
        z = torch.randn(2, 64)
    images = generator.forward_from(z, torch.tensor([0, 1]), torch.zeros(2, 1, 8, 8), strength)
    assert torch.allclose(images.mean((1, 2, 3)), ToTarget.TARGETS, atol=1e-5)
    assert generator.asked[0] == pytest.approx(1 - strength)
    assert len(generator.asked) == passes
    assert generator.asked == sorted(generator.asked)


def test_the_error_of_variations_is_of_second_order():
    errors = []
    for steps in (16, 32, 64):
        with torch.random.fork_rng():
            generator = Decaying(NAMES, image_size=8, width=32, steps=steps)
        varied = generator.forward_from(torch.ones(1, 64), torch.tensor([0]), torch.full((1, 1, 8, 8), -0.9), 0.9)
        exact = (0.9 - 0.09) * math.exp(-0.9)
        errors.append((varied - exact).abs().max().item())
    assert all(3 < coarse / fine < 5 for coarse, fine in pairwise(errors))


def test_the_stronger_the_farther_from_the_image():
    generator, data = build(moving=True, steps=8), halves(40)
    distances = [
        (generator.vary(data.images, data.targets, strength=strength).float() - data.images.float()).square().mean()
        for strength in (0.05, 0.25, 0.5, 0.75, 1)
    ]
    assert distances == sorted(distances)
    assert distances[0] < distances[-1] / 50


def test_image_label_and_latent_decide_the_variation_and_nothing_else_does():
    generator, data = build(moving=True, steps=8), halves(21)
    before = torch.random.get_rng_state()
    together = generator.vary(data.images, data.targets, strength=0.6, seed=5)
    assert torch.equal(torch.random.get_rng_state(), before)
    inference_copy = InferenceCopy(generator)
    one_by_one = [
        sample(inference_copy, [label], seed=5, indices=[k], originals=image[None], strength=0.6)
        for k, (image, label) in reversed(list(enumerate(data)))
    ]
    assert torch.equal(together, torch.cat(one_by_one[::-1]))
    named = generator.vary(data.images, [NAMES[label] for label in data.targets], strength=0.6, seed=5)
    assert torch.equal(named, together)
    others = [
        generator.vary(data.images, data.targets, strength=0.6, seed=6),
        generator.vary(data.images, 1 - data.targets, strength=0.6, seed=5),
        generator.vary(data.images.flip(3), data.targets, strength=0.6, seed=5),
    ]
    for other in others:
        assert all(not torch.equal(a, b) for a, b in zip(together, other, strict=True))


@pytest.mark.parametrize("strength", [0, -0.1, 1.01, math.nan, True, "0.5", None])
def test_a_strength_that_is_none_is_refused(strength):
    with pytest.raises(InputError, match=r"strength must be a number above 0 and up to 1, got .*\. Begin with 0\.5"):
        build(steps=8).vary(halves(2).images, [0, 1], strength=strength)


def test_a_strength_that_rounding_swallows_leaves_the_images():
    data = halves(2)
    assert torch.equal(build(moving=True, steps=8).vary(data.images, data.targets, strength=1e-17), data.images)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"originals": halves(3).images}, "one for each of 2 labels; got torch.uint8 (3, 1, 8, 8)"),
        ({"originals": halves(2).images / 255}, "originals must be uint8 (N, C, H, W)"),
        ({"originals": halves(2).images, "strength": 2}, "strength must be a number above 0 and up to 1, got 2"),
        ({"strength": 0.5}, "strength 0.5 has no meaning without originals"),
    ],
)
def test_what_cannot_be_varied_is_not_drawn(options, message):
    with pytest.raises(InputError, match=re.escape(message)):
        sample(build(steps=8), [0, 1], **options)


@pytest.mark.parametrize(
    "images",
    [halves(3).images, halves(2).images.float(), halves(2).images[..., :6], halves(2).images.expand(-1, 3, -1, -1)],
)
def test_images_that_the_generator_does_not_draw_are_refused(images):
    with pytest.raises(InputError, match=r"images must be uint8 \(N, C, H, W\) = \(2, 1, 8, 8\)"):
        build(steps=8).vary(images, [0, 1])


@pytest.mark.parametrize(
    ("generator", "why"),
    [
        (build(steps=7), "it was taught to draw in 7 of 8 passes"),
        (ACGANGenerator(NAMES, image_size=8, width=32), "it was taught to draw in 1 of 8 passes"),
        (CGANMLPGenerator(NAMES, image_size=8), "it draws from noise alone"),
    ],
)
def test_generators_of_few_passes_do_not_vary(generator, why):
    with pytest.raises(InputError, match=f"{generator.architecture} cannot vary images: {why}.*Give"):
        generator.vary(halves(2).images, [0, 1])


def test_before_training_the_image_is_the_noise():
    z = torch.linspace(-2, 2, 128).view(2, 64)
    assert torch.equal(build()(z, torch.tensor([0, 1])).flatten(1), z.clamp(-1, 1))


@pytest.mark.parametrize(("size", "channels"), [(28, 1), (32, 3), (64, 3), (44, 4), (2, 1)])
def test_shapes_and_range(size, channels):
    generator = build(image_size=size, channels=channels, moving=True)
    assert generator.latent_dim == channels * size * size
    with torch.random.fork_rng(), torch.no_grad():
        images = generator(torch.randn(3, generator.latent_dim), torch.tensor([0, 1, 0]))
    assert (images.shape, images.dtype) == ((3, channels, size, size), torch.float32)
    assert images.abs().max() <= 1


def test_label_and_latent_decide_the_image_and_nothing_else_does():
    generator = build(moving=True)
    labels = [k % 2 for k in range(21)]
    together = generator.sample(labels, seed=5)
    inference_copy = InferenceCopy(generator)
    one_by_one = [sample(inference_copy, [labels[k]], seed=5, indices=[k]) for k in range(21)]
    assert torch.equal(together, torch.cat(one_by_one))
    others = generator.sample([1 - label for label in labels], seed=5)
    assert all(not torch.equal(a, b) for a, b in zip(together, others, strict=True))
    assert len(together.unique(dim=0)) == 21


def test_it_is_saved_and_loaded(tmp_path):
    generator = build(moving=True)
    generator.save_pretrained(tmp_path)
    loaded = Generator.from_pretrained(tmp_path)
    assert type(loaded) is FlowGenerator
    assert loaded.network_options() == {"width": 32, "steps": 2}
    assert torch.equal(loaded.sample([0, 1, 1]), generator.sample([0, 1, 1]))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"image_size": 9}, "multiple of 2; got 9"),
        ({"width": 20}, "width must be a positive multiple of 8, got 20"),
        ({"steps": 0}, "steps must be an int from 1 to 1,000, got 0"),
        ({"steps": 4.0}, r"steps must be an int .*got 4\.0"),
    ],
)
def test_what_it_cannot_be_is_refused(options, message):
    with pytest.raises(InputError, match=message):
        build(**options)


def test_training_finds_the_classes(accelerator):
    data = halves()
    settings = TrainingSettings(
        total_kimg=8,
        train_batch_size=32,
        learning_rate=3e-3,
        lr_decay=0.5,
        adam_beta1=0.9,
        adam_beta2=0.99,
        ema_kimg=1,
    )
    before = torch.random.get_rng_state()
    generator = train(FlowTrainer(build(), data, settings, accelerator), None)
    assert torch.equal(torch.random.get_rng_state(), before)
    assert generator.info["training"]["last_loss"] < 0.4  # 1.7 at the start
    labels = torch.arange(40) % 2
    images = generator.sample(labels).float()
    left, right = images[..., :4].mean((1, 2, 3)), images[..., 4:].mean((1, 2, 3))
    assert ((right > left) == (labels == 1)).all()
    assert abs(torch.where(labels == 1, right, left).mean() - 215) < 25
    assert abs(torch.where(labels == 1, left, right).mean() - 15) < 25


@pytest.mark.parametrize("steps", [8, 2])
def test_where_all_real_images_are_black_or_white_generated_ones_are_too(accelerator, steps):
    edges = halves(200)
    pure = torch.where(edges.images >= 200, 255, 0).to(torch.uint8)
    pure[..., 3:5] = edges.images[..., 3:5]
    data = LabelledImages(pure, edges.targets, NAMES, "pure halves with a fuzzy edge")
    settings = TrainingSettings(total_kimg=8, train_batch_size=32, learning_rate=3e-3)
    generator = train(FlowTrainer(build(steps=steps), data, settings, accelerator), None)
    drawn = generator.sample([0, 1] * 50)[..., [0, 1, 2, 5, 6, 7]]
    assert ((drawn == 0) | (drawn == 255)).double().mean() > 0.7  # 0.85; without the margin 0.51


def test_a_step_depends_on_seed_and_number_alone(accelerator):
    data = small_images(size=8, n=6)

    def weights(steps, seed=0):
        settings = TrainingSettings(train_batch_size=8, seed=seed, total_kimg=0.08)
        trainer = FlowTrainer(build(data.classes, moving=True), data, settings, accelerator)
        with torch.random.fork_rng():
            torch.manual_seed(len(steps))
            losses = [trainer.step(step)["loss"].item() for step in steps]
        return losses, torch.cat([p.detach().flatten() for p in trainer.bare_generator.parameters()])

    (first, once), (second, again), (_, other) = weights([0, 1]), weights([0, 1]), weights([0, 1], seed=1)
    assert first == second
    assert torch.equal(once, again)
    assert not torch.equal(once, other)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"augment": ("flip", "cutout")}, "got cutout"),
        ({"discriminator_steps": 2}, "a flow has no discriminator"),
        ({"half_batches": True}, "a flow has no discriminator"),
        ({"discriminator_learning_rate": 1e-4}, "no use for discriminator_learning_rate"),
        ({"fake_labels": "real"}, "no use for fake_labels"),
    ],
)
def test_settings_that_mean_nothing_to_a_flow_are_refused(accelerator, settings, message):
    with pytest.raises(InputError, match=message):
        FlowTrainer(build(), halves(), TrainingSettings(**settings), accelerator)


def test_losses_of_a_gan_are_refused_for_a_flow(accelerator):
    losses = GANObjective("hinge", class_weight_real=0.5)
    with pytest.raises(InputError, match="no use for adversarial_loss, class_weight_real"):
        make_trainer(build(), losses, halves(), TrainingSettings(), accelerator)


def test_flipped_images_are_drawn_where_flip_is_asked_for(accelerator):
    """Half of the images of a class that has its white half on the left only are mirrored in training."""
    data = halves()
    trainer = FlowTrainer(build(), data, TrainingSettings(augment=("flip",), train_batch_size=64), accelerator)
    shown = []
    trainer.network.register_forward_pre_hook(lambda _, inputs: shown.append(inputs))
    with torch.random.fork_rng():
        trainer.step(0)
    between, labels, times = shown[0]
    clear = times > 0.6
    towards_right = (between[..., 4:].mean((1, 2, 3)) > between[..., :4].mean((1, 2, 3)))[clear]
    share = (towards_right != (labels[clear] == 1)).float().mean()
    assert 0.2 < share < 0.8


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32, torch.float64])
def test_groups_are_normalised_in_single_precision_at_least(dtype):
    values = torch.randn(4, 16, 6, 6, generator=torch.Generator().manual_seed(0), dtype=torch.float64) * 3 + 50
    values = values.to(dtype).contiguous(memory_format=torch.channels_last)
    layer = FloatGroupNorm(8, 16).to(torch.promote_types(dtype, torch.float32))
    with torch.autocast("cpu", torch.bfloat16, enabled=dtype == torch.bfloat16):
        normalised = layer(values)
    exact = torch.nn.functional.group_norm(values.double(), 8)
    assert normalised.dtype == dtype
    assert (normalised.double() - exact).abs().max() < {torch.bfloat16: 0.02, torch.float32: 1e-3}.get(dtype, 1e-12)
