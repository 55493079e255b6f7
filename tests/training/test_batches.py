"""What each training step sees."""

from __future__ import annotations

import pytest
import torch
from helpers.images import small_images

from ganaug import LabelledImages
from ganaug.training.batches import TrainingBatches

CPU = torch.device("cpu")


def batches_of(data: LabelledImages, **options: float) -> TrainingBatches:
    return TrainingBatches(data, latent_dim=5, device=CPU, **{"batch_size": 4, "seed": 0, **options})


@pytest.mark.parametrize(("n", "batch_size"), [(10, 4), (3, 8), (1, 5), (8, 8)])
def test_every_image_is_shown_equally_often(n, batch_size):
    data = LabelledImages(
        torch.arange(n, dtype=torch.uint8).view(n, 1, 1, 1), torch.zeros(n, dtype=torch.int64), ("a",), "numbers"
    )
    batches = batches_of(data, batch_size=batch_size)
    shown = torch.cat([batches.real(step)[0] for step in range(n)])
    numbers = shown.add(1).mul(127.5).round().flatten().int()
    assert torch.bincount(numbers, minlength=n).tolist() == [batch_size] * n
    epochs = numbers[: n * (batch_size * n // n)].view(-1, n).tolist()
    assert all(sorted(epoch) == list(range(n)) for epoch in epochs)
    if n == 10:
        assert len({tuple(epoch) for epoch in epochs}) == len(epochs)


def test_a_step_is_the_same_whoever_came_before_it_and_however_many_share_it():
    data = small_images()
    whole = batches_of(data, batch_size=8)
    ranks = [batches_of(data, batch_size=4, rank=rank, world_size=2) for rank in (0, 1)]
    for step in (20, 3, 4):
        for part in ("real", "latent"):
            expected = getattr(whole, part)(step)
            shares = [getattr(rank, part)(step) for rank in ranks]
            for k in (0, 1):
                assert torch.equal(expected[k], torch.cat([share[k] for share in shares]))
    assert not torch.equal(whole.latent(0)[0], batches_of(data, batch_size=8, seed=1).latent(0)[0])


def test_the_parts_of_a_batch_are_the_batch_in_whatever_order_they_are_asked_for():
    data = small_images()
    whole, parted = batches_of(data, batch_size=8), batches_of(data, batch_size=2, parts=4)
    for step in (5, 2, 5):
        for kind in ("real", "latent"):
            found = {part: getattr(parted, kind)(step, part) for part in (3, 0, 2, 1)}
            for k, expected in enumerate(getattr(whole, kind)(step)):
                assert torch.equal(expected, torch.cat([found[part][k] for part in range(4)]))


@pytest.mark.parametrize(("q", "shares"), [(1.0, [0.9, 0.1]), (0.5, [0.75, 0.25]), (0.0, [0.5, 0.5])])
def test_small_classes_can_be_shown_more_often(q, shares):
    data = small_images(n=100, classes=2)
    skewed = data.take([45, 5])[0]
    batches = batches_of(skewed, batch_size=50, class_sampling=q)
    for part in ("real", "latent"):
        labels = torch.cat([getattr(batches, part)(step)[1] for step in range(60)])
        assert torch.allclose(torch.bincount(labels) / 3000, torch.tensor(shares), atol=0.03)
    halves = [batches_of(skewed, batch_size=25, class_sampling=q, rank=rank, world_size=2) for rank in (0, 1)]
    assert torch.equal(batches.real(7)[0], torch.cat([half.real(7)[0] for half in halves]))


def test_real_batches_are_normalised():
    images = batches_of(small_images()).real(0)[0]
    assert images.dtype == torch.float32
    data = LabelledImages(
        torch.tensor([0, 255], dtype=torch.uint8).view(2, 1, 1, 1), torch.tensor([0, 0]), ("a",), "black and white"
    )
    assert sorted(batches_of(data, batch_size=2).real(0)[0].flatten().tolist()) == [-1, 1]


def test_generated_labels_have_the_real_shares():
    data = small_images(n=90, classes=3)
    skewed = data.subset(torch.nonzero((data.targets == 0) | (torch.arange(90) < 30)).squeeze(1), "skewed")
    labels = torch.cat([batches_of(skewed, batch_size=50).latent(step)[1] for step in range(40)])
    assert torch.allclose(torch.bincount(labels) / 2000, torch.tensor([0.6, 0.2, 0.2]), atol=0.03)
