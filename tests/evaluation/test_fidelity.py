from __future__ import annotations

import dataclasses
import json
import sys

import pytest
import torch
from helpers.defaults import DEFAULTS
from helpers.images import small_images

from ganaug import LabelledImages, open_images
from ganaug.core.errors import InputError
from ganaug.evaluation import SmallCNN, predict, predict_probabilities, train_classifier
from ganaug.evaluation.distances import frechet_distance, kernel_distance, mean_pairwise_distance
from ganaug.evaluation.fidelity import Fidelity, SetDistances, class_features, fidelity
from ganaug.evaluation.inception import inception_distances

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def parts() -> tuple[LabelledImages, LabelledImages, LabelledImages]:
    """Digits of 8x8 pixels: to train on, held out, and held back to stand for generated ones."""
    train, rest = open_images("sklearn:digits").split(0.75, seed=1)
    held_out, held_back = rest.split(0.4, seed=2)
    return train, held_out, held_back


@pytest.fixture(scope="module")
def classifier(parts) -> SmallCNN:
    return train_classifier(parts[0], steps=150)


def test_held_back_real_images_are_as_good_as_real_ones(parts, classifier):
    _, held_out, held_back = parts
    found = fidelity(held_back, held_out, classifier)
    half = held_out.split(0.5)[0]
    assert found.num_images == len(half)
    assert found.generated.fd_cnn < 2 * found.real.fd_cnn
    assert found.generated.kd_cnn == pytest.approx(found.real.kd_cnn, abs=0.1)
    for ours in (found.generated, found.real):
        assert min(ours.precision, ours.recall, ours.coverage) > 0.8
        assert ours.density == pytest.approx(1, abs=0.15)
    assert list(found.diversity) == list(held_out.classes)
    assert all(0.7 < value < 1.4 for value in (*found.diversity.values(), *found.pixel_diversity.values()))
    assert found.lowest_diversity == min(found.diversity.values()) == found.diversity[found.lowest_diversity_class]
    assert found.label_fidelity > 0.9
    # Classes of 40 images are too few for a covariance of 32 features.
    assert all(each.fd_cnn is None for each in (*found.per_class.values(), *found.per_class_real.values()))
    again = json.loads(json.dumps(dataclasses.asdict(found), allow_nan=False))
    assert from_json(again) == found


@pytest.mark.parametrize("name", DEFAULTS)
def test_defaults_of_torch_change_no_score(parts, name):
    def scores():
        network = train_classifier(parts[1], steps=2)
        return fidelity(parts[2], parts[1], network), predict_probabilities(network, parts[2].images)

    usual, expected = scores()
    with DEFAULTS[name]():
        found, probabilities = scores()
    assert found == usual
    assert probabilities.dtype == torch.float32
    assert torch.equal(probabilities, expected)


def from_json(values):
    for name in ("generated", "real"):
        values[name] = SetDistances(**values[name])
    for name in ("per_class", "per_class_real"):
        values[name] = {key: SetDistances(**value) for key, value in values[name].items()}
    return Fidelity(**values)


def test_what_is_compared_is_what_is_said(parts, classifier):
    _, held_out, held_back = parts
    found = fidelity(held_back, held_out, classifier)
    other, reference = held_out.split(0.5)
    first = torch.cat([torch.nonzero(held_back.targets == k).squeeze(1)[:n] for k, n in enumerate(other.class_counts)])
    generated = held_back.subset(first, "generated")
    ours, theirs, others = (class_features(classifier, data.images) for data in (generated, reference, other))
    assert found.generated.fd_cnn == pytest.approx(frechet_distance(theirs, ours))
    assert found.real.fd_cnn == pytest.approx(frechet_distance(theirs, others))
    assert found.label_fidelity == (predict(classifier, generated.images) == generated.targets).double().mean().item()
    right = predict(classifier, held_out.images) == held_out.targets
    assert found.real_label_fidelity == right.double().mean().item()
    assert found.real_label_fidelity_per_class["4"] == right[held_out.targets == 4].double().mean().item()
    spread = [
        mean_pairwise_distance(data.images[data.targets == 4].flatten(1).float()) for data in (held_back, held_out)
    ]
    assert found.pixel_diversity[held_out.classes[4]] == pytest.approx(spread[0] / spread[1])


def test_one_image_repeated_in_each_class_has_no_diversity_and_full_label_fidelity(parts, classifier):
    train, held_out, _ = parts
    right = predict(classifier, train.images) == train.targets
    one = torch.stack([torch.nonzero(right & (train.targets == k))[0, 0] for k in range(10)])
    found = fidelity(train.subset(one.repeat(60), "repeated"), held_out, classifier)
    assert found.label_fidelity == 1
    assert set(found.label_fidelity_per_class.values()) == {1.0}
    assert found.lowest_diversity < 1e-3
    assert max(found.pixel_diversity.values()) == 0
    assert max(found.generated.recall, found.generated.coverage) < 0.2
    assert found.generated.fd_cnn > 3 * found.real.fd_cnn


def test_a_single_collapsed_class_is_named(parts, classifier):
    _, held_out, held_back = parts
    images = held_back.images.clone()
    sevens = torch.nonzero(held_back.targets == 7).squeeze(1)
    images[sevens] = images[sevens[0]].clone()
    found = fidelity(dataclasses.replace(held_back, images=images), held_out, classifier)
    assert found.lowest_diversity_class == held_out.classes[7]
    assert found.lowest_diversity < 1e-3
    assert sorted(found.diversity.values())[1] > 0.6
    assert found.per_class["7"].recall < 0.2 < 0.6 < found.per_class_real["7"].recall


def test_wrong_classes_are_seen(parts, classifier):
    _, held_out, held_back = parts
    shifted = dataclasses.replace(held_back, targets=(held_back.targets + 1) % 10)
    found = fidelity(shifted, held_out, classifier)
    assert found.label_fidelity < 0.05
    assert min(each.kd_cnn for each in found.per_class.values()) > max(
        each.kd_cnn for each in found.per_class_real.values()
    )


def test_tiny_classes_have_what_can_be_computed():
    real, generated = small_images(15), small_images(15, seed=1)
    # 5, 3 and 1 held-out images: halves of 3 and 2, 1 and 2, 1 and 0.
    real = real.take([5, 3, 1])[0]
    found = fidelity(generated, real, untrained())
    assert found.num_images == 5
    five, three, one = found.per_class.values()
    assert five.kd_cnn is not None
    assert 0 <= min(five.precision, five.recall, five.coverage) <= max(five.precision, five.recall, five.coverage) <= 1
    assert five.fd_cnn is None
    assert three == one == found.per_class_real["class 2"] == SetDistances(*[None] * 6)
    assert found.diversity["class 0"] > 0
    assert found.diversity["class 1"] > 0
    assert found.diversity["class 2"] is found.pixel_diversity["class 2"] is None
    assert found.lowest_diversity == min(found.diversity["class 0"], found.diversity["class 1"])
    json.dumps(dataclasses.asdict(found), allow_nan=False)
    alone = fidelity(generated, real.take([1, 1, 1])[0], untrained())
    assert (alone.lowest_diversity, alone.lowest_diversity_class) == (None, None)
    assert alone.generated == alone.real == SetDistances(*[None] * 6)


@pytest.mark.parametrize("count", [2, 3, 4])
def test_a_few_held_out_images_of_each_class_are_enough(count):
    found = fidelity(small_images(3 * count, seed=1), small_images(3 * count), untrained())
    assert all(value > 0 for value in (*found.diversity.values(), *found.pixel_diversity.values()))
    assert found.generated.precision is not None


def test_diversity_next_to_equal_real_images_is_unknown():
    real = small_images(60)
    same = dataclasses.replace(real, images=torch.full_like(real.images, 9))
    found = fidelity(real, same, untrained())
    assert set(found.diversity.values()) == set(found.pixel_diversity.values()) == {None}
    assert found.lowest_diversity is None


def untrained() -> SmallCNN:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return SmallCNN(3, image_size=12)


def test_what_cannot_be_compared_is_refused():
    classifier, real = untrained(), small_images(60)
    with pytest.raises(InputError, match=r"class class 0 has 2 images, and 10 are compared .* Generate at least 10"):
        fidelity(small_images(6), real, classifier)
    with pytest.raises(
        InputError, match=r"noise.*: there is no image of class class 1 to compare with\. Hold some out"
    ):
        fidelity(real, real.take([5, 0, 5])[0], classifier)
    with pytest.raises(InputError, match=r"\(1, 16, 16\) and \(1, 12, 12\)"):
        fidelity(small_images(60, size=16), real, classifier)
    with pytest.raises(InputError, match="classes differ: class 0, class 1;"):
        fidelity(small_images(60, classes=2), real, classifier)


def test_features_are_what_the_last_layer_sees(parts, classifier):
    images = parts[1].images[:300]
    classifier.train()
    features = class_features(classifier, images)
    assert classifier.training
    classifier.eval()
    assert (features.dtype, features.shape) == (torch.float32, (300, 32))
    with torch.inference_mode():
        assert torch.equal(classifier.head(features).argmax(1), predict(classifier, images))


@pytest.fixture(scope="module")
def inception_weights(tmp_path_factory):
    """Inception weights of random values, large enough for features to differ; made without the network."""
    extractor = pytest.importorskip("torch_fidelity.feature_extractor_inceptionv3")
    with pytest.MonkeyPatch.context() as patch, torch.random.fork_rng():
        torch.manual_seed(0)
        patch.setattr(extractor, "load_state_dict_from_url", lambda *args, **options: None)
        patch.setattr(extractor.FeatureExtractorInceptionV3, "load_state_dict", lambda self, state: None)
        network = extractor.FeatureExtractorInceptionV3("inception-v3-compat", ["2048"])
    state = network.state_dict()
    state = {key: value * 6**0.5 if key.endswith("conv.weight") else value for key, value in state.items()}
    path = tmp_path_factory.mktemp("inception") / "weights.pth"
    torch.save(state, path)
    return path


@pytest.mark.slow  # half a GiB for a network that few use
def test_inception_distances_are_those_of_inceptions_features(inception_weights):
    from torchmetrics.image.fid import NoTrainInceptionV3

    noise, brighter = small_images(6), small_images(6, seed=1)
    brighter = dataclasses.replace(brighter, images=brighter.images // 2 + 120)
    with torch.random.fork_rng(), torch.inference_mode():
        network = NoTrainInceptionV3("inception-v3-compat", ["2048"], str(inception_weights))
        rgb = torch.cat([brighter.images, noise.images]).repeat(1, 3, 1, 1)
        ours, theirs = network(rgb).double().split(6)
    del network, rgb
    found = inception_distances(brighter, noise, inception_weights, CPU)
    # Of 6 images each, all subsets of 6 are the same.
    assert found.kid == pytest.approx(kernel_distance(ours, theirs), rel=1e-3)
    assert found.fid == pytest.approx(frechet_distance(ours, theirs), rel=1e-2)
    assert found.fid > 0
    assert found.num_images == 6


def test_inception_distances_that_cannot_be_computed(inception_weights, monkeypatch, tmp_path):
    noise, bad = small_images(6), tmp_path / "bad.pth"
    with pytest.raises(InputError, match=r"at least 2 images each; noise has 1 and noise 6\. Give more"):
        inception_distances(small_images(1), noise, inception_weights, CPU)
    with pytest.raises(InputError, match=r"cannot be loaded from .*none\.pth: .*No such file"):
        inception_distances(noise, noise, tmp_path / "none.pth", CPU)
    bad.write_bytes(b"no weights")
    with pytest.raises(InputError, match=r"cannot be loaded from .*bad\.pth"):
        inception_distances(noise, noise, bad, CPU)
    torch.save({"a": torch.zeros(1)}, bad)
    with pytest.raises(InputError, match=r"(?s)cannot be loaded from .*bad\.pth.*Give the file weights-inception"):
        inception_distances(noise, noise, bad, CPU)
    torch.save({"code": Code()}, bad)
    with pytest.raises(InputError, match=r"cannot be loaded from .*bad\.pth"):
        inception_distances(noise, noise, bad, CPU)
    monkeypatch.setitem(sys.modules, "torchmetrics.image.fid", None)
    with pytest.raises(InputError, match=r'pip install "ganaug\[inception\]"'):
        inception_distances(noise, noise, inception_weights, CPU)


class Code:
    def __reduce__(self):
        return pytest.fail, ("the weight file's code was run",)
