"""From a generator's labels to uint8 images: computed in batches, seeded image by image."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ganaug.core.defaults import usual_defaults
from ganaug.core.errors import InputError
from ganaug.core.hardware import one_thread_each
from ganaug.core.integers import to_int
from ganaug.core.seeding import check_seed, latents
from ganaug.core.text import composed, in_short, numbers_of
from ganaug.sampling.inference import ConditionalGenerator, InferenceCopy
from ganaug.sampling.variations import check_strength


@usual_defaults()
def sample(
    generator: ConditionalGenerator | InferenceCopy,
    labels: Sequence[int] | Sequence[str] | Tensor,
    *,
    seed: int = 0,
    indices: Sequence[int] | None = None,
    epoch: int = 0,
    attempt: int = 0,
    originals: Tensor | None = None,
    strength: float = 1.0,
    drawn: Callable[[int], object] | None = None,
    device: torch.device | None = None,
) -> Tensor:
    """Draw one image per label.

    Image ``k`` depends on the generator, ``labels[k]`` and (seed, epoch, indices[k], attempt) alone, and a variation
    on ``originals[k]`` and the strength: not on the batch it is computed in, the number of workers or the global
    random state.

    Args:
        generator (ConditionalGenerator or InferenceCopy): used on the device it is on and in evaluation mode, and left
            as it was. To draw from one often, make its InferenceCopy first.
        labels (sequence of int or str, or Tensor): shape (N,), the generator's own, as ints or class names.
        seed (int): in [0, 2**64). Default: 0
        indices (sequence of int, optional): number of each image in the seed's sequence, in [0, 2**64). Default: from
            0 to N-1
        epoch (int): numbers another sequence of the same seed. Default: 0
        attempt (int): numbers another image for the same index, as after one that a filter refused. Default: 0
        originals (Tensor, optional): images to vary, uint8 (N, C, H, W), as the generator draws them. Default: images
            are drawn from noise alone
        strength (float): of the variations; see :meth:`ganaug.Generator.vary`. Default: 1
        drawn (callable, optional): called with a number of images each time that so many more are drawn, from one of
            several threads. Default: nothing is called
        device (torch.device, optional): where the images are put. If it is not the CPU, nobody waits for them, and
            images that are not finite are told of when more are drawn. Default: the CPU

    Returns:
        Tensor: uint8 (N, C, H, W) in [0, 255], contiguous, on ``device``.

    Raises:
        InputError: there are ``originals``, and the generator cannot vary images; they are not uint8 or not as many
            as the labels; or ``strength`` is not in (0, 1], or is below 1 without ``originals``.
        ValueError: the seed is out of range, the labels are not a flat sequence of the generator's classes,
            ``indices`` are not as many, or the generator returns images that are not finite.
    """
    check_seed(seed)
    label_tensor = label_numbers(labels, generator)
    if indices is None:
        indices = range(len(label_tensor))
    elif len(indices) != len(label_tensor):
        raise ValueError(f"indices and labels must have the same length, got {len(indices)} and {len(label_tensor)}")

    check_strength(strength)
    if originals is not None and (originals.dtype != torch.uint8 or len(originals) != len(label_tensor)):
        raise InputError(
            f"originals must be uint8 (N, C, H, W), one for each of {len(label_tensor)} labels; got {originals.dtype} "
            f"{tuple(originals.shape)}. Give the images that each label is of"
        )
    if originals is None and strength != 1:
        raise InputError(
            f"strength {strength!r} has no meaning without originals to vary. Give these, or leave it out"
        )

    inference_copy = generator if isinstance(generator, InferenceCopy) else InferenceCopy(generator)

    stays = device is None or device.type == "cpu"

    def one_pass(start: int) -> Tensor:
        some = slice(start, start + inference_copy.rows)
        z = latents(seed, indices[some], inference_copy.latent_dim, epoch=epoch, attempt=attempt)
        given = None if originals is None else originals[some]
        images = inference_copy(z, label_tensor[some], originals=given, strength=strength, wait=stays)
        images = images.to(device or "cpu", non_blocking=not stays)
        if drawn is not None:
            drawn(len(images))
        return images

    # Without labels one pass is made all the same, to know the shape of its images.
    starts = range(0, max(len(label_tensor), 1), inference_copy.rows)
    with one_thread_each() as threads:
        if inference_copy.device.type != "cpu" or min(threads, len(starts)) == 1:
            chunks = [one_pass(start) for start in starts]
        else:
            with ThreadPoolExecutor(threads, initializer=torch.set_num_threads, initargs=(1,)) as pool:
                chunks = list(pool.map(one_pass, starts))
    return torch.cat(chunks).contiguous()  # networks work in channels_last


def label_numbers(labels: Any, generator: ConditionalGenerator | InferenceCopy) -> Tensor:
    """Labels of a generator as ints, int64 (N,).

    Args:
        labels (sequence of int or str, or Tensor): shape (N,).
        generator (ConditionalGenerator or InferenceCopy): whose ``label_names`` say what labels there are. One without
            names is taken to know every int from 0; an unconditional one knows only 0.

    Raises:
        ValueError: the labels are something else, or one is not a class of the generator.
    """
    single = labels if isinstance(labels, str) else None if getattr(labels, "ndim", 0) else to_int(labels)
    if single is not None:
        raise InputError(f"labels must be a sequence, one for each image; got {single!r}. Write sample([{single!r}])")
    names: tuple[str, ...] = tuple(getattr(generator, "label_names", None) or ())

    # Class names become the ints that they stand for.
    listed = isinstance(labels, Iterable) and not isinstance(labels, Tensor | Mapping | AbstractSet)
    if listed and any(isinstance(label, str) for label in labels):
        number_of = numbers_of(names)
        unknown = [label for label in labels if not isinstance(label, str) or composed(label) not in number_of]
        if unknown:
            known = f"the classes are {', '.join(names)}" if names else "it has no label_names, so give ints"
            raise InputError(
                f"labels must be all ints or all class names of the generator, got {unknown[0]!r} among them; {known}"
            )
        labels = [number_of[composed(label)] for label in labels]

    try:
        tensor = labels if isinstance(labels, Tensor) else torch.tensor(np.asarray(labels))
    except (TypeError, ValueError) as error:
        raise InputError(
            f"labels must be a flat sequence of ints or class names, got {in_short(repr(labels))}"
        ) from error
    if tensor.ndim != 1 or (len(tensor) and (tensor.is_floating_point() or tensor.dtype == torch.bool)):
        raise InputError(
            f"labels must be a flat sequence of ints or class names, got shape {tuple(tensor.shape)}, {tensor.dtype}"
        )
    tensor = tensor.to(torch.int64)

    # A label that the network does not have would end in an index error, or in an image of another class.
    conditional = getattr(generator, "conditional", True)
    highest = len(names) - 1 if names else 2**63 - 1 if conditional else 0
    bad = tensor[(tensor < 0) | (tensor > highest)].tolist()
    if bad:
        classes = ", ".join(f"{k}: {name}" for k, name in enumerate(names)) or "not named"
        raise InputError(
            f"labels must be {f'from 0 to {highest}' if names or not conditional else 'from 0'}, got {bad[0]}; "
            + (f"the classes are {classes}" if conditional else "this generator is unconditional")
        )
    return tensor
