"""Starting from a trained generator instead of random weights."""

from __future__ import annotations

import copy
import logging
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from ganaug.core.errors import InputError
from ganaug.core.hardware import device_of, evaluation_mode
from ganaug.core.seeding import forked_rng, latents
from ganaug.core.text import in_short, numbers_of
from ganaug.generators import ACGANGenerator, FlowGenerator, Generator
from ganaug.hub.config import UNRECORDED

logger = logging.getLogger(__name__)


def init_from(generator: Generator, trained: Generator) -> None:
    """Copy the weights of a trained generator into a new one, in place.

    Classes are matched by name. The embedding of a class that the trained generator does not know starts as the mean
    of those it knows. The new generator also takes over the record of images that the trained one has seen, and
    notes that it does not start from random weights.

    Args:
        generator (Generator): of the same architecture, network options and image shape; its classes may differ where
            they are only in embeddings. An acgan can also start from a flow, which it begins as, and a flow from one
            of other steps.
        trained (Generator): whose weights are copied.

    Raises:
        InputError: the two differ in more than their classes, or the architecture has its classes in other layers and
            they are not the same ones in the same order.
    """
    kinds = type(generator), type(trained)
    if kinds in ((ACGANGenerator, FlowGenerator), (FlowGenerator, FlowGenerator)):
        # The same network. In how many steps it is followed is another matter, and it is compared in as many.
        trained = copy.deepcopy(trained)
        trained.steps = generator.steps
    else:
        _check("architecture", generator.architecture, trained.architecture)
    for what in ("image_size", "channels"):
        _check(what, getattr(generator, what), getattr(trained, what))
    wanted, found = generator.network_options(), trained.network_options()
    _check("network options", wanted, {name: value for name, value in found.items() if name in wanted})
    state, own = trained.state_dict(), generator.state_dict()
    embedded = {
        module.weight.data_ptr()
        for module in trained.modules()
        if isinstance(module, nn.Embedding) and module.num_embeddings == trained.num_classes
    }
    # Layers that share the weights of an embedding have them under further names.
    names = [name for name, value in state.items() if value.numel() and value.data_ptr() in embedded]
    state |= {name: _by_name(state[name], generator, trained) for name in names}
    others = [name for name, value in state.items() if own[name].shape != value.shape]
    if others:
        raise InputError(
            f"a trained {trained.architecture} has its classes in its layers ({', '.join(others)}), so it can only be "
            f"trained further on the same number of classes: it has {trained.num_classes}, the images have "
            f"{generator.num_classes}. Start from another generator, or leave init_from out to train a new one"
        )
    before = {name: value.clone() for name, value in own.items()}
    generator.load_state_dict(state)
    if generator.label_names != trained.label_names and not (names and _draws_alike(generator, trained)):
        generator.load_state_dict(before)
        raise InputError(
            f"a trained {trained.architecture} has its classes in its layers, so it can only be trained further on "
            f"the same classes, in the same order: {in_short(', '.join(trained.label_names))}; the images have "
            f"{in_short(', '.join(generator.label_names))}. Start from another generator, or leave init_from out to "
            "train a new one"
        )
    inherit(generator, trained, {"init_from": trained.architecture})
    known = numbers_of(trained.label_names)
    new = [name for name in numbers_of(generator.label_names) if name not in known]
    if new:
        logger.warning(
            "of the classes to train on, %d of %d are not among those of the generator to start from (%s), and start "
            "as their mean: %s",
            len(new), generator.num_classes, in_short(", ".join(trained.label_names)), in_short(", ".join(new)),
        )  # fmt: skip


def inherit(generator: Generator, trained: Generator, how: Mapping[str, Any]) -> None:
    """Remember, in a generator that starts from a trained one, the images that this has seen, or that none knows them.

    Args:
        generator (Generator): that starts from its weights.
        trained (Generator): the other.
        how (mapping): facts about that, for a training to see that the generator does not start from random weights.
    """
    before = trained.info["training"]
    generator.seen_images = trained.seen_images
    generator.info["training"] = {**how, **{name: value for name, value in before.items() if name == UNRECORDED}}


def _by_name(rows: Tensor, generator: Generator, trained: Generator) -> Tensor:
    """Rows of an embedding, (classes, features), in the order of the new generator's classes."""
    number = numbers_of(trained.label_names)
    mean = rows.mean(0)
    return torch.stack([rows[number[name]] if name in number else mean for name in numbers_of(generator.label_names)])


def _draws_alike(generator: Generator, trained: Generator) -> bool:
    """Whether the classes that both have look alike: not only embeddings may depend on the order of the classes."""
    ours, theirs = numbers_of(generator.label_names), numbers_of(trained.label_names)
    both = [name for name in ours if name in theirs][:64]
    z = latents(0, range(len(both)), trained.latent_dim)

    def images(network: Generator, numbers: dict[str, int]) -> Tensor:
        device, labels = device_of(network), torch.tensor([numbers[name] for name in both])
        with torch.inference_mode(), evaluation_mode(network), forked_rng(0, device):
            drawn: Tensor = network(z.to(device), labels.to(device))
        return drawn.float().cpu()

    # Within a grey level, since classes elsewhere in a layer may be added up in another order.
    return not both or (images(generator, ours) - images(trained, theirs)).abs().max().item() <= 2 / 255


def _check(what: str, wanted: object, found: object) -> None:
    if wanted != found:
        raise InputError(
            f"a generator can only be trained further on images of its own form: its {what} is {found}, but {wanted} "
            "is wanted. Give the same model, options, resolution and channels"
        )
