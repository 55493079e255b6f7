"""Columns of Hugging Face datasets: which has the images, which the labels, and in what form."""

from __future__ import annotations

import datasets
import pytest
import torch
from datasets import ClassLabel, Dataset, Features, Image, List, Value
from helpers.images import small_images
from torchvision.transforms.v2.functional import to_pil_image

from ganaug import DataError, open_images
from ganaug.cli.images import DataArguments

DATA = small_images()
PICTURES = [to_pil_image(image) for image in DATA.images]
FINE = DATA.targets.tolist()


def rows(**features) -> Dataset:
    """Images with the same labels in columns of these types; a tuple is a type and its cells."""
    made = {name: kind if isinstance(kind, tuple) else (kind, FINE) for name, kind in features.items()}
    return Dataset.from_dict(
        {"img": PICTURES, **{name: cells for name, (_, cells) in made.items()}},
        features=Features({"img": Image(), **{name: kind for name, (kind, _) in made.items()}}),
    )


@pytest.fixture
def both() -> Dataset:
    """Fine and coarse labels, and a mask, as CIFAR-100 and datasets of segments have."""
    coarse = ClassLabel(names=["x", "y"]), [label // 2 for label in FINE]
    return rows(fine_label=ClassLabel(names=list("abc")), coarse_label=coarse, mask=(Image(), PICTURES[::-1]))


def test_one_of_several_columns_is_chosen(both, tmp_path):
    both.save_to_disk(tmp_path / "saved")
    (tmp_path / "files").mkdir()
    both.to_parquet(tmp_path / "files" / "train-0.parquet")
    for source in (both, datasets.DatasetDict({"train": both}), tmp_path / "saved", tmp_path / "files"):
        fine = open_images(source, image_column="img", label_column="fine_label")
        assert (fine.classes, fine.targets.tolist()) == (("a", "b", "c"), FINE)
        assert torch.equal(fine.images, DATA.images)
        coarse = open_images(source, image_column="mask", label_column="coarse_label")
        assert (coarse.classes, coarse.class_counts) == (("x", "y"), [40, 20])
        assert torch.equal(coarse.images, DATA.images.flip(0))
    flags = DataArguments(train_data_dir=tmp_path / "files", image_column="img", label_column="fine_label")
    assert flags.open().fingerprint == open_images(both, image_column="img", label_column="fine_label").fingerprint


@pytest.mark.parametrize(
    ("columns", "told"),
    [
        ({"image_column": "img"}, r"found \['fine_label', 'coarse_label'\].*--label_column fine_label"),
        ({"label_column": "fine_label"}, r"found \['img', 'mask'\].*--image_column img"),
        ({"image_column": "img", "label_column": "label"}, "no column 'label'; its columns are img, fine_label"),
        ({"image_column": "fine_label", "label_column": "fine_label"}, "'fine_label' must be of type Image"),
        ({"image_column": "img", "label_column": "mask"}, "'mask' must be of type ClassLabel, got Image"),
    ],
)
def test_columns_that_are_not_the_only_ones_or_not_there(both, columns, told):
    with pytest.raises(DataError, match=told):
        open_images(both, **columns)


@pytest.mark.parametrize("named", [{}, {"label_column": "label"}])
@pytest.mark.parametrize(
    "kind",
    [
        Value("int64"),
        (Value("string"), [f"kind {label}" for label in FINE]),
        (List(Value("uint8")), [[label] for label in FINE]),
    ],
)
def test_labels_without_class_names_are_refused_with_the_line_that_makes_some(kind, named):
    dataset = rows(label=kind)
    with pytest.raises(DataError, match=r"dataset = dataset.*\.class_encode_column\('label'\)") as refused:
        open_images(dataset, **named)
    line = str(refused.value).rpartition("dataset = ")[2].partition(" turns")[0]
    assert open_images(eval(line, {"dataset": dataset})).targets.tolist() == FINE


def test_columns_are_of_hf_datasets_alone():
    for source in (None, "sklearn:digits", DATA):
        with pytest.raises(DataError, match="label_column 'y' has no meaning here"):
            open_images(source, label_column="y")


def test_lists_of_one_label_are_labels():
    """As MedMNIST has them, in the shape (N, 1)."""
    kind = ClassLabel(names=list("abc"))
    for each in (List(kind, length=1), List(kind)):
        found = open_images(rows(label=(each, [[label] for label in FINE])))
        assert (found.classes, found.targets.tolist()) == (("a", "b", "c"), FINE)
    beside = rows(label=kind, tags=(List(kind), [[0, 1]] * 60))
    assert open_images(beside).targets.tolist() == FINE
    several = rows(label=(List(kind), [[label] for label in FINE[:-1]] + [[0, 1]]))
    with pytest.raises(DataError, match=r"1 rows have several labels, the first is row 59 with \[0, 1\]"):
        open_images(several)
    none = rows(label=(List(kind), [[label] for label in FINE[:-1]] + [[]]))
    with pytest.raises(DataError, match="1 rows have no label"):
        open_images(none)


def test_a_column_of_sources_is_not_one_of_labels_and_generated_rows_are_counted(caplog):
    source = ClassLabel(names=["real", "generated"]), [0] * 50 + [1] * 10
    found = open_images(rows(source=source, label=ClassLabel(names=list("abc"))))
    assert found.classes == ("a", "b", "c")
    assert "10 of 60 rows are generated images (column source)" in caplog.text
