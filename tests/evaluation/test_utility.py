"""The verdict on generators that are known to be good, useless or bad, by the real code path on small real images."""

from __future__ import annotations

import os
import re
import signal
import sys
import time
from dataclasses import replace
from functools import partial
from pathlib import Path
from types import ModuleType

import pytest
import torch
from helpers.evaluated import (
    QUICK,
    MadeUpCells,
    NextClass,
    Noise,
    OftenNextClass,
    Replay,
    TinyClassifier,
    digits_in_parts,
)
from helpers.generators import make_generator
from helpers.images import small_images
from helpers.programs import forkserver, start_python

from ganaug import InputError, LabelledImages
from ganaug.data import joined
from ganaug.evaluation import (
    Draw,
    Draws,
    UtilitySettings,
    classification_accuracy,
    train_classifier,
    utility,
)
from ganaug.evaluation.cells import Cells, Job, run_cell
from ganaug.evaluation.plan import plan_of
from ganaug.evaluation.search import JUDGES
from ganaug.evaluation.study import Arm, Study, class_balanced_weights
from ganaug.evaluation.utility import carry_out
from ganaug.filters import ClassifierAgreement


@pytest.fixture(scope="module")
def parts() -> tuple[LabelledImages, ...]:
    return digits_in_parts(4, 8)


@pytest.fixture(scope="module")
def cells(tmp_path_factory) -> Path:
    """Cells that the tests share: the real arms are trained once."""
    return tmp_path_factory.mktemp("cells")


STEEP = replace(QUICK, seeds=5, steps=100, max_steps=100, ratios=(0.5, 0.8))


def judged(generator, parts, cells, **options):
    train, _, further, held_out = parts
    options = {"factory": TinyClassifier, "settings": STEEP, "extra": further, "cache_dir": cells, **options}
    return utility(train, held_out, {"it": generator}, **options)


def test_an_oracle_helps_and_is_worth_about_what_it_holds(parts, cells):
    """It returns 80 real images that are in neither the training set nor the held-out images."""
    found = judged(Replay(parts[1]), parts, cells)
    verdict = found.verdicts["it"]
    assert verdict.outcome == "helps"
    assert verdict.difference.low > 0.02
    assert verdict.recommended_ratio == verdict.primary.arm.ratio
    assert 80 / 2.5 < verdict.worth.images < 80 * 2.5
    assert verdict.worth.low <= 80 <= (verdict.worth.high or float("inf"))
    assert verdict.sentence.startswith("helps: +")
    assert f"worth {verdict.worth.images} extra real images" in verdict.sentence


@pytest.mark.parametrize("bad", ["noise", "wrong labels"])
def test_noise_and_wrong_labels_hurt(bad, parts, cells):
    generator = Noise() if bad == "noise" else NextClass(parts[0])
    found = judged(generator, parts, cells, settings=replace(STEEP, ratios=(0.95,)))
    verdict = found.verdicts["it"]
    assert verdict.outcome == "hurts"
    assert verdict.difference.high < -0.02
    assert verdict.recommended_ratio == 0
    assert verdict.sentence.startswith("hurts: -")
    alone = found.arms["generated only"]
    assert alone.mean < 0.2
    assert alone.difference.high < -0.4


def test_training_images_repeated_have_no_worthwhile_effect_if_there_are_seeds_enough_to_tell(parts, cells):
    """The same seeds with and without them would do if the margin were larger than what seeds and images vary by."""
    settings = replace(STEEP, ratios=(0.5,), margin=4, learning_curve=False)
    many, two = (
        judged(Replay(parts[0]), parts, cells, settings=replace(settings, seeds=seeds)).verdicts["it"]
        for seeds in (10, 2)
    )
    assert many.outcome == "no worthwhile effect"
    assert many.sentence.endswith("; it is less than 4 points either way")
    assert two.outcome == "cannot tell yet"
    assert two.sentence.endswith(two.note)
    assert "would tell" in two.note
    assert many.recommended_ratio == two.recommended_ratio == 0


def test_only_images_that_a_filter_keeps_are_trained_on(parts, cells):
    classifier = train_classifier(parts[1], TinyClassifier, steps=150)
    generator, settings = OftenNextClass(parts[1]), replace(STEEP, seeds=2, ratios=(0.5,), learning_curve=False)
    everything = judged(generator, parts, cells, settings=settings)
    kept = judged(generator, parts, cells, settings=settings, accept=ClassifierAgreement(classifier), max_tries=50)
    assert kept.arms["generated only"].mean > everything.arms["generated only"].mean + 0.1
    assert kept.verdicts["it"].difference.estimate > everything.verdicts["it"].difference.estimate
    assert ", with images that ClassifierAgreement kept" in kept.verdicts["it"].sentence
    reference = kept.reference.arm.name
    assert torch.equal(kept.arms[reference].scores, everything.arms[reference].scores)
    with pytest.raises(InputError, match="the filter starved"):
        judged(generator, parts, cells, settings=settings, accept=lambda images, _: torch.zeros(len(images)) > 0)


def test_the_table_has_what_it_says(parts, cells):
    found = judged(Replay(parts[1]), parts, cells)
    reference, verdict = found.reference, found.verdicts["it"]
    assert list(found.arms) == [reference.arm.name, verdict.primary.arm.name, "generated only"]
    assert found.arms[reference.arm.name].difference is None
    assert len(found.validation) + len(found.test) == len(parts[3])
    assert len(found.validation) / len(parts[3]) == pytest.approx(0.25, abs=0.02)
    real = [trial for trial in found.search if trial.arm.generator is None]
    assert {trial.arm.augmentation for trial in real} == {"none", "classic"}
    assert reference.mean == max(trial.mean for trial in real)
    mixed = {trial.arm.name: trial.mean for trial in found.search if trial.arm.generator}
    assert set(mixed) == {f"{reference.arm.name} + {100 * ratio:g} % generated" for ratio in STEEP.ratios}
    assert mixed[verdict.primary.arm.name] == max(mixed.values())
    assert found.curve.images == (10, 20, 40, 80, 160)
    assert (found.draws, found.cross_validated) == (1, False)
    assert list(found.left_out.values()) == ["that time is not known"]  # which the generator's training took
    for name, result in found.arms.items():
        assert result.recall.mean().item() == pytest.approx(result.mean)
        assert len(result.scores) == (3 if name == "generated only" else STEEP.seeds)


def test_without_a_learning_curve_no_gain_has_a_worth(parts, cells):
    found = judged(Replay(parts[1]), parts, cells)
    without = judged(Replay(parts[1]), parts, cells, settings=replace(STEEP, learning_curve=False))
    verdict, same = without.verdicts["it"], found.verdicts["it"]
    assert (verdict.outcome, verdict.difference, verdict.worth) == ("helps", same.difference, None)
    assert verdict.sentence == same.sentence.split(", worth")[0]
    assert without.curve.images == (40,)
    assert without.cells == found.cells - 4 * 3


SIMPLE = UtilitySettings(learning_curve=False)


def made_up(parts, made, draws=None, generator=None):
    train, known, _, held_out = parts
    generators = {"it": generator or Replay(known)}
    return carry_out(plan_of(Study(train, held_out, generators, settings=SIMPLE), draws), made)


def test_trainings_that_choose_are_not_those_that_are_judged(parts):
    made = MadeUpCells()
    found = made_up(parts, made)
    chose = made.asked["the best without generated images"] + made.asked["the ratio"]
    assert {job.seed for job in chose} == {0, 1}
    assert {job.seed for job in made.asked["the verdict"]} == set(range(JUDGES, JUDGES + 5))
    assert found.cells == len(chose) + len(made.asked["the verdict"])


def test_the_images_that_judge_do_not_choose(parts):
    """What is best on the test images alone is not chosen, and what is best on the validation images alone is."""
    _, _, _, held_out = parts
    quarter = len(held_out.split(0.25)[1])

    def best(job: Job) -> float:
        return 1.0 if job.arm.augmentation == "trivial" and job.arm.ratio in (0, 0.8) else 0.2

    found = made_up(parts, MadeUpCells(best, slice(quarter)))
    assert found.reference.arm.augmentation == "trivial"
    assert found.verdicts["it"].primary.arm.ratio == 0.8
    assert found.arms[found.reference.arm.name].mean < 0.8
    found = made_up(parts, MadeUpCells(best, slice(quarter, None)))
    assert found.reference.mean < 0.85


def test_each_judged_training_has_its_draw(parts):
    """What chooses has none; the seeds of a draw are averaged before draws are compared."""
    train, known, further, _ = parts
    draws = [
        Draw(further.take([4] * 10, seed=seed)[0], generators={"it": Replay(known, first=4 + seed)})
        for seed in (1, 2, 3)
    ]
    lucky = {id(draw.train): luck for draw, luck in zip(draws, (0.3, 0.0, -0.3), strict=True)}
    made = MadeUpCells(lambda job: 0.6 + lucky[id(job.study.train)] * (job.arm.ratio > 0) * (job.seed >= JUDGES))
    lucky[id(train)] = 0.0
    found = made_up(parts, made, Draws(tuple(draws)))
    chose = made.asked["the best without generated images"] + made.asked["the ratio"]
    assert {id(job.study.train) for job in chose} == {id(train)}
    primary = [job for job in made.asked["the verdict"] if job.arm == found.verdicts["it"].primary.arm]
    assert [job.seed - JUDGES for job in primary] == [0, 1, 2, 3, 4, 5]  # as many for each
    for job in primary:
        draw = draws[(job.seed - JUDGES) % 3]
        assert job.study.train is draw.train
        assert job.study.generators["it"] is draw.generators["it"]
    difference = found.verdicts["it"].difference
    assert (found.draws, difference.repeats) == (3, 3)
    assert difference.repeat_variance**0.5 == pytest.approx(0.3 / 3**0.5, rel=0.25)
    assert found.verdicts["it"].note == "more than 100 draws would be needed to tell"


@pytest.mark.parametrize(
    ("kind", "covers"),
    [
        (None, "; not which training images were collected, nor how the generator's training happened to go."),
        ("the same generator", "; not how the generator's training happened to go, for there was only one."),
        ("its own generator", "for it was trained anew for each."),
    ],
)
def test_what_the_interval_covers_is_said(parts, kind, covers):
    generator = Replay(parts[1])
    of_each = [generator if kind == "the same generator" else Replay(parts[1]) for _ in range(2)]
    draws = [Draw(parts[0], generators={"it": of_draw}) for of_draw in of_each]
    found = made_up(parts, MadeUpCells(), Draws(tuple(draws)) if kind else None, generator)
    assert found.covers.startswith("The interval covers how the classifiers' training happened to go and which test")
    assert found.covers.endswith(covers)


def test_what_the_interval_covers_is_said_of_each_generator(parts):
    train, known, _, held_out = parts
    first, second = Replay(known), Replay(known)
    draws = Draws(tuple(Draw(train, {"published": first, "own": Replay(known)}) for _ in range(2)))
    study = Study(train, held_out, {"published": first, "own": second}, factory=TinyClassifier, settings=QUICK)
    found = carry_out(plan_of(study, draws), MadeUpCells())
    assert "training of “own” happened to go" in found.covers
    assert found.covers.endswith("not that of “published”, for there was only one.")


def test_draws_whose_generators_are_still_to_be_trained_are_completed(parts, tmp_path):
    class TrainedError(Exception):
        pass

    def train(draws):
        raise TrainedError

    stand_in = Replay(parts[1])
    draws = Draws((Draw(parts[0], {"it": stand_in}),) * 2, train_generators=train)
    with pytest.raises(TrainedError):
        utility(parts[0], parts[3], {"it": stand_in}, draws=draws, cache_dir=tmp_path)


def test_a_ratio_is_chosen_on_validation_images_though_the_reference_is_cross_validated(parts):
    """A generator may have seen the images of a fold."""
    made = MadeUpCells()
    train = parts[2].take([6] * 10)[0]
    found = made_up((train, *parts[1:]), made)
    assert found.cross_validated
    searched = made.asked["the best without generated images"]
    assert {job.seed for job in searched} == set(range(5))
    assert all(40 <= len(job.study.train) <= 50 for job in searched)  # without one or two of six in each class
    for job in made.asked["the ratio"] + made.asked["the verdict"]:
        assert job.study.train is train
        assert len(job.study.held_out) == len(parts[3])


def paying(job: Job) -> float:
    """The more steps, the better."""
    return 0.2 + 0.7 * min(1.0, job.arm.steps / 8000)


@pytest.mark.parametrize(("seconds", "times"), [(0.5, [2]), (1.5, [2, 3]), (2.5, [2, 4]), (100.0, [2, 4])])
def test_the_generators_time_is_spent_on_a_longer_training_too(parts, seconds, times):
    """As long as four times the reference's at most, if twice as long pays; made-up trainings take a second."""
    generator = Replay(parts[1])
    generator.info = {"training": {"seconds": seconds}}

    def longer(made: MadeUpCells):
        found = made_up(parts, made, generator=generator)
        results = [result for result in found.arms.values() if "times the steps" in result.arm.name]
        assert all(result.difference is not None for result in results)
        return [result.arm.steps / found.reference.arm.steps for result in results], found.left_out

    assert longer(MadeUpCells(paying)) == (times, {})
    tried, left_out = longer(MadeUpCells())
    assert tried == [2]
    assert [name.split(", ")[1] for name in left_out] == [f"{often} times the steps" for often in times[1:]]
    assert set(left_out.values()) <= {"twice the steps brought no more than chance"}


def test_a_learning_curve_is_trained_where_there_is_a_difference(parts):
    train, known, further, held_out = parts
    for gain, sizes in ((0.0, 1), (0.2, 5), (-0.2, 5)):
        made = MadeUpCells(lambda job, gain=gain: 0.6 + gain * (0 < job.arm.ratio < 1))
        study = Study(train, held_out, {"it": Replay(known)}, extra=further, settings=UtilitySettings())
        found = carry_out(plan_of(study), made)
        assert len(found.curve.images) == sizes
        assert ("other numbers of real images" in found.left_out) is (sizes == 1)


def test_a_verdict_says_that_the_classifiers_were_trained_too_briefly(parts):
    generator = Replay(parts[1])
    generator.info = {"training": {"seconds": 100.0}}
    found = made_up(parts, MadeUpCells(), generator=generator)
    (name,) = [name for name in found.arms if "times the steps" in name]
    said = []
    for gain in (0.05, -0.05):
        result = found.arms[name]
        difference = replace(result.difference, estimate=gain, low=gain - 0.02, high=gain + 0.02)
        said.append(replace(found, arms={**found.arms, name: replace(result, difference=difference)}).too_short)
    assert said[0].endswith("2 times the steps bring +5.0 points [3.0, 7.0]")
    assert said[1] == ""


def test_several_generators_share_the_reference(parts, cells):
    train, known, further, held_out = parts
    options = {"factory": TinyClassifier, "settings": STEEP, "extra": further, "cache_dir": cells}
    found = utility(train, held_out, {"good": Replay(known), "bad": NextClass(train)}, **options)
    assert [verdict.outcome for verdict in found.verdicts.values()] == ["helps", "hurts"]
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
        Cells([Study(train, held_out, {"it": Replay(known)}, factory=factory, settings=QUICK)], tmp_path)
    assert not list(tmp_path.rglob("*.safetensors"))


class NotOnACPU(TinyClassifier):
    """Stands for one with kernels of its own."""

    def forward(self, images):
        raise NotImplementedError("there is no kernel for the CPU")


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_cells_are_named_alike_whatever_the_callers_defaults(parts, tmp_path, dtype):
    train, known, _, held_out = parts
    study = Study(train, held_out, {"it": Replay(known)}, factory=TinyClassifier, settings=replace(QUICK, seeds=2))
    expected = Cells([study], tmp_path).path(Job(study, Arm("real", 5), 0))
    torch.set_default_dtype(dtype)
    try:
        with torch.inference_mode():
            assert Cells([study], tmp_path).path(Job(study, Arm("real", 5), 0)) == expected
    finally:
        torch.set_default_dtype(torch.float32)
    other = replace(study, factory=NotOnACPU)
    assert Cells([other], tmp_path).path(Job(other, Arm("real", 5), 0)) != expected


def test_an_error_leaves_torch_its_number_of_threads(parts, tmp_path, monkeypatch):
    """Even while its traceback is kept, as a notebook does."""
    train, known, _, held_out = parts
    study = Study(train, held_out, {"it": Replay(known)}, factory=TinyClassifier, settings=QUICK)

    def full(*_, **__):
        raise OSError(28, "No space left on device", str(tmp_path))

    before = torch.get_num_threads()
    torch.set_num_threads(3)
    try:
        cells = Cells([study], tmp_path)
        monkeypatch.setattr("ganaug.evaluation.cells.write_tensors", full)
        with pytest.raises(OSError, match="No space") as kept:
            cells.run([Job(study, Arm("real", 1), 0)], "real")
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
    assert claims.count("helps") < 4, claims


def imbalanced(parts) -> LabelledImages:
    return parts[0].take([4, 4, 4, 4, 4, 2, 2, 2, 2, 1])[0]


def shares(targets, weights) -> list[float]:
    return torch.zeros(10, dtype=torch.float64).index_add_(0, targets, weights).tolist()


def test_imbalanced_images_are_oversampled_and_rare_classes_get_as_many_generated(parts, tmp_path):
    train = imbalanced(parts)
    study = Study(train, parts[3], {"it": Replay(parts[1])}, settings=QUICK)
    plain = study.augmented_arms()[1]
    _, over, _ = study.additions(plain)
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


def test_classes_with_few_images_weigh_more_in_a_class_balanced_loss(parts, tmp_path):
    train = imbalanced(parts)
    study = Study(train, parts[3], {}, settings=QUICK)
    plain = study.augmented_arms()[1]
    arm = study.additions(plain)[-1]
    assert arm.name == "real + classic + class-balanced loss"
    assert class_balanced_weights([1, 2], beta=0.5).tolist() == pytest.approx([1.2, 0.8])  # 1 : 1/1.5
    weights = study.class_weights(arm)
    assert weights[9] / weights[0] == pytest.approx(4, rel=0.01)  # four times the images
    assert study.class_weights(plain) is None
    one, weighted = (run_cell(Job(study, replace(each, steps=3), 0), tmp_path) for each in (plain, arm))
    assert not torch.equal(one.confidence, weighted.confidence)


def test_seeds_draw_other_images_and_the_curve_takes_a_share_of_each_class(parts, tmp_path):
    study = Study(parts[0], parts[3], {"it": Replay(parts[1])}, extra=parts[2], settings=QUICK)
    reference = study.augmented_arms()[0]
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
    looked_at = 2  # classifiers in each call, for their own augmentation and to see whether the factory changed
    monkeypatch.setattr(Stops, "fails_at", looked_at + 5)
    settings = replace(QUICK, steps=2, max_steps=2, ratios=(0.5,))
    with pytest.raises(KeyboardInterrupt):
        judged(Noise(), parts, tmp_path, factory=Stops, settings=settings)
    kept = {path: path.read_bytes() for path in tmp_path.iterdir()}
    assert len(kept) == 4
    found = judged(Noise(), parts, tmp_path, factory=Stops, settings=settings)
    assert found.cells == len(list(tmp_path.iterdir()))
    made = looked_at + 5 + looked_at + found.cells - 4  # none of the four again
    assert Stops.made == made
    assert all(path.read_bytes() == content for path, content in kept.items())
    other = judged(Noise(), parts, tmp_path, factory=Stops, settings=replace(settings, batch_size=31))
    assert Stops.made == made + looked_at + other.cells  # other settings, other cells
    damaged = next(iter(kept))
    damaged.write_bytes(kept[damaged][:-10])
    again = judged(Noise(), parts, tmp_path, factory=Stops, settings=settings)
    assert [trial.mean for trial in again.search] == [trial.mean for trial in found.search]
    assert damaged.read_bytes()[-10:] == kept[damaged][-10:]


def test_the_same_answers_from_two_processes(parts, tmp_path, monkeypatch):
    quicker = forkserver()  # than spawn, which the next test is about
    monkeypatch.setattr("ganaug.evaluation.cells.multiprocessing.get_context", lambda method: quicker)
    study = Study(parts[0], parts[3], {"it": Replay(parts[1])}, settings=replace(QUICK, steps=3))
    plain = study.augmented_arms()[1]
    jobs = [Job(study, arm, seed) for arm in (plain, study.mixed_arm("it", plain, 0.5)) for seed in (0, 1)]
    drawn = []
    monkeypatch.setattr("ganaug.evaluation.cells._tell", lambda _, count: drawn.append(count))
    both = []
    for n in (1, 2):
        both.append(Cells([study], tmp_path / str(n), processes=n).run(jobs, "cells"))
        assert drawn.pop() == 2 * study.pool_size(3 * study.settings.batch_size)  # of each seed, once
    for one, two in zip(*both, strict=True):
        assert one.predicted.shape == one.confidence.shape == (len(parts[3]),)
        assert torch.equal(one.predicted, two.predicted)
        assert torch.equal(one.confidence, two.confidence)


def test_rounds_share_a_progress_bar_that_is_full_only_at_the_end(parts, tmp_path, capsys):
    study = Study(parts[0], parts[3], {}, settings=replace(QUICK, steps=1))
    cells, arm = Cells([study], tmp_path), study.augmented_arms()[0]
    cells.run([Job(study, arm, 0)], "alone")
    assert "alone: 100%" in capsys.readouterr().err
    rounds = {"first": (0, 1), "second": (1, 2)}

    def bars(most: int | None) -> list[str]:
        with cells.one_bar(most):
            for title, seeds in rounds.items():
                cells.run([Job(study, arm, seed) for seed in seeds], title)
        return capsys.readouterr().err.strip().split("\r")

    for most in (4, 7):  # there may be fewer rounds than there might have been
        shown = bars(most)
        assert re.fullmatch(r"second: 100%.* 4/4 \[.*", shown[-1])
        shares = [int(share) for bar in shown for share in re.findall(r"(\d+)%", bar)]
        assert shares == sorted(shares)
        assert not any("100%" in bar for bar in shown if bar.startswith("first"))
    # If it is not known how many there are, none are said to be all.
    shown = bars(None)
    assert "4classifier" in shown[-1]
    assert not any("%" in bar for bar in shown)


SCRIPT = """
from pathlib import Path
from types import ModuleType
from helpers.evaluated import TinyClassifier
Path(__file__).with_suffix(".ran").touch()
class Own(TinyClassifier):
    pass
"""


def test_workers_run_the_users_script_only_for_what_it_defines(parts, tmp_path, monkeypatch):
    script, quicker = tmp_path / "script.py", forkserver()
    script.write_text(SCRIPT)
    main = ModuleType("__main__")
    main.__file__ = str(script)
    exec(SCRIPT, main.__dict__)
    (ran := tmp_path / "script.ran").unlink()
    monkeypatch.setitem(sys.modules, "__main__", main)
    monkeypatch.setattr("ganaug.evaluation.cells.multiprocessing.get_context", lambda method: quicker)
    for factory in (TinyClassifier, main.Own):
        study = Study(parts[0], parts[3], {}, factory=factory, settings=replace(QUICK, steps=3))
        jobs = [Job(study, study.augmented_arms()[1], seed) for seed in (0, 1)]
        assert len(Cells([study], tmp_path / factory.__name__, processes=2).run(jobs, "cells")) == 2
        assert ran.exists() == (factory is main.Own)
        assert sys.modules["__main__"] is main


def test_windows_waits_for_no_more_than_61_processes(parts, tmp_path, monkeypatch):
    study = Study(parts[0], parts[3], {}, factory=TinyClassifier, settings=QUICK)
    monkeypatch.setattr("ganaug.evaluation.cells.best_device", lambda: torch.device("cpu"))
    found = {}
    for windows in (False, True):
        monkeypatch.setattr("ganaug.evaluation.cells.WINDOWS", windows)
        found[windows] = [Cells([study], tmp_path, processes=n).processes for n in (2, 64)]
    assert found == {False: [2, 64], True: [2, 61]}


PROGRAM = """
from pathlib import Path
from types import ModuleType
from helpers.evaluated import QUICK, TinyClassifier, digits_in_parts
from ganaug.evaluation.cells import Cells, Job
from ganaug.evaluation.study import Arm, Study
if __name__ == "__main__":
    train, _, _, held_out = digits_in_parts(4, 8)
    study = Study(train, held_out, {}, factory=TinyClassifier, settings=QUICK)
    jobs = [Job(study, Arm("real", 100_000), seed) for seed in range(4)]
    Cells([study], Path("cells"), processes=2).run(jobs, "cells")
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
        ({"steps": 100, "max_steps": 50}, "max_steps must be at least steps, got 50 and 100"),
        ({"margin": 0.0}, "margin must be between 0 and 100, in points of balanced accuracy; got 0.0"),
        ({"margin": float("inf")}, "margin must be between 0 and 100"),
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
    with pytest.raises(InputError, match="processes must be a positive int, got 0"):
        judged(Noise(), parts, tmp_path, processes=0)
    with pytest.raises(ValueError, match="does not know 0, 1, 2"):
        judged(make_generator(("cat", "dog"), image_size=8), parts, tmp_path)


def test_a_cell_does_not_move_what_is_not_its_own(parts, tmp_path):
    study = Study(parts[0], parts[3], {}, factory=TinyClassifier, settings=QUICK)
    arm = replace(study.augmented_arms()[1], steps=2)
    first, second = (run_cell(Job(study, arm, 0), tmp_path) for _ in range(2))
    assert torch.equal(first.confidence, second.confidence)
    assert not torch.equal(first.confidence, run_cell(Job(study, arm, 1), tmp_path).confidence)
