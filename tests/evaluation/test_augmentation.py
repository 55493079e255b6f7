"""TrivialAugment and RandAugment do to whole batches what torchvision does to one image after the other."""

from __future__ import annotations

import math

import pytest
import torch
from helpers.images import small_images
from hypothesis import given, settings
from hypothesis import strategies as st
from torchvision.transforms import v2
from torchvision.transforms.v2 import functional

from ganaug.evaluation import RandAugment, ShiftFlip, TrivialAugment
from ganaug.evaluation.operations import BINS, OPERATIONS, change, usual, wide

SIDE = 16


def affine(image, fill, *, translate=(0, 0), shear=(0.0, 0.0), center=None):
    return functional.affine(image, 0.0, list(translate), 1.0, list(shear), fill=fill, center=center)


def degrees(slope: float) -> float:
    return math.degrees(math.atan(slope))


TORCHVISION = {
    "ShearX": lambda image, s, fill: affine(image, fill, shear=(degrees(s), 0.0), center=[0, 0]),
    "ShearY": lambda image, s, fill: affine(image, fill, shear=(0.0, degrees(s)), center=[0, 0]),
    "TranslateX": lambda image, s, fill: affine(image, fill, translate=(int(s), 0)),
    "TranslateY": lambda image, s, fill: affine(image, fill, translate=(0, int(s))),
    "Rotate": lambda image, s, fill: functional.rotate(image, s, fill=fill),
    "Identity": lambda image, s, fill: image,
    "Brightness": lambda image, s, fill: functional.adjust_brightness(image, 1 + s),
    "Color": lambda image, s, fill: functional.adjust_saturation(image, 1 + s),
    "Contrast": lambda image, s, fill: functional.adjust_contrast(image, 1 + s),
    "Sharpness": lambda image, s, fill: functional.adjust_sharpness(image, 1 + s),
    "Posterize": lambda image, s, fill: functional.posterize(image, int(s)),
    "Solarize": lambda image, s, fill: functional.solarize(image, 255 * s),
    "AutoContrast": lambda image, s, fill: functional.autocontrast(image),
    "Equalize": lambda image, s, fill: functional.equalize(image),
}


@settings(max_examples=60, deadline=None)
@given(
    st.sampled_from(OPERATIONS),
    st.lists(st.integers(0, BINS - 1), min_size=1, max_size=4),
    st.sampled_from(["wide", "usual"]),
    st.booleans(),
    st.sampled_from([1, 3]),
)
def test_each_operation_is_torchvisions_at_every_strength(name, bins, table, back, channels):
    images = small_images(n=len(bins), size=SIDE, channels=channels).images
    number, fill = OPERATIONS.index(name), [77] * channels
    goes_back = back and name not in ("Posterize", "Solarize")
    strength = (wide() if table == "wide" else usual(SIDE))[number, bins] * (-1 if goes_back else 1)
    changed = change(images, torch.full((len(bins),), number), strength, torch.tensor(fill, dtype=torch.uint8))
    expected = [TORCHVISION[name](image, s, fill) for image, s in zip(images, strength.tolist(), strict=True)]
    apart = (changed.int() - torch.stack(expected).int()).abs()
    if name.startswith("Shear"):  # a position may lie exactly between two pixels
        assert (apart > 0).float().mean() < 0.05
    else:  # values are cut to integers, and a float may be just below one or just above
        assert apart.max() <= 1
        assert (apart > 0).float().mean() < 0.1


def test_an_image_with_each_operation_in_one_batch_is_as_it_is_alone():
    images = small_images(n=len(OPERATIONS), size=SIDE, channels=3).images
    which, background = torch.arange(len(OPERATIONS)).flip(0), torch.tensor([1, 2, 3], dtype=torch.uint8)
    strength = wide()[which, 20]
    together = change(images, which, strength, background)
    for k in range(len(images)):
        assert torch.equal(together[k], change(images[[k]], which[[k]], strength[[k]], background)[0])


@pytest.mark.parametrize(
    ("augmentation", "theirs"), [(TrivialAugment, v2.TrivialAugmentWide), (RandAugment, v2.RandAugment)]
)
def test_operations_and_strengths_are_distributed_as_in_torchvision(augmentation, theirs):
    """Every pixel and its square have the same means."""
    background, drawn = torch.tensor([200], dtype=torch.uint8), 6000
    image = small_images(n=1, size=8).images[0]
    with torch.random.fork_rng():
        torch.manual_seed(0)
        ours = augmentation(ShiftFlip(0, flip=False, background=background))(image.expand(drawn, -1, -1, -1))
        operation = theirs(fill=[200])
        other = torch.stack([operation(image) for _ in range(drawn)])
    assert (ours.shape, ours.dtype) == (other.shape, torch.uint8)
    for power in (1, 2):
        one, two = (each.double() ** power for each in (ours, other))
        error = ((one.var(0) + two.var(0)) / drawn).sqrt()
        assert ((one.mean(0) - two.mean(0)).abs() / error).max() < 4


def test_images_are_shifted_first():
    images = small_images(n=100, size=SIDE).images
    shift_flip = ShiftFlip(2, flip=True, background=torch.tensor([200], dtype=torch.uint8))
    with torch.random.fork_rng():
        torch.manual_seed(0)
        shifted = shift_flip(images)
        torch.manual_seed(0)
        changed = TrivialAugment(shift_flip)(images)
    same = sum(torch.equal(one, other) for one, other in zip(changed, shifted, strict=True))
    assert 0 < same < 50  # those whose operation changes nothing
