"""The whole evaluation, as a function and as a recipe: copies, collapse and leaks show, the verdict gets around."""

from __future__ import annotations

import json
import os
import re
from dataclasses import asdict, replace
from pathlib import Path

import pytest
import torch
from helpers.evaluated import QUICK, Replay, TinyClassifier, digits_in_parts
from helpers.generators import Blend, make_generator
from huggingface_hub import EvalResult, ModelCard

from ganaug import InputError, open_images
from ganaug.data import joined
from ganaug.evaluation import Draw, Draws, Evaluation, add_verdict, evaluate, report_of, write_report
from ganaug.evaluation.inputs import by_short_names
from ganaug.generators import DCGAN32Generator
from ganaug.hub.card import claimed_difference

SETTINGS = replace(QUICK, ratios=(0.9,))  # at which one picture for each class hurts beyond doubt, so there is a curve
NAMES = ("oracle", "copies", "one picture")


@pytest.fixture(scope="module")
def found(tmp_path_factory) -> Evaluation:
    train, known, further, held_out = digits_in_parts(16, 40)
    generators = dict(zip(NAMES, (Replay(known), Replay(train), Replay(known, first=1)), strict=True))
    return evaluate(
        train,
        held_out,
        generators,
        factory=TinyClassifier,
        settings=SETTINGS,
        extra=further,
        cache_dir=tmp_path_factory.mktemp("cells"),
    )


def test_training_images_are_seen_to_be_copies(found):
    copies = {name: judged.memorization for name, judged in found.judged.items()}
    assert (copies["copies"].exact_copies, copies["copies"].near_copies) == (1, 1)
    assert copies["copies"].closer_to_train_low > 0.9
    for name in ("oracle", "one picture"):
        assert copies[name].exact_copies == 0
    assert copies["oracle"].near_copies < 0.05
    assert copies["oracle"].closer_to_train < 0.6


def test_one_picture_for_each_class_is_seen_to_be_collapsed(found):
    fidelity = {name: judged.fidelity for name, judged in found.judged.items()}
    assert fidelity["one picture"].lowest_diversity == pytest.approx(0, abs=1e-6)
    assert max(fidelity["one picture"].diversity.values()) == pytest.approx(0, abs=1e-6)
    assert fidelity["oracle"].lowest_diversity > 0.7
    assert fidelity["one picture"].generated.fd_cnn is None or (
        fidelity["one picture"].generated.fd_cnn > 2 * fidelity["oracle"].generated.fd_cnn
    )
    assert fidelity["one picture"].generated.kd_cnn > 2 * fidelity["oracle"].generated.kd_cnn
    assert fidelity["oracle"].label_fidelity > 0.9


def as_shown(sentence: str) -> str:
    """A verdict in the report: its first word is a heading."""
    return sentence.partition(": ")[2].replace("-", "\N{MINUS SIGN}")


def test_the_report_holds_it_all_and_is_json(found, tmp_path):
    report = write_report(found, tmp_path, sources={name: f"folder/{name}" for name in NAMES}, classifier="tiny")
    written = json.loads((tmp_path / "report.json").read_text())
    assert written == json.loads(json.dumps(asdict(report)))
    assert written["generators"][0]["verdict"]["sentence"] == found.utility.verdicts["oracle"].sentence
    html = (tmp_path / "report.html").read_text()
    for each in report.generators:
        assert as_shown(each.verdict.sentence) in html
        arm = report.arm(each.verdict.arm)
        assert arm.difference.estimate == each.verdict.difference.estimate
        assert arm.generator == each.name
        assert not each.leakage.known  # of a plain module nobody knows what it saw
    assert [point.images for point in report.curve.points] == [20, 40, 80, 160, 320, 640]
    searched = [trial for trial in report.search.trials if trial.generator is None]
    assert report.search.cross_validated
    # Five folds, three ratios by two seeds, and three of the reference, three verdicts, generated only, the curve.
    assert report.cost.cells == 5 * len(searched) + 3 * 2 + 3 * (1 + 3 + 3 + 5)
    assert found.price.cells <= report.cost.cells <= found.price.most_cells
    assert report.data.test_images + report.data.validation_images == 359
    # Fewer seeds and steps than usual, without a budget.
    assert all(sentence in html for sentence in report.given_up)
    assert any("3 seeds judge instead of 5" in sentence for sentence in report.given_up)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["report.html", "report.json"]


def everything(images, labels):
    """A filter."""
    return labels >= 0


def test_extra_images_that_judge_or_train_are_left_out_of_the_curve(tmp_path):
    train, known, _, held_out = digits_in_parts(16, 16)
    both = {"factory": TinyClassifier, "settings": replace(SETTINGS, steps=2, max_steps=2), "cache_dir": tmp_path}
    extra = open_images("sklearn:digits")
    with_test = evaluate(train, held_out, {"it": Replay(known)}, extra=extra, accept=everything, **both)
    assert len(with_test.utility.study.extra) == 1438 - 160
    settings = report_of(with_test, sources={"it": ""}, classifier="tiny").settings
    assert (settings.filter_of_generated_images, settings.vary) == ("everything", None)
    assert not torch.isin(with_test.utility.study.extra.image_hashes, train.image_hashes).any()


def test_variations_of_the_training_images_are_judged(tmp_path):
    train, _, _, held_out = digits_in_parts(16, 16)
    settings = replace(SETTINGS, steps=2, max_steps=2, learning_curve=False, augmentations=("none",))
    found = evaluate(
        train,
        held_out,
        {"it": Blend(*train.classes)},
        factory=TinyClassifier,
        settings=settings,
        vary=0.02,
        cache_dir=tmp_path / "kept",
    )
    assert "with variations of the training images at strength 0.02" in found.utility.verdicts["it"].sentence
    judged = found.judged["it"].generated
    distances = torch.cdist(judged.images.flatten(1).float(), train.images.flatten(1).float())
    assert torch.equal(train.targets[distances.argmin(1)], judged.targets)
    assert distances.min(1).values.max() < 50  # of 180 and more to any other
    report = write_report(found, tmp_path, sources={"it": ""}, classifier="tiny")
    assert report.settings.vary == 0.02
    assert "strength of variations of training images" in (tmp_path / "report.html").read_text()


def test_copies_are_left_out_of_what_judges_whoever_was_trained_on_them(tmp_path):
    """The classifiers on 30 held-out images, one of two generators on 20, those of the draws on 10 each; 5 repeat."""
    train, known, _, held_out = digits_in_parts(16, 16)
    shared = [held_out.subset(torch.arange(first, last), "shared") for first, last in ((0, 30), (30, 50))]
    drawn = [joined(train, held_out.subset(torch.arange(first, first + 10), "drawn")) for first in (50, 60)]
    held_out = joined(held_out, held_out.subset(torch.arange(100, 105), "again"))
    seen = make_generator(train.classes, image_size=8)
    seen.seen_images = shared[1].image_hashes.unique()
    generators = {"seen": seen, "it": Replay(known)}
    arguments = {
        "factory": TinyClassifier,
        "settings": replace(SETTINGS, steps=2, max_steps=2, learning_curve=False, augmentations=("none",)),
        "draws": Draws(tuple(Draw(images, generators) for images in drawn)),
        "cache_dir": tmp_path,
    }
    with pytest.raises(InputError, match=r"30 of the 364 held-out images.*leave_out_copies"):
        evaluate(joined(train, shared[0]), held_out, generators, **arguments)
    found = evaluate(joined(train, shared[0]), held_out, generators, leave_out_copies=True, **arguments)
    report = report_of(found, sources=dict.fromkeys(generators, ""), classifier="tiny")
    data = asdict(report)["data"]
    assert (data["left_out"], data["repeated"], data["held_out_images"]) == (70, 5, 364)
    assert data["validation_images"] + data["test_images"] == 364 - 75
    (tmp_path / "README.md").write_text("# A generator")
    add_verdict(tmp_path / "README.md", report, "seen")
    card = (tmp_path / "README.md").read_text()
    assert "75 of the 364 held-out images were left out as copies: 70 of what " in card


def test_the_verdict_goes_on_the_card_and_replaces_an_older_one(found, tmp_path):
    report = report_of(found, sources=dict.fromkeys(NAMES, ""), classifier="tiny")
    make_generator().save_pretrained(tmp_path)
    card = tmp_path / "README.md"
    assert "Not measured yet" in card.read_text()
    card.write_text(card.read_text().replace("## Limits", "My own words.\n\n## Limits"))
    foreign = ModelCard(card.read_text())
    foreign.data.model_name = "mine"
    foreign.data.eval_results = [EvalResult("other", "data", "data", "accuracy", 0.5, task_name="somebody's")]
    card.write_text(str(foreign))

    for name in ("one picture", "copies"):
        add_verdict(card, report, name)
        text = card.read_text()
        verdict = report.generator(name).verdict
        assert text.count("<!-- ganaug evaluation: begin -->") == 1
        assert f"**{verdict.sentence}**" in text
        assert "Not measured yet" not in text
        assert "My own words." in text
    assert "100.0% are exact copies of training images" in text
    assert "one picture" not in text
    data = ModelCard(text).data
    assert data.model_name == "mine"
    ours = {result.metric_name: result.metric_value for result in data.eval_results if result.task_type != "other"}
    assert len(data.eval_results) == 1 + len(ours) == 7
    arms = {"with": report.arm(verdict.arm), "without": report.reference_arm}
    for which, arm in arms.items():
        assert ours[f"Accuracy, {arm.name} ({which} generated images)"] == round(arm.accuracy, 4)
        assert ours[f"Balanced accuracy, {arm.name} ({which} generated images)"] == round(arm.mean, 4)
    assert claimed_difference(text).estimate == round(verdict.difference.estimate, 4)
    for name in report.data.classes:
        recalls = " | ".join(f"{arms[which].recall[name]:.1%}" for which in ("without", "with"))
        assert f"| {name} | {recalls} | " in text
    assert data.tags[0] == "ganaug"


def test_a_card_without_a_place_for_it_gets_one(found, tmp_path):
    report = report_of(found, sources=dict.fromkeys(NAMES, ""), classifier="tiny")
    (tmp_path / "README.md").write_text("# A generator\n\nWith no metadata.\n")
    for _ in range(2):
        add_verdict(tmp_path / "README.md", report, "oracle")
    text = (tmp_path / "README.md").read_text()
    assert text.count("## Does it help a classifier?") == 1
    assert text.index("With no metadata.") < text.index("## Does it help")
    assert ModelCard(text).data.model_name == "oracle"


FLAGS = [
    "--dataset_name",
    "sklearn:digits",
    "--images_per_class",
    "12",
    "--steps",
    "4",
    "--max_steps",
    "4",
    "--seeds",
    "2",
    "--processes",
    "1",
]
FLAGS += ["--ratios", "0.5"]


@pytest.fixture
def digit_generator(tmp_path) -> Path:
    generator = make_generator(open_images("sklearn:digits").classes, image_size=8)
    generator.save_pretrained(tmp_path / "acgan")
    return tmp_path / "acgan"


def cells() -> dict[Path, int]:
    folder = Path(os.environ["XDG_CACHE_HOME"]) / "ganaug" / "evaluation"
    return {path: path.stat().st_mtime_ns for path in folder.glob("*.safetensors")}


def test_the_recipe_writes_report_and_card_and_goes_on_where_it_was(digit_generator, in_process, capsys):
    assert in_process("--generator", "acgan", *FLAGS, name="evaluate") is None
    printed = capsys.readouterr().out
    sentence = re.search(r"\nacgan: (.*)\n", printed)[1]
    assert "generator acgan: acgan-28, trained on other images than these, as far as it says. measured: " in printed
    answers = "helps|hurts|no worthwhile effect|cannot tell yet"
    assert re.match(rf"({answers}): [+-]\d+\.\d points \[-?\d+\.\d, -?\d+\.\d\] at ratio 0\.5", sentence)
    report = json.loads((digit_generator / "evaluation" / "report.json").read_text())
    assert report["generators"][0]["verdict"]["sentence"] == sentence
    assert [arm["generator"] for arm in report["arms"]] == [None, "acgan", "acgan"]
    tried = [trial["name"] for trial in report["search"]["trials"]]
    assert tried[:3] == ["real", "real + classic", "real + classic + TrivialAugment"]
    assert report["arms"][0]["name"] == report["reference"]
    assert as_shown(sentence) in (digit_generator / "evaluation" / "report.html").read_text()
    assert sentence in (digit_generator / "README.md").read_text()
    before = cells()
    assert len(before) >= report["cost"]["cells"]
    # Nothing is trained again. A card that cannot be read keeps nothing else back.
    broken = "---\ntags: [\n---\nMy own words."
    (digit_generator / "README.md").write_text(broken)
    assert in_process("--generator", "acgan", *FLAGS, "--output_dir", "again", name="evaluate") is None
    assert cells() == before
    again = json.loads(Path("again/report.json").read_text())
    assert again["arms"] == report["arms"]
    printed = capsys.readouterr().out
    assert "the verdict was not written into acgan/README.md: " in printed
    assert f"\nacgan: {sentence}\n" in printed
    assert "The report: again/report.html" in printed
    assert (digit_generator / "README.md").read_text() == broken


def test_the_recipe_refuses_what_the_generator_saw(digit_generator, in_process):
    generator = make_generator(open_images("sklearn:digits").classes, image_size=8)
    generator.seen_images = open_images("sklearn:digits", split="test").image_hashes.unique()
    generator.save_pretrained(digit_generator)
    message = in_process("--generator", "acgan", *FLAGS, name="evaluate")
    assert re.match(
        r"error: 359 of the 359 held-out images .* the generator was trained on.*leave_out_copies", message
    )
    message = in_process("--generator", "acgan", *FLAGS, "--leave_out_copies", name="evaluate")
    assert re.match(r"error: 36 of the 36 held-out images of class 0 .* leaves none; at least 3", message)
    assert not (digit_generator / "evaluation").exists()


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (
            ["--generator", "acgan", "--dataset_name", "sklearn:digits", "--images_per_class", "900"],
            "Ask for 139 at most",
        ),
        (
            ["--generator", "acgan", *FLAGS, "--output_dir", "acgan/config.json/x"],
            r"config\.json is a file\. Give another",
        ),
        (["--generator"], "names no generator"),
        (["--generator", "nowhere"], "no folder 'nowhere', and it is not a Hub id"),
        (["--generator", "acgan", *FLAGS, "--test_split", "spare"], "have the splits train and test, got 'spare'"),
        (["--generator", "acgan", *FLAGS, "--test_data_dir", "nowhere"], "no folder nowhere"),
        (["--generator", "acgan", *FLAGS, "--resolution", "0"], "resolution must be a positive number of pixels"),
        (["--generator", "acgan", *FLAGS, "--classifier", "resnet19"], "classifier 'resnet19' is not known"),
        (["--generator", "acgan", *FLAGS, "--vary", "0.5"], "acgan-28 cannot vary images: .* Give a flow"),
        (["--generator", "acgan", *FLAGS, "--vary", "2"], r"vary must be a number above 0 and up to 1, got 2\.0"),
    ],
)
def test_wrong_input_ends_in_a_line_that_helps(digit_generator, in_process, flags, message):
    assert re.search(message, in_process(*flags, name="evaluate"))


def test_classes_that_the_generator_does_not_draw(in_process, tmp_path):
    make_generator(("cat", "dog"), image_size=8).save_pretrained(tmp_path / "pets")
    message = in_process("--generator", "pets", *FLAGS, name="evaluate")
    assert re.match(r"error: pets does not draw 0, 1, .*\. It draws cat, dog; 8x8 digits .* has 0, 1", message)


def test_a_generator_that_draws_no_class_is_refused_with_a_way_on(in_process, tmp_path):
    with torch.random.fork_rng():
        DCGAN32Generator((), channels=1).save_pretrained(tmp_path / "plain")
    message = in_process("--generator", "plain", *FLAGS, name="evaluate")
    assert re.match(r"error: plain is unconditional, .*\. Give a conditional", message)


def test_held_out_images_of_another_form_are_refused(tmp_path):
    train, known, _, held_out = digits_in_parts(16, 16)
    double = replace(held_out, images=held_out.images.repeat(1, 1, 2, 2))
    with pytest.raises(InputError, match=r"\(1, 8, 8\)"):
        evaluate(train, double, {"it": Replay(known)}, factory=TinyClassifier, settings=SETTINGS, cache_dir=tmp_path)


def test_a_generator_is_named_once(tmp_path):
    with pytest.raises(InputError, match="twice"):
        by_short_names([tmp_path, "user/one", str(tmp_path)])
