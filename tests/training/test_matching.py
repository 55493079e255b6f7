"""Distribution matching, by flows that each know one image."""

from __future__ import annotations

import pytest
import torch

from ganaug.training.batches import BatchNoise
from ganaug.training.matching import matching_loss


class Knows:
    """A flow that heads straight for one grey, whatever it sees; that of class 1 is the negative."""

    def __init__(self, grey: float) -> None:
        self.grey = grey

    def velocity(self, x_t: torch.Tensor, t: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        t, sign = (values[:, None, None, None] for values in (t, 1 - 2 * labels))
        return (sign * self.grey - x_t) / (1 - t)


def gradient(images: torch.Tensor, labels: torch.Tensor, real: float, fake: float) -> torch.Tensor:
    images = images.clone().requires_grad_()
    noise = BatchNoise(0, torch.device("cpu"))
    noise.start(0)
    matching_loss(images, labels, Knows(real), Knows(fake), noise).backward()
    return images.grad * images.numel()


def test_images_are_moved_from_what_the_one_flow_draws_to_what_the_other_draws():
    """By their difference, in units of each image's distance from the real one."""
    images = torch.tensor([0.5, 0.5, -0.3])[:, None, None, None].expand(3, 1, 4, 4)
    labels = torch.tensor([0, 1, 0])
    found = gradient(images, labels, real=0.1, fake=0.3)
    expected = torch.tensor([0.2 / 0.4, -0.2 / 0.6, 0.2 / 0.4])
    assert found.mean((1, 2, 3)).tolist() == pytest.approx(expected.tolist(), rel=1e-3)
    assert found.std((1, 2, 3)).max() < 1e-3


def test_where_both_agree_images_stay():
    images = torch.linspace(-1, 1, 32).view(2, 1, 4, 4)
    assert gradient(images, torch.tensor([0, 1]), real=0.2, fake=0.2).abs().max() < 1e-4


def test_images_that_are_right_already_have_a_finite_gradient():
    found = gradient(torch.full((1, 1, 4, 4), 0.2), torch.tensor([0]), real=0.2, fake=0.4)
    assert torch.isfinite(found).all()
    assert found.min() > 0  # away from what the flow of generated images knows
