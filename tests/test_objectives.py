from __future__ import annotations

import math

import pytest
import torch
from torch import nn

from ganaug.training import AuxiliaryClassifier


class Scripted(nn.Module):
    """A discriminator that answers what it is told, image by image: (real/fake logit, class logits)."""

    def __init__(self, *answers):
        super().__init__()
        self.scale = nn.Parameter(torch.ones(()))
        self.answers = iter(answers)

    def forward(self, images):
        source, classes = next(self.answers)
        return self.scale * torch.tensor(source), self.scale * torch.tensor(classes)


def softplus(x):
    return math.log1p(math.exp(x))


def test_discriminator_loss_is_half_the_sum_of_four_cross_entropies():
    judge = Scripted(([2.0, -1.0], [[1.0, 0.0], [0.0, 3.0]]), ([0.5, -4.0], [[0.0, 0.0], [2.0, 0.0]]))
    images, labels = torch.zeros(2, 1, 4, 4), torch.tensor([0, 1])
    loss, monitors = AuxiliaryClassifier().discriminator_loss(judge, images, labels, images, labels)
    real_source = (softplus(-2) + softplus(1)) / 2
    real_class = (softplus(-1) + softplus(-3)) / 2
    fake_source = (softplus(0.5) + softplus(-4)) / 2
    fake_class = (math.log(2) + softplus(2)) / 2
    assert loss.item() == pytest.approx(0.5 * (real_source + real_class + fake_source + fake_class), rel=1e-6)
    assert float(monitors["D_loss"]) == loss.item()
    assert float(monitors["real_fake_accuracy"]) == 0.5  # right on the first real and the second fake
    assert float(monitors["class_accuracy"]) == 0.75  # wrong on the second fake alone
    whole, _ = AuxiliaryClassifier(discriminator_weight=1).discriminator_loss(
        Scripted(([2.0, -1.0], [[1.0, 0.0], [0.0, 3.0]]), ([0.5, -4.0], [[0.0, 0.0], [2.0, 0.0]])),
        images, labels, images, labels,
    )  # fmt: skip
    assert whole.item() == pytest.approx(2 * loss.item())


def test_generator_loss_asks_for_real_and_for_the_class():
    judge = Scripted(([2.0, -1.0], [[1.0, 0.0], [0.0, 3.0]]))
    loss, monitors = AuxiliaryClassifier().generator_loss(judge, torch.zeros(2, 1, 4, 4), torch.tensor([0, 1]))
    expected = (softplus(-2) + softplus(1)) / 2 + (softplus(-1) + softplus(-3)) / 2
    assert loss.item() == pytest.approx(expected, rel=1e-6)
    assert monitors.keys() == {"G_loss"}


def test_a_confident_classifier_has_no_loss_left():
    """Softmax before the cross-entropy, as in some public code, would leave 1.46 for ten classes."""
    right = torch.eye(10).mul(50).tolist()
    judge = Scripted(([50.0] * 10, right))
    loss, _ = AuxiliaryClassifier().generator_loss(judge, torch.zeros(10, 1, 4, 4), torch.arange(10))
    assert loss.item() < 1e-6
