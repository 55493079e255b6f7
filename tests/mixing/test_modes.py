"""What the wrapper offers beside the first line: modes, strategies, epochs, state, weights, and its refusals."""

from __future__ import annotations

import json
import pickle
from functools import partial

import numpy as np
import pytest
import torch
from helpers.generators import make_generator
from helpers.images import THREE, small_images, write_idx_pair
from PIL import Image
from torch import nn
from torch.utils.data import ConcatDataset, DataLoader, Subset, WeightedRandomSampler, random_split
from torch.utils.data.distributed import DistributedSampler
from torchvision import tv_tensors
from torchvision.datasets import FashionMNIST, ImageFolder
from torchvision.transforms import v2

from ganaug import ConditionalGANAugment, MixedBatchSampler, open_images
from ganaug.sampling import sample
from ganaug.sampling.inference import InferenceCopy


@pytest.fixture(scope="module")
def folder(three, tmp_path_factory):
    folder = tmp_path_factory.mktemp("generator")
    three.save_pretrained(folder)
    return folder


def images_of(items) -> torch.Tensor:
    return torch.stack([item[0] for item in items])


def test_replace_keeps_length_classes_and_the_rest(three):
    data = small_images()
    train = ConditionalGANAugment(data, three, ratio=0.3, mode="replace", seed=4)
    assert (len(train), train.n_real, train.n_fake, train.ratio_) == (60, 60, 18, 0.3)
    assert torch.equal(train.targets, data.targets)
    assert train.sampling_strategy_ == {"class 0": 6, "class 1": 6, "class 2": 6}
    assert int(train.source.sum()) == 18
    drawing = InferenceCopy(three)
    for index in range(60):
        image, label = train[index]
        assert label == int(data.targets[index])
        made = sample(drawing, [label], seed=4, indices=[index])[0]
        assert torch.equal(image, made if train.source[index] else data.images[index])
    before = train.source
    train.set_epoch(1)
    assert not torch.equal(train.source, before)
    assert "60 (42 real, 18 generated)" in repr(train)


def test_strategies_decide_which_classes(three):
    data = small_images()
    skewed = data.subset(torch.nonzero((data.targets == 0) | (torch.arange(60) < 15)).squeeze(1), "skewed")
    train = ConditionalGANAugment(skewed, three, sampling_strategy="auto")
    assert torch.bincount(train.targets).tolist() == [20, 20, 20]
    assert train.sampling_strategy_ == {"class 0": 0, "class 1": 15, "class 2": 15}
    train = ConditionalGANAugment(skewed, three, ratio=0.5, sampling_strategy="uniform")
    assert list(train.sampling_strategy_.values()) == [10, 10, 10]
    train = ConditionalGANAugment(skewed, three, sampling_strategy={"class 2": 9})
    assert train.targets[30:].tolist() == [2] * 4
    assert "0.1176 of the mixed dataset, mode append" in repr(train)
    with pytest.raises(ValueError, match="two amounts"):
        ConditionalGANAugment(skewed, three, ratio=0.3, sampling_strategy="minority")


def test_resample_draws_anew_in_every_epoch_and_only_the_fakes(three):
    data = small_images()
    fixed, moving = (ConditionalGANAugment(data, three, resample=choice) for choice in (False, True))
    epochs = []
    for epoch in (0, 1, 2):
        fixed.set_epoch(epoch)
        moving.set_epoch(epoch)
        assert (moving.epoch, fixed.epoch) == (epoch, epoch)
        epochs.append((images_of(fixed), images_of(moving)))
    assert all(torch.equal(epochs[0][0], other[0]) for other in epochs)
    assert torch.equal(epochs[0][0], epochs[0][1])
    for first, second in ((0, 1), (0, 2), (1, 2)):
        same = (epochs[first][1] == epochs[second][1]).flatten(1).all(1)
        assert same.tolist() == [index < 60 for index in range(86)]
    for bad in (-1, 1.5, True, 2**63):
        with pytest.raises(ValueError, match=r"epoch must be an int from 0 to 2\*\*63 - 1, got"):
            moving.set_epoch(bad)


def test_a_run_that_stopped_in_mid_epoch_goes_on_with_the_rest_of_it(three):
    def make():
        return ConditionalGANAugment(small_images(), three, resample=True, seed=9)

    train = make()
    order = torch.randperm(len(train), generator=torch.Generator().manual_seed(0)).tolist()
    train.set_epoch(5)
    whole = images_of(DataLoader(train, sampler=order, batch_size=None, generator=torch.Generator()))
    state = json.loads(json.dumps(train.state_dict()))
    resumed = make()
    resumed.load_state_dict(state)
    assert resumed.epoch == 5
    rest = images_of(DataLoader(resumed, sampler=order[40:], batch_size=None, generator=torch.Generator()))
    assert torch.equal(whole[40:], rest)
    for other in (
        ConditionalGANAugment(small_images(), three, resample=True, seed=8),
        ConditionalGANAugment(small_images(), three, resample=True, seed=9, ratio=0.2),
        ConditionalGANAugment(small_images(), make_generator(THREE, image_size=12, latent_dim=7), resample=True),
    ):
        with pytest.raises(ValueError, match=r"of another mixed dataset \(.*saved .*, here .*\)\. Load it into"):
            other.load_state_dict(state)
        assert other.epoch == 0


def test_source_can_come_with_the_items(three):
    train = ConditionalGANAugment(small_images(), three, ratio=0.25, return_source=True)
    images, labels, source = next(iter(DataLoader(train, batch_size=80, generator=torch.Generator())))
    assert images.shape == (80, 1, 12, 12)
    assert torch.equal(labels, train.targets)
    assert source.tolist() == [0] * 60 + [1] * 20


def test_weights_for_a_weighted_sampler(three):
    train = ConditionalGANAugment(small_images(), three, ratio=0.5)
    assert train.sample_weights(0.25).tolist() == [1.0] * 60 + [0.25] * 60
    sampler = WeightedRandomSampler(train.sample_weights(0), 500, generator=torch.Generator().manual_seed(0))
    assert max(sampler) < 60
    for bad in (-0.1, float("nan"), float("inf")):
        with pytest.raises(ValueError, match="fake must be a weight of 0 or more, and finite; got"):
            train.sample_weights(bad)


def test_alignment_is_compared_after_the_transforms(three):
    data = small_images()
    noisy = ConditionalGANAugment(data, _Noise(), ratio=0.5)
    noisy.check_alignment()
    ConditionalGANAugment(data, _Noise(), ratio=0).check_alignment()
    pairs = partial(ConditionalGANAugment, _Floats(data), _Noise(), ratio=0.5)
    pairs(fake_transform=lambda image: image / 255 * 0.9).check_alignment()
    for fake_transform, message in [
        (lambda image: image / 127.5 - 1, r"low: real 0\.0, generated -1\.0"),
        (lambda image: image, r"dtype: real float32, generated uint8"),
        (lambda image: (image / 255)[:, :6], r"shapes: real \(\(1, 12, 12\),\), generated \(\(1, 6, 12\),\)"),
        (lambda image: (image / 255).repeat(3, 1, 1), r"mean: real"),
        (lambda image: v2.functional.to_pil_image(image), r"type: real Tensor, generated Image"),
        (lambda image: (image / 255) ** 8, r"mean: real"),
    ]:
        with pytest.raises(ValueError, match=r"real and generated items differ after the transforms \(.*" + message):
            pairs(fake_transform=fake_transform).check_alignment()


def test_a_dropped_transparency_is_named_as_what_backgrounds_may_differ_by(three, tmp_path):
    for number in range(6):
        drawn = Image.new("RGBA", (12, 12), (0, 0, 0, 0))
        drawn.paste((90, 90, 90, 255), (4, 4, 8, 8))
        (tmp_path / THREE[number % 3]).mkdir(exist_ok=True)
        drawn.save(tmp_path / THREE[number % 3] / f"{number}.png")
    generator = _OnWhite()
    with pytest.raises(ValueError, match="backgrounds differ: corners have a mean of 0 in real images, and of 255 in"):
        ConditionalGANAugment(ImageFolder(str(tmp_path)), generator, ratio=0.5).check_alignment()
    ConditionalGANAugment(open_images(tmp_path), generator, ratio=0.5).check_alignment()


def test_values_of_another_scale_are_no_other_background(tmp_path):
    """White is 255 in one and 1 in the other."""
    for name in THREE:
        drawn = Image.new("RGB", (12, 12), "white")
        drawn.paste((90, 90, 90), (4, 4, 8, 8))
        (tmp_path / name).mkdir()
        drawn.save(tmp_path / name / "0.png")
    dataset = ImageFolder(
        str(tmp_path), transform=v2.Compose([v2.PILToTensor(), v2.ToDtype(torch.float32, scale=True)])
    )
    pairs = ConditionalGANAugment(dataset, _OnWhite(), ratio=0.5, fake_transform=v2.PILToTensor())
    with pytest.raises(ValueError, match="items differ") as refused:
        pairs.check_alignment()
    assert "background" not in str(refused.value)


class _OnWhite(nn.Module):
    """Generator of grey squares on white."""

    latent_dim, label_names = 1, THREE

    def forward(self, z, labels):
        images = torch.ones(len(z), 3, 12, 12)
        images[:, :, 4:8, 4:8] = 90 / 127.5 - 1
        return images


class _Noise(nn.Module):
    """Generator of images as bright and as noisy as ``small_images``: 0 to 99, and 50 more for each class."""

    latent_dim, label_names = 144, THREE

    def forward(self, z, labels):
        levels = torch.special.ndtr(z.view(-1, 1, 12, 12)) * 99 + 50 * labels.view(-1, 1, 1, 1)
        return levels / 127.5 - 1


class _Floats(torch.utils.data.Dataset):
    """Items whose processing is hidden: floats in [0, 1]."""

    def __init__(self, data):
        self.data, self.targets, self.classes = data, data.targets, data.classes

    def __len__(self):
        return len(self.data)

    def __getitem__(self, index):
        image, label = self.data[index]
        return image / 255, label


@pytest.mark.parametrize(
    ("dataset", "found"),
    [
        (lambda root: FashionMNIST(root, train=False), "FashionMNIST is an evaluation split \\(train=False\\)"),
        (lambda root: Subset(FashionMNIST(root, train=False), range(20)), "FashionMNIST is an evaluation split"),
        (lambda root: open_images("sklearn:digits", split="test"), "LabelledImages is an evaluation split"),
        (lambda root: _WithSplit("val"), "_WithSplit is an evaluation split \\(split='val'\\)"),
    ],
)
def test_evaluation_splits_are_refused(tmp_path, dataset, found):
    for prefix in ("train", "t10k"):
        write_idx_pair(tmp_path / "FashionMNIST" / "raw", small_images(n=60, classes=10, size=8), prefix)
    data = dataset(tmp_path)
    names = [str(name) for name in getattr(data, "classes", FashionMNIST.classes)]
    generator = make_generator(tuple(names), image_size=8)
    with pytest.raises(ValueError, match=found + r".*Augment the training split.*pass\s+allow_eval=True"):
        ConditionalGANAugment(data, generator)
    assert len(ConditionalGANAugment(data, generator, ratio=0.5, allow_eval=True)) == 2 * len(data)


class _WithSplit(torch.utils.data.Dataset):
    classes = THREE

    def __init__(self, split):
        self.split, self.data = split, small_images(size=8)

    def __len__(self):
        return 60

    def __getitem__(self, index):
        return self.data[index]


def test_training_splits_are_not_taken_for_evaluation(three):
    for split in ("train", "byclass", "extra", "train[:10%]"):
        data = _WithSplit(split)
        assert len(ConditionalGANAugment(data, make_generator(THREE, image_size=8), ratio=0.5)) == 120


def test_class_map_needs_names_to_map_to():
    class Nameless(_Noise):
        label_names = None

    with pytest.raises(ValueError, match="class_map was given, but the generator has no class names"):
        ConditionalGANAugment(small_images(), Nameless(), class_map={"class 0": "class 1"})


def test_it_pickles_small_when_the_generator_came_by_path(folder, three):
    data = small_images(n=21)
    train = ConditionalGANAugment(data, folder, ratio=0.5)
    packed = pickle.dumps(train)
    assert len(packed) < 100_000 < 4 * sum(p.numel() for p in three.parameters())
    again = pickle.loads(packed)
    assert torch.equal(images_of(again), images_of(train))
    # A generator that was trained anew in the meantime would be another dataset.
    make_generator(THREE, image_size=12, latent_dim=9).save_pretrained(folder)
    try:
        with pytest.raises(RuntimeError, match="holds another generator than when the dataset was made"):
            pickle.loads(packed)[30]
    finally:
        three.save_pretrained(folder)


def test_epochs_of_copies_are_their_own(three):
    train = ConditionalGANAugment(small_images(), three, resample=True)
    train.set_epoch(3)
    again = pickle.loads(pickle.dumps(train))
    assert again.epoch == 3
    again.set_epoch(4)
    assert train.epoch == 3


def test_inside_subset_split_and_concat(three):
    train = ConditionalGANAugment(small_images(), three, ratio=0.5)
    whole = images_of(train)
    part = Subset(train, [100, 3, 61])
    assert torch.equal(images_of(part.__getitems__([0, 1, 2])), whole[[100, 3, 61]])
    parts = random_split(train, [100, 20], generator=torch.Generator().manual_seed(0))
    assert torch.equal(images_of(parts[1]), whole[torch.tensor(parts[1].indices)])
    both = ConcatDataset([small_images(n=9), train])
    loader = DataLoader(both, batch_size=50, num_workers=1, generator=torch.Generator())
    assert torch.equal(torch.cat([images for images, _ in loader])[9:], whole)


def test_ranks_share_an_epoch(three):
    train = ConditionalGANAugment(small_images(), three, ratio=0.5)
    seen = []
    for rank in (0, 1):
        sampler = DistributedSampler(train, num_replicas=2, rank=rank, seed=1)
        loader = DataLoader(train, batch_size=7, sampler=sampler, generator=torch.Generator())
        order = torch.tensor(list(sampler))
        seen.append((order, torch.cat([images for images, _ in loader])))
    whole = images_of(train)
    assert sorted(torch.cat([order for order, _ in seen]).tolist()) == list(range(120))
    assert all(torch.equal(images, whole[order]) for order, images in seen)


def test_a_prepared_loader_gives_the_same_items(three):
    from accelerate import Accelerator
    from accelerate.state import AcceleratorState

    train = ConditionalGANAugment(small_images(), three, ratio=0.5)
    AcceleratorState._reset_state(True)
    try:
        loader = Accelerator(cpu=True).prepare(DataLoader(train, batch_size=32, generator=torch.Generator()))
        assert torch.equal(torch.cat([images for images, _ in loader]), images_of(train))
    finally:
        AcceleratorState._reset_state(True)


def test_tv_tensors_stay_tv_tensors(three):
    class Boxed(_WithSplit):
        def __getitem__(self, index):
            image, label = small_images()[index]
            return tv_tensors.Image(image), label

    transform = v2.Compose([v2.Pad(2), v2.ToDtype(torch.float32, scale=True)])
    train = ConditionalGANAugment(Boxed("train"), three, ratio=0.5, transform=transform)
    for index in (0, 119):
        image = train[index][0]
        assert type(image) is tv_tensors.Image
        assert image.shape == (1, 16, 16)


@pytest.mark.parametrize(("n", "batch_size", "drop_last"), [(60, 10, False), (60, 7, False), (59, 8, True)])
def test_every_batch_has_the_share(three, n, batch_size, drop_last):
    train = ConditionalGANAugment(small_images(n=n), three, ratio=0.3)
    sampler = MixedBatchSampler(train, batch_size, drop_last=drop_last, seed=2)
    batches = list(sampler)
    assert len(batches) == len(sampler) == (len(train) // batch_size if drop_last else -(-len(train) // batch_size))
    seen = np.concatenate(batches)
    assert len(set(seen.tolist())) == len(seen) == (len(sampler) * batch_size if drop_last else len(train))
    for batch in batches[: len(train) // batch_size]:
        assert len(batch) == batch_size
        assert abs(int(train.source[batch].sum()) - train.ratio_ * batch_size) <= 1
    for k in range(1, len(batches)):
        upto = k * batch_size
        assert abs(int(train.source[seen[:upto]].sum()) - train.ratio_ * upto) <= 0.5
    assert batches == list(sampler)
    sampler.set_epoch(1)
    assert batches != list(sampler)
    loader = DataLoader(train, batch_sampler=sampler, num_workers=1, generator=torch.Generator())
    assert sum(len(labels) for _, labels in loader) == len(seen)
    with pytest.raises(ValueError, match="batch_size must be a positive int, got 0"):
        MixedBatchSampler(train, 0)
