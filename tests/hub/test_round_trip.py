"""Generators of one's own come back from a folder as they were, or are refused before they are trained."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from helpers.generators import TwoLayers, own_class, own_generator, tie, times_w
from safetensors.torch import load_file
from torch import nn

from ganaug import Generator, InputError
from ganaug.generators import FlowGenerator
from ganaug.hub import config
from ganaug.hub.folder import check_round_trip


def buffer(value, **options):
    """``build`` that registers a buffer, which images depend on."""
    return {"build": lambda made: made.register_buffer("w", value(), **options), "images": times_w}


def as_decoder(made, values):
    return F.linear(made.first(values).relu(), made.first.weight.t())


def layer(change):
    return {"build": lambda made: change(made.first)}


COME_BACK = {
    "AsItIs": {},
    "Tied": {"build": tie},
    "TiedModules": {"build": lambda made: setattr(made, "second", made.first)},
    "TiedInForward": {"images": as_decoder},
    "Transposed": {"build": lambda made: setattr(made.second, "weight", nn.Parameter(made.second.weight.data.t()))},
    "PartOfAnother": {
        "build": lambda made: (
            made.register_buffer("whole", torch.ones(128)), made.register_buffer("w", made.whole[:64])
        ),
        "images": times_w,
    },
    "SpectralNorm": layer(nn.utils.parametrizations.spectral_norm),
    "WeightNorm": layer(nn.utils.parametrizations.weight_norm),
    "RandomBuffer": buffer(lambda: torch.randn(64)),
    "Mask": buffer(lambda: torch.arange(64) % 2 == 0),
    "Bytes": buffer(lambda: torch.arange(64, dtype=torch.uint8) % 2),
    "Bf16": buffer(lambda: torch.ones(64, dtype=torch.bfloat16)),
    "Doubles": buffer(lambda: torch.ones(64, dtype=torch.float64)),
    "ConstantThatIsNotSaved": buffer(lambda: torch.linspace(0, 1, 64), persistent=False),
    "Frozen": {"build": lambda made: made.requires_grad_(False)},
}  # fmt: skip


@pytest.mark.parametrize("name", COME_BACK)
def test_it_comes_back(name, tmp_path):
    made = own_generator(name, **COME_BACK[name])
    check_round_trip(made)
    made.save_pretrained(tmp_path)
    loaded = Generator.from_pretrained(tmp_path)
    assert torch.equal(loaded.sample([0, 1, 1, 0], seed=3), made.sample([0, 1, 1, 0], seed=3))
    saved = load_file(tmp_path / "model.safetensors")
    assert saved.keys() == made.state_dict().keys()
    assert all(torch.equal(value, saved[key]) for key, value in made.state_dict().items())


@pytest.mark.parametrize("name", ["Tied", "TiedModules"])
def test_tied_weights_are_tied_again(name, tmp_path):
    made = own_generator(name, **COME_BACK[name])
    made.save_pretrained(tmp_path)
    loaded = Generator.from_pretrained(tmp_path)
    assert loaded.second.weight is loaded.first.weight
    assert len(list(loaded.parameters())) == len(list(made.parameters()))


class ExtraState(nn.Module):
    def get_extra_state(self):
        return {"seen": 3}

    def set_extra_state(self, state):
        """Nothing to restore."""


def options(**values):
    return {"network_options": lambda made: {"latent_dim": made.latent_dim, **values}}


REFUSED = {
    "RandomBufferThatIsNotSaved": (buffer(lambda: torch.randn(64), persistent=False), "buffer w.*random numbers"),
    "RandomAttribute": (
        {"build": lambda made: setattr(made, "w", torch.randn(64)), "images": times_w},
        "other images.*network_options",
    ),
    # Its images say nothing yet, for the layers behind the buffer are zero.
    "RandomAndZero": (
        {
            "build": lambda made: (
                made.register_buffer("w", torch.randn(64), persistent=False),
                nn.init.zeros_(made.second.weight),
                nn.init.zeros_(made.second.bias),
            ),
            "images": times_w,
        },
        "buffer w",
    ),
    "Complex": (buffer(lambda: torch.ones(64, dtype=torch.complex64)), "w is torch.complex64.*view_as_real"),
    "Expanded": (buffer(lambda: torch.ones(1).expand(64)), r"w has several elements at one place.*clone"),
    "InfiniteMask": (buffer(lambda: torch.full((64,), float("inf"))), "infinite values in w.*persistent=False"),
    "Lazy": ({"build": lambda made: setattr(made, "first", nn.LazyLinear(64))}, "first.weight has no shape.*sizes"),
    "NotATensor": ({"build": lambda made: setattr(made, "more", ExtraState())}, "_extra_state is of type dict"),
    "TupleOption": (options(widths=(64, 64)), r"widths must be a name or a small number, got \(64, 64\)"),
    "LayerOption": (options(activation=nn.ReLU), r"activation must be a name or a small number.*\(type\)"),
    "NumpyOption": (options(depth=np.int64(2)), r"depth must be a name or a small number.*\(int64\)"),
    "NaNOption": (options(scale=float("nan")), "scale must be a name or a small number, got nan"),
    "NoOptions": ({"network_options": lambda made: None}, "network must be an object, got None"),
    "LargeOption": (options(depth=10**6), "depth must be a name or a small number"),
    "UnknownOption": (options(depth=2), "unexpected keyword argument 'depth'"),
    "ValuesOfTensors": (
        {"build": lambda made: setattr(made, "rates", [rate.item() for rate in torch.linspace(0, 1, 3)])},
        "meta tensors.*without tensors",
    ),
    "Raising": ({"images": lambda made, values: made.third(values)}, "AttributeError.*third"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_it_is_refused(name):
    members, message = REFUSED[name]
    with pytest.raises(InputError, match=f"could not be loaded again: .*{message}"):
        check_round_trip(own_generator(name, **members))


def test_a_buffer_that_training_changes_and_saving_leaves_out_is_warned_of(tmp_path, caplog):
    """Saving must not lose what was learnt."""
    made = own_generator("ConstantThatIsNotSaved", **COME_BACK["ConstantThatIsNotSaved"])
    made.save_pretrained(tmp_path)
    assert not caplog.text
    made.w += 1
    made.save_pretrained(tmp_path)
    assert "the buffer w is not saved" in caplog.text
    assert not torch.equal(Generator.from_pretrained(tmp_path).sample([0]), made.sample([0]))


def test_an_option_that_is_not_returned_is_found():
    def __init__(made, label_names, *, image_size=8, channels=1, latent_dim=64, contrast=1.0):  # noqa: N807
        TwoLayers.__init__(made, label_names, image_size=image_size, channels=channels, latent_dim=latent_dim)
        made.contrast = contrast

    kind = own_class(
        "Contrast", __init__=__init__, images=lambda made, values: TwoLayers.images(made, values) * made.contrast
    )
    with torch.random.fork_rng():
        check_round_trip(kind(("cat",)))
        with pytest.raises(InputError, match="other images"):
            check_round_trip(kind(("cat",), contrast=0.1))


def test_the_class_must_be_registered_under_an_architecture_of_its_own(tmp_path):
    class Renamed(FlowGenerator):
        architecture = "renamed"

    class Heir(FlowGenerator):
        """Would be loaded as a FlowGenerator."""

    def other(label_names, size):
        return size

    for kind, message in ((Renamed, "its class is not registered.*register_generator"), (Heir, "of FlowGenerator")):
        with torch.random.fork_rng():
            made = kind(("cat",), image_size=8, width=8)
        with pytest.raises(InputError, match=message):
            check_round_trip(made)
    with pytest.raises(InputError, match="of FlowGenerator"):
        made.save_pretrained(tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_a_constructor_with_other_arguments_is_refused():
    def __init__(made, names, side):  # noqa: N807
        TwoLayers.__init__(made, names, image_size=side)

    kind = own_class("OtherArguments", __init__=__init__)
    with torch.random.fork_rng(), pytest.raises(InputError, match="unexpected keyword argument 'image_size'"):
        check_round_trip(kind(("cat",), 8))


@pytest.mark.parametrize(("change", "message"), [("double", "float64"), ("half", "float16"), ("bfloat16", "bfloat16")])
def test_weights_of_another_type_are_refused(change, message):
    made = getattr(own_generator("AsItIs"), change)()
    with pytest.raises(InputError, match=rf"{message}.*\.float\(\)"):
        check_round_trip(made)


def test_nothing_is_left_of_it_and_nothing_is_moved(monkeypatch, tmp_path):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    made = own_generator("AsItIs").train()
    before = torch.get_rng_state()
    check_round_trip(made)
    assert made.training
    assert torch.equal(before, torch.get_rng_state())
    assert made.origin is None
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("letter", ["\U0001f355", '"', "\\", ",", "["])
def test_the_largest_set_of_classes_loads(letter, tmp_path):
    """10,000 of 200 characters, each of which takes the most bytes."""
    names = tuple(f"{k:05d}".ljust(200, letter) for k in range(10_000))
    made = own_generator("ManyClasses", names, network_options=lambda made: {"latent_dim": 64})
    made.info["dataset"] = {"name": "x" * 5000, "num_images": 10**13, "class_counts": dict.fromkeys(names, 10**9)}
    made.info["training"] = {f"{k}": "\U0001f355" * 2000 for k in range(100)}
    check_round_trip(made)


def test_more_classes_than_load_are_refused_before_they_are_trained():
    names = tuple(str(k) for k in range(10_001))
    with pytest.raises(InputError, match="label_names must be at most 10,000"):
        check_round_trip(own_generator("ManyClasses", names))


def test_a_config_that_facts_make_too_large_is_refused(monkeypatch):
    monkeypatch.setattr(config, "MOST_BYTES", 10_000)  # as the limit itself would take seconds
    made = own_generator("AsItIs")
    made.info["training"] = {f"note {k}": "x" * 2000 for k in range(5)}
    with pytest.raises(InputError, match="a config has at most"):
        check_round_trip(made)
