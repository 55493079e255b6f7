"""Did the generated images help a classifier? Arms with and without them, at equal steps, and a verdict.

The rule of the verdict is fixed in advance. :data:`METHOD` says it in words for the report.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import cast

from torch import Tensor

from ganaug.core.defaults import usual_defaults
from ganaug.data import LabelledImages
from ganaug.data.labelled import check_comparable
from ganaug.evaluation.cells import Answers, Cells, Job, TrainsCells, answers_of
from ganaug.evaluation.draws import Draws
from ganaug.evaluation.learning_curve import LearningCurve, Worth, learning_curve
from ganaug.evaluation.networks import ClassifierFactory, SmallCNN
from ganaug.evaluation.plan import SIDELINES, Plan, plan_of, waits
from ganaug.evaluation.search import Trial, best_of, choose_ratios, scorer, search_reference, whole
from ganaug.evaluation.statistics import Difference, calibration_error, macro_f1, paired_difference, recalls
from ganaug.evaluation.study import Arm, Study, UtilitySettings
from ganaug.evaluation.verdict import Outcome, answer, headline, in_words
from ganaug.sampling.filters import Filter
from ganaug.sampling.inference import ConditionalGenerator

METHOD = (
    "Every arm trains the same classifier, once for each seed. A seed fixes the classifier's initial weights, and "
    "which batches, augmentation and generated images are drawn; all arms have the same seeds, so they are compared "
    "in pairs. The score is balanced accuracy: the mean of the classes' recalls.",
    "One thing chooses and another judges. The held-out images are split once, class by class: a quarter of them, the "
    "validation images, choose, and the other three quarters, the test images, judge. The trainings that choose and "
    "those that are judged have different seeds too. So nothing that was chosen because it was lucky is judged by its "
    "luck.",
    "The reference is the best training without generated images, by its mean score on the validation images. The "
    "search compares with at most half of the steps that there may be, if that is at least twice what it begins with. "
    "It tries augmentations; those that are within a point of the best, and those that are stronger than it and so "
    "pay off later, get twice the steps, and again as long as that brings more than half a point and the best is "
    "within reach. On top of the best come MixUp or CutMix; where classes are imbalanced, on top of the best two, and "
    "oversampling and a class-balanced loss too; then lower and higher learning rates. The best gets all steps, for "
    "one doubling may bring nothing by chance. So does one of the others, if it comes within a point of the best when "
    "another doubling brings it as much as the last one did. Where there are fewer than 1,000 validation images, "
    "five-fold cross-validation adds the training images, if each class has at least five.",
    "Generated images are added to exactly that training, with its steps, schedule and augmentation, at several "
    "ratios. The primary arm is the one with the highest mean score on the validation images.",
    "The interval is Student's t for the mean difference between primary arm and reference. New trainings and test "
    "images are both taken as samples; the quantile is the mean of their quantiles, weighted by their variances "
    "(Cochran). Where the trainings are spread over several draws of the training images, each draw counts once, with "
    "the mean of its trainings. Draws from the same images have some luck in common, which does not average out, and "
    "the interval is wider by that.",
    "Generated images help or hurt if the 95 % interval lies on one side of zero. They have no worthwhile effect if "
    "the 90 % interval lies within the margin that was fixed beforehand (two one-sided tests). Where neither is so, "
    "the evaluation cannot tell yet, and says what would.",
    "The verdict is one comparison for each generator. The other rows of the table are for orientation; their "
    "intervals are not corrected for their number. One of them is the reference with twice the steps, to use the time "
    "that the generator's training took; if that pays, another has as many as fit into that time, but no more than "
    "four times as many.",
    "What a difference is worth in real images is read off a power law fitted to the scores of the reference with "
    "fewer and, where there are any, more real images, which are trained if there is a difference beyond chance. The "
    "interval is a bootstrap over the seeds of that curve and the difference. Beyond the sizes that were measured it "
    "is an extrapolation.",
)


@dataclass(frozen=True)
class ArmResult:
    """Scores on the test images of an arm that is judged, all in [0, 1].

    Attributes:
        arm (Arm): how the classifiers were trained.
        scores (Tensor): balanced accuracy of each seed, float64 (S,).
        correct (Tensor): which test images each seed got right, bool (S, N).
        accuracy, macro_f1, calibration_error (float): means over the seeds.
        recall (Tensor): of each class, mean over the seeds, float64 (K,).
        difference (Difference, optional): to the reference arm; None for the reference arm itself.
        seconds (float): that its cells took in total.
    """

    arm: Arm
    scores: Tensor
    correct: Tensor
    accuracy: float
    macro_f1: float
    calibration_error: float
    recall: Tensor
    difference: Difference | None
    seconds: float

    @property
    def mean(self) -> float:
        """Balanced accuracy, mean over the seeds."""
        return self.scores.mean().item()


@dataclass(frozen=True)
class Verdict:
    """Whether a generator's images helped.

    Attributes:
        outcome (str): ``"helps"``, ``"hurts"``, ``"no worthwhile effect"`` or ``"cannot tell yet"``.
        primary (ArmResult): the arm with the ratio that was chosen on the validation images.
        difference (Difference): primary arm minus reference.
        recommended_ratio (float): the ratio of the primary arm if it helps, else 0.
        worth (Worth, optional): the difference as a number of real images; None if no learning curve could be fitted.
        note (str): what would tell, or how small the effect is; empty if there is nothing to add.
        sentence (str): all of this in one line.
    """

    outcome: Outcome
    primary: ArmResult
    difference: Difference
    recommended_ratio: float
    worth: Worth | None
    note: str
    sentence: str


@dataclass(frozen=True)
class Utility:
    """Result of :func:`utility`.

    Attributes:
        study (Study): what was compared.
        search (tuple of Trial): what was tried to find the reference and the ratios, with scores on the validation
            images.
        cross_validated (bool): whether the training images, too, chose the reference.
        reference (Trial): the arm that all others are compared with.
        validation, test (LabelledImages): the two parts of the held-out images.
        arms (dict): arm name to result, of those that were judged; first the reference.
        verdicts (dict): generator name to verdict.
        curve (LearningCurve): of the reference arm.
        draws (int): of the training images; 1 if the given ones were judged.
        covers (str): what the verdict's interval covers, in a sentence.
        left_out (dict): what was not trained, to the reason.
        processes (int): how many cells were trained at a time.
        cells (int): number of classifiers that were trained, now or earlier.
        cell_seconds (float): that training them took, added up.
    """

    study: Study
    search: tuple[Trial, ...]
    cross_validated: bool
    reference: Trial
    validation: LabelledImages
    test: LabelledImages
    arms: dict[str, ArmResult]
    verdicts: dict[str, Verdict]
    curve: LearningCurve
    draws: int
    covers: str
    left_out: dict[str, str]
    processes: int
    cells: int
    cell_seconds: float

    @property
    def longer(self) -> ArmResult | None:
        """The reference trained for longer, for the most steps that make it better by more than chance; None if none.

        Then a comparison with it may not hold for classifiers that are trained as long as they should be.
        """
        arm = self.reference.arm
        longer = [
            result
            for result in self.arms.values()
            if result.arm == replace(arm, name=result.arm.name, steps=result.arm.steps)
        ]
        better = [result for result in longer if result.difference and result.difference.low > 0]
        return max(better, key=lambda result: result.arm.steps, default=None)

    @property
    def too_short(self) -> str:
        """What longer training brings to the reference, in words; empty if it brings no more than chance."""
        if self.longer is None:
            return ""
        times = self.longer.arm.steps // self.reference.arm.steps
        gain = in_words(cast(Difference, self.longer.difference))
        return f"without generated images, {times} times the steps bring {gain}"


@usual_defaults()
def utility(
    train: LabelledImages,
    held_out: LabelledImages,
    generators: Mapping[str, ConditionalGenerator],
    *,
    factory: ClassifierFactory = SmallCNN,
    settings: UtilitySettings | None = None,
    extra: LabelledImages | None = None,
    accept: Filter | None = None,
    max_tries: int = 10,
    vary: float | None = None,
    draws: Draws | None = None,
    cache_dir: str | Path | None = None,
    processes: int = 1,
) -> Utility:
    """Train a classifier with and without generated images, and say whether they helped on held-out real images.

    It is not checked here whether the generators saw held-out images, or whether one is there several times:
    :func:`ganaug.evaluation.evaluate` does that.

    Args:
        train (LabelledImages): the real training set.
        held_out (LabelledImages): real images of the same classes, none of them in the training set.
        generators (mapping): name to generator; all are compared with the same reference.
        factory (callable): makes the classifier, with the keyword arguments of :class:`SmallCNN`. With several
            processes it must be importable.
        settings (UtilitySettings, optional): of the training. Default: ``UtilitySettings()``
        extra (LabelledImages, optional): further real images that are not in the training set; only the learning
            curve, which otherwise ends at the training set, is trained on them.
        accept (Filter, optional), max_tries (int): which generated images are kept; see
            :class:`ganaug.ConditionalGANAugment`. If the filter has a classifier, that must not have seen held-out
            images. With several processes the filter must be picklable. Default: all images are kept
        vary (float, optional): strength at which the generators vary the images of the training set, or of each draw;
            see :class:`ganaug.ConditionalGANAugment`. Default: they draw from noise alone
        draws (Draws, optional): training images as they could also have been collected, with generators as
            they could also have turned out. The trainings that are judged are spread over them; the given images and
            generators then only choose. Default: those that choose are judged too
        cache_dir (str or Path, optional): where finished cells are kept. Default: ``~/.cache/ganaug/evaluation``
        processes (int): how many classifiers are trained at a time on a CPU, each by one thread; several are started
            by spawning, so a script needs ``if __name__ == "__main__"``. Default: 1

    Raises:
        ValueError: the classes or image shapes of the real images differ, a class has too few held-out images, a
            generator is unconditional, does not fit the images or cannot vary them, or ``accept`` refuses all images
            for an item.
    """
    study = Study(
        train,
        held_out,
        dict(generators),
        extra=extra,
        factory=factory,
        settings=settings or UtilitySettings(),
        accept=accept,
        max_tries=max_tries,
        vary=vary,
    )
    if draws is not None and draws.train_generators is not None:
        draws = draws.train_generators(draws)
    plan = plan_of(study, draws)
    cells = plan.cells(cache_dir, processes)
    with cells.one_bar():
        return carry_out(plan, cells)


def carry_out(plan: Plan, cells: TrainsCells) -> Utility:
    """Do what a plan says; for the result see :func:`utility`.

    Args:
        plan (Plan): what to do.
        cells (TrainsCells): trains its classifiers; others than :class:`Cells` may only pretend to.
    """
    # Choose the reference, which is the best training without generated images, and then the ratio of generated ones.
    study, folds, validation = plan.study, plan.folds, len(plan.validation)
    trials = search_reference(study, scorer(cells, folds, "the best without generated images"))
    reference = best_of(trials)
    mixed = choose_ratios(study, reference.arm, scorer(cells, whole(study, validation), "the ratio"))
    primary = {name: best_of(each).arm for name, each in mixed.items()}

    # Judge them by trainings of their own, spread over the draws.
    answers, results, left_out = _judge(plan, cells, reference, list(primary.values()))
    curve = [arm for arm in answers if arm == reference.arm or arm.scale != 1]
    sizes = [len(study.real_images(arm, 0)) for arm in curve]
    found = Utility(
        study=study,
        search=(*trials, *(trial for each in mixed.values() for trial in each)),
        cross_validated=folds[0].study is not study,
        reference=reference,
        validation=plan.validation,
        test=plan.test,
        arms={arm.name: results[arm] for arm in answers if arm in results},
        verdicts={},
        curve=learning_curve(sizes, [answers[arm].first(SIDELINES).scores for arm in curve]),
        draws=len(plan.judged),
        covers=_covers(plan),
        left_out=left_out,
        processes=cells.processes,
        cells=len(cells.used),
        cell_seconds=sum(cell.seconds for cell in cells.used),
    )
    return replace(found, verdicts={name: _verdict(found, arm) for name, arm in primary.items()})


def _judge(
    plan: Plan, cells: TrainsCells, reference: Trial, primary: Sequence[Arm]
) -> tuple[dict[Arm, Answers], dict[Arm, ArmResult], dict[str, str]]:
    """Train what is judged, and what the verdicts give a reason for.

    Returns:
        tuple: the answers of each arm on the test images, in the order in which arms are shown; the results of those
        that are shown; and what was not trained, to the reason.
    """
    seeds, left_out = plan.judged_arms(reference, primary)
    answers: dict[Arm, Answers] = {}
    results: dict[Arm, ArmResult] = {}

    def train(arms: Sequence[Arm]) -> None:
        done = iter(cells.run(plan.judging({arm: seeds[arm] for arm in arms}), "the verdict"))
        for arm in arms:
            found = answers_of([next(done) for _ in range(seeds[arm])], plan.study.held_out)
            answers[arm] = found.of(slice(len(plan.validation), None))
            if arm.scale == 1:
                results[arm] = _result(arm, answers, reference.arm, plan)

    # First the verdicts, and what stands beside them, which has some of the same seeds.
    train([arm for arm in seeds if not waits(arm, reference.arm)])
    curve = [arm for arm in seeds if arm.scale != 1]
    longer = [arm for arm in seeds if arm not in (*answers, *curve)]

    # Then still more steps, if twice as many pay off; and other numbers of images, if there is a difference on which
    # they put a worth.
    twice = [cast(Difference, result.difference) for arm, result in results.items() if arm.steps > reference.arm.steps]
    if any(difference.low > 0 for difference in twice):
        train(longer)
    else:
        left_out |= {arm.name: "twice the steps brought no more than chance" for arm in longer}
    judged = [cast(Difference, results[arm].difference) for arm in primary]
    if any(difference.low > 0 or difference.high < 0 for difference in judged):
        train(curve)
    elif curve:
        left_out["other numbers of real images"] = "no difference was more than chance, so none has a worth in images"
    return {arm: answers[arm] for arm in seeds if arm in answers}, results, left_out


def _result(arm: Arm, answers: Mapping[Arm, Answers], reference: Arm, plan: Plan) -> ArmResult:
    found = answers[arm]
    seeds = len(found.scores)
    without = answers[reference].first(seeds)
    difference = None
    if arm != reference:
        difference = paired_difference(
            found.correct,
            without.correct,
            found.targets,
            found.num_classes,
            plan.draw_of[:seeds],
            shared=plan.draws.shared if plan.draws else 0.0,
        )
    return ArmResult(
        arm=arm,
        scores=found.scores,
        correct=found.correct,
        accuracy=found.correct.double().mean().item(),
        macro_f1=macro_f1(found.predicted, found.targets, found.num_classes),
        calibration_error=calibration_error(found.confidence, found.correct),
        recall=recalls(found.correct, found.targets, found.num_classes).mean(0),
        difference=difference,
        seconds=sum(found.seconds),
    )


def _covers(plan: Plan) -> str:
    """What the interval of a verdict covers, and what not."""
    always = "how the classifiers' training happened to go and which test images were held out"
    images, generators = "which training images were collected", "how the generator's training happened to go"
    study, judged = plan.study, plan.judged
    if plan.draws is None:
        return f"The interval covers {always}; not {images}, nor {generators}."
    kind = f"{len(judged)} {plan.draws.kind}"
    kept = [name for name, generator in study.generators.items() if judged[0].generators[name] is generator]
    anew = [name for name in study.generators if name not in kept]
    if kept and anew:
        return (
            f"The interval covers {always}, {images} ({kind}), and how the training of {_quoted(anew)} happened to "
            f"go, for it was repeated on each; not that of {_quoted(kept)}, for there was only one."
        )
    if kept:
        return f"The interval covers {always}, and {images} ({kind}); not {generators}, for there was only one."
    return f"The interval covers {always}, {images} ({kind}), and {generators}, for it was trained anew for each."


def _quoted(names: Sequence[str]) -> str:
    return ", ".join(f"“{name}”" for name in names)


def _verdict(found: Utility, arm: Arm) -> Verdict:
    """The verdict on the generator of an arm, which is the primary one."""
    study, primary = found.study, found.arms[arm.name]
    difference = cast(Difference, primary.difference)  # only the reference has none
    outcome, note = answer(
        difference,
        study.settings.margin,
        repeated="draws" if found.draws > 1 else "seeds",
        test_images=len(found.test),
    )
    worth = found.curve.worth(difference, len(study.train))
    parts = [f"{headline(outcome, found.too_short)}: {in_words(difference)} at ratio {arm.ratio:g}"]
    if worth and outcome in ("helps", "hurts"):
        parts.append(in_images(worth))
    if study.filter_name:
        parts.append(f"with images that {study.filter_name} kept")
    if study.vary is not None:
        parts.append(f"with variations of the training images at strength {study.vary:g}")
    sentence = "; ".join(filter(None, [", ".join(parts), note, found.too_short]))
    recommended = arm.ratio if outcome == "helps" else 0.0
    return Verdict(outcome, primary, difference, recommended, worth, note, sentence)


@usual_defaults()
def classification_accuracy(
    train: LabelledImages,
    held_out: LabelledImages,
    generator: ConditionalGenerator | None = None,
    *,
    settings: UtilitySettings | None = None,
    accept: Filter | None = None,
    max_tries: int = 10,
    cache_dir: str | Path | None = None,
    processes: int = 1,
) -> Answers:
    """Train classifiers on a generator's images alone, or on the real images, and ask them about held-out real images.

    The score of those trained on generated images is the classification accuracy score. Classic augmentation, seeds,
    steps and network are the same for both, so that two results can be compared in pairs.

    Source: Ravuri and Vinyals 2019, "Classification accuracy score for conditional generative models".

    Args:
        train (LabelledImages): the real training set. With a generator, its size only sets how many images are drawn:
            the larger of this size and the smaller of 10,000 and the number of images that training sees.
        held_out (LabelledImages): real images of the same classes, none of them in the training set.
        generator (optional): draws images of the classes. Default: train on the real images
        settings (UtilitySettings, optional): seeds, steps and batch size of the training; the others are not used.
        accept, max_tries, cache_dir, processes: see :func:`utility`.

    Raises:
        ValueError: classes or image shapes differ, or the generator is unconditional or does not fit the images.
    """
    check_comparable(train, held_out)
    generators = {} if generator is None else {"generator": generator}
    study = Study(
        train, held_out, generators, settings=settings or UtilitySettings(), accept=accept, max_tries=max_tries
    )
    real = Arm("real + classic", study.settings.steps)
    arm = real if generator is None else study.generated_arm("generator", real)
    jobs = [Job(study, arm, seed) for seed in range(study.settings.seeds)]
    return answers_of(Cells([study], cache_dir, processes=processes).run(jobs, arm.name), held_out)


def in_images(worth: Worth) -> str:
    """What a difference is worth in real images, in words."""
    if worth.images < 0:
        return f"as if there were {-worth.images:,} fewer real images"
    more = "more than " if worth.beyond else ""
    return f"worth {more}{worth.images:,} extra real images"
