"""Classifiers of other libraries: models of torchvision and timm, untrained or with weights from a file."""

from __future__ import annotations

import functools
import logging
import multiprocessing
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType
from typing import cast

import torch
import torch.nn.functional as F
from safetensors import SafetensorError
from torch import Tensor, nn

from ganaug.core.errors import InputError
from ganaug.core.files import read_tensors
from ganaug.core.text import shortened

logger = logging.getLogger(__name__)

SMALLEST = 64  # side to which smaller images are enlarged: these models halve it up to five times
IMAGENET = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))  # mean and standard deviation of RGB in [0, 1]
UNTRAINED_TRANSFORMER = 5e-4  # learning rate; Touvron et al. 2021, "Training data-efficient image transformers"
# Learning rates with weights. A small ResNet, pre-trained on five classes of Fashion-MNIST, got 84 % of images of the
# other five right after 100 steps at 1e-3 on ten images of each, 79 % at 3e-4; its head alone, 74 % at 1e-2 and 38 %
# at 3e-3. Transformers are usually fine-tuned with a tenth of that or less.
FINE_TUNED, FINE_TUNED_TRANSFORMER, FROZEN = 1e-3, 1e-4, 1e-2


class LibraryClassifier(nn.Module):
    """A library's model, given images as it expects them: RGB, large enough, and normalised if it has weights.

    Args:
        model (Module): from RGB images to class logits.
        head (sequence of Module): its last layers, whose shapes depend on the number of classes.
        channels (int): of the images; grey ones are repeated to RGB.
        size (int): side to which images are brought, in pixels.
        weights (Path, optional): safetensors file with the model's ``state_dict``. A head of another number of
            classes, or none, is replaced by a new one, which is logged. Default: untrained
        frozen (bool): train the head alone; the other layers stay as they are, in evaluation mode. Default: False
        normalised (pair of sequences of float): mean and standard deviation with which the weights were trained, of
            RGB in [0, 1]. Default: those of ImageNet

    Raises:
        InputError: the weights cannot be read or are of another model, or an untrained model is to be frozen.
    """

    def __init__(
        self,
        model: nn.Module,
        head: Sequence[nn.Module],
        *,
        channels: int,
        size: int,
        weights: Path | None = None,
        frozen: bool = False,
        normalised: tuple[Sequence[float], Sequence[float]] = IMAGENET,
    ) -> None:
        super().__init__()
        self.model = model
        self.repeats = 3 // channels
        self.size = size
        self.pretrained = weights is not None
        self.frozen = frozen
        of_head = {id(parameter) for part in head for parameter in part.parameters()}
        self.head_names = tuple(name for name, own in model.named_parameters() if id(own) in of_head)

        # What trains well depends on how much there is to be kept, and on the kind of network.
        transformer = any(isinstance(part, nn.LayerNorm) for part in model.modules())  # or a relative, as ConvNeXt
        if weights is None:
            if transformer:
                self.learning_rate = UNTRAINED_TRANSFORMER
        else:
            load_weights(model, weights, self.head_names)
            self.learning_rate = FROZEN if frozen else FINE_TUNED_TRANSFORMER if transformer else FINE_TUNED
            for name, values in zip(("mean", "std"), normalised, strict=True):
                # In [-1, 1], as the images are.
                scaled = [2 * value - 1 if name == "mean" else 2 * value for value in values]
                self.register_buffer(name, torch.tensor(scaled).view(1, 3, 1, 1))
        if frozen:
            if weights is None:
                raise InputError(
                    "a frozen classifier needs weights: without them, its features are random. Give weights, or leave "
                    "frozen out"
                )
            for name, parameter in model.named_parameters():
                parameter.requires_grad_(name in self.head_names)

    def train(self, mode: bool = True) -> LibraryClassifier:
        """Switch to training or evaluation mode; a frozen model stays in the latter, BatchNorm included."""
        super().train(mode)
        if self.frozen:
            self.model.eval()
        return self

    def forward(self, images: Tensor) -> Tensor:
        """Class logits (N, num_classes) of float images (N, C, H, W) in [-1, 1]."""
        images = images.repeat(1, self.repeats, 1, 1)
        if self.pretrained:
            images = (images - cast(Tensor, self.mean)) / cast(Tensor, self.std)
        if images.shape[-1] != self.size:
            smaller = images.shape[-1] > self.size
            size = (self.size, self.size)
            images = F.interpolate(images, size, mode="bilinear", align_corners=False, antialias=smaller)
        return cast(Tensor, self.model(images))


class TorchvisionClassifier(LibraryClassifier):
    """A model of ``torchvision.models``.

    Grey images are repeated to RGB, small ones enlarged to 64 pixels, and to 224 for the models that take no other
    size (``vit_...``, ``maxvit_...``).

    Args:
        name (str): its name for ``torchvision.models.get_model``, such as ``"resnet18"``.
        num_classes (int), channels (int), image_size (int): see :class:`SmallCNN`.
        weights (Path, optional), frozen (bool): see :class:`LibraryClassifier`.

    Raises:
        InputError: torchvision has no classification model of this name, or the weights do not fit it.
    """

    def __init__(
        self,
        name: str,
        num_classes: int,
        *,
        channels: int,
        image_size: int,
        weights: Path | None = None,
        frozen: bool = False,
    ) -> None:
        from torchvision import models

        if name not in (known := torchvision_names()):
            raise InputError(f"torchvision has no classifier {name!r}; give one of {', '.join(known)}")
        model = models.get_model(name, weights=None, num_classes=num_classes)
        # In all of them the last layer makes the logits. SqueezeNet's is a convolution.
        head = [part for part in model.modules() if isinstance(part, (nn.Linear, nn.Conv2d))][-1]
        size = 224 if name.startswith(("vit_", "maxvit_")) else max(image_size, SMALLEST)
        super().__init__(model, [head], channels=channels, size=size, weights=weights, frozen=frozen)


class TimmClassifier(LibraryClassifier):
    """A model of the library timm.

    Grey images are repeated to RGB, small ones enlarged to 64 pixels, and to the model's own size where it takes no
    other.

    Args:
        name (str): its name for ``timm.create_model``, such as ``"resnet18"`` or ``"vit_tiny_patch16_224"``. The name
            of pre-trained weights after a full stop says how images are normalised; nothing is downloaded.
        num_classes (int), channels (int), image_size (int): see :class:`SmallCNN`.
        weights (Path, optional), frozen (bool): see :class:`LibraryClassifier`.

    Raises:
        InputError: timm is not installed or has no model of this name, or the weights do not fit it.
    """

    def __init__(
        self,
        name: str,
        num_classes: int,
        *,
        channels: int,
        image_size: int,
        weights: Path | None = None,
        frozen: bool = False,
    ) -> None:
        timm = check_timm_name(name)
        model = timm.create_model(name, pretrained=False, num_classes=num_classes)
        head = model.get_classifier()
        config = model.pretrained_cfg
        least = config.get("min_input_size") or (3, SMALLEST, SMALLEST)
        fixed = config.get("fixed_input_size")
        super().__init__(
            model,
            head if isinstance(head, tuple) else [head],  # a distilled model has two
            channels=channels,
            size=config["input_size"][-1] if fixed else max(image_size, SMALLEST, least[-1]),
            weights=weights,
            frozen=frozen,
            normalised=(config["mean"], config["std"]),
        )


def torchvision_names() -> list[str]:
    """Names of torchvision's models that return class logits."""
    from torchvision import models

    return list(models.list_models(module=models, exclude=["googlenet", "inception_v3"]))  # those return tuples


def check_timm_name(name: str) -> ModuleType:
    """The library timm, if it is installed and has a model of this name.

    Raises:
        InputError: it is not, or has none.
    """
    try:
        import timm
    except ModuleNotFoundError as error:
        raise InputError(f"classifier timm:{name} needs the library timm: pip install timm ({error})") from error
    if not timm.is_model(name):
        similar = timm.list_models(f"*{name.split('_')[0]}*") or timm.list_models()
        raise InputError(f"timm {timm.__version__} has no model {name!r}; it has {shortened(similar)}")
    return cast(ModuleType, timm)


def read_weights(path: Path) -> dict[str, Tensor]:
    """The tensors of a safetensors file.

    Raises:
        InputError: there is no such file, or it is of another kind. Pickles are not read, for they can run code.
    """
    try:
        return read_tensors(path)
    except (OSError, SafetensorError) as error:
        raise InputError(
            f"the classifier's weights {path} cannot be read ({error}). Give a safetensors file, such as "
            "safetensors.torch.save_file(model.state_dict(), path) writes"
        ) from error


def load_weights(model: nn.Module, path: Path, head_names: Sequence[str]) -> None:
    """Load a model's weights, all but those of a head of another number of classes.

    Args:
        model (Module): to load them into.
        path (Path): safetensors file.
        head_names (sequence of str): parameters of its head.

    Raises:
        InputError: the file cannot be read, or a name or shape differs elsewhere than in the head.
    """
    state, own = read_weights(path), model.state_dict()
    # Of a head's parameters only the first dimension, the number of classes, may differ. Then all of them are new.
    new_head = any(name not in state or state[name].shape != own[name].shape for name in head_names)
    left_out = tuple(head_names) if new_head else ()

    # Everything else must be there, but for the counters of BatchNorm, which old files lack and torch does without.
    found = {
        "missing": [
            name for name in own if name not in (*state, *left_out) and not name.endswith("num_batches_tracked")
        ],
        "unexpected": [name for name in state if name not in own],
        "of another shape": [
            f"{name} {tuple(value.shape)} instead of {tuple(own[name].shape)}"
            for name, value in state.items()
            if name in own
            and value.shape != own[name].shape
            and not (name in left_out and value.ndim == own[name].ndim and value.shape[1:] == own[name].shape[1:])
        ],
    }
    if any(found.values()):
        parts = [f"{kind}: {shortened(names, most=5)}" for kind, names in found.items() if names]
        raise InputError(
            f"the weights in {path} do not fit this classifier ({'; '.join(parts)}). Name the model that they were "
            "saved from"
        )
    if new_head:
        before = next((f"is of {len(state[name])} classes" for name in head_names if name in state), "is missing")
        _say_once(
            f"{path}: the head ({', '.join(head_names)}) {before}; a new one of {len(own[head_names[0]])} classes is "
            "trained in its place"
        )
    model.load_state_dict({name: value for name, value in state.items() if name not in left_out}, strict=False)


@functools.cache
def _say_once(message: str) -> None:
    """Log a warning, once for all classifiers that are made in this program and its workers."""
    if multiprocessing.parent_process() is None:
        logger.warning(message)
