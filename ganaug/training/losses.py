"""The losses of a GAN's two networks: functions of the discriminator's logits, and the objective made of them.

D(x) is the discriminator's output for a real image x, D(G(z)) for one generated from latents z. In the minimax game D
is a probability, and the logits are log(D / (1 - D)); in the other games D is the logits themselves. All losses are
means over the batch.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, fields
from typing import Literal, Protocol

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ganaug.core.errors import InputError


def minimax_discriminator(logits: Tensor, *, real: bool) -> Tensor:
    """Binary cross-entropy: -log D(x) for real images, -log(1 - D(G(z))) for generated ones.

    Args:
        logits (Tensor): float (N,).
        real (bool): whether they are of real images or of generated ones.

    Source: Goodfellow et al. 2014, "Generative adversarial nets", eq. 1.
    """
    return F.softplus(-logits if real else logits).mean()


def minimax_generator(logits: Tensor) -> Tensor:
    """log(1 - D(G(z))), which has hardly any gradient while the discriminator is winning.

    Source: Goodfellow et al. 2014, "Generative adversarial nets", eq. 1.
    """
    return -F.softplus(logits).mean()


def non_saturating_generator(logits: Tensor) -> Tensor:
    """-log D(G(z)): the same fixed point as the minimax game, with stronger gradients early on.

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
    """Cross-entropy of the discriminator's class head: -log P(C = c | X).

    Args:
        class_logits (Tensor): float (N, K), before any softmax.
        labels (Tensor): int64 (N,).

    Source: Odena, Olah & Shlens 2017, "Conditional image synthesis with auxiliary classifier GANs", eq. 3.
    """
    return F.cross_entropy(class_logits, labels)


@dataclass(frozen=True)
class AdversarialLoss:
    """The losses of both sides of one game, and how its logits are read.

    Args:
        discriminator (callable): ``(logits, real=bool)`` to the discriminator's loss.
        generator (callable): logits to the generator's loss.
        score (callable): logits to D(x) and D(G(z)), which are monitored.
        boundary (float): the discriminator takes an image for real if its logit is above this.
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


Monitors = dict[str, Tensor]  # scalars to watch by name, detached and on the device


class Objective(Protocol):
    """What :class:`ganaug.training.GANTrainer` asks of an objective.

    ``images`` are float (N, C, H, W) in [-1, 1], ``labels`` int64 (N,). Both losses come with scalars to watch, which
    must be detached and stay on the device, since reading them would make the CPU wait. ``discriminator_loss`` is
    given detached images, and ``generator_loss`` a discriminator whose weights are frozen.
    """

    def discriminator_loss(
        self, discriminator: nn.Module, images: Tensor, labels: Tensor, *, real: bool
    ) -> tuple[Tensor, Monitors]:
        """The discriminator's loss on real images, or on generated ones, to be minimised."""
        ...

    def generator_loss(self, discriminator: nn.Module, images: Tensor, labels: Tensor) -> tuple[Tensor, Monitors]:
        """The generator's loss on its images, to be minimised."""
        ...

    def judges_real(self, discriminator: nn.Module, images: Tensor, labels: Tensor) -> Tensor:
        """Which images the discriminator takes for real, bool (N,)."""
        ...


@dataclass(frozen=True)
class GANObjective:
    """An adversarial loss, plus auxiliary classification (Odena et al. 2017) where its weights are not 0.

    Args:
        adversarial_loss: The game that the networks play.
        class_weight_real: Weight of the discriminator's class loss on real images.
        class_weight_fake: Weight of the discriminator's class loss on generated images.
        class_weight_generator: Weight of the generator's class loss.
        discriminator_weight: Factor on the discriminator's whole loss.

    Raises:
        InputError: there is no such loss, or a weight is negative or not finite.
    """

    adversarial_loss: Literal["non-saturating", "minimax", "least-squares", "hinge"] = "non-saturating"
    class_weight_real: float = 0.0
    class_weight_fake: float = 0.0
    class_weight_generator: float = 0.0
    discriminator_weight: float = 1.0

    def __post_init__(self) -> None:
        if self.adversarial_loss not in ADVERSARIAL_LOSSES:
            known = ", ".join(ADVERSARIAL_LOSSES)
            raise InputError(f"adversarial_loss must be one of {known}, got {self.adversarial_loss!r}")
        for field in fields(self)[1:]:
            value = getattr(self, field.name)
            if not 0 <= value < float("inf"):
                raise InputError(f"{field.name} must be 0 or more and finite, got {value}")

    @property
    def _game(self) -> AdversarialLoss:
        return ADVERSARIAL_LOSSES[self.adversarial_loss]

    def discriminator_loss(
        self, discriminator: nn.Module, images: Tensor, labels: Tensor, *, real: bool
    ) -> tuple[Tensor, Monitors]:
        """The discriminator's loss on real images, or on generated ones, which it minimises.

        Returns:
            tuple: the loss, and the monitors ``D_loss_real``, ``D(x)``, ``accuracy_real`` (share of images judged
            right) and, if there is a class head, ``class_accuracy_real``; of generated images ``D_loss_fake``,
            ``D(G(z))_before`` the update, ``accuracy_fake`` and ``class_accuracy_fake``.

        Raises:
            InputError: a class loss has a weight, but the discriminator has no class head.
        """
        # L = w (L_S + w_C L_C): the adversarial loss L_S and the class loss L_C (Odena et al. 2017, eq. 2 and 3, there
        # as log-likelihoods to be maximised, all with weight 1).
        logits, class_logits = discriminator(images, labels)
        weight = self.class_weight_real if real else self.class_weight_fake
        loss = self._game.discriminator(logits, real=real) + self._class_loss(class_logits, labels, weight)
        loss = self.discriminator_weight * loss

        kind, score = ("real", "D(x)") if real else ("fake", "D(G(z))_before")
        right = (logits > self._game.boundary) == real
        monitors = {
            f"D_loss_{kind}": loss.detach(),
            score: self._game.score(logits.detach()).mean(),
            f"accuracy_{kind}": right.float().mean(),
        }
        if class_logits is not None:
            monitors[f"class_accuracy_{kind}"] = (class_logits.argmax(1) == labels).float().mean()
        return loss, monitors

    def generator_loss(self, discriminator: nn.Module, images: Tensor, labels: Tensor) -> tuple[Tensor, Monitors]:
        """The generator's loss on its images, which it minimises.

        Returns:
            tuple: the loss, and the monitors ``G_loss`` and ``D(G(z))_after`` the discriminator's update.

        Raises:
            InputError: the class loss has a weight, but the discriminator has no class head.
        """
        logits, class_logits = discriminator(images, labels)
        loss = self._game.generator(logits) + self._class_loss(class_logits, labels, self.class_weight_generator)
        return loss, {"G_loss": loss.detach(), "D(G(z))_after": self._game.score(logits.detach()).mean()}

    def judges_real(self, discriminator: nn.Module, images: Tensor, labels: Tensor) -> Tensor:
        """Which images the discriminator takes for real, bool (N,)."""
        logits: Tensor = discriminator(images, labels)[0]
        return logits > self._game.boundary

    def _class_loss(self, class_logits: Tensor | None, labels: Tensor, weight: float) -> Tensor | float:
        if class_logits is not None:
            # Computed even at weight 0: distributed training needs a gradient, if only zeros, for all parameters.
            return weight * auxiliary_classification(class_logits, labels)
        if weight:
            raise InputError(
                "a class loss was asked for, but the discriminator has no class head. Set the objective's class "
                "weights to 0, or use a discriminator that has one"
            )
        return 0.0
