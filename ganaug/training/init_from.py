"""Starting from a trained generator instead of random weights."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from ganaug.core.errors import InputError
from ganaug.core.text import in_short
from ganaug.generators.base import Generator


def init_from(generator: Generator, trained: Generator) -> None:
    """Copy the weights of a trained generator into a new one, in place.

    Classes are matched by name. The embedding of a class that the trained generator does not know starts as the mean
    of those it knows. The new generator also takes over the record of images that the trained one has seen.

    Args:
        generator (Generator): of the same architecture, network options and image shape; its classes may differ where
            they are only in embeddings.
        trained (Generator): whose weights are copied.

    Raises:
        InputError: the two differ in more than their classes, or the architecture has its classes in other layers and
            they are not the same ones in the same order.
    """
    for what in ("architecture", "image_size", "channels"):
        _check(what, getattr(generator, what), getattr(trained, what))
    _check("network options", generator.network_options(), trained.network_options())
    state, own = trained.state_dict(), generator.state_dict()
    embedded = [
        (name, module)
        for name, module in trained.named_modules()
        if isinstance(module, nn.Embedding) and module.num_embeddings == trained.num_classes
    ]
    for name, module in embedded:
        state[f"{name}.weight"] = _by_name(module.weight.detach(), generator, trained)
    others = [name for name, value in state.items() if own[name].shape != value.shape]
    if others:
        raise InputError(
            f"a trained {trained.architecture} has its classes in its layers ({', '.join(others)}), so it can only be "
            f"trained further on the same number of classes: it has {trained.num_classes}, the images have "
            f"{generator.num_classes}"
        )
    if not embedded and generator.label_names != trained.label_names:
        raise InputError(
            f"a trained {trained.architecture} has its classes in its layers, so it can only be trained further on "
            f"the same classes, in the same order: {in_short(', '.join(trained.label_names))}; the images have "
            f"{in_short(', '.join(generator.label_names))}"
        )
    generator.load_state_dict(state)
    generator.seen_images = trained.seen_images


def _by_name(rows: Tensor, generator: Generator, trained: Generator) -> Tensor:
    """Rows of an embedding, (classes, features), in the order of the new generator's classes."""
    row_of = dict(zip(trained.label_names, rows, strict=True))
    return torch.stack([row_of.get(name, rows.mean(0)) for name in generator.label_names])


def _check(what: str, wanted: object, found: object) -> None:
    if wanted != found:
        raise InputError(
            f"a generator can only be trained further on images of its own form: its {what} is {found}, but {wanted} "
            "is wanted. Give the same model, options, resolution and channels"
        )
