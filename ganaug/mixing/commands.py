"""What ``ganaug train`` (with its ``--unlabeled_data``), ``adapt`` and ``evaluate`` do, as a line of Python each."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ganaug.core.errors import InputError
from ganaug.core.files import check_writable
from ganaug.core.hardware import cpu_threads
from ganaug.core.integers import check_minutes
from ganaug.data import LabelledImages, open_images, open_unlabeled
from ganaug.evaluation import Report, UtilitySettings, classifier_named, report_of, write_report
from ganaug.evaluation import evaluate as evaluate_images
from ganaug.evaluation.classifier_names import DEFAULT
from ganaug.evaluation.inputs import by_short_names, check_drawn, form_of, place
from ganaug.evaluation.report.files import add_verdicts
from ganaug.generators.base import Generator

if TYPE_CHECKING:
    from ganaug.training import PseudoLabels

logger = logging.getLogger(__name__)

IN_MEMORY = "an object in Python"  # where a generator comes from that was not loaded here


def fit(
    dataset: Any,
    *,
    minutes: float | None = None,
    resolution: int | None = None,
    augment: Sequence[str] = (),
    folder: str | Path | None = None,
) -> Generator:
    """Train a generator on labelled images with the preset of ``ganaug train``, or find the one trained before.

    It is trained in a process of its own, so a notebook or a script needs nothing around the call. It is kept in
    :func:`ganaug.core.files.user_cache` and found again for the same images and arguments. A call that is stopped or
    killed is resumed by the next one. ``ganaug train`` has more choices; :func:`ganaug.training.fit` is for networks
    and losses of your own.

    Args:
        dataset: anything that :func:`ganaug.open_images` opens: a folder, the name of a dataset, arrays (X, y), a
            dataset object, :class:`ganaug.LabelledImages`. Its training split is taken.
        minutes (float, optional): train for no longer than about this on this machine, which is timed first; as
            ``--budget_minutes``. Default: for as long as the preset says
        resolution (int, optional): side to resize and crop the images to, in pixels. Default: the images' own
        augment (sequence of str): ``["flip"]`` mirrors half of the images; only where a mirrored image is still of its
            class, as with photos but not with digits. Default: nothing
        folder (str or Path, optional): keep the run there too, as ``ganaug train`` does: the generator with its card,
            sample grids, metrics and, where matplotlib is installed, the page ``training/run.html``. Default: it is
            kept in the cache alone

    Returns:
        Generator: in evaluation mode, on the CPU.

    Raises:
        InputError: the images cannot be opened, are for evaluation, or have a size that the network does not draw;
            ``minutes`` is not positive and finite; ``augment`` has another name; or ``folder`` holds another run or
            cannot be written to.
        ValueError: the class names cannot be a generator's.
        RuntimeError: the training was stopped or failed, or this is a DataLoader worker.
        OSError: a folder cannot be written to or the disk is full.
    """
    from ganaug.mixing import fitting  # training is imported where it is needed

    if minutes is not None:
        check_minutes("minutes", minutes)
    found = fitting.fit_preset(
        _to_train_on(dataset, resolution),
        why="A generator is fitted",
        instead="With ganaug train --train_data_dir FOLDER you can choose how it is trained",
        augment=augment,
        minutes=minutes,
        run_folder=None if folder is None else Path(folder).expanduser(),
    )
    return Generator.from_pretrained(found)


def adapt(
    generator: Generator | str | Path,
    dataset: Any,
    *,
    minutes: float | None = None,
    augment: Sequence[str] = (),
    folder: str | Path | None = None,
) -> Generator:
    """Make a generator of other classes one of a few labelled images, as ``ganaug adapt`` does.

    First the new classes are learned, and then, for a short time, the whole network: see
    :class:`ganaug.training.AdaptingTrainer`. As with :func:`fit`, that is done in a process of its own, and what it
    makes is kept and found again for the same generator, images and arguments.

    Args:
        generator (Generator, str or Path): a flow, which :func:`fit` trains too, or the folder or Hub id of one. Its
            classes may be any; it stays as it is.
        dataset: anything that :func:`ganaug.open_images` opens, with images as the generator draws them. Its training
            split is taken.
        minutes (float, optional): take no longer than about this on this machine, which is timed first. Default: as
            long as suits so many images
        augment (sequence of str): see :func:`fit`. Default: nothing
        folder (str or Path, optional): keep the run there too, see :func:`fit`. Default: it is kept in the cache alone

    Returns:
        Generator: of the dataset's classes, in evaluation mode, on the CPU. It also remembers the images that the
        given one has seen, so that an evaluation refuses to judge by them.

    Raises:
        InputError: the generator cannot be loaded or is no flow, or the images have another size or other channels
            than it draws; otherwise as :func:`fit`.
        ValueError, RuntimeError, OSError: as :func:`fit`.
    """
    from ganaug.mixing import fitting

    if minutes is not None:
        check_minutes("minutes", minutes)
    source = generator if isinstance(generator, Generator) else Generator.from_pretrained(place(generator))
    found = fitting.fit_adapted(
        source,
        _to_train_on(dataset),
        augment=augment,
        minutes=minutes,
        run_folder=None if folder is None else Path(folder).expanduser(),
    )
    return Generator.from_pretrained(found)


def pseudo_label(dataset: Any, unlabeled: Any, *, horizontal_flip: bool = False) -> PseudoLabels:
    """Label images by classifiers that are trained on them and on labelled ones, as ``--unlabeled_data`` does.

    For example::

        photos = ganaug.open_images("photos")
        labels = ganaug.pseudo_label(photos, "more_photos")
        print(labels)  # how many are sure, and how many may be right
        generator = ganaug.fit(ganaug.data.joined(photos, labels.sure(0.9)))

    How long it takes is logged first, and a call that is stopped goes on with the classifier that it was training.

    Args:
        dataset: images with labels, anything that :func:`ganaug.open_images` opens. Its training split is taken.
        unlabeled: a folder of images, or anything that :func:`ganaug.open_images` opens, whose labels are not looked
            at. They are opened in the size and channels of the labelled ones; those that are among these are left out.
        horizontal_flip (bool): mirror images in the classifiers' augmentation; only where a mirrored image is still of
            its class. Default: False

    Returns:
        PseudoLabels: ``images`` has all of them with their most probable classes, ``sure(0.9)`` those that have a
        probability of 0.9 or more, and ``probabilities`` those of all classes.

    Raises:
        InputError: the labelled images cannot be opened, or are for evaluation.
        DataError: the unlabelled images cannot be opened, or all of them are among the labelled ones.
        OSError: the cache cannot be written to or the disk is full.
    """
    from ganaug.training import pseudo_labels

    images = _to_train_on(dataset)
    return pseudo_labels.pseudo_label(images, open_unlabeled(unlabeled, images), horizontal_flip=horizontal_flip)


def _to_train_on(dataset: Any, resolution: int | None = None) -> LabelledImages:
    """Labelled images, which must not be for evaluation."""
    images = open_images(dataset, resolution=resolution)
    if not images.train:
        raise InputError(
            f"{images.name} is for evaluation: judged on images that the generator was trained on, it would look "
            "better than it is. Give the training images"
        )
    return images


def evaluate(
    generator: Generator | str | Path | Mapping[str, Generator | str | Path],
    train: Any,
    held_out: Any = None,
    *,
    minutes: float | None = None,
    horizontal_flip: bool = False,
    leave_out_copies: bool = False,
    folder: str | Path | None = None,
) -> Report:
    """Find out whether a generator's images help a classifier, with the presets of ``ganaug evaluate``.

    A small CNN is trained on the images with and without generated ones. Every trained classifier is kept, so a call
    that is stopped goes on where it was. ``ganaug evaluate`` has more choices, and so has the function behind both,
    :func:`ganaug.evaluation.evaluate`: classifiers, settings, generators that are any module. That one takes images
    that are open, and returns an Evaluation, of which :func:`ganaug.evaluation.report_of` makes this report.

    Args:
        generator (Generator, str, Path or mapping): a generator, or the folder or Hub id of one; {name: generator} to
            compare several. In a folder, the verdict is added to the generator's card.
        train: the images that the classifiers are trained on, and usually the generator was: anything that
            :func:`ganaug.open_images` opens. It is opened in the generator's resolution and channels.
        held_out (optional): other real images, which judge; opened likewise. Default: the test split of ``train``
        minutes (float, optional): take no longer than about this: what the verdict needs least is left out, and what
            that costs is said before anything is trained; as ``--budget_minutes``. Default: nothing is left out
        horizontal_flip (bool): mirror images in the classifiers' augmentation; only where a mirrored image is still of
            its class. Default: False
        leave_out_copies (bool): leave out held-out images that are among the training images or that a generator was
            trained on, instead of refusing them where they are 1 % or more. Default: False
        folder (str or Path, optional): write ``report.html`` and ``report.json`` there. Default: nothing is written

    Returns:
        Report: shown in a notebook, it is the verdict in a sentence. ``report.verdict`` has its ``outcome``
        (``"helps"``, ``"no worthwhile effect"``, ``"hurts"`` or ``"cannot tell yet"``), ``sentence``,
        ``recommended_ratio`` and ``difference``; of several generators, it is ``report.generator(name).verdict``.

    Raises:
        InputError: images or a generator cannot be opened, do not go together, or one of the classifiers or generators
            was trained on held-out images; ``minutes`` is not positive and finite or too little for any verdict; or
            ``folder`` cannot be written to.
        TypeError: a generator is something else.
        ImportError: scipy is not installed, or matplotlib, which a report needs.
        OSError: a folder cannot be written to or the disk is full.
    """
    # What can be refused is refused before anything takes minutes.
    if minutes is not None:
        check_minutes("minutes", minutes)
    if folder is not None:
        check_writable(folder := Path(folder).expanduser())
    missing = [name for name in ("scipy", *(["matplotlib"] if folder else [])) if find_spec(name) is None]
    if missing:
        raise ImportError(f'ganaug.evaluate needs {" and ".join(missing)}: pip install "ganaug[evaluation]"')
    generators, sources = _opened(generator)

    # The images, as the generators make them.
    resolution, channels = form_of(generators)
    opened = partial(open_images, resolution=resolution, channels=channels)
    images = opened(train)
    judges = opened(train, split="test", like=images) if held_out is None else opened(held_out, like=images)
    check_drawn(images.classes, generators, images=images.name)

    found = evaluate_images(
        images,
        judges,
        generators,
        factory=classifier_named(DEFAULT),
        settings=UtilitySettings(horizontal_flip=horizontal_flip),
        processes=cpu_threads(None)[0],
        budget_minutes=minutes,
        leave_out_copies=leave_out_copies,
    )
    written = report_of if folder is None else partial(write_report, folder=folder)
    report = written(found, sources=sources, classifier=DEFAULT)
    for problem in add_verdicts(report):
        logger.warning("%s", problem)
    return report


def _opened(generator: Any) -> tuple[dict[str, Generator], dict[str, str]]:
    """Generators by name, and where each comes from.

    Raises:
        InputError: a folder or Hub id cannot be loaded, or there is no generator.
        TypeError: a generator is something else.
    """
    if isinstance(generator, str | Path):
        generator = by_short_names([generator])
    elif not isinstance(generator, Mapping):
        generator = {getattr(generator, "architecture", "generator"): generator}
    if not generator:
        raise InputError("there is no generator to evaluate. Give one, or a folder or Hub id, or {name: generator}")
    generators, sources = {}, {}
    for name, given in generator.items():
        if isinstance(given, str | Path):
            sources[name] = place(given)
            generators[name] = Generator.from_pretrained(sources[name])
        elif isinstance(given, Generator):
            sources[name], generators[name] = IN_MEMORY, given
        else:
            raise TypeError(
                "generator must be a ganaug.Generator, a folder or Hub id, or {name: generator}; got "
                f"{type(given).__name__}. Other modules are evaluated by ganaug.evaluation.evaluate"
            )
    return generators, sources
