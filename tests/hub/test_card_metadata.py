"""What a generator's card says to machines: task, library and tags, and results that leaderboards can read."""

from __future__ import annotations

import re
import shutil
from dataclasses import replace

import pytest
import yaml
from helpers.generators import make_generator
from helpers.verdict_example import example_verdict
from huggingface_hub import EvalResult, ModelCard
from huggingface_hub.repocard_data import eval_results_to_model_index, model_index_to_eval_results

from ganaug.hub.card import CardDifference, claimed_difference, published_card, write_verdict

METRICS = {"accuracy", "recall"}  # those of https://hf.co/metrics that we use
OLD_DIFFERENCE = "Difference made by generated images"


@pytest.fixture
def card(generator_folder, tmp_path):
    return shutil.copytree(generator_folder, tmp_path / "folder") / "README.md"


def metadata_of(text: str) -> dict:
    return yaml.safe_load(text.split("---\n", 2)[1])


def results_of(text: str) -> list[tuple]:
    return [
        (each.metric_type, each.metric_name, each.metric_value) for each in ModelCard(text).data.eval_results or []
    ]


def add_old_results(card) -> None:
    """What ganaug 0.1 wrote into the model-index, and a result of somebody else's."""
    values = {
        "Balanced accuracy, real (without generated images)": 0.7,
        "Balanced accuracy, real + 30 % generated": 0.78,
        "Balanced accuracy, generated only (CAS)": 0.6,
        OLD_DIFFERENCE: 0.08,
        f"{OLD_DIFFERENCE}, lower end of its 95 % interval": 0.05,
        f"{OLD_DIFFERENCE}, upper end of its 95 % interval": 0.11,
    }
    old = ModelCard(card.read_text())
    old.data.model_name = "mine"
    old.data.eval_results = [EvalResult("other", "data", "data", "wer", 0.5, metric_name="somebody's")] + [
        EvalResult(
            "image-classification", "images", "photos", "balanced_accuracy", value,
            task_name="Image classification with generated training images (ganaug)",
            dataset_config="10 training images", dataset_split="held out", metric_name=name,
        )
        for name, value in values.items()
    ]  # fmt: skip
    card.write_text(str(old))


def test_a_new_card_is_found_by_task_library_and_kind(card):
    data = ModelCard(card.read_text()).data
    assert (data.library_name, data.pipeline_tag) == ("ganaug", "unconditional-image-generation")
    assert {"ganaug", "acgan-28", "class-conditional", "data-augmentation"} == set(data.tags)
    assert data.eval_results is None


def test_leaderboards_read_accuracies_with_generated_images_and_without(card):
    write_verdict(card, example_verdict())
    text = card.read_text()
    assert results_of(text) == [
        ("accuracy", "Accuracy, tiny + 30 % generated (with generated images)", 0.81),
        ("recall", "Balanced accuracy, tiny + 30 % generated (with generated images)", 0.8),
        ("accuracy", "Accuracy, tiny (without generated images)", 0.74),
        ("recall", "Balanced accuracy, tiny (without generated images)", 0.72),
        ("accuracy", "Accuracy, tiny only (CAS)", 0.61),
        ("recall", "Balanced accuracy, tiny only (CAS)", 0.6),
    ]
    index = metadata_of(text)["model-index"]
    assert eval_results_to_model_index(*model_index_to_eval_results(index)) == index
    ((task, metrics),) = [(each["task"]["type"], each["metrics"]) for each in index[0]["results"]]
    assert task == "image-classification"
    assert {metric["type"] for metric in metrics} == METRICS
    assert all(
        metric.get("args") == ({"average": "macro"} if metric["type"] == "recall" else None) for metric in metrics
    )
    assert claimed_difference(text) == CardDifference(0.08, 0.05, 0.11)
    assert metadata_of(text)["ganaug_difference"] == {"estimate": 0.08, "low": 0.05, "high": 0.11}


def test_results_on_a_dataset_of_the_hub_name_it(card):
    commit = "0123456789" * 4
    write_verdict(card, example_verdict(data=f"HF dataset ylecun/mnist@{commit}, split train"))
    for each in ModelCard(card.read_text()).data.eval_results:
        assert (each.dataset_type, each.dataset_revision) == ("ylecun/mnist", commit)


def test_an_older_card_is_published_in_todays_form_without_loss(card):
    add_old_results(card)
    old = card.read_text()
    assert claimed_difference(old) == CardDifference(0.08, 0.05, 0.11)
    for theirs in (None, old):
        new = published_card(old, theirs, licence=None)
        assert claimed_difference(new) == claimed_difference(old)
        kept = [result for result in results_of(old) if OLD_DIFFERENCE not in result[1]]
        assert len(kept) == 4
        assert sorted(results_of(new)) == sorted(kept)
        assert new.split("---\n", 2)[2] == old.split("---\n", 2)[2]
        rest = {"model-index", "ganaug_difference"}
        assert {k: v for k, v in metadata_of(new).items() if k not in rest} == {
            k: v for k, v in metadata_of(old).items() if k not in rest
        }
        assert published_card(new, new, licence=None) == new


def test_a_new_verdict_replaces_an_older_ones_results_alone(card):
    add_old_results(card)
    write_verdict(card, example_verdict())
    results = results_of(card.read_text())
    assert results[0] == ("wer", "somebody's", 0.5)
    assert {metric for metric, *_ in results[1:]} == METRICS
    assert len(results) == 7
    once = card.read_text()
    write_verdict(card, example_verdict())
    assert card.read_text() == once


def test_other_weights_have_no_verdict(card):
    write_verdict(card, example_verdict())
    make_generator(image_size=32).save_pretrained(card.parent)
    assert results_of(card.read_text()) == []
    assert claimed_difference(card.read_text()) is None
    assert "Not measured yet" in card.read_text()


def test_a_card_that_is_published_again_says_what_the_folder_says(card):
    measured = card.with_name("measured.md")
    measured.write_text(card.read_text())
    write_verdict(measured, example_verdict())
    for ours, theirs in ((measured, card), (card, measured)):
        published = published_card(ours.read_text(), theirs.read_text(), licence=None)
        assert claimed_difference(published) == claimed_difference(ours.read_text())
        assert results_of(published) == results_of(ours.read_text())


def test_the_verdict_names_classes(card):
    write_verdict(card, replace(example_verdict("cat"), lowest_diversity_class="cat"))
    text = card.read_text()
    assert "The least diverse class, cat, has" in text
    assert "| cat | 70.0% | 80.0% | 90.0% | 0.50 |\n| dog | 74.0% | 80.0% | 90.0% | not measured |\n" in text


def test_variations_of_training_images_are_not_taken_for_memorised_ones(card):
    write_verdict(card, replace(example_verdict(), near_copies=0.4))
    assert "40.0% near\nones, of which an honest generator has about 1 %." in card.read_text(encoding="utf-8")
    write_verdict(card, replace(example_verdict(), near_copies=0.4, varied=True))
    assert "40.0% near\nones; all generated images are variations of these." in card.read_text(encoding="utf-8")
    assert "honest" not in card.read_text(encoding="utf-8")


def test_the_example_on_the_card_asks_for_a_class_by_name(tmp_path):
    generator = make_generator(("tabby cat", "dog's"), image_size=8)
    generator.save_pretrained(tmp_path)
    (line,) = re.findall(r"^images = .*$", (tmp_path / "README.md").read_text(), re.MULTILINE)
    assert "['tabby cat'] * 10" in line
    names = {"generator": generator}
    exec(line, names)
    assert names["images"].shape == (10, 1, 8, 8)
