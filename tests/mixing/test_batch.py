from __future__ import annotations

import copy
import pickle
from fractions import Fraction
from functools import partial

import pytest
import torch
from helpers.generators import make_generator
from helpers.images import THREE, small_images
from helpers.waiting import GPU, NothingWaits, give_it_autocast
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.nn import functional as F
from torch.utils.data import DataLoader
from torchvision import tv_tensors
from torchvision.transforms import v2

from ganaug import Generator
from ganaug.core.hardware import LateChecks
from ganaug.filters import StarvedFilterError
from ganaug.generators import FlowGenerator
from ganaug.sampling import sample
from ganaug.sampling.class_sampler import ClassSampler
from ganaug.sampling.inference import InferenceCopy, Shortcuts
from ganaug.transforms import GANMix


class Plain(nn.Module):
    """Images of one pixel, whose grey level is 10 times the label."""

    latent_dim = 1
    label_names = THREE

    def forward(self, z, labels):
        return (labels * 10 / 127.5 - 1).view(-1, 1, 1, 1)


mix_of = partial(GANMix, classes=THREE)


def batch(n: int = 30) -> tuple[torch.Tensor, torch.Tensor]:
    data = small_images(n)
    return data.images, data.targets


def white(n: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Images of one pixel that none of Plain's is like."""
    return torch.full((n, 1, 1, 1), 255, dtype=torch.uint8), torch.arange(n) % 3


def replaced(mixed: torch.Tensor, images: torch.Tensor) -> torch.Tensor:
    """Which rows are other ones."""
    return (mixed != images).flatten(1).any(1)


@settings(deadline=None, max_examples=40)
@given(thousandths=st.integers(0, 999), sizes=st.lists(st.integers(0, 50), min_size=1, max_size=30))
def test_the_share_of_generated_images_does_not_drift(thousandths, sizes):
    ratio = Fraction(thousandths, 1000)
    mix = mix_of(Plain(), thousandths / 1000)
    seen = total = 0
    for n in sizes:
        images, labels = white(n)
        mixed, same = mix(images, labels)
        rows = replaced(mixed, images)
        assert same is labels
        assert torch.equal(mixed[rows].flatten(), (10 * labels[rows]).to(torch.uint8))
        seen, total = seen + n, total + int(rows.sum())
        assert abs(total - ratio * seen) <= Fraction(1, 2)
        if seen == n:
            assert total == round(ratio * n)


def test_replaced_images_are_samples_of_the_classes_they_replace(three):
    images, labels = batch(30)
    before = images.clone()
    mix = mix_of(three, 0.3, seed=7)
    drawn = 0
    chosen = []
    for _ in range(3):
        mixed, _ = mix(images, labels)
        # Images come in the order of their numbers, in the rows that were chosen at random.
        rows = replaced(mixed, images).nonzero().flatten()
        assert len(rows) == 9
        numbers = range(drawn, drawn + 9)
        for row in rows:
            candidates = sample(three, [int(labels[row])] * 9, seed=7, indices=numbers)
            assert (candidates == mixed[row]).flatten(1).all(1).sum() == 1
        drawn += 9
        chosen.append(tuple(rows.tolist()))
    assert torch.equal(images, before)
    assert len(set(chosen)) == 3


def test_ratio_zero_and_evaluation_mode_are_the_identity(three):
    images, labels = batch()
    assert mix_of(three, 0)(images, labels)[0] is images
    mix = mix_of(three, 0.5).eval()
    mixed = mix(images, labels)
    assert mixed[0] is images
    assert mixed[1] is labels
    first = mix_of(three, 0.5)(images, labels)[0]
    assert torch.equal(mix.train()(images, labels)[0], first)
    assert not torch.equal(first, images)


def test_one_hot_and_smoothed_labels_say_the_same_as_ints(three):
    images, labels = batch()
    expected, _ = mix_of(three, 0.4)(images, labels)
    one_hot = F.one_hot(labels, 3).float()
    for given_labels in (one_hot, one_hot.long(), one_hot.double(), 0.9 * one_hot + 0.1 / 3, labels.to(torch.int32)):
        mixed, same = mix_of(three, 0.4)(images, given_labels)
        assert same is given_labels
        assert torch.equal(mixed, expected)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.float16, torch.bfloat16])
def test_float_batches_get_images_from_0_to_1(three, dtype):
    images, labels = batch()
    as_uint8, _ = mix_of(three, 0.4)(images, labels)
    mixed, _ = mix_of(three, 0.4)(images.to(dtype) / 255, labels)
    assert mixed.dtype == dtype
    assert torch.equal(mixed, as_uint8.to(dtype) / 255)


def test_normalised_batches_need_fake_transform(three):
    images, labels = batch()
    to_float = v2.ToDtype(torch.float32, scale=True)
    steps = v2.Compose([to_float, v2.Normalize([0.5], [0.25])])
    with pytest.raises(ValueError, match=r"looks normalised: .* from -2 to .*Normalise after GANMix, or pass fake_"):
        mix_of(three)(steps(images), labels)
    mixed, _ = mix_of(three, 0.4, fake_transform=steps)(steps(images), labels)
    assert torch.equal(mixed, steps(mix_of(three, 0.4)(images, labels)[0]))
    nan = to_float(images).index_fill_(0, torch.tensor([0]), float("nan"))
    with pytest.raises(ValueError, match="a batch looks normalised"):
        mix_of(three)(nan, labels)


def test_fake_transform_brings_sizes_together(three):
    resize = v2.Resize((8, 8))
    images, labels = batch()
    mixed, _ = mix_of(three, 0.4, fake_transform=resize)(resize(images), labels)
    rows = replaced(mixed, resize(images))
    assert int(rows.sum()) == 12
    assert torch.equal(mixed, resize(mix_of(three, 0.4)(images, labels)[0]))
    with pytest.raises(
        ValueError, match=r"fake_transform must make torch.uint8 images of shape \(12, 1, 12, 12\).*8, 8"
    ):
        mix_of(three, 0.4, fake_transform=resize)(images, labels)
    with pytest.raises(ValueError, match=r"must make torch.float32 images of shape .* got a Tensor .*torch.uint8"):
        mix_of(three, 0.4, fake_transform=lambda made: made)(images / 255, labels)


def test_it_depends_on_seed_rank_and_images_seen_alone(three, monkeypatch):
    images, labels = batch()
    mix = mix_of(three, 0.4)
    first, second = mix(images, labels)[0], mix(images, labels)[0]
    assert not torch.equal(first, second)
    with torch.random.fork_rng():
        torch.manual_seed(1)
        assert torch.equal(mix_of(three, 0.4)(images, labels)[0], first)
    assert not torch.equal(mix_of(three, 0.4, seed=1)(images, labels)[0], first)
    monkeypatch.setenv("RANK", "1")
    other = mix_of(three, 0.4)(images, labels)[0]
    assert not torch.equal(replaced(other, images), replaced(first, images))
    made = {image.numpy().tobytes() for mixed in (first, second) for image in mixed[replaced(mixed, images)]}
    assert len(made) == 24
    assert made.isdisjoint(image.numpy().tobytes() for image in other[replaced(other, images)])


def collate(mix: GANMix):
    return lambda items: mix(*torch.utils.data.default_collate(items))


def test_workers_draw_different_images(three):
    images, _ = batch(32)
    loader = DataLoader(
        small_images(32),
        batch_size=16,
        num_workers=2,
        collate_fn=collate(mix_of(three, 0.5)),
        multiprocessing_context="fork",
        generator=torch.Generator(),
    )
    mixed = torch.cat([some for some, _ in loader])
    rows = replaced(mixed, images)
    assert [int(part.sum()) for part in rows.split(16)] == [8, 8]
    assert not torch.equal(*rows.split(16))
    assert len({image.numpy().tobytes() for image in mixed[rows]}) == 16


def test_mixup_and_cutmix_follow_it(three):
    images, labels = batch()
    mixed, _ = mix_of(three, 0.4)(images, labels)
    for blend in (v2.MixUp(num_classes=3), v2.CutMix(num_classes=3)):
        outcomes = []
        for transform, inputs in [(v2.Compose([mix_of(three, 0.4), blend]), images), (blend, mixed)]:
            with torch.random.fork_rng():
                torch.manual_seed(3)
                outcomes.append(transform(inputs / 255, labels))
        assert torch.equal(outcomes[0][0], outcomes[1][0])
        assert outcomes[0][1].shape == (30, 3)
        assert torch.equal(outcomes[0][1], outcomes[1][1])


def test_tv_tensors_and_channels_last_stay(three):
    images, labels = batch()
    expected, _ = mix_of(three, 0.4)(images, labels)
    mixed, _ = mix_of(three, 0.4)(tv_tensors.Image(images), labels)
    assert type(mixed) is tv_tensors.Image
    assert torch.equal(mixed.as_subclass(torch.Tensor), expected)
    rgb = make_generator(THREE, image_size=12, channels=3)
    planes = images.repeat(1, 3, 1, 1).to(memory_format=torch.channels_last)
    mixed, _ = mix_of(rgb, 0.4)(planes, labels)
    assert mixed.is_contiguous(memory_format=torch.channels_last)
    assert int(replaced(mixed, planes).sum()) == 12


def test_a_training_loops_autocast_does_not_change_the_images(three):
    images, labels = batch()
    expected, _ = mix_of(three, 0.4)(images, labels)
    with torch.autocast("cpu", torch.bfloat16):
        mixed, _ = mix_of(three, 0.4)(images, labels)
    assert torch.equal(mixed, expected)


def test_it_adds_only_its_counter_to_a_training_module(three):
    classifier = nn.ModuleDict({"mix": mix_of(three, 0.4, fake_transform=nn.BatchNorm2d(1)), "net": nn.PReLU()})
    assert [name for name, _ in classifier.named_parameters()] == ["net.weight"]
    assert list(classifier.buffers()) == []
    state = classifier["mix"].state_dict()
    assert list(state) == ["_extra_state"]
    assert (state["_extra_state"].dtype, state["_extra_state"].shape) == (torch.int64, ())
    assert "ratio=0.4, seed=0" in repr(classifier)


def test_resume_is_exact(three):
    images, labels = batch(31)
    mix = mix_of(three, 0.3)
    mix(images, labels)
    mix(images[:7], labels[:7])
    state = pickle.loads(pickle.dumps(mix.state_dict()))
    others = [mix_of(three, 0.3), copy.deepcopy(mix), pickle.loads(pickle.dumps(mix))]
    others[0].load_state_dict(state)
    for _ in range(2):
        expected, _ = mix(images, labels)
        for other in others:
            assert torch.equal(other(images, labels)[0], expected)


def test_a_generator_from_a_folder(generator_folder):
    images, labels = torch.zeros(10, 1, 28, 28), torch.arange(10)
    generator = Generator.from_pretrained(generator_folder)
    expected, _ = GANMix(generator, 0.5)(images, labels)
    mix = GANMix(str(generator_folder), 0.5)
    assert torch.equal(pickle.loads(pickle.dumps(mix))(images, labels)[0], expected)
    assert torch.equal(mix(images, labels)[0], expected)


def test_it_draws_on_the_device_of_the_batch(three, monkeypatch):
    """The meta device stands in for a GPU; where the sampler would move, it is told and stays."""
    images, labels = batch()
    asked = []
    monkeypatch.setattr(ClassSampler, "moved_to", lambda sampler, device: asked.append(device) or sampler)
    for device, expected in [(None, [torch.device("meta")]), ("cpu", [])]:
        asked.clear()
        mixed, same = mix_of(three, 0.4, device=device)(images.to("meta"), labels)
        assert (mixed.device.type, mixed.shape) == ("meta", images.shape)
        assert same is labels
        assert asked == expected


@pytest.mark.parametrize("floating", [False, True])
def test_on_a_gpu_images_stay_there_and_nothing_waits_for_them(three, monkeypatch, floating):
    images, labels = batch()
    mix = mix_of(three, 0.4)
    give_it_autocast(monkeypatch)
    looked_at_later = []
    monkeypatch.setattr(LateChecks, "expect", lambda _, holds, error: looked_at_later.append(holds))
    monkeypatch.setattr(InferenceCopy, "_find_shortcuts", lambda *_: Shortcuts(folded=True))
    there = (images.float() / 255 if floating else images).to(GPU)
    mix(there, labels)  # brings the generator there
    with NothingWaits():
        mixed, same = mix(there, labels)
    assert (mixed.device, mixed.shape, mixed.dtype) == (GPU, there.shape, there.dtype)
    assert same is labels
    assert len(looked_at_later) == (
        4 if floating else 2
    )  # of each call: whether the images drawn are finite, and so on
    with pytest.raises(NotImplementedError, match="meta"):
        mix(there, labels.to(GPU))  # labels are read


def test_on_a_gpu_nothing_waits_for_variations_either(monkeypatch):
    give_it_autocast(monkeypatch)
    monkeypatch.setattr(LateChecks, "expect", lambda *_: None)
    images, labels = batch()
    with torch.random.fork_rng():
        mix = GANMix(FlowGenerator(THREE, image_size=12, width=8), 0.5, classes=THREE, vary=0.5)
    monkeypatch.setattr(InferenceCopy, "_find_shortcuts", lambda *_: Shortcuts(folded=True))
    for there in (images.to(GPU), (images.float() / 255).to(GPU)):
        mix(there, labels)  # brings the generator there
        with NothingWaits():
            mixed, _ = mix(there, labels)
        assert (mixed.device, mixed.shape, mixed.dtype) == (GPU, there.shape, there.dtype)


def test_accept_filters_generated_images(three):
    images, labels = batch()

    def even(images, labels):
        return images.flatten(1).sum(1) % 2 == 0

    mixed, _ = mix_of(three, 0.5, accept=even)(images, labels)
    rows = replaced(mixed, images)
    assert int(rows.sum()) == 15
    assert (mixed[rows].flatten(1).sum(1) % 2 == 0).all()
    unfiltered, _ = mix_of(three, 0.5)(images, labels)
    assert (unfiltered[rows].flatten(1).sum(1) % 2).any()
    with pytest.raises(StarvedFilterError, match="max_tries"):
        mix_of(three, accept=lambda images, labels: torch.zeros(len(images), dtype=torch.bool))(images, labels)


images, labels = batch(6)


@pytest.mark.parametrize(
    ("given_images", "given_labels", "error", "message"),
    [
        (images.long(), labels, TypeError, r"images must be uint8 or float \(N, C, H, W\), got .*torch.int64"),
        (images[0], labels, TypeError, r"images must be uint8 or float \(N, C, H, W\), got a Tensor of shape \(1, 12"),
        (images[:5], labels, ValueError, "images and labels must have the same length, got 5 and 6"),
        (images[:, :, :8], labels, ValueError, r"\(1, 8, 12\), the generator's \(1, 12, 12\). Train .* with a resize"),
        (images.repeat(1, 3, 1, 1), labels, ValueError, r"\(3, 12, 12\), the generator's \(1, 12, 12\)"),
        (images, labels + 1, ValueError, "labels must be from 0 to 2 for .* class 0, class 1, class 2; got 1 to 3"),
        (images, labels - 1, ValueError, "got -1 to 1. Give classes a name for each label"),
        (
            images,
            labels.float(),
            TypeError,
            r"labels must be int \(N,\), or float or one-hot \(N, 3\), got a Tensor of shape",
        ),
        (images, labels > 0, TypeError, "got a Tensor .*torch.bool. Multi-label"),
        (images, 1 - F.one_hot(labels), TypeError, r"got a Tensor of shape \(6, 3\), torch.int64"),
        (images, F.one_hot(labels, 4).float(), ValueError, "labels have 4 columns, but there are 3 classes"),
    ],
)  # fmt: skip
def test_batches_that_cannot_be_mixed(three, given_images, given_labels, error, message):
    mix = mix_of(three)
    with pytest.raises(error, match=message):
        mix(given_images, given_labels)
    assert int(mix.get_extra_state()) == 0


def test_arguments_that_cannot_be_used(three):
    with pytest.raises(ValueError, match=r"ratio must be a number in \[0, 1\).*got -0.1"):
        mix_of(three, -0.1)
    with pytest.raises(ValueError, match="seed must be an int"):
        mix_of(three, seed=-1)
    with pytest.raises(TypeError, match="generator must be a module with latent_dim .* got Identity"):
        mix_of(nn.Identity())

    class Nameless(Plain):
        label_names = None

    with pytest.raises(ValueError, match=r"neither the batches nor the generator \(Nameless\) says what the classes"):
        GANMix(Nameless())
    images, labels = white(6)
    mixed, _ = mix_of(Nameless(), 0.5)(images, labels)  # label k is passed on as k
    rows = replaced(mixed, images)
    assert mixed[rows].flatten().tolist() == (10 * labels[rows]).tolist()
