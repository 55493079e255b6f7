"""A flow of other classes becomes one of these, from some tens of images of each."""

from __future__ import annotations

import logging
import math
from dataclasses import replace
from tempfile import TemporaryDirectory
from typing import Any, ClassVar, cast

import torch
from accelerate import Accelerator
from torch import Tensor, nn

from ganaug.core import fingerprints
from ganaug.core.defaults import usual_defaults
from ganaug.core.errors import InputError
from ganaug.core.hardware import device_of, evaluation_mode
from ganaug.core.pixels import to_float
from ganaug.core.seeding import latents
from ganaug.core.text import in_short
from ganaug.data import LabelledImages
from ganaug.generators import FlowGenerator, Generator
from ganaug.generators.flow import TEACHER_STEPS, distils, with_margin
from ganaug.hub.config import Ancestor, ancestors, facts_of
from ganaug.hub.registry import Origin
from ganaug.training.flow_trainer import FlowTrainer
from ganaug.training.init_from import inherit
from ganaug.training.losses import Monitors
from ganaug.training.presets import QUICK, in_kimg, is_imbalanced, preset_settings
from ganaug.training.settings import TrainingSettings
from ganaug.training.trainer import Phase

logger = logging.getLogger(__name__)

CLASSES, NETWORK = "classes", "network"

# Tried by hand on two splits of Fashion-MNIST, 20 images of each of five classes, 30 kimg. A classifier of all real
# images saw the class asked for in 93.6 and 97.0 % of the images (95.3 and 97.5 % of real ones). Without the first
# phase, it matters which classes new ones start as: 95.0 % on the second split, and 83.6 and 88.0 % from the mean of
# all known ones. With it, that hardly matters: 93.2 % from the mean on the first split. Twice the rate gave 94.6 %.

# For up to so many images, the kimg of both phases together: half of what the preset has for the narrow flow. Only the
# first was tried.
LENGTHS: tuple[tuple[float, float], ...] = ((500, 30), (5_000, 75), (math.inf, 150))
LEARNING_RATE = 1e-2  # of the first phase, in which embeddings have far to go

COMPARED = 160  # images in all, by which the classes are compared with those of the source
TIMES = (0.2, 0.4, 0.6, 0.8)  # at which they are compared: near 0 all is noise, and near 1 nothing is left to tell


def adapting_settings(images: LabelledImages) -> TrainingSettings:
    """How a flow is adapted to so many images; one that is there several times counts once."""
    distinct = sum(images.distinct_counts)
    kimg = next(kimg for most, kimg in LENGTHS if distinct <= most)
    return _settings(kimg, is_imbalanced(images.class_counts))


def possible_adapting_settings() -> list[TrainingSettings]:
    """Those for whatever images."""
    return [_settings(kimg, imbalanced) for _, kimg in LENGTHS for imbalanced in (False, True)]


def _settings(kimg: float, imbalanced: bool) -> TrainingSettings:
    """Those of a flow that is trained for so long, but for the learning rate."""
    return replace(preset_settings(QUICK, kimg, imbalanced), learning_rate=LEARNING_RATE)


def in_words(source: Generator, settings: TrainingSettings) -> str:
    """What is adapted, and for how long."""
    what = f"{source.architecture} of {in_short(', '.join(source.label_names))}"
    return f"{what}, adapted for {in_kimg(settings.total_kimg)}: first its classes, then the whole network"


class AdaptingTrainer(FlowTrainer):
    """A copy of a flow that learns classes of its own, by flow matching as :class:`FlowTrainer` has it.

    A new class starts as the class of the source by which its images are predicted best. In the first phase only the
    embeddings of the classes and the scale and shift of the normalisations are learned, so that the classes are told
    apart before anything else changes. In the second, at a low rate, the whole network is.

    Args:
        source (FlowGenerator): of other classes; it stays as it is.
        data (LabelledImages): of the source's size and channels.
        settings, accelerator: as for :class:`Trainer`.

    Raises:
        InputError: the source cannot be adapted to these images, see :func:`check_adaptable`, or the settings ask for
            augmentation other than flip, or for what only a discriminator can have.

    Source: Noguchi and Harada 2019, "Image generation from small datasets via batch statistics adaptation", for
    learning scale and shift alone; Shahbazi et al. 2021, "Efficient conditional GAN transfer with knowledge
    propagation across classes", for new classes that start from those that are known, and for the order of the phases.
    """

    PHASES: ClassVar[tuple[str, ...]] = (CLASSES, NETWORK)
    LENGTHS: ClassVar[tuple[float, ...]] = (1, 2)
    RATES: ClassVar[tuple[float, ...]] = (1, 0.1)

    @usual_defaults()
    def __init__(
        self, source: Generator, data: LabelledImages, settings: TrainingSettings, accelerator: Accelerator
    ) -> None:
        self.check_settings(settings)
        super().__init__(as_other_classes(source, data), data, settings, accelerator)
        self._light = light_weights(self.bare_generator)
        self._history = history_of(source)  # before anybody changes it

    @property
    def phases(self) -> tuple[Phase, ...]:
        """First the new classes, then the whole network."""
        return self._divided()

    def _update_networks(self, step: int) -> Monitors:
        phase = self.phase(step)
        if phase.name == NETWORK and step == phase.first:
            self._begin(phase)
        self.optimizer.only = self._light if phase.name == CLASSES else None
        return self._update(self.optimizer, self._flow_losses(step))

    def facts(self) -> dict[str, Any]:
        """See :meth:`Trainer.facts`: the phases, and what was adapted."""
        return super().facts() | self._history

    @property
    def is_standard(self) -> bool:
        """Whether the generator is ganaug's, and it is trained as here."""
        return type(self) is AdaptingTrainer and type(self.bare_generator) is FlowGenerator


def check_adaptable(source: Generator, images: LabelledImages) -> FlowGenerator:
    """The source, if it can become a generator of these images.

    Raises:
        InputError: it is no flow, or one that was taught to take few steps, or the images have another form.
    """
    if not isinstance(source, FlowGenerator):
        raise InputError(
            f"only a flow can be adapted to other classes, and this generator is of {source.architecture}. Adapt a "
            "flow, which ganaug train makes by default, or train this one further with init_from"
        )
    if distils(source.steps):
        raise InputError(
            f"this {source.architecture} was taught to draw in {source.steps} of its {TEACHER_STEPS} passes, and has "
            f"forgotten the others. Adapt a flow of {TEACHER_STEPS} passes, such as the one that it began as"
        )
    wanted, found = (source.channels, source.image_size, source.image_size), tuple(images.images.shape[1:])
    if found != wanted:
        raise InputError(
            f"the generator draws {_form(*wanted)}, and {images.name} has {_form(*found)}. Open the images as it "
            f"draws them, with resolution {source.image_size} and channels {source.channels} (--resolution "
            f"{source.image_size} --channels {source.channels}), or adapt a generator of their form"
        )
    return source


def _form(channels: int, height: int, width: int) -> str:
    return f"{'grey' if channels == 1 else 'RGB'} images of {width}x{height} pixels"


def as_other_classes(source: Generator, images: LabelledImages) -> FlowGenerator:
    """A copy of a flow for the classes of these images, each of which starts as the source's class that fits it best.

    Raises:
        InputError: see :func:`check_adaptable`.
    """
    flow = check_adaptable(source, images)
    generator = type(flow)(
        images.classes, image_size=flow.image_size, channels=flow.channels, **flow.network_options()
    )
    known = flow.label_embedding.weight.detach()
    best = prediction_errors(flow, images).argmin(1)
    generator.load_state_dict({**flow.state_dict(), "label_embedding.weight": known[best.to(known.device)]})
    inherit(generator, flow, history_of(flow))
    for name, k in zip(images.classes, best.tolist(), strict=True):
        logger.info("%s starts as %s", in_short(name), in_short(flow.label_names[k]))
    return generator


def prediction_errors(flow: FlowGenerator, images: LabelledImages) -> Tensor:
    """How badly a flow predicts the images of each class, if it takes them for one of its own classes.

    Returns:
        Tensor: float32 (classes of the images, classes of the flow), on the CPU: the mean squared error of the
        velocity, over a few images of each class and the same few times and noises for all.
    """
    each = max(1, COMPARED // len(images.classes))
    few = images.take([min(count, each) for count in images.class_counts])[0]
    device, x_1 = device_of(flow), with_margin(to_float(few.images[:]))
    x_0 = latents(0, range(len(few)), flow.latent_dim).view_as(x_1)
    errors = torch.zeros(len(few), flow.num_classes)
    with torch.inference_mode(), evaluation_mode(flow):
        for rows in torch.arange(len(few)).split(COMPARED):  # there may be more classes than that
            for t in (torch.full((len(rows),), time) for time in TIMES):
                x_t = torch.lerp(x_0[rows], x_1[rows], t[:, None, None, None])
                for k in range(flow.num_classes):
                    labels = torch.full((len(rows),), k, device=device)
                    v = flow.velocity(x_t.to(device), t.to(device), labels).cpu()
                    errors[rows, k] += (v - (x_1 - x_0)[rows]).square().flatten(1).mean(1)
    sums = torch.zeros(len(few.classes), flow.num_classes).index_add_(0, few.targets, errors)
    return sums / (len(TIMES) * torch.tensor(few.class_counts).clamp(min=1)[:, None])  # a class may have no image


def light_weights(network: nn.Module) -> frozenset[str]:
    """Names of the weights that the first phase learns: embeddings, and scale and shift of the normalisations."""
    return frozenset(
        f"{where}.{name}"
        for where, module in network.named_modules()
        if isinstance(module, nn.Embedding | nn.GroupNorm) or where.endswith("scale_shift")
        for name, _ in module.named_parameters(recurse=False)
    )


def history_of(source: Generator) -> dict[str, list[str]]:
    """What a generator that is adapted from this one comes from, as facts for ``config.json``.

    See :class:`ganaug.hub.config.Ancestor`: the source is the first, and those that it was adapted from itself follow.
    """
    if source.origin is None or source.origin.fingerprint != fingerprints.of_module(source):
        with TemporaryDirectory() as folder:
            source.save_pretrained(folder)  # which tells the SHA-256 of its weights
    name, weights_sha256, _ = cast(Origin, source.origin)
    own = Ancestor(
        name or f"{source.architecture} of {in_short(', '.join(source.label_names))}",
        weights_sha256,
        str(source.info["dataset"].get("name", "not recorded")),
    )
    return facts_of([own, *ancestors(source.info["training"])])
