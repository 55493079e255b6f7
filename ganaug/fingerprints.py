"""SHA-256 of what results depend on, to name what is kept on disk."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn


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
    """Fingerprint of a function or other callable by what it is made of, its closure included.

    One that cannot be told apart reliably gets a new fingerprint in every process, never an old one.
    """
    if isinstance(function, nn.Module):
        return of_module(function)
    from datasets.fingerprint import Hasher  # takes a second to import

    return str(Hasher.hash(function))
