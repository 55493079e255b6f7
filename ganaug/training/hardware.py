"""Choosing precision and threads, and starting accelerate with them."""

from __future__ import annotations

import os

import torch
from accelerate import Accelerator
from accelerate.utils import DistributedDataParallelKwargs, ProjectConfiguration

from ganaug.core.errors import InputError
from ganaug.core.hardware import best_device, has_bf16, keep_freed_memory, set_cpu_threads
from ganaug.training.settings import TrainingSettings


def start_accelerator(settings: TrainingSettings, *, report_to: str = "none") -> Accelerator:
    """Accelerator for this process, with its share of the cores and the precision that the hardware is good at.

    Args:
        settings (TrainingSettings): for ``mixed_precision`` and ``cpu_threads``.
        report_to (str): tracker, as accelerate names it, or none.

    Raises:
        InputError: the tracker is not installed, or accelerate was launched with fp16 or fp8, or it does not see the
            processes that were started.
    """
    set_cpu_threads(settings.cpu_threads)
    keep_freed_memory()
    if torch.cuda.is_available():
        torch.set_float32_matmul_precision("high")  # TF32 for what is left in fp32; convolutions have it by default
    accelerator = Accelerator(
        # Without this, processes on CPUs started by torchrun would each believe to be alone.
        cpu=not torch.accelerator.is_available(),
        mixed_precision=choose_mixed_precision(settings.mixed_precision),
        log_with=None if report_to == "none" else report_to,
        # accelerate wants a folder for a tracker here; the run's own is put in its place when the run starts.
        project_config=ProjectConfiguration(logging_dir="."),
        # A network passes twice forward (real, fake) before one backward; buffers sent in between would break it.
        kwargs_handlers=[DistributedDataParallelKwargs(broadcast_buffers=False)],
    )
    if report_to != "none" and not accelerator.log_with:
        raise InputError(f"the tracker {report_to} is not installed: pip install {report_to}, or report_to none")
    started = int(os.environ.get("WORLD_SIZE", "1"))
    if started != accelerator.num_processes:
        raise InputError(
            f"{started} processes were started (WORLD_SIZE), and accelerate sees {accelerator.num_processes}. Start "
            "them with torchrun --nproc_per_node, or with accelerate launch after accelerate config"
        )
    return accelerator


def choose_mixed_precision(requested: str) -> str:
    """Resolve ``"auto"``: what ``accelerate launch`` was told, else bf16 where the hardware has it, else fp32.

    fp16 is not offered: accelerate's one gradient scaler would serve two optimizers that must not share it.

    Raises:
        InputError: accelerate was launched with fp16 or fp8.
    """
    if requested != "auto":
        return requested
    launched = os.environ.get("ACCELERATE_MIXED_PRECISION", "no")  # "no" is also what it sets when not told
    if launched not in ("no", "bf16"):
        raise InputError(
            f"accelerate was launched with mixed precision {launched}; ganaug trains in bf16 or no (fp32)"
        )
    if launched == "bf16":
        return "bf16"
    return "bf16" if has_bf16(best_device()) else "no"
