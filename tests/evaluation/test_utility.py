"""The verdict on generators that are known to be good, useless or bad, by the real code path on small real images."""

from __future__ import annotations

import math
import os
import signal
import time
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest
import torch
from helpers.evaluated import QUICK, NextClass, Noise, OftenNextClass, Replay, TinyClassifier, digits_in_parts
from helpers.generators import make_generator
from helpers.images import small_images
from helpers.programs import forkserver, start_python

from ganaug import InputError, LabelledImages
from ganaug.data import joined
from ganaug.evaluation import (
    UtilitySettings,
    classification_accuracy,
    train_classifier,
    utility,
)
from ganaug.evaluation.cells import Cells, run_cell
from ganaug.evaluation.study import Arm, Study, class_balanced_weights
from ganaug.filters import ClassifierAgreement


@pytest.fixture(scope="module")
def parts() -> tuple[LabelledImages, ...]:
    return digits_in_parts(4, 8)


@pytest.fixture(scope="module")
def cells(tmp_path_factory) -> Path:
    """Cells that the tests share: the real arms are trained once."""
    return tmp_path_factory.mktemp("cells")


STEEP = replace(QUICK, seeds=5, steps=100, ratios=(0.5, 0.8))


def judged(generator, parts, cells, **options):
    train, _, further, held_out = parts
    options = {"factory": TinyClassifier, "settings": STEEP, "extra": further, "cache_dir": cells, **options}
    return utility(train, held_out, {"it": generator}, **options)


def test_an_oracle_helps_and_is_worth_about_what_it_holds(parts, cells):
    """It returns 80 real images that are in neither the training set nor the held-out images."""
    found = judged(Replay(parts[1]), parts, cells)
    verdict = found.verdicts["it"]
    assert verdict.outcome == "helped"
    assert verdict.difference.low > 0.02
    assert verdict.recommended_ratio == verdict.primary.arm.ratio
    assert 80 / 2.5 < verdict.worth.images < 80 * 2.5
    assert verdict.worth.low <= 80 <= (verdict.worth.high or math.inf)
    assert verdict.sentence.startswith("helped: +")
    assert f"worth {verdict.worth.images} extra real images" in verdict.sentence


@pytest.mark.parametrize("bad", ["noise", "wrong labels"])
def test_noise_and_wrong_labels_do_not_help(bad, parts, cells):
    generator = Noise() if bad == "noise" else NextClass(parts[0])
    found = judged(generator, parts, cells)
    verdict = found.verdicts["it"]
    assert verdict.outcome == ("hurt" if bad == "wrong labels" else verdict.outcome)
    assert verdict.outcome in ("hurt", "no measurable effect")
    assert verdict.difference.estimate < 0
    assert verdict.recommended_ratio == 0
    alone = found.arms["generated only"]
    assert alone.mean < 0.2
    assert alone.difference.high < -0.5


def test_only_images_that_a_filter_keeps_are_trained_on(parts, cells):
    classifier = train_classifier(parts[1], TinyClassifier, steps=150)
    generator, settings = OftenNextClass(parts[1]), replace(STEEP, seeds=2, ratios=(0.5,), learning_curve=False)
    everything = judged(generator, parts, cells, settings=settings)
    kept = judged(generator, parts, cells, settings=settings, accept=ClassifierAgreement(classifier), max_tries=50)
    assert kept.arms["generated only"].mean > everything.arms["generated only"].mean + 0.1
    assert kept.verdicts["it"].difference.estimate > everything.verdicts["it"].difference.estimate
    assert kept.verdicts["it"].sentence.endswith(", with images that ClassifierAgreement kept")
    assert torch.equal(kept.arms["real"].scores, everything.arms["real"].scores)
    with pytest.raises(InputError, match="the filter starved"):
        judged(generator, parts, cells, settings=settings, accept=lambda images, _: torch.zeros(len(images)) > 0)


def test_the_table_has_what_it_says(parts, cells):
    found = judged(Noise(), parts, cells)
    names = [f"{found.reference.name} + {100 * ratio:g} % generated" for ratio in STEEP.ratios]
    assert list(found.arms) == ["real", "real + classic", *names, "generated only"]
    assert found.arms[found.reference.name].difference is None
    assert len(found.validation) + len(found.test) == len(parts[3])
    assert {len(found.validation), len(found.test)} == {90, 267} or len(found.validation) / len(parts[3]) < 0.27
    best = max(found.arms[name].validation.mean().item() for name in ("real", "real + classic"))
    assert found.arms[found.reference.name].validation.mean().item() == best
    primary = found.verdicts["it"].primary
    assert primary.validation.mean().item() == max(found.arms[name].validation.mean().item() for name in names)
    gains = primary.validation - found.arms[found.reference.name].validation
    clear = gains.mean() > gains.std() / math.sqrt(len(gains))
    assert found.verdicts["it"].recommended_ratio == (primary.arm.ratio if clear else 0)
    assert found.curve.images == (10, 20, 40, 80, 160)
    for result in found.arms.values():
        assert result.recall.mean().item() == pytest.approx(result.mean)
        assert result.p_holm is None or result.p_holm >= result.difference.p


def test_without_a_learning_curve_no_gain_has_a_worth(parts, cells):
    found = judged(Replay(parts[1]), parts, cells)
    train, known, further, held_out = parts
    options = {"factory": TinyClassifier, "extra": further, "cache_dir": cells}
    without = utility(train, held_out, {"it": Replay(known)}, settings=replace(STEEP, learning_curve=False), **options)
    verdict, same = without.verdicts["it"], found.verdicts["it"]
    assert (verdict.outcome, verdict.difference, verdict.worth) == ("helped", same.difference, None)
    assert verdict.sentence == same.sentence.split(", worth")[0]
    assert without.curve.images == (40,)
    assert without.cells == found.cells - 4 * STEEP.seeds


def test_several_generators_share_the_reference(parts, cells):
    train, known, further, held_out = parts
    options = {"factory": TinyClassifier, "settings": STEEP, "extra": further, "cache_dir": cells}
    found = utility(train, held_out, {"good": Replay(known), "bad": NextClass(train)}, **options)
    assert [verdict.outcome for verdict in found.verdicts.values()] == ["helped", "hurt"]
    alone = judged(Replay(known), parts, cells)
    assert torch.equal(found.verdicts["good"].primary.scores, alone.verdicts["it"].primary.scores)


def test_images_alone_teach_a_classifier_what_they_show(parts, cells):
    """A generator that knows more images than there are real ones teaches more than these, noise next to nothing."""
    train, known, further, held_out = parts
    settings = UtilitySettings(seeds=2, steps=100, batch_size=32)
    score = partial(classification_accuracy, train, held_out, settings=settings, cache_dir=cells)
    real, good, noise = score(), score(Replay(joined(known, further))), score(Noise())
    assert good.scores.shape == (2,)
    assert good.scores.min() > real.scores.max() + 0.02
    assert noise.scores.max() < 0.25
    assert torch.equal(good.correct, good.predicted == held_out.targets)


class Wrong(TinyClassifier):
    """A classifier that returns something else."""

    returns = None

    def forward(self, images):
        return type(self).returns(super().forward(images))


class Tuples(Wrong):
    returns = staticmethod(lambda logits: (logits,))


class FewerClasses(Wrong):
    returns = staticmethod(lambda logits: logits[:, 1:])


class Flat(Wrong):
    returns = staticmethod(torch.flatten)


def nothing(num_classes, *, channels, image_size):
    return None


@pytest.mark.parametrize("factory", [Tuples, FewerClasses, Flat, nothing])
def test_a_factory_that_makes_no_classifier_is_refused_before_anything_is_trained(parts, tmp_path, factory):
    train, known, _, held_out = parts
    with pytest.raises(InputError, match="classifier"):
        Cells(Study(train, held_out, {"it": Replay(known)}, factory=factory, settings=QUICK), tmp_path)
    assert not list(tmp_path.rglob("*.safetensors"))


class NotOnACPU(TinyClassifier):
    """Stands for one with kernels of its own."""

    def forward(self, images):
        raise NotImplementedError("there is no kernel for the CPU")


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_cells_are_named_alike_whatever_the_callers_defaults(parts, tmp_path, dtype):
    train, known, _, held_out = parts
    study = Study(train, held_out, {"it": Replay(known)}, factory=TinyClassifier, settings=replace(QUICK, seeds=2))
    expected = Cells(study, tmp_path).path(Arm("real"), 0)
    torch.set_default_dtype(dtype)
    try:
        with torch.inference_mode():
            assert Cells(study, tmp_path).path(Arm("real"), 0) == expected
    finally:
        torch.set_default_dtype(torch.float32)
    other = replace(study, factory=NotOnACPU)
    assert Cells(other, tmp_path).path(Arm("real"), 0) != expected


def test_an_error_leaves_torch_its_number_of_threads(parts, tmp_path, monkeypatch):
    """Even while its traceback is kept, as a notebook does."""
    train, known, _, held_out = parts
    settings = replace(QUICK, seeds=2, steps=1)
    study = Study(train, held_out, {"it": Replay(known)}, factory=TinyClassifier, settings=settings)

    def full(*_, **__):
        raise OSError(28, "No space left on device", str(tmp_path))

    before = torch.get_num_threads()
    torch.set_num_threads(3)
    try:
        cells = Cells(study, tmp_path)
        monkeypatch.setattr("ganaug.evaluation.cells.write_tensors", full)
        with pytest.raises(OSError, match="No space") as kept:
            cells.run([Arm("real")], "real")
        assert torch.get_num_threads() == 3
        assert kept.traceback
    finally:
        torch.set_num_threads(before)


def test_a_generator_that_does_not_fit_is_refused_before_anything_is_trained(parts, tmp_path):
    train, _, _, held_out = parts
    wrong = make_generator(train.classes, image_size=12)
    with pytest.raises(
        InputError, match=r"has images of \(C, H, W\) = \(1, 8, 8\), the generator 'it' makes \(1, 12, 12\)"
    ):
        utility(train, held_out, {"it": wrong}, factory=TinyClassifier, settings=QUICK, cache_dir=tmp_path)
    assert not list(tmp_path.rglob("*.safetensors"))


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_under_the_null_few_runs_claim_help(tmp_path):
    """The generator returns training images, so nothing is added: how often is it said to help? 2.5 % are expected."""
    claims = []
    for seed in range(40):
        train, _, _, held_out = digits_in_parts(8, 8, seed=seed)
        found = utility(
            train,
            held_out,
            {"copies": Replay(train)},
            factory=TinyClassifier,
            settings=replace(QUICK, seeds=5),
            cache_dir=tmp_path,
        )
        claims.append(found.verdicts["copies"].outcome)
    assert claims.count("helped") < 4, claims


def imbalanced(parts) -> LabelledImages:
    return parts[0].take([4, 4, 4, 4, 4, 2, 2, 2, 2, 1])[0]


def shares(targets, weights) -> list[float]:
    return torch.zeros(10, dtype=torch.float64).index_add_(0, targets, weights).tolist()


def test_imbalanced_images_are_oversampled_and_rare_classes_get_as_many_generated(parts, tmp_path):
    train = imbalanced(parts)
    study = Study(train, parts[3], {"it": Replay(parts[1])}, settings=QUICK)
    plain, over = study.real_arms()[1:3]
    assert over.name == "real + classic + oversampling"
    images, weights = study.training_set(over, 0, tmp_path)
    assert shares(images.targets, weights) == pytest.approx([0.1] * 10)
    # Without oversampling they come in the shares of the real ones.
    wanted = {over: [0.03] * 10, plain: [0.3 * count / len(train) for count in train.class_counts]}
    for reference, of_class in wanted.items():
        mixed = next(arm for arm in study.mixed_arms("it", reference) if arm.ratio == 0.3)
        images, weights = study.training_set(mixed, 0, tmp_path)
        assert weights.sum() == pytest.approx(1)
        assert shares(images.targets[len(train) :], weights[len(train) :]) == pytest.approx(of_class)
        assert len(images) - len(train) == QUICK.steps * QUICK.batch_size


def test_balancing_is_tried_with_each_augmentation(parts):
    study = Study(imbalanced(parts), parts[3], {}, settings=replace(QUICK, trivial_augment=True))
    ways = [(arm.augmentation, arm.oversampled, arm.class_balanced) for arm in study.real_arms()]
    each = [(False, False), (True, False), (False, True)]
    assert sorted(ways) == sorted(
        [("none", False, False), *((a, *way) for a in ("classic", "trivial") for way in each)]
    )
    assert study.real_arms()[-1].name == "real + classic + TrivialAugment + class-balanced loss"


def test_classes_with_few_images_weigh_more_in_a_class_balanced_loss(parts, tmp_path):
    train = imbalanced(parts)
    study = Study(train, parts[3], {}, settings=QUICK)
    arm = study.real_arms()[-1]
    assert arm.name == "real + classic + class-balanced loss"
    assert class_balanced_weights([1, 2], beta=0.5).tolist() == pytest.approx([1.2, 0.8])  # 1 : 1/1.5
    weights = study.class_weights(arm)
    assert weights[9] / weights[0] == pytest.approx(4, rel=0.01)  # four times the images
    assert study.class_weights(study.real_arms()[1]) is None
    steps = replace(study, settings=replace(QUICK, steps=3))
    plain, weighted = (run_cell(steps, each, 0, tmp_path) for each in (study.real_arms()[1], arm))
    assert not torch.equal(plain.confidence, weighted.confidence)


def test_seeds_draw_other_images_and_the_curve_takes_a_share_of_each_class(parts, tmp_path):
    study = Study(parts[0], parts[3], {"it": Replay(parts[1])}, extra=parts[2], settings=QUICK)
    reference = study.real_arms()[0]
    arm = study.mixed_arms("it", reference)[1]
    one, two = (study.training_set(arm, seed, tmp_path)[0] for seed in (0, 1))
    assert torch.equal(one.images[:40], two.images[:40])
    assert not torch.equal(one.images[40:], two.images[40:])
    sizes = {}
    for arm in study.curve_arms(reference):
        images, _ = study.training_set(arm, 0, tmp_path)
        assert len(set(images.class_counts)) == 1
        assert len(images.image_hashes.unique()) == len(images)
        sizes[arm.scale] = len(images)
    assert sizes == {0.25: 10, 0.5: 20, 2.0: 80, 4.0: 160}
    without = Study(parts[0], parts[3], {}, settings=QUICK)
    assert [arm.scale for arm in without.curve_arms(reference)] == [0.25, 0.5]


class Stops(TinyClassifier):
    """Counts how many are made, and fails at one of them."""

    made = 0
    fails_at = 0

    def __init__(self, *args, **options) -> None:
        Stops.made += 1
        if Stops.made == Stops.fails_at:
            raise KeyboardInterrupt
        super().__init__(*args, **options)


def test_what_is_trained_is_kept(parts, tmp_path, monkeypatch):
    looked_at = 1  # classifiers in each call, to see whether the factory makes what it made before
    monkeypatch.setattr(Stops, "fails_at", looked_at + 5)
    settings = replace(QUICK, steps=2, ratios=(0.5,))
    with pytest.raises(KeyboardInterrupt):
        judged(Noise(), parts, tmp_path, factory=Stops, settings=settings)
    kept = {path: path.read_bytes() for path in tmp_path.iterdir()}
    assert len(kept) == 4
    found = judged(Noise(), parts, tmp_path, factory=Stops, settings=settings)
    assert found.cells == 3 * (2 + 2 + 4)
    made = looked_at + 5 + looked_at + found.cells - 4  # none of the four again
    assert Stops.made == made
    assert all(path.read_bytes() == content for path, content in kept.items())
    judged(Noise(), parts, tmp_path, factory=Stops, settings=replace(settings, steps=3))
    assert Stops.made == made + looked_at + found.cells  # other settings, other cells
    damaged = next(iter(kept))
    damaged.write_bytes(kept[damaged][:-10])
    again = judged(Noise(), parts, tmp_path, factory=Stops, settings=settings)
    assert torch.equal(again.arms["real"].scores, found.arms["real"].scores)
    assert damaged.read_bytes()[-10:] == kept[damaged][-10:]


def test_the_same_answers_from_two_processes(parts, tmp_path, monkeypatch):
    quicker = forkserver()  # than spawn, which the next test is about
    monkeypatch.setattr("ganaug.evaluation.cells.multiprocessing.get_context", lambda method: quicker)
    study = Study(parts[0], parts[3], {"it": Replay(parts[1])}, settings=replace(QUICK, steps=3, seeds=2))
    arms = [study.real_arms()[1], study.mixed_arms("it", study.real_arms()[1])[1]]
    one, two = (Cells(study, tmp_path / str(n), processes=n).run(arms, "cells") for n in (1, 2))
    for name in one:
        assert one[name].predicted.shape == one[name].confidence.shape == (2, len(parts[3]))
        assert torch.equal(one[name].predicted, two[name].predicted)
        assert torch.equal(one[name].confidence, two[name].confidence)


PROGRAM = """
import sys
from pathlib import Path
from dataclasses import replace
from helpers.evaluated import QUICK, TinyClassifier, digits_in_parts
from ganaug.evaluation.cells import Cells
from ganaug.evaluation.study import Arm, Study, class_balanced_weights
if __name__ == "__main__":
    train, _, _, held_out = digits_in_parts(4, 8)
    study = Study(train, held_out, {}, factory=TinyClassifier, settings=replace(QUICK, steps=100_000))
    Cells(study, Path("cells"), processes=2).run(study.real_arms(), "cells")
"""


def workers_of(pid: int) -> list[int]:
    """Processes that a process spawned, beside multiprocessing's own helper."""
    children = [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    return [child for child in children if b"spawn_main" in Path(f"/proc/{child}/cmdline").read_bytes()]


def test_workers_end_with_the_program_that_is_killed(tmp_path):
    (tmp_path / "program.py").write_text(PROGRAM)
    program = start_python("program.py", cwd=tmp_path)
    workers: list[int] = []
    end = time.monotonic() + 60
    while len(workers) < 2 and time.monotonic() < end:
        time.sleep(0.2)
        workers = workers_of(program.pid)
    time.sleep(1)  # past their start
    program.kill()
    assert len(workers) == 2
    end = time.monotonic() + 30
    while any(Path(f"/proc/{pid}/cmdline").exists() for pid in workers) and time.monotonic() < end:
        time.sleep(0.2)
    alive = [pid for pid in workers if Path(f"/proc/{pid}/cmdline").exists()]
    for pid in alive:
        os.kill(pid, signal.SIGKILL)
    assert not alive


def test_the_background_is_what_the_borders_mostly_are():
    images = torch.full((5, 3, 8, 8), 9, dtype=torch.uint8)
    images[:, 1, 0] = images[:, 1, -1] = images[:, 1, :, 0] = images[:, 1, :, -1] = 250
    data = LabelledImages(images, torch.zeros(5, dtype=torch.int64), ("a",), "frames")
    assert data.background.tolist() == [9, 250, 9]


class TwoOutputs(torch.nn.Linear):
    def __init__(self, num_classes: int, *, channels: int, image_size: int) -> None:
        super().__init__(image_size, num_classes)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"seeds": 1}, "seeds must be at least 2, for there to be error bars; got 1"),
        ({"steps": 0}, "steps must be a positive int, got 0"),
        ({"ratios": (0.3, 1.0)}, r"ratios must be fractions between 0 and 1, one or more; got \[0.3, 1.0\]"),
        ({"ratios": ()}, "one or more; got"),
    ],
)
def test_settings_out_of_range(change, message):
    with pytest.raises(InputError, match=message):
        UtilitySettings(**change)


def test_input_that_cannot_be_judged(parts, tmp_path):
    train, _, _, held_out = parts
    with pytest.raises(InputError, match=r"classes differ: 0, 1, .*; class 0, class 1, class 2"):
        utility(train, small_images(size=8), {"it": Noise()}, cache_dir=tmp_path)
    few = held_out.take([9] * 9 + [2])[0]
    with pytest.raises(InputError, match=r"class 9 has 2 held-out images; .* at least 3.* Hold out more"):
        utility(train, few, {"it": Noise()}, cache_dir=tmp_path)
    with pytest.raises(InputError, match=r"must return class logits \(N, 10\), this one returns \(\d+, 1, 8, 10\)"):
        judged(Noise(), parts, tmp_path, factory=TwoOutputs)
    with pytest.raises(ValueError, match="does not know 0, 1, 2"):
        judged(make_generator(("cat", "dog"), image_size=8), parts, tmp_path)


def test_a_cell_does_not_move_what_is_not_its_own(parts, tmp_path):
    study = Study(parts[0], parts[3], {}, factory=TinyClassifier, settings=replace(QUICK, steps=2))
    arm = study.real_arms()[1]
    first, second = (run_cell(study, arm, 0, tmp_path) for _ in range(2))
    assert torch.equal(first.confidence, second.confidence)
    assert not torch.equal(first.confidence, run_cell(study, arm, 1, tmp_path).confidence)
