from __future__ import annotations

import copy
import threading
from collections.abc import Iterator

import numpy as np
import pytest
import torch
from helpers.generators import Honest, make_generator, shown
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from ganaug import ConditionalGANAugment, open_images
from ganaug.core.hardware import deterministic_passes
from ganaug.core.pixels import to_uint8
from ganaug.core.seeding import Purpose, check_seed, latents, random_stream
from ganaug.sampling import ClassSampler, sample
from ganaug.sampling.inference import InferenceCopy, Shortcuts
from ganaug.training import MODELS


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


NAMED = ("ant", "bee", "cat")


@pytest.mark.parametrize("kind", [list, tuple, np.array, lambda names: np.array(names, dtype=object)])
def test_labels_may_be_class_names(kind):
    honest = Honest(*NAMED)
    images = sample(honest, kind(["cat", "ant", "cat"]))
    assert [shown(image) for image in images] == ["cat", "ant", "cat"]
    assert torch.equal(images, sample(honest, [2, 0, 2]))


def test_a_generator_of_numerals_is_asked_by_name_or_by_label(generator):
    """Its "7" is label 7 only because its classes stand in this order."""
    assert torch.equal(generator.sample(["7", "9"], seed=5), generator.sample([7, 9], seed=5))
    turned = make_generator(tuple("9876543210"))
    assert torch.equal(turned.sample(["7"]), turned.sample([2]))


@pytest.mark.parametrize("labels", [range(3), np.arange(3), torch.arange(3), [torch.tensor(k) for k in range(3)]])
def test_labels_may_be_ints_of_any_kind(labels):
    assert [shown(image) for image in sample(Honest(*NAMED), labels)] == list(NAMED)


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        (7, r"got 7\. Write sample\(\[7\]\)"),
        (np.int64(7), r"got 7\. Write sample\(\[7\]\)"),
        (torch.tensor(7), r"got 7\. Write sample\(\[7\]\)"),
        ("cat", r"got 'cat'\. Write sample\(\['cat'\]\)"),
        (["cat", "emu"], "got 'emu' among them; the classes are ant, bee, cat"),
        (["cat", 1], "got 1 among them; the classes are ant, bee, cat"),
        ([0, 3], "from 0 to 2, got 3; the classes are 0: ant, 1: bee, 2: cat"),
        ([-1], "got -1"),
        (torch.tensor([2**40]), "got 1099511627776"),
        ([0.0], "flat sequence of ints"),
        ([True, False], "flat sequence of ints .* torch.bool"),
        ([[0], [1]], "flat sequence of ints"),
        ([[0], [1, 2]], "flat sequence of ints"),
        (None, "flat sequence of ints .* got None"),
        ({0, 1}, "flat sequence of ints .* got {0, 1}"),
        ({"cat": 3}, "flat sequence of ints .* got {'cat': 3}"),
    ],
)
def test_labels_that_are_refused(labels, message):
    with pytest.raises(ValueError, match=message):
        sample(Honest(*NAMED), labels)


def test_a_generator_without_names_takes_any_label_but_no_name():
    nameless = Honest(*NAMED)
    nameless.label_names = None
    assert [shown(image) for image in sample(nameless, [2, 0])] == ["cat", "ant"]
    with pytest.raises(ValueError, match="it has no label_names, so give ints"):
        sample(nameless, ["cat"])
    with pytest.raises(ValueError, match="got -1"):
        sample(nameless, [-1])


@pytest.mark.parametrize("dtype", [torch.float16, torch.float64, torch.bfloat16])
@pytest.mark.parametrize("model", ["cgan-mlp", "acgan-28"])
def test_generators_of_another_precision_are_drawn_from_in_fp32(model, dtype):
    with torch.random.fork_rng():
        torch.manual_seed(0)
        generator = MODELS[model].generator(tuple("0123456789"), image_size=8, channels=1).eval().to(dtype)
    images = generator.sample(range(10))
    assert torch.equal(images, copy.deepcopy(generator).float().sample(range(10)))
    assert {weight.dtype for weight in generator.parameters()} == {dtype}
    mixed = ConditionalGANAugment(open_images("sklearn:digits"), generator, 0.01)
    assert torch.equal(mixed[len(mixed) - 1][0], sample(generator, ["9"], indices=[len(mixed) - 1])[0])


def test_a_generator_of_mixed_precision_converts_for_itself():
    class Mixed(nn.Module):
        latent_dim = 4

        def __init__(self):
            super().__init__()
            with torch.random.fork_rng():
                self.first, self.last = nn.Linear(4, 4, dtype=torch.float64), nn.Linear(4, 4)

        def forward(self, z, labels):
            return self.last(self.first(z.double()).float()).tanh().view(-1, 1, 2, 2)

    assert sample(Mixed(), [0, 0]).shape == (2, 1, 2, 2)


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


@pytest.mark.parametrize("model", ["acgan-28", "dcgan-32-conditional"])
def test_bytes_do_not_depend_on_what_is_computed_together(model):
    """One by one, in threes and all together, with one thread and with several; three gave other bits once."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        generator = MODELS[model].generator(tuple("0123456789"), image_size=16, channels=1).eval()
        for part in generator.modules():  # weights whose images have contrast
            if isinstance(part, nn.Conv2d | nn.ConvTranspose2d):
                part.weight.data.mul_(2)
    labels = [k % 10 for k in range(300)]
    whole = sample(generator, labels)
    assert ((whole > 0) & (whole < 255)).float().mean() > 0.2
    assert whole.float().std() > 5
    inference_copy = InferenceCopy(generator)
    before = torch.get_num_threads()
    try:
        for size, count, threads in [(1, 150, 1), (3, 300, 2), (7, 300, 3), (300, 300, 4), (100, 300, 1)]:
            torch.set_num_threads(threads)
            parts = [
                sample(inference_copy, labels[start : start + size], indices=range(start, min(start + size, count)))
                for start in range(0, count, size)
            ]
            assert torch.equal(torch.cat(parts), whole[:count])
            assert torch.get_num_threads() == threads
    finally:
        torch.set_num_threads(before)


class Shaded(nn.Module):
    """A generator of one layer with BatchNorm, whose rounding in bf16 can or cannot be seen."""

    latent_dim, label_names = 8, ("a", "b")

    def __init__(self, contrast):
        super().__init__()
        self.contrast = contrast
        with torch.random.fork_rng():
            torch.manual_seed(0)
            self.layers = nn.Sequential(nn.Linear(8, 144), nn.BatchNorm1d(144))
            nn.init.normal_(self.layers[0].weight)
            nn.init.normal_(self.layers[1].running_mean)
            nn.init.uniform_(self.layers[1].running_var, 0.5, 2)

    def forward(self, z, labels):
        return (self.layers(z) * self.contrast).tanh().view(-1, 1, 12, 12)


def test_an_inference_copy_takes_the_shortcuts_that_cannot_be_seen():
    labels = torch.arange(64) % 2
    for contrast, rounded in [(0.01, ("layers.0",)), (1.5, ())]:
        generator = Shaded(contrast).eval()
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("ganaug.sampling.inference.has_bf16", lambda device: True)
            inference_copy = InferenceCopy(generator)
            assert inference_copy.shortcuts == Shortcuts(folded=True, bf16=rounded)
            patch.setattr("ganaug.sampling.inference.has_bf16", lambda device: False)
            assert InferenceCopy(generator).shortcuts == Shortcuts(folded=True)
        assert not any(isinstance(part, nn.BatchNorm1d) for part in inference_copy._module.modules())
        exact = sample(InferenceCopy(generator, Shortcuts(folded=False)), labels).short()
        assert ((sample(inference_copy, labels).short() - exact).abs() <= 1).float().mean() >= 0.999
        with torch.inference_mode():
            assert torch.equal(exact, to_uint8(generator(latents(0, range(64), 8), labels)).short())


class PartlyFaint(Shaded):
    """One whose second layer hardly shows."""

    def __init__(self):
        super().__init__(1.5)
        with torch.random.fork_rng():
            torch.manual_seed(1)
            self.faint = nn.Linear(8, 144)

    def forward(self, z, labels):
        return (self.layers(z) * self.contrast + self.faint(z) * 0.001).tanh().view(-1, 1, 12, 12)


def test_layers_whose_rounding_can_be_seen_are_left_out_one_by_one(monkeypatch):
    monkeypatch.setattr("ganaug.sampling.inference.has_bf16", lambda device: True)
    assert InferenceCopy(PartlyFaint().eval()).shortcuts == Shortcuts(folded=True, bf16=("faint",))


class Uneven(nn.Module):
    """Classes from ``hard`` on have embeddings twenty times as long, with which bf16 shows."""

    latent_dim = 32

    def __init__(self, num_classes, hard, named):
        super().__init__()
        with torch.random.fork_rng():
            torch.manual_seed(0)
            self.embedding = nn.Embedding(num_classes, 32)
            self.layers = nn.Sequential(nn.Linear(32, 64), nn.ReLU(), nn.Linear(64, 64), nn.Tanh())
            scale = torch.where(torch.arange(num_classes)[:, None] < hard, 1.0, 20.0)
            self.embedding.weight.data = scale * torch.randn(num_classes, 32)
        if named:
            self.label_names = tuple(map(str, range(num_classes)))

    def forward(self, z, labels):
        return self.layers(z * self.embedding(labels)).view(-1, 1, 8, 8)


@pytest.mark.parametrize(
    ("num_classes", "hard", "named"), [(20, 16, True), (10, 1, False), (200, 150, True), (3, 3, False), (40, 40, True)]
)
def test_shortcuts_are_tried_on_all_classes(num_classes, hard, named, monkeypatch):
    monkeypatch.setattr("ganaug.sampling.inference.has_bf16", lambda device: True)
    generator = Uneven(num_classes, hard, named).eval()
    inference_copy = InferenceCopy(generator)
    assert bool(inference_copy.shortcuts.bf16) == (hard == num_classes and named)
    of_dataset = ClassSampler(generator, tuple(map(str, range(num_classes)))).inference_copy
    assert bool(of_dataset.shortcuts.bf16) == (hard == num_classes)
    for copied in (inference_copy, of_dataset):
        for label in (0, num_classes - 1):
            labels = torch.full((128,), label)
            with torch.inference_mode():
                exact = to_uint8(generator(latents(0, range(128), 32), labels)).short()
            assert ((sample(copied, labels).short() - exact).abs() <= 1).float().mean() >= 0.998


def test_a_network_that_does_more_with_its_layers_is_drawn_as_it_is():
    """Folding would take BatchNorm out of one of two ways through the network."""

    class TwoWays(Shaded):
        def forward(self, z, labels):
            return super().forward(z, labels) * self.layers[0](z).sigmoid().view(-1, 1, 12, 12)

    generator = TwoWays(0.5).eval()
    assert InferenceCopy(generator).shortcuts == Shortcuts(folded=False)
    with torch.inference_mode():
        expected = to_uint8(generator(latents(0, range(8), 8), torch.zeros(8, dtype=torch.int64)))
    assert torch.equal(sample(generator, [0] * 8), expected)


class _NaN(nn.Module):
    latent_dim = 4

    def forward(self, z, labels):
        return torch.full((len(z), 1, 8, 8), float("nan"))


@pytest.fixture
def tf32() -> Iterator[None]:
    """Matrix products as in training on a GPU."""
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("high")
    yield
    torch.set_float32_matmul_precision(before)


@pytest.mark.usefixtures("tf32")
def test_passes_on_a_gpu_are_deterministic_and_its_flags_as_before(monkeypatch):
    """The flags are torch's on every machine, whether there is a GPU or not."""
    cudnn, precision = torch.backends.cudnn, torch.get_float32_matmul_precision
    monkeypatch.setattr(cudnn, "benchmark", True)
    monkeypatch.setattr(cudnn, "deterministic", False)
    gpu = torch.device("cuda")
    entered, leave = threading.Event(), threading.Event()

    def other():
        with deterministic_passes(gpu):
            entered.set()
            leave.wait(10)

    thread = threading.Thread(target=other)
    with deterministic_passes(gpu):
        thread.start()
        entered.wait(10)
    # The other one still draws.
    assert (cudnn.benchmark, cudnn.deterministic, precision()) == (False, True, "highest")
    leave.set()
    thread.join()
    assert (cudnn.benchmark, cudnn.deterministic, precision()) == (True, False, "high")
    with deterministic_passes(torch.device("cpu")):
        assert (cudnn.benchmark, cudnn.deterministic) == (True, False)


def test_images_that_are_not_finite_are_refused():
    with pytest.raises(ValueError, match="NaN or infinite"):
        sample(_NaN(), [0])


def test_samples_can_be_trained_on(generator):
    images = generator.sample([0, 1]).float()
    weight = torch.ones(1, requires_grad=True)
    (images * weight).sum().backward()
    assert weight.grad is not None


def test_a_caller_is_told_how_many_images_are_drawn(generator):
    told: list[int] = []
    images = sample(generator, [0] * 600, drawn=told.append)
    assert sum(told) == 600
    assert len(told) > 1
    assert torch.equal(images, sample(generator, [0] * 600))
