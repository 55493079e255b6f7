"""Starting accelerate, processes that wait or were given the same things, and BatchNorm over the batches of all."""

from __future__ import annotations

import os
import socket
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from datetime import timedelta
from typing import Any, TypeVar, cast

import torch
import torch.distributed as dist
from accelerate import Accelerator
from accelerate.utils import DistributedDataParallelKwargs, ProjectConfiguration, broadcast_object_list, gather_object
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from ganaug.core.errors import InputError, LoadError
from ganaug.core.hardware import best_device, check_processes, has_bf16, keep_freed_memory, set_cpu_threads
from ganaug.training.settings import TrainingSettings

Result = TypeVar("Result")


def start_accelerator(settings: TrainingSettings, *, report_to: str = "none") -> Accelerator:
    """An Accelerator for this process, with its share of the CPU cores and the precision that suits the hardware.

    Args:
        settings (TrainingSettings): ``mixed_precision`` and ``cpu_threads`` are used.
        report_to (str): a tracker by its name in accelerate, or ``"none"``. Default: ``"none"``

    Raises:
        InputError: the tracker is not installed; accelerate was launched with fp16 or fp8; or it does not see all
            processes that were to be started.
    """
    set_cpu_threads(settings.cpu_threads)
    keep_freed_memory()
    if torch.cuda.is_available():
        torch.set_float32_matmul_precision("high")  # TF32 for what runs in fp32; convolutions have it by default
    accelerator = Accelerator(
        # Without this, each CPU process started by torchrun would believe it is the only one.
        cpu=not torch.accelerator.is_available(),
        mixed_precision=choose_mixed_precision(settings.mixed_precision),
        log_with=None if report_to == "none" else report_to,
        # accelerate requires a folder for trackers here; it is replaced by the run's own when the run starts.
        project_config=ProjectConfiguration(logging_dir="."),
        # A network has two forward passes (real, fake) before one backward, which broadcasts in between would break.
        kwargs_handlers=[DistributedDataParallelKwargs(broadcast_buffers=False)],
    )
    if report_to != "none" and not accelerator.log_with:
        raise InputError(f"the tracker {report_to} is not installed: pip install {report_to}, or report_to none")
    check_processes(accelerator.num_processes)
    return accelerator


def choose_mixed_precision(requested: str) -> str:
    """Resolve ``"auto"``: what ``accelerate launch`` was told; otherwise bf16 if the hardware has it, else fp32.

    fp16 is not offered: the two optimizers of a GAN would share accelerate's only gradient scaler, and must not.

    Args:
        requested (str): ``"auto"``, ``"bf16"`` or ``"no"``, of which the last two are returned as they are.

    Raises:
        InputError: accelerate was launched with fp16 or fp8.
    """
    if requested != "auto":
        return requested
    launched = os.environ.get("ACCELERATE_MIXED_PRECISION", "no")  # "no" is also what it sets by default
    if launched not in ("no", "bf16"):
        raise InputError(
            f"accelerate was launched with mixed precision {launched}; ganaug trains in bf16 or no (fp32)"
        )
    if launched == "bf16":
        return "bf16"
    return "bf16" if has_bf16(best_device()) else "no"


@contextmanager
def going_first(accelerator: Accelerator, first: bool) -> Iterator[None]:
    """A context that some processes are in before the others, which wait for them as long as it takes.

    Processes that train give one another up after half an hour, on GPUs after ten minutes. Many images take longer to
    decode and to label.

    Args:
        accelerator (Accelerator): the processes; all must call this together.
        first (bool): whether this one goes first.
    """
    if accelerator.num_processes == 1:
        yield
        return
    patient = cast(dist.ProcessGroup, dist.new_group(backend="gloo", timeout=timedelta(days=100)))
    if not first:
        dist.barrier(patient)
    yield
    if first:
        dist.barrier(patient)


def on_main(accelerator: Accelerator, work: Callable[[], Result]) -> Result:
    """What work on the main process returns, on all processes: others may be on machines that do not see its files.

    Raises:
        InputError, LoadError, OSError: the work did; on all of them, so that none waits for one that has ended.
    """
    found: Any = None
    if accelerator.is_main_process:
        try:
            found = work()
        except (InputError, LoadError, OSError) as error:
            found = error
    [found] = broadcast_object_list([found])
    if isinstance(found, Exception):
        raise found
    return cast(Result, found)


# Of the settings: how many threads a process has may follow from the machine that it is on.
ITS_OWN = ("cpu_threads",)


def check_same_on_all(accelerator: Accelerator, facts: Mapping[str, Any]) -> None:
    """Refuse, on all processes, facts that are not the same on all; all must call this together.

    Each machine has files of its own, and its command is typed there. Processes that differ in what they train would
    wait for one another for ever, or train one network on images of two kinds.

    Args:
        accelerator (Accelerator): the processes.
        facts (mapping): by name, what must be the same on all, as JSON values; :data:`ITS_OWN` are left out.

    Raises:
        InputError: a process has other facts than the main one; the message names them, and the machines.
    """
    found = gather_object([(socket.gethostname(), {name: facts[name] for name in facts if name not in ITS_OWN})])
    main_host, main = found[0]
    for number, (host, own) in enumerate(found):
        differences = "; ".join(
            f"{name} {_short(own.get(name))} instead of {_short(main.get(name))}"
            for name in {**main, **own}
            if main.get(name) != own.get(name)
        )
        if differences:
            raise InputError(
                f"process {number} on {host} has other values than the main process on {main_host}: {differences}. "
                "Give all machines the same images, the same flags, and, to resume a run, its folder as it is now"
            )


def _short(value: Any) -> Any:
    is_digest = isinstance(value, str) and len(value) == 64
    return value[:12] if is_digest else value


def has_batch_norm(network: nn.Module) -> bool:
    """Whether a network has BatchNorm layers, which need more than one image at a time."""
    return any(isinstance(part, _BatchNorm) for part in network.modules())


def synchronise_batch_norm(network: nn.Module, device: torch.device) -> None:
    """Make the BatchNorm layers of a network take mean and variance over all processes; its state keeps its names.

    Args:
        network (nn.Module): changed in place; must not be a BatchNorm layer itself.
        device (torch.device): where it will be. torch's SyncBatchNorm does not run on CPUs.
    """
    if device.type != "cpu":
        nn.SyncBatchNorm.convert_sync_batchnorm(network)
        return
    for part in network.modules():
        if isinstance(part, _BatchNorm):
            part.forward = _Synchronised(part)  # type: ignore[assignment]


class _Synchronised:
    """The forward pass of a BatchNorm layer over all processes, in plain tensor operations.

    Source: Ioffe & Szegedy 2015, "Batch normalization", algorithm 1.
    """

    def __init__(self, layer: Any) -> None:
        self.layer = layer
        self.alone = layer.forward

    def __call__(self, values: Tensor) -> Tensor:
        layer = self.layer
        if not layer.training:
            return cast(Tensor, self.alone(values))
        dims = [0, *range(2, values.ndim)]
        shape = [1, -1, *[1] * (values.ndim - 2)]
        wide = values.to(layer.running_mean.dtype)
        mean = _mean_over_processes(wide.mean(dims))
        centred = wide - mean.view(shape)
        variance = _mean_over_processes(centred.square().mean(dims))
        self._follow(mean.detach(), variance.detach(), values.numel() // values.shape[1] * dist.get_world_size())
        out = centred * (variance + layer.eps).rsqrt().view(shape)
        if layer.affine:
            out = out * layer.weight.view(shape) + layer.bias.view(shape)
        return cast(Tensor, out.to(values.dtype))

    @torch.no_grad()
    def _follow(self, mean: Tensor, variance: Tensor, count: int) -> None:
        layer = self.layer
        layer.num_batches_tracked += 1
        layer.running_mean.lerp_(mean, layer.momentum)
        layer.running_var.lerp_(variance * count / (count - 1), layer.momentum)


class _MeanOverProcesses(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, values: Tensor) -> Tensor:
        values = values.clone()
        dist.all_reduce(values)
        return values / dist.get_world_size()

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Tensor:
        # The value of each process is in the mean of all, and so in the loss of all.
        return _MeanOverProcesses.forward(ctx, gradients[0])


def _mean_over_processes(values: Tensor) -> Tensor:
    return _MeanOverProcesses.apply(values)  # type: ignore[no-any-return, no-untyped-call]
