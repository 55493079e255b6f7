"""What there is to watch about a run, beside the pictures."""

from __future__ import annotations

import torch
from accelerate import Accelerator
from torch import Tensor

from ganaug.devices import evaluation_mode
from ganaug.pixels import to_float
from ganaug.seeding import Purpose, latents, random_stream
from ganaug.training.trainer import Trainer


class RunningMeans:
    """Means of scalars over steps and processes, kept on the device until they are asked for.

    Args:
        accelerator (Accelerator): the processes to average over.
    """

    def __init__(self, accelerator: Accelerator) -> None:
        self.accelerator = accelerator
        self._sums: dict[str, Tensor] = {}
        self._steps = 0

    def add(self, scalars: dict[str, Tensor]) -> None:
        """Take in the scalars of one step."""
        for name, value in scalars.items():
            self._sums[name] = self._sums[name] + value if name in self._sums else value
        self._steps += 1

    def take(self) -> dict[str, float]:
        """Means since the last call; to be called by all processes together."""
        means = torch.stack(list(self._sums.values())) / self._steps
        means = self.accelerator.reduce(means, reduction="mean")
        names, self._sums, self._steps = list(self._sums), {}, 0
        return dict(zip(names, means.tolist(), strict=True))


def discriminator_accuracy(trainer: Trainer, count: int = 150) -> dict[str, float]:
    """How often the discriminator is right, in evaluation mode, on real images and on as many generated ones.

    Near 1 on both, it has won; near 0.5 it is guessing. Always the same real images and latents.

    Returns:
        dict: ``evaluated_accuracy_real`` and ``evaluated_accuracy_fake``, in [0, 1].
    """
    data, seed, device = trainer.data, trainer.settings.seed, trainer.accelerator.device
    generator, discriminator = trainer.bare_generator, trainer.bare_discriminator
    chosen = torch.from_numpy(random_stream(seed, Purpose.MONITOR).integers(len(data), size=count))
    labels = data.targets[chosen].to(device)
    z = latents(seed, range(count), generator.latent_dim).to(device)
    with torch.inference_mode(), evaluation_mode(generator), evaluation_mode(discriminator):
        real = to_float(data.images[chosen].to(device))
        taken_for_real = [
            trainer.objective.judges_real(discriminator, images, labels) for images in (real, generator(z, labels))
        ]
    return {
        "evaluated_accuracy_real": taken_for_real[0].float().mean().item(),
        "evaluated_accuracy_fake": 1 - taken_for_real[1].float().mean().item(),
    }
