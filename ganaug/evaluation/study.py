"""What is compared: the arms of a study, and the images that each of them is trained on."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Literal, cast

import torch
from torch import Tensor

from ganaug.augment import ConditionalGANAugment
from ganaug.data import LabelledImages
from ganaug.drawing import ConditionalGenerator
from ganaug.errors import InputError
from ganaug.evaluation.augmentations import ShiftFlip, TrivialAugment
from ganaug.evaluation.classifier import BatchTransform, ClassifierFactory, SmallCNN

CURVE_SCALES = (0.125, 0.25, 0.5, 2.0, 4.0)  # sizes of the real training set, beside itself, on the learning curve
GENERATED_ONLY = 10_000  # images that are drawn in place of real ones; fewer where training cannot see as many


@dataclass(frozen=True)
class UtilitySettings:
    """How the classifiers of a study are trained; the same in all arms.

    Args:
        seeds: How many times each arm is trained, with seeds 0, 1, ... of weights, order, augmentation and generated
            images; at least 2.
        steps: Optimisation steps of each classifier.
        batch_size: Images in a step.
        learning_rate: Peak of the one-cycle learning rate of Adam.
        ratios: Fractions of the training set that are generated.
        horizontal_flip: Mirror images in classic augmentation; only where a mirrored image is still of its class.
        trivial_augment: Have an arm with TrivialAugment too; it takes more time than the others.

    Raises:
        InputError: a value is out of range.
    """

    seeds: int = 5
    steps: int = 700
    batch_size: int = 128
    learning_rate: float = 2e-3
    ratios: tuple[float, ...] = (0.1, 0.3, 0.5)
    horizontal_flip: bool = False
    trivial_augment: bool = True

    def __post_init__(self) -> None:
        if self.seeds < 2:
            raise InputError(f"seeds must be at least 2, for there to be error bars; got {self.seeds}")
        for name in ("steps", "batch_size", "learning_rate"):
            if not getattr(self, name) > 0:
                raise InputError(f"{name} must be positive, got {getattr(self, name)}")
        if not self.ratios or not all(0 < ratio < 1 for ratio in self.ratios):
            raise InputError(f"ratios must be fractions between 0 and 1, one or more; got {list(self.ratios)}")


@dataclass(frozen=True)
class Arm:
    """One way to train the classifier.

    Attributes:
        name (str): what it is trained with, in words.
        augmentation (str): ``"none"``, ``"classic"`` (shift, flip) or ``"trivial"`` (TrivialAugment on top).
        oversampled (bool): whether real images are drawn so that all classes come equally often.
        generator (str, optional): name of the generator whose images are mixed in.
        ratio (float): fraction of the training set that is generated; 1 for generated images alone.
        scale (float): size of the real training set, as a multiple of the given one.
    """

    name: str
    augmentation: Literal["none", "classic", "trivial"] = "classic"
    oversampled: bool = False
    generator: str | None = None
    ratio: float = 0.0
    scale: float = 1.0


@dataclass(frozen=True)
class Study:
    """Real images, generators and a classifier, and the arms that follow from them.

    Args:
        train (LabelledImages): the real training set.
        held_out (LabelledImages): real images that every classifier is asked about.
        generators (mapping): name to generator.
        extra (LabelledImages, optional): further real images, for the learning curve beyond the training set alone.
        factory (callable): makes the classifier. Default: :class:`SmallCNN`
        settings (UtilitySettings): how it is trained.
    """

    train: LabelledImages
    held_out: LabelledImages
    generators: Mapping[str, ConditionalGenerator]
    extra: LabelledImages | None = None
    factory: ClassifierFactory = SmallCNN
    settings: UtilitySettings = field(default_factory=UtilitySettings)

    @property
    def balanced(self) -> bool:
        """Whether all classes have the same number of training images."""
        return len(set(self.train.class_counts)) == 1

    @property
    def max_shift(self) -> int:
        """Of classic augmentation, in pixels: an eighth of the side."""
        return self.train.image_size // 8

    def real_arms(self) -> list[Arm]:
        """Arms without generated images; one of them is the reference."""
        arms = [Arm("real", "none"), Arm("real + classic")]
        if self.settings.trivial_augment:
            arms.append(Arm("real + classic + TrivialAugment", "trivial"))
        if not self.balanced:
            arms.append(Arm("real + classic + oversampling", oversampled=True))
        return arms

    def mixed_arms(self, generator: str, reference: Arm) -> list[Arm]:
        """The reference with images of a generator beside the real ones, for each ratio."""
        name = f"{reference.name} + {self._called(generator)}"
        return [
            replace(reference, name=f"{name} {ratio:g}", generator=generator, ratio=ratio)
            for ratio in self.settings.ratios
        ]

    def generated_arm(self, generator: str, reference: Arm) -> Arm:
        """The reference's training on generated images alone.

        Its score is the classification accuracy score of Ravuri and Vinyals 2019, "Classification accuracy score for
        conditional generative models".
        """
        name = f"{self._called(generator)} only"
        return replace(reference, name=name, oversampled=False, generator=generator, ratio=1.0)

    def curve_arms(self, reference: Arm) -> list[Arm]:
        """The reference with fewer and, as far as there are extra images, more real images."""
        counts = self.train.class_counts
        spare = self.extra.class_counts if self.extra else [0] * len(counts)
        return [
            replace(reference, name=f"{reference.name}, {scale:g} times the images", scale=scale)
            for scale in CURVE_SCALES
            if all(round(count * (scale - 1)) <= more for count, more in zip(counts, spare, strict=True))
            and (scale > 1 or scale * min(counts) >= 1)
        ]

    def arms(self, reference: Arm) -> list[Arm]:
        """Every arm that trains on the whole training set, and those of generated images, in the report's order."""
        arms = self.real_arms()
        for name in self.generators:
            arms += [*self.mixed_arms(name, reference), self.generated_arm(name, reference)]
        return arms

    def _called(self, generator: str) -> str:
        return "generated" if len(self.generators) == 1 else f"generated by {generator}"

    def augmentation(self, arm: Arm) -> BatchTransform | None:
        """What the batches of an arm go through."""
        if arm.augmentation == "none":
            return None
        classic = ShiftFlip(self.max_shift, flip=self.settings.horizontal_flip, background=self.train.background)
        return TrivialAugment(classic) if arm.augmentation == "trivial" else classic

    def real_images(self, arm: Arm, seed: int) -> LabelledImages:
        """The real images of an arm, as many as its scale says, the same share of each class."""
        wanted = [max(1, round(count * arm.scale)) for count in self.train.class_counts]
        if arm.scale < 1:
            return self.train.take(wanted, seed=seed)[0]
        if arm.scale == 1 or self.extra is None:
            return self.train
        more = [count - there for count, there in zip(wanted, self.train.class_counts, strict=True)]
        return joined(self.train, self.extra.take(more, seed=seed)[0])

    def training_set(self, arm: Arm, seed: int) -> tuple[LabelledImages, Tensor]:
        """Images of an arm, and how often each is drawn relative to the others, float (N,)."""
        real = self.real_images(arm, seed)
        counts = torch.tensor(real.class_counts, dtype=torch.float64)
        weights = (1 / counts)[real.targets] if arm.oversampled else torch.ones(len(real), dtype=torch.float64)
        if arm.generator is None:
            return real, weights
        generated = self.draw(arm, seed)
        if arm.ratio == 1:
            return generated, torch.ones(len(generated), dtype=torch.float64)
        # Oversampling moves weight between real images; how much all of them have together stays.
        weights *= len(real) / weights.sum()
        return joined(real, generated), torch.cat([weights, torch.ones(len(generated), dtype=torch.float64)])

    def draw(self, arm: Arm, seed: int) -> LabelledImages:
        """The generated images of an arm, as the user's line would mix them in."""
        how: dict[str, Any] = {"ratio": arm.ratio, "sampling_strategy": "uniform" if arm.oversampled else "match"}
        if arm.ratio == 1:
            counts = self.train.class_counts
            seen = self.settings.steps * self.settings.batch_size
            each = -(-max(min(GENERATED_ONLY, seen), len(self.train)) // len(counts))
            how = {"sampling_strategy": {k: count + each for k, count in enumerate(counts)}}
        generator = self.generators[cast(str, arm.generator)]
        mixed = ConditionalGANAugment(self.train, generator, seed=seed, **how)
        items = mixed.__getitems__(range(mixed.n_real, len(mixed)))
        images = torch.stack([image for image, _ in items])
        return LabelledImages(images, mixed.targets[mixed.n_real :], self.train.classes, f"images of {arm.generator}")


def joined(one: LabelledImages, other: LabelledImages) -> LabelledImages:
    """Both, one after the other."""
    images, targets = torch.cat([one.images, other.images]), torch.cat([one.targets, other.targets])
    return LabelledImages(images, targets, one.classes, f"{one.name} and {other.name}")
