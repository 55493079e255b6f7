"""One training step: one generator pass, a discriminator update, a generator update."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from typing import cast

import torch
from accelerate import Accelerator
from torch import Tensor, nn

from ganaug.data import LabelledImages
from ganaug.generators.base import Generator
from ganaug.seeding import Purpose, random_stream
from ganaug.training.adam import DenseAdam
from ganaug.training.batches import TrainingBatches
from ganaug.training.ema import GeneratorEMA
from ganaug.training.objectives import Objective
from ganaug.training.settings import TrainingSettings


class Trainer:
    """Two networks, their optimizers, and the average of the generator.

    Args:
        generator (Generator): trained in place.
        discriminator (nn.Module): trained in place; see :meth:`Generator.make_discriminator` for what it returns.
        objective (Objective): the losses.
        data (LabelledImages): training images, of the generator's size, channels and classes.
        settings (TrainingSettings): how long and how.
        accelerator (Accelerator): device, processes, precision and trackers.

    Raises:
        ValueError: the images are not of the generator's shape or classes.
    """

    def __init__(
        self,
        generator: Generator,
        discriminator: nn.Module,
        objective: Objective,
        data: LabelledImages,
        settings: TrainingSettings,
        accelerator: Accelerator,
    ) -> None:
        made = (generator.channels, generator.image_size, generator.image_size)
        known = generator.label_names if generator.conditional else data.classes
        if data.images.shape[1:] != made or data.classes != known:
            raise ValueError(
                f"the generator makes {made} images of {generator.label_names}, "
                f"the data are {tuple(data.images.shape[1:])} of {data.classes}"
            )
        self.settings, self.objective, self.data, self.accelerator = settings, objective, data, accelerator
        self.batches = TrainingBatches(
            data,
            latent_dim=generator.latent_dim,
            batch_size=settings.train_batch_size // (2 if settings.half_batches else 1),
            latents_per_image=2 if settings.half_batches else 1,
            seed=settings.seed,
            device=accelerator.device,
            rank=accelerator.process_index,
            world_size=accelerator.num_processes,
        )
        for network in (generator, discriminator):
            network.to(accelerator.device).to(memory_format=torch.channels_last)
        # Without the wrapper of distributed training; unwrapping anew in every step takes a millisecond.
        self.bare_generator, self.bare_discriminator = generator, discriminator
        self.ema = GeneratorEMA(generator, settings.ema_kimg * 1000)
        if settings.compile:
            generator.compile()
            discriminator.compile()
        self.generator, self.discriminator = accelerator.prepare(generator, discriminator)
        # Not through prepare: its wrapper is for gradient scalers and accumulation, and searches the disk every step.
        self.generator_optimizer = self._adam(generator, settings.learning_rate)
        self.discriminator_optimizer = self._adam(
            discriminator, settings.discriminator_learning_rate or settings.learning_rate
        )

    def _adam(self, network: nn.Module, learning_rate: float) -> torch.optim.Optimizer:
        return DenseAdam(network.parameters(), learning_rate, (self.settings.adam_beta1, self.settings.adam_beta2))

    @property
    def total_steps(self) -> int:
        """Steps until ``total_kimg`` thousand real images were shown, by all processes together."""
        return math.ceil(self.settings.total_kimg * 1000 / self.batches.global_batch)

    @property
    def averaged_generator(self) -> Generator:
        """The generator with averaged weights: what is sampled, scored and saved."""
        return cast(Generator, self.ema.module)

    def step(self, step: int) -> dict[str, Tensor]:
        """Update both networks once.

        The generator runs once: the discriminator learns from its images, then judges the same images again for the
        generator's update.

        Args:
            step (int): number of the step; what is drawn depends on it and the seed alone.

        Returns:
            dict: the objective's monitors and ``D_loss``, scalars on the device.
        """
        self._seed_dropout(step)
        real, real_labels = self.batches.real(step)
        z, fake_labels = self.batches.latent(step)
        if self.settings.fake_labels == "real":
            fake_labels = real_labels.repeat(len(z) // len(real))
        fake = self.generator(z, fake_labels)

        # Update D, on as many generated images as real ones.
        shown, shown_labels = fake[: len(real)].detach(), fake_labels[: len(real)]
        losses = self.objective.discriminator_loss
        real_loss, real_monitors = losses(self.discriminator, real, real_labels, real=True)
        if self.settings.half_batches:
            self._update(self.discriminator_optimizer, real_loss)
            real_loss = real_loss.detach()
        fake_loss, fake_monitors = losses(self.discriminator, shown, shown_labels, real=False)
        d_loss = real_loss + fake_loss
        self._update(self.discriminator_optimizer, d_loss)

        # Update G. D's weights need no gradient, so no process waits for one: D is used without its wrapper.
        with _frozen(self.bare_discriminator):
            g_loss, g_monitors = self.objective.generator_loss(self.bare_discriminator, fake, fake_labels)
            self._update(self.generator_optimizer, g_loss)

        # Update the average.
        batch = self.batches.global_batch
        self.ema.update(images=batch, images_seen=(step + 1) * batch)
        return {"D_loss": d_loss.detach(), **real_monitors, **fake_monitors, **g_monitors}

    def _update(self, optimizer: torch.optim.Optimizer, loss: Tensor) -> None:
        optimizer.zero_grad()
        self.accelerator.backward(loss)
        optimizer.step()

    def _seed_dropout(self, step: int) -> None:
        rng = random_stream(
            self.settings.seed, Purpose.TRAINING_NOISE, index=step, attempt=self.accelerator.process_index
        )
        # torch.manual_seed would write down a traceback for each kind of accelerator that is not there.
        seed_device = torch.default_generator.manual_seed if self.batches.device.type == "cpu" else torch.manual_seed
        seed_device(int(rng.integers(2**32)))


@contextmanager
def _frozen(network: nn.Module) -> Iterator[None]:
    weights = [weight for weight in network.parameters() if weight.requires_grad]
    for weight in weights:
        weight.requires_grad_(False)
    try:
        yield
    finally:
        for weight in weights:
            weight.requires_grad_(True)
