from __future__ import annotations

import copy
import json
import shutil

import pytest
import torch
from helpers.generators import make_generator
from PIL import Image
from safetensors.torch import load_file, save_file
from torch import nn

from ganaug import Generator, InputError, LoadError, register_generator
from ganaug.generators import ACGAN28Generator


@pytest.fixture
def folder(generator_folder, tmp_path):
    """A copy that a test may damage."""
    return shutil.copytree(generator_folder, tmp_path / "copy")


def edit_config(folder, **changes):
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, **changes}))


def test_a_saved_generator_comes_back(generator, generator_folder):
    loaded = Generator.from_pretrained(generator_folder)
    assert type(loaded) is ACGAN28Generator
    assert loaded.label_names == generator.label_names
    assert not loaded.training
    assert torch.equal(loaded.sample(range(10), seed=3), generator.sample(range(10), seed=3))


def test_all_of_the_configuration_comes_back(tmp_path):
    made = make_generator(("cat", "dog"), image_size=16, channels=3, latent_dim=7)
    made.info = {"dataset": {"name": "pets"}, "training": {"total_kimg": 1.5}}
    made.save_pretrained(str(tmp_path))
    loaded = Generator.from_pretrained(str(tmp_path))
    assert (loaded.label_names, loaded.image_size, loaded.channels, loaded.latent_dim) == (("cat", "dog"), 16, 3, 7)
    assert loaded.info == made.info
    assert all(
        torch.equal(a, b) for a, b in zip(loaded.state_dict().values(), made.state_dict().values(), strict=True)
    )


def test_names_of_all_scripts_come_back_and_those_that_would_not_are_refused_at_once(tmp_path):
    names = ("a\u3000b", "c\u00a0d", "👩\u200d🔬", "क्ष", "x" * 200)
    made = make_generator(names, image_size=8, latent_dim=4)
    made.info["dataset"] = {"name": "photos\n\x1b[2J/\udcff/" + "y" * 5000, "class_counts": dict.fromkeys(names, 3)}
    made.save_pretrained(tmp_path)
    loaded = Generator.from_pretrained(tmp_path)
    assert loaded.label_names == names
    assert loaded.info["dataset"]["name"].startswith("photos\N{REPLACEMENT CHARACTER}\N{REPLACEMENT CHARACTER}[2J/")
    for bad in ("", "a\n", "\x00", "\ud800", "x" * 201):
        with pytest.raises(InputError, match="strings of 1 to 200 characters.*Rename that class"):
            make_generator(("b", bad), image_size=8)
    with pytest.raises(InputError, match="got none"):
        make_generator((), image_size=8)
    with pytest.raises(InputError, match="got 'b' more than once"):
        make_generator(("b", "a", "b"), image_size=8)


def test_what_is_in_the_folder(generator, generator_folder):
    files = {str(path.relative_to(generator_folder)) for path in generator_folder.rglob("*") if path.is_file()}
    assert files == {"model.safetensors", "config.json", "README.md", "samples/grid.png"}
    config = json.loads((generator_folder / "config.json").read_text())
    assert config["architecture"] == "acgan-28"
    assert config["label_names"] == list("0123456789")
    assert config["image"] == {"size": 28, "channels": 1, "range": [-1, 1]}
    assert config["weights"]["num_parameters"] == 326_601
    assert load_file(generator_folder / "model.safetensors").keys() == generator.state_dict().keys()
    with Image.open(generator_folder / "samples" / "grid.png") as grid:
        assert grid.width > 500


def test_the_card_is_one_the_hub_reads(generator_folder):
    from huggingface_hub import ModelCard

    card = ModelCard.load(generator_folder / "README.md")
    assert card.data.library_name == "ganaug"
    assert "acgan-28" in card.data.tags
    assert "![generated images, one class per column](samples/grid.png)" in card.text
    assert "| 9 | 9 | not recorded |" in card.text


@pytest.mark.parametrize(("loss", "listed"), [("last_loss", False), ("last_G_loss", True)])
def test_the_card_lists_what_was_set_for_its_kind_of_network(tmp_path, loss, listed):
    """A flow has no discriminator."""
    training = {"seed": 3, "patience": None, "augment": []}
    training |= {"fake_labels": "drawn", "discriminator_steps": 1, loss: 0.5}
    made = make_generator(("cat", "dog"), image_size=16)
    made.info = {"dataset": {}, "training": training}
    made.save_pretrained(tmp_path)
    text = (tmp_path / "README.md").read_text()
    rows = [name for name in training if f"| `{name}` | " in text]
    assert rows == ["seed", *(["fake_labels", "discriminator_steps"] if listed else []), loss]


def test_arguments_that_would_have_no_effect_are_refused(generator, tmp_path):
    with pytest.raises(TypeError, match="licence: only with push_to_hub=True"):
        generator.save_pretrained(tmp_path / "out", licence="mit")
    with pytest.raises(TypeError, match="needs repo_id, where to publish: 'user/repo'"):
        generator.save_pretrained(tmp_path / "out", push_to_hub=True)
    assert not (tmp_path / "out").exists()


def test_saving_again_keeps_the_users_readme(generator, folder):
    (folder / "README.md").write_text("my own words")
    generator.save_pretrained(folder)
    assert (folder / "README.md").read_text() == "my own words"


def test_folders_that_hold_no_generator(folder, tmp_path):
    with pytest.raises(LoadError, match=r"no folder 'nowhere', and it is not a Hub id"):
        Generator.from_pretrained("nowhere")
    with pytest.raises(LoadError, match=r"has no config.json"):
        Generator.from_pretrained(tmp_path)
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")
    with pytest.raises(
        LoadError,
        match=r"has no model.safetensors; pytorch_model.bin may run code when it is opened, and is never loaded",
    ):
        Generator.from_pretrained(folder)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"format_version": 2, "ganaug_version": "9.1"}, "format_version 2 and this ganaug reads up to 1.*ganaug 9.1"),
        ({"format_version": True}, "it has no format_version"),
        ({"architecture": "os.system"}, "architecture 'os.system'; known are .*acgan-28.*register_generator"),
        ({"architecture": ["acgan-28"]}, "architecture must be a string"),
        ({"auto_map": "x"}, "missing or unknown keys: auto_map"),
        ({"image": [28]}, r"image must be an object, got \[28\]"),
        ({"image": {"size": 28, "channels": 1}}, "image: missing or unknown keys: range"),
        ({"label_names": "0123456789"}, "label_names must be a list"),
        ({"label_names": ["a", "a"]}, "label_names must differ"),
        (
            {"label_names": ["a", "b"]},
            r"embedding.weight must be F32 of \[2, 100\] by the config, and is F32 of \[10, 100\]",
        ),
        ({"network": {"latent_dim": 64}}, r"embedding.weight must be F32 of \[10, 64\]"),
        ({"network": {"latent_dim": "64"}}, "latent_dim must be a positive int, got '64'"),
        ({"network": {"depth": 3}}, "unexpected keyword argument 'depth'"),
        ({"image": {"size": 30, "channels": 1, "range": [-1, 1]}}, "multiple of 4; got 30"),
    ],
)
def test_configs_that_do_not_fit(folder, changes, message):
    edit_config(folder, **changes)
    with pytest.raises(LoadError, match=message):
        Generator.from_pretrained(folder)


@pytest.mark.parametrize("text", ["", "{", "[]", "null", '{"format_version": "1"}'])
def test_configs_that_are_not_configs(folder, text):
    (folder / "config.json").write_text(text)
    with pytest.raises(LoadError, match=r"config\.json (cannot be read|is not a config)"):
        Generator.from_pretrained(folder)


def resave(folder, **changes):
    """Change tensors (None: leave out), with a config that names the new file."""
    import hashlib

    tensors = {**load_file(folder / "model.safetensors"), **changes}
    save_file({name: tensor for name, tensor in tensors.items() if tensor is not None}, folder / "model.safetensors")
    digest = hashlib.sha256((folder / "model.safetensors").read_bytes()).hexdigest()
    config = json.loads((folder / "config.json").read_text())
    edit_config(folder, weights={**config["weights"], "sha256": digest})


def test_weights_that_do_not_fit(folder):
    weights = folder / "model.safetensors"
    whole = weights.read_bytes()
    for damaged, message in (
        (whole[:-100], "1,310,512 bytes instead of 1,310,612"),
        (whole[:-1] + bytes([whole[-1] ^ 1]), "SHA-256 differs"),
        (b"", "is damaged, or holds other weights"),
    ):
        weights.write_bytes(damaged)
        with pytest.raises(LoadError, match=message):
            Generator.from_pretrained(folder)
    weights.write_bytes(whole)
    resave(folder, **{"layers.0.bias": None})
    with pytest.raises(LoadError, match="the weights lack 1 tensors, as layers.0.bias"):
        Generator.from_pretrained(folder)
    resave(folder, **{"layers.0.bias": torch.zeros(64), "extra": torch.zeros(1)})
    with pytest.raises(LoadError, match="the weights also have 1 tensors, as extra"):
        Generator.from_pretrained(folder)
    resave(folder, extra=None, **{"layers.0.bias": torch.full((64,), float("nan"))})
    with pytest.raises(LoadError, match=r"NaN or infinite values in layers.0.bias"):
        Generator.from_pretrained(folder)


def test_hashes_of_the_training_images_travel_along(folder):
    generator = Generator.from_pretrained(folder)
    assert generator.seen_images is None
    generator.seen_images = torch.tensor([5, -(2**63), 5, 2**63 - 1])
    assert "seen_images" not in generator.state_dict()
    generator.save_pretrained(folder)
    assert load_file(folder / "training_images.safetensors").keys() == {"sha256_prefix"}
    loaded = Generator.from_pretrained(folder)
    assert loaded.seen_images.tolist() == [-(2**63), 5, 2**63 - 1]
    assert copy.deepcopy(loaded).seen_images.tolist() == loaded.seen_images.tolist()
    loaded.seen_images = None
    loaded.save_pretrained(folder)
    assert not (folder / "training_images.safetensors").exists()
    assert Generator.from_pretrained(folder).seen_images is None


GOOD = torch.tensor([-7, 0, 9])


@pytest.mark.parametrize(
    "tensors",
    [
        {"other": GOOD},
        {"sha256_prefix": GOOD, "other": GOOD + 1},
        {},
        {"sha256_prefix": GOOD.float()},
        {"sha256_prefix": GOOD.int()},
        {"sha256_prefix": GOOD[None]},
        {"sha256_prefix": GOOD.sum()},
        {"sha256_prefix": GOOD.flip(0)},
        {"sha256_prefix": torch.tensor([1, 2, 2])},
    ],
)
def test_hashes_of_training_images_that_are_none(folder, tensors):
    save_file({name: tensor.contiguous() for name, tensor in tensors.items()}, folder / "training_images.safetensors")
    with pytest.raises(LoadError, match="training_images.safetensors must hold one tensor, sha256_prefix"):
        Generator.from_pretrained(folder)


def test_a_damaged_file_of_hashes(folder):
    path = folder / "training_images.safetensors"
    save_file({"sha256_prefix": GOOD}, path)
    whole = path.read_bytes()
    for damaged in (whole[:-1], whole[:20], b""):
        path.write_bytes(damaged)
        with pytest.raises(LoadError, match=r"training_images.safetensors .* Download or save it"):
            Generator.from_pretrained(folder)


class Custom(Generator):
    architecture = "custom-for-test"

    def __init__(self, label_names, *, image_size=4, channels=1, latent_dim=3):
        super().__init__(label_names, image_size=image_size, channels=channels, latent_dim=latent_dim)
        self.table = nn.Embedding(self.num_classes, channels * image_size**2)

    def forward(self, z, labels):
        return self.table(labels).tanh().reshape(-1, self.channels, self.image_size, self.image_size)


def test_a_class_of_the_users_own_loads_once_it_is_registered(tmp_path):
    with torch.random.fork_rng():
        made = Custom(["a", "b"])
    made.save_pretrained(tmp_path)
    with pytest.raises(LoadError, match="must be registered"):
        Generator.from_pretrained(tmp_path)
    register_generator(Custom)
    assert torch.equal(Generator.from_pretrained(tmp_path).sample([0, 1]), made.sample([0, 1]))
    assert isinstance(Custom.from_pretrained(tmp_path), Custom)
    with pytest.raises(LoadError, match="holds custom-for-test .* not a ACGAN28Generator"):
        ACGAN28Generator.from_pretrained(tmp_path)


def test_a_failed_save_leaves_the_old_generator(generator, folder, monkeypatch):
    """The disk is full while the weights are written."""
    import ganaug.core.files

    before = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}

    def full_disk(tensors, path, metadata):
        path.write_bytes(b"half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(ganaug.core.files, "save_file", full_disk)
    with pytest.raises(OSError, match="No space left"):
        make_generator(latent_dim=9).save_pretrained(folder)
    assert {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()} == before


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda made: made.bfloat16(), "its options build other weights than it has .*float32.*bfloat16"),
        (lambda made: made.info.update(training={"lr": {"G": 1e-3}}), "lr must be short, plain JSON"),
        (lambda made: made.info.update(dataset={"licence": "mit"}), "licence is unknown"),
        (lambda made: made.info.update(training={"when": object()}), "not JSON serializable"),
        (lambda made: made.register_buffer("more", torch.zeros(2)), "here None|saved None"),
    ],
)
def test_what_could_not_be_loaded_again_is_not_saved(generator, folder, change, message):
    before = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    wrong = copy.deepcopy(generator)
    wrong.info = copy.deepcopy(generator.info)
    change(wrong)
    with pytest.raises(InputError, match=f"could not be loaded again: .*{message}"):
        wrong.save_pretrained(folder)
    assert {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()} == before
