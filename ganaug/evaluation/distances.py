"""Distances between sets of feature vectors, and within one. All are computed in float64."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from ganaug.data.stored import Pixels

_ENTRIES = 2**23  # in a block of a distance matrix: 64 MB in float64
_BLOCK = 4096  # points in a block, at most, when nearest neighbours are searched


@dataclass(frozen=True)
class PRDC:
    """How two sets cover each other. The ball of a point reaches to its k-th nearest neighbour in its own set.

    Attributes:
        precision (float): share of generated points that lie in the ball of some real point, in [0, 1].
        recall (float): share of real points that lie in the ball of some generated point, in [0, 1].
        density (float): in how many balls of real points a generated point lies on average, divided by k. About 1 if
            both sets have one distribution, more if generated points crowd where real ones are dense.
        coverage (float): share of real points whose ball has a generated point in it, in [0, 1]. About 1 - 2**-k if
            both sets have one distribution and the same size.
    """

    precision: float
    recall: float
    density: float
    coverage: float


def frechet_distance(a: Tensor, b: Tensor) -> float:
    """Fréchet distance between the Gaussians with the means and covariances of two sets.

    Source: Heusel et al. 2017, "GANs trained by a two time-scale update rule converge to a local Nash equilibrium",
    equation 6: |m_a - m_b|^2 + Tr(C_a + C_b - 2 (C_a C_b)^(1/2)).

    Args:
        a, b (Tensor): float (N, D) and (M, D). With fewer points than dimensions, the covariance does not have full
            rank, and the distance is far too large.

    Returns:
        float: squared distance, at least 0, in squared units of the features.

    Raises:
        ValueError: a set has fewer than 2 points, or the dimensions differ.
    """
    a, b = _sets(a, b)
    factor_a, factor_b = _covariance_factor(a), _covariance_factor(b)
    # With C = R^T R, the eigenvalues of (C_a C_b)^(1/2) are the singular values of R_a R_b^T, which are real, whatever
    # the ranks.
    shared = torch.linalg.svdvals(factor_a @ factor_b.T).sum()
    traces = factor_a.square().sum() + factor_b.square().sum()
    squared = (a.mean(0) - b.mean(0)).square().sum() + traces - 2 * shared
    return max(0.0, float(squared))


def kernel_distance(a: Tensor, b: Tensor) -> float:
    """Unbiased estimate of the squared maximum mean discrepancy with the kernel (x.y / D + 1)^3, over all points.

    Source: Bińkowski et al. 2018, "Demystifying MMD GANs", equations 3 and 4. Their KID is its mean over subsets.

    Args:
        a, b (Tensor): float (N, D) and (M, D).

    Returns:
        float: 0 on average if both sets have one distribution, so it can be slightly below 0.

    Raises:
        ValueError: a set has fewer than 2 points, or the dimensions differ.
    """
    a, b = _sets(a, b)
    within = [(_kernel_sum(x, x) - _cubic(x.square().sum(1), x).sum()) / (len(x) * (len(x) - 1)) for x in (a, b)]
    return (within[0] + within[1] - 2 * _kernel_sum(a, b) / (len(a) * len(b))).item()


def prdc(real: Tensor, generated: Tensor, k: int = 5) -> PRDC:
    """Precision, recall, density and coverage of generated points.

    Sources: Kynkäänniemi et al. 2019, "Improved precision and recall metric for assessing generative models",
    equations 1 and 2; Naeem et al. 2020, "Reliable fidelity and diversity metrics for generative models", equations
    5 (density) and 7 (coverage). Balls include their surface, as in the former.

    Args:
        real, generated (Tensor): float (N, D) and (M, D).
        k (int): which neighbour a ball reaches to, from 1 to min(N, M) - 1. Default: 5

    Raises:
        ValueError: ``k`` is out of range, or the dimensions differ.
    """
    real, generated = _sets(real, generated)
    if not 1 <= k < min(len(real), len(generated)):
        raise ValueError(f"k must be from 1 to {min(len(real), len(generated)) - 1}, got {k}")
    real_radii, radii = _neighbour_distances(real, k), _neighbour_distances(generated, k)
    precise = torch.zeros(len(generated), dtype=torch.bool)
    in_balls = recalled = covered = 0
    for rows, distances in _blocks(real, generated):
        inside = distances <= real_radii[rows, None]
        precise |= inside.any(0)
        in_balls += int(inside.sum())
        covered += int(inside.any(1).sum())
        recalled += int((distances <= radii).any(1).sum())
    n, m = len(real), len(generated)
    return PRDC(int(precise.sum()) / m, recalled / n, in_balls / (k * m), covered / n)


def mean_pairwise_distance(a: Tensor) -> float:
    """Mean Euclidean distance over the distinct pairs of float (N, D) points.

    Raises:
        ValueError: there are fewer than 2 points.
    """
    a, _ = _sets(a, a)
    a = a - a[0]  # so that equal points are at distance 0 from each other, in spite of the matrix product
    total = sum(torch.cdist(a[rows], a).sum().item() for rows in _slices(len(a), len(a)))
    return total / (len(a) * (len(a) - 1))


def nearest_distances(queries: Pixels, references: Pixels) -> tuple[Tensor, Tensor]:
    """Nearest reference of each query, by Euclidean distance.

    A matrix product in float64, which is exact for grey levels, finds it. The distance is then computed from the two
    points, so that a copy is at distance 0.

    Args:
        queries, references (Tensor or StoredImages): (N, ...) and (M, ...) of any real type, M at least 1.

    Returns:
        tuple: distances, float64 (N,), and indices of the references, int64 (N,).

    Raises:
        ValueError: there are no references.
    """
    if not len(references):
        raise ValueError("there must be at least one reference, got none")
    distances, indices = [], []
    size = min(_BLOCK, max(1, 4 * _ENTRIES // math.prod(queries.shape[1:])))
    for points in queries.split(size):
        points = points.flatten(1).double()
        least, nearest = torch.full((len(points),), torch.inf, dtype=torch.float64), torch.zeros(len(points)).long()
        for number, block in enumerate(references.split(size)):
            block = block.flatten(1).double()
            # |r|^2 - 2 q.r orders the references as |q - r|^2 does.
            found, where = torch.addmm(block.square().sum(1), points, block.T, alpha=-2).min(1)
            nearest = torch.where(found < least, where + number * size, nearest)
            least = torch.minimum(least, found)
        distances.append((points - references[nearest].flatten(1).double()).square().sum(1).sqrt())
        indices.append(nearest)
    return torch.cat(distances), torch.cat(indices)


def _sets(a: Tensor, b: Tensor) -> tuple[Tensor, Tensor]:
    if min(len(a), len(b)) < 2 or a.shape[1:] != b.shape[1:] or a.ndim != 2:
        raise ValueError(f"need (N, D) and (M, D), N and M at least 2, got {tuple(a.shape)} and {tuple(b.shape)}")
    return a.double(), b.double()


def _covariance_factor(points: Tensor) -> Tensor:
    """Matrix R of (min(N, D), D) for which R^T R is the covariance of float64 (N, D) points."""
    # QR of the points themselves: a root of the covariance would lose half the digits if its rank is not full.
    factor: Tensor = torch.linalg.qr(points - points.mean(0), mode="r").R
    return factor / math.sqrt(len(points) - 1)


def _cubic(products: Tensor, points: Tensor) -> Tensor:
    kernel: Tensor = (products / points.shape[1] + 1) ** 3
    return kernel


def _kernel_sum(a: Tensor, b: Tensor) -> Tensor:
    return torch.stack([_cubic(a[rows] @ b.T, a).sum() for rows in _slices(len(a), len(b))]).sum()


def _neighbour_distances(points: Tensor, k: int) -> Tensor:
    """Distance of each point to its k-th nearest other point."""
    # The first value is the distance of a point to itself, 0.
    return torch.cat([distances.kthvalue(k + 1, 1).values for _, distances in _blocks(points, points)])


def _blocks(a: Tensor, b: Tensor) -> Iterator[tuple[slice, Tensor]]:
    """Euclidean distances from some rows of ``a`` to all of ``b``, block after block."""
    for rows in _slices(len(a), len(b)):
        # Without a matrix product, which would give equal rows a distance above 0, and equal distances two values.
        yield rows, torch.cdist(a[rows], b, compute_mode="donot_use_mm_for_euclid_dist")


def _slices(rows: int, columns: int) -> Iterator[slice]:
    step = max(1, _ENTRIES // columns)
    return (slice(start, start + step) for start in range(0, rows, step))
