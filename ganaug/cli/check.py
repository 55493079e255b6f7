"""Say what is wrong with labelled images, and what a generator could do for them. Nothing is trained.

For example: ganaug check photos
"""

from __future__ import annotations

import os
import shlex
import textwrap
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Annotated, Any, Literal

import torch
import tyro

from ganaug import InputError, LabelledImages
from ganaug.cli.flags import run
from ganaug.cli.images import DataArguments
from ganaug.core.text import as_text, shortened
from ganaug.data import Audit, reduce_images
from ganaug.evaluation.leakage import ACCIDENTAL
from ganaug.evaluation.plan import LEAST_HELD_OUT
from ganaug.hub.missing import RUNS
from ganaug.mixing.fitting import suitable_resolution
from ganaug.training import MODELS, Preset, Trainer, choose_preset, make_trainer, new_run_folder, start_accelerator
from ganaug.training.preflight import Preflight, cost_of, too_few_or_too_short
from ganaug.training.presets import IMBALANCED, is_imbalanced, least_measured

WIDTH = 80  # columns
MOST_CLASSES = 40  # that are listed
NAMED = 3  # files of a kind
TRAINING, JUDGING = 20, 30  # minutes, in the commands to type next


@dataclass(frozen=True)
class CheckArguments:
    """Flags of ``ganaug check``.

    Args:
        folder: The folder that --train_data_dir names elsewhere.
        test_data_dir: Folder of held-out images, where the data has no split for them; read as the first one is.
        test_split: Split of held-out images, where there is no test_data_dir.
    """

    folder: Annotated[Path | None, tyro.conf.Positional, tyro.conf.arg(metavar="FOLDER")] = None
    data: DataArguments = field(default_factory=DataArguments)
    test_data_dir: Path | None = None
    test_split: str = "test"


@dataclass(frozen=True)
class Finding:
    """A sentence about the images, and whether it is a warning."""

    text: str
    warning: bool = True


def check(args: CheckArguments) -> None:
    """Read all images, and print what they are like, what a training would take, and what was measured."""
    if args.folder is not None and args.data.train_data_dir is not None:
        raise InputError(f"give the folder once: {args.folder} or --train_data_dir {args.data.train_data_dir}")
    data = args.data if args.folder is None else replace(args.data, train_data_dir=args.folder)

    train = data.audit_split("train", suitable_resolution)
    held_out, why_none = open_held_out(args, data, train.images)
    # The images to train on may be a part of all.
    images, _ = reduce_images(train.images, images_per_class=data.images_per_class, long_tail=data.long_tail)

    print(f"{train.images.name}: {in_number(len(train.images))} of {in_number(len(train.images.classes), 'class')}\n")
    print(class_table(train.images, None if held_out is None else held_out.images))

    found = [*of_training(train, data.background), *of_classes(images)]
    if held_out is None:
        found.append(Finding(f"No held-out images: {why_none}"))
    else:
        found += of_held_out(held_out, train)
        if few := too_few_to_judge(held_out, train):
            found.append(
                Finding(
                    f"Too few held-out images: {shortened(few, most=5)}. ganaug evaluate needs {LEAST_HELD_OUT} "
                    "different ones of each class that are not among the training images"
                )
            )
            held_out = None  # there can be no evaluation

    preset, takes = choose_preset(images), ""
    try:
        takes = what_it_takes(images, preset)
    except (InputError, ValueError) as error:  # a side that the network does not draw
        found.append(Finding(f"Images like these cannot be trained on: {error}"))

    print()
    for finding in found:
        print(wrapped(finding.text, "! " if finding.warning else "  "))
    if not takes:
        return
    print()
    for line in Preflight(images, preset, takes).lines:
        print(wrapped(line))
    print(wrapped(f"too few images, or too little training? {too_few_or_too_short(images, preset)}."))
    if held_out is not None:
        print(
            wrapped(
                "an evaluation: trains dozens of classifiers, which can take hours without a budget. It is not timed "
                "here, since that needs the generator; ganaug evaluate says what it takes before it starts."
            )
        )
    print(f"\nNext{', after a look at what is marked !' if any(each.warning for each in found) else ''}:")
    commands = list(next_commands(args, data, train, held_out, run_folder_for(data, preset)))
    for command in commands:
        print(broken(command))
    judged = ", and --horizontal_flip to the evaluation" if len(commands) > 1 else ""
    print(wrapped("--budget_minutes is how long you have. Without it, nothing is shortened or left out."))
    print(wrapped(f"Where a mirrored image is still of its class, add --augment flip to the training{judged}."))


def open_held_out(args: CheckArguments, data: DataArguments, train: LabelledImages) -> tuple[Audit | None, str]:
    """The held-out images; where the flags name none and the data has none, None and why.

    Raises:
        DataError: the flags name some, and they cannot be opened.
    """
    if args.test_data_dir is not None:
        held_out = replace(data, train_data_dir=args.test_data_dir, dataset_name=None)
        return held_out.audit_split("train", suitable_resolution, like=train), ""
    if args.test_split != CheckArguments.test_split:
        return data.audit_split(args.test_split, suitable_resolution, like=train), ""
    try:
        return data.audit_split(args.test_split, suitable_resolution, like=train), ""
    except InputError as error:
        return None, str(error)


def class_table(images: LabelledImages, held_out: LabelledImages | None) -> str:
    """Numbers of images of each class, in columns."""
    shown = min(len(images.classes), MOST_CLASSES)
    columns: list[tuple[Any, ...]] = [("class", *images.classes[:shown]), ("training", *images.class_counts[:shown])]
    if held_out is not None:
        columns.append(("held out", *held_out.class_counts[:shown]))
    wide = min(WIDTH - 26, max(map(len, columns[0])))
    rows = []
    for name, *numbers in zip(*columns, strict=True):
        name = as_text(name)
        short = name if len(name) <= wide else f"{name[: wide - 3]}..."
        rows.append(f"  {short:<{wide}}" + "".join(f"{_number(each):>10}" for each in numbers))
    if more := images.class_counts[shown:]:
        same = min(more) == max(more)
        each = f"{in_number(min(more))} each" if same else f"{min(more):,} to {in_number(max(more))}"
        rows.append(f"  and {len(more):,} more with {each}")
    return "\n".join(rows)


def _number(value: int | str) -> str:
    return f"{value:,}" if isinstance(value, int) else value


def of_files(audit: Audit) -> Iterator[Finding]:
    """What reading the files showed."""
    if audit.unreadable:
        first = "; ".join(audit.unreadable[:NAMED])
        yield Finding(
            f"Unreadable: {in_number(len(audit.unreadable))}. Training stops at them unless you pass "
            f"--skip_bad_images. The first: {first}"
        )
    if audit.left_out:
        yield Finding(f"Left out: {audit.left_out}", warning=False)
    if audit.empty_classes and audit.images.train:
        yield Finding(
            f"No image of {shortened(audit.empty_classes, most=NAMED)}: remove these folders, or name the classes to "
            "train on (--classes)"
        )


def of_training(audit: Audit, background: str) -> Iterator[Finding]:
    """Sizes, files, copies, and labels that contradict each other."""
    side, total = audit.images.image_size, audit.sizes.total()
    sizes = [f"{width}x{height} ({count:,})" for (width, height), count in audit.sizes.most_common()]
    yield Finding(f"Sizes: {shortened(sizes, most=4)}; looked at as {side}x{side}", warning=False)
    if not_square := sum(count for (width, height), count in audit.sizes.items() if width != height):
        yield Finding(f"Not square: {not_square:,} of {in_number(total)}. Their edges are cropped")
    if smaller := sum(count for size, count in audit.sizes.items() if min(size) < side):
        yield Finding(f"Smaller than {side}x{side}: {smaller:,} of {in_number(total)}. They are enlarged")
    if audit.transparent:
        yield Finding(
            f"Transparent: {audit.transparent:,} of {in_number(total)}, put on {background} (--background). Images "
            f"that you mix with generated ones must be on {background} too, as ganaug.open_images opens them: "
            "torchvision's ImageFolder drops transparency, and shows what was hidden, often black"
        )
    yield from of_files(audit)

    same = f"every pixel equal at {side}x{side}"
    if copies := sum(audit.copies_within):
        yield Finding(f"Copies within a class: {in_number(copies)} ({same}). Below, each image counts once")
    if conflicts := audit.label_conflicts:
        labels = audit.images.targets.tolist()  # an image is named once for each label
        first = "; ".join(
            " and ".join(audit.names[i] for i in sorted({labels[i]: i for i in reversed(group)}.values()))
            for group in conflicts[:NAMED]
        )
        yield Finding(f"Contradicting labels: {in_number(len(conflicts))} ({same}). The first: {first}")
    if not copies and not conflicts:
        yield Finding(f"No copies ({same})", warning=False)


def of_classes(images: LabelledImages) -> Iterator[Finding]:
    """Classes that are small, or much smaller than others."""
    counts, least = images.distinct_counts, least_measured()
    if len(counts) == 1:
        yield Finding("There is one class, so there is nothing for a classifier to learn")
    if is_imbalanced(counts):
        smallest, largest = images.classes[counts.index(min(counts))], images.classes[counts.index(max(counts))]
        yield Finding(
            f"Imbalanced: {largest} has {max(counts):,} different images and {smallest} {min(counts):,}, more than "
            f"{IMBALANCED} to 1. Training shows small classes more often"
        )
    if few := [f"{name} ({count})" for name, count in zip(images.classes, counts, strict=True) if count < least]:
        yield Finding(
            f"Few images: {shortened(few, most=5)}. Nothing was measured with fewer than {least:g} different images "
            "of each class"
        )


def of_held_out(audit: Audit, train: Audit) -> Iterator[Finding]:
    """Files that cannot be read, missing classes, and copies of training images."""
    for finding in of_files(audit):
        yield replace(finding, text=f"Held out: {finding.text[0].lower()}{finding.text[1:]}")
    if audit.empty_classes:
        yield Finding(f"Held out: no image of {shortened(audit.empty_classes, most=NAMED)}")
    leaked = audit.copies_of(train.images)
    if not leaked.any():
        yield Finding(f"None of the {len(leaked):,} held-out images is a copy of a training image", warning=False)
        return
    share = float(leaked.float().mean())
    names = [audit.names[i] for i in leaked.nonzero().flatten()[:NAMED].tolist()]
    then = (
        "They are so few that ganaug evaluate just leaves them out"
        if share < ACCIDENTAL
        else "With so many, ganaug evaluate does not run unless you pass --leave_out_copies"
    )
    yield Finding(
        f"Leak: {int(leaked.sum()):,} of {len(leaked):,} held-out images ({share:.1%}) are copies of training images, "
        f"every pixel equal. {then}. The first: {', '.join(names)}"
    )


def too_few_to_judge(audit: Audit, train: Audit) -> list[str]:
    """Classes of which an evaluation would be refused, with the number of held-out images that it could use."""
    own = torch.nonzero(~audit.copies_of(train.images)).squeeze(1)
    usable = audit.images.subset(own, audit.images.name)
    counts = zip(usable.classes, usable.distinct_counts, strict=True)
    return [f"{name} ({count})" for name, count in counts if count < LEAST_HELD_OUT]


def what_it_takes(images: LabelledImages, preset: Preset) -> str:
    """What training the preset takes here, in words.

    Raises:
        InputError, ValueError: the model does not draw images of this form.
    """
    accelerator = start_accelerator(preset.settings)
    model = MODELS[preset.model]
    with torch.random.fork_rng():
        model.make_generator(images)

    def new_trainer() -> Trainer:
        return make_trainer(model.make_generator(images), model.objective, images, preset.settings, accelerator)

    with torch.random.fork_rng():
        return cost_of(new_trainer, preset.settings)


def run_folder_for(data: DataArguments, preset: Preset) -> Path:
    """A free folder for the run, named after the folder of images, or after the network if they are elsewhere."""
    name = MODELS[preset.model].generator.architecture
    if data.train_data_dir is not None:
        folder = data.train_data_dir.expanduser().resolve()
        name = (folder.parent if folder.name == "train" else folder).name or name
    return new_run_folder(RUNS / name)


def next_commands(
    args: CheckArguments, data: DataArguments, train: Audit, held_out: Audit | None, run_folder: Path
) -> Iterator[list[list[str]]]:
    """What to type next, each flag with its values; ``run_folder`` is where the training will keep its generator."""
    side = train.images.image_size
    needed = data.resolution is not None or set(train.sizes) != {(side, side)}
    flags = replace(
        data,
        resolution=side if needed else None,
        skip_bad_images=data.skip_bad_images or bool(train.unreadable),
    )
    given: list[list[str]] = []
    for name, value in asdict(flags).items():
        if value is True:
            given.append([f"--{name}"])
        elif value != getattr(DataArguments(), name):
            given.append([f"--{name}", *(map(str, value) if isinstance(value, tuple) else [str(value)])])
    yield [["ganaug", "train"], *given, ["--output_dir", str(run_folder)], ["--budget_minutes", str(TRAINING)]]
    if held_out is None:
        return
    if args.test_data_dir is not None:
        given.append(["--test_data_dir", str(args.test_data_dir)])
    elif args.test_split != "test":
        given.append(["--test_split", args.test_split])
    leaked = float(held_out.copies_of(train.images).float().mean())
    given += [["--leave_out_copies"]] if leaked >= ACCIDENTAL else []
    given += [["--skip_bad_images"]] if held_out.unreadable and not flags.skip_bad_images else []
    yield [["ganaug", "evaluate"], ["--generator", str(run_folder)], ["--budget_minutes", str(JUDGING)], *given]


def broken(command: Sequence[Sequence[str]]) -> str:
    """A command in lines of at most 80 columns, if its flags are no longer, that a shell reads as one.

    Names of files in it may have characters that would move a terminal's cursor or colour it; they are spelt out.
    """
    lines = [" "]
    for words in command:
        flag = " ".join(shlex.quote(word) if word.isprintable() else ansi_c_quoted(word) for word in words)
        if lines[-1].strip() and len(f"{lines[-1]} {flag} \\") > WIDTH:
            lines.append("     ")
        lines[-1] += f" {flag}"
    return " \\\n".join(lines)


def ansi_c_quoted(word: str) -> str:
    """A word as bash and zsh read it, with a number for each byte that is not a plain character."""
    letters = [
        chr(byte) if 32 <= byte < 127 and byte not in b"'\\" else f"\\x{byte:02x}" for byte in os.fsencode(word)
    ]
    return f"$'{''.join(letters)}'"


def in_number(count: int, what: Literal["image", "class"] = "image") -> str:
    """How many images or classes, in words."""
    several = {"image": "images", "class": "classes"}
    return f"{count:,} {what if count == 1 else several[what]}"


def wrapped(text: str, mark: str = "") -> str:
    """A text in lines of at most 80 columns, the first one marked; long paths are left whole.

    Names of files and classes in it may have characters that would move a terminal's cursor or colour it.
    """
    return textwrap.fill(
        as_text(" ".join(text.split())),
        WIDTH,
        initial_indent=mark,
        subsequent_indent="  ",
        break_long_words=False,
        break_on_hyphens=False,
    )


def main(words: Sequence[str]) -> None:
    """Run the command with these words after its name."""
    run(CheckArguments, check, __doc__, words=words, prog="ganaug check")
