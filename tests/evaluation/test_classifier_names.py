"""Classifiers by name: built-in ones, models of torchvision and timm with weights from a file, the user's own."""

from __future__ import annotations

import pickle
import sys
from functools import partial
from pathlib import Path

import pytest
import torch
from helpers.evaluated import TinyClassifier
from helpers.images import small_images
from safetensors.torch import load_file, save_file

from ganaug import InputError, LabelledImages, open_images
from ganaug.cli.evaluate import EvaluateArguments
from ganaug.core import fingerprints
from ganaug.evaluation import (
    SmallCNN,
    SmallViT,
    TimmClassifier,
    TorchvisionClassifier,
    accuracy,
    classifier_named,
    train_classifier,
)

pytest.importorskip("timm")
RESNET, VIT = "timm:test_resnet", "timm:test_vit"  # the smallest of timm's


def made(name: str, num_classes: int = 3, *, channels: int = 1, image_size: int = 12, **options) -> torch.nn.Module:
    with torch.random.fork_rng():
        torch.manual_seed(1)
        return classifier_named(name, **options)(num_classes, channels=channels, image_size=image_size)


def saved(path: Path, state: dict[str, torch.Tensor]) -> Path:
    save_file({name: value.contiguous() for name, value in state.items()}, path)
    return path


@pytest.fixture(scope="module")
def weights(tmp_path_factory) -> Path:
    """Of a model for five classes."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = classifier_named(RESNET)(5, channels=3, image_size=64).model
    return saved(tmp_path_factory.mktemp("weights") / "resnet.safetensors", model.state_dict())


def seen_by(classifier: torch.nn.Module, images: torch.Tensor) -> torch.Tensor:
    """What a library's model is given of these images."""
    given: list[torch.Tensor] = []
    classifier.eval().model.register_forward_pre_hook(lambda model, inputs: given.append(inputs[0]))
    with torch.inference_mode():
        classifier(images)
    return given[0]


def test_names_of_the_commands_flag():
    assert EvaluateArguments(()).factory is SmallCNN
    assert EvaluateArguments((), classifier="small-vit").factory is SmallViT
    for name in ("squeezenet1_1", "torchvision:squeezenet1_1"):
        assert isinstance(made(name), TorchvisionClassifier)
    assert isinstance(made(RESNET), TimmClassifier)


def test_a_report_names_the_weights_too(weights):
    assert EvaluateArguments((), classifier=RESNET).classifier_in_words == RESNET
    flags = EvaluateArguments((), classifier=RESNET, classifier_weights=weights, classifier_frozen=True)
    assert flags.classifier_in_words == f"{RESNET}, pre-trained (resnet.safetensors, frozen)"
    assert flags.factory.keywords == {"weights": weights.resolve(), "frozen": True}


@pytest.fixture
def here(tmp_path, monkeypatch) -> Path:
    """An empty working directory that other tests' imports do not search."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    return tmp_path


def test_a_function_of_ones_own_is_imported_from_the_working_directory(here):
    (here / "own_sizes.py").write_text("WIDTH = 8\n")
    (here / "own_networks.py").write_text(
        "from ganaug.evaluation import SmallCNN\n\n\n"
        "def narrow(num_classes, *, channels, image_size):\n"
        "    import own_sizes\n\n"
        "    return SmallCNN(num_classes, channels=channels, image_size=image_size, width=own_sizes.WIDTH)\n"
    )
    assert made("own_networks:narrow").head.in_features == 16
    assert pickle.loads(pickle.dumps(classifier_named("own_networks:narrow"))) is sys.modules["own_networks"].narrow


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("resnet19", "'resnet19' is not known; give small-cnn.* resnet18"),
        ("torchvision:resnet19", "'torchvision:resnet19' is not known"),
        ("timm:resnet19", "has no model 'resnet19'"),
        ("timm:hf-hub:someone/resnet", "has no model"),
        ("nowhere_at_all:make", "no module nowhere_at_all"),
        ("os.nowhere:make", "no module os.nowhere"),
        ("pickle:make", "pickle.py has no 'make'"),
        ("pickle:HIGHEST_PROTOCOL", "HIGHEST_PROTOCOL is not callable but int"),
        ("pickle:", "has no ''"),
        (":make", "not of the form module:function"),
    ],
)
def test_names_of_nothing(name, message, here):
    with pytest.raises(InputError, match=message):
        classifier_named(name)


def test_what_a_module_does_not_find_itself_is_its_own_error(here):
    (here / "own_broken.py").write_text("import nowhere_at_all\n")
    with pytest.raises(ModuleNotFoundError, match="nowhere_at_all"):
        classifier_named("own_broken:make")


def test_timm_is_asked_for_where_it_is_missing(monkeypatch):
    monkeypatch.setitem(sys.modules, "timm", None)
    with pytest.raises(InputError, match="pip install timm"):
        classifier_named(RESNET)


@pytest.mark.parametrize("name", ["small-cnn", "small-vit", "pickle:dumps"])
def test_only_models_of_libraries_take_weights(name, weights):
    for options in ({"weights": weights}, {"frozen": True}):
        with pytest.raises(InputError, match="takes no weights"):
            classifier_named(name, **options)
    with pytest.raises(InputError, match="needs weights.*--classifier_weights"):
        classifier_named(RESNET, frozen=True)


def test_a_head_of_other_classes_is_replaced_and_the_rest_is_kept(weights, caplog):
    found = made(RESNET, weights=weights).model.state_dict()
    assert "head (fc.weight, fc.bias) is of 5 classes; a new one of 3" in caplog.text
    for name, value in load_file(weights).items():
        assert name.startswith("fc.") or torch.equal(found[name], value)
    caplog.clear()
    same = made(RESNET, 5, weights=weights).model.state_dict()
    assert all(torch.equal(same[name], value) for name, value in load_file(weights).items())
    assert not caplog.text


def test_weights_without_a_head_or_batchnorms_counters_are_whole(weights, tmp_path, caplog):
    state = load_file(weights)
    kept = {name: v for name, v in state.items() if "fc." not in name and not name.endswith("num_batches_tracked")}
    found = made(RESNET, weights=saved(tmp_path / "headless.safetensors", kept)).model.state_dict()
    assert "is missing; a new one of 3" in caplog.text
    assert all(torch.equal(found[name], value) for name, value in kept.items())


def changed(state: dict[str, torch.Tensor], how: str) -> dict[str, torch.Tensor]:
    state = dict(state)
    first = next(name for name in state if name.endswith(".weight") and not name.startswith("fc."))
    if how == "missing":
        del state[first]
    elif how == "unexpected":
        state["another.weight"] = torch.zeros(2)
    elif how == "of another shape":
        state[first] = torch.zeros(1)
    else:
        state["fc.weight"] = torch.zeros(5, 7)
    return state


@pytest.mark.parametrize(
    ("how", "message"),
    [
        ("missing", r"missing: \S+\.weight"),
        ("unexpected", "unexpected: another.weight"),
        ("of another shape", r"of another shape: \S+ \(1,\) instead of"),
        ("head of other features", r"of another shape: .*fc.weight \(5, 7\) instead of"),
    ],
)
def test_weights_of_another_model_are_refused(weights, tmp_path, how, message):
    other = saved(tmp_path / "other.safetensors", changed(load_file(weights), how))
    with pytest.raises(InputError, match=message):
        made(RESNET, weights=other)


def test_pickles_and_missing_files_are_refused_before_anything_is_made(weights, tmp_path):
    torch.save(load_file(weights), tmp_path / "resnet.pth")
    for name in ("resnet.pth", "nowhere.safetensors"):
        with pytest.raises(InputError, match="Give a safetensors file"):
            classifier_named(RESNET, weights=tmp_path / name)


def test_a_frozen_model_trains_its_head_alone(weights):
    network = made(RESNET, weights=weights, frozen=True)
    assert not network.train().model.training
    factory = classifier_named(RESNET, weights=weights, frozen=True)
    found = train_classifier(small_images(), factory, steps=2, batch_size=8).model.state_dict()
    other = train_classifier(small_images(), factory, steps=2, batch_size=8, learning_rate=0.1).model.state_dict()
    for name, value in load_file(weights).items():
        if not name.startswith("fc."):
            assert torch.equal(found[name], value), name  # BatchNorm's statistics too
    assert not torch.equal(found["fc.weight"], other["fc.weight"])
    whole = train_classifier(small_images(), partial(factory, frozen=False), steps=2, batch_size=8).model.state_dict()
    assert sum(not torch.equal(whole[name], found[name]) for name in found) > len(found) / 2


def test_pretrained_models_get_images_as_in_their_training(weights, tmp_path):
    white = torch.ones(1, 1, 12, 12)
    assert torch.equal(seen_by(made(RESNET), white), torch.ones(1, 3, 64, 64))
    model = made("torchvision:squeezenet1_1").model
    path = saved(tmp_path / "squeezenet.safetensors", model.state_dict())
    found = seen_by(made("torchvision:squeezenet1_1", weights=path), white)
    expected = (1 - torch.tensor([0.485, 0.456, 0.406])) / torch.tensor([0.229, 0.224, 0.225])
    assert found.shape == (1, 3, 64, 64)
    assert torch.allclose(found[0, :, 0, 0], expected)
    found = seen_by(made(RESNET, weights=weights), -white)  # timm says that this one was trained with 0.5 and 0.5
    assert torch.allclose(found, torch.full((1, 3, 64, 64), -1.0))
    rgb = torch.linspace(-1, 1, 3).view(1, 3, 1, 1).expand(1, 3, 80, 80)
    assert torch.equal(seen_by(made(RESNET, channels=3, image_size=80), rgb), rgb)


@pytest.mark.parametrize("size", [12, 200])
def test_a_model_of_one_size_gets_images_of_that_size(size):
    network = made(VIT, image_size=size)
    assert seen_by(network, torch.zeros(1, 1, size, size)).shape == (1, 3, 160, 160)


def test_untrained_transformers_learn_more_slowly_and_pretrained_models_by_what_is_trained(weights):
    assert made(VIT).learning_rate < 2e-3
    assert not hasattr(made(RESNET), "learning_rate")  # that of every classifier
    whole, head = (made(RESNET, weights=weights, frozen=frozen).learning_rate for frozen in (False, True))
    assert whole < 2e-3 < head


def test_a_factory_is_known_by_the_weights_that_it_loads(weights, tmp_path):
    """A study names what it keeps by what the factory makes."""
    path = saved(tmp_path / "weights.safetensors", load_file(weights))
    factory = classifier_named(RESNET, weights=path, frozen=True)
    copy = pickle.loads(pickle.dumps(factory))
    assert fingerprints.of_callable(copy) == fingerprints.of_callable(factory)

    def name() -> str:
        with torch.random.fork_rng():
            torch.manual_seed(0)
            return fingerprints.of_module(copy(3, channels=1, image_size=12))

    first = name()
    assert name() == first
    saved(path, {name: value + 1 if value.is_floating_point() else value for name, value in load_file(path).items()})
    assert name() != first
    others = [classifier_named(RESNET), classifier_named(RESNET, weights=path), TinyClassifier]
    assert len({fingerprints.of_callable(other) for other in (factory, *others)}) == 4


def of_classes(data: LabelledImages, classes: list[int]) -> LabelledImages:
    kept = torch.isin(data.targets, torch.tensor(classes))
    targets = torch.searchsorted(torch.tensor(classes), data.targets[kept])
    return LabelledImages(data.images[kept], targets, tuple(data.classes[k] for k in classes), "some digits")


@pytest.mark.slow
def test_what_was_learnt_of_six_digits_helps_with_five_images_of_each_of_the_others(tmp_path):
    images, held_out = open_images("sklearn:digits"), open_images("sklearn:digits", split="test")
    known, others = list(range(6)), list(range(6, 10))
    backbone = train_classifier(of_classes(images, known), classifier_named(RESNET), steps=120, batch_size=32)
    path = saved(tmp_path / "six.safetensors", backbone.model.state_dict())
    few = of_classes(images, others).take([5] * 4)[0]

    def reached(**options) -> float:
        factory = classifier_named(RESNET, **options)
        scores = [
            accuracy(train_classifier(few, factory, steps=40, batch_size=16, seed=seed), of_classes(held_out, others))
            for seed in range(3)
        ]
        return sum(scores) / 3

    untrained = reached()
    assert reached(weights=path) > untrained + 0.1
    assert reached(weights=path, frozen=True) > untrained + 0.15
