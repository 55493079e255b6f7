"""The way in for users of Hugging Face ``datasets``, which is imported when it is needed: a Dataset comes back."""

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
from ganaug.core.pixels import to_pil
from ganaug.data import inspection
from ganaug.data.huggingface import labels_of_rows, only_column
from ganaug.hub.dataset_card import SOURCES
from ganaug.mixing.plan import Strategy, append_quotas, labels_in_class_order
from ganaug.sampling.class_sampler import ClassSampler
from ganaug.sampling.filters import Filter
from ganaug.sampling.inference import ConditionalGenerator

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
    image_column: str | None = None,
    label_column: str | None = None,
    source_column: str | None = None,
    seed: int = 0,
    cache_dir: str | Path | None = None,
    device: torch.device | str | None = None,
    allow_eval: bool = False,
) -> datasets.Dataset:
    """Append rows with generated images to a dataset: its own rows first, then the generated ones in class order.

    Features and format stay; columns beside image and label are None in generated rows. Generated images are those
    that :class:`ganaug.ConditionalGANAugment` mixes in for the same arguments, as large as the generator makes them.
    They are drawn once, kept in an Arrow file and mapped from there. The same call gives the same fingerprint, so what
    ``map`` makes of the result is found in its cache. ``info.description`` says which generator drew them, and
    :func:`ganaug.publish_dataset` makes a card of it.

    Args:
        dataset (datasets.Dataset): with an Image and a ClassLabel column. It is not modified.
        generator (Generator, module, str or Path): see :class:`ganaug.ConditionalGANAugment`. Classes meet by name.
        ratio (float, optional): in [0, 1), the fraction of the result that is generated. Default: 0.3
        sampling_strategy (str, mapping or callable): of which classes; see :func:`ganaug.mixing.plan.append_quotas`.
            Default: match
        class_map (mapping, optional): {dataset class name: generator class name} for classes whose names differ.
        accept (callable, optional): filter, from uint8 images (N, C, H, W) and int64 labels (N,) to bool (N,); see
            :mod:`ganaug.filters`.
        max_tries (int): images drawn for a row before the filter counts as starved. Default: 10
        image_column (str, optional), label_column (str, optional): Default: the only ones of their type
        source_column (str, optional): name of a new ClassLabel column, ``"real"`` or ``"generated"``. Default: none
        seed (int): in [0, 2**64). Default: 0
        cache_dir (str or Path, optional): where generated images are kept. Default: ``~/.cache/ganaug``
        device (torch.device or str, optional): to generate on. Default: where the generator is.
        allow_eval (bool): take a dataset that says it is for evaluation. Default: False

    Returns:
        datasets.Dataset: of the same split.

    Raises:
        TypeError: it is no ``datasets.Dataset``.
        ValueError: it is for evaluation, a column is missing, a row has no label, its images are not of the mode that
            the generator makes, the ratio or strategy is out of range, or the generator does not know a class.
        LoadError: the generator cannot be loaded.
    """
    import datasets

    _check_is_dataset(dataset)
    inspection.check_not_evaluation(dataset, allow_eval=allow_eval)
    columns = _Columns(
        image_column or only_column(dataset, datasets.Image, "the dataset"),
        label_column or only_column(dataset, datasets.ClassLabel, "the dataset"),
        source_column,
    )
    columns.check(dataset.features)
    labels = labels_of_rows(dataset, columns.label, "the dataset")
    classes = dataset.features[columns.label].names
    counts = torch.bincount(labels, minlength=len(classes)).tolist()
    quotas = append_quotas(counts, classes, ratio=ratio, strategy=sampling_strategy)
    sampler = ClassSampler(
        generator,
        classes,
        present=[name for name, real, fake in zip(classes, counts, quotas, strict=True) if real or fake],
        class_map=class_map,
        accept=accept,
        max_tries=max_tries,
        seed=seed,
        device=device,
    )
    _check_mode(dataset, columns.image, sampler)

    parts = [dataset.with_format(None)]
    if source_column is not None:
        real = np.full(len(dataset), SOURCES.index("real"))
        parts = [parts[0].add_column(source_column, real, feature=datasets.ClassLabel(names=list(SOURCES)))]
    if any(quotas):
        plan = labels_in_class_order(quotas)
        parts.append(_generated(sampler, plan, len(dataset), parts[0].features, columns, cache_dir))
    mixed = datasets.concatenate_datasets(parts, split=dataset.split)
    if any(quotas):  # said afterwards, since the same generator from elsewhere must not change the fingerprint
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
    """Make a dataset of generated images alone, in class order.

    Row i depends on the generator, its label, ``seed`` and i alone. The images are generated once; see
    :func:`augment_dataset`.

    Args:
        generator (Generator, module, str or Path): see :class:`ganaug.ConditionalGANAugment`.
        counts (int or mapping): images of every class, or {class name: number}.
        features (datasets.Features, optional): of the result, for instance those of a real dataset; columns beside
            image and label are None. Classes meet by name. Default: an image and a label column, with the generator's
            classes
        image_column (str), label_column (str): Default: image and label
        source_column, class_map, accept, max_tries, seed, cache_dir, device: see :func:`augment_dataset`.

    Raises:
        ValueError: the features lack a column, ``counts`` is not as above, or the generator does not know a class.
        LoadError: the generator cannot be loaded.
    """
    import datasets

    columns = _Columns(image_column, label_column, source_column)
    if features is not None:
        columns.check(features)
    sampler = ClassSampler(
        generator,
        None if features is None else features[label_column].names,
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
    rows = _generated(sampler, _plan(counts, names), 0, datasets.Features(made), columns, cache_dir)
    rows.info.description = sampler.provenance.description
    return rows


@dataclass(frozen=True)
class _Columns:
    """Names of the columns that are filled in a generated row."""

    image: str
    label: str
    source: str | None

    def check(self, features: datasets.Features) -> None:
        """Refuse features that lack a column, or have one of another type or of the name of the new one."""
        import datasets

        for name, kind in ((self.image, datasets.Image), (self.label, datasets.ClassLabel)):
            if not isinstance(features.get(name), kind):
                raise InputError(
                    f"column {name!r} must be a {kind.__name__}, got {features.get(name, 'no such column')}; the "
                    f"columns are {dict(features)}. Name another, or use cast_column"
                )
        if self.source in features:
            raise InputError(f"there is a column {self.source!r} already. Give source_column another name")


def _check_is_dataset(dataset: Any) -> None:
    import datasets

    if not isinstance(dataset, datasets.Dataset):
        raise TypeError(
            f"dataset must be a datasets.Dataset, got {type(dataset).__name__}. Of a DatasetDict pass the training "
            "split; load without streaming=True, or mix a stream with ganaug.ConditionalGANStream; for a dataset of "
            "(image, label) pairs there is ganaug.ConditionalGANAugment"
        )


def _check_mode(dataset: datasets.Dataset, column: str, sampler: ClassSampler) -> None:
    """Refuse a dataset whose first image is of another mode than those that the generator makes."""
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


def _plan(counts: int | Mapping[str, int], classes: list[str]) -> Tensor:
    wanted = counts if isinstance(counts, Mapping) else dict.fromkeys(classes, counts)
    for name, count in wanted.items():
        if name not in classes:
            raise InputError(f"counts has {name!r}; the classes are {', '.join(classes)}")
        if isinstance(count, bool) or not isinstance(count, int | np.integer) or count < 0:
            raise InputError(f"counts must be ints of 0 or more, got {count!r} for class {name}")
    return labels_in_class_order([int(wanted.get(name, 0)) for name in classes])


def _generated(
    sampler: ClassSampler, labels: Tensor, first: int, features: Any, columns: _Columns, cache_dir: str | Path | None
) -> datasets.Dataset:
    """Rows for labels, mapped from the Arrow file that is named by all that they depend on."""
    import datasets

    names = [columns.image, columns.label, columns.source]
    layout = json.dumps(features.to_dict())  # keeps the order of columns
    key = fingerprints.of_values(sampler.fingerprint, labels, first, layout, names)[:32]
    path = build_once(
        Path(cache_dir or user_cache()) / "generated" / f"{key}.arrow",
        partial(_write_rows, sampler, labels, first, features, columns),
        what=f"{len(labels)} generated images",
    )
    table = datasets.Dataset.from_file(str(path)).data
    return datasets.Dataset(table, fingerprint=key)


def _write_rows(
    sampler: ClassSampler, labels: Tensor, first: int, features: Any, columns: _Columns, path: Path
) -> None:
    from datasets.arrow_writer import ArrowWriter

    with (
        ArrowWriter(path=str(path), features=features) as writer,
        tqdm(total=len(labels), desc="generating", unit="img", disable=len(labels) < 5000) as bar,
    ):
        for some in torch.arange(len(labels)).split(_CHUNK):
            images = sampler.draw(labels[some], (some + first).tolist())
            rows: dict[str, list[Any]] = {name: [None] * len(some) for name in features}
            rows[columns.image] = [{"bytes": _png(image), "path": None} for image in images]
            rows[columns.label] = labels[some].tolist()
            if columns.source is not None:
                rows[columns.source] = [SOURCES.index("generated")] * len(some)
            writer.write_batch(rows)
            bar.update(len(some))
        writer.finalize()


def _png(image: Tensor) -> bytes:
    file = io.BytesIO()
    to_pil(image).save(file, "PNG")
    return file.getvalue()


def _with_format_of(dataset: datasets.Dataset, mixed: datasets.Dataset) -> datasets.Dataset:
    """The mixed dataset in the format of the original, new columns included."""
    form = dataset.format
    new = [name for name in mixed.column_names if name not in dataset.column_names]
    shown = None if form["columns"] == dataset.column_names else [*form["columns"], *new]
    return mixed.with_format(
        form["type"], columns=shown, output_all_columns=form["output_all_columns"], **form["format_kwargs"]
    )
