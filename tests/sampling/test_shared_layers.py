"""Networks whose layers share weights, or look at one another's, are drawn with whatever shortcuts they allow."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from helpers.generators import own_generator, tie
from torch import nn

from ganaug.core.pixels import to_uint8
from ganaug.core.seeding import latents
from ganaug.sampling import sample
from ganaug.sampling.inference import InferenceCopy


def norm() -> nn.BatchNorm1d:
    """As after training: not the identity."""
    made = nn.BatchNorm1d(64)
    made.running_mean.normal_()
    made.running_var.uniform_(0.2, 2)
    return made


def in_a_sequence(*places: str):
    """A generator of layers in sequence, in which a name that comes twice is the same layer."""

    def build(made):
        layers = {"linear": made.first, "other": made.second, "relu": nn.ReLU(), "norm": norm()}
        made.sequence = nn.Sequential(*[layers[place] for place in places])

    return {"build": build, "images": lambda made, values: made.sequence(values)}


def looks_at_its_norm(made, values):
    return made.sequence(values) * made.sequence[1].weight


SHARING = {
    "Tied": {"build": tie},
    "TiedModules": {"build": lambda made: setattr(made, "second", made.first)},
    "TiedInForward": {"images": lambda made, values: F.linear(made.first(values).relu(), made.first.weight.t())},
    "SameLayerTwice": in_a_sequence("linear", "relu", "linear"),
    "SameReluBeforeANorm": in_a_sequence("linear", "relu", "other", "relu", "norm"),
    "SameLayerNormedOnce": in_a_sequence("linear", "norm", "relu", "linear"),
    "SameNormTwice": in_a_sequence("linear", "norm", "relu", "other", "norm"),
    "LooksAtItsNorm": {**in_a_sequence("linear", "norm"), "images": looks_at_its_norm},
    "SpectralNorm": {
        "build": lambda made: setattr(
            made, "sequence", nn.Sequential(nn.utils.parametrizations.spectral_norm(made.first), norm())
        ),
        "images": lambda made, values: made.sequence(values),
    },
}


@pytest.mark.parametrize("bf16", [False, True], ids=["without bf16", "with bf16"])
@pytest.mark.parametrize("name", SHARING)
def test_they_are_drawn_as_they_are(name, bf16, monkeypatch):
    monkeypatch.setattr("ganaug.sampling.inference.has_bf16", lambda device: bf16)
    made = own_generator(f"Shared{name}", **SHARING[name])
    before = {key: value.clone() for key, value in made.state_dict().items()}
    labels = torch.arange(40) % 2
    with torch.inference_mode():
        expected = to_uint8(made(latents(0, range(40), made.latent_dim), labels)).short()
    drawn = sample(made, labels)
    assert (drawn.short() - expected).abs().max() <= 2
    assert torch.equal(sample(made, labels[7:8], indices=[7])[0], drawn[7])
    assert all(torch.equal(value, before[key]) for key, value in made.state_dict().items())


def test_tied_layers_are_still_computed_in_bf16_where_that_changes_nothing(monkeypatch):
    monkeypatch.setattr("ganaug.sampling.inference.has_bf16", lambda device: True)
    made = own_generator("SharedFaint", build=lambda made: (tie(made), made.second.weight.data.mul_(1e-3)))
    assert InferenceCopy(made).shortcuts.bf16 == ("first", "second")


def test_a_norm_after_a_repeated_activation_is_folded_into_the_layer_before_it_alone():
    made = own_generator("SharedNormAfterRelu", **in_a_sequence("linear", "relu", "other", "relu", "norm"))
    assert InferenceCopy(made).shortcuts.folded
