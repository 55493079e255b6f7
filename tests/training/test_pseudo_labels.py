"""Images without labels: read from anywhere, labelled by classifiers, and trained on beside labelled ones."""

from __future__ import annotations

from dataclasses import replace
from functools import partial

import pytest
import torch
from helpers.evaluated import NextClass, Replay, TinyClassifier, digits_in_parts
from helpers.generators import LEVELS, Honest, Sees, make_generator, shown
from helpers.images import small_images, write_class_folders, write_idx_pair
from PIL import Image
from torch.nn.functional import one_hot
from torchvision.transforms.functional import to_pil_image

from ganaug import DataError, Generator, InputError, LabelledImages
from ganaug.cli.training_images import kept_labels
from ganaug.core.files import write_tensors
from ganaug.data import joined, open_unlabeled
from ganaug.evaluation import train_semi_supervised
from ganaug.training import pseudo_labels
from ganaug.training.pseudo_labels import PseudoLabels, pseudo_label


def test_images_in_a_folder_whatever_its_form(tmp_path):
    data = small_images(n=6, size=20)
    like = small_images(size=12)
    (tmp_path / "flat" / "deeper").mkdir(parents=True)
    for k, image in enumerate(data.images):
        to_pil_image(image).save(tmp_path / "flat" / ("deeper" if k % 2 else "") / f"{k}.png")
    write_class_folders(tmp_path / "folders", data)
    flat = open_unlabeled(tmp_path / "flat", like)
    assert (flat.shape, flat.dtype) == ((6, 1, 12, 12), torch.uint8)
    assert torch.equal(
        flat.flatten(1).sort(0).values, open_unlabeled(tmp_path / "folders", like).flatten(1).sort(0).values
    )
    write_idx_pair(tmp_path / "idx", small_images(n=5, size=28))
    assert open_unlabeled(tmp_path / "idx", like).shape == (5, 1, 12, 12)
    (tmp_path / "none").mkdir()
    with pytest.raises(DataError, match="no class folders"):
        open_unlabeled(tmp_path / "none", like)


def counted(train):
    """A stand-in for training that counts its steps as the real one does."""

    def counting(*args, steps, each_step, **options):
        for _ in range(steps):
            each_step()
        return train(*args, **options)

    return counting


@pytest.fixture
def taught(monkeypatch):
    """Images that classifiers are trained on, by a stand-in that makes one that sees the class of uniform images."""
    taught = []

    def train(data, unlabeled, **options):
        taught.append(data)
        return Sees(*data.classes)

    monkeypatch.setattr(pseudo_labels, "train_semi_supervised", counted(train))
    return taught


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    monkeypatch.setattr(pseudo_labels, "STEPS", 100)
    monkeypatch.setattr(pseudo_labels, "MEMBERS", 1)


def test_most_labels_are_right_and_more_of_the_sure_ones(tmp_path):
    labelled, _, further, _ = digits_in_parts(8, 8)
    found = pseudo_label(labelled, further.images, cache_dir=tmp_path)
    assert torch.equal(found.images.images, further.images)
    assert (found.images.classes, found.images.name) == (labelled.classes, f"{len(further):,} pseudo-labelled images")
    assert torch.equal(found.images.targets, found.probabilities.argmax(1))
    torch.testing.assert_close(found.probabilities.sum(1), torch.ones(len(further)))
    right = (found.images.targets == further.targets).double().mean()
    assert right > 0.7
    least = found.confidence.median().item()
    sure = found.sure(least)
    kept = found.confidence >= least
    assert 0 < len(sure) < len(further)
    assert torch.equal(sure.images, further.images[kept])
    assert (sure.targets == further.targets[kept]).double().mean() > right
    assert sure.name == f"{len(sure)} pseudo-labelled images"
    assert len(joined(labelled, sure)) == len(labelled) + len(sure)
    with pytest.raises(InputError, match="Take a lower one"):
        found.sure(1.1)


def test_the_labelled_images_that_judge_are_those_that_a_classifier_did_not_see(monkeypatch, tmp_path):
    monkeypatch.setattr(pseudo_labels, "MEMBERS", 3)
    labelled, _, further, _ = digits_in_parts(20, 8)
    taught = []

    def train(data, unlabeled, **options):
        taught.append(data)
        with torch.random.fork_rng():
            return TinyClassifier(10, channels=1, image_size=8)

    monkeypatch.setattr(pseudo_labels, "train_semi_supervised", counted(train))
    found = pseudo_label(labelled, further.images, cache_dir=tmp_path)
    unseen = [~torch.isin(labelled.image_hashes, data.image_hashes) for data in taught[1:]]  # the first was timed
    assert [labelled.targets[each].bincount().tolist() for each in unseen] == [[2] * 10] * 3
    assert int(torch.stack(unseen).sum(0).max()) == 1  # none judges twice
    assert torch.equal(found.held_back, torch.cat([labelled.targets[each] for each in unseen]))
    assert found.answers.shape == (60, 10)


def test_what_they_say_of_themselves():
    classes = ("ant", "bee", "cat")
    images = LabelledImages(
        torch.zeros(4, 1, 4, 4, dtype=torch.uint8), torch.zeros(4, dtype=torch.int64), classes, "4"
    )
    probabilities = torch.tensor([[1.0, 0, 0], [0.95, 0.05, 0], [0.4, 0.6, 0], [0, 0.55, 0.45]])
    answers = torch.tensor([[0.7, 0.3, 0], [0, 0.6, 0.4], [0, 0.2, 0.8], [0.9, 0.05, 0.05], [0.5, 0.25, 0.25]])
    said = str(PseudoLabels(images, probabilities, torch.tensor([0, 2, 1, 0, 2]), answers))
    assert "50 % of the labels have a probability of 0.9 or more, and the mean is 0.78" in said
    assert "Of 5 labelled images that were left out, 2 got their label (40 %), where 0.70 was the mean" in said
    assert said.endswith("most often confused: bee and cat")
    none = PseudoLabels(images, probabilities, torch.zeros(0, dtype=torch.int64), torch.zeros(0, 3))
    assert str(none).endswith("Too few images have labels to leave some out and tell how many are right")
    right = PseudoLabels(images, probabilities, answers.argmax(1), answers)
    assert "5 got their label (100 %)" in str(right)
    assert "confused" not in str(right)


def test_a_labelling_that_was_stopped_goes_on_with_the_next_classifier(monkeypatch, tmp_path, caplog):
    monkeypatch.setattr(pseudo_labels, "MEMBERS", 3)
    monkeypatch.setattr(pseudo_labels, "STEPS", 4)
    labelled, _, further, _ = digits_in_parts(20, 4)
    whole = pseudo_label(labelled, further.images, cache_dir=tmp_path / "whole")
    seeds = []

    def stops(*args, seed, **options):
        if seed == 2:
            raise KeyboardInterrupt
        return train_semi_supervised(*args, seed=seed, **options)

    monkeypatch.setattr(pseudo_labels, "train_semi_supervised", stops)
    with pytest.raises(KeyboardInterrupt):
        pseudo_label(labelled, further.images, cache_dir=tmp_path / "stopped")

    def notes(*args, seed, **options):
        seeds.append(seed)
        return train_semi_supervised(*args, seed=seed, **options)

    monkeypatch.setattr(pseudo_labels, "train_semi_supervised", notes)
    found = pseudo_label(labelled, further.images, cache_dir=tmp_path / "stopped")
    assert seeds == [0, 2]  # to see how long it takes, and what was missing
    assert "labelling 1,198 images takes less than a minute here" in caplog.text
    for name in ("probabilities", "held_back", "answers"):
        assert torch.equal(getattr(found, name), getattr(whole, name))
    again = pseudo_label(labelled, further.images, cache_dir=tmp_path / "stopped")
    assert seeds == [0, 2]
    assert torch.equal(again.probabilities, whole.probabilities)
    pseudo_label(labelled, further.images, horizontal_flip=True, cache_dir=tmp_path / "stopped")
    assert seeds[2:] == [0, 0, 1, 2]


def test_what_a_generator_draws_is_learnt_from(monkeypatch, tmp_path):
    monkeypatch.setattr(pseudo_labels, "STEPS", 30)
    monkeypatch.setattr(pseudo_labels, "DRAWN", 20)
    labelled, known, further, _ = digits_in_parts(8, 8)
    label = partial(pseudo_label, labelled, further.images, cache_dir=tmp_path)
    misled, helped = (
        (label(generator=teacher).images.targets == further.targets).double().mean()
        for teacher in (NextClass(labelled), Replay(known))
    )
    assert helped > misled + 0.1


def test_generated_images_have_the_class_shares_of_the_labels_also_where_a_kept_answer_is_damaged(
    taught, monkeypatch, tmp_path
):
    """Answers are brought to the class shares of what is learnt from, which a uniform teacher would hide."""
    monkeypatch.setattr(pseudo_labels, "DRAWN", 10)
    classes = ("bee", "cat", "ant")
    labels = torch.tensor([0, 0, 0, 0, 1, 2])
    images = torch.randint(256, (6, 1, 4, 4), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    labelled = LabelledImages(images, labels, classes, "labelled")
    for time in (1, 2):
        pseudo_label(labelled, images.flip(0), generator=Honest(*classes), cache_dir=tmp_path)
        assert len(taught) == time + 1  # once to see how long it takes
        (kept,) = tmp_path.glob("*.safetensors")
        kept.write_bytes(kept.read_bytes()[:-1])
    assert [data.targets.bincount().tolist() for data in taught] == [[4 + 20, 1 + 5, 1 + 5]] * 3


def test_other_shapes_and_no_images_are_refused(tmp_path):
    labelled, _, further, _ = digits_in_parts(8, 8)
    with pytest.raises(InputError, match="must have the shape"):
        pseudo_label(labelled, further.images[..., :7], cache_dir=tmp_path)
    with pytest.raises(InputError, match="no unlabelled images"):
        pseudo_label(labelled, further.images[:0], cache_dir=tmp_path)


@pytest.mark.parametrize("names", [("ant", "bee", "cat"), ("dog", "cat", "bee", "ant")])
def test_a_generator_that_numbers_its_classes_otherwise_teaches_the_same(names, taught, monkeypatch, tmp_path):
    monkeypatch.setattr(pseudo_labels, "DRAWN", 10)
    classes = ("bee", "cat", "ant")
    labels = torch.arange(9) % 3
    images = torch.tensor([LEVELS[classes[label]] for label in labels]).view(-1, 1, 1, 1).expand(-1, 1, 4, 4)
    labelled = LabelledImages(images.to(torch.uint8), labels, classes, "labelled")
    found = pseudo_label(labelled, labelled.images.flip(0), generator=Honest(*names), cache_dir=tmp_path)
    assert torch.equal(found.images.targets, labels.flip(0))
    assert [len(data) for data in taught] == [9 + 30] * 2  # once to see how long it takes
    assert all(shown(image) == classes[label] for data in taught for image, label in data)


def test_a_generator_trains_on_both_and_remembers_both(in_process, tmp_path, monkeypatch):
    monkeypatch.setattr(pseudo_labels, "STEPS", 2)
    data, more = small_images(n=9, classes=3, size=12), small_images(n=8, classes=2, size=12)
    more = replace(more, images=255 - more.images)
    write_class_folders(tmp_path / "photos", data)
    write_class_folders(tmp_path / "more", more)
    flags = [
        "--train_data_dir",
        "photos",
        "--unlabeled_data",
        "more",
        "--total_kimg",
        "0.032",
        "--train_batch_size",
        "16",
    ]
    assert in_process(*flags, "--output_dir", "out") is None
    generator = Generator.from_pretrained(tmp_path / "out")
    assert generator.label_names == ("class 0", "class 1", "class 2")
    assert torch.equal(generator.seen_images, torch.cat([data.image_hashes, more.image_hashes]).unique())
    assert generator.info["dataset"]["num_images"] == 17
    assert "8 pseudo-labelled images" in generator.info["dataset"]["name"]


def test_they_are_read_as_the_labelled_ones_are_and_without_those(tmp_path):
    like = small_images(n=6, size=12, channels=3)
    write_class_folders(tmp_path / "all", like)
    with pytest.raises(DataError, match="no image that is not among"):
        open_unlabeled(tmp_path / "all", like)
    Image.new("RGBA", (12, 12), (0, 0, 0, 0)).save(tmp_path / "all" / "empty.png")
    for background, value in (("white", 255), ("black", 0)):
        found = open_unlabeled(tmp_path / "all", like, background=background)
        assert (found.shape, found.unique().tolist()) == ((1, 3, 12, 12), [value])
    (tmp_path / "all" / "broken.png").write_bytes(b"no image")
    with pytest.raises(DataError, match="cannot be decoded"):
        open_unlabeled(tmp_path / "all", like)
    assert len(open_unlabeled(tmp_path / "all", like, skip_bad_images=True)) == 1


def test_a_generator_of_other_classes_is_no_teacher(in_process, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(pseudo_labels, "STEPS", 2)
    data, more = small_images(n=9, classes=3, size=12), small_images(n=8, classes=2, size=12, seed=1)
    write_class_folders(tmp_path / "photos", data)
    write_class_folders(tmp_path / "more", more)
    make_generator(("cat", "dog"), image_size=12).save_pretrained(tmp_path / "trained")
    flags = ["--train_data_dir", "photos", "--unlabeled_data", "more", "--init_from", "trained", "--model", "acgan-28"]
    flags += ["--total_kimg", "0.032", "--train_batch_size", "16", "--output_dir", "out"]
    assert in_process(*flags, name="train_acgan") is None
    assert "trained has other classes or sizes: images are labelled without it" in capsys.readouterr().out
    assert Generator.from_pretrained(tmp_path / "out").label_names == data.classes


def test_a_resumed_run_keeps_its_pseudo_labels(in_process, tmp_path, monkeypatch):
    monkeypatch.setattr(pseudo_labels, "STEPS", 2)
    write_class_folders(tmp_path / "photos", small_images(n=9, classes=3, size=12))
    write_class_folders(tmp_path / "more", small_images(n=40, classes=2, size=12, seed=1))
    flags = ["--train_data_dir", "photos", "--unlabeled_data", "more", "--train_batch_size", "16"]
    assert in_process(*flags, "--total_kimg", "0.032", "--output_dir", "out") is None
    path = tmp_path / "out" / "training" / "pseudo_labels.safetensors"
    kept = path.read_bytes()

    def otherwise(labelled, images, **_):
        """As on another machine."""
        targets = torch.arange(len(images)) % 3
        sure, none = one_hot(targets, 3).float(), torch.zeros(0, dtype=torch.int64)
        return PseudoLabels(replace(labelled, images=images, targets=targets), sure, none, torch.zeros(0, 3))

    monkeypatch.setattr("ganaug.cli.training_images.pseudo_label", otherwise)
    more = ["--resume_from_checkpoint", "out", "--override", "--total_kimg", "0.048"]
    assert in_process(*more) is None
    assert Generator.from_pretrained(tmp_path / "out").info["training"]["total_kimg"] == 0.048
    assert path.read_bytes() == kept
    aside = path.rename(tmp_path / "aside")
    message = in_process(*more)  # with the labels that come out now it is another run
    assert message.startswith("error: ")
    assert "images" in message
    aside.rename(path)
    next((tmp_path / "more").rglob("*.png")).unlink()
    assert in_process(*more[:2]).startswith("error: the run had 40 unlabelled images, and there are 39 now.")


LABELS = {
    "floats": lambda path: write_tensors(path, {"labels": torch.tensor([0.0, 1.0, 2.0])}),
    "a class too many": lambda path: write_tensors(path, {"labels": torch.tensor([0, 1, 3])}),
    "negative": lambda path: write_tensors(path, {"labels": torch.tensor([0, 1, -1])}),
    "a table": lambda path: write_tensors(path, {"labels": torch.zeros(3, 1, dtype=torch.int64)}),
    "another name": lambda path: write_tensors(path, {"targets": torch.tensor([0, 1, 2])}),
    "empty": lambda path: path.write_bytes(b""),
    "cut": lambda path: path.write_bytes(path.read_bytes()[:-4]),
    "zeros": lambda path: path.write_bytes(bytes(100)),
}


@pytest.mark.parametrize("damage", LABELS)
def test_damaged_labels_of_a_run_are_refused(tmp_path, damage):
    path = tmp_path / "pseudo_labels.safetensors"
    write_tensors(path, {"labels": torch.tensor([0, 1, 2])})
    assert kept_labels(path, 3, 3).tolist() == [0, 1, 2]
    LABELS[damage](path)
    with pytest.raises(InputError, match=r"pseudo_labels\.safetensors .*Start another run"):
        kept_labels(path, 3, 3)
