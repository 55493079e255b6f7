"""What mixing costs, against a plain dataset of the same length and transforms.

Three questions; where there are two arms, they take turns:

1. An epoch of a DataLoader with 2 workers over the materialised wrapper, against one over a plain dataset.
2. Lazy generation: a batch through ``__getitems__``, against the same items one at a time.
3. Materialising many images: how long it takes, and how the memory of this process grows.

The generator is untrained: speed does not depend on what it draws. At the speeds in recipes/README.md that is about
three minutes on two cores, the last question half of it.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from timing import hardware, in_turns, memory, peak_memory, report
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset
from torchvision.transforms import v2
from torchvision.transforms.v2.functional import to_pil_image

from ganaug import ConditionalGANAugment, LabelledImages
from ganaug.cli.flags import run
from ganaug.core.files import write_json
from ganaug.generators import ACGAN28Generator

CLASSES = tuple("0123456789")


@dataclass(frozen=True)
class Arguments:
    """Flags of this benchmark.

    Args:
        length: Items of the datasets whose epochs are timed.
        rounds: How often each arm is timed.
        batch_size: Of the loader, and of lazy generation.
        num_workers: Of the loader.
        materialize: How many images of 32x32x3 to materialise; 0 for none.
        output: Write the numbers to this JSON file too.
    """

    length: int = 20_000
    rounds: int = 7
    batch_size: int = 64
    num_workers: int = 2
    materialize: int = 1_000_000
    output: Path | None = None


class PILImages(Dataset[tuple[Any, int]]):
    """Images as most torchvision datasets give them: PIL, then transforms."""

    def __init__(self, data: LabelledImages, transform: Callable[[Any], Any] | None = None) -> None:
        self.data, self.targets, self.classes, self.transform = data, data.targets, data.classes, transform

    def __len__(self) -> int:
        return len(self.data)

    def __getitem__(self, index: int) -> tuple[Any, int]:
        image = to_pil_image(self.data.images[index])
        return self.transform(image) if self.transform else image, int(self.targets[index])


class SmallGenerator(nn.Module):
    """A network that costs little, so that materialising is measured and not the network."""

    latent_dim, label_names = 16, CLASSES

    def __init__(self) -> None:
        super().__init__()
        self.embedding = nn.Embedding(10, 16)
        self.layers = nn.Sequential(
            nn.Linear(16, 3 * 16 * 16), nn.Unflatten(1, (3, 16, 16)), nn.Upsample(scale_factor=2)
        )

    def forward(self, z: Tensor, labels: Tensor) -> Tensor:
        """Images of 32x32x3 in [-1, 1]."""
        return self.layers(z * self.embedding(labels)).tanh()


def noise(count: int, *, channels: int = 1, size: int = 28) -> LabelledImages:
    """Random images."""
    rng = torch.Generator().manual_seed(0)
    images = torch.randint(256, (count, channels, size, size), dtype=torch.uint8, generator=rng)
    return LabelledImages(images, torch.arange(count) % 10, CLASSES, "noise")


class Memory(Dataset[Tensor]):
    """Items of a dataset, each with the memory of the worker that made it."""

    def __init__(self, dataset: Any) -> None:
        self.dataset = dataset

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitems__(self, indices: list[int]) -> list[tuple[Any, ...]]:
        return [(*item, memory()) for item in self.dataset.__getitems__(indices)]


def epochs(args: Arguments, cache: Path) -> dict[str, Any]:
    """Question 1: an epoch, and what a worker takes of memory."""
    transform = v2.Compose([v2.RandomCrop(28, padding=2), v2.ToImage(), v2.ToDtype(torch.float32, scale=True)])
    generator = ACGAN28Generator(CLASSES).eval()
    real = PILImages(noise(round(args.length * 0.7)), transform)
    mixed = ConditionalGANAugment(real, generator, ratio=0.3, cache_dir=cache)
    mixed.materialize()
    plain = PILImages(noise(len(mixed)), transform)

    def epoch(dataset: Any) -> Callable[[], None]:
        loader = DataLoader(dataset, args.batch_size, shuffle=True, num_workers=args.num_workers)
        return lambda: [None for _ in loader] and None

    found = report(
        f"an epoch of {len(mixed)} items, {args.num_workers} workers",
        in_turns({"plain dataset": epoch(plain), "materialised wrapper": epoch(mixed)}, args.rounds),
    )
    lazy = ConditionalGANAugment(real, generator, ratio=0.3)
    for name, dataset in {"materialised": mixed, "lazy": lazy}.items():
        loader = DataLoader(Memory(dataset), args.batch_size, shuffle=True, num_workers=args.num_workers)
        peak = max(float(memory_.max()) for _, _, memory_ in loader)
        print(f"  memory of a worker, {name:12s} {peak:8.0f} MB (this process: {memory():.0f} MB)")
        found[f"worker_mb_{name}"] = peak
    return found


def lazy_generation(args: Arguments) -> dict[str, Any]:
    """Question 2: a batch at once against one item at a time."""
    mixed = ConditionalGANAugment(noise(700), ACGAN28Generator(CLASSES).eval(), ratio=0.5)
    fakes = list(range(700, 700 + args.batch_size))
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # as in a DataLoader's worker
    found = in_turns(
        {
            "__getitems__": lambda: [mixed.__getitems__(fakes) for _ in range(4)],
            "one at a time": lambda: [mixed[index] for _ in range(4) for index in fakes],
        },
        args.rounds,
    )
    torch.set_num_threads(threads)
    return report(f"4 batches of {args.batch_size} generated items, one thread", found)


def many(args: Arguments, cache: Path) -> dict[str, Any]:
    """Question 3: materialising many images."""
    mixed = ConditionalGANAugment(
        noise(10, channels=3, size=32),
        SmallGenerator(),
        sampling_strategy=dict.fromkeys(CLASSES, args.materialize // 10 + 1),
        cache_dir=cache,
    )
    started = time.perf_counter()
    grown = peak_memory(mixed.materialize)
    took = time.perf_counter() - started
    print(
        f"{mixed.n_fake} images of 32x32x3 materialised in {took:.0f} s; "
        f"memory of this process grew by {grown:.0f} MB at the most"
    )
    return {"images": mixed.n_fake, "seconds": took, "grown_mb": grown}


def main(args: Arguments) -> None:
    """Answer the three questions, and print medians, ranges and ratios."""
    print(f"{hardware(torch.device('cpu'))}, {args.rounds} rounds")
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as cache:  # Windows keeps what is mapped
        found = {"epoch": epochs(args, Path(cache)), "lazy": lazy_generation(args)}
        if args.materialize:
            found["materialize"] = many(args, Path(cache))
    if args.output:
        write_json(args.output, found)


if __name__ == "__main__":
    run(Arguments, main, __doc__)
