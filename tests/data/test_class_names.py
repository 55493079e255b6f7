"""Which class a label means: class_to_idx, wrappers that change labels, concatenations of datasets."""

from __future__ import annotations

import datasets
import numpy as np
import pandas
import pytest
import torch
from helpers.generators import make_generator
from helpers.greys import TEN, Grey, Greys, grey_images, labels_and_classes, shown
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from torch.utils.data import ConcatDataset, Dataset, StackDataset, Subset, random_split
from torchvision.datasets import ImageFolder
from torchvision.transforms import v2

from ganaug import ConditionalGANAugment, DataError, open_images
from ganaug.mixing import fitting


def each(labels, number=lambda k: k):
    """What :func:`labels_and_classes` finds where label ``number(k)`` shows class k, real and generated."""
    return {(number(k), k, made) for k in labels for made in (False, True)}


def mix(data, generator=None, **options):
    return ConditionalGANAugment(data, generator or Grey(), ratio=0.5, **options)


def grey_folder(root, number):
    """torchvision's ImageFolder of twelve classes, "0" to "11", in which ``number[name]`` is the label of a name."""
    for k in range(12):
        (root / str(k)).mkdir(parents=True)
        for i in range(2):
            Image.new("L", (8, 8), 20 * k + 10).save(root / str(k) / f"{i}.png")

    class Numbered(ImageFolder):
        def find_classes(self, directory):
            return sorted(number), number

    return Numbered(root, loader=lambda path: Image.open(path).convert("L"))


@pytest.mark.parametrize("number", [lambda k: k, lambda k: 11 - k, lambda k: 2 * k + 1], ids=["own", "back", "gaps"])
def test_class_to_idx_numbers_the_names(tmp_path, number):
    twelve = Grey(tuple(map(str, range(12))))
    data = grey_folder(tmp_path / "greys", {str(k): number(k) for k in range(12)})
    train = mix(data, twelve)
    assert labels_and_classes(train) == each(range(12), number)
    assert all(train.class_to_idx[name] == k for name, k in data.class_to_idx.items())
    assert all(train.classes[k] == name for name, k in data.class_to_idx.items())
    images = open_images(data) if number(0) != 1 else None  # open_images wants an image of every class
    assert images is None or all(images.classes[number(k)] == str(k) for k in range(12))


def test_classes_are_as_torchvision_has_them(tmp_path):
    data = grey_folder(tmp_path / "greys", {str(k): n for n, k in enumerate(sorted(range(12), key=str))})
    train = mix(data, Grey(tuple(map(str, range(12)))))
    assert train.classes == data.classes
    assert train.class_to_idx == data.class_to_idx


@settings(deadline=None, max_examples=20)
@given(st.permutations(range(5)), st.booleans())
def test_the_order_of_classes_does_not_matter_beside_class_to_idx(order, as_array):
    data = Greys(range(5))
    data.classes = np.array([f"{k}" for k in order]) if as_array else [f"{k}" for k in order]
    data.class_to_idx = {f"{k}": k for k in range(5)}
    assert labels_and_classes(mix(data)) == each(range(5))


def with_names(labels, names, class_to_idx, **options):
    data = Greys(labels)
    data.classes, data.class_to_idx = names, class_to_idx
    return mix(data, **options)


def test_synonyms_gaps_and_doubles():
    # As torchvision's ImageNet: a tuple of synonyms for each class, and one name in two of them.
    classes = [("tench", "fish"), ("crane", "bird"), ("crane", "machine")]
    numbers = {name: k for k, names in enumerate(classes) for name in names}
    train = with_names([0, 1, 2], classes, numbers, generator=Grey(tuple(map(str, classes))))
    assert train.classes == [str(names) for names in classes]
    # A second name for a label, of which classes has one.
    train = with_names([0, 1], ["0", "1"], {"0": 0, "zero": 0, "1": 1})
    assert train.classes == ["0", "1"]
    # A number without a name, and a class called "none".
    train = with_names([0, 2], ["0", "2"], {"0": 0, "2": 2, "none": -1})
    assert labels_and_classes(train) == each([0, 2])
    assert len(set(train.classes)) == 3
    # Folders that are put together as classes of other names.
    train = with_names([0, 1], ["0", "1"], {"cat": 0, "dog": 0, "bee": 1})
    assert (train.classes, labels_and_classes(train)) == (["0", "1"], each([0, 1]))
    # It is not said which of two names a label has, unless the names are given.
    for stated in (["cat", "dog", "bee"], ["x"], None):
        unclear = (stated, {"cat": 0, "dog": 0, "bee": 1})
        with pytest.raises(
            ValueError, match="class_to_idx of Greys gives cat and dog the same label 0. Pass\\s+classes"
        ):
            with_names([0, 1], *unclear)
        assert labels_and_classes(with_names([0, 1], *unclear, classes=["0", "1"])) == each([0, 1])
    with pytest.raises(ValueError, match="two classes of Greys have the same name: cat"):
        with_names([0, 1], ["cat", "cat"], None)
    assert with_names([0, 1], ["cat", "cat"], None, classes=["0", "1"]).classes == ["0", "1"]


@pytest.mark.parametrize(
    ("classes", "numbers"),
    [
        ({"2": 0, "0": 1, "1": 2}, None),
        ({0: "2", 1: "0", 2: "1"}, None),
        (None, {0: "2", 1: "0", 2: "1"}),
        (["0", "1", "2"], {"2": torch.tensor(0), "0": torch.tensor(1), "1": torch.tensor(2)}),
        (["0", "1", "2"], {"2": np.array(0), "0": np.float32(1), "1": np.uint8(2)}),
        (pandas.Index(["2", "0", "1"]), None),
        ({"2": "a", "0": "b", "1": "c"}.keys(), None),
    ],
    ids=["to numbers", "to names", "numbers to names", "tensors", "numpy", "index", "keys"],
)
def test_names_in_other_containers(classes, numbers):
    train = with_names([0, 1, 2], classes, numbers)
    assert train.classes == ["2", "0", "1"]
    made = [train[index] for index in range(3, 6)]
    assert {(label, shown(image)) for image, label in made} == {(0, 2), (1, 0), (2, 1)}


def test_names_without_an_order_are_none():
    assert with_names([0, 1], {"b", "a"}, None).classes == ["0", "1"]


class Wrapper(Dataset):
    """Changes labels, and passes attributes on as many wrappers do."""

    def __init__(self, inside, change):
        self.inside, self.change = inside, change

    def __len__(self):
        return len(self.inside)

    def __getitem__(self, index):
        image, label = self.inside[index]
        return image, self.change(label)

    def __getattr__(self, name):
        if name == "inside":
            raise AttributeError(name)
        return getattr(self.inside, name)


class Quiet(Dataset):
    """The same without passing attributes on."""

    __init__, __len__, __getitem__ = Wrapper.__init__, Wrapper.__len__, Wrapper.__getitem__


class Copying(Wrapper):
    """Has a list of its own, copied from the dataset inside."""

    def __init__(self, inside, change):
        super().__init__(inside, change)
        self.targets = inside.targets


class Relabelled(Subset):
    """What people write to train on some of the classes."""

    def __init__(self, inside, change):
        super().__init__(inside, range(len(inside)))
        self.change = change

    def __getitem__(self, index):
        image, label = self.dataset[self.indices[index]]
        return image, self.change(label)

    def __getitems__(self, indices):
        return [self[index] for index in indices]


class Held(Dataset):
    """Holds the dataset in a dict, and passes its class names on by hand."""

    def __init__(self, inside, change):
        self.parts, self.change = {"train": inside}, change

    def __len__(self):
        return len(self.parts["train"])

    def __getitem__(self, index):
        image, label = self.parts["train"][index]
        return image, self.change(label)


WRAPPERS = [Wrapper, Quiet, Copying, Relabelled, Held]


@pytest.mark.parametrize("wrap", WRAPPERS)
@pytest.mark.parametrize("source", [grey_images, Greys], ids=["named", "unnamed"])
def test_a_wrapper_that_keeps_the_labels(wrap, source, caplog):
    data = source(torch.arange(20) % 10)
    with caplog.at_level("INFO", "ganaug"):
        train = mix(wrap(data, int))
    assert labels_and_classes(train) == each(range(10))
    assert train.classes == list(TEN)
    assert "reading all" not in caplog.text


@pytest.mark.parametrize("wrap", WRAPPERS)
@pytest.mark.parametrize(
    "outer", [lambda data: data, lambda data: Subset(data, range(3, 19)), lambda data: ConcatDataset([data] * 2)]
)
def test_a_wrapper_that_changes_labels_must_be_named(wrap, outer):
    data = outer(wrap(grey_images(torch.arange(20) % 10), lambda k: k % 2))
    for generator in (Grey(), Grey(None)):
        with pytest.raises(
            ValueError, match="class names of .* are not known: those of the LabelledImages inside"
        ) as found:
            mix(data, generator)
        assert "pass classes: the class names, in the order of the labels" in str(found.value)
    with pytest.raises(DataError, match="class names of .* are not known"):
        open_images(data)
    assert open_images(data, class_names=["even", "odd"]).class_counts == [len(data) // 2] * 2
    train = mix(data, Grey(("even", "odd")), classes=["even", "odd"])
    assert train.classes == ["even", "odd"]
    assert train.targets.tolist() == [label for _, label in train]
    assert {label for label, _, made in labels_and_classes(train) if made} == {0, 1}


@pytest.mark.parametrize("wrap", WRAPPERS)
def test_a_wrapper_that_changes_labels_which_nobody_names(wrap, caplog):
    data = wrap(Greys(torch.arange(20) % 10), lambda k: 9 - k)
    train = mix(data)
    assert (train.classes, train.targets[:4].tolist()) == (list(TEN), [9, 8, 7, 6])
    assert "are not the labels of its items: reading all 20 items" in caplog.text


def test_a_wrapper_of_some_of_the_items_must_be_named():
    class Some(Quiet):
        def __len__(self):
            return 5

    data = Some(grey_images(torch.arange(20) % 10), int)
    with pytest.raises(ValueError, match="cannot be compared item by item.* pass classes"):
        mix(data)
    assert labels_and_classes(mix(data, classes=TEN)) == each(range(5))


def test_names_of_the_wrapper_itself_are_those_of_its_labels():
    data = Wrapper(grey_images(torch.arange(20) % 10), lambda k: k % 2)
    data.classes = ["even", "odd"]
    train = mix(data, Grey(("odd", "even")))
    assert (train.classes, train.targets[:3].tolist()) == (["even", "odd"], [0, 1, 0])
    assert {(k, seen) for k, seen, made in labels_and_classes(train) if made} == {(0, 1), (1, 0)}


def test_the_argument_classes():
    data = grey_images([0, 1, 2], ("zero", "one", "two"))
    assert labels_and_classes(mix(data, classes=TEN[:3])) == each(range(3))
    with pytest.raises(ValueError, match="classes are in another order than those of LabelledImages"):
        mix(data, classes=["one", "zero", "two"])
    with pytest.raises(ValueError, match="from 0 to 1 for the classes 0, 1; got 0 to 2"):
        mix(data, classes=["0", "1"])
    for wrong in ("012", [0, 1, 2]):
        with pytest.raises(TypeError, match="classes must be a sequence of class names"):
            mix(data, classes=wrong)
    words = Greys([0, 1, 1], form=("dog", "cat").__getitem__)
    assert labels_and_classes(mix(words, Grey(("dog", "cat")))) == {
        (name, k, made) for k, name in enumerate(("dog", "cat")) for made in (False, True)
    }
    assert mix(words, Grey(("dog", "cat")), classes=["dog", "cat"]).targets[:3].tolist() == [0, 1, 1]
    words.targets = None

    class Words(Greys):
        def __getitem__(self, index):
            return Image.new("L", (8, 8), 10 + 20 * (index > 0)), ("dog", "cat", "cat")[index]

        def __len__(self):
            return 3

    words.__class__ = Words
    assert mix(words, Grey(("dog", "cat")), classes=["dog", "cat"]).targets[:3].tolist() == [0, 1, 1]
    assert mix(words, Grey(("dog", "cat"))).classes == ["cat", "dog"]
    with pytest.raises(ValueError, match="labels of Words are class names, and classes lacks cat"):
        mix(words, Grey(("dog", "cat")), classes=["dog", "bee"])


def test_concatenations(caplog):
    one, two = grey_images([0, 1, 2], "012"), grey_images([2, 1, 0, 1], "012")
    both = ConcatDataset([one, two])
    with caplog.at_level("INFO", "ganaug"):
        for data, size in [
            (both, 7),
            (Subset(both, [6, 5, 3, 0, 1]), 5),
            (ConcatDataset([Subset(both, [0, 4, 5]), two]), 7),
            (random_split(both, [5, 2], generator=torch.Generator())[0], 5),
            (ConcatDataset([one, Subset(two, []), two]), 7),
        ]:
            train = mix(data)
            assert (train.n_real, train.classes) == (size, ["0", "1", "2"])
            assert labels_and_classes(train) == each({label for label, *_ in labels_and_classes(train)})
    assert "reading all" not in caplog.text
    assert torch.equal(open_images(both).images[3:], two.images)


def test_parts_with_other_names_are_refused():
    one = grey_images([0, 1], ("cat", "dog"))
    for other, found in [
        (grey_images([0, 1], ("dog", "cat")), "part 1 has dog, cat"),
        (Pairs(one), "part 1 has none"),
    ]:
        with pytest.raises(ValueError, match=f"different class names: part 0 has cat, dog; {found}"):
            mix(ConcatDataset([one, other]), Grey(("cat", "dog")))
        assert len(mix(ConcatDataset([one, other]), Grey(("cat", "dog")), classes=["cat", "dog"])) == 8
    named = Greys([1, 1], form=str)
    with pytest.raises(TypeError, match="several forms .int; str"):
        mix(ConcatDataset([Greys([0, 1]), named]))


class ListOf(Dataset):
    def __init__(self, values):
        self.values = values

    def __len__(self):
        return len(self.values)

    def __getitem__(self, index):
        return self.values[index]


class Pairs(ListOf):
    """The items of a dataset, without the dataset."""

    def __init__(self, data):
        super().__init__([data[index] for index in range(len(data))])


def test_stacked_datasets():
    images = [grey_images([k]).images[0] for k in (0, 1, 2, 1)]
    pictures, kinds = ListOf(images), ListOf([0, 1, 2, 1])
    assert labels_and_classes(mix(StackDataset(pictures, kinds))) == each(range(3))
    kinds.classes = ["0", "1", "2"]
    with pytest.raises(ValueError, match="those of the ListOf inside it"):
        mix(StackDataset(pictures, kinds))


def test_a_batch_is_read_as_the_items_are():
    """``__getattr__`` passes on a ``__getitems__`` that does not change labels."""

    class Batched(Greys):
        def __getitems__(self, indices):
            return [self[index] for index in indices]

    train = mix(Wrapper(Batched(range(10)), lambda k: 9 - k))
    assert [label for _, label in train.__getitems__([0, 1, 2])] == [9, 8, 7]


@pytest.mark.parametrize(
    "wrap",
    [
        lambda data: ConcatDataset([Greys([0, 1]), data]),
        lambda data: Subset(ConcatDataset([Greys([0, 1]), Subset(data, [0, 1])]), [0, 1]),
        lambda data: Wrapper(data, int),
        lambda data: Held(data, int),
        lambda data: StackDataset(data, data),
    ],
)
def test_evaluation_splits_inside_anything_are_refused(wrap):
    data = Greys([0, 1])
    data.train = False
    with pytest.raises(ValueError, match="is an evaluation split .train=False"):
        mix(wrap(data))
    data.train = True
    if not isinstance(wrap(data), StackDataset):
        assert len(mix(wrap(data)))


def test_folders_of_a_split(tmp_path):
    for split in ("train", "test", "Val"):
        for k in "01":
            (tmp_path / split / k).mkdir(parents=True)
            Image.new("RGB", (8, 8)).save(tmp_path / split / k / "0.png")
    rgb = Grey(channels=3)
    assert len(mix(ImageFolder(tmp_path / "train"), rgb)) == 4
    for split in ("test", "Val"):
        with pytest.raises(ValueError, match=f"ImageFolder is an evaluation split .folder '{split}'"):
            mix(ImageFolder(str(tmp_path / split)), rgb)
        assert len(mix(ImageFolder(tmp_path / split), rgb, allow_eval=True)) == 4
    data = Greys([0, 1])
    data.root, data.train = tmp_path / "test", True
    assert len(mix(data)) == 4


def test_a_generator_is_fitted_under_the_names_that_are_given(monkeypatch, tmp_path):
    opened = []

    def fit(dataset, **options):
        opened.append(open_images(dataset))
        make_generator(opened[0].classes, image_size=8).save_pretrained(tmp_path)
        return tmp_path

    monkeypatch.setattr(fitting, "fit_generator", fit)
    data = Relabelled(grey_images(torch.arange(20) % 10), lambda k: k % 2)
    train = ConditionalGANAugment(data, ratio=0.5, classes=["even", "odd"])
    assert train.classes == ["even", "odd"]
    assert opened[0].classes == ("even", "odd")
    assert torch.equal(opened[0].targets, train.targets[:20])
    assert torch.equal(opened[0].images, data.dataset.images)


class Table(ListOf):
    """Keeps labels in a table with columns of the usual names, which is not a dataset inside."""

    def __init__(self, labels):
        super().__init__([grey_images([k])[0] for k in labels])
        self.table = pandas.DataFrame({"labels": labels, "classes": "cat", "transform": None})
        self.history = [(f"{k}.png", k) for k in range(2000)]


def test_a_table_is_not_a_dataset_inside():
    assert labels_and_classes(mix(Table([2, 0, 1]))) == each(range(3))


@pytest.mark.parametrize("wrap", [Wrapper, Quiet, Relabelled, Held])
def test_a_wrapper_of_a_dataset_that_lists_no_labels(wrap):
    data = Table([2, 0, 1, 2])
    data.classes = ["0", "1", "2"]
    assert mix(wrap(data, int)).classes == ["0", "1", "2"]
    with pytest.raises(ValueError, match="because item 0 has the label 0, and 2 in that one.* pass classes"):
        mix(wrap(data, lambda k: (1, 2, 0)[k]))


class OfRows(Dataset):
    """Makes pairs of what another dataset holds, in ways of its own."""

    def __init__(self, rows, pair):
        self.rows, self.pair = rows, pair

    def __len__(self):
        return len(self.rows)

    def __getitem__(self, index):
        return self.pair(self.rows, index)


class Store(Dataset):
    """Gives images by a method, and no items."""

    labels = None

    def __init__(self, images):
        self.images = images

    def __len__(self):
        return len(self.images)

    def __getitem__(self, key):
        raise NotImplementedError


def test_a_dataset_inside_whose_items_are_not_pairs():
    images = grey_images([0, 1, 2, 3] * 3)
    pixels = [image.squeeze(0).numpy() for image in images.images]
    features = datasets.Features({"image": datasets.Image(), "label": datasets.ClassLabel(names=list(TEN))})
    table = datasets.Dataset.from_dict({"image": pixels, "label": images.targets.tolist()}, features=features)
    keyed = StackDataset(image=images.images, label=images.targets.tolist())
    triples = StackDataset(images.images, images.targets.tolist(), list(range(12)))

    def of_keys(rows, index):
        return rows[index]["image"], rows[index]["label"]

    for rows, pair in [
        (table, of_keys),
        (table.with_transform(lambda some: {"image": [x.copy() for x in some["image"]], **some}), of_keys),
        (keyed, of_keys),
        (triples, lambda rows, index: rows[index][:2]),
        (Store(images), lambda rows, index: rows.images[index]),
    ]:
        assert labels_and_classes(mix(OfRows(rows, pair))) == each(range(4))
        assert open_images(OfRows(rows, pair)).classes[:4] == tuple("0123")
    keyed.classes = list("abcd")  # but it is not known of which labels
    with pytest.raises(
        ValueError, match="StackDataset inside it \\(a, b, c, d\\).*items there cannot be read as .* pass classes"
    ):
        mix(OfRows(keyed, of_keys))
    assert mix(OfRows(keyed, of_keys), classes=list("0123")).classes == list("0123")


@pytest.mark.parametrize("outer", [lambda data: data, lambda data: Subset(data, range(2, 11))])
def test_of_several_columns_of_a_table_the_one_with_these_labels_has_the_names(outer):
    fine, coarse = [0, 1, 2, 3] * 3, [0, 0, 1, 1] * 3
    columns = {"fine": datasets.ClassLabel(names=list("0123")), "coarse": datasets.ClassLabel(names=["low", "high"])}
    features = datasets.Features({"image": datasets.Image(), **columns})
    pixels = [image.squeeze(0).numpy() for image in grey_images(fine).images]
    table = datasets.Dataset.from_dict({"image": pixels, "fine": fine, "coarse": coarse}, features=features)

    def rows(label, among=table):
        return outer(OfRows(among, lambda rows, index: (rows[index]["image"], label(rows[index]))))

    assert mix(rows(lambda row: row["fine"])).classes == list("0123")
    high_and_low = Grey(("high", "low"))
    train = mix(rows(lambda row: row["coarse"]), high_and_low)
    assert train.classes == ["low", "high"]
    made = {(label, shown(image)) for image, label in (train[k] for k in range(train.n_real, len(train)))}
    assert made == {(0, 1), (1, 0)}
    for among in (table, table.remove_columns("coarse")):
        with pytest.raises(ValueError, match="class names of OfRows are not known: those of the Dataset inside"):
            mix(rows(lambda row: row["fine"] % 2, among))


@pytest.mark.parametrize("refer", [lambda whole, part: whole, lambda whole, part: part], ids=["itself", "a part"])
def test_a_dataset_that_refers_to_itself(refer):
    whole = OfRows(Greys([0, 1, 2]), lambda rows, index: rows[index])
    whole.rows.whole = whole.link = refer(whole, whole.rows)
    assert labels_and_classes(mix(whole)) == each(range(3))
    part = whole.rows
    part.whole = whole
    assert labels_and_classes(mix(part)) == each(range(3))


class PassesAllOn(Wrapper):
    """Passes on even the method by which loaders read batches, which knows nothing of the change."""


def test_a_wrapper_in_a_subset_that_passes_on_the_reading_of_batches():
    data = Greys([0, 1, 2, 3])
    for wrap in (
        lambda some: some,
        lambda some: Subset(some, [3, 1, 0]),
        lambda some: Subset(Subset(some, [3, 1, 0]), [2, 0]),
    ):
        changed = wrap(PassesAllOn(Subset(data, range(4)), lambda k: 3 - k))
        train = mix(changed)
        for index in range(len(changed)):
            image, label = train[index]
            assert (label, shown(image)) == (changed[index][1], 3 - label)


class Batched(Greys):
    """Reads batches in a way of its own."""

    def __init__(self, labels, finish, transform=None):
        super().__init__(labels, transform)
        self.finish = finish

    def __getitems__(self, indices):
        return [self.finish(*self[index]) for index in indices]


@pytest.mark.parametrize("wrap", [lambda data: data, lambda data: Subset(data, [2, 0])], ids=["alone", "subset"])
def test_batches_must_have_the_same_items(wrap):
    random = v2.Compose([v2.RandomHorizontalFlip(), v2.RandomCrop(7)])
    train = mix(wrap(Batched([0, 1, 2], lambda image, label: (image, label), random)))
    with torch.random.fork_rng():
        assert all(label == shown(image) for image, label in train)
    for finish in (
        lambda image, label: (image, 2 - label if label != 1 else 0),
        lambda image, label: (np.asarray(image), label),
        lambda image, label: (image, [label, label]),
    ):
        with pytest.raises(ValueError, match="__getitems__ of .* gives another item"):
            mix(wrap(Batched([0, 1, 2], finish)))
