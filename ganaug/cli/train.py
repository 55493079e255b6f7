"""Train a generator on labelled images, and save it with its card.

For example: ganaug train --train_data_dir photos --resolution 64

Without flags: the default preset on the bundled MNIST digits, in a few minutes on two cores. On several devices:
accelerate launch -m ganaug train, or torchrun --nproc_per_node 2 -m ganaug train. As --config, the
training/settings.json of a run starts it again.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from accelerate import Accelerator

from ganaug import LabelledImages
from ganaug.cli.flags import run
from ganaug.cli.runs import finish_run, new_generator, start_run, with_choices
from ganaug.cli.train_flags import (
    TrainingArguments,
    check_hub_flags,
    checkpoint_of,
    parse_training,
    with_saved_flags,
)
from ganaug.cli.training_images import keep_labels, open_all
from ganaug.training import Trainer, hold_back, make_trainer, start_accelerator

ModelName = Literal[
    "auto",
    "flow",
    "flow-wide",
    "acgan",
    "sngan",
    "acgan-28",
    "acgan-64",
    "cgan-mlp",
    "cgan-maxout",
    "dcgan-32",
    "dcgan-32-conditional",
]


@dataclass(frozen=True)
class TrainArguments(TrainingArguments):
    """Flags of ``ganaug train``.

    Args:
        model: auto chooses a preset for the images, and says why. Of the others, flow and flow-wide (flow matching,
            no discriminator), acgan (a flow that became a GAN of one pass) and sngan (residual networks, spectral
            normalisation, projection) draw even sizes, acgan-28 multiples of 4, acgan-64 (40 times the weights)
            multiples of 16; cgan-mlp and cgan-maxout are fully connected, and dcgan-32 is unconditional.
        conditioning: Of acgan-64: multiply the latent by a label embedding, or concat the one-hot label to it.
        norm_after_sigmoid: Of cgan-maxout: its source's literal order, whose BatchNorm leaves the range of pixels.
    """

    model: ModelName = "auto"
    conditioning: Literal["multiply", "concat"] = "multiply"
    norm_after_sigmoid: bool = False


def new_trainer(args: TrainingArguments, images: LabelledImages, accelerator: Accelerator) -> Trainer:
    """The networks of the flags' model as they start, and what trains them."""
    return make_trainer(new_generator(args, images), args.objective, images, args.training, accelerator)


def train_and_save(args: TrainArguments) -> None:
    """Train, save, publish if that is asked for, and say how to use what was saved."""
    check_hub_flags(args)
    checkpoint = checkpoint_of(args)
    args = with_saved_flags(args, checkpoint)
    accelerator = start_accelerator(args.training, report_to=args.report_to)

    # Images, a preset for so many, and a part of them to choose a generator by.
    everything, labelled = open_all(args, accelerator, checkpoint)
    if checkpoint is None:
        args = with_choices(args, everything, labelled, accelerator, new_trainer)
    images, held_out = hold_back(args.training, everything, labelled)

    trainer = new_trainer(args, images, accelerator)
    folder = start_run(args, trainer, checkpoint, held_out)
    if folder:
        keep_labels(folder, everything, labelled)
    finish_run(args, trainer, folder, checkpoint, held_out)


def main(words: Sequence[str]) -> None:
    """Run the command with these words after its name."""
    run(TrainArguments, train_and_save, __doc__, words=words, prog="ganaug train", parse=parse_training)
