"""SHA-256 of what results depend on, to name what is kept on disk."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

PROVENANCE = ("info", "origin", "seen_images")  # of a generator: they change no image


def of_values(*values: Any) -> str:
    """Fingerprint of plain JSON values, tensors and other fingerprints, in order."""
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
    """Fingerprint of a module's class, layers (as its ``repr`` shows them) and state."""
    parts: list[Any] = [type(module).__module__, type(module).__qualname__, repr(module)]
    for name, value in module.state_dict().items():
        parts += [name, value]
    return of_values(*parts)


def differences(saved: Mapping[str, Any], own: Mapping[str, Any]) -> str:
    """Where what was saved is not what is here, for an error; empty where all that is here was saved so."""
    differing = [name for name in own if saved.get(name) != own[name]]
    return "; ".join(f"{name}: saved {saved.get(name)}, here {own[name]}" for name in differing)


def of_callable(function: Callable[..., Any]) -> str:
    """Fingerprint of a function, module or other callable by what it is made of, its closure or attributes included.

    One that cannot be told apart reliably gets a new fingerprint in every process, never an old one.
    """
    from datasets.fingerprint import Hasher  # takes a second to import

    if isinstance(function, nn.Module):
        return of_values(of_module(function), str(Hasher.hash([_attributes(part) for part in function.modules()])))
    return str(Hasher.hash(function))


def _attributes(module: nn.Module) -> dict[str, Any]:
    """What a module keeps beside layers and state, such as a threshold, and is not of every module."""
    common = {*vars(nn.Module()), *PROVENANCE}
    return {name: value for name, value in vars(module).items() if name not in common}
