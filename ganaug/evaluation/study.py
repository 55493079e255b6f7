"""What is compared: the arms of a study, and the images that each arm is trained on."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal, get_args

import torch
from torch import Tensor

from ganaug.core import fingerprints
from ganaug.core.errors import InputError
from ganaug.core.files import build_once
from ganaug.core.hardware import best_device
from ganaug.core.integers import positive_int
from ganaug.data import LabelledImages, joined
from ganaug.data.reading import in_memory_if_few
from ganaug.data.stored import StoredImages, part_in, writing_part
from ganaug.evaluation.augmentation import BatchTransform, RandAugment, ShiftFlip, TrivialAugment
from ganaug.evaluation.networks import ClassifierFactory, SmallCNN
from ganaug.sampling.class_sampler import ClassSampler
from ganaug.sampling.filters import Filter
from ganaug.sampling.inference import ConditionalGenerator
from ganaug.sampling.variations import places_in_class

LEARNING_RATE_STEP = 3.0  # from one learning rate that is tried to the next
CURVE_SCALES = (0.125, 0.25, 0.5, 2.0, 4.0)  # further sizes on the learning curve, relative to the training set
POOL = 10_000  # generated images for a seed; more if there are more real ones, fewer if training sees fewer
_DRAWN = 4096  # images of a pool that are in memory at a time


Searched = Literal["none", "classic", "trivial", "rand"]  # from the weakest to the strongest
Augmentation = Literal[Searched, "own"]
_AUGMENTED = {  # how an arm is called
    "none": "real",
    "classic": "real + classic",
    "trivial": "real + classic + TrivialAugment",
    "rand": "real + classic + RandAugment",
    "own": "real + the classifier's own augmentation",
}


@dataclass(frozen=True)
class UtilitySettings:
    """How the classifiers of a study are trained; the same in all arms.

    Args:
        seeds: Trainings of each arm that is judged, at least 2. They are spread evenly over the draws, where there are
            several, so there may be a few more.
        steps: Optimisation steps that the search for the best training without generated images begins with.
        max_steps: Steps that it goes to at most. It doubles them up to half of that as long as that pays off. Then the
            best training gets all, and so does another one that promises as much.
        batch_size: Images in a step.
        augmentations: Augmentations that the search tries: none, classic (shifts), trivial or rand (TrivialAugment or
            RandAugment on top). The classifier's own, where it has one, is tried too.
        ratios: Fractions of the training set that are generated.
        margin: Smallest worthwhile difference, in points of balanced accuracy, fixed beforehand.
        horizontal_flip: Mirror images in classic augmentation; only where a mirrored image is still of its class.
        learning_curve: Train with other numbers of real images too, where there is a difference beyond chance, to tell
            what it is worth in images.

    Raises:
        InputError: a value is out of range.
    """

    seeds: int = 5
    steps: int = 1000
    max_steps: int = 4000
    batch_size: int = 64
    augmentations: tuple[Searched, ...] = ("none", "classic", "trivial", "rand")
    ratios: tuple[float, ...] = (0.3, 0.5, 0.8)
    margin: float = 1.0
    horizontal_flip: bool = False
    learning_curve: bool = True

    def __post_init__(self) -> None:
        for name in ("seeds", "steps", "max_steps", "batch_size"):
            object.__setattr__(self, name, positive_int(name, getattr(self, name)))
        if self.seeds < 2:
            raise InputError(f"seeds must be at least 2, for there to be error bars; got {self.seeds}")
        if self.max_steps < self.steps:
            both = f"{self.max_steps} and {self.steps}"
            raise InputError(f"max_steps must be at least steps, got {both}. Raise max_steps, or lower steps")
        if not self.augmentations or not set(self.augmentations) <= set(get_args(Searched)):
            known = ", ".join(get_args(Searched))
            raise InputError(f"augmentations must be one or more of {known}; got {list(self.augmentations)}")
        if not 0 < self.margin < 100:
            raise InputError(f"margin must be between 0 and 100, in points of balanced accuracy; got {self.margin}")
        if not self.ratios or not all(0 < ratio < 1 for ratio in self.ratios):
            raise InputError(f"ratios must be fractions between 0 and 1, one or more; got {list(self.ratios)}")
        for name in ("augmentations", "ratios"):
            if len(set(getattr(self, name))) < len(getattr(self, name)):
                raise InputError(f"{name} has {list(getattr(self, name))}; name each once")


@dataclass(frozen=True)
class Arm:
    """One way to train the classifier.

    Attributes:
        name (str): what it is trained with, in words.
        steps (int): optimisation steps.
        augmentation (str): ``"none"``, ``"classic"`` (shift, flip), ``"trivial"`` or ``"rand"`` (TrivialAugment or
            RandAugment on top), or ``"own"`` (what the classifier brings with it).
        mix (bool): whether batches are mixed by MixUp or CutMix.
        oversampled (bool): whether real images are drawn so that all classes come equally often.
        class_balanced (bool): whether the loss is weighted by class; see :func:`class_balanced_weights`.
        learning_rate_factor (float): times the classifier's learning rate.
        generator (str, optional): name of the generator whose images are mixed in. Default: no generator
        ratio (float): fraction of the training set that is generated; 1 for generated images alone.
        scale (float): size of the real training set, as a multiple of the given one.
    """

    name: str
    steps: int
    augmentation: Augmentation = "classic"
    mix: bool = False
    oversampled: bool = False
    class_balanced: bool = False
    learning_rate_factor: float = 1.0
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
        extra (LabelledImages, optional): further real images, used only for the part of the learning curve beyond the
            training set.
        factory (callable): makes the classifier. Default: :class:`SmallCNN`
        settings (UtilitySettings): how it is trained.
        own_augmentation (callable, optional): what the classifier brings with it. Default: nothing
        accept (Filter, optional): which generated images are kept; those refused are replaced. Default: all are kept
        max_tries (int): images drawn for an item before the filter counts as starved. Default: 10
        vary (float, optional): strength at which generators vary the training images. Default: they draw from noise
            alone
    """

    train: LabelledImages
    held_out: LabelledImages
    generators: Mapping[str, ConditionalGenerator]
    extra: LabelledImages | None = None
    factory: ClassifierFactory = SmallCNN
    settings: UtilitySettings = field(default_factory=UtilitySettings)
    own_augmentation: BatchTransform | None = None
    accept: Filter | None = None
    max_tries: int = 10
    vary: float | None = None

    @property
    def balanced(self) -> bool:
        """Whether all classes have the same number of training images."""
        return len(set(self.train.class_counts)) == 1

    @property
    def classic(self) -> ShiftFlip:
        """Classic augmentation."""
        return ShiftFlip.like(self.train, flip=self.settings.horizontal_flip)

    @property
    def filter_name(self) -> str | None:
        """Name of the filter of generated images; None if there is no filter."""
        if self.accept is None:
            return None
        name: str = getattr(self.accept, "__name__", type(self.accept).__name__)
        return name.strip("<>")  # a lambda is called <lambda>, which a card would take for HTML

    def augmented_arms(self) -> list[Arm]:
        """The ways to augment real images, which the search for the reference begins with.

        From the weakest to the strongest; the classifier's own, of which nothing is known, counts as the strongest.
        """
        kinds: list[Augmentation] = [kind for kind in get_args(Searched) if kind in self.settings.augmentations]
        if self.own_augmentation:
            kinds.append("own")
        return [Arm(_AUGMENTED[kind], self.settings.steps, kind) for kind in kinds]

    def additions(self, arm: Arm) -> list[Arm]:
        """What else may pay on top of an arm's augmentation: other batches, and where it is needed another balance."""
        added = [replace(arm, name=f"{arm.name} + MixUp/CutMix", mix=True)]
        if not self.balanced:
            added.append(replace(arm, name=f"{arm.name} + oversampling", oversampled=True))
            added.append(replace(arm, name=f"{arm.name} + class-balanced loss", class_balanced=True))
        return added

    def mixed_arms(self, generator: str, reference: Arm) -> list[Arm]:
        """The reference arm with images of a generator beside the real ones, for each ratio."""
        return [self.mixed_arm(generator, reference, ratio) for ratio in self.settings.ratios]

    def mixed_arm(self, generator: str, reference: Arm, ratio: float) -> Arm:
        """The reference arm with a share of its images generated."""
        name = f"{reference.name} + {100 * ratio:g} % {self._called(generator)}"
        return replace(reference, name=name, generator=generator, ratio=ratio)

    def generated_arm(self, generator: str, reference: Arm) -> Arm:
        """The training of the reference arm on generated images alone.

        Its score is the classification accuracy score (CAS).

        Source: Ravuri and Vinyals 2019, "Classification accuracy score for conditional generative models".
        """
        name = f"{self._called(generator)} only"
        return replace(reference, name=name, oversampled=False, class_balanced=False, generator=generator, ratio=1.0)

    def curve_arms(self, reference: Arm) -> list[Arm]:
        """The reference arm with fewer real images and, as far as there are extra ones, with more."""
        if not self.settings.learning_curve:
            return []
        counts = self.train.class_counts
        spare = self.extra.class_counts if self.extra else [0] * len(counts)
        return [
            replace(reference, name=f"{reference.name}, {scale:g} times the images", scale=scale)
            for scale in CURVE_SCALES
            if all(round(count * (scale - 1)) <= more for count, more in zip(counts, spare, strict=True))
            and (scale > 1 or scale * min(counts) >= 1)
        ]

    def longer_arm(self, reference: Arm, times: int) -> Arm:
        """The reference arm with several times its steps."""
        return replace(reference, name=f"{reference.name}, {times} times the steps", steps=times * reference.steps)

    def _called(self, generator: str) -> str:
        return "generated" if len(self.generators) == 1 else f"generated by “{generator}”"

    def augmentation(self, arm: Arm) -> BatchTransform | None:
        """What an arm's batches are augmented with."""
        made: dict[Augmentation, Callable[[], BatchTransform | None]] = {
            "none": lambda: None,
            "classic": lambda: self.classic,
            "trivial": lambda: TrivialAugment(self.classic),
            "rand": lambda: RandAugment(self.classic),
            "own": lambda: self.own_augmentation,
        }
        return made[arm.augmentation]()

    def class_weights(self, arm: Arm) -> Tensor | None:
        """Weights of the classes in an arm's loss, float (K,); None if all are equal."""
        return class_balanced_weights(self.train.class_counts) if arm.class_balanced else None

    def real_images(self, arm: Arm, seed: int) -> LabelledImages:
        """The real images of an arm: as many as its scale says, in the same shares of the classes."""
        wanted = [max(1, round(count * arm.scale)) for count in self.train.class_counts]
        if arm.scale < 1:
            return self.train.take(wanted, seed=seed)[0]
        if arm.scale == 1 or self.extra is None:
            return self.train
        more = [count - there for count, there in zip(wanted, self.train.class_counts, strict=True)]
        return joined(self.train, self.extra.take(more, seed=seed)[0])

    def training_set(
        self, arm: Arm, seed: int, cache_dir: Path, *, drawn: Callable[[int], object] | None = None
    ) -> tuple[LabelledImages, Tensor]:
        """The images of an arm, and the probability with which each is drawn, float64 (N,).

        Args:
            arm (Arm), seed (int): what to train on.
            cache_dir (Path): where generated images are kept for other arms with the same seed.
            drawn (callable, optional): see :func:`ganaug.sampling.sample`. Default: nothing is called
        """
        real = self.real_images(arm, seed)
        counts = torch.tensor(real.class_counts, dtype=torch.float64)
        weights = (1 / counts)[real.targets] if arm.oversampled else torch.ones(len(real), dtype=torch.float64)
        weights /= weights.sum()
        if arm.generator is None:
            return real, weights
        seen = arm.steps * self.settings.batch_size
        generated = self.pool(arm.generator, seed, cache_dir, seen=seen, drawn=drawn)
        share = 1 / len(generated)  # of each generated image, if all are drawn equally often
        if arm.ratio == 1:
            return generated, torch.full((len(generated),), share, dtype=torch.float64)
        # All classes have equally many generated images; they are to come as often as the class's real images do.
        classes = torch.zeros_like(counts).index_add_(0, real.targets, weights) * len(counts)
        return joined(real, generated), torch.cat(
            [(1 - arm.ratio) * weights, arm.ratio * share * classes[generated.targets]]
        )

    def sampler(self, generator: str, *, seed: int = 0) -> ClassSampler:
        """A sampler of a generator's images of the study's classes, on the best device.

        Raises:
            ValueError: the generator is unconditional, does not know a class, makes images of another shape, or cannot
                vary images.
        """
        sampler = ClassSampler(
            self.generators[generator],
            self.train.classes,
            accept=self.accept,
            max_tries=self.max_tries,
            vary=self.vary,
            seed=seed,
            device=best_device(),
        )
        real = tuple(self.train.images.shape[1:])
        if sampler.image_shape != real:
            raise InputError(
                f"{self.train.name} has images of (C, H, W) = {real}, the generator {generator!r} makes "
                f"{sampler.image_shape}. Open the images with its resolution and channels"
            )
        return sampler if self.vary is None else sampler.with_originals(self.train)

    def pool_size(self, seen: int) -> int:
        """How many generated images arms with the same seed share, of which training sees so many."""
        num_classes = len(self.train.classes)
        return -(-max(min(POOL, seen), len(self.train)) // num_classes) * num_classes

    def pool(
        self,
        generator: str,
        seed: int,
        cache_dir: Path,
        *,
        seen: int,
        drawn: Callable[[int], object] | None = None,
    ) -> LabelledImages:
        """The generated images that all arms with this seed share, equally many of each class.

        Args:
            generator (str), seed (int): whose images, and which.
            cache_dir (Path): where they are kept.
            seen (int): how many images training sees.
            drawn (callable, optional): see :func:`ganaug.sampling.sample`. Default: nothing is called
        """
        source, num_classes = self.generators[generator], len(self.train.classes)
        each = self.pool_size(seen) // num_classes
        labels = torch.arange(num_classes).repeat_interleave(each)

        def draw(path: Path) -> None:
            sampler, places = self.sampler(generator, seed=seed), places_in_class(labels)
            with writing_part(path, sampler.image_shape, most=len(labels)) as write:
                for rows in torch.arange(len(labels)).split(_DRAWN):
                    write(sampler.draw(labels[rows], rows.tolist(), places=places[rows], drawn=drawn))

        # Studies of several draws have generators in common, but not the images that these vary.
        varied = "" if self.vary is None else f"-{self.train.fingerprint[:32]}"
        path = cache_dir / f"{fingerprints.of_callable(source)[:32]}-{seed}-{each}{varied}"
        build_once(path, draw, what=f"images of {generator}")
        part = part_in(path, self.train.images.shape[1:], advice="Evaluate once more")
        images = in_memory_if_few(StoredImages([part]))
        return LabelledImages(images, labels, self.train.classes, f"images of {generator}")


def class_balanced_weights(class_counts: Sequence[int], *, beta: float = 0.999) -> Tensor:
    """Weights of the classes in the loss, float32 (K,), with a mean of 1: the rarer a class, the more it counts.

    Each image's loss is multiplied by the weight of its class, and the mean over the batch is taken, so a class has
    the share (weight times number of images) of the loss: on a long tail of ten classes, from 500 images to 5, the
    last has 9.4 %.

    Source: Cui et al. 2019, "Class-balanced loss based on effective number of samples", equation 4, normalised to a
    sum of K as in section 4. That paper tries 0.9, 0.99, 0.999 and 0.9999 for beta on each data set; 0.999 is about
    (N - 1) / N for the N = 1,000 images that a small data set has.

    Args:
        class_counts (sequence of int): training images of each class.
        beta (float): in [0, 1); the closer to 1, the closer to the inverse of the counts. Default: 0.999
    """
    # 1 / E_n, with the effective number of samples E_n = (1 - beta^n) / (1 - beta).
    weights = (1 - beta) / (1 - beta ** torch.tensor(class_counts, dtype=torch.float64))
    return (weights / weights.mean()).float()
