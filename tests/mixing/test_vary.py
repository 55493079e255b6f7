"""Variations of real images, in all ways of mixing."""

from __future__ import annotations

import itertools
import pickle
from dataclasses import replace
from functools import partial

import pytest
import torch
from helpers.generators import Blend, Honest, make_generator
from helpers.images import THREE, hf_dataset, small_images
from hypothesis import given
from hypothesis import strategies as st
from torch import nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, Dataset
from torchvision.transforms import v2

from ganaug import ConditionalGANAugment, GANMix, InputError, LabelledImages, augment_dataset
from ganaug.data.stored import StoredImages, part_in, writing_part
from ganaug.generators import FlowGenerator
from ganaug.hub.dataset_card import provenance_in
from ganaug.sampling.variations import pick_originals, places_in_class

DATA = small_images(size=8)
LITTLE = 0.05  # a strength at which it can still be seen which image was varied


def flow() -> FlowGenerator:
    """A small one whose velocity depends on everything."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        generator = FlowGenerator(THREE, image_size=8, width=8)
        for parameter in generator.parameters():
            parameter.data.add_(0.05 * torch.randn_like(parameter))
    return generator


def mix(tmp_path, generator=None, data=DATA, **options) -> ConditionalGANAugment:
    options = {"ratio": 0.5, "vary": LITTLE, "cache_dir": tmp_path, **options}
    return ConditionalGANAugment(data, generator or Blend(*THREE), **options)


def generated(train: ConditionalGANAugment) -> tuple[torch.Tensor, torch.Tensor]:
    """Images and labels of the generated items."""
    items = [train[k] for k in torch.nonzero(train.source).squeeze(1).tolist()]
    return torch.stack([item[0] for item in items]), torch.tensor([item[1] for item in items])


def originals_of(images: torch.Tensor, data: LabelledImages = DATA) -> torch.Tensor:
    """Which real image each is nearest to, int64 (N,)."""
    return torch.cdist(images.flatten(1).float(), data.images.flatten(1).float()).argmin(1)


def test_each_item_is_a_variation_of_an_image_of_its_class_and_each_image_comes_as_often(tmp_path):
    train = mix(tmp_path, ratio=0.75)
    images, labels = generated(train)
    assert (len(train), train.n_fake) == (240, 180)
    originals = originals_of(images)
    assert torch.equal(DATA.targets[originals], labels)
    assert torch.equal(labels, train.targets[60:])
    assert torch.bincount(originals, minlength=60).tolist() == [3] * 60
    assert not torch.equal(originals[:20], originals[20:40])  # another order each time round
    assert "strength 0.05" in repr(train)


@pytest.mark.parametrize(
    "options",
    [{"ratio": 0.5}, {"ratio": 0.8}, {"ratio": 0.1}, {"ratio": None, "sampling_strategy": "all"}, {"mode": "replace"}],
    ids=str,
)
def test_all_images_of_a_class_come_equally_often_wherever_its_items_stand(tmp_path, options):
    of_each = [*range(0, 60, 3), *range(1, 30, 3), *range(2, 23, 3)]  # 20, 10 and 7
    data = DATA.subset(torch.tensor(of_each), "few")
    train = mix(tmp_path, data=data, **options)
    originals = originals_of(generated(train)[0], data)
    counts = torch.bincount(originals, minlength=len(data))
    for k, of_class in enumerate(data.of_each_class):
        fewest, rest = divmod(train.sampling_strategy_[THREE[k]], len(of_class))
        assert sorted(counts[of_class].tolist()) == [fewest] * (len(of_class) - rest) + [fewest + 1] * rest


@given(st.lists(st.integers(0, 4), max_size=30))
def test_places_count_the_items_of_each_class(labels):
    expected = [labels[:k].count(label) for k, label in enumerate(labels)]
    assert places_in_class(torch.tensor(labels, dtype=torch.int64)).tolist() == expected


@pytest.mark.parametrize("options", [{}, {"mode": "replace"}, {"resample": True, "seed": 7}], ids=str)
def test_items_are_the_same_in_any_order_in_workers_and_from_a_file(tmp_path, options):
    generator = Blend(*THREE) if options else flow()
    lazy, stored = (mix(tmp_path, generator, vary=0.6, **options) for _ in range(2))
    for train in (lazy, stored):
        train.set_epoch(1)
    stored.materialize()
    expected = torch.stack([lazy[k][0] for k in range(len(lazy))])
    backwards = [lazy.__getitems__([k, k - 1]) for k in range(len(lazy) - 1, 0, -2)]
    assert torch.equal(torch.stack([image for pair in backwards for image, _ in pair]).flip(0), expected)
    assert torch.equal(torch.stack([image for image, _ in stored.__getitems__(range(len(stored)))]), expected)
    for train, workers in itertools.product((lazy, stored, pickle.loads(pickle.dumps(lazy))), (0, 2)):
        loader = DataLoader(train, batch_size=17, num_workers=workers, generator=torch.Generator())
        assert torch.equal(torch.cat([images for images, _ in loader]), expected)


def test_what_a_variation_depends_on(tmp_path):
    images, labels = generated(mix(tmp_path, vary=0.6))
    assert torch.equal(generated(mix(tmp_path, vary=0.6))[0], images)
    other_data = replace(DATA, images=DATA.images.flip(3))
    later = mix(tmp_path, vary=0.6, resample=True)
    later.set_epoch(1)
    others = [
        mix(tmp_path, vary=0.6, seed=1),
        mix(tmp_path, vary=0.4),
        mix(tmp_path, data=other_data, vary=0.6),
        later,
    ]
    for other in others:
        there, same = generated(other)
        assert torch.equal(same, labels)
        assert all(not torch.equal(a, b) for a, b in zip(images, there, strict=True))
    folders = {train.materialize() for train in [mix(tmp_path, vary=0.6), *others, mix(tmp_path, vary=None)]}
    assert len(folders) == 6


def test_what_the_network_makes_of_images_names_what_is_kept(tmp_path):
    """Code that its method calls can change while weights, names and the text of its class stay."""

    class Calls(Blend):
        def forward_from(self, z, labels, images, strength):
            return way(super().forward_from(z, labels, images, strength))

    way = torch.clone
    before = mix(tmp_path, Calls(*THREE)).materialize()
    assert mix(tmp_path, Calls(*THREE)).materialize() == before
    way = torch.neg
    assert mix(tmp_path, Calls(*THREE)).materialize() != before


def test_at_full_strength_the_items_are_those_drawn_from_noise(tmp_path):
    drawn, varied = (generated(mix(tmp_path, vary=vary)) for vary in (None, 1))
    assert torch.equal(drawn[0], varied[0])


def test_a_state_of_another_strength_is_refused(tmp_path):
    state = mix(tmp_path).state_dict()
    mix(tmp_path).load_state_dict(state)
    for other in (0.5, None):
        with pytest.raises(ValueError, match="another mixed dataset"):
            mix(tmp_path, vary=other).load_state_dict(state)


def test_a_state_of_other_images_is_refused_if_they_are_varied(tmp_path):
    others = replace(DATA, images=255 - DATA.images)
    mix(tmp_path, vary=None, data=others).load_state_dict(mix(tmp_path, vary=None).state_dict())
    with pytest.raises(ValueError, match="another mixed dataset"):
        mix(tmp_path, data=others).load_state_dict(mix(tmp_path).state_dict())


def test_for_an_image_that_is_refused_another_one_is_varied(tmp_path):
    """The filter wants images of a kind that one in three real ones is of."""
    wanted = DATA.images[DATA.targets == 1][::3]

    def accept(images, labels):
        near = torch.cdist(images.flatten(1).float(), wanted.flatten(1).float()).min(1).values
        return (labels != 1) | (near < 60)

    images, labels = generated(mix(tmp_path, accept=accept, max_tries=50))
    kept = originals_of(images[labels == 1])
    assert set(kept.tolist()) == set(torch.nonzero(DATA.targets == 1).squeeze(1)[::3].tolist())


def test_images_in_files_are_read_as_they_are_needed(tmp_path):
    with writing_part(tmp_path / "part", DATA.images.shape[1:], most=60) as write:
        write(DATA.images)
    part = part_in(tmp_path / "part", DATA.images.shape[1:], advice="")
    stored = replace(DATA, images=StoredImages([part]))
    picks = [pick_originals(data, torch.tensor([2, 0, 1, 1]), [9, 100, 3, 2**63], seed=4) for data in (DATA, stored)]
    assert torch.equal(*picks)


class Large(Dataset):
    """PIL images of 12 pixels that a transform brings to 8, of some of the generator's classes, in another order."""

    classes = ("class 2", "class 0", "class 9")

    def __init__(self):
        self.data, self.transform = small_images(40, classes=2), v2.Compose([v2.Resize(8), v2.PILToTensor()])
        self.targets = self.data.targets.tolist()

    def __len__(self):
        return len(self.targets)

    def __getitem__(self, index):
        image = v2.functional.to_pil_image(self.data.images[index])
        return self.transform(image) if self.transform else image, self.targets[index]


def test_sizes_and_classes_need_not_be_the_generators(tmp_path):
    large = Large()
    train = mix(tmp_path, data=large)
    images, labels = generated(train)
    small = replace(large.data, images=torch.stack([large[k][0] for k in range(40)]))
    assert torch.equal(small.targets[originals_of(images, small)], labels)
    with pytest.raises(InputError, match="has no image of class 9 to vary"):
        mix(tmp_path, Blend(*THREE, "class 9"), large, ratio=None, sampling_strategy={"class 9": 5})
    with pytest.raises(ValueError, match="have 1 channels, the generator's 3"):
        mix(tmp_path, Blend(*THREE, channels=3), large)
    large.transform = None
    with pytest.raises(ValueError, match="give the dataset a transform that resizes"):
        mix(tmp_path, data=large)


WAYS = {
    "dataset": lambda generator, **options: ConditionalGANAugment(DATA, generator, **options),
    "batch": lambda generator, **options: GANMix(generator, classes=THREE, **options),
    "rows": lambda generator, **options: augment_dataset(hf_dataset(DATA), generator, **options),
}


@pytest.mark.parametrize("way", WAYS.values(), ids=WAYS)
def test_what_cannot_be_varied_is_refused_before_anything_is_drawn(way):
    one_pass = [
        (make_generator(THREE, image_size=8), "acgan-28 cannot vary images"),
        (Unchanging(), "Unchanging cannot vary images"),
    ]
    for generator, message in one_pass:
        with pytest.raises(InputError, match=f"{message}: .* Give a flow"):
            way(generator, vary=0.5)
    for strength in (0, 1.5, True):
        with pytest.raises(InputError, match=f"vary must be a number above 0 and up to 1, got {strength}"):
            way(Blend(*THREE), vary=strength)


class Unchanging(nn.Module):
    latent_dim, label_names = 1, THREE

    def forward(self, z, labels):
        return torch.zeros(len(z), 1, 8, 8)


def test_a_strength_is_refused_before_a_generator_is_fitted(tmp_path):
    with pytest.raises(InputError, match="vary must be"):
        ConditionalGANAugment(DATA, vary=2, cache_dir=tmp_path)
    assert not list(tmp_path.iterdir())


def test_a_batchs_images_are_varied_themselves():
    mixed, labels = GANMix(Blend(*THREE), 0.5, classes=THREE, vary=LITTLE)(DATA.images, DATA.targets)
    changed = (mixed != DATA.images).flatten(1).any(1)
    assert changed.sum() == 30
    assert torch.equal(originals_of(mixed), torch.arange(60))
    assert labels is DATA.targets
    assert "ratio=0.5, vary=0.05, seed=0" in repr(GANMix(Blend(*THREE), 0.5, classes=THREE, vary=LITTLE))


@pytest.mark.parametrize("form", ["float", "one-hot"])
def test_batches_of_other_forms_are_varied_alike(form):
    make = partial(GANMix, Blend(*THREE), 0.5, classes=THREE, vary=0.6, seed=2)
    expected, _ = make()(DATA.images, DATA.targets)
    if form == "float":
        mixed, _ = make()(DATA.images / 255, DATA.targets)
        assert torch.equal(mixed, expected / 255)
    else:
        mixed, _ = make()(DATA.images, F.one_hot(DATA.targets))
        assert torch.equal(mixed, expected)


@pytest.mark.parametrize("option", ["accept", "fake_transform"])
def test_a_batch_is_not_varied_with_a_filter_or_a_transform(option):
    with pytest.raises(InputError, match="vary goes without accept.*normalise after GANMix"):
        GANMix(Blend(*THREE), classes=THREE, vary=0.5, **{option: torch.ones_like})


def test_rows_are_the_items_of_the_map_style_dataset(tmp_path):
    rows = augment_dataset(hf_dataset(DATA), Blend(*THREE), 0.5, vary=0.6, cache_dir=tmp_path)
    images, labels = generated(mix(tmp_path, vary=0.6))
    made = torch.stack([v2.functional.pil_to_tensor(image) for image in rows["picture"][60:]])
    assert torch.equal(made, images)
    assert rows["kind"][60:] == labels.tolist()
    (provenance,) = provenance_in(rows.info.description)
    assert provenance.vary == 0.6
    assert "as variations of real images at strength 0.6" in provenance.sentence
    plain = augment_dataset(hf_dataset(DATA), Blend(*THREE), 0.5, cache_dir=tmp_path)
    assert "vari" not in plain.info.description


def test_an_own_module_is_asked_with_its_own_labels(tmp_path):
    class Shows(Honest):
        def forward_from(self, z, labels, images, strength):
            return self(z, labels)

    data = LabelledImages(torch.zeros(6, 1, 4, 4, dtype=torch.uint8), torch.arange(6) % 2, ("bee", "ant"), "plain")
    images, labels = generated(mix(tmp_path, Shows("ant", "bee"), data))
    assert [int(image.float().mean()) for image in images] == [(100, 40)[label] for label in labels]
