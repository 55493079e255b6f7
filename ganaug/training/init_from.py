"""Starting from a trained generator instead of random weights."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from ganaug.core.errors import InputError
from ganaug.core.text import in_short
from ganaug.generators.base import Generator


def init_from(generator: Generator, trained: Generator) -> None:
    """Give a new generator the weights of a trained one, in place.

    Classes meet by name. Embeddings of classes that the trained generator does not know start as the mean of those
    that it knows. The new generator remembers the images that the trained one has seen.

    Args:
        generator (Generator): of the same architecture, options and image shape; its classes may be others.
        trained (Generator): where the weights come from.

    Raises:
        InputError: the two differ in more than their classes.
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
            f"the classes of a trained {trained.architecture} are in its layers ({', '.join(others)}), so it can only "
            f"be trained further on the same number of classes: it has {trained.num_classes}, the images have "
            f"{generator.num_classes}"
        )
    if not embedded and generator.label_names != trained.label_names:
        raise InputError(
            f"the classes of a trained {trained.architecture} are in its layers, so it can only be trained further on "
            f"the same classes, in the same order: {in_short(', '.join(trained.label_names))}; the images have "
            f"{in_short(', '.join(generator.label_names))}"
        )
    generator.load_state_dict(state)
    generator.seen_images = trained.seen_images


def _by_name(rows: Tensor, generator: Generator, trained: Generator) -> Tensor:
    row_of = dict(zip(trained.label_names, rows, strict=True))
    return torch.stack([row_of.get(name, rows.mean(0)) for name in generator.label_names])


def _check(what: str, wanted: object, found: object) -> None:
    if wanted != found:
        raise InputError(
            f"a generator can be trained further on images of its own form only: its {what} is {found}, and {wanted} "
            "is wanted. Give the same model, options, resolution and channels"
        )
