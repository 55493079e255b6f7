"""Do a generator's images help a classifier? Trains it with and without them, and says so with error bars.

For example: python recipes/evaluate.py --generator outputs/flow

Writes report.html and report.json, and the verdict into the card of a generator in a folder. A command that was
stopped goes on where it was: every trained classifier is kept.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path

from ganaug import Generator, InputError, LabelledImages
from ganaug.cli.flags import run
from ganaug.cli.images import DataArguments
from ganaug.core.files import check_writable
from ganaug.core.hardware import set_cpu_threads
from ganaug.evaluation import (
    SmallCNN,
    TorchvisionClassifier,
    UtilitySettings,
    add_verdict,
    evaluate,
    write_report,
)


@dataclass(frozen=True)
class Arguments:
    """Flags of this recipe.

    Args:
        generator: Folder or Hub id of the generator; of each, if several.
        test_data_dir: Folder of held-out images, where the data has no split for them; read as train_data_dir is.
        test_split: Split of held-out images, where there is no test_data_dir.
        classifier: small-cnn, or the name of a model of torchvision, such as resnet18.
        inception_weights: File with the weights of the Inception network, for FID and KID, or download.
        output_dir: Folder for the report; by default evaluation in the folder of the generator, or
            outputs/evaluation.
        processes: Classifiers trained at a time on a CPU, each by one thread; by default one for each core.
    """

    generator: tuple[str, ...]
    data: DataArguments = field(default_factory=DataArguments)
    settings: UtilitySettings = field(default_factory=UtilitySettings)
    test_data_dir: Path | None = None
    test_split: str = "test"
    classifier: str = "small-cnn"
    inception_weights: str | None = None
    output_dir: Path | None = None
    processes: int | None = None


def main(args: Arguments) -> None:
    """Evaluate, write the report, and print the verdict."""
    if not args.generator:
        raise InputError("--generator names no generator. Give a folder or Hub id, or several")
    folder = args.output_dir or default_folder(args.generator)
    check_writable(folder)
    generators = {name: Generator.from_pretrained(source) for name, source in named(args.generator).items()}
    first = next(iter(generators.values()))
    # The classifiers see images as the generator makes them.
    flags = replace(args.data, resolution=args.data.resolution or first.image_size, channels=first.channels)
    train, extra = flags.open_with_rest()
    held_out = open_held_out(args, flags)
    for name, generator in generators.items():
        check_classes(name, generator, train)
    print(f"training images: {train}\nheld-out images: {held_out}")
    evaluation = evaluate(
        train,
        held_out,
        generators,
        factory=SmallCNN if args.classifier == "small-cnn" else partial(TorchvisionClassifier, args.classifier),
        settings=args.settings,
        extra=extra,
        inception_weights=args.inception_weights,
        processes=args.processes or set_cpu_threads(None),
    )
    report = write_report(evaluation, folder, sources=named(args.generator), classifier=args.classifier)
    for found in report.generators:
        card = Path(found.source) / "README.md"
        if card.is_file():
            add_verdict(card, report, found.name)
        use = found.verdict.recommended_ratio
        print(f"\n{found.name}: {found.verdict.sentence}")
        print(f"best on the validation images: {f'ratio {use:g}' if use else 'to mix in none of its images'}")
    print(f"\nThe report: {folder / 'report.html'}")


def named(sources: tuple[str, ...]) -> dict[str, str]:
    """Short name of each generator to where it is; the whole source where short ones would meet."""
    short = [Path(source).name for source in sources]
    return {source if short.count(name) > 1 else name: source for name, source in zip(short, sources, strict=True)}


def open_held_out(args: Arguments, flags: DataArguments) -> LabelledImages:
    """The images that judge."""
    if args.test_data_dir is None:
        return flags.open_split(args.test_split)
    return replace(flags, train_data_dir=args.test_data_dir, dataset_name=None).open_split("train")


def check_classes(name: str, generator: Generator, data: LabelledImages) -> None:
    """Refuse a generator that cannot draw the data's classes, before anything is trained."""
    missing = [wanted for wanted in data.classes if wanted not in generator.label_names]
    if missing:
        raise InputError(
            f"{name} does not draw {', '.join(missing)}. It draws "
            f"{', '.join(generator.label_names) or 'no classes: it is unconditional'}; {data.name} has "
            f"{', '.join(data.classes)}. Give images of the generator's classes"
        )


def default_folder(sources: tuple[str, ...]) -> Path:
    """Where the report goes if nothing is said."""
    here = Path(sources[0])
    return here / "evaluation" if len(sources) == 1 and here.is_dir() else Path("outputs") / "evaluation"


if __name__ == "__main__":
    run(Arguments, main, __doc__)
