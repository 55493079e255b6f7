"""Train an auxiliary classifier GAN (Odena et al. 2017) on labelled images.

Without flags: the network acgan-28 on the bundled MNIST digits, in about ten minutes on two cores.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Literal

import torch
from accelerate.utils import set_seed
from arguments import DataArguments, run

from ganaug.generators import ACGAN28Discriminator, ACGAN28Generator
from ganaug.training import (
    AuxiliaryClassifier,
    RunFolder,
    Trainer,
    TrainingSettings,
    new_run_folder,
    start_accelerator,
    train,
)


@dataclass(frozen=True)
class Arguments:
    """Flags of this recipe.

    Args:
        output_dir: Folder for the generator, its card and the files of the run; by default outputs/acgan-28, or
            outputs/acgan-28-2 and so on where that is taken.
        report_to: Log the monitors to this tracker too; they always go to training/metrics.jsonl.
    """

    data: DataArguments = field(default_factory=DataArguments)
    training: TrainingSettings = field(default_factory=TrainingSettings)
    output_dir: Path | None = None
    report_to: Literal["tensorboard"] | None = None


def main(args: Arguments) -> None:
    """Train, save, and say how to use what was saved."""
    accelerator = start_accelerator(args.training, report_to=args.report_to)
    images = args.data.open()
    set_seed(args.training.seed)
    generator = ACGAN28Generator(images.classes, image_size=images.image_size, channels=images.channels)
    discriminator = ACGAN28Discriminator(len(images.classes), channels=images.channels)

    folder = None
    if accelerator.is_main_process:
        folder = RunFolder(args.output_dir or new_run_folder("outputs/acgan-28"))
        folder.write_settings(
            {**asdict(args.training), "data": {k: str(v) for k, v in asdict(args.data).items() if v}}
        )
    accelerator.print(
        f"images: {images}\n"
        f"device: {accelerator.device}, processes: {accelerator.num_processes}, "
        f"threads: {torch.get_num_threads()}, precision: {accelerator.mixed_precision}\n"
        f"output: {folder and folder.path}"
    )
    train(Trainer(generator, discriminator, AuxiliaryClassifier(), images, args.training, accelerator), folder)
    accelerator.end_training()
    if folder:
        print(
            "\nUse it:\n"
            "from ganaug import ConditionalGANAugment, Generator\n"
            f"generator = Generator.from_pretrained({str(folder.path)!r})\n"
            "train = ConditionalGANAugment(dataset, generator, ratio=0.3)"
        )


if __name__ == "__main__":
    run(Arguments, main, __doc__)
