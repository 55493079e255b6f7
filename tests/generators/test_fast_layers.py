"""What is computed another way than torch's layers do must give what they give."""

from __future__ import annotations

import gc

import pytest
import torch
from baselines import plain_form
from helpers.images import small_images
from helpers.shared_training import in_double
from torch import nn

from ganaug.generators.convolutions import DoublingConv2d, HalvingConv2d, ToGreyConv2d, UpsampledConv2d
from ganaug.generators.layers import ByteDropout
from ganaug.training import CLASSIC_MODELS, GANTrainer, TrainingSettings, start_accelerator
from ganaug.training.optim import DenseAdam

LAYERS = [
    # fast layer, torch's, arguments; few pixels and many of them for the two that choose by it
    (UpsampledConv2d, lambda i, o: nn.Sequential(nn.Upsample(scale_factor=2), nn.Conv2d(i, o, 3, padding=1)), (5, 6)),
    (DoublingConv2d, lambda i, o: nn.ConvTranspose2d(i, o, 4, stride=2, padding=1), (5, 6)),
    (DoublingConv2d, lambda i, o: nn.ConvTranspose2d(i, o, 4, stride=2, padding=1), (80, 3)),
    (HalvingConv2d, lambda i, o: nn.Conv2d(i, o, 4, stride=2, padding=1), (5, 6)),
    (HalvingConv2d, lambda i, o: nn.Conv2d(i, o, 4, stride=2, padding=1), (3, 80)),
    (ToGreyConv2d, lambda i, o: nn.Conv2d(i, o, 3, padding=1), (16, 1)),
    (ToGreyConv2d, lambda i, o: nn.Conv2d(i, o, 3, padding=1), (5, 3)),
]


def both(fast, plain, channels):
    with torch.random.fork_rng():
        torch.manual_seed(0)
        ours, theirs = fast(*channels), plain(*channels)
        values, gradient = torch.randn(4, channels[0], 4, 4), torch.randn(4, channels[1], 8, 8)
    (theirs[1] if isinstance(theirs, nn.Sequential) else theirs).load_state_dict(ours.state_dict())
    return ours, theirs, values, gradient


def results(layer, values, gradient):
    values = values.clone().requires_grad_()
    made = layer(values)
    made.backward(gradient[..., : made.shape[2], : made.shape[3]].to(made.dtype))
    return [made.detach(), values.grad, *(parameter.grad for parameter in layer.parameters())]


@pytest.mark.parametrize(("fast", "plain", "channels"), LAYERS)
@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_fast_layers_give_what_torchs_give(fast, plain, channels, layout):
    ours, theirs, values, gradient = both(fast, plain, channels)
    ours, theirs = ours.double().to(memory_format=layout), theirs.double().to(memory_format=layout)
    values, gradient = values.double().contiguous(memory_format=layout), gradient.double()
    for a, b in zip(results(ours, values, gradient), results(theirs, values, gradient), strict=True):
        assert a.shape == b.shape
        assert torch.allclose(a, b, rtol=0, atol=1e-12)


@pytest.mark.parametrize(("fast", "plain", "channels"), LAYERS)
def test_under_autocast_too(fast, plain, channels):
    ours, theirs, values, gradient = both(fast, plain, channels)
    with torch.autocast("cpu", torch.bfloat16):
        made = ours(values)
    assert made.dtype == torch.bfloat16
    exact = results(theirs, values, gradient)
    with torch.autocast("cpu", torch.bfloat16):
        rounded = results(ours, values, gradient)
    for a, b in zip(rounded, exact, strict=True):
        assert (a.float() - b).norm() < 0.02 * b.norm()  # bf16 has 8 bits


@pytest.mark.parametrize(("fast", "plain", "channels"), LAYERS)
def test_gradients_can_be_differentiated_again(fast, plain, channels):
    """As a penalty on the discriminator's gradient does."""
    ours, theirs, values, _ = both(fast, plain, channels)
    found = []
    for layer in (ours.double(), theirs.double()):
        some = values.double().requires_grad_()
        slope = torch.autograd.grad(layer(some).square().sum(), some, create_graph=True)[0]
        slope.square().sum().backward()
        found.append([some.grad, *(parameter.grad for parameter in layer.parameters())])
    for a, b in zip(*found, strict=True):
        assert torch.allclose(a, b, rtol=1e-9, atol=1e-9)


def test_adam_over_memory_in_order_is_adam():
    with torch.random.fork_rng():
        torch.manual_seed(0)
        start = [torch.randn(6, 5, 3, 3), torch.randn(7, 4), torch.randn(3)]
        gradients = [[torch.randn_like(weight) for weight in start] for _ in range(3)]
    ours = [
        nn.Parameter(
            w.clone().contiguous(memory_format=torch.channels_last if w.ndim == 4 else torch.contiguous_format)
        )
        for w in start
    ]
    theirs = [nn.Parameter(weight.clone()) for weight in start]
    optimizers = (
        DenseAdam(zip("abc", ours, strict=True), 0.01, (0.5, 0.999)),
        torch.optim.Adam(theirs, 0.01, (0.5, 0.999)),
    )
    for some in gradients:
        for weights, optimizer in zip((ours, theirs), optimizers, strict=True):
            optimizer.zero_grad()
            for weight, gradient in zip(weights, some, strict=True):
                weight.grad = gradient.clone()  # not in the weight's memory format
            optimizer.step()
    for a, b in zip(ours, theirs, strict=True):
        assert torch.allclose(a, b, rtol=0, atol=1e-6)


@pytest.mark.parametrize("part", ["generator", "discriminator"])
def test_the_largest_networks_give_what_plain_layers_give(monkeypatch, part):
    """One pass and its gradients, in float32; steps of training in float64 take gigabytes and are slow, below."""
    data = small_images(size=16, n=6)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        network = CLASSIC_MODELS["acgan-64"].make_generator(data)
        inputs = (torch.randn(6, network.latent_dim), data.targets)
        if part == "discriminator":
            network, inputs = network.make_discriminator(), (data.images / 127.5 - 1,)
        plain = plain_form(network)
    found = []
    for each in (network, plain):
        made = each(*inputs)
        made = torch.cat([value.flatten() for value in (made if isinstance(made, tuple) else (made,))])
        made.square().sum().backward()
        found.append([made.detach(), *(weight.grad for weight in each.parameters())])
    largest = max(gradient.norm() for gradient in found[1][1:])
    for a, b in zip(*found, strict=True):
        assert (a - b).norm() < 1e-4 * b.norm() + 1e-6 * largest  # those of biases before BatchNorm are rounding


def losses(trainer, steps):
    found = [trainer.step(step) for step in range(steps)]
    return torch.tensor([[monitors[name].item() for name in ("D_loss", "G_loss")] for monitors in found])


@pytest.mark.parametrize(
    "name", [pytest.param(it, marks=pytest.mark.slow) if it == "acgan-64" else it for it in CLASSIC_MODELS]
)
def test_losses_are_those_of_plain_layers_and_plain_adam(monkeypatch, name):
    """Fixed-seed training for 8 steps, of the largest networks for 4, in float64.

    In float32 a step more or less of rounding grows to more than that: the plain loop differs as much from itself with
    another number of threads. Without dropout, whose masks are drawn in another way.
    """
    model = CLASSIC_MODELS[name]
    data = small_images(size=16, n=24)
    settings = TrainingSettings(
        train_batch_size=8,
        mixed_precision="no",
        cpu_threads=2,
        half_batches=model.settings.half_batches,
        fake_labels=model.settings.fake_labels,
    )
    accelerator = start_accelerator(settings)

    def networks():
        with torch.random.fork_rng():
            torch.manual_seed(0)
            generator = model.make_generator(data)
            discriminator = generator.make_discriminator()
        for part in discriminator.modules():
            if isinstance(part, ByteDropout):
                part.forward = lambda values: values
        for network in (generator, discriminator):
            for part in network.double().modules():
                part.register_forward_pre_hook(in_double)
        return generator, discriminator

    def plain_adam(_, name, network, learning_rate, betas=None):
        optimizer = torch.optim.Adam(network.parameters(), lr=learning_rate, betas=(0.5, 0.999))
        optimizer.skipped = torch.zeros(())  # it takes every step
        return optimizer

    steps = 4 if name == "acgan-64" else 8
    with torch.random.fork_rng():
        ours = losses(GANTrainer(*networks(), model.objective, data, settings, accelerator), steps)
        gc.collect()  # a trainer refers to itself
        plain = [plain_form(network) for network in networks()]
        for part in plain[1].modules():
            if isinstance(part, nn.Dropout):
                part.p = 0.0
        monkeypatch.setattr(GANTrainer, "_adam", plain_adam)
        theirs = losses(GANTrainer(*plain, model.objective, data, settings, accelerator), steps)
    assert ours.std(0).min() > 1e-3  # the losses move
    assert torch.allclose(ours, theirs, rtol=0, atol=1e-4)
