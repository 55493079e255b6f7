"""Hugging Face datasets in, Hugging Face datasets out."""

from __future__ import annotations

from pathlib import Path

import datasets
import numpy as np
import pytest
import torch
from datasets import ClassLabel, Dataset, Features, Image, List, Value
from helpers.images import hf_dataset, small_images
from helpers.programs import run_python
from torch import nn
from torchvision.transforms.v2.functional import pil_to_tensor

from ganaug import ConditionalGANAugment, DataError, Generator, InputError, LabelledImages, open_images
from ganaug.filters import StarvedFilterError
from ganaug.generators import CGANMLPGenerator
from ganaug.mixing.huggingface import augment_dataset, generate_dataset
from ganaug.sampling import draw

NAMES = ("class 0", "class 1", "class 2")


def make_generator(names: tuple[str, ...] = NAMES, channels: int = 1) -> Generator:
    """Untrained and quick, with images that depend on latent and class."""
    with torch.random.fork_rng(), torch.no_grad():
        torch.manual_seed(0)
        generator = CGANMLPGenerator(names, image_size=12, channels=channels, latent_dim=4)
        generator.embedding.weight.mul_(10)
        generator.layers[-3].weight.mul_(10)
    return generator.eval()


@pytest.fixture(scope="module")
def small() -> Generator:
    """A generator of the classes of ``small_images``."""
    return make_generator()


@pytest.fixture
def cache(tmp_path) -> Path:
    return tmp_path / "cache"


def pixels(rows: Dataset, column: str = "picture") -> torch.Tensor:
    return torch.stack([pil_to_tensor(image) for image in rows.with_format(None)[column]])


def made_files(cache: Path) -> dict[str, tuple[int, int]]:
    return {path.name: (path.stat().st_ino, path.stat().st_mtime_ns) for path in cache.rglob("*.arrow")}


def rich_rows(data: LabelledImages) -> Dataset:
    """Rows with columns beside image and label."""
    rows = hf_dataset(data)
    more = Dataset.from_dict(
        {
            "id": list(range(len(data))),
            "tags": [["a", "b"]] * len(data),
            "box": [{"x": 1.5, "name": "n"}] * len(data),
            "grid": [[[1.0, 2.0]]] * len(data),
        },
        features=Features(
            {
                "id": Value("int64"),
                "tags": List(Value("string")),
                "box": {"x": Value("float32"), "name": Value("string")},
                "grid": datasets.Array2D((1, 2), "float32"),
            }
        ),
    )
    return datasets.concatenate_datasets([more, rows], axis=1)


@pytest.mark.parametrize("channels", [1, 3])
def test_rows_are_the_items_of_the_map_style_dataset(cache, channels):
    data = small_images(channels=channels)
    generator = make_generator(channels=channels)
    rows = hf_dataset(data)
    mixed = augment_dataset(rows, generator, ratio=0.4, seed=3, cache_dir=cache)
    items = ConditionalGANAugment(data, generator, ratio=0.4, seed=3, cache_dir=cache)
    assert len(mixed) == len(items) == 100
    assert mixed.features == rows.features
    assert mixed["kind"][:] == items.targets.tolist()
    assert {image.mode for image in mixed["picture"]} == {"L" if channels == 1 else "RGB"}
    assert torch.equal(pixels(mixed), torch.stack([image for image, _ in items.__getitems__(range(100))]))
    assert rows._fingerprint == hf_dataset(data)._fingerprint
    assert len(rows) == 60


def test_classes_meet_by_name_whatever_their_order(cache):
    generator = make_generator(("cat", "dog"))
    data = small_images(n=20, classes=2)
    rows = hf_dataset(LabelledImages(data.images, data.targets, ("dog", "cat"), "x"))
    mixed = augment_dataset(rows, generator, ratio=0.5, cache_dir=cache)
    wanted = [("cat", "dog").index(("dog", "cat")[label]) for label in mixed["kind"][20:]]
    assert wanted == [1] * 10 + [0] * 10
    assert not torch.equal(pixels(mixed)[20:30], draw.sample(generator, [0] * 10, indices=range(20, 30)))
    assert torch.equal(pixels(mixed)[20:], draw.sample(generator, wanted, indices=range(20, 40)))

    renamed = hf_dataset(LabelledImages(data.images, data.targets, ("hound", "cat"), "x"))
    mapped = augment_dataset(renamed, generator, 0.5, class_map={"hound": "dog"}, cache_dir=cache)
    assert torch.equal(pixels(mapped), pixels(mixed))
    with pytest.raises(ValueError, match="the generator does not know hound. The dataset's classes are hound, cat"):
        augment_dataset(renamed, generator, cache_dir=cache)


def test_other_columns_are_none_and_a_source_column_tells(small, cache):
    rows = rich_rows(small_images())
    mixed = augment_dataset(rows, small, ratio=0.25, source_column="source", cache_dir=cache)
    source = ClassLabel(names=["real", "generated"])
    assert mixed.features == Features({**rows.features, "source": source})
    assert mixed["source"][:] == [0] * 60 + [1] * 20
    assert mixed.select(range(60)).remove_columns("source")[:] == rows[:]
    assert all(mixed[60][name] is None for name in ("id", "tags", "box", "grid"))
    assert augment_dataset(rows, small, ratio=0, cache_dir=cache)[:] == rows[:]
    assert augment_dataset(rows, small, ratio=0, source_column="s", cache_dir=cache)["s"][:] == [0] * 60


def test_strategies_fill_classes_up(small, cache):
    data = small_images(n=30)
    rows = hf_dataset(data.subset(torch.nonzero((data.targets != 1) | (torch.arange(30) < 9)).squeeze(1), "skewed"))
    mixed = augment_dataset(rows, small, sampling_strategy="auto", cache_dir=cache)
    assert np.bincount(mixed["kind"]).tolist() == [10, 10, 10]
    assert mixed["kind"][23:] == [1] * 7
    with pytest.raises(ValueError, match="two amounts"):
        augment_dataset(rows, small, 0.5, sampling_strategy="auto", cache_dir=cache)
    with pytest.raises(ValueError, match=r"ratio must be a number in \[0, 1\).* got 1.5"):
        augment_dataset(rows, small, 1.5, cache_dir=cache)


def test_format_and_split_stay(small, cache):
    rows = rich_rows(small_images(n=9))
    rows = Dataset(rows.data, info=rows.info, split=datasets.Split.TRAIN)
    mixed = augment_dataset(rows.with_format("torch"), small, 0.5, source_column="source", cache_dir=cache)
    assert mixed.split == "train"
    assert mixed[17]["picture"].dtype == torch.uint8
    assert mixed[17]["picture"].shape == (1, 12, 12)
    assert mixed[17]["source"] == torch.tensor(1)
    narrow = rows.with_format("numpy", columns=["kind"])
    assert augment_dataset(narrow, small, 0.5, source_column="s", cache_dir=cache)[9].keys() == {"kind", "s"}
    upper = rows.with_transform(lambda batch: {"mode": [image.mode for image in batch["picture"]]})
    assert augment_dataset(upper, small, 0.5, cache_dir=cache)[8:10] == {"mode": ["L", "L"]}


def test_what_users_do_next(small, cache, tmp_path):
    rows = rich_rows(small_images()).shuffle(seed=0).select(range(40))
    mixed = augment_dataset(rows, small, 0.5, source_column="source", cache_dir=cache)
    assert mixed["id"][:] == rows["id"][:] + [None] * 40
    mixed.save_to_disk(str(tmp_path / "saved"))
    loaded = datasets.load_from_disk(str(tmp_path / "saved"))
    assert loaded.features == mixed.features
    assert torch.equal(pixels(loaded), pixels(mixed))
    parts = loaded.train_test_split(0.25, seed=0, stratify_by_column="source")
    assert [np.bincount(parts[name]["source"]).tolist() for name in ("train", "test")] == [[30, 30], [10, 10]]
    bright = mixed.map(lambda row: {"brightness": float(np.mean(row["picture"]))})
    assert bright["brightness"][:] == pytest.approx(pixels(mixed).float().mean((1, 2, 3)).tolist())
    assert len(mixed.filter(lambda source: source == 1, input_columns="source")) == 40


def test_the_same_call_generates_once_and_later_maps_are_found(small, cache):
    def size(row):
        return {"width": row["image"].width}

    first = generate_dataset(small, 2, cache_dir=cache)
    mapped = first.map(size)
    before = made_files(cache)
    assert len(before) == 2
    again = generate_dataset(small, {"class 2": 2, "class 0": 2, "class 1": 2}, cache_dir=cache)
    assert again._fingerprint == first._fingerprint
    assert again.map(size).cache_files == mapped.cache_files
    assert made_files(cache) == before
    assert not list(cache.rglob(".*.tmp*"))

    retrained = make_generator()
    with torch.no_grad():
        retrained.embedding.weight[0, 0] += 1
    others = [
        generate_dataset(small, 3, cache_dir=cache),
        generate_dataset(small, 2, seed=1, cache_dir=cache),
        generate_dataset(retrained, 2, cache_dir=cache),
        generate_dataset(small, 2, label_column="kind", cache_dir=cache),
        generate_dataset(small, 2, source_column="source", cache_dir=cache),
        generate_dataset(small, 2, features=Features(dict(reversed(first.features.items()))), cache_dir=cache),
    ]
    assert len({rows._fingerprint for rows in [first, *others]}) == 7
    generated = [name for name in made_files(cache) if not name.startswith("cache-")]  # that is what map makes
    assert sorted(generated) == sorted(f"{rows._fingerprint}.arrow" for rows in [first, *others])


def test_another_process_finds_both_by_the_same_fingerprint(small, cache, tmp_path):
    small.save_pretrained(tmp_path / "generator")
    rich_rows(small_images()).save_to_disk(str(tmp_path / "rows"))
    program = (
        "import sys, datasets; from ganaug.mixing.huggingface import augment_dataset;"
        "rows, generator, cache = sys.argv[1:];"
        "mixed = augment_dataset(datasets.load_from_disk(rows), generator, source_column='s', cache_dir=cache);"
        "print(mixed._fingerprint)"
    )
    arguments = [str(tmp_path / "rows"), str(tmp_path / "generator"), str(cache)]
    printed = run_python("-c", program, *arguments, cwd=tmp_path)
    before = made_files(cache)
    rows = datasets.load_from_disk(arguments[0])
    mixed = augment_dataset(rows, small, source_column="s", cache_dir=cache)  # the module that is in the folder
    assert mixed._fingerprint == printed.splitlines()[0]
    assert made_files(cache) == before
    assert [Path(file["filename"]).parent for file in mixed.cache_files] == [tmp_path / "rows", cache / "generated"]


def test_an_image_does_not_depend_on_the_pieces_it_is_written_in(small, cache, tmp_path, monkeypatch):
    whole = generate_dataset(small, 10, cache_dir=cache)
    monkeypatch.setattr("ganaug.mixing.huggingface._CHUNK", 7)
    assert torch.equal(
        pixels(generate_dataset(small, 10, cache_dir=tmp_path / "other"), "image"), pixels(whole, "image")
    )
    labels = [0] * 10 + [1] * 10 + [2] * 10
    assert whole["label"][:] == labels
    assert torch.equal(pixels(whole, "image"), draw.sample(small, labels))


def test_generated_datasets_take_counts_and_features(small, cache):
    rows = rich_rows(small_images())
    some = generate_dataset(
        small,
        {"class 2": np.int64(1), "class 0": 2},
        features=rows.features,
        image_column="picture",
        label_column="kind",
        source_column="source",
        cache_dir=cache,
    )
    assert some.features == Features({**rows.features, "source": ClassLabel(names=["real", "generated"])})
    assert (some["kind"][:], some["source"][:], some["id"][:]) == ([0, 0, 2], [1, 1, 1], [None] * 3)
    one = datasets.concatenate_datasets([rows, some.remove_columns("source")])  # the same features
    assert torch.equal(pixels(one)[60:], draw.sample(small, [0, 0, 2]))
    totals = {"class 0": 22, "class 1": 20, "class 2": 21}
    mixed = augment_dataset(rows, small, sampling_strategy=totals, source_column="source", cache_dir=cache)
    assert mixed["kind"][60:] == some["kind"][:]  # the same rows, but of other numbers
    assert torch.equal(pixels(mixed)[60:], draw.sample(small, [0, 0, 2], indices=range(60, 63)))
    plain = generate_dataset(small, 1, cache_dir=cache)
    assert plain.features == Features({"image": Image(), "label": ClassLabel(names=list(NAMES))})
    assert len(generate_dataset(small, 0, cache_dir=cache)) == 0
    with pytest.raises(InputError, match="counts has 'bird'; the classes are class 0, class 1, class 2"):
        generate_dataset(small, {"bird": 0}, cache_dir=cache)
    for wrong in (-1, True, 1.5, {"class 0": None}, {"class 0": -2}):
        with pytest.raises(InputError, match="counts must be ints of 0 or more, got"):
            generate_dataset(small, wrong, cache_dir=cache)
    with pytest.raises(InputError, match="column 'image' must be of type Image, got no such column; the columns are"):
        generate_dataset(small, 1, features=rows.features, cache_dir=cache)


def test_counts_name_their_classes(cache):
    """An int would be a label to one reader and a name to another: of these classes, 0 is the generator's "2"."""
    generator = make_generator(("2", "1", "0"))
    for counts in ({0: 3}, {np.int64(0): 3}, {"0": 3, 1: 2}):
        with pytest.raises(InputError, match=r"\{class name: number\}, got the key .*Write \{\"[01]\": "):
            generate_dataset(generator, counts, cache_dir=cache)
    with pytest.raises(InputError, match='got the key 1. Write {"dog": 3}'):  # there is no class called 1
        generate_dataset(make_generator(("cat", "dog")), {1: 3}, cache_dir=cache)
    rows = generate_dataset(generator, {"0": np.int64(3), "1": 0}, cache_dir=cache)
    assert [rows.features["label"].names[label] for label in rows["label"]] == ["0"] * 3
    for number in (True, -1, 1.5, "3", None):
        with pytest.raises(InputError, match="counts must be ints of 0 or more, got"):
            generate_dataset(generator, {"0": number}, cache_dir=cache)


def test_a_module_without_class_names_takes_those_of_the_features(cache):
    class Plain(nn.Module):
        latent_dim = 2

        def forward(self, z, labels):
            return (labels / 2 - 0.5).view(-1, 1, 1, 1).expand(-1, 1, 4, 4)

    with pytest.raises(InputError, match=r"the generator \(Plain\) does not name its classes. Pass features"):
        generate_dataset(Plain(), 1, cache_dir=cache)
    features = Features({"image": Image(), "label": ClassLabel(names=["a", "b"])})
    rows = generate_dataset(Plain(), 1, features=features, cache_dir=cache)
    assert [image.getpixel((0, 0)) for image in rows["image"]] == [64, 128]


def test_filters(small, cache):
    first = generate_dataset(small, 2, cache_dir=cache)
    refused = pixels(first, "image")[1]

    def accept(images, labels):
        return (images != refused).flatten(1).any(1)

    kept = pixels(generate_dataset(small, 2, accept=accept, cache_dir=cache), "image")
    same = (kept == pixels(first, "image")).flatten(1).all(1)
    assert same.tolist() == [True, False, True, True, True, True]
    before = sorted(path for path in cache.rglob("*") if not path.name.endswith(".lock"))
    with pytest.raises(StarvedFilterError, match="for class class 0 it accepted 0 of"):
        generate_dataset(small, 2, accept=lambda images, labels: labels > 0, max_tries=2, cache_dir=cache)
    assert sorted(path for path in cache.rglob("*") if not path.name.endswith(".lock")) == before


def test_real_images_may_differ_in_size_but_not_in_mode(small, cache):
    images = [np.zeros((8 + i, 9, 3), np.uint8) for i in range(6)]
    rows = Dataset.from_dict(
        {"image": images, "label": [0, 1, 2] * 2},
        features=Features({"image": Image(), "label": ClassLabel(names=list(NAMES))}),
    )
    message = r"images are RGB, the generator's L. Train .*cast_column\('image', datasets.Image\(mode='L'\)\)"
    for form in (rows, rows.cast_column("image", Image(decode=False))):
        with pytest.raises(InputError, match=message):
            augment_dataset(form, small, 0.5, cache_dir=cache)
    mixed = augment_dataset(rows.cast_column("image", Image(mode="L")), small, 0.5, cache_dir=cache)
    assert [image.size for image in mixed["image"]] == [(9, 8 + i) for i in range(6)] + [(12, 12)] * 6
    raw = augment_dataset(rows.cast_column("image", Image(mode="L", decode=False)), small, 0.5, cache_dir=cache)
    assert raw.features["image"].decode is False
    assert raw[6]["image"]["bytes"].startswith(b"\x89PNG")


def test_what_cannot_be_augmented(small, cache):
    data = small_images()
    rows = hf_dataset(data)
    for wrong in (rows.to_iterable_dataset(), datasets.DatasetDict({"train": rows}), data):
        with pytest.raises(
            TypeError, match=f"must be a datasets.Dataset, got {type(wrong).__name__}. Of a DatasetDict"
        ):
            augment_dataset(wrong, small, cache_dir=cache)
    for split in ("test", "validation"):
        judged = Dataset(rows.data, info=rows.info, split=datasets.NamedSplit(split))
        with pytest.raises(ValueError, match=f"evaluation split .*'{split}'.*allow_eval=True"):
            augment_dataset(judged, small, cache_dir=cache)
        assert len(augment_dataset(judged, small, 0.5, allow_eval=True, cache_dir=cache)) == 120
    unlabelled = rows.map(lambda row, i: {"kind": (-1, None, row["kind"])[min(i, 2)]}, with_indices=True)
    with pytest.raises(DataError, match="the dataset: 2 rows have no label"):
        augment_dataset(unlabelled, small, cache_dir=cache)
    with pytest.raises(DataError, match="the dataset has no rows"):
        augment_dataset(rows.select([]), small, cache_dir=cache)
    pictureless = Dataset.from_dict({"picture": [None], "kind": [0]}, features=rows.features)
    with pytest.raises(DataError, match="the first row has no image"):
        augment_dataset(pictureless, small, cache_dir=cache)


def test_columns_are_found_by_type_or_named(small, cache):
    rows = hf_dataset(small_images())
    other = rows.rename_columns({"picture": "mask", "kind": "colour"})
    both = datasets.concatenate_datasets([rows, other], axis=1)
    with pytest.raises(DataError, match=r"the dataset must have one Image column, found \['picture', 'mask'\]"):
        augment_dataset(both, small, cache_dir=cache)
    mixed = augment_dataset(both, small, 0.5, image_column="mask", label_column="kind", cache_dir=cache)
    assert (mixed[60]["picture"], mixed[60]["colour"], mixed[60]["kind"]) == (None, -1, 0)
    assert mixed[60]["mask"].size == (12, 12)
    again = augment_dataset(both, small, 0.5, image_column="picture", label_column="kind", cache_dir=cache)
    assert (again[60]["mask"], again[60]["picture"].size) == (None, (12, 12))
    with pytest.raises(InputError, match=r"column 'kind' must be of type Image, got ClassLabel\(.*cast_column"):
        augment_dataset(both, small, image_column="kind", label_column="kind", cache_dir=cache)
    with pytest.raises(InputError, match="there is a column 'kind' already. Give source_column another name"):
        augment_dataset(rows, small, source_column="kind", cache_dir=cache)


def two_label_columns(data: LabelledImages) -> Dataset:
    """Rows with a second ClassLabel column beside the classes."""
    rows = hf_dataset(data)
    coarse = [label // 2 for label in data.targets.tolist()]
    return rows.add_column("coarse", np.array(coarse), feature=ClassLabel(names=["few", "many"]))


@pytest.mark.parametrize("form", ["torch", "numpy", "arrow", None])
def test_another_label_column_stays_ints_in_every_format(small, cache, form):
    rows = two_label_columns(small_images()).with_format(form)
    with pytest.raises(DataError, match=r"\['kind', 'coarse'\].*label_column="):
        augment_dataset(rows, small, cache_dir=cache)
    mixed = augment_dataset(rows, small, 0.25, label_column="kind", cache_dir=cache)
    assert mixed.features == rows.features
    batch = mixed.with_format(form, columns=["coarse"])[58:62]
    coarse = batch.column("coarse").to_pylist() if form == "arrow" else list(map(int, batch["coarse"]))
    assert coarse == [0, 1, -1, -1]
    if form == "torch":
        assert batch["coarse"].dtype == torch.int64
        items = mixed.select_columns(["kind", "coarse"])
        loaded = torch.utils.data.default_collate([items[i] for i in range(80)])
        assert loaded["coarse"].dtype == torch.int64
        assert (loaded["coarse"] == -1).nonzero().squeeze(1).tolist() == list(range(60, 80))


def test_a_made_dataset_has_no_label_in_other_label_columns(small, cache):
    rows = two_label_columns(small_images())
    made = generate_dataset(
        small, 2, features=rows.features, image_column="picture", label_column="kind", cache_dir=cache
    )
    assert (made["kind"][:], made["coarse"][:]) == ([0, 0, 1, 1, 2, 2], [-1] * 6)


def test_what_was_mixed_can_be_opened_again(small, cache):
    rows = two_label_columns(small_images())
    mixed = augment_dataset(rows, small, 0.25, label_column="kind", source_column="from", cache_dir=cache)
    found = open_images(mixed, label_column="kind")
    assert (len(found), found.class_counts) == (80, np.bincount(mixed["kind"]).tolist())
    plain = augment_dataset(hf_dataset(small_images()), small, 0.25, source_column="from", cache_dir=cache)
    assert torch.equal(open_images(plain).images, found.images)
    assert augment_dataset(plain, small, 0.5, cache_dir=cache).features == plain.features
    with pytest.raises(DataError, match="20 rows have no label"):
        open_images(mixed, label_column="coarse")


def test_rows_that_are_mixed_in_later_are_called_generated_too(small, cache, caplog):
    once = augment_dataset(hf_dataset(small_images()), small, 0.25, source_column="from", cache_dir=cache)
    assert "generated" not in caplog.text
    twice = augment_dataset(once, small, 0.5, cache_dir=cache)
    assert "the dataset: 20 of 80 rows are generated images (column from)" in caplog.text
    assert twice["from"][:] == [0] * 60 + [1] * 100
    assert (
        generate_dataset(
            small, 2, features=once.features, image_column="picture", label_column="kind", cache_dir=cache
        )["from"][:]
        == [1] * 6
    )
    named = augment_dataset(once, small, 0.5, source_column="now", cache_dir=cache)
    assert (named["from"][80:], named["now"][:]) == ([1] * 80, [0] * 80 + [1] * 80)


def test_labels_in_lists_of_one_are_taken_and_given(small, cache):
    rows = hf_dataset(small_images())
    lists = rows.map(
        lambda row: {"kind": [row["kind"]]},
        features=Features({"picture": Image(), "kind": List(ClassLabel(names=list(NAMES)), length=1)}),
    )
    mixed = augment_dataset(lists, small, 0.25, cache_dir=cache)
    plain = augment_dataset(rows, small, 0.25, cache_dir=cache)
    assert mixed["kind"][:] == [[label] for label in plain["kind"]]
    assert torch.equal(pixels(mixed), pixels(plain))


def test_class_names_in_both_spellings_meet(cache):
    data = small_images(n=20, classes=2)
    rows = hf_dataset(LabelledImages(data.images, data.targets, ("cafe\u0301", "tea"), "decomposed"))
    generator = make_generator(("caf\u00e9", "tea"))
    mixed = augment_dataset(rows, generator, 0.5, cache_dir=cache)
    assert mixed["kind"][20:] == [0] * 10 + [1] * 10
    assert mixed.features == rows.features
