"""Distances between feature sets, against closed forms, brute force and torchmetrics."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from ganaug.evaluation import distances
from ganaug.evaluation.distances import (
    PRDC,
    frechet_distance,
    kernel_distance,
    mean_pairwise_distance,
    nearest_distances,
    prdc,
)


def normal(n: int, d: int, seed: int = 0) -> torch.Tensor:
    return torch.from_numpy(np.random.default_rng(seed).standard_normal((n, d)))


def with_moments(n: int, mean: torch.Tensor, root: torch.Tensor) -> torch.Tensor:
    """Points whose sample mean is ``mean`` and whose sample covariance is ``root @ root.T``, exactly."""
    x = normal(n, len(mean))
    white = torch.linalg.solve_triangular(
        torch.linalg.cholesky((x - x.mean(0)).T.cov()), (x - x.mean(0)).T, upper=False
    )
    return (root @ white).T + mean


many = st.tuples(st.integers(2, 12), st.integers(2, 12), st.integers(1, 5), st.integers(0, 10**6))


def two_sets(sizes: tuple[int, int, int, int]) -> tuple[torch.Tensor, torch.Tensor]:
    n, m, d, seed = sizes
    return normal(n, d, seed), normal(m, d, seed + 1) * 2 + 1


def test_frechet_distance_has_the_closed_form_where_covariances_commute():
    a = with_moments(50, torch.tensor([0.0, 1, 2]).double(), torch.diag(torch.tensor([1.0, 2, 3])).double())
    b = with_moments(40, torch.tensor([3.0, 1, 6]).double(), torch.diag(torch.tensor([2.0, 2, 7])).double())
    # |m_a - m_b|^2 plus the squared differences of the standard deviations
    assert frechet_distance(a, b) == pytest.approx(25 + 1 + 0 + 16, rel=1e-10)


def test_frechet_distance_agrees_with_scipys_matrix_root_and_torchmetrics():
    from scipy.linalg import sqrtm
    from torchmetrics.image.fid import FrechetInceptionDistance

    class Features(nn.Module):
        num_features = 6

        def forward(self, x):
            return x

    a, b = normal(80, 6) @ normal(6, 6, 2), normal(60, 6, 1) @ normal(6, 6, 3) + 1
    root = sqrtm((a.T.cov() @ b.T.cov()).numpy())
    expected = (a.mean(0) - b.mean(0)).square().sum() + a.T.cov().trace() + b.T.cov().trace() - 2 * np.trace(root.real)
    assert frechet_distance(a, b) == pytest.approx(float(expected), rel=1e-9)
    metric = FrechetInceptionDistance(Features())
    metric.update(a, real=True)
    metric.update(b, real=False)
    assert frechet_distance(a, b) == pytest.approx(metric.compute().item(), rel=1e-4)


@given(many)
@settings(deadline=None, max_examples=40)
def test_frechet_distance_is_a_symmetric_distance(sizes):
    a, b = two_sets(sizes)  # of deficient rank where there are fewer points than dimensions
    distance = frechet_distance(a, b)
    assert distance >= (a.mean(0) - b.mean(0)).square().sum() - 1e-9
    assert frechet_distance(b, a) == pytest.approx(distance, rel=1e-9, abs=1e-9)
    assert frechet_distance(a + 7, b + 7) == pytest.approx(distance, rel=1e-8, abs=1e-8)
    assert frechet_distance(3 * a, 3 * b) == pytest.approx(9 * distance, rel=1e-8, abs=1e-8)
    assert frechet_distance(a, a.flip(0)) == pytest.approx(0, abs=1e-10)
    assert frechet_distance(a, a + 2) == pytest.approx(4 * a.shape[1], rel=1e-9)


def test_kernel_distance_is_the_estimate_written_out_pair_by_pair():
    a, b = normal(7, 3), normal(5, 3, 1) + 1

    def kernel(x, y):
        return float(x @ y / 3 + 1) ** 3

    within_a = np.mean([kernel(x, y) for i, x in enumerate(a) for j, y in enumerate(a) if i != j])
    within_b = np.mean([kernel(x, y) for i, x in enumerate(b) for j, y in enumerate(b) if i != j])
    between = np.mean([kernel(x, y) for x in a for y in b])
    assert kernel_distance(a, b) == pytest.approx(within_a + within_b - 2 * between, rel=1e-10)
    assert kernel_distance(b, a) == pytest.approx(kernel_distance(a, b), rel=1e-10)


def test_kernel_distance_is_unbiased():
    estimates = np.array([kernel_distance(normal(12, 4, 2 * k), normal(9, 4, 2 * k + 1)) for k in range(400)])
    assert abs(estimates.mean()) < 3 * estimates.std() / 20
    assert estimates.min() < 0  # a biased one cannot be
    assert kernel_distance(normal(300, 4), normal(300, 4, 1) + 1) > estimates.max()


def test_blocks_change_nothing(monkeypatch):
    a, b = normal(40, 6), normal(31, 6, 1)

    def everything():
        nearest, indices = nearest_distances(a, b)
        return kernel_distance(a, b), mean_pairwise_distance(a), prdc(a, b), nearest.tolist(), indices.tolist()

    whole = everything()
    monkeypatch.setattr(distances, "_ENTRIES", 100)
    monkeypatch.setattr(distances, "_BLOCK", 7)
    in_blocks = everything()
    assert in_blocks[:2] == pytest.approx(whole[:2], rel=1e-9)
    assert in_blocks[2:] == whole[2:]


def by_definition(real: np.ndarray, generated: np.ndarray, k: int) -> PRDC:
    def radius(points, i):
        return sorted(np.linalg.norm(points[i] - points[j]) for j in range(len(points)) if j != i)[k - 1]

    real_radii = [radius(real, i) for i in range(len(real))]
    radii = [radius(generated, j) for j in range(len(generated))]
    gap = np.linalg.norm(real[:, None] - generated[None], axis=2)
    in_real = [[gap[i, j] <= real_radii[i] for j in range(len(generated))] for i in range(len(real))]
    in_generated = [[gap[i, j] <= radii[j] for j in range(len(generated))] for i in range(len(real))]
    return PRDC(
        np.mean(np.any(in_real, 0)), np.mean(np.any(in_generated, 1)), np.sum(in_real) / (k * len(generated)),
        np.mean(np.any(in_real, 1)),
    )  # fmt: skip


@given(st.integers(4, 15), st.integers(4, 15), st.integers(1, 3), st.integers(0, 10**6))
@settings(deadline=None, max_examples=40)
def test_prdc_is_its_definition(n, m, k, seed):
    rng = np.random.default_rng(seed)
    # Whole numbers: many distances are equal, and some points.
    real, generated = rng.integers(0, 6, (n, 2)), rng.integers(2, 8, (m, 2))
    found, expected = prdc(torch.tensor(real), torch.tensor(generated), k), by_definition(real, generated, k)
    for name in ("precision", "recall", "density", "coverage"):
        assert getattr(found, name) == pytest.approx(getattr(expected, name), abs=1e-12), name


def test_prdc_tells_what_is_wrong():
    real = normal(200, 3)
    same = prdc(real, normal(200, 3, 1))
    assert min(same.precision, same.recall, same.coverage) > 0.85
    assert 0.8 < same.density < 1.2
    one_mode = prdc(real, normal(200, 3, 1) * 0.05)
    assert one_mode.precision == 1
    assert one_mode.recall < 0.1
    assert one_mode.coverage < 0.2
    assert prdc(real, real + 100) == PRDC(0, 0, 0, 0)


def test_mean_pairwise_distance_is_over_distinct_pairs():
    assert mean_pairwise_distance(torch.tensor([[0.0, 0], [3, 4], [0, 8]])) == pytest.approx((5 + 8 + 5) / 3)
    x = normal(60, 40)
    assert mean_pairwise_distance(x) == pytest.approx(torch.pdist(x).mean().item(), rel=1e-9)
    assert mean_pairwise_distance(x + 1000) == pytest.approx(mean_pairwise_distance(x), rel=1e-9)
    assert mean_pairwise_distance(x[:1].repeat(50, 1)) == 0


def test_nearest_distances_find_copies_exactly():
    rng = np.random.default_rng(0)
    references = torch.from_numpy(rng.integers(0, 256, (3000, 784), dtype=np.uint8))
    chosen = torch.from_numpy(rng.permutation(3000)[:100])
    queries = references[chosen].clone()
    queries[50:, 0] ^= 1  # one pixel by one grey level
    distances_, indices = nearest_distances(queries, references)
    assert torch.equal(indices, chosen)
    assert distances_.tolist() == [0.0] * 50 + [1.0] * 50


@pytest.mark.parametrize("dimensions", [784, 12_288])
def test_a_copy_is_found_among_images_that_hardly_differ(dimensions):
    rng = np.random.default_rng(0)
    query = torch.from_numpy(rng.integers(0, 255, (20, dimensions), dtype=np.uint8))
    others = query.repeat_interleave(12, 0)
    others[torch.arange(240), torch.arange(240)] += 1
    found, indices = nearest_distances(query, torch.cat([others, query]))
    assert found.tolist() == [0.0] * 20
    assert indices.tolist() == list(range(240, 260))


@given(st.integers(1, 20), st.integers(1, 20), st.integers(0, 10**6))
@settings(deadline=None, max_examples=40)
def test_nearest_distances_are_the_least(n, m, seed):
    queries, references = normal(n, 5, seed).float() + 50, normal(m, 5, seed + 1).float() + 50
    found, indices = nearest_distances(queries, references)
    gaps = (queries.double()[:, None] - references.double()).norm(dim=2)
    assert torch.allclose(found, gaps.min(1).values, rtol=1e-12)
    assert torch.equal(gaps.gather(1, indices[:, None]).squeeze(1).argsort(), found.argsort())


def test_sets_that_cannot_be_compared_are_refused():
    for bad in (normal(1, 3), normal(5, 2)):
        for distance in (frechet_distance, kernel_distance, prdc):
            with pytest.raises(ValueError, match=r"need \(N, D\) and \(M, D\), N and M at least 2, got"):
                distance(normal(5, 3), bad)
    with pytest.raises(ValueError, match="k must be from 1 to 3, got 4"):
        prdc(normal(9, 3), normal(4, 3), k=4)
    with pytest.raises(ValueError, match="at least one reference"):
        nearest_distances(normal(3, 3), normal(0, 3))
