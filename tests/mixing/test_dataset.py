from __future__ import annotations

import pickle
from functools import partial

import numpy as np
import pytest
import torch
from helpers.generators import make_generator
from helpers.images import THREE, small_images, write_idx_pair
from PIL import Image
from torch import nn
from torch.utils.data import DataLoader, Dataset, IterableDataset, Subset, TensorDataset
from torchvision import tv_tensors
from torchvision.datasets import FakeData, FashionMNIST, ImageFolder
from torchvision.transforms import v2

from ganaug import ConditionalGANAugment, Generator, LoadError, open_images
from ganaug.sampling import sample

to_float = v2.Compose([v2.ToImage(), v2.ToDtype(torch.float32, scale=True)])


@pytest.fixture(scope="module")
def fashion(tmp_path_factory):
    """torchvision's own FashionMNIST class over 90 made-up images in its file format."""
    root = tmp_path_factory.mktemp("torchvision")
    for prefix in ("train", "t10k"):
        write_idx_pair(root / "FashionMNIST" / "raw", small_images(n=90, classes=10, size=28), prefix)
    return partial(FashionMNIST, root, train=True)


@pytest.fixture(scope="module")
def fashion_generator(fashion) -> Generator:
    return make_generator(tuple(fashion().classes))


def same(first, second) -> bool:
    """Equal items: (PIL image or tensor, label)."""
    return np.array_equal(np.asarray(first[0]), np.asarray(second[0])) and first[1] == second[1]


def test_counts_targets_and_source(digits, generator):
    train = ConditionalGANAugment(digits, generator, ratio=0.3)
    assert (len(train), train.n_real, train.n_fake) == (5714, 4000, 1714)
    assert (train.targets.dtype, train.source.dtype) == (torch.int64, torch.uint8)
    assert torch.equal(train.targets[:4000], digits.targets)
    assert torch.bincount(train.targets[4000:]).tolist() == [172] * 4 + [171] * 6
    assert train.source.tolist() == [0] * 4000 + [1] * 1714
    assert train.classes == list(digits.classes)
    assert train.class_to_idx["7"] == 7
    assert "5714 (4000 real, 1714 generated)" in repr(train)


def test_real_items_are_the_datasets_own_and_fakes_are_samples(three):
    data = small_images()
    train = ConditionalGANAugment(data, three, ratio=0.25, seed=11)
    assert all(same(train[i], data[i]) for i in range(60))
    indices = list(range(60, 80))
    expected = sample(three, train.targets[60:], seed=11, indices=indices)
    for index, image, label in zip(indices, expected, train.targets[60:], strict=True):
        assert same(train[index], (image, label))
        assert type(train[index][1]) is int


def test_ratio_zero_is_the_identity(three):
    data = small_images()
    train = ConditionalGANAugment(data, three, ratio=0)
    assert len(train) == 60
    assert all(same(a, b) for a, b in zip(train, data, strict=True))


def test_a_batch_is_made_together_and_in_order(three):
    calls = []

    class Counting(nn.Module):
        latent_dim = 100

        def forward(self, z, labels):
            calls.append(len(z))
            return three(z, labels)

    train = ConditionalGANAugment(small_images(), Counting(), ratio=0.5)
    calls.clear()
    order = [119, 0, 60, 59, 77, 77, -1]
    batch = train.__getitems__(order)
    assert len(calls) == 1
    assert all(same(item, train[index]) for item, index in zip(batch, order, strict=True))


def test_indexing_ends_as_a_sequence_does(three):
    train = ConditionalGANAugment(small_images(), three, ratio=0.5)
    assert len(list(train)) == 120
    assert same(train[-1], train[119])
    assert same(train[np.int64(70)], train[70])
    for index in (120, -121):
        with pytest.raises(IndexError, match=f"index {index} is out of range for 120 items"):
            train[index]
    with pytest.raises(TypeError):
        train[1.0]


def loader(dataset, **options) -> DataLoader:
    """A DataLoader that does not take its seed from the global random state."""
    return DataLoader(dataset, generator=torch.Generator(), **options)


def epoch(dataset, **options) -> list[torch.Tensor]:
    batches = list(loader(dataset, **options))
    return [torch.cat(parts) for parts in zip(*batches, strict=True)]


def test_an_epoch_from_a_folder_has_thirty_percent_generated(digits, generator_folder):
    """The issue's own example, with the share counted from what the loader delivers."""
    digits = digits.subset(torch.arange(0, 4000, 4), "every fourth")
    train = ConditionalGANAugment(digits, str(generator_folder), ratio=0.3)
    flagged = _WithSource(train)
    epochs = []
    for workers in (0, 1, 2):
        batches = [(*item, source) for item, source in loader(flagged, batch_size=64, num_workers=workers)]
        epochs.append([torch.cat(parts) for parts in zip(*batches, strict=True)])
    images, _, source = epochs[0]
    assert int(source.sum()) == round(0.3 * len(source)) == 429
    for other in epochs[1:]:
        assert all(torch.equal(a, b) for a, b in zip(epochs[0], other, strict=True))
    assert torch.equal(images[source == 0], digits.images)


class _WithSource(Dataset):
    """Items with their provenance, as evidence that crosses the worker's process."""

    def __init__(self, train):
        self.train = train

    def __len__(self):
        return len(self.train)

    def __getitems__(self, indices):
        return list(zip(self.train.__getitems__(indices), self.train.source[indices], strict=True))


def test_fakes_go_through_the_datasets_own_transform(fashion, fashion_generator):
    """PIL for the transform, and the same transform object, even when it is changed later."""
    seen = []

    def spy(image):
        seen.append(image)
        return to_float(image)

    data = fashion(transform=spy, target_transform=lambda label: label * 10)
    train = ConditionalGANAugment(data, fashion_generator, ratio=0.3)
    image, label = train[128]
    assert image.dtype == torch.float32
    assert image.shape == (1, 28, 28)
    assert label == int(train.targets[128]) * 10
    assert (type(seen[-1]), seen[-1].mode) == (type(seen[0]), seen[0].mode) == (Image.Image, "L")
    data.transform = lambda image: "changed"
    assert train[0][0] == train[128][0] == "changed"


def test_a_transform_given_here_goes_over_everything(fashion, fashion_generator):
    train = ConditionalGANAugment(
        fashion(), fashion_generator, transform=to_float, target_transform=lambda label: label + 100
    )
    for index in (0, 128):
        image, label = train[index]
        assert image.dtype == torch.float32
        assert label == int(train.targets[index]) + 100
    joint = ConditionalGANAugment(
        fashion(), fashion_generator, transforms=lambda image, label: (label, to_float(image))
    )
    assert joint[128][0] == int(train.targets[128])
    assert torch.equal(joint[128][1], train[128][0])


def test_the_wrapped_dataset_is_not_modified(fashion, fashion_generator):
    data = fashion(transform=to_float)
    before = dict(vars(data))
    train = ConditionalGANAugment(data, fashion_generator)
    train.__getitems__([0, 100])
    assert vars(data).keys() == before.keys()
    assert all(vars(data)[name] is value for name, value in before.items())


def test_the_generator_is_copied(three):
    mine = make_generator(THREE, image_size=12).train()
    train = ConditionalGANAugment(small_images(), mine, ratio=0.5)
    before = train[100]
    assert mine.training
    with torch.no_grad():
        mine.embedding.weight.zero_()
    assert same(train[100], before)


class Pairs(Dataset):
    """A dataset of the user's own: no classes, no targets, items as given."""

    def __init__(self, items):
        self.items = items

    def __len__(self):
        return len(self.items)

    def __getitem__(self, index):
        return self.items[index]


def tensor_items(make, labels=(0, 1, 2, 0)):
    return Pairs([(make(), label) for label in labels])


@pytest.mark.parametrize(
    ("make", "kind"),
    [
        (lambda: Image.new("L", (12, 12)), Image.Image),
        (lambda: torch.zeros(1, 12, 12, dtype=torch.uint8), torch.Tensor),
        (lambda: tv_tensors.Image(torch.zeros(1, 12, 12, dtype=torch.uint8)), tv_tensors.Image),
    ],
)
def test_fakes_have_the_form_of_the_raw_images(three, make, kind):
    unnamed = make_generator(("0", "1", "2"), image_size=12)
    train = ConditionalGANAugment(tensor_items(make), unnamed, ratio=0.5)
    assert type(train[7][0]) is kind
    assert train.classes == ["0", "1", "2"]


@pytest.mark.parametrize("label", [np.int64(1), torch.tensor(1), torch.tensor(1, dtype=torch.int32)])
def test_labels_keep_their_type(label):
    unnamed = make_generator(("0", "1"), image_size=12)
    data = tensor_items(partial(torch.zeros, 1, 12, 12, dtype=torch.uint8), [label, label * 0])
    fake = ConditionalGANAugment(data, unnamed, ratio=0.5)[3][1]
    assert type(fake) is type(label)
    assert fake.dtype == label.dtype


def test_tensor_datasets_and_subsets_of_subsets(three):
    data = small_images()
    unnamed = make_generator(("0", "1", "2"), image_size=12)
    train = ConditionalGANAugment(TensorDataset(data.images, data.targets), unnamed, ratio=0.5)
    assert torch.equal(train.targets[:60], data.targets)
    assert len(epoch(train, batch_size=50)[0]) == 120
    part = Subset(Subset(data, range(0, 60, 2)), [3, 1, 4])
    train = ConditionalGANAugment(part, three, ratio=0.5)
    assert train.classes == list(data.classes)
    assert torch.equal(train.targets[:3], data.targets[[6, 2, 8]])
    assert len(train) == 6


def test_inside_subset_and_distributed_sampler(three):
    train = ConditionalGANAugment(small_images(), three, ratio=0.5)
    assert same(Subset(train, [70, 3])[0], train[70])
    samplers = [torch.utils.data.DistributedSampler(train, num_replicas=2, rank=rank, shuffle=True) for rank in (0, 1)]
    halves = [epoch(train, batch_size=10, sampler=sampler)[1] for sampler in samplers]
    assert sorted(torch.cat(halves).tolist()) == sorted(train.targets.tolist())


def test_image_folder_with_a_resizing_transform(tmp_path):
    for name, size in [("cat", (40, 30)), ("dog", (25, 25))]:
        for i in range(3):
            (tmp_path / name).mkdir(exist_ok=True)
            Image.new("RGB", size, (i, 0, 0)).save(tmp_path / name / f"{i}.png")
    two = make_generator(("dog", "cat"), image_size=16, channels=3)
    resize = v2.Compose([v2.Resize((8, 8)), to_float])
    train = ConditionalGANAugment(ImageFolder(tmp_path, transform=resize), two, ratio=0.5)
    images, labels = epoch(train, batch_size=4)
    assert images.shape == (12, 3, 8, 8)
    # Classes meet by name although their numbers differ.
    raw = sample(two, [1, 1, 1, 0, 0, 0], indices=range(6, 12))
    assert torch.equal(images[6:], torch.stack([resize(image) for image in map(v2.functional.to_pil_image, raw)]))
    assert labels[6:].tolist() == [0, 0, 0, 1, 1, 1]


def test_class_map(fashion, three):
    numbered = make_generator()
    with pytest.raises(
        ValueError, match=r"does not know T-shirt/top.*classes are T-shirt/top, .*generator's are 0, 1"
    ):
        ConditionalGANAugment(fashion(), numbered)
    names = dict(zip(fashion().classes, numbered.label_names, strict=True))
    train = ConditionalGANAugment(fashion(), numbered, class_map=names)
    expected = sample(numbered, train.targets[90:], indices=range(90, 129))
    assert np.array_equal(np.asarray(train[100][0]), expected[10, 0].numpy())
    for wrong in ({"class 0": "giraffe"}, {"giraffe": "class 0"}):
        with pytest.raises(ValueError, match="class_map has names that neither has: giraffe"):
            ConditionalGANAugment(small_images(), three, class_map=wrong)


def test_a_module_without_names_takes_labels_as_they_are():
    class Plain(nn.Module):
        latent_dim = 2

        def forward(self, z, labels):
            return (labels / 2 - 1).view(-1, 1, 1, 1).expand(-1, 1, 12, 12)

    train = ConditionalGANAugment(small_images(), Plain(), ratio=0.5)
    for index in (60, 90, 119):
        assert int(train[index][0].max()) == round(int(train.targets[index]) / 2 * 127.5)


def test_datasets_whose_processing_is_hidden_need_fake_transform():
    data = tensor_items(lambda: torch.zeros(1, 12, 12))
    unnamed = make_generator(("0", "1", "2"), image_size=12)
    with pytest.raises(TypeError, match=r"got a Tensor of shape \(1, 12, 12\), torch.float32. Pass fake_transform"):
        ConditionalGANAugment(data, unnamed)
    train = ConditionalGANAugment(data, unnamed, ratio=0.5, fake_transform=lambda image: image / 255)
    images, _ = epoch(train, batch_size=8)
    assert images.dtype == torch.float32
    assert float(images.max()) <= 1


@pytest.mark.parametrize(
    ("data", "error", "message"),
    [
        (lambda: _Stream(), TypeError, "dataset must be map-style .*got _Stream"),
        (lambda: Pairs([]), TypeError, "Pairs has no items"),
        (lambda: tensor_items(lambda: 0, [torch.tensor([1, 1])] * 2), TypeError, "one class each .* got a Tensor"),
        (lambda: tensor_items(lambda: 0, [0.5, 1.0]), TypeError, "one class each .* got float 0.5"),
        (lambda: Pairs([(1, 2, 3)]), TypeError, r"must be \(image, label\) pairs, got a tuple of 3"),
        (lambda: Pairs([{"image": 0, "label": 1}]), TypeError, r"must be \(image, label\) pairs, got dict"),
        (lambda: tensor_items(lambda: 0, [-1, 0]), ValueError, "labels of Pairs must be from 0 to 0 .* got -1 to 0"),
        (lambda: small_images(channels=3), ValueError, r"3 channels, the generator's 1. Train .*--channels 3"),
        (lambda: small_images(size=16), ValueError, r"\(1, 16, 16\), the generator's \(1, 12, 12\)"),
        (lambda: small_images(classes=5), ValueError, "generator does not know class 3, class 4"),
    ],
)  # fmt: skip
def test_datasets_that_cannot_be_augmented(three, data, error, message):
    with pytest.raises(error, match=message):
        ConditionalGANAugment(data(), three)


class _Stream(IterableDataset):
    def __iter__(self):
        return iter(())


def test_two_transforms_are_one_too_many(fashion, fashion_generator):
    with pytest.raises(ValueError, match="two transforms: FashionMNIST has its own"):
        ConditionalGANAugment(fashion(transform=to_float), fashion_generator, transform=to_float)
    with pytest.raises(ValueError, match="Only transforms or transform/target_transform can be passed"):
        ConditionalGANAugment(fashion(), fashion_generator, transform=to_float, transforms=lambda x, y: (x, y))


def test_generators_that_cannot_be_used(three, tmp_path):
    with pytest.raises(TypeError, match="generator must be a module .* got int"):
        ConditionalGANAugment(small_images(), 5)
    with pytest.raises(TypeError, match="with latent_dim .* got Identity"):
        ConditionalGANAugment(small_images(), nn.Identity())
    with pytest.raises(LoadError, match="has no config.json"):
        ConditionalGANAugment(small_images(), tmp_path)
    with pytest.raises(ValueError, match=r"ratio must be a number in \[0, 1\).*got 1"):
        ConditionalGANAugment(small_images(), three, ratio=1)


def test_it_pickles(three):
    train = ConditionalGANAugment(small_images(), three, ratio=0.5)
    again = pickle.loads(pickle.dumps(train))
    assert all(same(again[i], train[i]) for i in (0, 80, 119))


def test_global_random_state_is_not_used(fashion, fashion_generator):
    """What it draws is the same whatever the global seeds are (that it moves none, every test checks)."""
    made = []
    for state in (1, 2):
        with torch.random.fork_rng():
            torch.manual_seed(state)
            made.append(ConditionalGANAugment(fashion(transform=to_float), fashion_generator)[110][0])
    assert torch.equal(*made)


def test_a_dataset_without_a_label_list_is_read_once_through_its_items(caplog):
    """FakeData has neither targets nor labels; its transform must not be run for its labels."""
    data = FakeData(20, (3, 12, 12), num_classes=3, transform=lambda image: pytest.fail("transform was run"))
    data.targets = None
    rgb = make_generator(("0", "1", "2"), image_size=12, channels=3)
    with caplog.at_level("INFO", "ganaug"):
        train = ConditionalGANAugment(data, rgb, ratio=0.5)
    assert "FakeData has no list of labels: reading all 20 items" in caplog.text
    data.transform = None
    assert train.targets[:20].tolist() == [label for _, label in data]


def test_open_images_are_ready_to_wrap(tmp_path, three):
    write_idx_pair(tmp_path, small_images())
    data = open_images(tmp_path)
    train = ConditionalGANAugment(data, three, class_map=dict(zip(data.classes, three.label_names, strict=True)))
    assert len(train) == 86
