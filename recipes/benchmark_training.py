"""Images per second of the training loop, against the same networks and losses in plain PyTorch.

The baseline is the loop most people write: fp32, NCHW, a DataLoader over normalised tensors, torch.optim.Adam as it
comes, gradients for the discriminator in the generator's step. Both use all cores and one generator pass per step.
The arms take turns in one run, so that a busy machine slows both.
"""

from __future__ import annotations

import json
import platform
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import torch
from accelerate.utils import set_seed
from arguments import run
from timing import in_turns, report
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from ganaug.data import LabelledImages, bundled_digits
from ganaug.generators import ACGAN28Discriminator, ACGAN28Generator
from ganaug.generators.layers import ByteDropout
from ganaug.training import SYSTEMS, Trainer, TrainingSettings, start_accelerator


@dataclass(frozen=True)
class Arguments:
    """Flags of this benchmark.

    Args:
        rounds: How often each arm is timed.
        steps_per_round: Steps per timing.
        batch_size: Images per step.
        mixed_precision: Of our arm; auto takes bf16 where the processor has it.
        output: Write the numbers to this JSON file too.
    """

    rounds: int = 7
    steps_per_round: int = 10
    batch_size: int = 64
    mixed_precision: str = "auto"
    output: Path | None = None


def plain_loop(data: LabelledImages, batch_size: int, device: torch.device) -> Callable[[], None]:
    """One step of the baseline, as a function."""
    generator = ACGAN28Generator(data.classes).to(device)
    discriminator = ACGAN28Discriminator(len(data.classes)).to(device)
    for place, layer in enumerate(discriminator.layers):
        if isinstance(layer, ByteDropout):
            discriminator.layers[place] = nn.Dropout(layer.p)
    d_optimizer = torch.optim.Adam(discriminator.parameters(), lr=2e-4, betas=(0.5, 0.999))
    g_optimizer = torch.optim.Adam(generator.parameters(), lr=2e-4, betas=(0.5, 0.999))
    adversarial, auxiliary = nn.BCEWithLogitsLoss(), nn.CrossEntropyLoss()
    dataset = TensorDataset(data.images.float() / 127.5 - 1, data.targets)
    loader = DataLoader(dataset, batch_size=batch_size, shuffle=True, drop_last=True)

    def batches() -> Iterator[list[torch.Tensor]]:
        while True:
            yield from loader

    stream = batches()

    def step() -> None:
        real, labels = (part.to(device) for part in next(stream))
        ones, zeros = torch.ones(len(real), device=device), torch.zeros(len(real), device=device)
        fake_labels = torch.randint(len(data.classes), labels.shape, device=device)
        fake = generator(torch.randn(len(real), generator.latent_dim, device=device), fake_labels)

        d_optimizer.zero_grad()
        real_source, real_class = discriminator(real)
        fake_source, fake_class = discriminator(fake.detach())
        real_loss = adversarial(real_source, ones) + auxiliary(real_class, labels)
        fake_loss = adversarial(fake_source, zeros) + auxiliary(fake_class, fake_labels)
        ((real_loss + fake_loss) / 2).backward()
        d_optimizer.step()

        g_optimizer.zero_grad()
        source, classes = discriminator(fake)
        (adversarial(source, ones) + auxiliary(classes, fake_labels)).backward()
        g_optimizer.step()

    return step


def our_loop(trainer: Trainer) -> Callable[[], None]:
    """One step of ours, as a function."""
    steps = iter(range(10**9))
    return lambda: (trainer.step(next(steps)), None)[1]


def main(args: Arguments) -> None:
    """Time both arms in turn and print images per second and their ratio."""
    settings = TrainingSettings(train_batch_size=args.batch_size, mixed_precision=args.mixed_precision)
    accelerator = start_accelerator(settings)
    set_seed(0)
    data = bundled_digits()
    pair = ACGAN28Generator(data.classes), ACGAN28Discriminator(len(data.classes))
    trainer = Trainer(*pair, SYSTEMS["acgan-28"].objective, data, settings, accelerator)
    arms = {
        "plain fp32 NCHW": plain_loop(data, args.batch_size, accelerator.device),
        f"ganaug, precision {accelerator.mixed_precision}": our_loop(trainer),
    }

    def steps(step: Callable[[], None]) -> Callable[[], None]:
        return lambda: [step() for _ in range(args.steps_per_round)] and None

    timed = in_turns({name: steps(step) for name, step in arms.items()}, args.rounds)
    images = args.steps_per_round * args.batch_size
    found = report(
        f"acgan-28, batch {args.batch_size}, {accelerator.device}, {torch.get_num_threads()} threads, "
        f"torch {torch.__version__}, {platform.machine()}, {args.rounds} rounds of {args.steps_per_round} steps",
        {name: [images / seconds for seconds in timed[name]] for name in arms},
        unit="images/s",
    )
    if args.output:
        args.output.write_text(json.dumps({**found, "torch": torch.__version__}, indent=2))


if __name__ == "__main__":
    run(Arguments, main, __doc__)
