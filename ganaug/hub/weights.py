"""Weights of a generator: reading a safetensors file that anybody may have written."""

from __future__ import annotations

import os
import struct
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from torch import Tensor
from torch.nn.parameter import is_lazy

from ganaug.core.errors import LoadError
from ganaug.core.files import read_tensors, regular_file, sha256_of
from ganaug.core.text import in_short
from ganaug.hub.strict_json import strict_json

WEIGHTS = "model.safetensors"
_DTYPES = {  # of weights, BatchNorm's counters, masks and other buffers, as safetensors calls them
    torch.float32: "F32",
    torch.float64: "F64",
    torch.float16: "F16",
    torch.bfloat16: "BF16",
    torch.int64: "I64",
    torch.int32: "I32",
    torch.int16: "I16",
    torch.int8: "I8",
    torch.uint8: "U8",
    torch.bool: "BOOL",
}
_METADATA_BYTES = 10_000  # the most that the header has beside its tensors
_BLOCK_BYTES = 2**22  # that are looked at together
_BYTES_PER_TENSOR = 200  # the most that the header has for each, beside the name


def check_kinds(where: Path, state: Mapping[str, Any]) -> None:
    """Refuse a state that a safetensors file cannot hold.

    Args:
        where (Path): of the generator, for the message.
        state (mapping): a network's ``state_dict``, on any device.

    Raises:
        LoadError: something in it is not a tensor, has no shape yet, is of a type that is not read, or is expanded.
    """
    for name, value in state.items():
        if not isinstance(value, Tensor):
            wrong = f"is of type {type(value).__name__}, and only tensors are saved"
        elif is_lazy(value):
            wrong = "has no shape before the first pass: give its layer all of its sizes"
        elif value.dtype not in _DTYPES:
            known = ", ".join(str(dtype).removeprefix("torch.") for dtype in _DTYPES)
            wrong = f"is {value.dtype}, which cannot be saved; {known} can (for complex numbers, torch.view_as_real)"
        elif any(size > 1 and stride == 0 for size, stride in zip(value.shape, value.stride(), strict=True)):
            wrong = "has several elements at one place in memory, which cannot be set: call .clone() after expand"
        else:
            continue
        raise LoadError(f"{where}: {in_short(name)} {wrong}")


def read_weights(folder: Path, expected: Mapping[str, Tensor], sha256: str) -> dict[str, Tensor]:
    """Read the weights of a network, if the file holds exactly its tensors.

    Nothing longer than the network's weights can be is read, and no value is, before all names, shapes and types are
    known to be right.

    Args:
        folder (Path): that holds the file.
        expected (mapping): the network's ``state_dict``, on any device, including the meta device.
        sha256 (str): of the file.

    Raises:
        LoadError: the file is missing or damaged, or its hash, names, shapes or types are wrong, or a value is not
            finite.
    """
    path = folder / WEIGHTS
    if not os.path.lexists(path) or path.is_dir():
        others = sorted(
            file.name for file in folder.glob("*") if file.suffix in (".bin", ".pt", ".pth", ".ckpt", ".pkl")
        )
        raise LoadError(
            f"{folder} has no {WEIGHTS}"
            + (f"; {', '.join(others)} may run code when it is opened, and is never loaded" if others else "")
        )
    try:
        _check_header(path, expected)
        if sha256_of(path) != sha256:
            raise LoadError(
                f"{path} is not the file that config.json describes (SHA-256 differs): "
                "the download or the last save was cut short. Download or save it again"
            )
        tensors = read_tensors(path)
    except (SafetensorError, OSError) as error:
        raise LoadError(f"{path} cannot be read: {error}") from error
    broken = [name for name, tensor in tensors.items() if not torch.isfinite(tensor).all()]
    if broken:
        raise LoadError(
            f"{path} has NaN or infinite values in {broken[0]}; the run that wrote it diverged. Train it again"
        )
    return tensors


def read_hashes(path: Path, name: str) -> Tensor:
    """Read a file of one tensor, int64 (N,), in which each value is larger than the one before.

    Args:
        path (Path): the file.
        name (str): of the tensor.

    Raises:
        LoadError: the file is missing or damaged, or holds anything else. Little of it has been read by then.
    """
    right = f"{path} must hold one tensor, {name}: int64, of one dimension, sorted, no value twice"
    try:
        found, length = _header(path, "hashes", longest=_METADATA_BYTES + _BYTES_PER_TENSOR)
        entry = found.get(name)
        shape = entry.get("shape") if isinstance(entry, dict) else None
        size = path.stat().st_size - 8 - length
        if len(found) != 1 or not isinstance(entry, dict) or entry.get("dtype") != "I64" or shape != [size / 8]:
            raise LoadError(f"{right}; its header says otherwise, or its size. Download or save it again")

        # Without holes or repetitions, which cost nothing to make and nothing to download.
        with regular_file(path) as file:
            file.seek(8 + length)
            before = torch.empty(0, dtype=torch.int64)
            while block := file.read(_BLOCK_BYTES):
                values = torch.cat([before, torch.frombuffer(bytearray(block), dtype=torch.int64)])
                if not (values[1:] > values[:-1]).all():
                    raise LoadError(f"{right}; its values are not. Download or save it again")
                before = values[-1:]
        return read_tensors(path)[name]
    except (SafetensorError, OSError) as error:
        raise LoadError(f"{path} cannot be read: {error}. Download or save it again") from error


def longest_file(expected: Mapping[str, Tensor]) -> int:
    """The most bytes that a file with a network's weights can have."""
    return 8 + _longest_header(expected) + _size(expected)


def _longest_header(expected: Mapping[str, Tensor]) -> int:
    return _METADATA_BYTES + sum(_BYTES_PER_TENSOR + 6 * len(name) for name in expected)  # 6: \u1234


def _size(expected: Mapping[str, Tensor]) -> int:
    return sum(each.numel() * each.element_size() for each in expected.values())


def _check_header(path: Path, expected: Mapping[str, Tensor]) -> None:
    found, length = _header(path, "weights", longest=_longest_header(expected))
    for what, names in (("lack", expected.keys() - found.keys()), ("also have", found.keys() - expected.keys())):
        if names:
            some = ", ".join(in_short(name) for name in sorted(names)[:3])
            raise LoadError(f"{path}: the weights {what} {len(names)} tensors, as {some}")
    for name, tensor in expected.items():
        entry = found[name] if isinstance(found[name], dict) else {}
        there, wanted = (entry.get("dtype"), entry.get("shape")), (_DTYPES.get(tensor.dtype), list(tensor.shape))
        if there != wanted:
            raise LoadError(
                f"{path}: {name} must be {wanted[0]} of {wanted[1]} by the config, and is {in_short(there[0])} of "
                f"{in_short(there[1])}"
            )
    size, right = path.stat().st_size, 8 + length + _size(expected)
    if size != right:
        raise LoadError(f"{path} has {size:,} bytes instead of {right:,}: it is damaged. Download or save it again")


def _header(path: Path, what: str, *, longest: int) -> tuple[dict[str, Any], int]:
    """What a safetensors file says about its tensors, and the bytes that it takes to say so."""
    with regular_file(path) as file:
        start = file.read(8)
        length = struct.unpack("<Q", start)[0] if len(start) == 8 else 0
        if not 2 <= length <= longest:
            raise LoadError(
                f"{path} is damaged, or holds other {what}: its header has {length:,} bytes. Download or save it again"
            )
        found = _parse(path, file.read(length))
    found.pop("__metadata__", None)
    return found, length


def _parse(path: Path, header: bytes) -> dict[str, Any]:
    try:
        found = strict_json(header, entry="tensor")
    except ValueError as error:
        raise LoadError(
            f"{path} is damaged: its header cannot be read: {in_short(str(error))}. Download or save it again"
        ) from error
    if not isinstance(found, dict):
        raise LoadError(f"{path} is damaged: its header is not an object")
    return found
