"""Training a classifier on labelled and unlabelled images together, by consistency between views of an image."""

from __future__ import annotations

from collections.abc import Callable
from copy import deepcopy
from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ganaug.core.defaults import usual_defaults
from ganaug.core.errors import InputError
from ganaug.core.hardware import has_bf16
from ganaug.core.integers import positive_int
from ganaug.core.pixels import to_float
from ganaug.core.seeding import Purpose, check_seed, forked_rng, random_stream
from ganaug.data import LabelledImages
from ganaug.data.stored import Pixels
from ganaug.evaluation.augmentation import BatchTransform
from ganaug.evaluation.classifier import check_logits, optimizer_and_schedule
from ganaug.evaluation.networks import ClassifierFactory, SmallCNN

LABELLED = 0.25  # share of a batch
RAMP = 300  # steps until answers of the teacher count fully; its first ones are worth nothing
TEACHER_DECAY = 0.995  # per step, of the teacher's average over the student's weights
SHARES_DECAY = 0.99  # per step, of the average over the teacher's answers


@usual_defaults()
def train_semi_supervised(
    labelled: LabelledImages,
    unlabeled: Pixels,
    factory: ClassifierFactory = SmallCNN,
    *,
    weak: BatchTransform,
    strong: BatchTransform,
    steps: int = 3000,
    batch_size: int = 128,
    seed: int = 0,
    weights: Tensor | None = None,
    device: torch.device | str = "cpu",
    each_step: Callable[[], object] | None = None,
) -> nn.Module:
    """Train a classifier on labelled images, and to answer on others as it does on an easier view of them.

    A quarter of each batch is labelled. A teacher, which is the average over the classifier's earlier weights, answers
    on weakly augmented views of the unlabelled images. How often it gives each class is brought to the class shares of
    the labelled images. The classifier learns these answers, all of them and as uncertain as they are, on strongly
    augmented views, and the labels likewise. Torch's global random state is left as it was.

    Args:
        labelled (LabelledImages): square images. Unlabelled ones are taken to have its class shares.
        unlabeled (Tensor or StoredImages): images, uint8 (N, C, H, W), of the same shape as the labelled ones.
        factory (callable): makes the classifier. Default: :class:`SmallCNN`
        weak, strong (callable): augmentations; see ``augment`` of :func:`train_classifier`.
        steps (int), batch_size (int): the budget. Default: 3,000 steps of 128 images
        seed (int): of weights, order and augmentation. Default: 0
        weights (Tensor, optional): float (M,), how often each labelled image is drawn, relative to the others.
            Default: all equally often
        device (torch.device or str): to train on. Default: cpu
        each_step (callable, optional): called after each step.

    Returns:
        nn.Module: the teacher, in evaluation mode, on the device.

    Raises:
        InputError: the unlabelled images have another shape, a number is out of range, or the classifier returns
            something other than logits of the classes.

    Sources: Tarvainen and Valpola 2017, "Mean teachers are better role models" (the teacher, and a weight that rises);
    Sohn et al. 2020, "FixMatch: simplifying semi-supervised learning with consistency and confidence" (a weak view
    teaches a strong one); Berthelot et al. 2020, "ReMixMatch: semi-supervised learning with distribution alignment and
    augmentation anchoring", section 3.1 (the class shares).
    """
    device = torch.device(device)
    steps, batch_size, seed = positive_int("steps", steps), positive_int("batch_size", batch_size), check_seed(seed)
    check_same_shape(labelled, unlabeled)
    known = max(1, round(LABELLED * batch_size))
    probabilities = None if weights is None else (weights.double() / weights.double().sum()).numpy()
    rng = random_stream(seed, Purpose.CLASSIFIER)
    shares = F.one_hot(labelled.targets, len(labelled.classes)).float().mean(0).to(device)
    answered = shares.clone()
    with forked_rng(seed, device):
        student = factory(len(labelled.classes), channels=labelled.channels, image_size=labelled.image_size)
        student.to(device).to(memory_format=torch.channels_last).train()
        teacher = deepcopy(student).requires_grad_(False).eval()
        optimizer, schedule = optimizer_and_schedule(student, None, 1, steps)
        for step in range(steps):
            # Some images of each kind.
            rows = torch.from_numpy(rng.choice(len(labelled), known, p=probabilities))
            images, labels = labelled.images[rows].to(device), labelled.targets[rows].to(device)
            further = unlabeled[torch.from_numpy(rng.integers(len(unlabeled), size=batch_size - known))].to(device)

            # Views of them, and not in bf16: augmentation computes where pixels go.
            easy, hard = to_float(weak(further)), to_float(strong(torch.cat([images, further])))

            with torch.autocast(device.type, torch.bfloat16, enabled=has_bf16(device)):
                # What the teacher says of the unlabelled ones, with the class shares of the labelled ones.
                with torch.no_grad():
                    logits = teacher(easy)
                    check_logits(logits, len(labelled.classes))
                    answers = logits.float().softmax(1)
                    answered.lerp_(answers.mean(0), 1 - SHARES_DECAY)
                    answers = F.normalize(answers * shares / answered, p=1, dim=1)

                # The student learns labels and answers on strong views.
                logits = student(hard)
                supervised = F.cross_entropy(logits[:known], labels)
                consistency = F.cross_entropy(logits[known:], answers)
                loss = supervised + min(1.0, step / RAMP) * consistency
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
            _follow(teacher, student, decay=min(TEACHER_DECAY, (step + 1) / (step + 10)))
            if each_step is not None:
                each_step()
    return teacher


def check_same_shape(labelled: LabelledImages, unlabeled: Pixels) -> None:
    """Refuse unlabelled images of another shape than the labelled ones have, or none at all.

    Raises:
        InputError: they have, or there are none.
    """
    if not len(unlabeled):
        raise InputError("there are no unlabelled images. Give at least one, or train on the labelled ones alone")
    if unlabeled.shape[1:] != labelled.images.shape[1:]:
        raise InputError(
            f"unlabelled images must have the shape of the labelled ones, {tuple(labelled.images.shape[1:])}; got "
            f"{tuple(unlabeled.shape[1:])}"
        )


@torch.no_grad()
def _follow(teacher: nn.Module, student: nn.Module, *, decay: float) -> None:
    """Move the teacher's weights and statistics to the student's, by 1 - ``decay`` of the way."""
    for mean, now in zip(teacher.state_dict().values(), student.state_dict().values(), strict=True):
        mean.lerp_(now, 1 - decay) if mean.is_floating_point() else cast(Tensor, mean.copy_(now))
