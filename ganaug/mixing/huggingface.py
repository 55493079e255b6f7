"""Generated images as rows of Hugging Face ``datasets``, which is imported only when it is needed."""

from __future__ import annotations

import io
import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm

from ganaug.core import fingerprints
from ganaug.core.errors import DataError, InputError
from ganaug.core.files import build_once, user_cache
from ganaug.core.integers import to_int
from ganaug.core.pixels import to_pil
from ganaug.core.text import composed, numbers_of
from ganaug.data import inspection
from ganaug.data.huggingface import (
    SOURCES,
    class_label_of,
    image_column_of,
    label_column_of,
    labels_of_rows,
    source_columns,
    warn_of_generated,
)
from ganaug.mixing.originals import with_originals
from ganaug.mixing.plan import Strategy, append_quotas, labels_in_class_order
from ganaug.sampling.class_sampler import ClassSampler
from ganaug.sampling.filters import Filter
from ganaug.sampling.inference import ConditionalGenerator
from ganaug.sampling.variations import places_in_class

if TYPE_CHECKING:
    import datasets

_CHUNK = 256  # images drawn between two writes: what is in memory at a time


def augment_dataset(
    dataset: datasets.Dataset,
    generator: ConditionalGenerator | str | Path,
    ratio: float | None = None,
    *,
    sampling_strategy: Strategy = "match",
    class_map: Mapping[str, str] | None = None,
    accept: Filter | None = None,
    max_tries: int = 10,
    vary: float | None = None,
    image_column: str | None = None,
    label_column: str | None = None,
    source_column: str | None = None,
    seed: int = 0,
    cache_dir: str | Path | None = None,
    device: torch.device | str | None = None,
    allow_eval: bool = False,
) -> datasets.Dataset:
    """Append rows with generated images to a dataset: its own rows first, then the generated ones in class order.

    Features and format stay. In generated rows, other ClassLabel columns are -1 ("no label"), so that they stay ints
    in every format; columns of other types are None, which the torch and numpy formats show as NaN among numbers.

    The generated images are those that :class:`ganaug.ConditionalGANAugment` mixes in for the same arguments, as large
    as the generator makes them. They are drawn once, kept in an Arrow file and mapped from there. The same call gives
    the same fingerprint, so that ``map`` finds its results in its cache. ``info.description`` says which generator
    drew them, and :func:`ganaug.publish_dataset` makes a card from it.

    Args:
        dataset (datasets.Dataset): with a column of images and one of class labels, or of lists of one class label. It
            is not modified.
        generator (Generator, module, str or Path): see :class:`ganaug.ConditionalGANAugment`. Classes are matched by
            name.
        ratio (float, optional): in [0, 1), the fraction of the result that is generated. Default: 0.3
        sampling_strategy (str, mapping or callable): how many images of which class; see
            :func:`ganaug.mixing.plan.append_quotas`. Default: match
        class_map (mapping, optional): {dataset class name: generator class name} for classes whose names differ.
        accept (callable, optional): filter, from uint8 images (N, C, H, W) and int64 labels (N,) to bool (N,); see
            :mod:`ganaug.filters`.
        max_tries (int): images drawn for a row before the filter counts as starved. Default: 10
        vary (float, optional): see :class:`ganaug.ConditionalGANAugment`.
        image_column (str, optional), label_column (str, optional): Default: the only ones of type Image and ClassLabel
        source_column (str, optional): name of a new ClassLabel column, which says ``"real"`` or ``"generated"``.
            Default: no such column
        seed (int): in [0, 2**64). Default: 0
        cache_dir (str or Path, optional): where generated images are kept. Default: ``~/.cache/ganaug``
        device (torch.device or str, optional): to generate on. Default: where the generator is
        allow_eval (bool): take a dataset that says it is for evaluation. Default: False

    Returns:
        datasets.Dataset: of the same split.

    Raises:
        TypeError: ``dataset`` is not a ``datasets.Dataset``.
        ValueError: the dataset is for evaluation, a column is missing, a row has no label, the images have another
            mode than those that the generator makes, the ratio, strategy or ``vary`` is out of range, or the generator
            does not know a class or cannot vary images.
        LoadError: the generator cannot be loaded.
        StarvedFilterError: ``accept`` refused ``max_tries`` images for a row.
    """
    import datasets

    if not isinstance(dataset, datasets.Dataset):
        raise TypeError(
            f"dataset must be a datasets.Dataset, got {type(dataset).__name__}. Of a DatasetDict pass the training "
            "split; load without streaming=True, or mix a stream with ganaug.ConditionalGANStream; for a dataset of "
            "(image, label) pairs there is ganaug.ConditionalGANAugment"
        )
    inspection.check_not_evaluation(dataset, allow_eval=allow_eval)
    columns = _Columns(
        image_column_of(dataset, "the dataset", image_column),
        label_column_of(dataset, "the dataset", label_column),
        source_column,
    )
    columns.check(dataset.features)
    warn_of_generated(dataset, "the dataset")
    labels = labels_of_rows(dataset, columns.label, "the dataset")
    classes = class_label_of(dataset.features[columns.label]).names
    counts = torch.bincount(labels, minlength=len(classes)).tolist()
    quotas = append_quotas(counts, classes, ratio=ratio, strategy=sampling_strategy)
    sampler = ClassSampler(
        generator,
        classes,
        present=[name for name, real, fake in zip(classes, counts, quotas, strict=True) if real or fake],
        class_map=class_map,
        accept=accept,
        max_tries=max_tries,
        vary=vary,
        seed=seed,
        device=device,
    )
    _check_mode(dataset, columns.image, sampler)
    sampler = with_originals(sampler, dataset, labels, image_column=columns.image, label_column=columns.label)

    parts = [dataset.with_format(None)]
    if source_column is not None:
        real = np.full(len(dataset), SOURCES.index("real"))
        parts = [parts[0].add_column(source_column, real, feature=datasets.ClassLabel(names=list(SOURCES)))]
    if any(quotas):
        wanted = labels_in_class_order(quotas)
        parts.append(_generated_rows(sampler, wanted, len(dataset), parts[0].features, columns, cache_dir))
    mixed = datasets.concatenate_datasets(parts, split=dataset.split)
    if any(quotas):  # added last, since the same generator from elsewhere must not change the fingerprint
        mixed.info.description = "\n\n".join(filter(None, [dataset.info.description, sampler.provenance.description]))
    return _with_format_of(dataset, mixed)


def generate_dataset(
    generator: ConditionalGenerator | str | Path,
    counts: int | Mapping[str, int],
    *,
    features: datasets.Features | None = None,
    image_column: str = "image",
    label_column: str = "label",
    source_column: str | None = None,
    class_map: Mapping[str, str] | None = None,
    accept: Filter | None = None,
    max_tries: int = 10,
    seed: int = 0,
    cache_dir: str | Path | None = None,
    device: torch.device | str | None = None,
) -> datasets.Dataset:
    """Make a dataset of generated images only, in class order.

    Row i depends on the generator, its label, ``seed`` and i alone. The images are generated once; see
    :func:`augment_dataset`.

    Args:
        generator (Generator, module, str or Path): see :class:`ganaug.ConditionalGANAugment`.
        counts (int or mapping): images of every class, or {class name: number}.
        features (datasets.Features, optional): of the result, for instance those of a real dataset; the other
            columns are as :func:`augment_dataset` fills them. Classes are matched by name. Default: an image and a
            label column, with the generator's classes
        image_column (str), label_column (str): names of these columns. Default: image and label
        source_column, class_map, accept, max_tries, seed, cache_dir, device: see :func:`augment_dataset`.

    Returns:
        datasets.Dataset: one row for each image.

    Raises:
        ValueError: the features lack a column, ``counts`` has an unknown class or a number that is not an int of 0 or
            more, or the generator does not know a class.
        LoadError: the generator cannot be loaded.
        StarvedFilterError: ``accept`` refused ``max_tries`` images for a row.
    """
    import datasets

    columns = _Columns(image_column, label_column, source_column)
    if features is not None:
        columns.check(features)
    for key, count in counts.items() if isinstance(counts, Mapping) else ():
        if not isinstance(key, str):
            k, names = to_int(key), getattr(generator, "label_names", None) or ()
            meant = names[k] if k is not None and str(k) not in names and 0 <= k < len(names) else key
            raise InputError(
                f'counts must be {{class name: number}}, got the key {key!r}. Write {{"{meant}": {count}}}'
            )
    sampler = ClassSampler(
        generator,
        None if features is None else class_label_of(features[label_column]).names,
        present=[name for name, count in counts.items() if count] if isinstance(counts, Mapping) else None,
        class_map=class_map,
        accept=accept,
        max_tries=max_tries,
        seed=seed,
        device=device,
    )
    if not sampler.classes:
        raise InputError(
            f"the generator ({sampler.name}) does not name its classes. Pass features whose column {label_column!r} "
            "is a ClassLabel"
        )
    names = list(sampler.classes)
    made = dict(features or {image_column: datasets.Image(), label_column: datasets.ClassLabel(names=names)})
    if source_column is not None:
        made[source_column] = datasets.ClassLabel(names=list(SOURCES))
    rows = _generated_rows(sampler, _labels_for(counts, names), 0, datasets.Features(made), columns, cache_dir)
    rows.info.description = sampler.provenance.description
    return rows


@dataclass(frozen=True)
class _Columns:
    """Names of the columns that are filled in a generated row."""

    image: str
    label: str
    source: str | None

    def check(self, features: datasets.Features) -> None:
        """Refuse features in which a column is missing, has another type, or already has the new column's name."""
        import datasets

        image, label = features.get(self.image), features.get(self.label)
        for name, kind, good in (
            (self.image, "Image", isinstance(image, datasets.Image)),
            (self.label, "ClassLabel", class_label_of(label) is not None),
        ):
            if not good:
                raise InputError(
                    f"column {name!r} must be of type {kind}, got {features.get(name, 'no such column')}; the columns "
                    f"are {dict(features)}. Name another, or use cast_column"
                )
        if self.source in features:
            raise InputError(f"there is a column {self.source!r} already. Give source_column another name")


def _check_mode(dataset: datasets.Dataset, column: str, sampler: ClassSampler) -> None:
    """Refuse a dataset whose first image has another mode than those that the generator makes."""
    import datasets

    decoded = datasets.Image(mode=dataset.features[column].mode)
    row = dataset.with_format(None).select([0]).select_columns(column).cast_column(column, decoded)[0]
    if row[column] is None:
        raise DataError("the first row has no image. Leave such rows out, with dataset.filter")
    made = to_pil(torch.empty(sampler.image_shape, dtype=torch.uint8)).mode
    if row[column].mode != made:
        raise InputError(
            f"the dataset's images are {row[column].mode}, the generator's {made}. Train a generator on such images, "
            f"or convert the dataset's: dataset.cast_column({column!r}, datasets.Image(mode={made!r}))"
        )


def _labels_for(counts: int | Mapping[str, int], classes: list[str]) -> Tensor:
    """Label of each image to generate, int64 (N,), in class order."""
    wanted = counts if isinstance(counts, Mapping) else dict.fromkeys(classes, counts)
    known, quotas = numbers_of(classes), [0] * len(classes)
    for name, count in wanted.items():
        number = to_int(count)
        k = known.get(composed(name))
        if k is None:
            raise InputError(f"counts has {name!r}; the classes are {', '.join(classes)}")
        if number is None or number < 0:
            raise InputError(f"counts must be ints of 0 or more, got {count!r} for class {name}")
        quotas[k] = number
    return labels_in_class_order(quotas)


def _generated_rows(
    sampler: ClassSampler, labels: Tensor, first: int, features: Any, columns: _Columns, cache_dir: str | Path | None
) -> datasets.Dataset:
    """Rows with generated images, mapped from an Arrow file that is named by everything they depend on.

    Args:
        sampler (ClassSampler): draws the images.
        labels (Tensor): int64 (N,).
        first (int): number of the first image.
        features (datasets.Features): of the rows.
        columns (_Columns): those to fill.
        cache_dir (str or Path, optional): where the file is kept.
    """
    import datasets

    # A column that an earlier call made says of these rows too where they are from.
    sources = source_columns(features)
    filled = [columns.image, columns.label, *sources]
    unlabelled = [name for name in features if isinstance(features[name], datasets.ClassLabel) and name not in filled]
    names = [*filled, *unlabelled]
    layout = json.dumps(features.to_dict())  # keeps the order of columns
    key = fingerprints.of_values(sampler.fingerprint, labels, first, layout, names)[:32]
    path = build_once(
        Path(cache_dir or user_cache()) / "generated" / f"{key}.arrow",
        partial(_write_rows, sampler, labels, first, features, columns, sources, unlabelled),
        what=f"{len(labels)} generated images",
    )
    table = datasets.Dataset.from_file(str(path)).data
    return datasets.Dataset(table, fingerprint=key)


def _write_rows(
    sampler: ClassSampler,
    labels: Tensor,
    first: int,
    features: Any,
    columns: _Columns,
    sources: list[str],
    unlabelled: list[str],
    path: Path,
) -> None:
    from datasets import ClassLabel
    from datasets.arrow_writer import ArrowWriter

    with (
        ArrowWriter(path=str(path), features=features) as writer,
        tqdm(total=len(labels), desc="generating", unit="img", disable=len(labels) < 5000) as bar,
    ):
        places = places_in_class(labels)
        for some in torch.arange(len(labels)).split(_CHUNK):
            images = sampler.draw(labels[some], (some + first).tolist(), places=places[some])
            rows: dict[str, list[Any]] = {name: [None] * len(some) for name in features}
            rows[columns.image] = [{"bytes": _png(image), "path": None} for image in images]
            rows |= {name: [-1] * len(some) for name in unlabelled}
            in_lists = not isinstance(features[columns.label], ClassLabel)
            rows[columns.label] = (labels[some, None] if in_lists else labels[some]).tolist()
            rows |= {name: [SOURCES.index("generated")] * len(some) for name in sources}
            writer.write_batch(rows)
            bar.update(len(some))
        writer.finalize()


def _png(image: Tensor) -> bytes:
    file = io.BytesIO()
    to_pil(image).save(file, "PNG")
    return file.getvalue()


def _with_format_of(dataset: datasets.Dataset, mixed: datasets.Dataset) -> datasets.Dataset:
    """The mixed dataset in the original's format, new columns included."""
    original = dataset.format
    new = [name for name in mixed.column_names if name not in dataset.column_names]
    shown = None if original["columns"] == dataset.column_names else [*original["columns"], *new]
    return mixed.with_format(
        original["type"], columns=shown, output_all_columns=original["output_all_columns"], **original["format_kwargs"]
    )
