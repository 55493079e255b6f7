from __future__ import annotations

import math

import pytest
import torch
from torch import nn

from ganaug import InputError
from ganaug.training import MODELS, GANObjective
from ganaug.training.losses import ADVERSARIAL_LOSSES

IMAGES, LABELS = torch.zeros(2, 1, 4, 4), torch.tensor([0, 1])


class Scripted(nn.Module):
    """A discriminator that answers what it is told: (real/fake logits, class logits or None)."""

    def __init__(self, logits, class_logits=None):
        super().__init__()
        self.scale = nn.Parameter(torch.ones(()))
        self.logits, self.class_logits = torch.tensor(logits), class_logits and torch.tensor(class_logits)

    def forward(self, images, labels):
        return self.scale * self.logits, None if self.class_logits is None else self.scale * self.class_logits


def softplus(x):
    return math.log1p(math.exp(x))


def log_d(x):
    return math.log(1 / (1 + math.exp(-x)))


@pytest.mark.parametrize(
    ("name", "real", "fake", "generator"),
    [
        ("minimax", lambda x: -log_d(x), lambda x: -log_d(-x), lambda x: log_d(-x)),
        ("non-saturating", lambda x: -log_d(x), lambda x: -log_d(-x), lambda x: -log_d(x)),
        ("least-squares", lambda x: (x - 1) ** 2 / 2, lambda x: x**2 / 2, lambda x: (x - 1) ** 2 / 2),
        ("hinge", lambda x: max(0, 1 - x), lambda x: max(0, 1 + x), lambda x: -x),
    ],
)
def test_adversarial_losses_are_those_of_the_papers(name, real, fake, generator):
    objective, values = GANObjective(name), [2.0, -0.25]
    judge = Scripted(values)
    for expected, loss in [
        (real, objective.discriminator_loss(judge, IMAGES, LABELS, real=True)[0]),
        (fake, objective.discriminator_loss(judge, IMAGES, LABELS, real=False)[0]),
        (generator, objective.generator_loss(judge, IMAGES, LABELS)[0]),
    ]:
        assert loss.item() == pytest.approx(sum(map(expected, values)) / 2, rel=1e-6)
        assert loss.requires_grad


@pytest.mark.parametrize("name", ADVERSARIAL_LOSSES)
def test_losses_of_large_logits_are_finite(name):
    for value in (1e4, -1e4):
        judge = Scripted([value, value])
        for loss in (
            GANObjective(name).discriminator_loss(judge, IMAGES, LABELS, real=True)[0],
            GANObjective(name).generator_loss(judge, IMAGES, LABELS)[0],
        ):
            loss.backward()
            assert math.isfinite(loss.item())
            assert math.isfinite(judge.scale.grad.item())


def test_what_is_watched_is_read_as_the_loss_means_it():
    logits = [0.4, -3.0]
    for name, score, real_share in [
        ("non-saturating", (1 / (1 + math.exp(-0.4)) + 1 / (1 + math.exp(3))) / 2, 0.5),
        ("least-squares", -1.3, 0.0),  # the boundary is 0.5
        ("hinge", -1.3, 0.5),
    ]:
        objective, judge = GANObjective(name), Scripted(logits)
        _, real = objective.discriminator_loss(judge, IMAGES, LABELS, real=True)
        _, fake = objective.discriminator_loss(judge, IMAGES, LABELS, real=False)
        _, after = objective.generator_loss(judge, IMAGES, LABELS)
        assert real.keys() == {"D_loss_real", "D(x)", "accuracy_real"}
        assert fake.keys() == {"D_loss_fake", "D(G(z))_before", "accuracy_fake"}
        assert after.keys() == {"G_loss", "D(G(z))_after"}
        for seen in (real["D(x)"], fake["D(G(z))_before"], after["D(G(z))_after"]):
            assert float(seen) == pytest.approx(score, rel=1e-6)
        assert float(real["accuracy_real"]) == real_share
        assert float(fake["accuracy_fake"]) == 1 - real_share
        assert objective.judges_real(judge, IMAGES, LABELS).float().mean() == real_share
        assert not any(value.requires_grad for value in {**real, **fake, **after}.values())


def test_acgan28_halves_the_sum_of_source_and_class_losses():
    objective = MODELS["acgan-28"].objective
    judge = Scripted([2.0, -1.0], [[1.0, 0.0], [0.0, 3.0]])
    source = (softplus(-2) + softplus(1)) / 2
    classes = (softplus(-1) + softplus(-3)) / 2
    loss, monitors = objective.discriminator_loss(judge, IMAGES, LABELS, real=True)
    assert loss.item() == pytest.approx(0.5 * (source + classes), rel=1e-6)
    assert float(monitors["D_loss_real"]) == loss.item()
    assert float(monitors["class_accuracy_real"]) == 1
    loss, monitors = objective.discriminator_loss(judge, IMAGES, 1 - LABELS, real=False)
    fake_source, fake_class = (softplus(2) + softplus(-1)) / 2, (softplus(1) + softplus(3)) / 2
    assert loss.item() == pytest.approx(0.5 * (fake_source + fake_class), rel=1e-6)
    assert float(monitors["class_accuracy_fake"]) == 0
    loss, _ = objective.generator_loss(judge, IMAGES, LABELS)
    assert loss.item() == pytest.approx(source + classes, rel=1e-6)


def test_class_weights():
    judge = Scripted([0.0, 0.0], [[1.0, 0.0], [0.0, 3.0]])
    classes = (softplus(-1) + softplus(-3)) / 2
    objective = GANObjective(class_weight_real=2, class_weight_fake=0, class_weight_generator=0.3)
    for weight, loss in [
        (2, objective.discriminator_loss(judge, IMAGES, LABELS, real=True)[0]),
        (0, objective.discriminator_loss(judge, IMAGES, LABELS, real=False)[0]),
        (0.3, objective.generator_loss(judge, IMAGES, LABELS)[0]),
        (1, MODELS["acgan-64"].objective.discriminator_loss(judge, IMAGES, LABELS, real=True)[0]),
        (0, MODELS["acgan-64"].objective.discriminator_loss(judge, IMAGES, LABELS, real=False)[0]),
    ]:
        assert loss.item() == pytest.approx(math.log(2) + weight * classes, rel=1e-6)


def test_a_class_head_without_a_loss_still_has_a_gradient():
    """Distributed training stops where a weight has none."""
    with torch.random.fork_rng():
        features, head = nn.Parameter(torch.ones(2, 3)), nn.Linear(3, 2)
    judge = Scripted([0.0, 0.0])
    judge.forward = lambda images, labels: (features.sum(1), head(features))
    GANObjective().discriminator_loss(judge, IMAGES, LABELS, real=False)[0].backward()
    assert head.weight.grad is not None
    assert not head.weight.grad.any()


@pytest.mark.parametrize("model", [name for name in MODELS if MODELS[name].objective.class_weight_real])
def test_a_confident_classifier_has_no_loss_left(model):
    """Softmax before the cross-entropy, as in some public code, would leave 1.46 for ten classes."""
    right = torch.eye(10).mul(50).tolist()
    judge = Scripted([50.0] * 10, right)
    loss, _ = MODELS[model].objective.generator_loss(judge, torch.zeros(10, 1, 4, 4), torch.arange(10))
    assert loss.item() < 1e-6


def test_wrong_objectives_are_refused():
    with pytest.raises(InputError, match="wasserstein"):
        GANObjective("wasserstein")
    with pytest.raises(InputError, match="class_weight_fake"):
        GANObjective(class_weight_fake=-1)
    with pytest.raises(InputError, match="no class head"):
        GANObjective(class_weight_generator=1).generator_loss(Scripted([0.0, 0.0]), IMAGES, LABELS)
