"""Do a generator's images help a classifier? Trains it with and without them, for a verdict with error bars.

For example: ganaug evaluate --generator outputs/flow

Writes report.html and report.json, and adds the verdict to the card of a generator in a folder. Run a stopped command
again and it continues where it was: every trained classifier is kept.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from pathlib import Path

import torch
import tyro

from ganaug import Generator, LabelledImages
from ganaug.cli.config import words_of
from ganaug.cli.draws import make_draws
from ganaug.cli.flags import run
from ganaug.cli.images import DataArguments
from ganaug.core.files import check_writable
from ganaug.core.hardware import cpu_threads, set_cpu_threads
from ganaug.data import classes_with_counts
from ganaug.evaluation import (
    ClassifierFactory,
    Report,
    Utility,
    UtilitySettings,
    classifier_named,
    evaluate,
    write_report,
)
from ganaug.evaluation.classifier_names import DEFAULT
from ganaug.evaluation.inputs import by_short_names, check_drawn, form_of
from ganaug.evaluation.report.files import add_verdicts
from ganaug.evaluation.verdict import repeats_that_tell
from ganaug.hub.missing import RUNS
from ganaug.training import expected_utility
from ganaug.training.again import saw
from ganaug.training.presets import OTHERS, SAME


@dataclass(frozen=True)
class EvaluateArguments:
    """Flags of ``ganaug evaluate``.

    Args:
        generator: Folder or Hub id of the generator; of each, if several.
        test_data_dir: Folder of held-out images, where the data has no split for them; read as train_data_dir is.
        test_split: Split of held-out images, where there is no test_data_dir.
        classifier: small-cnn, small-vit, torchvision:NAME (torchvision:resnet18), timm:NAME where timm is installed,
            or module:function, a factory of your own.
        classifier_weights: Safetensors file of a pre-trained model of torchvision or timm. A head of another number
            of classes is replaced.
        classifier_frozen: Train only the last layer of the pre-trained model.
        inception_weights: File with the weights of the Inception network, for FID and KID, or download.
        vary: Judge variations of the training images, at this strength between 0 and 1, instead of images that are
            drawn from noise alone.
        draws: How many draws of your images the judged classifiers are spread over. A generator that was trained on
            just these images is trained again on each draw; one that saw them and others, as adapted ones have, is
            refused. With 1, images and generators are judged as they are.
        leave_out_copies: Leave out held-out images that a classifier or a generator was trained on, however many; by
            default one percent of them or more is refused.
        output_dir: Folder for the report; by default evaluation in the folder of the generator, or
            outputs/evaluation.
        processes: Classifiers trained at a time on a CPU, each by one thread; by default one for each core.
        budget_minutes: Take no longer than about this: a few steps are timed, and what the verdict needs least is left
            out, but nothing that a flag asks for. What that costs is said before anything is trained.
        given: Names of the flags that the user gave; not a flag.
    """

    generator: tuple[str, ...]
    data: DataArguments = field(default_factory=DataArguments)
    settings: UtilitySettings = field(default_factory=UtilitySettings)
    test_data_dir: Path | None = None
    test_split: str = "test"
    classifier: str = DEFAULT
    classifier_weights: Path | None = None
    classifier_frozen: bool = False
    inception_weights: str | None = None
    vary: float | None = None
    draws: int = 1
    leave_out_copies: bool = False
    output_dir: Path | None = None
    processes: int | None = None
    budget_minutes: float | None = None
    given: tyro.conf.Suppress[tyro.conf.Fixed[frozenset[str]]] = frozenset()

    @property
    def fixed(self) -> frozenset[str]:
        """The settings that a budget does not change, because the user gave them."""
        return self.given & {setting.name for setting in fields(UtilitySettings)}

    @property
    def factory(self) -> ClassifierFactory:
        """What makes the classifier."""
        return classifier_named(self.classifier, weights=self.classifier_weights, frozen=self.classifier_frozen)

    @property
    def classifier_in_words(self) -> str:
        """What the report and the card call the classifier."""
        if self.classifier_weights is None:
            return self.classifier
        return f"{self.classifier}, pre-trained ({self.classifier_weights.name}{', frozen' * self.classifier_frozen})"


def judge(args: EvaluateArguments) -> None:
    """Evaluate, write the report, and print the verdict."""
    sources, factory = by_short_names(args.generator), args.factory
    folder = report_folder(args)
    generators = {name: Generator.from_pretrained(source) for name, source in sources.items()}
    train, extra, held_out = open_splits(args, generators)
    draws = make_draws(args.draws, train, extra, generators)
    evaluation = evaluate(
        train,
        held_out,
        generators,
        factory=factory,
        settings=args.settings,
        extra=extra,
        vary=args.vary,
        draws=draws,
        leave_out_copies=args.leave_out_copies,
        inception_weights=args.inception_weights,
        processes=processes_of(args),
        budget_minutes=args.budget_minutes,
        fixed=args.fixed,
    )
    report = write_report(evaluation, folder, sources=sources, classifier=args.classifier_in_words)
    tell(report, folder, how_to_go_on(args, evaluation.utility))


def processes_of(args: EvaluateArguments) -> int:
    """How many classifiers are trained at a time; printed where the flags do not say it."""
    if args.processes is not None:
        return args.processes
    _, why = cpu_threads(None)
    processes = set_cpu_threads(None)
    print(f"threads: {processes} ({why})")
    return processes


def report_folder(args: EvaluateArguments) -> Path:
    """Where the report goes.

    Raises:
        InputError: the report cannot be written there.
    """
    folder = args.output_dir
    if folder is None:
        first = Path(args.generator[0]).expanduser()
        folder = first / "evaluation" if len(args.generator) == 1 and first.is_dir() else RUNS / "evaluation"
    check_writable(folder)
    return folder


def open_splits(
    args: EvaluateArguments, generators: Mapping[str, Generator]
) -> tuple[LabelledImages, LabelledImages | None, LabelledImages]:
    """The training images, the real ones beside them (None where no image is left out), and the held-out ones.

    Raises:
        InputError: a generator is unconditional, or does not draw all classes of the images.
        DataError: the images cannot be opened.
    """
    resolution, channels = form_of(generators)
    if args.data.resolution is not None:
        resolution = args.data.resolution
    flags = replace(args.data, resolution=resolution, channels=channels)
    train, extra = flags.open_with_rest()
    if args.test_data_dir is None:
        held_out = flags.open_split(args.test_split, like=train)
    else:
        held_out = replace(flags, train_data_dir=args.test_data_dir, dataset_name=None).open_split("train", like=train)
    check_drawn(train.classes, generators, images=train.name)
    for what, images in (("training", train), ("held-out", held_out)):
        print(f"{what} images: {images}\nclasses: {classes_with_counts(images)}")
    for name, generator in generators.items():
        print(f"generator {name}: {generator.architecture}, {kind_of(generator, train)}")
    return train, extra, held_out


def kind_of(generator: Generator, train: LabelledImages) -> str:
    """What a generator was trained on, as far as it says, and what was measured with generators like it."""
    own, trained_on = saw(generator, train), "trained on other images than these, as far as it says"
    if own and generator.seen_images is not None:
        some = "" if saw(generator, train, least=1.0) else "some of "
        others = "" if torch.isin(generator.seen_images, train.image_hashes).all() else ", and on others"
        trained_on = f"trained on {some}these images{others}"
    return f"{trained_on}. {expected_utility(train.distinct_counts, generator_from=SAME if own else OTHERS)}"


def how_to_go_on(args: EvaluateArguments, found: Utility) -> str:
    """The flags with which more could be told than was; empty if none would do.

    More steps come first, where classifiers were trained too briefly; else more seeds or draws, where a verdict cannot
    be given yet. The flags name what a budget had left out, too: with other steps or augmentations, no classifier that
    is kept would do.
    """
    settings, flags = found.study.settings, []
    open_ones = [verdict for verdict in found.verdicts.values() if verdict.outcome == "cannot tell yet"]
    enough = [repeats_that_tell(verdict.difference, settings.margin) for verdict in open_ones]
    if found.longer is not None:
        # The search goes on to so many steps, or begins with them where it might have gone so far and did not.
        steps, until = found.longer.arm.steps, "with longer training"
        further = steps > settings.max_steps
        wanted = replace(settings, max_steps=steps) if further else replace(settings, steps=steps)
    elif repeats := max(filter(None, enough), default=0):
        # Over draws, repeats are counted in draws, and each of them keeps as many seeds as it has.
        trainings = len(open_ones[0].primary.scores)
        wanted = replace(settings, seeds=repeats * trainings // found.draws if found.draws > 1 else repeats)
        flags, until = ([f"--draws={repeats}"] if found.draws > 1 else []), "until it can tell"
    else:
        return ""
    for name, value in vars(wanted).items():
        if value != getattr(args.settings, name):
            flags += words_of(name, value)
    if args.budget_minutes is not None:  # given in the command or in the file of --config
        flags += words_of("budget_minutes", None)
    return f"To go on {until}, type the command again and add\n    {' '.join(flags)}"


def tell(report: Report, folder: Path, go_on: str = "") -> None:
    """Print each generator's verdict and how to go on, and write it into the card of one in a folder."""
    for problem in add_verdicts(report):
        print(f"\n{problem}")
    for found in report.generators:
        print(f"\n{found.name}: {found.verdict.sentence}")
    print(f"\n{report.covers}")
    if go_on:
        print(f"\n{go_on}\nEvery classifier that is trained already is kept.")
    print(f"\nThe report: {folder / 'report.html'}")


def main(words: Sequence[str]) -> None:
    """Run the command with these words after its name."""
    run(EvaluateArguments, judge, __doc__, words=words, prog="ganaug evaluate")
