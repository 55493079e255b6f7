"""Whether generated images are copies of training images, and the pairs to look at."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import NormalDist

import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

from ganaug.core.defaults import usual_defaults
from ganaug.core.errors import InputError
from ganaug.data import LabelledImages
from ganaug.data.grids import class_grid
from ganaug.data.labelled import check_comparable
from ganaug.data.stored import Pixels
from ganaug.evaluation.distances import nearest_distances
from ganaug.evaluation.fidelity import class_features
from ganaug.evaluation.networks import SmallCNN

_NEAR = 0.01  # a generated image nearer than this quantile of held-out images is a near copy
_PAIRS_A_ROW = 10


@dataclass(frozen=True)
class Memorization:
    """How much closer generated images are to the training images than new real images are.

    Distances in pixels are root mean squares over the pixels, in [0, 1]; those in features are Euclidean.

    Attributes:
        num_images (int): how many generated images were checked.
        exact_copies (float): share of them that equal a training image in every pixel, in [0, 1]; the generator's own
            training images count too, as far as their hashes are known.
        near_copies (float): share of them that are exact copies, or nearer in pixels to some training image than 99 %
            of the held-out images are. About 0.01 for an honest generator; blurred images raise it too.
        closer_to_train (float): share of them that are nearer in pixels to a training image than to any held-out one,
            among equally many of both from each class; ties count half. 0.5 for an honest generator, 1 for a copier.
        closer_to_train_low, closer_to_train_high (float): ends of a 95 % interval, which takes into account that
            several generated images may have the same nearest real one.
        closer_to_train_features, closer_to_train_features_low, closer_to_train_features_high (float): the same in the
            features of the classifier, in which a shifted or slightly changed copy is found too.
        nearest_train_pixels, nearest_held_out_pixels (float): median distance to the nearest image in each of these
            two equally large sets.
        nearest_train_features, nearest_held_out_features (float): the same in features.
    """

    num_images: int
    exact_copies: float
    near_copies: float
    closer_to_train: float
    closer_to_train_low: float
    closer_to_train_high: float
    closer_to_train_features: float
    closer_to_train_features_low: float
    closer_to_train_features_high: float
    nearest_train_pixels: float
    nearest_held_out_pixels: float
    nearest_train_features: float
    nearest_held_out_features: float


@dataclass(frozen=True)
class ClosestPairs:
    """The generated images that are closest to a training image, closest first; each training image at most once.

    Attributes:
        generated (Tensor): uint8 (P, C, H, W).
        train (Tensor): uint8 (P, C, H, W), the training image nearest to each.
        labels (Tensor): int64 (P,), of the generated images.
        distances (Tensor): float64 (P,), root mean square over the pixels, in [0, 1].
        exact (Tensor): bool (P,), whether all pixels are equal.
    """

    generated: Tensor
    train: Tensor
    labels: Tensor
    distances: Tensor
    exact: Tensor


@usual_defaults()
def memorization(
    generated: LabelledImages,
    train: LabelledImages,
    held_out: LabelledImages,
    classifier: SmallCNN,
    *,
    seen_images: Tensor | None = None,
    pairs: int = 20,
    seed: int = 0,
) -> tuple[Memorization, ClosestPairs]:
    """Compare how near generated images are to the training images with how near they should be.

    Near is relative: a smooth image has near neighbours in any large set. The yardstick is therefore how near held-out
    real images are, which could not be copied.

    Source: Meehan et al. 2020, "A non-parametric test to detect data-copying in generative models", for the comparison
    with held-out images.

    Args:
        generated (LabelledImages): at least one image.
        train (LabelledImages): the real images that the generator was trained on, or those that it adds to.
        held_out (LabelledImages): other real images of the same kind; at least one class must be in ``train`` too.
        classifier (SmallCNN): trained on ``train`` and ``held_out`` together, or on neither. To a classifier, what it
            was trained on looks more typical than other images: one trained on ``train`` alone puts the images of an
            honest generator nearer to ``held_out``, and hides copies.
        seen_images (Tensor, optional): ``image_hashes`` of all images that the generator was trained on, int64 (N,),
            which it carries; exact copies are looked for among these as well. Of images that nobody has here, near
            copies cannot be found. Default: only ``train`` is known
        pairs (int): number of closest pairs, or fewer if there are not so many. Default: 20
        seed (int): which images of the larger set are left out, so that equally many are compared. Default: 0

    Raises:
        InputError: classes or image shapes differ, or a set is empty.
    """
    check_comparable(generated, train)
    check_comparable(held_out, train)
    counts = [min(both) for both in zip(train.class_counts, held_out.class_counts, strict=True)]
    if not len(generated) or not sum(counts):
        raise InputError(
            f"there is nothing to compare: {generated.name} has {len(generated)} images, and {train.name} and "
            f"{held_out.name} have {sum(counts)} of the same classes. Give more"
        )

    # Copies among all training images.
    exact = torch.isin(generated.image_hashes, train.image_hashes)
    copied = exact if seen_images is None else exact | torch.isin(generated.image_hashes, seen_images)
    distances, nearest = _nearest_pixels(generated.images, train.images)
    near = distances < _nearest_pixels(held_out.images, train.images)[0].quantile(_NEAR)

    # Training against held-out images: equally many from each class, or the nearest would be in the larger set more
    # often.
    sides = [data.take(counts, seed=seed)[0].images for data in (train, held_out)]
    pixels = _closer(*(_nearest_pixels(generated.images, side) for side in sides))
    made = class_features(classifier, generated.images)
    features = _closer(*(nearest_distances(made, class_features(classifier, side)) for side in sides))
    measured = Memorization(
        num_images=len(generated),
        exact_copies=copied.double().mean().item(),
        near_copies=(near | copied).double().mean().item(),
        closer_to_train=pixels.share,
        closer_to_train_low=pixels.low,
        closer_to_train_high=pixels.high,
        closer_to_train_features=features.share,
        closer_to_train_features_low=features.low,
        closer_to_train_features_high=features.high,
        nearest_train_pixels=pixels.nearest_train,
        nearest_held_out_pixels=pixels.nearest_held_out,
        nearest_train_features=features.nearest_train,
        nearest_held_out_features=features.nearest_held_out,
    )
    return measured, _pairs(generated, train, distances, nearest, most=pairs)


def closest_pairs(generated: LabelledImages, train: LabelledImages, *, pairs: int = 20) -> ClosestPairs:
    """The generated images that are closest to a training image, pixel by pixel, to see whether they are copies.

    Args:
        generated (LabelledImages): at least one image.
        train (LabelledImages): the real images that the generator was trained on; at least one.
        pairs (int): how many, or fewer if there are not so many. Default: 20

    Returns:
        ClosestPairs: closest first; :func:`closest_pairs_picture` shows them.

    Raises:
        InputError: classes or image shapes differ, or a set is empty.
    """
    check_comparable(generated, train)
    if not len(generated) or not len(train):
        raise InputError(
            f"there is nothing to compare: {generated.name} has {len(generated)} images, and {train.name} has "
            f"{len(train)}. Give more"
        )
    return _pairs(generated, train, *_nearest_pixels(generated.images, train.images), most=pairs)


def closest_pairs_picture(pairs: ClosestPairs, classes: Sequence[str]) -> Image.Image:
    """Lay out pairs, ten in a row, with each generated image above the training image that is nearest to it.

    The title of a pair is its distance, or "copy" for an exact copy, and the class that was asked for.

    Args:
        pairs (ClosestPairs): at least one pair.
        classes (sequence of str): class names.
    """
    titles = [
        f"{'copy' if exact else f'{distance:.3f}'}\n{classes[label]}"
        for exact, distance, label in zip(
            pairs.exact.tolist(), pairs.distances.tolist(), pairs.labels.tolist(), strict=True
        )
    ]
    # The last of several rows is filled up with blank cells, so that all rows are alike.
    blank = -len(titles) % _PAIRS_A_ROW if len(titles) > _PAIRS_A_ROW else 0
    generated, train = (F.pad(images, (0,) * 7 + (blank,), value=255) for images in (pairs.generated, pairs.train))
    titles += [""] * blank
    rows = [
        class_grid(torch.cat([generated[part], train[part]]), titles[part])
        for part in (slice(start, start + _PAIRS_A_ROW) for start in range(0, len(titles), _PAIRS_A_ROW))
    ]
    picture = Image.new("RGB", (rows[0].width, sum(row.height for row in rows)), "white")
    top = 0
    for row in rows:
        picture.paste(row, (0, top))
        top += row.height
    return picture


def _nearest_pixels(queries: Pixels, references: Pixels) -> tuple[Tensor, Tensor]:
    """Root mean square distance, in [0, 1], to the nearest of some uint8 images, and the index of that image."""
    distances, indices = nearest_distances(queries, references)
    return distances / (255 * queries[0].numel() ** 0.5), indices


def _pairs(
    generated: LabelledImages, train: LabelledImages, distances: Tensor, nearest: Tensor, *, most: int
) -> ClosestPairs:
    """The closest pairs of generated images and the training images that are nearest to them, at these distances."""
    first = _closest(distances, nearest)[:most]
    ours, theirs = generated.images[first], train.images[nearest[first]]
    return ClosestPairs(ours, theirs, generated.targets[first], distances[first], distances[first] == 0)


def _closest(distances: Tensor, nearest: Tensor) -> Tensor:
    """Indices by ascending distance; of those with the same ``nearest``, only the closest."""
    order = distances.argsort(stable=True)
    seen: set[int] = set()
    kept = []
    for index, which in zip(order.tolist(), nearest[order].tolist(), strict=True):
        if which not in seen:
            seen.add(which)
            kept.append(index)
    return torch.tensor(kept)


@dataclass(frozen=True)
class _Closer:
    share: float
    low: float
    high: float
    nearest_train: float
    nearest_held_out: float


def _closer(train: tuple[Tensor, Tensor], held_out: tuple[Tensor, Tensor]) -> _Closer:
    """Share that is nearer to ``train`` than to ``held_out``; both are (distances, indices) of the nearest image."""
    ours, theirs = train[0], held_out[0]
    share = ((ours < theirs).double() + (ours == theirs).double() / 2).mean().item()
    # Whether a real image is in train or held out is chance too, and decides for all generated images whose nearest it
    # is. These therefore count as one group: the number of independent answers is Kish's effective sample size
    # (Kish 1965, "Survey sampling").
    groups = torch.where(ours <= theirs, train[1], held_out[1] + int(train[1].max()) + 1)
    effective = len(ours) ** 2 / groups.bincount().double().square().sum().item()
    low, high = _wilson_interval(share, effective)
    return _Closer(share, low, high, ours.median().item(), theirs.median().item())


def _wilson_interval(share: float, n: float) -> tuple[float, float]:
    """95 % interval for a share of ``n`` observations, where ``n`` need not be whole.

    Source: Wilson 1927, "Probable inference, the law of succession, and statistical inference".
    """
    z = NormalDist().inv_cdf(0.975)
    centre = (share + z**2 / (2 * n)) / (1 + z**2 / n)
    half = z / (1 + z**2 / n) * (share * (1 - share) / n + z**2 / (4 * n**2)) ** 0.5
    return max(0.0, centre - half), min(1.0, centre + half)
