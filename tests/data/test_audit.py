"""What may be wrong with labelled images is found."""

from __future__ import annotations

import shutil

import pytest
import torch
from helpers.images import hf_dataset, small_images, write_class_folders
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from ganaug import DataError, LabelledImages, open_images
from ganaug.data import Audit, audit_images


def copied(audit: Audit) -> list[set[str]]:
    return [{audit.names[i].rpartition("/")[2] for i in group} for group in audit.label_conflicts]


def test_a_good_folder_is_as_open_images_reads_it(tmp_path):
    folder = write_class_folders(tmp_path, small_images())
    audit, images = audit_images(folder), open_images(folder)
    assert torch.equal(audit.images.images, images.images)
    assert (audit.images.classes, audit.images.class_counts) == (images.classes, images.class_counts)
    assert all(path.startswith(str(folder)) for path in audit.names)
    assert audit.sizes == {(12, 12): 60}
    assert (audit.unreadable, audit.left_out, audit.empty_classes) == ((), "", ())
    assert (audit.copies_within, audit.label_conflicts) == ([0, 0, 0], [])
    assert not audit.copies_of(small_images(seed=1)).any()
    assert audit.copies_of(images).all()


def test_every_fault_of_a_folder_is_found_and_none_ends_it(tmp_path):
    folder = write_class_folders(tmp_path / "photos", small_images(n=9))
    for name in ("broken", "cut"):
        whole = (folder / "class 0" / "000.png").read_bytes()
        (folder / "class 0" / f"{name}.png").write_bytes(b"no image" if name == "broken" else whole[:60])
    (folder / "class 1" / "notes.txt").touch()
    (folder / "class 1" / ".hidden.png").touch()
    (folder / "empty").mkdir()
    (folder / "ruined").mkdir()
    (folder / "ruined" / "1.png").touch()
    Image.new("L", (30, 20)).save(folder / "class 2" / "wide.png")
    shutil.copy(folder / "class 0" / "000.png", folder / "class 0" / "again.png")
    shutil.copy(folder / "class 0" / "000.png", folder / "class 1" / "mine.png")

    asked = []
    audit = audit_images(folder, resolution=lambda height, width: asked.append((height, width)) or 8)
    assert asked == [(12, 12)]
    assert audit.images.images.shape == (12, 1, 8, 8)
    assert audit.sizes == {(12, 12): 12, (30, 20): 1}  # a header may be good where pixels are missing
    assert [line.partition(": ")[0].rpartition("/")[2] for line in audit.unreadable] == [
        "broken.png",
        "cut.png",
        "1.png",
    ]
    assert audit.left_out == "1 hidden, 1 without an image's extension (.txt)"
    assert set(audit.empty_classes) == {"empty", "ruined"}
    assert audit.images.classes == ("class 0", "class 1", "class 2")
    assert audit.copies_within == [1, 0, 0]
    assert copied(audit) == [{"000.png", "again.png", "mine.png"}]


def test_images_with_a_pixel_that_is_not_opaque_are_counted(tmp_path):
    folder = write_class_folders(tmp_path / "photos", small_images(n=9))
    Image.new("RGBA", (12, 12), (9, 9, 9, 255)).save(folder / "class 0" / "opaque.png")
    assert audit_images(folder).transparent == 0
    Image.new("RGBA", (12, 12), (9, 9, 9, 254)).save(folder / "class 0" / "alpha.png")
    Image.new("L", (12, 12), 7).save(folder / "class 1" / "colour.png", transparency=7)
    Image.new("P", (12, 12)).save(folder / "class 2" / "palette.gif", transparency=0)
    Image.new("I;16", (12, 12), 700).save(folder / "class 2" / "16 bits.png", transparency=700)
    assert audit_images(folder).transparent == 4


@pytest.mark.parametrize(("channels", "transparent"), [(1, 0), (2, 2), (3, 0), (4, 2)])
def test_transparent_images_in_memory_are_counted(channels, transparent):
    pixels = torch.full((5, 8, 8, channels), 255, dtype=torch.uint8)
    pixels[:2, 0, 0, -1] = 0
    assert audit_images((pixels.numpy(), [0, 1, 0, 1, 0])).transparent == transparent


def test_no_image_at_all_is_refused(tmp_path):
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "1.png").write_bytes(b"no image")
    with pytest.raises(DataError, match="1 of 1 images cannot be decoded"):
        audit_images(tmp_path)


def test_without_a_resolution_different_sizes_are_refused(tmp_path):
    folder = write_class_folders(tmp_path, small_images(n=3))
    Image.new("L", (5, 5)).save(folder / "class 0" / "small.png")
    with pytest.raises(DataError, match="differ in size"):
        audit_images(folder)


def test_held_out_images_get_the_form_of_the_training_images(tmp_path):
    train = audit_images(write_class_folders(tmp_path / "a", small_images(n=12))).images
    other = small_images(n=8, classes=2, channels=3)
    other.images[:3] = small_images(n=12).images[:3]  # grey ones, saved as colour
    audit = audit_images(write_class_folders(tmp_path / "b", other), like=train, resolution=12, channels=1)
    assert (audit.images.classes, audit.images.train) == (train.classes, False)
    assert audit.empty_classes == ("class 2",)
    found = {audit.names[i].rpartition("/")[2] for i in audit.copies_of(train).nonzero().flatten().tolist()}
    assert found == {"000.png", "001.png", "002.png"}


@pytest.mark.parametrize("source", [small_images(), hf_dataset(small_images())], ids=["arrays", "HF"])
def test_other_sources_are_audited_too(source):
    audit = audit_images(source)
    assert audit.sizes == {(12, 12): 60}
    assert len(audit.names) == len(set(audit.names)) == 60
    assert not audit.unreadable


@given(st.lists(st.tuples(st.integers(0, 4), st.integers(0, 2)), min_size=1, max_size=30))
def test_copies_are_counted_as_by_hand(drawn):
    pixels, labels = (torch.tensor([pair[k] for pair in drawn]) for k in (0, 1))
    images = pixels.to(torch.uint8)[:, None, None, None].repeat(1, 1, 2, 2)
    audit = audit_images(LabelledImages(images, labels, ("a", "b", "c"), "drawn"))
    assert sum(audit.copies_within) == len(drawn) - len(set(drawn))
    several = {pixel for pixel, _ in drawn if len({label for other, label in drawn if other == pixel}) > 1}
    groups = sorted(sorted(group) for group in audit.label_conflicts)
    assert groups == sorted([i for i, (pixel, _) in enumerate(drawn) if pixel == each] for each in several)
