from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from ganaug.pixels import to_uint8
from ganaug.sampling import sample
from ganaug.seeding import Purpose, check_seed, latents, random_stream


def test_rounding_on_a_ramp_that_leaves_the_range():
    levels = torch.arange(256)
    exact = levels / 127.5 - 1
    for shift in (-0.49, 0.0, 0.49):
        assert torch.equal(to_uint8(exact + shift / 127.5), levels.to(torch.uint8))
    assert to_uint8(torch.tensor([-1.01, -7.0, 1.01, 7.0])).tolist() == [0, 0, 255, 255]


def test_an_image_depends_on_its_own_seed_index_and_label_alone(generator):
    labels = [3, 1, 4, 1, 5, 9, 2, 6, 5, 3, 5, 8]
    whole = generator.sample(labels, seed=7)
    assert whole.dtype == torch.uint8
    assert whole.shape == (12, 1, 28, 28)
    picked = sample(generator, [labels[8], labels[2]], seed=7, indices=[8, 2])
    assert torch.equal(picked, whole[[8, 2]])
    assert not torch.equal(whole, generator.sample(labels, seed=8))
    assert not torch.equal(whole[1], whole[3])  # same label, other index
    assert not torch.equal(whole[:1], sample(generator, [3], seed=7, epoch=1))


@pytest.mark.parametrize("count", [100_000, pytest.param(500_000, marks=pytest.mark.slow)])
def test_streams_do_not_meet(count):
    """With a torch.Generator per item pairs would be equal here, 5 or 116: it keeps 32 bits of its seed."""
    seen = {
        random_stream(5, Purpose.SAMPLE, epoch=epoch, index=index).integers(2**63)
        for epoch in range(2)
        for index in range(count)
    }
    assert len(seen) == 2 * count


def test_streams_differ_by_every_bit_of_their_keys():
    first = {
        random_stream(seed, purpose, epoch=epoch, index=index, attempt=attempt).integers(2**63)
        for seed in (0, 1, 2**32, 2**63)
        for purpose in Purpose
        for epoch in (0, 1, 2**32)
        for index in (0, 1, 2**32, 2**32 + 1)
        for attempt in (0, 1)
    }
    assert len(first) == 4 * len(Purpose) * 3 * 4 * 2


def test_latents_are_standard_normal():
    z = latents(0, range(2000), 50).double()
    assert abs(float(z.mean())) < 0.02
    assert abs(float(z.std()) - 1) < 0.02
    correlation = np.corrcoef(z[:-1].flatten(), z[1:].flatten())[0, 1]
    assert abs(correlation) < 0.02


def test_latents_are_the_same_everywhere():
    """A published seed means the same images on any machine, so a numpy that draws otherwise must be noticed."""
    z = latents(2026, [0, 10**9], 3)
    torch.testing.assert_close(
        z, torch.tensor([[0.39089352, 0.72470057, 0.5676758], [0.34081614, 0.8629446, -0.1003376]])
    )


@pytest.mark.parametrize("seed", [-1, 2**64, 1.0, True, None, "1"])
def test_bad_seeds_are_refused(seed):
    with pytest.raises(ValueError, match="seed must be an int"):
        check_seed(seed)


@given(seed=st.integers(0, 2**64 - 1))
def test_any_64_bit_seed_works(seed):
    assert torch.isfinite(latents(seed, [0], 8)).all()


def test_labels_are_checked(generator):
    with pytest.raises(ValueError, match=r"labels must be from 0 to 9, got 10; the classes are 0: 0"):
        generator.sample([0, 10])
    with pytest.raises(ValueError, match="flat sequence of ints"):
        sample(generator, torch.zeros(2, 2))
    assert generator.sample([]).shape == (0, 1, 28, 28)


def test_the_generator_is_left_as_it_was(generator):
    generator.train()
    generator.layers[1].eval()
    try:
        generator.sample([1, 2])
        assert generator.training
        assert generator.layers[0].training
        assert not generator.layers[1].training
    finally:
        generator.eval()


def test_bytes_do_not_depend_on_what_is_computed_together(generator):
    """One by one, in threes and all together, with one thread and with two."""
    labels = [k % 10 for k in range(300)]
    whole = sample(generator, labels)
    assert ((whole > 0) & (whole < 255)).float().mean() > 0.2
    threads = torch.get_num_threads()
    try:
        for size, count in [(1, 150), (3, 300), (7, 300)]:
            torch.set_num_threads(1 + size % 2)
            parts = [
                sample(generator, labels[start : start + size], indices=range(start, min(start + size, count)))
                for start in range(0, count, size)
            ]
            assert torch.equal(torch.cat(parts), whole[:count])
    finally:
        torch.set_num_threads(threads)


class _NaN(nn.Module):
    latent_dim = 4

    def forward(self, z, labels):
        return torch.full((len(z), 1, 8, 8), float("nan"))


def test_images_that_are_not_finite_are_refused():
    with pytest.raises(ValueError, match="NaN or infinite"):
        sample(_NaN(), [0])


def test_samples_can_be_trained_on(generator):
    images = generator.sample([0, 1]).float()
    weight = torch.ones(1, requires_grad=True)
    (images * weight).sum().backward()
    assert weight.grad is not None
