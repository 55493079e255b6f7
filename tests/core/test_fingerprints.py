"""Fingerprints of users' code: an edit changes them, wherever the text is; the same code has the same everywhere."""

import functools
import importlib.util
import pickle

import pytest
import torch
from torch import nn

from ganaug.core import fingerprints
from ganaug.sampling.class_sampler import ClassSampler

MODULE = """
import functools
from torch import nn

class Base:
    limit = 1

    def keep(self, images, labels):
        return labels >= 0  # kept

class Derived(Base):
    def __call__(self, images, labels):
        return self.keep(images, labels)

class Layer(nn.Module):
    def forward(self, x):
        return x  # passed on

def passed_through(function):
    @functools.wraps(function)
    def wrapper(images, labels):
        return function(images, labels)  # wrapped
    return wrapper

def plain(images, labels, least=0):
    return labels >= least  # plain

def closing_over(function):
    return lambda images, labels: function(images, labels)

decorated = passed_through(plain)
cached = functools.lru_cache(plain)
twice = functools.partial(functools.partial(plain, least=1))
handed_on = functools.partial(closing_over, plain)
closure = closing_over(plain)
bound = Derived().keep
network = nn.Sequential(nn.ReLU(), Layer())
"""


def made(tmp_path, text, name):
    path = tmp_path / "users.py"
    path.write_text(text)
    spec = importlib.util.spec_from_file_location("users", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    found = getattr(module, name)
    return fingerprints.of_source(found() if name == "Derived" else found)


@pytest.mark.parametrize(
    ("name", "line"),
    [
        ("plain", "# plain"),
        ("decorated", "# plain"),
        ("decorated", "# wrapped"),
        ("cached", "# plain"),
        ("twice", "# plain"),
        ("handed_on", "# plain"),
        ("closure", "# plain"),
        ("bound", "# kept"),
        ("Derived", "# kept"),
        ("Base", "# kept"),
        ("network", "# passed on"),
    ],
)
def test_an_edit_shows_wherever_it_is(tmp_path, name, line):
    before = made(tmp_path, MODULE, name)
    assert made(tmp_path, MODULE, name) == before
    assert made(tmp_path, MODULE.replace(line, f"{line}, edited"), name) != before


def test_code_without_text_or_module_has_a_fingerprint():
    places = {}, {"__name__": None}, {"__name__": "nowhere"}
    for place in places:
        exec("def function(): return 1\nclass Kind:\n    def __call__(self): return 1", place)
        for thing in (place["function"], place["Kind"], place["Kind"](), functools.partial(place["function"])):
            assert fingerprints.of_source(thing) == fingerprints.of_source()
    assert fingerprints.of_source(len, None, torch.relu, nn.ReLU(), functools.partial(len)) == fingerprints.of_source()


def test_what_refers_to_itself_is_read_once():
    def recursive(depth):
        return recursive(depth - 1) if depth else depth

    recursive.__wrapped__ = recursive
    assert fingerprints.of_source(recursive) == fingerprints.of_source(recursive, recursive)


class Own(nn.Module):
    latent_dim, label_names = 3, ("a", "b")

    def forward(self, z, labels):
        return z.mean(1).tanh().view(-1, 1, 1, 1).expand(-1, 1, 4, 4)


class Bright:
    def __call__(self, images, labels):
        return images.float().mean((1, 2, 3)) >= 1


@pytest.mark.parametrize("accept", [None, Bright()])
def test_a_copy_is_told_by_what_the_code_was_called_where_it_was_made(monkeypatch, accept):
    """A process that is spawned calls the code of the main program __mp_main__."""
    sampler = ClassSampler(Own(), accept=accept)
    packed = pickle.dumps(sampler)
    for kind in (Own, Bright):
        monkeypatch.setattr(kind, "__module__", "__mp_main__")
    copy = pickle.loads(packed)
    assert ClassSampler(Own()).identity_in_format_2 != copy.identity_in_format_2
    assert (copy.identity, copy.identity_in_format_2) == (sampler.identity, sampler.identity_in_format_2)
