"""Transforms of all kinds: known ones reach generated images, unknown ones are left alone, late ones count."""

from __future__ import annotations

import gc
import io
import pickle
import re
from collections import OrderedDict, defaultdict
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
import pytest
import torch
from helpers.greys import TEN, Grey, Greys, grey_images, shown
from PIL import Image
from torch.utils.data import ConcatDataset, DataLoader, Dataset, StackDataset, Subset
from torchvision.datasets import FakeData, ImageFolder, OxfordIIITPet, wrap_dataset_for_transforms_v2
from torchvision.transforms import v2

from ganaug import ConditionalGANAugment, open_images
from ganaug.testing import check_augmented_dataset

to_float = v2.Compose([v2.ToImage(), v2.ToDtype(torch.float32, scale=True)])


def mix(data, generator=None, **options):
    return ConditionalGANAugment(data, generator or Grey(), ratio=0.5, **options)


def add_100(label):
    return label + 100


@dataclass
class Arrays(Dataset):
    """Greys in arrays (H, W, C), which ``how`` turns into what an item has."""

    transform: Any
    how: Any = None
    target_transform: Any = None

    def __post_init__(self):
        self.targets = [k % 10 for k in range(20)]

    def __len__(self):
        return 20

    def raw(self, index):
        return np.full((8, 8, 3), 20 * self.targets[index] + 10, np.uint8)

    def __getitem__(self, index):
        label = self.targets[index]
        return self.how(self, self.raw(index)), self.target_transform(label) if self.target_transform else label


def compose(image):
    """Called as an albumentations.Compose."""
    return {"image": torch.from_numpy(image).permute(2, 0, 1)}


def processor(images, return_tensors):
    """Called as an image processor of Hugging Face."""
    assert return_tensors == "pt"
    return {"pixel_values": torch.from_numpy(images).permute(2, 0, 1)[None]}


def by_keyword(data, image):
    return data.transform(image=image)["image"]


def by_processor(data, image):
    return data.transform(images=image, return_tensors="pt")["pixel_values"][0]


def in_a_list(data, image):
    for transform in data.transform:
        image = transform(image)
    return image


def twice(data, image):
    return data.transform(data.transform(image))


def then_more(data, image):
    return data.transform(image) + 0


def never(data, image):
    return torch.from_numpy(image).permute(2, 0, 1)


def looks_at_it(data, image):
    return data.transform(image) if data.transform.p else torch.from_numpy(image).permute(2, 0, 1)


def at_random(data, image):
    return data.transform(image) if image.mean() > 100 else never(data, image)


def as_it_is(image):
    return torch.as_tensor(image) if isinstance(image, torch.Tensor) else torch.from_numpy(image).permute(2, 0, 1)


as_it_is.p = 1.0

UNKNOWN = {
    "albumentations": (compose, by_keyword, "calls its transform with image=..., the way albumentations"),
    "processor": (
        processor,
        by_processor,
        "calls its transform with images=..., return_tensors=..., the way albumentations",
    ),
    "list": ([as_it_is], in_a_list, "its code fails without its transforms .TypeError"),
    "twice": (as_it_is, twice, "calls its transform 2 times for an item"),
    "more": (as_it_is, then_more, "its code fails|does more to an image than its transform"),
    "never": (as_it_is, never, "has a transform that it does not call"),
    "attributes": (as_it_is, looks_at_it, "its code fails without its transforms .AttributeError"),
    "some items": (as_it_is, at_random, "has a transform that it does not call"),
}


@pytest.mark.parametrize(("transform", "how", "found"), UNKNOWN.values(), ids=UNKNOWN)
@pytest.mark.parametrize(
    "outer", [lambda data: data, lambda data: Subset(data, range(20)), lambda data: ConcatDataset([data, data])]
)
def test_a_transform_that_is_called_in_an_unknown_way(transform, how, found, outer):
    data = outer(Arrays(transform, how))
    with pytest.raises(TypeError, match=f"cannot be processed as .*: .*({found}).*Pass\\s+a fake_transform"):
        mix(data, Grey(channels=3))
    train = mix(data, Grey(channels=3), fake_transform=torch.clone)
    items = [train[index] for index in range(len(train))]
    assert {type(image) for image, _ in items} == {torch.Tensor}
    assert all(shown(image) == label for image, label in items)
    train.check_alignment()
    check_augmented_dataset(train, num_workers=0)


def test_the_labels_transform_is_known_beside_an_unknown_one():
    train = mix(Arrays(compose, by_keyword, add_100), Grey(channels=3), fake_transform=torch.clone)
    assert all(train[index][1] == train.targets[index] + 100 for index in range(40))
    assert all(shown(train[index][0]) == train.targets[index] for index in range(40))


def test_albumentations():
    import albumentations

    pipeline = albumentations.Compose([albumentations.Resize(4, 4)])

    def channels_first(data, image):
        return torch.from_numpy(data.transform(image=image)["image"]).permute(2, 0, 1)

    def same(image):
        return torch.from_numpy(pipeline(image=image.permute(1, 2, 0).numpy())["image"]).permute(2, 0, 1)

    data = Arrays(pipeline, channels_first)
    with pytest.raises(TypeError, match="calls its transform with image=..., the way albumentations"):
        mix(data, Grey(channels=3))
    train = mix(data, Grey(channels=3), fake_transform=same)
    assert all(image.shape == (3, 4, 4) and shown(image) == label for image, label in train)


class Joint(Greys):
    """Calls ``transforms`` with both, as torchvision's OxfordIIITPet does."""

    def __init__(self, labels, transforms):
        super().__init__(labels)
        self.transforms = transforms

    def __getitem__(self, index):
        image, label = super().__getitem__(index)
        return self.transforms(image, label) if self.transforms else (image, label)


def inverted(image, label):
    return v2.functional.invert(image), label + 1


def test_joint_transforms():
    train = mix(Joint(range(10), inverted))
    for index in range(20):
        image, label = train[index]
        assert (label, 255 - np.asarray(image).max()) == (train.targets[index] + 1, 20 * train.targets[index] + 10)
    replaced = mix(Joint(range(10), inverted), fake_transform=v2.functional.to_pil_image)
    assert all(replaced[index][1] == replaced.targets[index] + 1 for index in range(20))


def write_pets(root):
    """Two cats and two dogs, in the files that torchvision's OxfordIIITPet reads."""
    folder = root / "oxford-iiit-pet"
    (folder / "annotations").mkdir(parents=True)
    (folder / "images").mkdir()
    lines = []
    for k, name in enumerate(["Abyssinian", "beagle"]):
        for i in range(2):
            Image.new("RGB", (8, 8), (20 * k + 10,) * 3).save(folder / "images" / f"{name}_{i}.jpg", quality=100)
            lines.append(f"{name}_{i} {k + 1} {k + 1} 1")
    (folder / "annotations" / "trainval.txt").write_text("\n".join(lines))
    return root


def test_torchvisions_two_ways_to_call_the_same_transforms(tmp_path):
    root = write_pets(tmp_path)
    pets = OxfordIIITPet(root, transform=v2.Compose([to_float, v2.Normalize([0.5], [0.5])]), target_transform=add_100)
    train = mix(pets, Grey(("Abyssinian", "Beagle"), channels=3))
    for index in range(8):
        image, label = train[index]
        assert label == train.targets[index] + 100
        assert float(image.mean()) == pytest.approx((20 * int(train.targets[index]) + 10) / 127.5 - 1, abs=0.01)
    pets.transform = to_float  # which this dataset does not see, and so generated images do not
    assert torch.equal(train[7][0], image)


@pytest.mark.parametrize("transform", [to_float, None])
def test_a_dataset_wrapped_for_transforms_v2(tmp_path, transform):
    for k in "01":
        (tmp_path / k).mkdir()
        Image.new("RGB", (8, 8), (20 * int(k) + 10,) * 3).save(tmp_path / k / "0.png")
    data = wrap_dataset_for_transforms_v2(ImageFolder(tmp_path, transform=transform))
    train = mix(data, Grey(("0", "1"), channels=3))
    assert train.classes == ["0", "1"]
    for index in range(4):
        image, label = train[index]
        assert label == train.targets[index]
        assert shown(image * 255 if transform else image) == label
        assert isinstance(image, torch.Tensor if transform else Image.Image)
    check_augmented_dataset(train, num_workers=0)


def darker(image):
    return image.point(lambda value: value // 2)


def test_transforms_of_concatenations():
    for data in (
        ConcatDataset([Greys(range(5), darker), Greys(range(5), darker)]),
        ConcatDataset(
            [Subset(Greys(range(5), darker), [1, 2]), Subset(ConcatDataset([Greys(range(5), darker)]), [0, 4])]
        ),
        ConcatDataset([Greys(range(5), v2.Lambda(darker)), Greys(range(5), v2.Lambda(darker))]),
    ):
        train = mix(data)
        seen = [
            {int(np.asarray(train[i][0]).max()) for i in range(len(train)) if train.source[i] == kind}
            for kind in (0, 1)
        ]
        assert seen[0] == seen[1]
    rgb = FakeData(6, (3, 8, 8), 3, transform=to_float)
    train = mix(ConcatDataset([rgb, Subset(rgb, [1, 2])]), Grey(channels=3))
    assert {image.dtype for image, _ in train} == {torch.float32}


def test_parts_with_other_transforms():
    data = ConcatDataset([Greys(range(5), darker), Greys(range(5))])
    with pytest.raises(
        TypeError, match="the parts of ConcatDataset have different transforms. Pass\\s+a fake_transform"
    ):
        mix(data)
    assert len(mix(data, fake_transform=v2.functional.to_pil_image)) == 20
    with pytest.raises(TypeError, match="have different target_transforms"):
        mix(ConcatDataset([Greys(range(5), None, add_100), Greys(range(5))]))


class Around(Dataset):
    """The plainest of wrappers."""

    def __init__(self, inside, transform=None):
        self.inside, self.transform = inside, transform

    def __len__(self):
        return len(self.inside)

    def __getitem__(self, index):
        image, label = self.inside[index]
        return self.transform(image) if self.transform else image, label


class First(Around):
    """Only the images, or what a transform makes of them."""

    def __getitem__(self, index):
        return super().__getitem__(index)[0]


class Labels(First):
    def __getitem__(self, index):
        return self.inside[index][1]


def test_transforms_inside_a_wrapper():
    for transform in (None, darker):
        with pytest.raises(TypeError, match="the Greys inside it has transforms of its own. Pass\\s+a fake_transform"):
            mix(Around(Greys(range(10), darker), transform))
    train = mix(
        Around(Greys(range(10), darker)), fake_transform=lambda image: darker(v2.functional.to_pil_image(image))
    )
    assert all(np.asarray(image).max() == (20 * label + 10) // 2 for image, label in train)
    with pytest.raises(TypeError, match="the First inside it has transforms of its own"):
        mix(StackDataset(First(Greys(range(10)), darker), Labels(Greys(range(10)))))
    train = mix(Around(Greys(range(10)), darker))
    assert all(np.asarray(image).max() == (20 * label + 10) // 2 for image, label in train)


def test_what_is_set_through_a_wrapper_is_not_set_on_the_dataset_inside():
    class Passing(Around):
        def __setattr__(self, name, value):
            if "inside" in vars(self) and name == "transform":
                self.inside.transform = value
            else:
                super().__setattr__(name, value)

    data = Greys(range(10))
    outer = Passing(data)
    vars(outer)["transform"] = darker
    train = mix(outer)
    assert data.transform is None
    assert int(np.asarray(train[19][0]).max()) == (20 * 9 + 10) // 2


@dataclass(frozen=True)
class Frozen(Dataset):
    transform: Any
    targets: tuple = tuple(range(10))

    def __len__(self):
        return 10

    def __getitem__(self, index):
        return self.transform(Image.new("L", (8, 8), 20 * index + 10)), index


class Property(Greys):
    @property
    def transform(self):
        return darker

    @transform.setter
    def transform(self, value):
        pass


class Method(Greys):
    def __init__(self, labels):
        self.targets, self.form, self.target_transform = list(labels), int, None

    def transform(self, image):
        return darker(image)


def test_transforms_that_are_not_plain_attributes():
    for data in (Frozen(darker), Method(range(10))):
        train = mix(data)
        assert all(np.asarray(image).max() == (20 * label + 10) // 2 for image, label in train)
    with pytest.raises(TypeError, match="its transform is a property"):
        mix(Property(range(10)))


class Slots(Dataset):
    __slots__ = ("inside", "transform")

    def __init__(self, inside, transform):
        self.inside, self.transform = inside, transform

    def __len__(self):
        return len(self.inside)

    def __getitem__(self, index):
        image, label = self.inside[index]
        return self.transform(image) if self.transform else image, label


class OnlySlots:
    __slots__ = ("__weakref__", "inside", "never_set", "transform")
    __init__, __len__, __getitem__ = Slots.__init__, Slots.__len__, Slots.__getitem__


class OfClass(OnlySlots):
    __slots__ = ()
    transform = staticmethod(darker)

    def __init__(self, inside):
        self.inside = inside


@pytest.mark.parametrize("kind", [Slots, OnlySlots])
def test_attributes_in_slots(kind):
    data = kind(Greys(range(10)), darker)
    train = mix(data)
    assert all(np.asarray(image).max() == (20 * label + 10) // 2 for image, label in train)
    assert data.transform is darker
    check_augmented_dataset(mix(kind(Greys(range(10)), to_float)), num_workers=0)
    with pytest.raises(TypeError, match="the Greys inside it has transforms"):
        mix(kind(Greys(range(10), darker), None))
    with pytest.raises(TypeError, match="its transform is set on its class"):
        mix(OfClass(Greys(range(10))))


class Kept(Greys):
    """Keeps each item, transformed, once it was read."""

    def __init__(self, labels, transform, kept):
        super().__init__(labels, transform)
        self.kept = kept

    def __getitem__(self, index):
        if index not in self.kept or self.kept[index] is None:
            self.kept[index] = super().__getitem__(index)
        return self.kept[index]


class KeptInList(Kept):
    def __getitem__(self, index):
        self.kept[index] = self.kept[index] or Greys.__getitem__(self, index)
        return self.kept[index]


class KeptByFunctools(Greys):
    __getitem__ = cache(Greys.__getitem__)


@pytest.mark.parametrize("fake_transform", [None, to_float])
@pytest.mark.parametrize(
    "make",
    [
        lambda *args: Kept(*args, {}),
        lambda *args: Kept(*args, OrderedDict()),
        lambda *args: Kept(*args, defaultdict(lambda: None)),
        lambda *args: KeptInList(*args, [None] * 10),
        lambda *args: KeptByFunctools(*args),
    ],
    ids=["dict", "ordered", "default", "list", "functools"],
)
def test_a_dataset_that_keeps_its_items_keeps_none_without_transforms(make, fake_transform):
    data = make(range(10), to_float)
    train = mix(data, fake_transform=fake_transform)
    assert {image.dtype for image, _ in train} == {torch.float32}
    assert {image.dtype for image, _ in map(data.__getitem__, range(10))} == {torch.float32}


def test_transforms_that_are_set_later_on_the_dataset_inside():
    data = Greys(range(10))
    train = mix(Subset(data, range(10)))
    assert isinstance(train[19][0], Image.Image)
    data.transform, data.target_transform = to_float, add_100
    assert (train[0][0].dtype, train[19][0].dtype, train[19][1]) == (torch.float32, torch.float32, 109)
    assert pickle.loads(pickle.dumps(train))[19][1] == 109
    data.transform = None
    assert isinstance(train[19][0], Image.Image)
    data.transform = lambda *, image: image
    with pytest.raises(TypeError):
        train[19]


def test_a_transform_that_is_set_after_construction():
    """As timm's create_loader sets it."""
    train = mix(Greys(range(10)))
    assert (train.transform, train.target_transform, train.transforms) == (None, None, None)
    train.transform, train.target_transform = to_float, add_100
    assert (train.transform, train.target_transform) == (to_float, add_100)
    for other in (train, pickle.loads(pickle.dumps(train))):
        assert {(image.dtype, label) for image, label in other} == {(torch.float32, k + 100) for k in range(10)}
    batches = DataLoader(train, batch_size=20, num_workers=1, generator=torch.Generator())
    assert [images.dtype for images, _ in batches] == [torch.float32]
    with pytest.raises(ValueError, match="Only transforms or transform/target_transform"):
        train.transforms = inverted
    train.transform = train.target_transform = None
    train.transforms = inverted
    assert train[19][1] == 10


def test_a_transform_that_is_set_where_the_dataset_has_its_own():
    data = Greys(range(10), darker)
    train = mix(data)
    assert train.transform is darker
    train.transform = darker  # as it is
    for name, value in [
        ("transform", to_float),
        ("transform", None),
        ("target_transform", add_100),
        ("transforms", inverted),
    ]:
        with pytest.raises(ValueError, match=f"two transforms: Greys has its own.*Set\\s+.dataset.{name}"):
            setattr(train, name, value)
    assert isinstance(train[19][0], Image.Image)
    with pytest.raises(ValueError, match="two transforms"):
        mix(Arrays(compose, by_keyword), Grey(channels=3), fake_transform=torch.clone).transform = to_float


def large_folder(root, side):
    for k in "01":
        (root / k).mkdir(parents=True)
        Image.new("RGB", (side, side + 4)).save(root / k / "0.png")
    return root


@pytest.mark.parametrize(
    ("real", "made", "transform", "warned"),
    [
        (16, 8, v2.Resize((16, 16)), "enlarged 2x .8 to 16 pixels., real ones 1x"),
        (16, 8, v2.Resize((12, 12)), "enlarged 1.5x .8 to 12 pixels., real ones 0.75x"),
        (16, 8, v2.Compose([v2.Resize((32, 32)), to_float]), "enlarged 4x .8 to 32 pixels., real ones 2x"),
        (16, 8, v2.Resize((8, 8)), None),
        (16, 8, v2.Resize((4, 4)), None),
        (8, 8, v2.Resize((32, 32)), None),
        (4, 8, v2.Resize((32, 32)), None),
    ],
)
def test_enlarged_images_are_warned_about(tmp_path, real, made, transform, warned, caplog):
    folder = large_folder(tmp_path / "photos", real)
    later = mix(ImageFolder(folder), Grey(("0", "1"), made, 3), transform=v2.Resize((made, made)))
    assert not caplog.text
    for make in (
        lambda: mix(ImageFolder(folder, transform=transform), Grey(("0", "1"), made, 3)),
        lambda: mix(ImageFolder(folder), Grey(("0", "1"), made, 3), transform=transform),
        lambda: setattr(later, "transform", transform),
    ):
        caplog.clear()
        make()
        assert re.search(warned, caplog.text) if warned else not caplog.text


def test_images_are_opened_before_known_transforms_and_after_unknown_ones(caplog):
    data = open_images(Greys(range(10), darker))
    assert torch.equal(data.images, grey_images(range(10)).images)
    assert not caplog.text
    data = open_images(Around(Greys(range(10), darker)))
    assert torch.equal(data.images, grey_images(range(10)).images // 2)
    assert "are read with its transforms applied, because the Greys inside" in caplog.text
    assert data.classes == TEN


class Lazy(Greys):
    """Opens its file when an item is first read, as datasets over HDF5 and LMDB do, which workers must not share."""

    opened = 0
    file = None

    def __getstate__(self):
        return {**vars(self), "file": None}

    def __getitem__(self, index):
        if self.file is None:
            Lazy.opened += 1
            self.file = "open"
        return super().__getitem__(index)


def test_a_file_that_a_dataset_opens_late(monkeypatch):
    monkeypatch.setattr(Lazy, "opened", 0)
    data = Lazy(torch.arange(100) % 10, darker)
    train = mix(data)
    assert (Lazy.opened, data.file) == (1, None)
    assert int(np.asarray(train[199][0]).max()) == (20 * 9 + 10) // 2
    assert (Lazy.opened, data.file) == (1, None)
    assert len({str(item) for item in [train[0], train[1]]}) == 2
    assert (Lazy.opened, data.file) == (2, "open")


class Closing(Greys):
    """Opens its file early, and closes it when it is dropped."""

    def __init__(self, labels, transform, file):
        super().__init__(labels, transform)
        self.file = file

    def __getitem__(self, index):
        assert not self.file.closed
        return super().__getitem__(index)

    def __del__(self):
        self.file.close()


def test_a_file_that_a_dataset_closes():
    with io.BytesIO() as file:
        data = Closing(range(10), darker, file)
        train = mix(data)
        assert all(np.asarray(image).max() == (20 * label + 10) // 2 for image, label in train)
        data.transform = to_float
        assert {image.dtype for image, _ in train} == {torch.float32}
        assert type(data) is Closing
        del data, train
        gc.collect()
        assert file.closed


def test_transforms_that_cannot_be_compared():
    class Unique:
        def __init__(self):
            self.values = (k for k in range(3))  # cannot be pickled

        def __call__(self, image):
            return darker(image)

    one, other = Unique(), Unique()
    train = mix(ConcatDataset([Greys(range(10), one), Greys(range(5), one)]))
    assert all(np.asarray(image).max() == (20 * label + 10) // 2 for image, label in train)
    apart = ConcatDataset([Greys(range(10), one), Greys(range(5), other)])
    with pytest.raises(TypeError, match="the parts of ConcatDataset have different transforms"):
        mix(apart)
    assert len(mix(apart, fake_transform=to_float)) == 30
