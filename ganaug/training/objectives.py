"""What the two networks are trained to do: losses on logits, with what there is to watch about them.

An objective has ``discriminator_loss`` and ``generator_loss``; each returns the loss to minimise and scalars to
monitor, detached, on the device (reading them would make the processor wait).
"""

from __future__ import annotations

from typing import Protocol

import torch
import torch.nn.functional as F
from torch import Tensor, nn

Monitors = dict[str, Tensor]


class Objective(Protocol):
    """What the training loop asks of an objective.

    ``real`` and ``fake`` are float (N, C, H, W) in [-1, 1], labels int64 (N,). In ``discriminator_loss`` the fakes
    carry no gradient; in ``generator_loss`` the discriminator's weights carry none.
    """

    def discriminator_loss(
        self, discriminator: nn.Module, real: Tensor, real_labels: Tensor, fake: Tensor, fake_labels: Tensor
    ) -> tuple[Tensor, Monitors]:
        """Loss of the discriminator's update."""
        ...

    def generator_loss(self, discriminator: nn.Module, fake: Tensor, fake_labels: Tensor) -> tuple[Tensor, Monitors]:
        """Loss of the generator's update."""
        ...


class AuxiliaryClassifier:
    """The auxiliary classifier GAN: real or fake, and which class.

    With the log-likelihoods of the source L_S (eq. 2) and of the class L_C (eq. 3), the discriminator maximises
    L_S + L_C and the generator L_C - L_S; the generator's L_S is used in its non-saturating form. The discriminator
    returns (real/fake logits (N,), class logits (N, K)).

    Args:
        discriminator_weight (float): factor on the discriminator's sum over real and fake. Default: 0.5

    Source: Odena, Olah & Shlens 2017, "Conditional image synthesis with auxiliary classifier GANs".
    """

    def __init__(self, discriminator_weight: float = 0.5) -> None:
        self.discriminator_weight = discriminator_weight

    def discriminator_loss(
        self, discriminator: nn.Module, real: Tensor, real_labels: Tensor, fake: Tensor, fake_labels: Tensor
    ) -> tuple[Tensor, Monitors]:
        """Weighted sum of source and class cross-entropy on real and on generated images.

        Monitors: ``D_loss``; ``real_fake_accuracy`` and ``class_accuracy`` over both kinds, in [0, 1].
        """
        real_source, real_class = discriminator(real)
        fake_source, fake_class = discriminator(fake)
        loss = self.discriminator_weight * (
            F.binary_cross_entropy_with_logits(real_source, torch.ones_like(real_source))
            + F.cross_entropy(real_class, real_labels)
            + F.binary_cross_entropy_with_logits(fake_source, torch.zeros_like(fake_source))
            + F.cross_entropy(fake_class, fake_labels)
        )
        source_right = torch.cat([real_source > 0, fake_source <= 0])
        class_right = torch.cat([real_class.argmax(1) == real_labels, fake_class.argmax(1) == fake_labels])
        return loss, {
            "D_loss": loss.detach(),
            "real_fake_accuracy": source_right.float().mean(),
            "class_accuracy": class_right.float().mean(),
        }

    def generator_loss(self, discriminator: nn.Module, fake: Tensor, fake_labels: Tensor) -> tuple[Tensor, Monitors]:
        """Cross-entropy of "real" and of the asked class on generated images. Monitors: ``G_loss``."""
        source, classes = discriminator(fake)
        loss = F.binary_cross_entropy_with_logits(source, torch.ones_like(source)) + F.cross_entropy(
            classes, fake_labels
        )
        return loss, {"G_loss": loss.detach()}
