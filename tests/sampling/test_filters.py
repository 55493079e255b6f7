from __future__ import annotations

import pytest
import torch
from helpers.generators import make_generator
from helpers.images import small_images
from torch import nn
from torch.utils.data import DataLoader

from ganaug import ConditionalGANAugment
from ganaug.filters import ClassifierAgreement, DiscriminatorScore, StarvedFilterError
from ganaug.sampling import sample

CLASSES = small_images().classes


class Grey(nn.Module):
    """Images of one grey level that depends on the latent alone."""

    latent_dim, label_names = 1, CLASSES

    def forward(self, z, labels):
        return (torch.special.ndtr(z) * 2 - 1).view(-1, 1, 1, 1).expand(-1, 1, 12, 12)


class Brightness(nn.Module):
    """Classifier: dark is class 0, medium 1, bright 2; with logits that say how sure it is."""

    def forward(self, images):
        level = images.mean((1, 2, 3))[:, None]
        return -((level - torch.tensor([[-2 / 3, 0, 2 / 3]])) ** 2) * 20


def level(image) -> float:
    return float(image.float().mean())


def test_only_images_the_classifier_agrees_with_are_kept():
    train = ConditionalGANAugment(
        small_images(), Grey(), ratio=0.5, accept=ClassifierAgreement(Brightness()), max_tries=60
    )
    unfiltered = ConditionalGANAugment(small_images(), Grey(), ratio=0.5)
    kept = 0
    for index in range(60, 120):
        label = int(train.targets[index])
        image = train[index][0]
        assert label * 84 <= level(image) <= (label + 1) * 86
        first = unfiltered[index][0]
        agreed = bool(Brightness()(first[None] / 127.5 - 1).argmax() == label)
        assert torch.equal(image, first) == agreed  # the first draw is kept where it is good
        kept += agreed
    assert 10 < kept < 30


def test_a_sure_classifier_can_be_asked_for():
    sure = ClassifierAgreement(Brightness(), min_probability=0.9)
    train = ConditionalGANAugment(small_images(), Grey(), ratio=0.5, accept=sure, max_tries=200)
    levels = torch.tensor([level(train[index][0]) for index in range(60, 80)])  # of class 0
    assert levels.max() <= 74  # there the odds of class 0 against class 1 are 9
    for bad in (-0.1, 1.1):
        with pytest.raises(ValueError, match=r"min_probability must be in \[0, 1\], got"):
            ClassifierAgreement(Brightness(), min_probability=bad)


def test_the_classifier_sees_what_its_transform_makes():
    seen = []

    class Spy(nn.Module):
        def forward(self, images):
            seen.append(images)
            return torch.eye(3)[[0] * len(images)]

    accept = ClassifierAgreement(Spy(), transform=lambda images: images.float() / 255)
    assert accept(torch.full((8, 1, 4, 4), 255, dtype=torch.uint8), torch.arange(8) % 3).tolist() == [
        k % 3 == 0 for k in range(8)
    ]
    assert seen[0].unique().tolist() == [1.0]
    assert not accept.judge.training


def test_discriminator_score_keeps_what_it_finds_real():
    class Judge(nn.Module):
        def forward(self, images, labels):
            return images.mean((1, 2, 3)) * 10 + labels, None

    train = ConditionalGANAugment(
        small_images(), Grey(), ratio=0.5, accept=DiscriminatorScore(Judge(), threshold=5), max_tries=60
    )
    for index in (60, 90, 119):
        image, label = train[index]
        assert (level(image) / 127.5 - 1) * 10 + label >= 5
    with torch.random.fork_rng():
        discriminator = make_generator(CLASSES, image_size=12).make_discriminator()
    images = sample(make_generator(CLASSES, image_size=12), [0, 1, 2])
    logits = discriminator.eval()(images / 127.5 - 1, torch.arange(3))[0].detach()
    lower = DiscriminatorScore(discriminator, threshold=float(logits.min()) - 1e-4)
    upper = DiscriminatorScore(discriminator, threshold=float(logits.max()) + 1e-4)
    assert lower(images, torch.arange(3)).tolist() == [True] * 3
    assert upper(images, torch.arange(3)).tolist() == [False] * 3


def test_filtered_items_do_not_depend_on_batches_and_workers():
    train = ConditionalGANAugment(
        small_images(), Grey(), ratio=0.5, accept=ClassifierAgreement(Brightness()), max_tries=60
    )
    alone = torch.stack([train[index][0] for index in range(60, 120)])
    assert torch.equal(torch.stack([image for image, _ in train.__getitems__(list(range(60, 120)))]), alone)
    loader = DataLoader(train, batch_size=13, num_workers=2, generator=torch.Generator())
    assert torch.equal(torch.cat([images for images, _ in loader])[60:], alone)


def test_a_starved_filter_is_named_with_class_and_counts():
    def never_class_1(images, labels):
        return labels != 1

    train = ConditionalGANAugment(small_images(), Grey(), ratio=0.5, accept=never_class_1, max_tries=4)
    train.__getitems__([60, 119])
    message = (
        r"the filter starved: for class class 1 it accepted 0 of 8 images tried, and none of the 4 \(max_tries\) "
        r"drawn for item 80\. Raise max_tries, loosen the filter, or train the generator longer"
    )
    with pytest.raises(StarvedFilterError, match=message):
        train.__getitems__([60, 80, 81, 119])
    with pytest.raises(StarvedFilterError, match="for class class 1 it accepted 0"):
        list(DataLoader(train, batch_size=40, num_workers=1, generator=torch.Generator()))


@pytest.mark.parametrize("answer", [[True] * 8, torch.ones(8), torch.ones(3, dtype=torch.bool)])
def test_answers_of_another_kind_are_refused(answer):
    train = ConditionalGANAugment(small_images(), Grey(), ratio=0.5, accept=lambda images, labels: answer)
    with pytest.raises(TypeError, match=r"accept must return a bool tensor of shape \(8,\) for as many images, got"):
        train[60]


@pytest.mark.parametrize("tries", [0, -1, True, 1.5])
def test_bad_tries_are_refused(tries):
    with pytest.raises(ValueError, match="max_tries must be a positive int, got"):
        ConditionalGANAugment(small_images(), Grey(), max_tries=tries)


def test_filters_that_differ_in_what_is_no_weight_are_told_apart(tmp_path):
    """So that files of one are not taken for the other's."""

    class Bright(nn.Module):
        def __init__(self, least):
            super().__init__()
            self.least = least

        def forward(self, images, labels):
            return images.float().mean((1, 2, 3)) >= self.least

    def dark(images):
        return -images.float() / 127.5 + 1

    def mix(accept):
        return ConditionalGANAugment(
            small_images(), Grey(), ratio=0.2, accept=accept, max_tries=99, cache_dir=tmp_path
        )

    agreements = ClassifierAgreement(Brightness()), ClassifierAgreement(Brightness(), transform=dark)
    mixes = [mix(accept) for accept in (Bright(60), Bright(90), *agreements)]
    assert len({mixed.sampler.fingerprint for mixed in mixes}) == 4
    assert mixes[0].sampler.fingerprint == mix(Bright(60)).sampler.fingerprint
    for mixed in mixes:
        drawn = [mixed[index][0] for index in range(60, len(mixed))]
        mixed.materialize()
        assert all(torch.equal(mixed[index][0], image) for index, image in enumerate(drawn, 60))


class Net(nn.Module):
    """A network in the middle of its training; ``judging`` makes it a classifier, a discriminator or a filter."""

    def __init__(self, judging):
        super().__init__()
        self.judging = judging
        with torch.random.fork_rng():
            torch.manual_seed(0)
            self.layers = nn.Sequential(nn.Flatten(), nn.Linear(144, 8), nn.BatchNorm1d(8), nn.Linear(8, 3))

    def forward(self, images, labels=None):
        logits = self.layers(images.float() / (1 if self.judging != "filter" else 255))
        if self.judging == "discriminator":
            return logits[:, 0] - logits[:, 1], None
        return logits[:, 0] > logits[:, 1] if self.judging == "filter" else logits


class Speckled(nn.Module):
    latent_dim, label_names = 144, CLASSES

    def forward(self, z, labels):
        return z.tanh().view(-1, 1, 12, 12)


@pytest.mark.parametrize("judging", ["classifier", "discriminator", "filter"])
def test_a_filters_network_is_left_alone_and_its_training_changes_no_image(judging, tmp_path):
    def accept_of(net):
        if judging == "filter":
            return net
        return ClassifierAgreement(net) if judging == "classifier" else DiscriminatorScore(net)

    def mix(accept):
        return ConditionalGANAugment(
            small_images(), Speckled(), ratio=0.4, accept=accept, max_tries=99, cache_dir=tmp_path
        )

    def items(mixed):
        return torch.stack([mixed[index][0] for index in range(60, 100)])

    net = Net(judging).train()
    net.layers[2].eval()
    accept = accept_of(net)
    before = {name: value.clone() for name, value in net.state_dict().items()}
    train = mix(accept)
    first, state = items(train), train.state_dict()
    assert net.training
    assert not net.layers[2].training
    assert all(weight.requires_grad for weight in net.parameters())
    assert all(torch.equal(value, before[name]) for name, value in net.state_dict().items())

    # The network is trained further: neither this dataset nor its files change.
    with torch.no_grad():
        for weight in net.parameters():
            weight.add_(torch.randn(weight.shape, generator=torch.Generator().manual_seed(1)))
    assert torch.equal(items(train), first)
    train.load_state_dict(state)
    train.materialize()
    assert torch.equal(items(train), first)
    retrained = mix(accept_of(net))
    assert not torch.equal(items(retrained), first)
    with pytest.raises(ValueError, match="another mixed dataset"):
        retrained.load_state_dict(state)

    # A later run with the network as it was finds the file, and what it holds is what it would draw.
    later = mix(accept_of(Net(judging)))
    assert torch.equal(items(later), first)
    folders = {path.name for path in (tmp_path / "materialized").iterdir()}
    later.materialize()
    assert {path.name for path in (tmp_path / "materialized").iterdir()} == folders
    assert torch.equal(items(later), first)


def test_a_filter_that_is_switched_by_hand_afterwards_changes_nothing():
    accept = ClassifierAgreement(Net("classifier"))
    train = ConditionalGANAugment(small_images(), Speckled(), ratio=0.4, accept=accept, max_tries=99)
    first = train[60][0]
    accept.train()
    accept.min_probability = 1.0
    accept.judge.layers[1].weight.mul_(-1)
    assert torch.equal(train[60][0], first)
