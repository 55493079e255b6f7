"""SHA-256 hashes of what results depend on, which name what is kept on disk.

What a result depends on is defined here, once for each kind of thing:

- a network's weights, by :func:`of_module`: what was trained;
- a generator, by :func:`of_generator`: weights, and the options that change what it draws, such as a flow's steps.
  States of datasets and streams compare it, for they are loaded on other machines, too;
- code of the user's, by :func:`of_callable` and :func:`of_source`: by its name, by what it holds, and by its text,
  because a module may be edited between two runs. Whoever names a file by it adds what the code *does* with a few
  inputs, since the text does not show what it calls.
"""

from __future__ import annotations

import functools
import hashlib
import inspect
import json
import logging
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

logger = logging.getLogger(__name__)

# Of a state_dict. Format 1 had no number, and identified users' code by the module it was in; format 2 did not have
# the options of a generator.
STATE_FORMAT = 3
PROVENANCE = ("info", "origin", "seen_images")  # attributes of a generator that change no image

_VERSIONED = ("ganaug", "torch", "torchvision", "builtins", "functools")  # whose code a version tells

# Fingerprints once hashed a class's name and the module it was in. Those of the first architectures still do, so that
# what was kept, saved or begun before is found again wherever the class is now. Later ones hash the architecture.
_FIRST_HOMES = {
    "acgan-28": ("ganaug.generators.acgan28", "ACGAN28Generator"),
    "acgan-64": ("ganaug.generators.acgan64", "ACGAN64Generator"),
    "cgan-maxout": ("ganaug.generators.cgan_maxout", "CGANMaxoutGenerator"),
    "cgan-mlp": ("ganaug.generators.cgan_mlp", "CGANMLPGenerator"),
    "dcgan-32": ("ganaug.generators.dcgan32", "DCGAN32Generator"),
    "flow": ("ganaug.generators.flow", "FlowGenerator"),
    "sngan": ("ganaug.generators.sngan", "SNGANGenerator"),
}


def of_values(*values: Any) -> str:
    """Fingerprint of plain JSON values, tensors and other fingerprints, in the given order."""
    digest = hashlib.sha256()
    for value in values:
        if isinstance(value, Tensor):
            digest.update(f"{value.dtype} {tuple(value.shape)}".encode())
            digest.update(value.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().data)
        else:
            digest.update(json.dumps(value, sort_keys=True).encode())
        digest.update(b"\0")
    return digest.hexdigest()


def of_images(images: Tensor) -> Tensor:
    """First 8 bytes of the SHA-256 of each image's shape and pixels, int64 (N,), of uint8 images (N, C, H, W).

    Equal images have equal hashes, whatever dataset they are in. Among different images, two equal hashes are to be
    expected only in billions.
    """
    shape = repr(tuple(images.shape[1:])).encode()
    rows = images.flatten(1).numpy()
    prefixes = b"".join(hashlib.sha256(shape + row.tobytes()).digest()[:8] for row in rows)
    return torch.from_numpy(np.frombuffer(prefixes, dtype="<i8").astype(np.int64))


def of_module(module: nn.Module) -> str:
    """Fingerprint of a module's architecture, layers (as its ``repr`` shows them) and state.

    A module without ``architecture`` is identified by its class and the Python module that defines it.
    """
    architecture = getattr(type(module), "architecture", None)
    if isinstance(architecture, str):
        kind = _FIRST_HOMES.get(architecture, (architecture,))
    else:
        kind = (type(module).__module__, type(module).__qualname__)
    parts: list[Any] = [*kind, repr(module)]
    for name, value in module.state_dict().items():
        parts += [name, value]
    return of_values(*parts)


def of_generator(module: nn.Module, weights: str) -> str:
    """Fingerprint of a generator: ``weights``, its :func:`of_module`, and its options, which need not show in it."""
    network_options: Any = getattr(module, "network_options", dict)
    return of_values(weights, {name: repr(value) for name, value in network_options().items()})


def differences(saved: Mapping[str, Any], own: Mapping[str, Any]) -> str:
    """How saved values differ from one's own, in words for an error message; empty if none of one's own differs."""
    differing = [name for name in own if saved.get(name) != own[name]]
    return "; ".join(f"{name}: saved {saved.get(name)}, here {own[name]}" for name in differing)


def is_told_as_in_0_1(module: nn.Module) -> bool:
    """Whether ganaug 0.1 gave a module the same fingerprint."""
    architecture = getattr(type(module), "architecture", None)
    return not isinstance(architecture, str) or architecture in _FIRST_HOMES


def state_differences(
    saved: Mapping[str, Any], own: Mapping[str, Any], *, generator_in_format_2: str, as_in_0_1: bool
) -> str:
    """:func:`differences` of states, which have their generator's fingerprint, whatever version saved them.

    Args:
        saved (mapping), own (mapping): the states.
        generator_in_format_2 (str): the own generator's fingerprint as states of format 2 have it.
        as_in_0_1 (bool): whether ganaug 0.1, whose states have no format number, gave this generator the same
            fingerprint. Otherwise the two cannot be compared, and a warning says so.
    """
    if saved.get("format") == STATE_FORMAT:
        return differences(saved, own)
    compared = {name: value for name, value in own.items() if name != "format"}
    compared["generator"] = generator_in_format_2
    if "format" not in saved and not as_in_0_1 and "generator" in saved:
        del compared["generator"]
        logger.warning(
            "the state was saved by ganaug 0.1, which identified filters and your own networks by their module paths, "
            "so its generator and filter could not be compared with those of this dataset"
        )
    return differences(saved, compared)


def of_callable(function: Callable[..., Any]) -> str:
    """Fingerprint of a function, module or other callable by what it is made of, closure and attributes included.

    A callable that cannot be identified reliably gets a new fingerprint in every process, never an old one.
    """
    from datasets.fingerprint import Hasher  # takes a second to import

    if isinstance(function, nn.Module):
        return of_values(of_module(function), str(Hasher.hash([_attributes(part) for part in function.modules()])))
    return str(Hasher.hash(function))


def of_source(*things: object) -> str:
    """Fingerprint of the text of functions, classes and objects of the user's, and of what they are made of.

    That is a module's parts, a class's bases, the object of a bound method, what a partial or a decorator wraps and
    what a function's closure holds. Of torch, its relatives and this package the version is enough, which whoever
    names a file adds. Code that is in no file, such as that of ``exec``, has no text.
    """
    pending: list[Any] = list(things)
    seen: dict[int, Any] = {}  # by id; kept, so that none of them is freed and its id given to another
    texts = set()
    while pending:
        thing = pending.pop()
        if id(thing) in seen:
            continue
        seen[id(thing)] = thing
        pending.append(inspect.getattr_static(thing, "__wrapped__", None))
        if isinstance(thing, functools.partial):
            pending += [thing.func, *thing.args, *thing.keywords.values()]
        elif inspect.ismethod(thing):
            pending += [thing.__func__, thing.__self__]
        elif inspect.isfunction(thing) or inspect.isclass(thing):
            if str(thing.__module__).partition(".")[0] in _VERSIONED:
                continue
            # By its code, the text of a decorated function is the wrapper's; by itself, it would be the wrapped one's.
            try:
                texts.add(inspect.getsource(thing if inspect.isclass(thing) else thing.__code__))
            except (OSError, TypeError):  # of a class, the functions may have one: in a notebook
                pending += [value for value in vars(thing).values() if inspect.isfunction(value)]
            if inspect.isclass(thing):
                pending += thing.__bases__
                continue
            for cell in thing.__closure__ or ():
                with suppress(ValueError):  # it is empty
                    pending.append(cell.cell_contents)
        else:
            pending += [type(part) for part in thing.modules()] if isinstance(thing, nn.Module) else [type(thing)]
    return of_values(sorted(texts))


def _attributes(module: nn.Module) -> dict[str, Any]:
    """What a module has besides layers and state, such as a threshold, and not every module has."""
    common = {*vars(nn.Module()), *PROVENANCE}
    return {name: value for name, value in vars(module).items() if name not in common}
