"""From a generator's labels to uint8 images: computed in batches, seeded image by image."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

import torch
from torch import Tensor

from ganaug.core.defaults import usual_defaults
from ganaug.core.hardware import one_thread_each
from ganaug.core.seeding import check_seed, latents
from ganaug.sampling.inference import ConditionalGenerator, InferenceCopy


@usual_defaults()
def sample(
    generator: ConditionalGenerator | InferenceCopy,
    labels: Sequence[int] | Tensor,
    *,
    seed: int = 0,
    indices: Sequence[int] | None = None,
    epoch: int = 0,
    attempt: int = 0,
) -> Tensor:
    """Draw one image per label.

    Image ``k`` depends on the generator, ``labels[k]`` and (seed, epoch, indices[k], attempt) alone: not on the batch
    it is computed in, the number of workers or the global random state.

    Args:
        generator (ConditionalGenerator or InferenceCopy): used on the device it is on and in evaluation mode, and left
            as it was. To draw from one often, make its InferenceCopy first.
        labels (sequence of int or Tensor): shape (N,), the generator's own.
        seed (int): in [0, 2**64). Default: 0
        indices (sequence of int, optional): number of each image in the seed's sequence, in [0, 2**64). Default: from
            0 to N-1
        epoch (int): numbers another sequence of the same seed. Default: 0
        attempt (int): numbers another image for the same index, as after one that a filter refused. Default: 0

    Returns:
        Tensor: uint8 (N, C, H, W) in [0, 255], contiguous, on the CPU.

    Raises:
        ValueError: the seed is out of range, the labels are not a flat sequence of ints, ``indices`` are not as many,
            or the generator returns images that are not finite.
    """
    check_seed(seed)
    label_tensor = torch.as_tensor(labels)
    if label_tensor.ndim != 1 or (label_tensor.numel() and label_tensor.dtype.is_floating_point):
        raise ValueError(
            f"labels must be a flat sequence of ints, got shape {tuple(label_tensor.shape)}, {label_tensor.dtype}"
        )
    label_tensor = label_tensor.to(torch.int64)
    if indices is None:
        indices = range(len(label_tensor))
    elif len(indices) != len(label_tensor):
        raise ValueError(f"indices and labels must have the same length, got {len(indices)} and {len(label_tensor)}")

    inference_copy = generator if isinstance(generator, InferenceCopy) else InferenceCopy(generator)

    def one_pass(start: int) -> Tensor:
        some = slice(start, start + inference_copy.rows)
        z = latents(seed, indices[some], inference_copy.latent_dim, epoch=epoch, attempt=attempt)
        return inference_copy(z, label_tensor[some]).cpu()

    # Without labels one pass is made all the same, to know the shape of its images.
    starts = range(0, max(len(label_tensor), 1), inference_copy.rows)
    with one_thread_each() as threads:
        if inference_copy.device.type != "cpu" or min(threads, len(starts)) == 1:
            chunks = [one_pass(start) for start in starts]
        else:
            with ThreadPoolExecutor(threads, initializer=torch.set_num_threads, initargs=(1,)) as pool:
                chunks = list(pool.map(one_pass, starts))
    return torch.cat(chunks).contiguous()  # networks work in channels_last
