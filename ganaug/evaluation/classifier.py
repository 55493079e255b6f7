"""Training the classifiers that judge real and generated images, and asking them."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ganaug.core.defaults import usual_defaults
from ganaug.core.errors import InputError
from ganaug.core.hardware import device_of, evaluation_mode, has_bf16
from ganaug.core.integers import positive_int
from ganaug.core.pixels import to_float
from ganaug.core.seeding import Purpose, check_seed, forked_rng, random_stream
from ganaug.data import LabelledImages
from ganaug.data.stored import Pixels
from ganaug.evaluation.augmentation import BatchTransform, mixup_or_cutmix
from ganaug.evaluation.networks import ClassifierFactory, SmallCNN

LEARNING_RATE = 2e-3  # peak for a classifier that says nothing else


@usual_defaults()
def train_classifier(
    data: LabelledImages,
    factory: ClassifierFactory = SmallCNN,
    *,
    steps: int = 600,
    batch_size: int = 128,
    learning_rate: float | None = None,
    learning_rate_factor: float = 1,
    seed: int = 0,
    weights: Tensor | None = None,
    class_weights: Tensor | None = None,
    augment: BatchTransform | None = None,
    mix: bool = False,
    device: torch.device | str = "cpu",
) -> nn.Module:
    """Train a classifier with a one-cycle learning rate, in bf16 if the device supports it.

    It is trained with Adam, or as it says itself; see :class:`~ganaug.evaluation.ClassifierFactory`. Torch's
    global random state is left as it was.

    Args:
        data (LabelledImages): square images.
        factory (callable): makes the classifier. Default: :class:`SmallCNN`
        steps (int), batch_size (int): the budget.
        learning_rate (float, optional): the peak. Default: the classifier's own, else 0.002
        learning_rate_factor (float): times that. Default: 1
        seed (int): of weights, order and augmentation. Default: 0
        weights (Tensor, optional): float (N,), how often each image is drawn, relative to the others. Default: all
            equally often
        class_weights (Tensor, optional): float (K,), by which each image's loss is multiplied, according to its class,
            before the mean over the batch is taken. Default: all equal
        augment (callable, optional): maps each batch, uint8 (N, C, H, W), to one of the same shape; may draw from
            torch's global random state. Default: none
        mix (bool): mix the images of each batch by MixUp or CutMix, and their classes likewise. Default: False
        device (torch.device or str): to train on. Default: cpu

    Returns:
        nn.Module: in evaluation mode, on the device.

    Raises:
        InputError: a number is out of range, the classifier returns something other than logits of the classes, or
            what it says about its training is of another kind.

    Sources: Kingma and Ba 2015, "Adam: a method for stochastic optimization"; Smith and Topin 2017,
    "Super-convergence: very fast training of neural networks using large learning rates" (the one-cycle schedule).
    """
    device = torch.device(device)
    steps, batch_size, seed = positive_int("steps", steps), positive_int("batch_size", batch_size), check_seed(seed)
    mixed = mixup_or_cutmix(len(data.classes)) if mix else None
    probabilities = None if weights is None else (weights.double() / weights.double().sum()).numpy()
    if class_weights is not None:
        class_weights = class_weights.to(device)
    order = random_stream(seed, Purpose.CLASSIFIER).choice(len(data), size=(steps, batch_size), p=probabilities)
    with forked_rng(seed, device):
        classifier = factory(len(data.classes), channels=data.channels, image_size=data.image_size)
        classifier.to(device).to(memory_format=torch.channels_last).train()
        optimizer, schedule = optimizer_and_schedule(classifier, learning_rate, learning_rate_factor, steps)
        for indices in torch.from_numpy(order):
            images, targets = data.images[indices].to(device), data.targets[indices].to(device)
            # Not in bf16: augmentation computes where pixels go.
            images = to_float(images if augment is None else augment(images))
            if mixed is not None:
                images, targets = mixed(images, targets)
            with torch.autocast(device.type, torch.bfloat16, enabled=has_bf16(device)):
                logits = classifier(images)
                check_logits(logits, len(data.classes))
                loss = loss_of(logits, targets, class_weights)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
    return classifier.eval()


def optimizer_and_schedule(
    classifier: nn.Module, learning_rate: float | None, factor: float, steps: int
) -> tuple[torch.optim.Optimizer, torch.optim.lr_scheduler.OneCycleLR]:
    """The optimizer of a classifier, its own if it has one, and the one-cycle learning rate of so many steps.

    Args:
        classifier (Module): to train.
        learning_rate (float, optional), factor (float): see :func:`train_classifier`.
        steps (int): of the cycle.

    Raises:
        InputError: a learning rate is not a positive number, or what should make the optimizer makes something else.
    """
    peak = getattr(classifier, "learning_rate", LEARNING_RATE) if learning_rate is None else learning_rate
    for name, value in (("learning_rate", peak), ("learning_rate_factor", factor)):
        if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 < value < math.inf:
            raise InputError(f"{name} must be a positive number, got {value!r}")
    make = getattr(classifier, "make_optimizer", None)
    if make is None:
        trained = [parameter for parameter in classifier.parameters() if parameter.requires_grad]
        optimizer: torch.optim.Optimizer = torch.optim.Adam(trained, peak * factor, fused=True)
    else:
        optimizer = make(peak * factor)
        if not isinstance(optimizer, torch.optim.Optimizer):
            raise InputError(f"make_optimizer must return a torch optimizer, got {type(optimizer).__name__}")
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimizer,
        [group["lr"] for group in optimizer.param_groups],
        total_steps=steps,
        # Plain SGD and some others have no momentum that could go down while the learning rate goes up.
        cycle_momentum=bool(optimizer.defaults.get("betas") or optimizer.defaults.get("momentum")),
    )
    return optimizer, schedule


def loss_of(logits: Tensor, targets: Tensor, class_weights: Tensor | None) -> Tensor:
    """Cross-entropy, the mean over the images of a batch.

    Args:
        logits (Tensor): float (N, K).
        targets (Tensor): int64 (N,), classes, or float (N, K), shares of the classes in each image.
        class_weights (Tensor, optional): float (K,), by which the loss of each class is multiplied.
    """
    if class_weights is None:
        return F.cross_entropy(logits, targets)
    # Not torch's weighted mean, which divides by the weights in the batch: a rare class is in few batches, and makes
    # these count less. On a long tail of 500 to 5 images the last class then has 7.4 instead of 9.4 % of the loss.
    return F.cross_entropy(logits, targets, class_weights, reduction="sum") / len(logits)


def check_logits(logits: object, num_classes: int) -> None:
    """Refuse what a classifier returns if it is not logits (N, num_classes).

    Raises:
        InputError: it is something else.
    """
    if not isinstance(logits, Tensor) or logits.ndim != 2 or logits.shape[1] != num_classes:
        found = tuple(logits.shape) if isinstance(logits, Tensor) else type(logits).__name__
        raise InputError(f"a classifier must return class logits (N, {num_classes}), this one returns {found}")


@usual_defaults()
def predict_probabilities(classifier: nn.Module, images: Pixels, *, batch_size: int = 256) -> Tensor:
    """Softmax probabilities, float32 (N, K) on the CPU, for uint8 images (N, C, H, W)."""
    device = device_of(classifier)
    with torch.inference_mode(), evaluation_mode(classifier):
        logits = [classifier(to_float(batch.to(device))).float() for batch in images.split(batch_size)]
        return torch.cat(logits).softmax(1).cpu()


def predict(classifier: nn.Module, images: Pixels) -> Tensor:
    """Most likely classes, int64 (N,) on the CPU, of uint8 images (N, C, H, W)."""
    return predict_probabilities(classifier, images).argmax(1)


def accuracy(classifier: nn.Module, data: LabelledImages) -> float:
    """Share of ``data`` that the classifier gets right, in [0, 1]."""
    return (predict(classifier, data.images) == data.targets).float().mean().item()
