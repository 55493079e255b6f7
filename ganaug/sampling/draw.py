"""From labels to uint8 images: batched, and seeded image by image."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

import torch
from torch import Tensor

from ganaug.core.hardware import one_thread_each
from ganaug.core.seeding import check_seed, latents
from ganaug.sampling.inference import ConditionalGenerator, DrawingForm


def sample(
    generator: ConditionalGenerator | DrawingForm,
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
        generator (ConditionalGenerator or DrawingForm): used on the device it is on and in evaluation mode; left as it
            was. Of one that is called often, make a DrawingForm first.
        labels (sequence of int or Tensor): shape (N,).
        seed (int): in [0, 2**64). Default: 0
        indices (sequence of int, optional): the number of each image in the seed's sequence. Default: 0 .. N-1
        epoch (int): another sequence of the same seed. Default: 0
        attempt (int): another image for the same index, such as after one that a filter refused. Default: 0

    Returns:
        Tensor: uint8 of shape (N, C, H, W), contiguous, on the CPU.

    Raises:
        ValueError: the seed or the labels are not what they should be, or the generator returns images that are not
            finite.
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
        raise ValueError(f"indices and labels must be of one length, got {len(indices)} and {len(label_tensor)}")

    form = generator if isinstance(generator, DrawingForm) else DrawingForm(generator)

    def draw(start: int) -> Tensor:
        some = slice(start, start + form.rows)
        z = latents(seed, indices[some], form.latent_dim, epoch=epoch, attempt=attempt)
        return form(z, label_tensor[some]).cpu()

    # Without labels one pass is made all the same, for the shape of its images.
    starts = range(0, max(len(label_tensor), 1), form.rows)
    with one_thread_each() as threads:
        if form.device.type != "cpu" or min(threads, len(starts)) == 1:
            chunks = [draw(start) for start in starts]
        else:
            with ThreadPoolExecutor(threads, initializer=torch.set_num_threads, initargs=(1,)) as pool:
                chunks = list(pool.map(draw, starts))
    return torch.cat(chunks).contiguous()  # networks work in channels_last
