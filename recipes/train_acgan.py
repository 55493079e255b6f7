"""Train an auxiliary classifier GAN on labelled images (Odena et al. 2017).

    accelerate launch recipes/train_acgan.py
    accelerate launch recipes/train_acgan.py --train_data_dir photos --resolution 64

Without flags: on the bundled MNIST digits, in five minutes on two cores. The generator is a flow first, then learns to
draw in one pass, and only at the end meets a discriminator (ganaug/training/acgan_trainer.py). That of the classic
ones, acgan-28 and acgan-64, meets it at the start.
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
from ganaug.training import Trainer, hold_back, make_trainer, start_accelerator, train
from ganaug.training.run_page import write_run_page


@dataclass(frozen=True)
class Arguments(TrainingArguments):
    """Flags of this recipe.

    Args:
        model: acgan, whose length follows from the number of images, draws even sizes, and so does sngan (residual
            networks, spectral normalisation, projection); of the classic ones, acgan-28 multiples of 4, and acgan-64
            (40 times the weights) multiples of 16.
        conditioning: Of acgan-64: multiply the latent by a label embedding, or concat the one-hot label to it.
    """

    model: Literal["acgan", "acgan-28", "acgan-64", "sngan"] = "acgan"
    conditioning: Literal["multiply", "concat"] = "multiply"


def new_trainer(args: Arguments, images: LabelledImages, accelerator: Accelerator) -> Trainer:
    """The generator, and what trains it beside a discriminator that names the class too."""
    generator = new_generator(args, images)
    return make_trainer(generator, args.objective, images, args.training, accelerator)


def main(args: Arguments) -> None:
    """Train, save, and say how to use what was saved."""
    check_hub_flags(args)
    checkpoint = checkpoint_of(args)  # None, or where --resume_from_checkpoint goes on
    args = with_saved_flags(args, checkpoint)
    accelerator = start_accelerator(args.training, report_to=args.report_to)

    # Images: with labels, and those of --unlabeled_data with the labels that classifiers give them.
    everything, labelled = open_all(args, accelerator, checkpoint)

    # What the user did not choose: a length for so many images, and within --budget_minutes.
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
