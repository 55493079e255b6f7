"""The models that peers.py compares, each trained by one thread for a number of seconds of a core.

Those of other packages are used as their documentation uses them for images of 28 pixels, in fp32:

- torchcfm: the class-conditional example, ``examples/images/conditional_mnist.ipynb`` of
  github.com/atong01/conditional-flow-matching. Network, Adam at its defaults, batches of 128, and drawing by dopri5,
  100 images at a time, are the example's; it averages no weights.
- diffusers: the class-conditioned ``UNet2DModel`` of unit 2 of the diffusion course, in
  ``unit2/02_class_conditioned_diffusion_model_example.ipynb`` of github.com/huggingface/diffusion-models-class.
  Network, noise, Adam at 1e-3 and batches of 128 are the course's. The network is told the classes by its own
  ``num_class_embeds``, where the course adds channels; weights are averaged as in diffusers'
  ``examples/unconditional_image_generation/train_unconditional.py``; and drawing is DDIM in the 50 steps of
  ``DDIMPipeline``.
- public-acgan-32: the ACGAN of baselines.py, in its loop. It draws sides that are multiples of 16, so images get a
  black border, which is cut off again, instead of being resized, which would lose something.

Ours are at their defaults too, as :func:`ganaug.training.fit` trains them.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from tempfile import TemporaryDirectory

import torch
import torch.nn.functional as F
from baselines import batches, plain_form, plain_step
from torch import Tensor
from training import BENCHMARKED

from ganaug import LabelledImages
from ganaug.core.pixels import to_uint8
from ganaug.training import MODELS, fit, make_trainer, start_accelerator
from ganaug.training.presets import time_training

DRAWN = 100  # images at a time
TIMED = 0.05  # share of the budget for which steps are timed first, where the length must be known beforehand


@dataclass(frozen=True)
class Trained:
    """What came of a training.

    Attributes:
        shown (int): real images, in training.
        seconds (float): of a core, that training took.
        draw (callable): makes images of labels, int64 (N,): uint8 (N, C, H, W).
    """

    shown: int
    seconds: float
    draw: Callable[[Tensor], Tensor]


def torchcfm(data: LabelledImages, seconds: float) -> Trained:
    """Flow matching by torchcfm."""
    from torchcfm.conditional_flow_matching import ConditionalFlowMatcher
    from torchcfm.models.unet import UNetModel
    from torchdiffeq import odeint

    shape = tuple(data.images.shape[1:])
    velocity = UNetModel(dim=shape, num_channels=32, num_res_blocks=1, num_classes=len(data.classes), class_cond=True)
    optimizer = torch.optim.Adam(velocity.parameters())
    matcher, loader = ConditionalFlowMatcher(sigma=0.0), batches(data, 128)

    def step() -> None:
        images, labels = next(loader)
        t, between, wanted = matcher.sample_location_and_conditional_flow(torch.randn_like(images), images)
        loss = (velocity(t, between, labels) - wanted).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()

    def draw(labels: Tensor) -> Tensor:
        noise, times = torch.randn(len(labels), *shape), torch.tensor([0.0, 1.0])
        return odeint(
            lambda t, images: velocity(t, images, labels), noise, times, atol=1e-4, rtol=1e-4, method="dopri5"
        )[-1]

    return Trained(*train_for(seconds, step, 128), in_parts(draw))


def diffusers(data: LabelledImages, seconds: float) -> Trained:
    """Denoising diffusion by diffusers."""
    from diffusers import DDIMScheduler, DDPMScheduler, UNet2DModel
    from diffusers.training_utils import EMAModel

    network = UNet2DModel(
        sample_size=data.image_size,
        in_channels=data.channels,
        out_channels=data.channels,
        layers_per_block=2,
        block_out_channels=(32, 64, 64),
        down_block_types=("DownBlock2D", "AttnDownBlock2D", "AttnDownBlock2D"),
        up_block_types=("AttnUpBlock2D", "AttnUpBlock2D", "UpBlock2D"),
        num_class_embeds=len(data.classes),
    )
    optimizer = torch.optim.Adam(network.parameters(), lr=1e-3)
    average = EMAModel(network.parameters(), decay=0.9999, use_ema_warmup=True, inv_gamma=1.0, power=0.75)
    noising = DDPMScheduler(num_train_timesteps=1000, beta_schedule="squaredcos_cap_v2")
    loader = batches(data, 128)

    def step() -> None:
        images, labels = next(loader)
        noise, t = torch.randn_like(images), torch.randint(len(noising), (len(images),))
        loss = F.mse_loss(network(noising.add_noise(images, noise, t), t, labels).sample, noise)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        average.step(network.parameters())

    shown, taken = train_for(seconds, step, 128)
    average.copy_to(network.parameters())
    network.eval()
    denoising = DDIMScheduler.from_config(noising.config)
    denoising.set_timesteps(50)

    def draw(labels: Tensor) -> Tensor:
        images = torch.randn(len(labels), *data.images.shape[1:])
        for t in denoising.timesteps:
            images = denoising.step(network(images, t, labels).sample, t, images).prev_sample
        return images

    return Trained(shown, taken, in_parts(draw))


def public_acgan(data: LabelledImages, seconds: float) -> Trained:
    """The ACGAN that public code mostly has."""
    side, border = data.image_size, -data.image_size % 16
    before = border // 2
    framed = replace(data, images=F.pad(data.images, (before, border - before) * 2))

    model = BENCHMARKED["public-acgan-32"]
    made = model.make_generator(framed)
    generator, discriminator = plain_form(made), plain_form(made.make_discriminator())
    step = plain_step(generator, discriminator, model.objective, framed, model.settings, torch.device("cpu"))
    shown, taken = train_for(seconds, step, model.settings.train_batch_size)
    generator.eval()

    def draw(labels: Tensor) -> Tensor:
        images = generator(torch.randn(len(labels), made.latent_dim), labels)
        return images[..., before : before + side, before : before + side]

    return Trained(shown, taken, in_parts(draw))


def ours(name: str, data: LabelledImages, seconds: float) -> Trained:
    """A model of ganaug."""
    model = MODELS[name]
    settings, make_generator = replace(model.settings, cpu_threads=1), partial(model.make_generator, data)

    # Its learning rate falls at the end, so the length must be known: steps are timed first, in seconds of the core.
    trainer = make_trainer(make_generator(), model.objective, data, settings, start_accelerator(settings))
    started, started_core = time.perf_counter(), time.process_time()
    pace = time_training(trainer, seconds=TIMED * seconds)
    share = (time.process_time() - started_core) / (time.perf_counter() - started)
    kimg = pace.kimg_within(seconds / 60 / share)

    with TemporaryDirectory() as folder:
        started_core = time.process_time()
        generator = fit(make_generator, model.objective, data, replace(settings, total_kimg=kimg), folder)
        taken = time.process_time() - started_core
    return Trained(round(1000 * kimg), taken, generator.sample)


ARMS: dict[str, Callable[[LabelledImages, float], Trained]] = {
    "torchcfm": torchcfm,
    "diffusers": diffusers,
    "public-acgan-32": public_acgan,
    "flow": partial(ours, "flow"),
    "acgan": partial(ours, "acgan"),
}


def train_for(seconds: float, step: Callable[[], None], batch_size: int) -> tuple[int, float]:
    """Take steps until they have taken so many seconds of a core; images shown, and seconds taken."""
    started, shown, taken = time.process_time(), 0, 0.0
    while taken < seconds:
        step()
        shown += batch_size
        taken = time.process_time() - started
    return shown, taken


def in_parts(draw: Callable[[Tensor], Tensor]) -> Callable[[Tensor], Tensor]:
    """Draw a few labels at a time, and make uint8 of images in [-1, 1]."""

    @torch.no_grad()
    def draw_all(labels: Tensor) -> Tensor:
        return torch.cat([to_uint8(draw(part)) for part in labels.split(DRAWN)])

    return draw_all
