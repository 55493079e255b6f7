"""Filters of generated images, for ``accept``: which of them to keep.

A filter maps uint8 images (N, C, H, W) and int64 labels (N,), the dataset's own, to bool (N,). It should judge every
image by itself, or an item would depend on the batch it is drawn in.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ganaug.core.errors import InputError
from ganaug.core.hardware import best_device, check_usable_here, device_of
from ganaug.core.pixels import to_float
from ganaug.sampling.inference import fill_rows

ROWS = 8  # images that a filter sees at a time, always

Filter = Callable[[Tensor, Tensor], Tensor]


class StarvedFilterError(InputError):
    """A filter that accepted none of the images drawn for an item."""


class _JudgeFilter(nn.Module):
    """What the two filters share: a network in evaluation mode, on the device it is on."""

    def __init__(self, judge: nn.Module, transform: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.judge = judge.eval()
        self.transform = transform

    def _prepared(self, images: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        device = device_of(self.judge)
        check_usable_here(device, "the filter's network")
        return self.transform(images.to(device)), labels.to(device)


class ClassifierAgreement(_JudgeFilter):
    """Keep images that a classifier assigns to the class they were asked for.

    Args:
        classifier (nn.Module): maps what ``transform`` gives to class logits (N, K), in the dataset's class order.
        min_probability (float): softmax probability of the wanted class to ask for beside that, in [0, 1]. Default: 0
        transform (callable, optional): uint8 (N, C, H, W) to the classifier's input. Default: float in [-1, 1]

    Raises:
        ValueError: ``min_probability`` is not in [0, 1].
    """

    def __init__(
        self,
        classifier: nn.Module,
        *,
        min_probability: float = 0.0,
        transform: Callable[[Tensor], Tensor] = to_float,
    ) -> None:
        if not 0 <= min_probability <= 1:
            raise ValueError(f"min_probability must be in [0, 1], got {min_probability!r}")
        super().__init__(classifier, transform)
        self.min_probability = min_probability

    @torch.inference_mode()
    def forward(self, images: Tensor, labels: Tensor) -> Tensor:
        """Which images to keep, bool (N,)."""
        inputs, wanted = self._prepared(images, labels)
        probabilities = F.softmax(self.judge(inputs).float(), dim=1)
        sure_enough = probabilities.gather(1, wanted[:, None]).squeeze(1) >= self.min_probability
        return (sure_enough & (probabilities.argmax(1) == wanted)).cpu()

    def extra_repr(self) -> str:
        """Shown by ``print``."""
        return f"min_probability={self.min_probability}"


class DiscriminatorScore(_JudgeFilter):
    """Keep images that a discriminator finds real enough.

    Args:
        discriminator (nn.Module): maps float images (N, C, H, W) in [-1, 1] and int64 labels (N,) to (real/fake
            logits (N,), class logits or None), as :meth:`ganaug.Generator.make_discriminator` makes them.
        threshold (float): lowest logit to keep; 0 is where it would say "real" as readily. Default: 0

    Source of the idea: Azadi et al. 2019, "Discriminator rejection sampling"; here with a fixed threshold.
    """

    def __init__(self, discriminator: nn.Module, *, threshold: float = 0.0) -> None:
        super().__init__(discriminator, to_float)
        self.threshold = threshold

    @torch.inference_mode()
    def forward(self, images: Tensor, labels: Tensor) -> Tensor:
        """Which images to keep, bool (N,)."""
        logits: Tensor = self.judge(*self._prepared(images, labels))[0]
        return (logits >= self.threshold).cpu()

    def extra_repr(self) -> str:
        """Shown by ``print``."""
        return f"threshold={self.threshold}"


def judge(accept: Filter, images: Tensor, labels: Tensor) -> Tensor:
    """Ask a filter about images, a fixed number at a time, so that its answers do not depend on the batch.

    Returns:
        Tensor: bool (N,).

    Raises:
        TypeError: the filter returns something else.
    """
    answers = []
    for some, wanted in zip(images.split(ROWS), labels.split(ROWS), strict=True):
        # Autocast, as of a training loop around this, would change the answers.
        with torch.autocast("cpu", enabled=False), torch.autocast(best_device().type, enabled=False):
            answer = accept(fill_rows(some, ROWS), fill_rows(wanted, ROWS))
        if not isinstance(answer, Tensor) or answer.dtype != torch.bool or answer.shape != (ROWS,):
            raise TypeError(
                f"accept must return a bool tensor of shape ({ROWS},) for as many images, got "
                f"{type(answer).__name__} {getattr(answer, 'dtype', '')} {tuple(getattr(answer, 'shape', ()))}"
            )
        answers.append(answer[: len(some)].cpu())
    return torch.cat(answers) if answers else torch.empty(0, dtype=torch.bool)
