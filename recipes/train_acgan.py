"""Train a class-conditional generator on labelled images: an auxiliary classifier GAN, or what came after it.

    accelerate launch recipes/train_acgan.py
    accelerate launch recipes/train_acgan.py --model acgan-28

Without flags it trains what train_flow.py does, for now: the default preset, on the bundled MNIST digits, in a few
minutes on two cores. An auxiliary classifier GAN (Odena et al. 2017) is trained with --model acgan-28 or acgan-64, and
with --model acgan one that begins as a flow.
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
        model: auto chooses a preset for the images, and says why. Of the others, acgan-28 draws sizes that are
            multiples of 4, acgan-64 (40 times the weights) multiples of 16; acgan (a flow that became a GAN of one
            pass), sngan (residual networks, spectral normalisation, projection) and flow (flow matching, no
            discriminator) even ones.
        conditioning: Of acgan-64: multiply the latent by a label embedding, or concat the one-hot label to it.
    """

    model: Literal["auto", "acgan", "acgan-28", "acgan-64", "sngan", "flow", "flow-wide"] = "auto"
    conditioning: Literal["multiply", "concat"] = "multiply"


def new_trainer(args: Arguments, images: LabelledImages, accelerator: Accelerator) -> Trainer:
    """The generator, and what trains it: with a discriminator that names the class too, or alone if it is a flow."""
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

    # What the user did not choose: a preset for so many images, and a length within --budget_minutes.
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
