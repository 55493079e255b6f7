"""The meta device in the place of a GPU. Its tensors have no values: whoever reads one, or brings one back, fails."""

from __future__ import annotations

from contextlib import nullcontext

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

GPU = torch.device("meta")


class NothingWaits(TorchDispatchMode):
    """A context that refuses copies to the device that the CPU waits for: those not told to be non-blocking."""

    def __torch_dispatch__(self, operation, types, args=(), kwargs=None):
        made = operation(*args, **(kwargs or {}))
        if operation.overloadpacket in (torch.ops.aten._to_copy, torch.ops.aten.copy_):
            source, waited_for = args[-1], not (kwargs or {}).get("non_blocking")
            assert not (waited_for and source.device != made.device), f"{tuple(source.shape)} is copied to the device"
        return made


def give_it_autocast(patch: pytest.MonkeyPatch) -> None:
    """Let the device have autocast, turned off."""
    patch.setattr(torch, "is_autocast_enabled", lambda device: False)
    patch.setattr(torch, "autocast", lambda *_, **__: nullcontext())
