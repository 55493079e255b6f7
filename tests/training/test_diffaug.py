from __future__ import annotations

import pytest
import torch

from ganaug import InputError
from ganaug.training import TrainingSettings
from ganaug.training.batches import BatchNoise
from ganaug.training.diffaug import DifferentiableAugmentation

BLACK = torch.tensor([-1.0])


def augmented(images: torch.Tensor, *operations: str, background: torch.Tensor = BLACK, seed: int = 0) -> torch.Tensor:
    noise = BatchNoise(seed, torch.device("cpu"))
    noise.start(0)
    return DifferentiableAugmentation(operations, background, noise)(images)


def dots(n: int, *, size: int = 16, row: int = 8, column: int = 5) -> torch.Tensor:
    """Images with one white pixel on black."""
    images = torch.full((n, 1, size, size), -1.0)
    images[:, :, row, column] = 1
    return images


def places(images: torch.Tensor) -> torch.Tensor:
    """Where the brightest pixel is, (N, 2)."""
    flat = images.flatten(1).argmax(1)
    return torch.stack([flat // images.shape[3], flat % images.shape[3]], 1)


def test_shift_moves_each_image_by_up_to_an_eighth_and_both_ways():
    moved = augmented(dots(400), "shift")
    offsets = places(moved) - torch.tensor([8, 5])
    assert sorted({tuple(offset) for offset in offsets.tolist()}) == [
        (dy, dx) for dy in range(-2, 3) for dx in range(-2, 3)
    ]
    assert ((moved == 1).sum((1, 2, 3)) == 1).all()
    assert ((moved == -1).sum((1, 2, 3)) == 255).all()


def test_what_comes_into_view_has_the_colour_of_the_background():
    background = torch.tensor([0.5, -0.25, 1.0])
    images = torch.zeros(200, 3, 16, 16)
    for operation in ("shift", "cutout"):
        changed = augmented(images, operation, background=background)
        for channel, colour in enumerate(background):
            values = changed[:, channel].unique()
            assert torch.allclose(values, torch.sort(torch.stack([torch.tensor(0.0), colour])).values, atol=1e-6)


def test_flip_mirrors_half_of_them():
    columns = places(augmented(dots(400), "flip"))[:, 1]
    assert set(columns.tolist()) == {5, 10}
    assert 150 < (columns == 10).sum() < 250


def test_cutout_hides_squares_of_two_fifths_of_the_side():
    hidden = (augmented(torch.ones(500, 1, 20, 20), "cutout") == -1).squeeze(1)
    for sides in (hidden.any(1).sum(1), hidden.any(2).sum(1)):
        assert (sides.min() >= 4, sides.max() == 8) == (True, True)  # 4 where half of it is outside
    assert torch.equal(hidden.sum((1, 2)), hidden.any(1).sum(1) * hidden.any(2).sum(1))  # whole squares
    assert hidden.any(0).all()


def test_brightness_leaves_the_background():
    changed = augmented(dots(300), "brightness")
    bright = changed.amax((1, 2, 3))
    assert (changed == -1).sum((1, 2, 3)).eq(255).all()
    assert 0.6 - 1e-6 < bright.min() < 0.65
    assert 1.35 < bright.max() < 1.4 + 1e-6


def test_gradients_reach_the_pixels_that_are_seen():
    images = dots(8).requires_grad_()
    seen = augmented(images, "shift", "flip", "cutout", "brightness")
    seen.sum().backward()
    assert images.grad is not None
    assert 0 < (images.grad == 0).float().mean() < 0.6  # shifted out, or under a cutout
    assert images.grad.max() < 1.21


def test_without_operations_nothing_is_drawn_or_changed():
    images = dots(2)
    with torch.random.fork_rng():
        before = torch.get_rng_state()
        assert augmented(images) is images
        assert torch.equal(torch.get_rng_state(), before)
    assert torch.equal(augmented(images, "shift"), augmented(images, "shift"))
    assert not torch.equal(augmented(dots(20), "shift"), augmented(dots(20), "shift", seed=1))


def test_operations_that_do_not_exist_are_refused():
    with pytest.raises(InputError, match="got rotate"):
        TrainingSettings(augment=("shift", "rotate"))
