from __future__ import annotations

import pickle
from fractions import Fraction

import numpy as np
import pytest
import torch
from helpers.generators import make_generator
from helpers.images import THREE, small_images
from helpers.programs import forkserver
from helpers.streams import Items, Plain, Reals, facts, generated
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from torch import nn
from torch.utils.data import DataLoader
from torchvision import tv_tensors
from torchvision.transforms import v2

from ganaug.filters import StarvedFilterError
from ganaug.mixing.stream import ConditionalGANStream
from ganaug.sampling import sample

READER = 2**40  # numbers that each reader has for its images


@settings(deadline=None, max_examples=50)
@given(
    thousandths=st.integers(0, 999),
    labels=st.lists(st.integers(0, 2), max_size=40),
    buffer=st.integers(1, 9),
)
def test_every_prefix_is_within_one_of_the_ratio(thousandths, labels, buffer):
    if thousandths > 900:
        labels = labels[:3]
    reals = Items(*((torch.zeros(1, 1, 1, dtype=torch.uint8), label) for label in labels))
    stream = ConditionalGANStream(reals, Plain(), thousandths / 1000, buffer=buffer, return_source=True)
    seen, fakes, real = set(), 0, []
    for length, (image, label, source) in enumerate(stream, start=1):
        fakes += source
        assert abs(fakes - Fraction(thousandths, 1000) * length) < 1
        if source:
            assert label in seen
            assert int(image) == 10 * label
        else:
            real.append((image, label))
            seen.add(label)
    assert all(mine is inner for (mine, _), (inner, _) in zip(real, reals.items, strict=True))
    assert [label for _, label in real] == labels


@pytest.mark.parametrize("ratio", [0.1, 0.25, 0.3, 0.5, 0.8])
@pytest.mark.parametrize("order", ["sorted", "periodic"])
def test_generated_classes_follow_those_of_the_reals_so_far(order, ratio):
    """In 0 1 2 0 1 2 ... one image for every three would always be of one class if it took the last label."""
    labels = [label for label in range(3) for _ in range(60)] if order == "sorted" else [0, 1, 2] * 60
    reals, fakes = torch.zeros(3), torch.zeros(3)
    for _, label, source in ConditionalGANStream(Reals(labels), Plain(), ratio, return_source=True):
        (fakes if source else reals)[label] += 1
        if source:
            assert ((fakes - ratio / (1 - ratio) * reals).abs() < max(1, ratio / (1 - ratio))).all()
    assert fakes.sum() == round(ratio / (1 - ratio) * 180)
    assert fakes.max() - fakes.min() <= 1


def test_the_order_is_known():
    """Half an image or more owed is served at once; of classes that are owed as much, the lowest."""
    stream = ConditionalGANStream(Reals([2, 1, 0, 0, 2, 1]), Plain(), 0.25, return_source=True)
    assert [f"{label}{'-+'[source]}" for _, label, source in stream] == [
        "2-",
        "1-",
        "1+",
        "0-",
        "0-",
        "2-",
        "0+",
        "1-",
    ]


def test_ratio_zero_is_the_identity():
    items = [(torch.zeros(1, 1, 1, dtype=torch.uint8), k % 3) for k in range(50)]
    stream = ConditionalGANStream(Items(*items), Plain(), ratio=0)
    assert all(mine is own for mine, own in zip(stream, items, strict=True))


def test_same_stream_for_any_buffer(three):
    data = [small_images()[i] for i in range(60)]
    streams = [
        list(ConditionalGANStream(Items(*data), three, 0.3, seed=5, buffer=buffer, return_source=True))
        for buffer in (1, 7, 32, 100)
    ]
    assert len(streams[0]) == 86
    assert all(facts(other) == facts(streams[0]) for other in streams[1:])
    images, labels = generated(streams[0])
    assert torch.equal(images, sample(three, labels, seed=5))


def test_images_are_drawn_together(three):
    calls = []

    class Counting(nn.Module):
        latent_dim, label_names = 100, THREE

        def forward(self, z, labels):
            calls.append(len(z))
            return three(z, labels)

    stream = ConditionalGANStream(Reals([0, 1, 2] * 8, size=12), Counting(), 0.5, buffer=8)
    calls.clear()
    assert len(list(stream)) == 48
    assert len(calls) == 3


@pytest.mark.parametrize(
    ("show", "type_"),
    [
        (v2.functional.to_pil_image, Image.Image),
        (tv_tensors.Image, tv_tensors.Image),
        (lambda image: image, torch.Tensor),
    ],
)
@pytest.mark.parametrize("to_label", [int, np.int32, lambda label: torch.tensor(label, dtype=torch.int16)])
def test_generated_items_have_the_form_of_real_ones(three, show, type_, to_label):
    data = small_images(6)
    reals = Items(*((show(image), to_label(label)) for image, label in data))
    items = list(ConditionalGANStream(reals, three, 0.5, return_source=True))
    assert [source for *_, source in items] == [0, 1] * 6
    for image, label, _ in items:
        assert type(image) is type_
        if type_ is Image.Image:
            assert image.mode == "L"
        assert type(label) is type(items[0][1])
        assert getattr(label, "dtype", None) == getattr(items[0][1], "dtype", None)
    expected = sample(three, [int(label) for _, label, source in items if source])
    assert np.array_equal(np.asarray(items[3][0]).squeeze(), expected[1, 0].numpy())


def test_transforms_go_over_real_and_generated_alike(three):
    resize = v2.Compose([v2.Resize((8, 8)), v2.ToDtype(torch.float32, scale=True)])
    reals = Reals([0, 1, 2], size=20)
    options = {"transform": resize, "target_transform": lambda label: label + 100, "return_source": True}
    items = list(ConditionalGANStream(reals, three, 0.5, **options))
    assert all(image.shape == (1, 8, 8) and image.dtype == torch.float32 for image, *_ in items)
    assert [label for _, label, _ in items] == [100, 100, 101, 101, 102, 102]
    expected = resize(sample(three, [0, 1, 2]))
    assert torch.equal(generated(items)[0], expected)


def test_transforms_that_are_set_after_construction(three):
    """As timm's create_loader does."""
    resize = v2.Resize((8, 8))
    stream = ConditionalGANStream(Reals([0, 1, 2], size=20), three, 0.5)
    assert (stream.transform, stream.target_transform, stream.transforms) == (None, None, None)
    stream.transform, stream.target_transform = resize, str
    assert {(image.shape, label) for image, label in pickle.loads(pickle.dumps(stream))} == {
        ((1, 8, 8), label) for label in "012"
    }
    assert (stream.transform, stream.target_transform) == (resize, str)
    with pytest.raises(ValueError, match="Only transforms or"):
        stream.transforms = lambda image, label: (resize(image), -label)
    stream.transform = stream.target_transform = None
    stream.transforms = lambda image, label: (resize(image), -label)
    assert {(image.shape, label) for image, label in stream} == {((1, 8, 8), -label) for label in range(3)}


def test_transforms_that_a_stream_inside_has_itself_are_warned_about(three, caplog):
    reals = Reals([0, 1, 2], size=12)
    reals.transform = torch.flip
    ConditionalGANStream(reals, three, fake_transform=torch.clone)
    assert not caplog.text
    ConditionalGANStream(reals, three)
    assert "Reals has transforms of its own, which generated images do not go through" in caplog.text


def test_streams_whose_processing_is_hidden_need_fake_transform(three):
    floats = Items(*((torch.zeros(1, 12, 12), label) for label in range(3)))
    with pytest.raises(
        TypeError, match=r"images of Items .* got a Tensor of shape \(1, 12, 12\), torch.float32.*fake_"
    ):
        list(ConditionalGANStream(floats, three))
    stream = ConditionalGANStream(
        floats,
        three,
        0.5,
        transform=lambda image: image - 1,
        target_transform=str,
        fake_transform=lambda image: image / 255,
        return_source=True,
    )
    images, labels = generated(list(stream))
    assert torch.equal(images, sample(three, [0, 1, 2]) / 255 - 1)
    assert labels == ["0", "1", "2"]


def test_classes_meet_by_name(three):
    turned = make_generator(THREE[::-1], image_size=12)
    images, labels = generated(list(ConditionalGANStream(Reals([0, 1], size=12), turned, 0.5, return_source=True)))
    assert labels == [0, 1]
    assert torch.equal(images, sample(turned, [2, 1]))
    numbered = make_generator(("0", "1", "2"), image_size=12)
    with pytest.raises(ValueError, match=r"generator does not know class 0.*Pass class_map"):
        ConditionalGANStream(Reals([0, 1], size=12), numbered)
    class_map = dict(zip(THREE, numbered.label_names, strict=True))
    stream = ConditionalGANStream(Reals([1, 2], size=12), numbered, 0.5, class_map=class_map, return_source=True)
    assert torch.equal(generated(list(stream))[0], sample(numbered, [1, 2]))


def test_accept_filters_generated_images(three):
    stream = ConditionalGANStream(
        Reals([0, 1, 2], size=12),
        three,
        0.5,
        accept=lambda images, labels: images.flatten(1).sum(1) % 2 == 0,
        return_source=True,
    )
    images, _ = generated(list(stream))
    assert (images.flatten(1).sum(1) % 2 == 0).all()
    assert (sample(three, [0, 1, 2]).flatten(1).sum(1) % 2).any()
    none = ConditionalGANStream(
        Reals([2, 2]), Plain(), accept=lambda images, labels: torch.zeros(len(images), dtype=torch.bool), max_tries=2
    )
    with pytest.raises(StarvedFilterError, match="for class class 2 it accepted 0 of 2 images"):
        list(none)


def read(loader) -> list[tuple]:
    """Items that a loader of batches delivers."""
    batches = list(loader)
    return list(zip(*(torch.cat(parts) for parts in zip(*batches, strict=True)), strict=True))


@pytest.mark.parametrize("method", ["fork", "forkserver", pytest.param("spawn", marks=pytest.mark.slow)])
def test_workers_draw_different_images_and_see_epochs(three, method):
    """Real items and epochs come back in the pixels; generated images are those of (epoch, reader, number, class)."""
    forkserver()
    reals = Reals([0, 1, 2, 1] * 6, size=12)
    stream = ConditionalGANStream(reals, three, 0.5, return_source=True, seed=3)
    loader = DataLoader(
        stream,
        batch_size=24,
        num_workers=2,
        persistent_workers=True,
        multiprocessing_context=method,
        generator=torch.Generator(),
    )
    for epoch in (0, 4):
        stream.set_epoch(epoch)
        items = read(loader)
        real = [(int(image.max()), int(label)) for image, label, source in items if not source]
        shares = reals.labels[0::2], reals.labels[1::2]
        assert real == [(200 + epoch, label) for share in shares for label in share]
        images, labels = generated(items)
        for reader in (0, 1):
            mine = slice(12 * reader, 12 * reader + 12)
            numbers = range(reader * READER, reader * READER + 12)
            assert torch.equal(images[mine], sample(three, labels[mine], seed=3, indices=numbers, epoch=epoch))
        assert sorted(map(int, labels)) == sorted(reals.labels)


@pytest.mark.parametrize(("workers", "batch"), [(0, 7), (2, 1), (3, 1), (3, 16), (4, 5)])
def test_what_a_loader_delivers_is_within_one_image_for_each_worker(workers, batch):
    ratio = Fraction(3, 10)
    stream = ConditionalGANStream(Reals([0, 1, 2] * 40), Plain(), float(ratio), return_source=True)
    context = forkserver() if workers else None
    loader = DataLoader(
        stream, batch, num_workers=workers, multiprocessing_context=context, generator=torch.Generator()
    )
    sources = [int(source) for _, _, source in read(loader)]
    off = [abs(sum(sources[:length]) - ratio * length) for length in range(1, len(sources) + 1)]
    assert len(sources) - sum(sources) == 120
    assert max(off) < max(1, workers)
    assert workers < 3 or max(off) > 1  # the bound of a single worker would not hold


def test_ranks_draw_different_images(three, monkeypatch):
    stream = ConditionalGANStream(Reals([0, 1], size=12), three, 0.5, return_source=True)
    monkeypatch.setenv("RANK", "3")
    sent = pickle.dumps(stream)
    expected = sample(three, [0, 1], indices=[3 * READER, 3 * READER + 1])
    assert torch.equal(generated(list(stream))[0], expected)
    # A spawned worker of a process group that the environment does not tell about keeps its parent's rank.
    monkeypatch.delenv("RANK")
    assert torch.equal(generated(list(pickle.loads(sent)))[0], expected)
    assert torch.equal(generated(list(stream))[0], sample(three, [0, 1]))
    # A process group knows best.
    monkeypatch.setenv("RANK", "7")
    monkeypatch.setattr(torch.distributed, "is_initialized", lambda: True)
    monkeypatch.setattr(torch.distributed, "get_rank", lambda: 3)
    assert torch.equal(generated(list(stream))[0], expected)


class Sized(Reals):
    """Iterable, although it knows its length; torch gives it a ``__getitem__`` as well."""

    def __len__(self):
        return len(self.labels)


def test_what_can_be_wrapped(three):
    with pytest.raises(TypeError, match="LabelledImages is map-style: wrap it in ConditionalGANAugment"):
        ConditionalGANStream(small_images(), three)
    with pytest.raises(TypeError, match="list is map-style"):
        ConditionalGANStream([(0, 1)], three)
    with pytest.raises(TypeError, match=r"must be an iterable of \(image, int label\) pairs, got int"):
        ConditionalGANStream(5, three)
    stream = ConditionalGANStream(Sized([0, 1, 2]), Plain(), 0.5)
    assert len(list(stream)) == 6
    with pytest.raises(TypeError):
        len(stream)
    assert list(ConditionalGANStream(Items(), Plain())) == []


grey = torch.zeros(1, 12, 12, dtype=torch.uint8)


@pytest.mark.parametrize(
    ("item", "error", "message"),
    [
        ({"image": 0, "label": 1}, TypeError, r"pairs, got a dict of image, label. Map them to pairs: .*row\["),
        ((1, 2, 3), TypeError, r"\(image, int label\) pairs, got a tuple of 3"),
        (7, TypeError, r"pairs, got int 7"),
        ((grey, 0.5), TypeError, "labels of Items must be single ints, got float 0.5"),
        ((grey, True), TypeError, "single ints, got bool True"),
        ((grey, torch.tensor([1])), TypeError, r"single ints, got a Tensor of shape \(1,\)"),
        ((grey, 3), ValueError, "from 0 to 2 for the classes class 0, class 1, class 2; got 3"),
        ((grey, -1), ValueError, "; got -1"),
        ((Image.new("P", (12, 12)), 0), TypeError, r"must be PIL images \(L or RGB\) or uint8 .* got P?Image"),
        ((grey.expand(3, 12, 12), 0), ValueError, r"3 channels, the generator's 1"),
        ((grey[:, :8], 0), ValueError, r"\(1, 8, 12\), the generator's \(1, 12, 12\)"),
    ],
)  # fmt: skip
def test_items_that_cannot_be_mixed(three, item, error, message):
    with pytest.raises(error, match=message):
        list(ConditionalGANStream(Items(item), three))


def test_arguments_that_make_no_stream(three):
    for buffer in (0, -1, True, 2.5):
        with pytest.raises(ValueError, match=f"buffer must be a positive int, got {buffer}"):
            ConditionalGANStream(Items(), three, buffer=buffer)
    with pytest.raises(ValueError, match=r"ratio must be a number in \[0, 1\).*got 1"):
        ConditionalGANStream(Items(), three, ratio=1)
    with pytest.raises(ValueError, match="max_tries must be a positive int, got 0"):
        ConditionalGANStream(Items(), three, max_tries=0)

    class Nameless(Plain):
        label_names = None

    with pytest.raises(ValueError, match=r"neither generator nor the generator \(Nameless\) says what"):
        ConditionalGANStream((item for item in ()), Nameless())
    images, labels = generated(list(ConditionalGANStream(Reals([2, 1]), Nameless(), 0.5, return_source=True)))
    assert (images.flatten().tolist(), labels) == ([20, 10], [2, 1])
