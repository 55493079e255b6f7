"""The operations of TrivialAugment and RandAugment on whole batches, each image with a strength of its own.

They compute what ``torchvision.transforms.v2`` computes image by image, which takes several times as long.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

BINS = 31  # strengths of an operation, from least to most


def change_at_random(images: Tensor, table: Tensor, bins: Tensor, background: Tensor) -> Tensor:
    """Apply to each image an operation that is drawn, all equally likely, in a direction that is drawn.

    Args:
        images (Tensor): uint8 (N, C, H, W), square, with 1 or 3 channels.
        table (Tensor): float32 (operations, BINS), how strong each is: :func:`wide` or :func:`usual`.
        bins (Tensor): int64 (N,), which of the strengths.
        background (Tensor): uint8 (C,), the colour that moves in.

    Returns:
        Tensor: uint8 (N, C, H, W).
    """
    which = torch.randint(len(OPERATIONS), bins.shape)
    back = (torch.rand(bins.shape) < 0.5) & _SIGNED[which]
    return change(images, which, torch.where(back, -1, 1) * table[which, bins], background)


def change(images: Tensor, which: Tensor, strength: Tensor, background: Tensor) -> Tensor:
    """Apply an operation to each image.

    Args:
        images (Tensor), background (Tensor): see :func:`change_at_random`.
        which (Tensor): int64 (N,), the operation of each, as a position in :data:`OPERATIONS`.
        strength (Tensor): float32 (N,), how strong it is: the slope of a shear, pixels, degrees, the share by which
            brightness, colour, contrast or sharpness rise, bits that are kept, or the share of 255 from which values
            are inverted.
    """
    which, strength, images = which.to(images.device), strength.to(images.device), images.clone()
    # Images that are moved go through one kernel together.
    matrices = images.new_zeros((len(images), 2, 3), dtype=torch.float32)
    for number, motion in enumerate(_MOTIONS.values()):
        chosen = which == number
        matrices[chosen] = motion(strength[chosen], images.shape[-1])
    moved = which < len(_MOTIONS)
    images[moved] = _moved(images[moved], matrices[moved], background)
    # The others, operation by operation.
    for number, operation in enumerate(_COLOURS.values(), len(_MOTIONS)):
        chosen = torch.nonzero(which == number).squeeze(1)
        if len(chosen):
            made = operation(images[chosen], strength[chosen].view(-1, 1, 1, 1))
            images[chosen] = made.clamp(0, 255).to(torch.uint8)
    return images


def _moved(images: Tensor, matrices: Tensor, background: Tensor) -> Tensor:
    """Images (N, C, H, W) whose pixels are taken from where matrices (N, 2, 3) say, the nearest ones."""
    side, filling = images.shape[-1], background.to(images.device).view(1, -1, 1, 1).float()
    pixels = torch.arange(side, device=images.device) - (side - 1) / 2  # from the middle of the image
    y, x = torch.meshgrid(pixels, pixels, indexing="ij")
    positions = torch.stack([x, y, torch.ones_like(x)], -1).view(1, -1, 3)
    taken = (positions @ matrices.transpose(1, 2) / (side / 2)).unflatten(1, (side, side))
    # What comes from outside is 0 there, so that it becomes the background.
    found = F.grid_sample(images - filling, taken, mode="nearest", align_corners=False) + filling
    return found.to(torch.uint8)


def _shear_x(slope: Tensor, side: int) -> Tensor:
    return _matrices(slope, 1, slope, slope * side / 2, 0, 1, 0)  # the upper edge stays where it is


def _shear_y(slope: Tensor, side: int) -> Tensor:
    return _matrices(slope, 1, 0, 0, slope, 1, slope * side / 2)


def _translate_x(pixels: Tensor, side: int) -> Tensor:
    return _matrices(pixels, 1, 0, -pixels.trunc(), 0, 1, 0)


def _translate_y(pixels: Tensor, side: int) -> Tensor:
    return _matrices(pixels, 1, 0, 0, 0, 1, -pixels.trunc())


def _rotate(degrees: Tensor, side: int) -> Tensor:
    cosine, sine = degrees.deg2rad().cos(), degrees.deg2rad().sin()
    return _matrices(degrees, cosine, -sine, 0, sine, cosine, 0)


def _matrices(strength: Tensor, *entries: float | Tensor) -> Tensor:
    """Matrices (N, 2, 3) from their entries, row by row: numbers, or tensors of the shape of the strength, (N,).

    A matrix takes (x, y, 1), the position of a pixel in pixels from the middle, to where its value is taken from.
    """
    every = [torch.as_tensor(entry, dtype=strength.dtype, device=strength.device) for entry in entries]
    return torch.stack([entry.expand_as(strength) for entry in every], 1).view(-1, 2, 3)


def _identity(images: Tensor, strength: Tensor) -> Tensor:
    return images


def _brightness(images: Tensor, strength: Tensor) -> Tensor:
    return images * (1 + strength)


def _color(images: Tensor, strength: Tensor) -> Tensor:
    return torch.lerp(_grey(images).expand(images.shape), images.float(), 1 + strength)


def _contrast(images: Tensor, strength: Tensor) -> Tensor:
    return torch.lerp(_grey(images).mean((1, 2, 3), keepdim=True).expand(images.shape), images.float(), 1 + strength)


def _sharpness(images: Tensor, strength: Tensor) -> Tensor:
    if images.shape[-1] < 3:
        return images
    kernel = torch.tensor([[1.0, 1.0, 1.0], [1.0, 5.0, 1.0], [1.0, 1.0, 1.0]], device=images.device) / 13
    smooth = images.float()  # at the edges, images remain as they are
    inside = F.conv2d(smooth.flatten(0, 1).unsqueeze(1), kernel.view(1, 1, 3, 3)).round()
    smooth[:, :, 1:-1, 1:-1] = inside.view(*images.shape[:2], *inside.shape[2:])
    return torch.lerp(smooth, images.float(), 1 + strength)


def _posterize(images: Tensor, bits: Tensor) -> Tensor:
    step = torch.exp2(8 - bits)
    return (images / step).floor() * step


def _solarize(images: Tensor, threshold: Tensor) -> Tensor:
    return torch.where(images >= 255 * threshold, 255 - images, images)


def _autocontrast(images: Tensor, strength: Tensor) -> Tensor:
    from torchvision.transforms.v2 import functional

    made: Tensor = functional.autocontrast(images)
    return made


def _equalize(images: Tensor, strength: Tensor) -> Tensor:
    from torchvision.transforms.v2 import functional

    made: Tensor = functional.equalize(images)
    return made


def _grey(images: Tensor) -> Tensor:
    """The brightness of images, float32 (N, 1, H, W)."""
    if images.shape[1] == 1:
        return images.float()
    weights = torch.tensor([0.2989, 0.587, 0.114], device=images.device)
    return torch.einsum("nchw,c->nhw", images.float(), weights).floor().unsqueeze(1)


_MOTIONS: dict[str, Callable[[Tensor, int], Tensor]] = {
    "ShearX": _shear_x,
    "ShearY": _shear_y,
    "TranslateX": _translate_x,
    "TranslateY": _translate_y,
    "Rotate": _rotate,
}
_COLOURS: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "Identity": _identity,
    "Brightness": _brightness,
    "Color": _color,
    "Contrast": _contrast,
    "Sharpness": _sharpness,
    "Posterize": _posterize,
    "Solarize": _solarize,
    "AutoContrast": _autocontrast,
    "Equalize": _equalize,
}
OPERATIONS = (*_MOTIONS, *_COLOURS)  # as torchvision calls them
_SIGNED = torch.tensor([name in _MOTIONS or name in OPERATIONS[6:10] for name in OPERATIONS])  # they go both ways


def wide() -> Tensor:
    """How strong TrivialAugment's operations are, float32 (operations, BINS)."""
    return _table(shear=0.99, pixels=32.0, degrees=135.0, share=0.99, bits=2)


def usual(side: int) -> Tensor:
    """How strong RandAugment's operations are on images of that side, float32 (operations, BINS)."""
    return _table(shear=0.3, pixels=150 / 331 * side, degrees=30.0, share=0.9, bits=4)


def _table(*, shear: float, pixels: float, degrees: float, share: float, bits: int) -> Tensor:
    most = {"ShearX": shear, "ShearY": shear, "TranslateX": pixels, "TranslateY": pixels, "Rotate": degrees}
    most |= dict.fromkeys(("Brightness", "Color", "Contrast", "Sharpness"), share)
    rows = {name: torch.linspace(0, strength, BINS) for name, strength in most.items()}
    rows |= {"Posterize": torch.linspace(8, bits, BINS).round(), "Solarize": torch.linspace(1, 0, BINS)}
    return torch.stack([rows.get(name, torch.zeros(BINS)) for name in OPERATIONS])
