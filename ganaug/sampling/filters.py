"""Filters of generated images, for ``accept``: which of them to keep.

A filter maps uint8 images (N, C, H, W) and int64 labels (N,), the dataset's, to bool (N,), True for those to keep. It
should judge every image by itself, or an item would depend on the batch it is drawn in. A filter whose attribute
``takes_generator_labels`` is True is given the generator's labels instead, which may be in another order.

A filter that is a module is copied, so that training the original further changes nothing. Any other callable is
called as it is: a network that a function uses must not be trained further, or the images of an epoch would change.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ganaug.core.errors import InputError
from ganaug.core.hardware import best_device, check_usable_here, device_of, evaluation_copy
from ganaug.core.pixels import to_float
from ganaug.core.text import shortened
from ganaug.sampling.inference import fill_rows

ROWS = 8  # images that a filter always sees at a time

Filter = Callable[[Tensor, Tensor], Tensor]


class StarvedFilterError(InputError):
    """A filter accepted none of the images drawn for an item."""


class _JudgeFilter(nn.Module):
    """What the two filters share: a copy of a network, which is given images on the device the network is on."""

    def __init__(self, judge: nn.Module, transform: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.judge = evaluation_copy(judge)
        self.transform = transform

    def _prepared(self, images: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        device = device_of(self.judge)
        check_usable_here(device, "the filter's network")
        return self.transform(images.to(device)), labels.to(device)


class ClassifierAgreement(_JudgeFilter):
    """Keep images that a classifier assigns to the class that was asked for.

    Args:
        classifier (nn.Module): maps what ``transform`` returns to class logits (N, K), in the dataset's class order;
            it is copied.
        min_probability (float): softmax probability that the wanted class must have besides, in [0, 1]. Default: 0
        transform (callable, optional): uint8 (N, C, H, W) to the classifier's input. Default: float32 in [-1, 1]

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
    def check_classes(self, images: Tensor, classes: Sequence[str]) -> None:
        """Refuse to judge images of other classes than the classifier knows.

        Args:
            images (Tensor): uint8 (N, C, H, W), some to try.
            classes (sequence of str): the dataset's.

        Raises:
            InputError: the classifier does not return one logit for each class.
        """
        logits = self.judge(self._prepared(images, torch.zeros(len(images), dtype=torch.int64))[0])
        if not isinstance(logits, Tensor) or logits.ndim != 2:
            raise InputError(
                f"the filter's classifier must return class logits (N, {len(classes)}), got "
                f"{tuple(logits.shape) if isinstance(logits, Tensor) else type(logits).__name__}. Give a module that "
                "returns these alone"
            )
        if logits.shape[1] != len(classes):
            raise InputError(
                f"the filter's classifier knows {logits.shape[1]} classes, and the dataset has {len(classes)}: "
                f"{shortened(classes)}. Give one that was trained on these, in this order"
            )

    @torch.inference_mode()
    def forward(self, images: Tensor, labels: Tensor) -> Tensor:
        """Which of uint8 images (N, C, H, W) with int64 labels (N,) to keep, bool (N,), on the CPU."""
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
        discriminator (nn.Module): maps float images (N, C, H, W) in [-1, 1] and int64 labels (N,), the generator's,
            to (real/fake logits (N,), class logits or None), as those from
            :meth:`ganaug.Generator.make_discriminator` do; it is copied.
        threshold (float): lowest logit to keep; at 0 the discriminator is undecided. Default: 0

    Source: Azadi et al. 2019, "Discriminator rejection sampling", for the idea; the threshold here is fixed.
    """

    def __init__(self, discriminator: nn.Module, *, threshold: float = 0.0) -> None:
        super().__init__(discriminator, to_float)
        self.threshold = threshold
        # Set here and not in the class, to enter fingerprints: images kept by an earlier version, in which this filter
        # judged by the dataset's labels, must not be found again.
        self.takes_generator_labels = True

    @torch.inference_mode()
    def forward(self, images: Tensor, labels: Tensor) -> Tensor:
        """Which of uint8 images (N, C, H, W) with the generator's int64 labels (N,) to keep, bool (N,), on the CPU."""
        logits: Tensor = self.judge(*self._prepared(images, labels))[0]
        return (logits >= self.threshold).cpu()

    def extra_repr(self) -> str:
        """Shown by ``print``."""
        return f"threshold={self.threshold}"


def apply_filter(accept: Filter, images: Tensor, labels: Tensor) -> Tensor:
    """Ask a filter about images, a fixed number at a time, so that its answers do not depend on the batch.

    Args:
        accept (Filter): the filter.
        images (Tensor): uint8 (N, C, H, W), on the CPU.
        labels (Tensor): int64 (N,), the dataset's; or the generator's, if the filter takes those.

    Returns:
        Tensor: bool (N,), on the CPU, True for the images to keep.

    Raises:
        TypeError: the filter does not return a bool tensor with one value for each image.
    """
    answers = []
    for some, wanted in zip(images.split(ROWS), labels.split(ROWS), strict=True):
        # A training loop around this may have autocast on, which would change the answers.
        with torch.autocast("cpu", enabled=False), torch.autocast(best_device().type, enabled=False):
            answer = accept(fill_rows(some, ROWS), fill_rows(wanted, ROWS))
        if not isinstance(answer, Tensor) or answer.dtype != torch.bool or answer.shape != (ROWS,):
            raise TypeError(
                f"accept must return a bool tensor of shape ({ROWS},) for as many images, got "
                f"{type(answer).__name__} {getattr(answer, 'dtype', '')} {tuple(getattr(answer, 'shape', ()))}"
            )
        answers.append(answer[: len(some)].cpu())
    return torch.cat(answers) if answers else torch.empty(0, dtype=torch.bool)
