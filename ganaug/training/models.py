"""The models that ``--model`` names: each a generator network, an objective and a few settings."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from accelerate import Accelerator

from ganaug.core.defaults import usual_defaults
from ganaug.data import LabelledImages
from ganaug.generators import (
    ACGAN28Generator,
    ACGAN64Generator,
    ACGANGenerator,
    CGANMaxoutGenerator,
    CGANMLPGenerator,
    DCGAN32Generator,
    FlowGenerator,
    Generator,
    SNGANGenerator,
)
from ganaug.training.acgan_trainer import ACGANTrainer
from ganaug.training.flow_trainer import FlowTrainer
from ganaug.training.gan_trainer import GANTrainer
from ganaug.training.losses import GANObjective
from ganaug.training.settings import TrainingSettings
from ganaug.training.trainer import Trainer


@dataclass(frozen=True)
class Model:
    """A generator network and how it is trained.

    Args:
        generator (type): the generator's class, which also makes the discriminator.
        objective (GANObjective): the losses. A flow has its own loss, and takes no other than the usual one.
        settings (TrainingSettings): how long it is trained, and how.
        resolution (int, optional): side that images are resized to. Default: they keep their size
        conditional (bool): whether the generator is told the classes. Default: True
        network (mapping): options of the generator that differ from its defaults.
        trainer (type): the class of what trains it. Default: :class:`GANTrainer`
    """

    generator: type[Generator]
    objective: GANObjective
    settings: TrainingSettings
    resolution: int | None = None
    conditional: bool = True
    network: Mapping[str, int] = field(default_factory=dict)
    trainer: type[Trainer] = GANTrainer

    @usual_defaults()
    def make_generator(self, images: LabelledImages, **options: Any) -> Generator:
        """A new generator with random weights for the classes, size and channels of some images.

        Args:
            images (LabelledImages): what it will be trained on.
            options: network options; they take precedence over the model's own.

        Raises:
            ValueError: the network cannot have these options, or images of this form.
        """
        make: Callable[..., Generator] = self.generator
        classes = images.classes if self.conditional else ()
        options = {**self.network, **options}
        return make(classes, image_size=images.image_size, channels=images.channels, **options)


CLASSIC_MODELS = {  # as published
    "cgan-mlp": Model(
        CGANMLPGenerator,
        GANObjective(),
        TrainingSettings(total_kimg=400, train_batch_size=64, log_kimg=8, sample_kimg=80, evaluation_kimg=80),
    ),
    "cgan-maxout": Model(
        CGANMaxoutGenerator,
        GANObjective(),
        TrainingSettings(
            total_kimg=600,
            train_batch_size=32,
            # Through the BatchNorm before its sigmoid, only a bias changes how bright a pixel is, and Adam moves it by
            # about the learning rate per step: at 2e-4 images stay grey for so long that the discriminator wins.
            learning_rate=5e-3,
            discriminator_learning_rate=5e-4,
            log_kimg=12,
            sample_kimg=120,
            evaluation_kimg=120,
            fake_labels="real",
        ),
    ),
    "acgan-28": Model(
        ACGAN28Generator,
        GANObjective(class_weight_real=1, class_weight_fake=1, class_weight_generator=1, discriminator_weight=0.5),
        TrainingSettings(),  # whose defaults are this model's
    ),
    "acgan-64": Model(
        ACGAN64Generator,
        # Its source has the class loss on generated images too. Then so large a discriminator learns to recognise the
        # class asked for in images that do not look like it, and the generator has nothing left to learn.
        GANObjective(class_weight_real=1, class_weight_fake=0, class_weight_generator=1),
        TrainingSettings(
            total_kimg=36,
            train_batch_size=16,
            learning_rate=4e-4,
            ema_kimg=4,
            log_kimg=1,
            sample_kimg=4,
            evaluation_kimg=12,
        ),
        resolution=64,
    ),
    # Its generator has no BatchNorm: a discriminator that learns as fast wins before there is anything to see.
    "dcgan-32": Model(
        DCGAN32Generator,
        GANObjective(),
        TrainingSettings(
            total_kimg=120,
            train_batch_size=128,
            discriminator_learning_rate=3e-5,
            half_batches=True,
            log_kimg=4,
            sample_kimg=20,
            evaluation_kimg=20,
        ),
        resolution=32,
        conditional=False,
    ),
    "dcgan-32-conditional": Model(
        DCGAN32Generator,
        GANObjective(class_weight_real=1, class_weight_generator=1),
        TrainingSettings(
            total_kimg=240, train_batch_size=64, discriminator_learning_rate=5e-5, log_kimg=8, sample_kimg=40
        ),
        resolution=32,
    ),
}

_FLOW = Model(
    FlowGenerator,
    GANObjective(),
    TrainingSettings(
        total_kimg=300,
        train_batch_size=64,
        learning_rate=2e-3,
        lr_decay=0.5,
        adam_beta1=0.9,
        adam_beta2=0.99,
        ema_kimg=20,
        evaluation_kimg=None,  # nothing collapses, and a few more images to train on are worth more
    ),
    trainer=FlowTrainer,
)

_ACGAN = replace(
    _FLOW,
    generator=ACGANGenerator,
    objective=GANObjective(adversarial_loss="hinge", class_weight_real=1, class_weight_generator=0.03),
    settings=replace(_FLOW.settings, total_kimg=550, discriminator_learning_rate=1e-3),
    trainer=ACGANTrainer,
)

MODELS = CLASSIC_MODELS | {
    "sngan": Model(
        SNGANGenerator,
        GANObjective(adversarial_loss="hinge", class_weight_real=0.3, class_weight_generator=0.3),
        TrainingSettings(
            total_kimg=400,
            train_batch_size=64,
            discriminator_steps=2,
            discriminator_learning_rate=4e-4,
            adam_beta1=0.0,
            adam_beta2=0.99,
            augment=("shift", "cutout", "brightness"),
        ),
    ),
    "acgan": _ACGAN,
    "flow": _FLOW,
    "flow-wide": replace(_FLOW, network={"width": 192}),
}


def model_of(generator: Generator) -> str | None:
    """Name of the model that a generator is of, by its class and network options; None if its class is of no model."""
    options = generator.network_options()
    names = [
        name
        for name, model in MODELS.items()
        if type(generator) is model.generator
        and generator.conditional == model.conditional
        and model.network.items() <= options.items()
    ]
    return max(names, key=lambda name: len(MODELS[name].network), default=None)


@usual_defaults()
def make_trainer(
    generator: Generator,
    objective: GANObjective,
    data: LabelledImages,
    settings: TrainingSettings,
    accelerator: Accelerator,
) -> Trainer:
    """The trainer that a generator needs: of a flow, of an acgan, or of another GAN; a GAN gets a new discriminator.

    Args:
        generator (Generator): trained in place.
        objective (GANObjective): the losses of a GAN; of a flow, which has its own, the usual one.
        data, settings, accelerator: as for :class:`Trainer`.

    Raises:
        InputError: the generator's class makes no discriminator, or the settings do not suit the networks.
        ValueError: the shape or classes of the images differ from the generator's.
    """
    if isinstance(generator, ACGANGenerator):
        return ACGANTrainer(generator, generator.make_discriminator(), objective, data, settings, accelerator)
    if isinstance(generator, FlowGenerator):
        FlowTrainer.check_settings(settings, objective)  # the trainer is not given the objective
        return FlowTrainer(generator, data, settings, accelerator)
    return GANTrainer(generator, generator.make_discriminator(), objective, data, settings, accelerator)
