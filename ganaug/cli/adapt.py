"""Make a generator of other classes one of labelled images, and save it with its card.

For example: ganaug adapt --generator user/repo --train_data_dir photos --resolution 28

It is for few images, some tens of each class. The generator is a flow, which ganaug train makes by default, of the
images' size and channels.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

from accelerate import Accelerator
from accelerate.utils import set_seed

from ganaug import Generator, InputError, LabelledImages
from ganaug.cli.flags import parse, run
from ganaug.cli.runs import check_same_start, finish_run, say, start_run, with_settings, within_budget
from ganaug.cli.train_flags import (
    RunArguments,
    check_hub_flags,
    checkpoint_of,
    shown_as_presets,
    with_saved_flags,
    words_with_config,
)
from ganaug.training import AdaptingTrainer, TrainingSettings, hold_back, start_accelerator
from ganaug.training.adapting import adapting_settings, check_adaptable, in_words, possible_adapting_settings
from ganaug.training.distributed import going_first
from ganaug.training.preflight import Preflight


@dataclass(frozen=True)
class AdaptArguments(RunArguments):
    """Flags of ``ganaug adapt``.

    Args:
        generator: Folder or Hub id of the generator to adapt, which stays as it is.
    """

    CHOICE = "generator"

    generator: str | None = None

    def what_is_trained(self) -> dict[str, Any]:
        """See :meth:`RunArguments.what_is_trained`."""
        return {"generator": self.generator}

    def goes_on_with(self, saved: Mapping[str, Any]) -> bool:
        """See :meth:`RunArguments.goes_on_with`: if it adapts a generator."""
        return "generator" in saved


def new_trainer(
    source: Generator, args: AdaptArguments, images: LabelledImages, accelerator: Accelerator
) -> AdaptingTrainer:
    """The generator as it starts, and what adapts it."""
    set_seed(args.training.seed)
    return AdaptingTrainer(source, images, args.training, accelerator)


def adapt_and_save(args: AdaptArguments) -> None:
    """Adapt, save, publish if that is asked for, and say how to use what was saved."""
    check_hub_flags(args)
    checkpoint = checkpoint_of(args)
    args = with_saved_flags(args, checkpoint)
    if args.generator is None:
        raise InputError("--generator is missing. Give the folder or Hub id of the generator to adapt")
    AdaptingTrainer.check_settings(args.training)  # before a generator is fetched
    accelerator = start_accelerator(args.training, report_to=args.report_to)

    # The generator of other classes, and the images of these.
    with going_first(accelerator, accelerator.is_local_main_process):  # what is downloaded is downloaded once
        source = Generator.from_pretrained(args.generator)
        everything = args.data.open()
    say(accelerator, f"opened: {everything}")
    check_same_start(args, everything, accelerator, checkpoint)
    check_adaptable(source, everything)

    # A length for so many images, and a part of them to choose a generator by where that is asked for.
    if checkpoint is None:
        args = with_length(args, source, everything, accelerator)
    images, held_out = hold_back(args.training, everything, everything)

    trainer = new_trainer(source, args, images, accelerator)
    folder = start_run(args, trainer, checkpoint, held_out)
    finish_run(args, trainer, folder, checkpoint, held_out)


def with_length(
    args: AdaptArguments, source: Generator, images: LabelledImages, accelerator: Accelerator
) -> AdaptArguments:
    """The flags, with settings for so many images where the user gave none; what is known before is printed."""
    args = with_settings(args, adapting_settings(images), accelerator.num_processes)
    args, takes = within_budget(args, partial(new_trainer, source, args, images, accelerator))
    say(accelerator, Preflight(images, in_words(source, args.training), takes))
    return args


def parse_adapting(
    arguments: type[AdaptArguments],
    description: str | None = None,
    *,
    words: Sequence[str] | None = None,
    prog: str | None = None,
) -> AdaptArguments:
    """As :func:`ganaug.cli.flags.parse`, with the settings of adapting as the defaults."""
    words, from_file = words_with_config(words, arguments)
    possible = possible_adapting_settings()
    default = arguments(training=shown_as_presets(possible[0], possible), from_file=tuple(from_file))
    args = parse(arguments, description, default=default, words=words, prog=prog)
    return replace(args, training=TrainingSettings(**vars(args.training)))


def main(words: Sequence[str]) -> None:
    """Run the command with these words after its name."""
    run(AdaptArguments, adapt_and_save, __doc__, words=words, prog="ganaug adapt", parse=parse_adapting)
