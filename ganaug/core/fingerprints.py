"""SHA-256 hashes of what results depend on, which name what is kept on disk."""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

logger = logging.getLogger(__name__)

STATE_FORMAT = 2  # of a state_dict; format 1 had no number, and identified users' code by the module it was in
PROVENANCE = ("info", "origin", "seen_images")  # attributes of a generator that change no image

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


def differences(saved: Mapping[str, Any], own: Mapping[str, Any]) -> str:
    """How saved values differ from one's own, in words for an error message; empty if none of one's own differs."""
    differing = [name for name in own if saved.get(name) != own[name]]
    return "; ".join(f"{name}: saved {saved.get(name)}, here {own[name]}" for name in differing)


def is_told_as_in_0_1(module: nn.Module) -> bool:
    """Whether ganaug 0.1 gave a module the same fingerprint."""
    architecture = getattr(type(module), "architecture", None)
    return not isinstance(architecture, str) or architecture in _FIRST_HOMES


def state_differences(saved: Mapping[str, Any], own: Mapping[str, Any], *, as_in_0_1: bool) -> str:
    """:func:`differences` of states, which have their generator's fingerprint, whatever version saved them.

    Args:
        saved (mapping), own (mapping): the states.
        as_in_0_1 (bool): whether ganaug 0.1, whose states have no format number, gave this generator the same
            fingerprint. Otherwise the two cannot be compared, and a warning says so.
    """
    if "format" in saved:
        return differences(saved, own)
    compared = {name: value for name, value in own.items() if name != "format"}
    if not as_in_0_1 and "generator" in saved:
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


def _attributes(module: nn.Module) -> dict[str, Any]:
    """What a module has besides layers and state, such as a threshold, and not every module has."""
    common = {*vars(nn.Module()), *PROVENANCE}
    found = {name: value for name, value in vars(module).items() if name not in common}
    if getattr(type(module), "architecture", None) in _FIRST_HOMES:
        # A mixin kept the constructor's arguments of these in an attribute; the classifiers that an evaluation keeps
        # are found by it.
        generator: Any = module
        size = {"image_size": generator.image_size, "channels": generator.channels}
        arguments = {**size, **generator.network_options(), "label_names": list(generator.label_names)}
        found["_hub_mixin_config"] = arguments
    return found
