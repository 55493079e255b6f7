"""Train a conditional GAN of fully connected networks (Mirza & Osindero 2014) on labelled images.

    accelerate launch recipes/train_cgan.py

Without flags: the network cgan-mlp on the bundled MNIST digits.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from accelerate import Accelerator

from ganaug import LabelledImages
from ganaug.cli.flags import run
from ganaug.cli.runs import how_to_use, new_generator, publish_run, start_run, with_choices
from ganaug.cli.train_flags import (
    TrainingArguments,
    check_hub_flags,
    checkpoint_of,
    parse_training,
    with_saved_flags,
)
from ganaug.cli.training_images import keep_labels, open_all
from ganaug.training import GANTrainer, hold_back, start_accelerator, train
from ganaug.training.run_page import write_run_page


@dataclass(frozen=True)
class Arguments(TrainingArguments):
    """Flags of this recipe.

    Args:
        model: cgan-mlp embeds the label; cgan-maxout is the network of the paper, with a maxout discriminator.
        norm_after_sigmoid: Of cgan-maxout: its source's literal order, whose BatchNorm leaves the range of pixels.
    """

    model: Literal["cgan-mlp", "cgan-maxout"] = "cgan-mlp"
    norm_after_sigmoid: bool = False


def new_trainer(args: Arguments, images: LabelledImages, accelerator: Accelerator) -> GANTrainer:
    """Both networks, which are told the labels, and the objective that they are trained by in turns."""
    generator = new_generator(args, images)
    discriminator = generator.make_discriminator()
    return GANTrainer(generator, discriminator, args.objective, images, args.training, accelerator)


def main(args: Arguments) -> None:
    """Train, save, and say how to use what was saved."""
    check_hub_flags(args)
    checkpoint = checkpoint_of(args)  # None, or where --resume_from_checkpoint goes on
    args = with_saved_flags(args, checkpoint)
    accelerator = start_accelerator(args.training, report_to=args.report_to)

    # Images: with labels, and those of --unlabeled_data with the labels that classifiers give them.
    everything, labelled = open_all(args, accelerator, checkpoint)

    # A length within --budget_minutes.
    if checkpoint is None:
        args = with_choices(args, everything, labelled, accelerator, new_trainer)

    # With --evaluation_kimg, a tenth of each class is held back, to choose the best generator of the run by.
    images, held_out = hold_back(args.training, everything, labelled)

    # The networks and objective, and the folder of the run, which only the main process writes.
    trainer = new_trainer(args, images, accelerator)
    folder = start_run(args, trainer, checkpoint, held_out)
    if folder:
        keep_labels(folder, everything, labelled)

    # Train; the generator is saved in the folder with its card.
    generator = train(trainer, folder, resume=checkpoint, held_out=held_out)
    accelerator.end_training()
    if folder:
        write_run_page(folder.path)
        print(how_to_use(generator, folder.path))
        publish_run(args, folder.path)  # with --push_to_hub


if __name__ == "__main__":
    run(Arguments, main, __doc__, parse=parse_training)
