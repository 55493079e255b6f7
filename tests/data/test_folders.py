"""Folders as people have them: with splits, nested, linked, and full of what operating systems leave there."""

from __future__ import annotations

import errno
import logging
import os
import unicodedata
from pathlib import Path

import pytest
from helpers.generators import make_generator
from helpers.images import small_images, write_class_folders
from PIL import Image
from torchvision.datasets import ImageFolder

from ganaug import DataError, InputError, open_images
from ganaug.cli.evaluate import EvaluateArguments, open_splits
from ganaug.cli.images import DataArguments
from ganaug.data import classes_with_counts, open_unlabeled


def write(path: Path, grey: int = 0) -> None:
    """One grey image of 8x8 pixels."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("L", (8, 8), grey).save(path)


def write_splits(root: Path, pattern: str, counts: dict[str, dict[str, int]]) -> Path:
    """Images of counts[split][class], at root / pattern / number; their grey tells the split."""
    for k, (split, classes) in enumerate(counts.items()):
        for name, count in classes.items():
            for i in range(count):
                write(root / pattern.format(split=split, name=name) / f"{i}.png", 50 * k + i)
    return root


@pytest.mark.parametrize("pattern", ["{split}/{name}", "{name}/{split}", "archive/{split}/{name}"])
def test_folders_of_splits_are_splits(tmp_path, pattern):
    parts = {"train": {"cat": 3, "dog": 2}, "val": {"cat": 1, "dog": 1}, "test": {"cat": 2, "dog": 1}}
    root = write_splits(tmp_path / "pets", pattern, parts)
    for k, (split, counts) in enumerate(parts.items()):
        found = open_images(root, split=split)
        assert (found.classes, found.class_counts) == (("cat", "dog"), list(counts.values()))
        assert set((found.images[:, 0, 0, 0] // 50).tolist()) == {k}
        assert found.train == (split == "train")
    assert open_images(root, split="validation").fingerprint == open_images(root, split="val").fingerprint
    with pytest.raises(DataError, match=r"no split 'extra'; its splits are"):
        open_images(root, split="extra")


def test_validation_images_stand_in_for_a_test_split(tmp_path, caplog):
    root = write_splits(tmp_path, "{split}/{name}", {"Train": {"a": 2}, "Valid": {"a": 1}})
    found = open_images(root, split="test")
    assert (len(found), found.train) == (1, False)
    assert found.name.endswith(", valid split")  # the report shows it
    assert "has no split test, so its split valid is read" in caplog.text
    (root / "Valid" / "a" / "0.png").unlink()
    with pytest.raises(DataError, match="no image of any class"):
        open_images(root, split="valid")
    root = write_splits(tmp_path / "train only", "{split}/{name}", {"train": {"a": 2, "b": 1}})
    assert open_images(root).classes == ("a", "b")
    with pytest.raises(DataError, match="no split 'test'"):
        open_images(root, split="test")
    (root / "test").mkdir()
    write(root / "test" / "of no class.png")
    with pytest.raises(DataError, match="has no class folders"):
        open_images(root, split="test")


def test_a_class_may_be_called_test(tmp_path):
    for name in ("test", "train", "flight"):
        write(tmp_path / "words" / name / "0.png")
        write(tmp_path / "parts" / name / "inside" / "0.png")
    assert open_images(tmp_path / "words").classes == ("flight", "test", "train")
    assert open_images(tmp_path / "parts").classes == ("flight", "test", "train")
    for name in ("test", "val"):
        write(tmp_path / "tubes" / name / "0.png")
    assert open_images(tmp_path / "tubes").classes == ("test", "val")


def test_splits_may_be_called_training_and_testing(tmp_path):
    root = write_splits(tmp_path, "{split}/{name}", {"Training": {"a": 2, "b": 1}, "Testing": {"a": 1, "b": 1}})
    assert open_images(root).class_counts == [2, 1]
    held_out = open_images(root, split="test")
    assert (held_out.class_counts, held_out.train) == ([1, 1], False)
    assert set(open_unlabeled(root, small_images(n=3, size=8))[:, 0, 0, 0].tolist()) == {0, 1}
    assert not open_images(root / "Testing").train


@pytest.mark.parametrize("other", ["predict", "csv", "extra/a"])
def test_folders_beside_those_of_splits_are_not_classes(tmp_path, other):
    root = write_splits(tmp_path, "{split}/{name}", {"train": {"a": 2, "b": 1}, "test": {"a": 1, "b": 1}})
    write(root / other / "0.png")
    with pytest.raises(DataError, match=rf"\(train, test\) and others: {other[:3]}.*give .*train"):
        open_images(root)
    assert open_images(root / "train").class_counts == [2, 1]


def test_class_folders_that_only_hold_folders_are_named(tmp_path, caplog):
    write_splits(tmp_path, "seg_{split}/{name}", {"train": {"a": 1, "b": 1}, "test": {"a": 1, "b": 1}})
    assert open_images(tmp_path).classes == ("seg_test", "seg_train")
    assert "each is read as one class: seg_test (a, b), seg_train (a, b)" in caplog.text
    caplog.clear()
    write(tmp_path / "seg_test" / "0.png")
    assert open_images(tmp_path, classes=["seg_test"]).class_counts == [3]
    assert not caplog.text


@pytest.mark.parametrize("target", ["..", ".", "../..", "../../photos"])
def test_a_link_back_brings_no_images_of_other_classes(tmp_path, target):
    for grey, name in enumerate(("cat", "dog")):
        write(tmp_path / "photos" / name / "0.png", grey)
    (tmp_path / "photos" / "cat" / "back").symlink_to(target)
    (tmp_path / "links").mkdir()
    (tmp_path / "links" / "cat").symlink_to("../photos/cat")
    (tmp_path / "links" / "dog").symlink_to("../photos/dog")
    for root in (tmp_path / "photos", tmp_path / "links"):
        found = open_images(root)
        assert (found.images[:, 0, 0, 0].tolist(), found.targets.tolist()) == ([0, 1], [0, 1])


@pytest.mark.parametrize("unreadable", ["photos", "photos/cat", "photos/cat/more"])
def test_a_folder_that_may_not_be_read_is_named(tmp_path, monkeypatch, unreadable):
    write(tmp_path / "photos" / "cat" / "more" / "0.png")
    write(tmp_path / "photos" / "dog" / "0.png")
    scandir = os.scandir

    def refusing(path):  # as for another user; permissions say nothing to root
        if Path(path) == tmp_path / unreadable:
            raise PermissionError(errno.EACCES, "Permission denied", str(path))
        return scandir(path)

    monkeypatch.setattr(os, "scandir", refusing)
    with pytest.raises(DataError, match=f"{unreadable} may not be read: Permission denied. Make it readable"):
        open_images(tmp_path / "photos")


def test_splits_without_training_images_are_refused_with_a_folder_to_give(tmp_path):
    write_splits(tmp_path, "{split}/{name}", {"test": {"a": 1}, "val": {"a": 1}})
    with pytest.raises(DataError, match=r"none called train. Give .*test"):
        open_images(tmp_path)
    assert not open_images(tmp_path / "test").train  # a generator must not learn from them unasked


def test_a_folder_in_a_folder_is_opened_one_level_down(tmp_path, caplog):
    root = write_class_folders(tmp_path / "photos" / "photos", small_images()).parent
    (root / "__MACOSX").mkdir()
    assert open_images(root).classes == small_images().classes
    assert f"the classes are those in {root / 'photos'}" in caplog.text
    write(tmp_path / "one" / "cat" / "0.png")
    write(tmp_path / "one" / "cat" / "more" / "0.png")
    assert open_images(tmp_path / "one").classes == ("cat",)


def test_evaluation_finds_the_test_split_and_keeps_the_classes(tmp_path, capsys):
    parts = {"train": {"a": 4, "b": 2, "c": 3}, "test": {"a": 1, "c": 2}}
    root = write_splits(tmp_path / "data", "{split}/{name}", parts)
    generator = make_generator(("c", "b", "a"), image_size=8)
    train, _, held_out = open_splits(EvaluateArguments((), DataArguments(train_data_dir=root)), {"g": generator})
    assert train.classes == held_out.classes == ("a", "b", "c")
    assert (train.class_counts, held_out.class_counts) == ([4, 2, 3], [1, 0, 2])
    assert "classes: a 4, b 2, c 3" in capsys.readouterr().out
    # Images of a class that is not trained on are refused, unless the classes are asked for.
    write(tmp_path / "more" / "a" / "0.png")
    write(tmp_path / "more" / "d" / "0.png")
    flags = DataArguments(train_data_dir=root)
    with pytest.raises(DataError, match="has images of d, .*--classes"):
        open_splits(EvaluateArguments((), flags, test_data_dir=tmp_path / "more"), {"g": generator})
    flags = DataArguments(train_data_dir=root, classes=("c", "a"))
    train, _, held_out = open_splits(EvaluateArguments((), flags, test_data_dir=tmp_path / "more"), {"g": generator})
    assert (train.classes, held_out.classes, held_out.class_counts) == (("a", "c"), ("a", "c"), [1, 0])
    assert not held_out.train


@pytest.mark.parametrize(
    ("names", "advice"),
    [(("a", "x"), r"Leave the others out.*--classes"), (("x", "y"), "Give images of the classes that it draws")],
)
def test_evaluation_on_other_classes_says_which_flag_helps(tmp_path, names, advice):
    root = write_splits(tmp_path / "data", "{split}/{name}", {"train": {"a": 2, "b": 2}, "test": {"a": 1, "b": 1}})
    flags = EvaluateArguments((), DataArguments(train_data_dir=root))
    with pytest.raises(InputError, match=advice):
        open_splits(flags, {"g": make_generator(names, image_size=8)})
    numbered = write_splits(tmp_path / "n", "{split}/{name}", {"train": {"0": 2, "1": 2}, "test": {"0": 1, "1": 1}})
    flags = EvaluateArguments((), DataArguments(train_data_dir=numbered))
    with pytest.raises(InputError, match="as in training.*--class_names"):
        open_splits(flags, {"g": make_generator(names, image_size=8)})
    with pytest.raises(DataError, match="--test_data_dir"):
        open_splits(EvaluateArguments((), DataArguments(train_data_dir=root / "train")), {"g": make_generator()})


@pytest.fixture
def messy(tmp_path) -> Path:
    """Four PNG images in each of two class folders, and what else folders have in them."""
    root = tmp_path / "photos"
    for name in ("😺 cats", "dogs"):
        for i in range(4):
            write(root / name / f"{i}.png", i)
    cats, dogs = root / "😺 cats", root / "dogs"
    write(cats / "5.GIF", 5)
    write(cats / "new" / "6.jfif", 6)
    write(cats / "7.avif", 7)
    write(cats / ".thumbnails" / "0.png")
    (cats / "._0.png").write_bytes(b"\0\5\26\7")
    (cats / "Thumbs.db").write_bytes(b"\0")
    (dogs / ".DS_Store").write_bytes(b"\0")
    write(dogs / "@eaDir" / "0.png")
    write(dogs / "shoot.jpg" / "8.png", 8)  # a folder
    (dogs / "captions.txt").write_text("dogs")
    (dogs / "film.mpg").write_bytes(b"\0")
    (dogs / "checksums").write_text("")
    write(root / "cover.png")
    write(root / "__MACOSX" / "dogs" / "0.png")
    write(tmp_path / "elsewhere" / "deep" / "9.png", 9)
    (dogs / "link").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "elsewhere" / "back").symlink_to(dogs)  # endless, if it were followed again and again
    (dogs / "itself").symlink_to("itself")
    return root


def test_everything_that_pillow_opens_is_opened_and_the_rest_is_counted(messy, caplog):
    found = open_images(messy)
    assert (found.classes, found.class_counts) == (("dogs", "😺 cats"), [6, 7])
    assert sorted(found.images[found.targets == 0][:, 0, 0, 0].tolist()) == [0, 1, 2, 3, 8, 9]
    (line,) = [record for record in caplog.records if record.levelno == logging.WARNING]
    told = line.getMessage().partition("left out: ")[2]
    assert set(told.partition(", 4 without")[0].split(", ")) == {
        "6 hidden",
        "1 beside the class folders",
        "1 linked a second time",
    }
    extensions = told.partition("without an image's extension (")[2].rstrip(")").split(", ")
    assert sorted(extensions) == [".mpg", ".txt", "none"]


def test_what_image_folder_finds_is_found(tmp_path):
    """Of folders without anything hidden, and with a link."""
    root = write_class_folders(tmp_path / "data", small_images(), "bmp")
    (root / "class 0" / "more").symlink_to(write_class_folders(tmp_path / "other", small_images(n=9)))
    theirs, ours = ImageFolder(root), open_images(root)
    assert (list(ours.classes), len(ours)) == (theirs.classes, len(theirs))
    assert ours.targets.tolist() == theirs.targets


def test_formats_that_a_plugin_adds_later_are_opened(tmp_path, monkeypatch, caplog):
    write(tmp_path / "a" / "0.png")
    (tmp_path / "a" / "1.plugin").write_bytes((tmp_path / "a" / "0.png").read_bytes())
    assert open_images(tmp_path).class_counts == [1]
    assert "1 without an image's extension (.plugin)" in caplog.text
    monkeypatch.setitem(Image.EXTENSION, ".plugin", "PNG")
    assert open_images(tmp_path).class_counts == [2]


@pytest.mark.parametrize("content", [b"", b"hello", b"\x89PNG\r\n\x1a\n"])
def test_files_that_are_not_images_are_bad_whatever_their_extension(messy, content):
    (messy / "dogs" / "bad.heic.webp").write_bytes(content)
    with pytest.raises(DataError, match=r"1 of 14 images cannot be decoded; .*bad\.heic\.webp"):
        open_images(messy)
    assert open_images(messy, skip_bad_images=True).class_counts == [6, 7]


def test_unlabelled_folders_are_read_by_the_same_rule(messy, caplog):
    like = small_images(n=3, size=8)
    assert open_unlabeled(messy, like).shape == (14, 1, 8, 8)
    assert "6 hidden" in caplog.text
    assert ".txt" in caplog.text
    root = write_splits(messy.parent / "splits", "{split}", {"train": {"": 3}, "test": {"": 2}})
    assert set(open_unlabeled(root, like)[:, 0, 0, 0].tolist()) == {0, 1, 2}  # never those to judge by
    assert "only train is read" in caplog.text


def test_a_class_name_is_the_same_in_both_spellings(tmp_path):
    composed, apart = unicodedata.normalize("NFC", "café"), unicodedata.normalize("NFD", "café")
    assert composed != apart
    for name in ("tea", apart):
        write(tmp_path / "mac" / name / "0.png")
    found = open_images(tmp_path / "mac")
    assert found.classes == (composed, "tea")
    assert open_images(tmp_path / "mac", classes=[apart]).classes == (composed,)
    write(tmp_path / "mac" / composed / "0.png")
    with pytest.raises(DataError, match="two folders 'café', spelt with different code points"):
        open_images(tmp_path / "mac")


def test_a_class_folder_without_images_is_refused_unless_it_is_not_asked_for(messy):
    (messy / "notes").mkdir()
    (messy / "notes" / "a.txt").write_text("")
    with pytest.raises(DataError, match=r"class folder .*notes has no image"):
        open_images(messy)
    assert open_images(messy, classes=["dogs"]).class_counts == [6]
    with pytest.raises(DataError, match="has no class birds; its classes are dogs, notes, 😺 cats"):
        open_images(messy, classes=["dogs", "birds"])


def test_names_and_counts_of_many_classes_fit_in_a_line():
    assert classes_with_counts(small_images(n=7)) == "class 0 3, class 1 2, class 2 2"
    many = small_images(n=1000, classes=300)
    told = classes_with_counts(many)
    assert told.startswith("class 0 4, class 1 4")
    assert told.endswith("class 9 4 and 290 more with 3 to 4 images")


def test_images_are_in_the_order_of_their_code_points(tmp_path):
    """On every system: Windows' paths by themselves compare without upper case, which would draw other subsets."""
    for k, name in enumerate(("B.png", "Z/b.png", "a/B.png", "a/a.png", "a.png", "é.png")):
        write(tmp_path / "pets" / "x" / name, k)
    assert open_images(tmp_path / "pets").images[:, 0, 0, 0].tolist() == list(range(6))
