"""Classifiers: the networks, how their batches are augmented, and what their training does."""

from __future__ import annotations

from functools import partial

import pytest
import torch
from helpers.evaluated import TinyClassifier
from helpers.images import small_images
from hypothesis import given, settings
from hypothesis import strategies as st

from ganaug import InputError
from ganaug.data import long_tail_counts
from ganaug.evaluation import (
    ShiftFlip,
    SmallCNN,
    SmallViT,
    TorchvisionClassifier,
    predict_probabilities,
    train_classifier,
)
from ganaug.evaluation.augmentation import mixup_or_cutmix
from ganaug.evaluation.study import class_balanced_weights


def test_shift_and_flip_move_every_image_by_itself_and_fill_with_the_background():
    ramp = torch.arange(1, 65, dtype=torch.uint8).reshape(1, 1, 8, 8).repeat(200, 1, 1, 1)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        moved = ShiftFlip(1, flip=False, background=torch.tensor([200], dtype=torch.uint8))(ramp)
        flipped = ShiftFlip(0, flip=True, background=torch.tensor([0], dtype=torch.uint8))(ramp)
    assert moved.shape == ramp.shape
    assert len(moved.unique(dim=0)) == 9  # three offsets in each direction
    assert {200} == set(moved[moved > 64].tolist())
    up_left = torch.full((8, 8), 200, dtype=torch.uint8)
    up_left[:7, :7] = ramp[0, 0, 1:, 1:]
    assert any(torch.equal(image[0], up_left) for image in moved)
    mirrored = sum(torch.equal(image, ramp[0].flip(2)) for image in flipped)
    assert 60 < mirrored < 140
    assert mirrored + sum(torch.equal(image, ramp[0]) for image in flipped) == 200


def mixed(values: list[int], seed: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Images (N, 1, 8, 8) of one value each, the number of their class, and the shares of the classes, both mixed."""
    targets = torch.tensor(values)
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return mixup_or_cutmix(5)(targets.float().view(-1, 1, 1, 1).expand(-1, 1, 8, 8), targets)


@settings(max_examples=30)
@given(st.lists(st.integers(0, 4), min_size=1, max_size=6), st.integers(0, 1000))
def test_mixed_images_hold_as_much_of_each_class_as_is_said(values, seed):
    images, shares = mixed(values, seed)
    assert torch.allclose(images.mean((1, 2, 3)), shares @ torch.arange(5.0), atol=1e-5)
    assert torch.allclose(shares.sum(1), torch.ones(len(values)))


def test_batches_are_mixed_by_mixup_and_by_cutmix():
    whole = [bool((images == images.round()).all()) for images in (mixed([0, 1], seed)[0] for seed in range(20))]
    assert True in whole  # pixels of one image or the other
    assert False in whole


def test_torchvision_models_are_classifiers_too():
    data = small_images(n=12, size=16)
    network = partial(TorchvisionClassifier, "squeezenet1_1")
    classifier = train_classifier(data, network, steps=2, batch_size=4)
    assert classifier(torch.zeros(2, 1, 16, 16)).shape == (2, 3)
    with pytest.raises(InputError, match=r"'resnet19'; give one of .*resnet18"):
        TorchvisionClassifier("resnet19", 3, channels=1, image_size=16)


@pytest.mark.parametrize(
    ("size", "halvings", "blocks"),
    [
        (8, 0, 2),
        (12, 0, 2),
        (28, 0, 3),
        (32, 0, 3),
        (48, 0, 4),
        (63, 0, 4),
        (64, 1, 3),
        (128, 2, 3),
        (224, 2, 4),
        (512, 4, 3),
    ],
)
def test_the_small_cnn_goes_with_the_image_size(size, halvings, blocks):
    with torch.random.fork_rng():
        network = SmallCNN(3, image_size=size)
    assert sum(isinstance(layer, torch.nn.MaxPool2d) for layer in network.modules()) == blocks
    assert sum(getattr(layer, "stride", None) == (2, 2) for layer in network.modules()) == halvings
    images = torch.zeros(2, 1, size, size)
    network.eval()
    with torch.inference_mode():
        features = network.features(images)
        assert torch.equal(network.head(features), network(images))
    assert features.shape == (2, 8 * 2**blocks)


def test_training_draws_images_as_their_weights_say_and_learns():
    data = small_images(n=90, size=12)
    only_two = (data.targets < 2).double()
    unheard = train_classifier(data, steps=60, batch_size=32, class_weights=torch.tensor([1.0, 1.0, 0.0]))
    assert (unheard(data.images / 127.5 - 1).argmax(1)[data.targets == 2] == 2).double().mean() < 0.5
    classifier = train_classifier(data, steps=60, batch_size=32, weights=only_two)
    predicted = classifier(data.images / 127.5 - 1).argmax(1)
    assert set(predicted.tolist()) == {0, 1}  # it has never seen the third
    right = (predicted == data.targets)[data.targets < 2]
    assert right.double().mean() > 0.9


def test_training_a_classifier_on_a_cpu_leaves_other_devices_alone(monkeypatch):
    seeded = []
    monkeypatch.setattr(torch.cuda, "manual_seed_all", seeded.append)
    train_classifier(small_images(), TinyClassifier, steps=1)
    assert not seeded


def shares_of_the_loss(counts: list[int]) -> torch.Tensor:
    shares = class_balanced_weights(counts) * torch.tensor(counts)
    return shares / shares.sum()


def test_a_class_balanced_loss_gives_the_rarest_class_of_a_long_tail_the_papers_share():
    shares = shares_of_the_loss(long_tail_counts(500, 100, 10))
    assert shares[-1].item() == pytest.approx(0.0941, abs=1e-4)
    assert (shares.diff() < 0).all()  # between equal shares and those of the images
    assert shares_of_the_loss([7] * 10).tolist() == pytest.approx([0.1] * 10)


class Biases(torch.nn.Module):
    """Says the same of every image; a step of plain SGD moves it by the learning rate times the gradient."""

    def __init__(self, num_classes: int, *, channels: int, image_size: int) -> None:
        super().__init__()
        self.bias = torch.nn.Parameter(torch.zeros(num_classes))
        self.unused = torch.nn.Parameter(torch.zeros(()), requires_grad=False)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return self.bias.expand(len(images), -1)

    def make_optimizer(self, learning_rate: float) -> torch.optim.Optimizer:
        return torch.optim.SGD([self.bias], learning_rate)


class Quick(Biases):
    learning_rate = 0.5


def moved(factory: type[Biases] = Biases, **options) -> torch.Tensor:
    """Where one step on images of the first of three classes moves the biases."""
    first = (torch.arange(6) % 3 == 0).double()
    classifier = train_classifier(small_images(n=6), factory, steps=1, batch_size=4, weights=first, **options)
    return classifier.bias.detach()


def test_a_class_weight_multiplies_the_loss_of_its_images_mixed_or_not():
    weights = torch.tensor([3.0, 1.0, 1.0])
    assert moved()[0] > 0
    for mix in (False, True):
        assert torch.allclose(moved(class_weights=weights, mix=mix), 3 * moved())


def test_a_classifier_says_how_it_is_trained_unless_the_caller_does():
    plain = moved()
    assert torch.allclose(moved(learning_rate=2e-3), plain)
    assert torch.allclose(moved(learning_rate_factor=3), 3 * plain)
    assert torch.allclose(moved(Quick), 250 * plain)
    assert torch.allclose(moved(Quick, learning_rate_factor=0.1), 25 * plain)
    assert torch.allclose(moved(Quick, learning_rate=4e-3), 2 * plain)


class TwoRates(TinyClassifier):
    """The last layer has ten times the learning rate of the others."""

    def make_optimizer(self, learning_rate: float) -> torch.optim.Optimizer:
        *first, last = self.layers
        groups = [{"params": torch.nn.Sequential(*first).parameters()}]
        groups += [{"params": last.parameters(), "lr": 10 * learning_rate}]
        self.optimizer = torch.optim.Adagrad(groups, learning_rate)  # has no momentum
        return self.optimizer


def test_each_parameter_group_has_a_cycle_of_its_own():
    optimizer = train_classifier(small_images(), TwoRates, steps=3).optimizer
    low, high = (group["max_lr"] for group in optimizer.param_groups)
    assert (low, high) == (TinyClassifier.learning_rate, 10 * TinyClassifier.learning_rate)


class NoRate(Biases):
    learning_rate = "fast"


class NoOptimizer(Biases):
    def make_optimizer(self, learning_rate):
        return None


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"learning_rate": 0.0}, "learning_rate must be a positive number, got 0.0"),
        ({"learning_rate_factor": float("nan")}, "learning_rate_factor must be"),
        ({"factory": NoRate}, "learning_rate must be a positive number, got 'fast'"),
        ({"factory": NoOptimizer}, "make_optimizer must return a torch optimizer, got NoneType"),
    ],
)
def test_training_that_is_not_possible(options, message):
    with pytest.raises(InputError, match=message):
        moved(**options)


def test_mixed_batches_teach_and_are_repeatable():
    data = small_images(n=90, size=12)
    plain, first, again = (
        predict_probabilities(
            train_classifier(data, TinyClassifier, steps=60, batch_size=32, learning_rate=2e-2, mix=mix), data.images
        )
        for mix in (False, True, True)
    )
    assert torch.equal(first, again)
    assert (first.argmax(1) == data.targets).float().mean() > 0.9
    assert first.amax(1).mean() < plain.amax(1).mean()  # it has hardly seen an image of one class


@pytest.mark.parametrize(("size", "patches"), [(8, 64), (12, 36), (28, 49), (30, 64), (32, 64), (64, 64), (128, 64)])
def test_the_small_vit_cuts_any_image_into_about_as_many_patches(size, patches):
    with torch.random.fork_rng():
        network = SmallViT(3, channels=3, image_size=size).eval()
    assert network.positions.shape[1] == patches
    with torch.inference_mode():
        features = network.features(torch.zeros(2, 3, size, size))
        assert torch.equal(network.head(features), network(torch.zeros(2, 3, size, size)))
    assert features.shape == (2, 96)


def test_the_small_vit_learns_with_adamw():
    data = small_images(n=90, size=12)
    classifier = train_classifier(data, partial(SmallViT, width=24, depth=2), steps=30, batch_size=32)
    assert (predict_probabilities(classifier, data.images).argmax(1) == data.targets).float().mean() > 0.9
    optimizer = classifier.make_optimizer(1e-3)
    assert isinstance(optimizer, torch.optim.AdamW)
    assert optimizer.defaults["weight_decay"] > 0


def test_patches_of_an_image_are_told_apart_by_where_they_are():
    """Two images of the same patches in another order."""
    images = torch.zeros(2, 1, 8, 8)
    images[0, 0, 0] = images[1, 0, 7] = 1
    with torch.random.fork_rng(), torch.no_grad():
        torch.manual_seed(0)
        network = SmallViT(3, image_size=8).eval()
        assert not torch.allclose(*network(images))
        network.positions.zero_()
        assert torch.allclose(*network(images), atol=1e-5)
