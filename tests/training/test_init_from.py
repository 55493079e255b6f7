"""A generator that starts from the weights of a trained one."""

from __future__ import annotations

import pytest
import torch
from helpers.images import small_images, write_class_folders
from torch import nn
from torch.nn import functional as F

from ganaug import Generator, InputError
from ganaug.generators import ACGAN28Generator, ACGANGenerator, CGANMaxoutGenerator, CGANMLPGenerator, FlowGenerator
from ganaug.training import MODELS, init_from
from ganaug.training.models import model_of
from ganaug.training.run_folder import read_settings

SMALL = {"image_size": 8, "width": 16}


def flow(*names: str, **options) -> FlowGenerator:
    with torch.random.fork_rng():
        generator = FlowGenerator(names, **{**SMALL, **options})
        for weight in generator.parameters():  # no layer of zeros, as after training
            torch.nn.init.normal_(weight, std=0.1)
    return generator.eval()


class TiedHead(Generator):
    """Has the weights of its embedding in another layer too."""

    architecture = "tied-head-for-init-from"

    def __init__(self, label_names, *, image_size: int = 8, channels: int = 1):
        super().__init__(label_names, image_size=image_size, channels=channels, latent_dim=4)
        self.labels = nn.Embedding(self.num_classes, 4)
        self.b = nn.Linear(4, self.num_classes, bias=False)
        self.b.weight = self.labels.weight
        self.image = nn.Linear(4, 64)

    def network_options(self):
        return {}

    def forward(self, z, labels):
        return self.image(z + self.labels(labels)).tanh().view(-1, 1, 8, 8)


class SharedLayer(TiedHead):
    """Has its embedding under two names."""

    def __init__(self, label_names, **options):
        super().__init__(label_names, **options)
        self.b = self.labels


class OneHotToo(TiedHead):
    """Has its classes in a layer beside the embedding."""

    def __init__(self, label_names, **options):
        super().__init__(label_names, **options)
        self.one_hot = nn.Linear(self.num_classes, 4)

    def forward(self, z, labels):
        return super().forward(z + self.one_hot(F.one_hot(labels, self.num_classes).float()), labels)


def test_classes_meet_by_name_and_new_ones_start_between_the_known(caplog):
    trained, new = flow("cat", "dog", "cow"), flow("dog", "owl", "cat", "emu")
    trained.seen_images = torch.tensor([3, 5])
    init_from(new, trained)
    z = torch.randn(2, 64, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        assert torch.equal(new(z, torch.tensor([0, 2])), trained(z, torch.tensor([1, 0])))
    rows = new.label_embedding.weight
    assert torch.equal(rows[1], rows[3])
    assert torch.allclose(rows[1], trained.label_embedding.weight.mean(0))
    assert torch.equal(new.seen_images, trained.seen_images)
    assert "2 of 4 are not among those of the generator to start from (cat, dog, cow)" in caplog.text
    assert caplog.text.rstrip().endswith("as their mean: owl, emu")


def test_an_acgan_starts_as_a_flow_and_a_flow_from_one_of_other_steps():
    """With one's weights, classes by their names; the other way round the network would not know the way."""
    trained = flow("cat", "dog", "cow")
    with torch.random.fork_rng():
        acgan = ACGANGenerator(("dog", "cat"), **SMALL)
    init_from(acgan, trained)
    two = flow("dog", "cat", steps=2)
    init_from(two, trained)
    x_t, t = torch.randn(2, 1, 8, 8, generator=torch.Generator().manual_seed(0)), torch.tensor([0.3, 0.8])
    expected = trained.velocity(x_t, t, torch.tensor([1, 0]))
    for new, steps in ((acgan, 1), (two, 2)):
        assert torch.equal(new.velocity(x_t, t, torch.tensor([0, 1])), expected)
        assert (new.steps, new.info["training"]) == (steps, {"init_from": "flow"})
    assert trained.steps == 8
    with pytest.raises(InputError, match="architecture is acgan, but flow"):
        init_from(trained, acgan)
    with torch.random.fork_rng(), pytest.raises(InputError, match=r"\{'width': 16\}, but \{'width': 24"):
        init_from(ACGANGenerator(("dog", "cat"), image_size=8, width=24), trained)


def test_what_differs_in_more_than_classes_is_refused():
    with torch.random.fork_rng():
        for new, message in [
            (flow("a", "b", width=24), r"network options is {'width': 16, 'steps': 8}, but {'width': 24"),
            (flow("a", "b", image_size=12), "image_size is 8, but 12"),
            (ACGAN28Generator(["a", "b"], image_size=8), "architecture is flow, but acgan-28"),
        ]:
            with pytest.raises(InputError, match=message):
                init_from(new, flow("a", "b"))
        known, other = (CGANMLPGenerator(names, image_size=8, channels=1) for names in (["a", "b"], ["a", "b", "c"]))
        before = [weight.clone() for weight in other.parameters()]
        with pytest.raises(InputError, match="same number of classes"):
            init_from(other, known)
        # The one-hot label is part of a layer's input: its columns would be taken for other classes.
        maxout, turned = (CGANMaxoutGenerator(names, image_size=8, channels=1) for names in (["a", "b"], ["b", "a"]))
        with pytest.raises(InputError, match="in the same order: a, b"):
            init_from(turned, maxout)
    assert all(torch.equal(*pair) for pair in zip(before, other.parameters(), strict=True))


@pytest.mark.parametrize("kind", [TiedHead, SharedLayer])
def test_an_embedding_of_several_names_meets_by_class_name_under_all_of_them(kind):
    with torch.random.fork_rng():
        trained, new = kind(("cat", "dog", "cow")), kind(("cow", "cat", "emu", "dog"))
    init_from(new, trained)
    z = torch.randn(3, 4, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        assert torch.equal(new(z, torch.tensor([1, 3, 0])), trained(z, torch.tensor([0, 1, 2])))
    first, second = (value for name, value in new.state_dict().items() if name.endswith(("labels.weight", "b.weight")))
    assert first.data_ptr() == second.data_ptr()


def test_classes_in_another_layer_beside_an_embedding_are_refused_in_another_order():
    with torch.random.fork_rng():
        trained, new, same = (OneHotToo(names) for names in (("cat", "dog"), ("dog", "cat"), ("cat", "dog")))
    before = {name: value.clone() for name, value in new.state_dict().items()}
    with pytest.raises(InputError, match="in the same order: cat, dog"):
        init_from(new, trained)
    assert all(torch.equal(value, before[name]) for name, value in new.state_dict().items())
    init_from(same, trained)
    assert torch.equal(same.one_hot.weight, trained.one_hot.weight)


def test_the_recipe_goes_on_from_a_folder_and_remembers_both_sets_of_images(in_process, tmp_path):
    trained = flow("class 0", "class 2", image_size=12, width=96)
    trained.seen_images = torch.tensor([3, 5])
    trained.save_pretrained(tmp_path / "trained")
    data = small_images(n=9, classes=3, size=12)
    write_class_folders(tmp_path / "photos", data)
    flags = [
        "--train_data_dir",
        "photos",
        "--total_kimg",
        "0.016",
        "--train_batch_size",
        "16",
        "--learning_rate",
        "1e-9",
    ]
    assert in_process(*flags, "--init_from", "trained", "--output_dir", "out") is None
    found = Generator.from_pretrained(tmp_path / "out")
    assert torch.equal(found.seen_images, torch.cat([data.image_hashes, trained.seen_images]).unique())
    z = torch.randn(1, 144, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        assert torch.allclose(found(z, torch.tensor([2])), trained(z, torch.tensor([1])), atol=1e-3)
    message = in_process(*flags, "--init_from", "trained", "--resolution", "16", "--output_dir", "out2")
    assert "its image_size is 12" in message
    assert not (tmp_path / "out2").exists()


def test_the_recipe_starts_an_acgan_as_wide_as_the_flow_that_it_begins_as(in_process, tmp_path):
    trained = flow("class 0", "class 2", image_size=12, width=24)
    trained.save_pretrained(tmp_path / "trained")
    write_class_folders(tmp_path / "photos", small_images(n=9, classes=3, size=12))
    flags = ["--train_data_dir", "photos", "--total_kimg", "0.016", "--train_batch_size", "16"]
    flags += ["--learning_rate", "1e-9", "--init_from", "trained"]
    assert in_process(*flags, "--output_dir", "out", name="train_acgan") is None
    found = Generator.from_pretrained(tmp_path / "out")
    assert type(found) is ACGANGenerator
    x_t, t = torch.randn(1, 1, 12, 12, generator=torch.Generator().manual_seed(0)), torch.tensor([0.5])
    with torch.inference_mode():
        ours, theirs = (it.velocity(x_t, t, torch.tensor([k])) for it, k in ((found, 2), (trained, 1)))
    assert torch.allclose(ours, theirs, atol=1e-3)
    message = in_process(*flags[:-1], "out", "--model", "flow", "--output_dir", "out2")
    assert "its architecture is acgan, but flow" in message


def test_a_generator_of_another_model_than_the_one_asked_for_is_refused_and_else_goes_on_as_it_is(
    in_process, tmp_path, monkeypatch, capsys
):
    monkeypatch.setattr("ganaug.training.presets.LENGTHS", ((10**9, {"flow": 300, "flow-wide": 600}),))
    write_class_folders(tmp_path / "photos", small_images(n=9, classes=3, size=8))
    flags = ["--train_data_dir", "photos", "--total_kimg", "0.016", "--train_batch_size", "16"]
    for width, own, other in ((96, "flow", "flow-wide"), (192, "flow-wide", "flow")):
        flow("class 0", "class 1", image_size=8, width=width).save_pretrained(tmp_path / own)
        message = in_process(*flags, "--init_from", own, "--model", other, "--output_dir", "refused")
        assert f"--model asks for {other}, and {own} is of {own} (width {width}, passes 8)" in message
        assert f"Give --model {own}" in message
        assert not (tmp_path / "refused").exists()
        # By default it goes on as what it is, under its own name, whatever the preset for so many images would be.
        assert in_process(*flags, "--init_from", own, "--output_dir", f"out-{own}") is None
        assert f"preset: {own}," in capsys.readouterr().out
        assert read_settings(tmp_path / f"out-{own}")["model"] == own
        assert Generator.from_pretrained(tmp_path / f"out-{own}").network_options() == {"width": width, "steps": 8}


def test_each_model_knows_its_own_generators():
    with torch.random.fork_rng():
        for name, model in MODELS.items():
            resized = small_images(n=9, classes=3, size=model.resolution or 16)
            assert model_of(model.make_generator(resized)) == name
        assert model_of(flow("a", "b", width=24, steps=2)) == "flow"
        assert model_of(TiedHead(("a", "b"))) is None
