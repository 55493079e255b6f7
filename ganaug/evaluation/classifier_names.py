"""What a classifier is called on the command line, and what makes it."""

from __future__ import annotations

import importlib
import operator
import os
import sys
from functools import partial
from pathlib import Path
from typing import cast

from ganaug.core.errors import InputError
from ganaug.evaluation.backbones import (
    TimmClassifier,
    TorchvisionClassifier,
    check_timm_name,
    read_weights,
    torchvision_names,
)
from ganaug.evaluation.networks import ClassifierFactory, SmallCNN, SmallViT

DEFAULT = "small-cnn"
BUILT_IN: dict[str, ClassifierFactory] = {DEFAULT: SmallCNN, "small-vit": SmallViT}


def classifier_named(name: str, *, weights: Path | None = None, frozen: bool = False) -> ClassifierFactory:
    """What makes the classifier of a name.

    Args:
        name (str): ``small-cnn``, ``small-vit``, ``torchvision:resnet18`` (or ``resnet18``), ``timm:NAME``, or
            ``module:function``, which is imported; the working directory is searched first, as by ``python -m``.
        weights (Path, optional): safetensors file with the ``state_dict`` of a model of torchvision or timm, trained
            on any number of classes. Default: untrained
        frozen (bool): train only the last layer of a model with weights. Default: False

    Returns:
        ClassifierFactory: picklable, as far as a function of the user's is.

    Raises:
        InputError: the name, the module or the function is not known or not callable, or there are weights that
            cannot be read or do not go with this kind of classifier.
    """
    library, colon, model = name.partition(":")
    if not colon:
        library, model = "torchvision", name
    if name in BUILT_IN or library not in ("torchvision", "timm"):
        if weights is not None or frozen:
            raise InputError(
                f"classifier {name} takes no weights from a file and cannot be frozen: only models of torchvision and "
                "timm can. A function of your own can load its weights itself"
            )
        return BUILT_IN[name] if name in BUILT_IN else _imported(name)

    # What is wrong with a model's name or file is found here, not after images and generators have been opened.
    if frozen and weights is None:
        raise InputError(
            f"a frozen {name} needs weights, for without them its features are random. Give their file "
            "(--classifier_weights), or leave classifier_frozen out"
        )
    if library == "timm":
        check_timm_name(model)
    elif model not in (known := torchvision_names()):
        raise InputError(
            f"classifier {name!r} is not known; give {', '.join(BUILT_IN)}, timm:NAME, module:function or one of "
            f"torchvision: {', '.join(known)}"
        )
    make = TimmClassifier if library == "timm" else TorchvisionClassifier
    if weights is None:
        return partial(make, model)
    weights = weights.expanduser().resolve()
    read_weights(weights)
    return partial(make, model, weights=weights, frozen=frozen)


def _imported(name: str) -> ClassifierFactory:
    """The function of a name such as ``package.module:function``."""
    module_name, _, function_name = name.partition(":")
    # For the module itself, what it imports, and processes that are started later, which get this path.
    if (here := os.getcwd()) not in sys.path:
        sys.path.insert(0, here)
    try:
        module = importlib.import_module(module_name)
    except ValueError as error:  # an empty name
        raise InputError(f"classifier {name!r} is not of the form module:function") from error
    except ModuleNotFoundError as error:
        if not error.name or not f"{module_name}.".startswith(f"{error.name}."):
            raise  # the module is there, and what it imports is not
        raise InputError(
            f"classifier {name}: there is no module {error.name}, neither in {here} nor installed"
        ) from error
    try:
        function = operator.attrgetter(function_name)(module)
    except AttributeError as error:
        raise InputError(f"classifier {name}: {module.__file__} has no {function_name!r}") from error
    if not callable(function):
        raise InputError(f"classifier {name}: {function_name} is not callable but {type(function).__name__}")
    return cast(ClassifierFactory, function)
