"""Adversarial and classification losses as named functions of logits, averaged over the batch.

D is the discriminator's judgement of a real image x or a generated one G(z). Its logits are log(D / (1 - D)) in the
minimax game, and plain scores in the others.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor


def minimax_discriminator(logits: Tensor, *, real: bool) -> Tensor:
    """Binary cross-entropy: -log D(x) for real images, -log(1 - D(G(z))) for generated ones.

    Args:
        logits (Tensor): float (N,).
        real (bool): which of the two the images are.

    Source: Goodfellow et al. 2014, "Generative adversarial nets", eq. 1.
    """
    return F.softplus(-logits if real else logits).mean()


def minimax_generator(logits: Tensor) -> Tensor:
    """log(1 - D(G(z))), which has next to no gradient while the discriminator wins.

    Source: Goodfellow et al. 2014, "Generative adversarial nets", eq. 1.
    """
    return -F.softplus(logits).mean()


def non_saturating_generator(logits: Tensor) -> Tensor:
    """-log D(G(z)): the fixed point of the minimax game with stronger gradients early on.

    Source: Goodfellow et al. 2014, "Generative adversarial nets", section 3.
    """
    return F.softplus(-logits).mean()


def least_squares_discriminator(logits: Tensor, *, real: bool) -> Tensor:
    """(D(x) - 1)^2 / 2 for real images, D(G(z))^2 / 2 for generated ones.

    Source: Mao et al. 2017, "Least squares generative adversarial networks", eq. 2 with a = 0 and b = 1.
    """
    return (logits - float(real)).square().mean() / 2


def least_squares_generator(logits: Tensor) -> Tensor:
    """(D(G(z)) - 1)^2 / 2.

    Source: Mao et al. 2017, "Least squares generative adversarial networks", eq. 2 with c = 1.
    """
    return (logits - 1).square().mean() / 2


def hinge_discriminator(logits: Tensor, *, real: bool) -> Tensor:
    """max(0, 1 - D(x)) for real images, max(0, 1 + D(G(z))) for generated ones.

    Source: Lim & Ye 2017, "Geometric GAN"; Miyato et al. 2018, "Spectral normalization for generative adversarial
    networks", eq. 16.
    """
    return F.relu(1 - logits if real else 1 + logits).mean()


def hinge_generator(logits: Tensor) -> Tensor:
    """-D(G(z)).

    Source: Lim & Ye 2017, "Geometric GAN"; Miyato et al. 2018, "Spectral normalization for generative adversarial
    networks", eq. 17.
    """
    return -logits.mean()


def auxiliary_classification(class_logits: Tensor, labels: Tensor) -> Tensor:
    """Cross-entropy -log P(C = c | X) of the discriminator's class head.

    Args:
        class_logits (Tensor): float (N, K), before any softmax.
        labels (Tensor): int64 (N,).

    Source: Odena, Olah & Shlens 2017, "Conditional image synthesis with auxiliary classifier GANs", eq. 3.
    """
    return F.cross_entropy(class_logits, labels)


@dataclass(frozen=True)
class AdversarialLoss:
    """The two sides of one game, and how its logits are read.

    Args:
        discriminator (callable): (logits, real=bool) to the discriminator's loss.
        generator (callable): logits to the generator's loss.
        score (callable): logits to what is shown as D(x) and D(G(z)).
        boundary (float): logits above it say "real".
    """

    discriminator: Callable[..., Tensor]
    generator: Callable[[Tensor], Tensor]
    score: Callable[[Tensor], Tensor] = torch.sigmoid
    boundary: float = 0.0


ADVERSARIAL_LOSSES = {
    "non-saturating": AdversarialLoss(minimax_discriminator, non_saturating_generator),
    "minimax": AdversarialLoss(minimax_discriminator, minimax_generator),
    "least-squares": AdversarialLoss(
        least_squares_discriminator, least_squares_generator, score=torch.clone, boundary=0.5
    ),
    "hinge": AdversarialLoss(hinge_discriminator, hinge_generator, score=torch.clone),
}
