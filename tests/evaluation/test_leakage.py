"""Held-out images that a generator has seen are found, and what cannot be known is said."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState
from helpers.generators import make_generator
from helpers.images import THREE, small_images
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from ganaug import Generator, InputError, LabelledImages, open_images
from ganaug.evaluation.leakage import LeftOut, able_to_judge, check_leakage, without_overlap
from ganaug.training import GANObjective, GANTrainer, RunFolder, TrainingSettings, train


@pytest.fixture
def parts() -> tuple[LabelledImages, LabelledImages]:
    """48 images to train on, and 12 held-out ones."""
    return small_images().split(0.2)


def joined(*parts: LabelledImages) -> LabelledImages:
    images, targets = torch.cat([part.images for part in parts]), torch.cat([part.targets for part in parts])
    return LabelledImages(images, targets, parts[0].classes, "joined")


def made(seen: LabelledImages | None, **info: str) -> Generator:
    """Generator that records what it saw, or only what ``info`` has."""
    generator = make_generator(THREE, image_size=12)
    generator.info["dataset"] = info
    generator.seen_images = None if seen is None else seen.image_hashes.unique()
    return generator


def test_a_held_out_image_planted_in_the_training_is_found_after_saving_and_loading(parts, tmp_path):
    own, held_out = parts
    planted = joined(own, held_out.subset(torch.tensor([4]), "one"))
    settings = TrainingSettings(
        total_kimg=0.016, train_batch_size=16, log_kimg=0.016, mixed_precision="no", cpu_threads=1
    )
    loaded = {}
    AcceleratorState._reset_state(True)
    try:
        for name, images in {"honest": own, "planted": planted}.items():
            generator = make_generator(THREE, image_size=12)
            with torch.random.fork_rng():
                networks = generator, generator.make_discriminator()
            trainer = GANTrainer(*networks, GANObjective(), images, settings, Accelerator(cpu=True))
            train(trainer, RunFolder(tmp_path / name))
            loaded[name] = Generator.from_pretrained(tmp_path / name)
    finally:
        AcceleratorState._reset_state(True)
    check = check_leakage(loaded["honest"], own, held_out)
    assert (check.known, check.same_images, check.checked_against, check.overlap) == (True, True, 48, 0)
    assert check.note == (
        "None of the 12 held-out images is among the 48 that the generator was trained on, which are the training "
        "images."
    )
    with pytest.raises(InputError, match=r"1 of the 12 held-out images \(noise, held-out part\) are among .*it can"):
        check_leakage(loaded["planted"], own, held_out)


def test_one_changed_pixel_makes_another_image(parts):
    own, held_out = parts
    changed = held_out.images.clone()
    changed[:, 0, 0, 0] ^= 1
    assert check_leakage(made(joined(own, replace(held_out, images=changed))), own, held_out).overlap == 0


def test_held_out_images_among_the_training_images(parts):
    own, held_out = parts
    more = joined(own, held_out.subset(torch.arange(3), "three"))
    with pytest.raises(InputError, match=r"3 of the 12 held-out images .* among the training images too \(joined\)"):
        check_leakage(made(own), more, held_out)


def test_a_generator_that_only_names_its_images(parts):
    own, held_out = parts
    check = check_leakage(made(None, fingerprint=own.fingerprint), own, held_out)
    assert (check.known, check.same_images, check.checked_against) == (True, True, 48)
    with pytest.raises(InputError, match="12 of the 12 held-out images"):
        check_leakage(made(None, fingerprint=held_out.fingerprint), own, held_out)
    check = check_leakage(made(None, fingerprint="of others", name="photos"), own, held_out)
    assert (check.known, check.same_images, check.checked_against, check.overlap) == (False, False, 0, 0)
    assert "could not be checked: it was trained on photos, which is another set of images" in check.note
    assert "it was trained without a record" in check_leakage(made(None), own, held_out).note


def test_a_generator_of_fewer_or_other_images(parts):
    own, held_out = parts
    check = check_leakage(made(own.take([5, 5, 5])[0]), own, held_out)
    assert (check.known, check.same_images, check.checked_against) == (True, False, 15)
    assert check.note.endswith("which are a part of the training images.")
    check = check_leakage(made(own), own.take([5, 5, 5])[0], held_out)
    assert (check.known, check.same_images) == (True, False)
    assert "But 33 of these are not among the training images" in check.note


def test_images_of_another_form_cannot_be_compared(parts):
    own, held_out = parts
    rgb = [replace(part, images=part.images.expand(-1, 3, -1, -1)) for part in (own, held_out)]
    check = check_leakage(made(joined(own, held_out)), *rgb)
    assert not check.known
    assert "images of 12x12 pixels and 1 channels, and these have 12x12 and 3" in check.note


def test_a_module_that_is_no_generator_of_ours(parts):
    check = check_leakage(nn.Identity(), *parts)
    assert (check.known, check.note) == (
        False,
        "Whether the generator saw held-out images could not be checked: Identity has no record of the images it was "
        "trained on.",
    )


def test_a_record_counts_even_where_the_fingerprint_is_of_the_training_images(parts):
    own, held_out = parts
    generator = made(joined(own, held_out.subset(torch.tensor([2]), "one")), fingerprint=own.fingerprint)
    with pytest.raises(InputError, match="1 of the 12 held-out images"):
        check_leakage(generator, own, held_out)


def test_a_generator_that_is_trained_further_has_seen_the_earlier_images(parts):
    own, held_out = parts
    generator = made(held_out.subset(torch.tensor([4]), "one"))
    settings = TrainingSettings(
        total_kimg=0.016, train_batch_size=16, log_kimg=0.016, mixed_precision="no", cpu_threads=1
    )
    AcceleratorState._reset_state(True)
    try:
        with torch.random.fork_rng():
            networks = generator, generator.make_discriminator()
        trained = train(GANTrainer(*networks, GANObjective(), own, settings, Accelerator(cpu=True)), None)
    finally:
        AcceleratorState._reset_state(True)
    assert torch.equal(trained.seen_images, torch.cat([own.image_hashes, held_out.image_hashes[4:5]]).unique())
    with pytest.raises(InputError, match="1 of the 12 held-out images"):
        check_leakage(trained, own, held_out)


def test_a_few_copies_are_left_out(caplog):
    """Three in 400, some from the training set and some from two generators; the others keep their order."""
    own, held_out = small_images(), small_images(n=400, seed=1)
    shared = [held_out.subset(torch.tensor([k]), "one") for k in (7, 200, 399)]
    train_set, generators = joined(own, shared[0]), [made(shared[1]), made(joined(*shared[1:])), nn.Identity()]
    left, number = without_overlap(held_out, [(train_set, generators)])
    assert (len(left), number) == (397, 3)
    assert torch.equal(left.image_hashes, held_out.image_hashes[[k for k in range(400) if k not in (7, 200, 399)]])
    assert left.name == "noise, without 3 that were trained on"
    assert caplog.messages == [
        "3 of the 400 held-out images (noise) are among the images that were trained on, and are left out"
    ]
    for generator in generators:
        assert check_leakage(generator, train_set, left).overlap == 0


@pytest.mark.parametrize("copies", [0, 4])
def test_no_copies_and_one_percent_stay_as_they_are(caplog, copies):
    own, held_out = small_images(), small_images(n=400, seed=1)
    generators = [made(joined(own, held_out.subset(torch.arange(copies), "copies")))]
    left, number = without_overlap(held_out, [(own, generators)])
    assert left is held_out
    assert number == 0
    assert not caplog.messages
    if copies:
        with pytest.raises(InputError, match="4 of the 400 held-out images .* --leave_out_copies"):
            check_leakage(generators[0], own, left)
        left, number = without_overlap(held_out, [(own, generators)], leave_out_copies=True)
        assert (len(left), number) == (396, 4)
        assert check_leakage(generators[0], own, left).overlap == 0


SHARED, SEEING = small_images(90, size=4), make_generator(THREE, image_size=4)
LABELS = st.lists(st.tuples(st.integers(0, 89), st.integers(0, 2)), min_size=1, max_size=40)
PICKED = st.lists(st.integers(0, 89), max_size=20)


@given(pairs=LABELS, trained=st.tuples(PICKED, PICKED), seen=PICKED)
def test_each_image_judges_once_and_only_if_nothing_was_trained_on_it(pairs, trained, seen):
    """Of all draws and generators, the first of each pair of image and label, in the order given."""
    indices, labels = (torch.tensor(each) for each in zip(*pairs, strict=True))
    held_out = replace(SHARED.subset(indices, "held out"), targets=labels)
    one, other, third = (SHARED.subset(torch.tensor(each, dtype=torch.int64), "part") for each in (*trained, seen))
    SEEING.seen_images = third.image_hashes
    left, copies = able_to_judge(held_out, [(one, [SEEING]), (other, [nn.Identity()])], leave_out_copies=True, least=0)
    known = {*trained[0], *trained[1], *seen}
    wanted = [pair for pair in dict.fromkeys(pairs) if pair[0] not in known]
    assert torch.equal(left.image_hashes, SHARED.image_hashes[[index for index, _ in wanted]])
    assert left.targets.tolist() == [label for _, label in wanted]
    assert copies == LeftOut(len(pairs), sum(index in known for index, _ in pairs), copies.repeated)
    assert len(left) + copies.trained_on + copies.repeated == copies.given


def test_copies_are_refused_whoever_was_trained_on_them_and_counted_of_all_that_were_given(caplog):
    """1 % of the images, spread over two draws, of which neither has 1 %; and three that repeat another."""
    own, held_out = small_images(), small_images(n=400, seed=1)
    repeated = joined(held_out, held_out.subset(torch.arange(10, 13), "again"))
    draws = [(joined(own, held_out.subset(torch.tensor(few), "few")), [nn.Identity()]) for few in ([0, 1, 2], [3, 4])]
    with pytest.raises(InputError, match="3 of the 403 held-out images"):
        able_to_judge(repeated, draws, leave_out_copies=False, least=3)
    assert not caplog.messages
    left, copies = able_to_judge(repeated, draws, leave_out_copies=True, least=3)
    assert copies == LeftOut(403, 5, 3)
    assert left.name == "joined, without 8 copies"
    assert caplog.messages[-1] == (
        "3 of the 403 held-out images (joined) repeat another of the same class, and are left out"
    )


def test_what_was_left_out_is_said():
    assert LeftOut(400, 0).sentence == "No held-out image had to be left out."
    assert LeftOut(400, 1).sentence == (
        "1 of the 400 held-out images was left out as a copy of what a classifier or a generator was trained on."
    )
    assert LeftOut(4000, 0, 20).sentence == (
        "20 of the 4,000 held-out images were left out as copies of another of the same class."
    )
    assert LeftOut(4000, 1100, 20).sentence == (
        "1,120 of the 4,000 held-out images were left out as copies: 1,100 of what a classifier or a generator was "
        "trained on, and 20 of another of the same class."
    )


@pytest.mark.parametrize(("copies", "repeats"), [(19, 0), (0, 19), (17, 2), (20, 0)])
def test_too_few_that_remain_of_a_class_are_refused_with_their_number(copies, repeats):
    """Class 1 has 20 images, of which some were trained on and others are its first one again."""
    own, held_out = small_images(), small_images(n=60, seed=1)
    of_class = torch.nonzero(held_out.targets == 1).squeeze(1)
    images = held_out.images.clone()
    images[of_class[1 : 1 + repeats]] = images[of_class[0]].clone()
    held_out = replace(held_out, images=images)
    trained = joined(own, held_out.subset(of_class[len(of_class) - copies :], "copies"))
    remaining = 20 - len({*range(1, 1 + repeats), *range(20 - copies, 20)})
    with pytest.raises(InputError, match=rf"{20 - remaining} of the 20 held-out .* class 1 .*{remaining or 'none'};"):
        able_to_judge(held_out, [(trained, ())], leave_out_copies=True, least=3)
    able_to_judge(held_out, [(trained, ())], leave_out_copies=True, least=remaining)


def test_a_class_that_was_too_small_before_is_not_blamed_on_copies():
    held_out = small_images(n=4, seed=1)
    assert able_to_judge(held_out, [(small_images(), ())], leave_out_copies=True, least=3)[0] is held_out


@pytest.mark.parametrize("source", [None, "sklearn:digits", Path("/usr/share/datasets/fashion-mnist")])
def test_published_splits_do_not_overlap(source):
    """Of these three, none does; others can, and ``without_overlap`` is for them."""
    if isinstance(source, Path) and not source.is_dir():
        pytest.skip("Debian's dataset-fashion-mnist is not installed")
    train_images, test_images = open_images(source), open_images(source, split="test")
    assert not torch.isin(test_images.image_hashes, train_images.image_hashes).any()
    assert len(train_images.image_hashes.unique()) == len(train_images)
