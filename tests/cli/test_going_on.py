"""What ``ganaug evaluate`` says after the verdict."""

from __future__ import annotations

import re
from dataclasses import replace

import pytest
from helpers.evaluated import QUICK, MadeUpCells, Replay, digits_in_parts
from helpers.programs import as_a_program

from ganaug.cli.config import fields_of_flags
from ganaug.cli.evaluate import EvaluateArguments, how_to_go_on
from ganaug.cli.flags import parse
from ganaug.evaluation import UtilitySettings
from ganaug.evaluation.cells import Job
from ganaug.evaluation.draws import Draw, Draws
from ganaug.evaluation.plan import plan_of
from ganaug.evaluation.search import JUDGES
from ganaug.evaluation.study import Study
from ganaug.evaluation.utility import Utility, carry_out

LEFT_OVER = replace(QUICK, ratios=(0.3, 0.5), augmentations=("classic", "rand"), learning_curve=False)


@pytest.fixture(scope="module")
def study() -> Study:
    train, known, _, held_out = digits_in_parts(10, 10)
    return Study(train, held_out, {"it": Replay(known)}, settings=LEFT_OVER)


def found_by(study: Study, gain: float, draws: Draws | None = None) -> Utility:
    """A result in which generated images make so many more answers right."""
    plan = plan_of(study, draws)
    return carry_out(plan, MadeUpCells(lambda job: 0.7 + gain * bool(job.arm.generator)))


def arguments(*words: str) -> EvaluateArguments:
    with as_a_program():  # tyro draws random numbers
        return parse(EvaluateArguments, words=["--generator", "it", *words])


def test_the_flags_that_would_tell_are_those_of_this_evaluation_with_more_seeds(study, tmp_path):
    found = found_by(study, 0.015)
    (verdict,) = found.verdicts.values()
    assert verdict.outcome == "cannot tell yet"
    assert "more seeds would tell" in verdict.sentence
    more = int(verdict.note.removeprefix("about ").split()[0])
    # The command ends with them, whether it or a file has the budget.
    (tmp_path / "flags.yaml").write_text("budget_minutes: 20\nseeds: 4")
    for before in (["--budget_minutes", "20", "--seeds", "4"], ["--config", str(tmp_path / "flags.yaml")]):
        said = how_to_go_on(arguments(*before), found)
        again = arguments(*before, *said.splitlines()[-1].split())
        assert again.settings == replace(LEFT_OVER, seeds=3 + more)
        assert again.budget_minutes is None
    # What the user gave is not repeated.
    given = ["--steps", "60", "--max_steps", "60", "--batch_size", "32", "--no_learning_curve"]
    said = how_to_go_on(arguments(*given), found)
    assert "budget" not in said
    assert {"ratios", "augmentations"} <= fields_of_flags(said.split()) <= {"seeds", "ratios", "augmentations"}


def longer_pays_when_judged(job: Job) -> float:
    if job.arm.steps <= LEFT_OVER.steps:
        return 0.7
    return 0.95 if job.seed >= JUDGES else 0.5


def test_classifiers_that_were_trained_too_briefly_are_trained_for_longer_first(study):
    generator = Replay(study.train)
    generator.info = {"training": {"seconds": 100.0}}

    # The search had to end at 60 steps, or might have gone on to four times as many and had no reason to.
    for settings, changed in ((LEFT_OVER, "max_steps"), (replace(LEFT_OVER, max_steps=240), "steps")):
        plan = plan_of(replace(study, generators={"it": generator}, settings=settings))
        found = carry_out(plan, MadeUpCells(longer_pays_when_judged))
        assert found.reference.arm.steps == 60
        (verdict,) = found.verdicts.values()
        told = rf"{verdict.outcome}, but the classifiers were trained too briefly: .*; without generated .* 4 times"
        assert re.match(told, verdict.sentence)
        again = arguments(*how_to_go_on(arguments(), found).splitlines()[-1].split())
        assert again.settings == replace(settings, **{changed: 240})


def test_nothing_is_said_where_no_number_of_seeds_would_tell(study):
    found = found_by(study, 0.2)
    assert all(verdict.outcome == "helps" for verdict in found.verdicts.values())
    assert how_to_go_on(arguments(), found) == ""


def test_more_draws_keep_their_seeds(study):
    draws = Draws(tuple(Draw(study.train, study.generators, None) for _ in range(3)))
    found = found_by(replace(study, settings=replace(LEFT_OVER, seeds=6)), 0.01, draws)
    (verdict,) = found.verdicts.values()
    assert "more draws would tell" in verdict.sentence
    again = arguments(*how_to_go_on(arguments(), found).splitlines()[-1].split())
    assert again.draws == 3 + int(verdict.note.removeprefix("about ").split()[0])
    assert again.settings.seeds == 2 * again.draws


def test_a_flag_that_is_given_is_fixed_whether_or_not_it_is_the_default():
    args = arguments("--seeds", str(UtilitySettings().seeds), "--no_learning_curve", "--draws", "2")
    assert args.fixed == {"seeds", "learning_curve"}
    assert arguments().fixed == frozenset()
