"""The page of a run says what was trained, how it ended and why this generator was saved, and shows it in curves."""

from __future__ import annotations

import base64
import json
import re
from html import unescape
from xml.etree import ElementTree

import pytest
from helpers.programs import without_curves
from PIL import Image

from ganaug.hub.config import FORMAT_VERSION
from ganaug.training import write_run_page

GAN = {
    "D_loss": 1.5,
    "G_loss": 1.2,
    "D(x)": 0.6,
    "D(G(z))_before": 0.4,
    "D(G(z))_after": 0.45,
    "accuracy_real": 0.7,
    "accuracy_fake": 0.8,
}
SCORED = {"score": 0.5, "label_fidelity": 0.9, "class_diversity": 0.8, "closeness": 0.9, "usefulness": 0.8}


@pytest.fixture
def page(tmp_path):
    """Write the page of a run with these facts and rows of metrics; its text, and its plots by their titles."""

    def write(rows, classes=("cat", "dog"), **training):
        config = {
            "architecture": "acgan-28",
            "format_version": FORMAT_VERSION,
            "ganaug_version": "0.1.0",
            "label_names": list(classes),
            "image": {"size": 28, "channels": 1, "range": [-1, 1]},
            "network": {},
            "dataset": {
                "name": "pets",
                "fingerprint": "0" * 64,
                "num_images": 1200,
                "class_counts": dict.fromkeys(classes, 1200 // len(classes)),
            },
            "training": {"total_kimg": 10.0, "patience": None, "seconds": 5700.0, **training},
            "weights": {"sha256": "0" * 64, "num_parameters": 1, "dtype": "float32"},
        }
        (tmp_path / "training").mkdir(exist_ok=True)
        (tmp_path / "config.json").write_text(json.dumps(config))
        lines = "".join(json.dumps({"seconds": 1.0, **row}) + "\n" for row in rows)
        (tmp_path / "training" / "metrics.jsonl").write_text(lines)
        write_run_page(tmp_path)
        html = (tmp_path / "training" / "run.html").read_text()
        text = unescape(re.sub(r"\s+", " ", re.sub(r"<[^>]+>", "", re.sub("(?=</t[hd]>)", " ", html))))
        figures = re.findall(r'svg\+xml;base64,([^"]+)" alt="([^"]+)">\s*<figcaption><b>([^<]+)\.</b>', html)
        plots = {title: (base64.b64decode(svg).decode(), unescape(alt)) for svg, alt, title in figures}
        return text, plots

    return write


@pytest.fixture
def text_of(page, monkeypatch):
    """Write such a page without its curves; its text."""
    without_curves(monkeypatch)
    return lambda *args, **training: page(*args, **training)[0]


def test_a_whole_run(page):
    rows = [{"kimg": float(kimg), **GAN, **SCORED, "score": kimg / 20} for kimg in (5, 10)]
    text, _ = page(rows, chosen_after_kimg=10.0, candidates=2)
    assert "Trained to the end of its 10 kimg" in text
    assert "acgan-28 was trained on 1,200 images of 2 classes in about 1 h 35 min." in text
    assert "Of 2 generators scored on real images that were held back, it has the best score." in text


def test_the_headline_says_how_good_the_images_are_or_that_nobody_measured_it(text_of):
    rows = [{"kimg": float(kimg), **GAN, **SCORED, "score": kimg / 20} for kimg in (5, 10)]
    text = text_of(rows, chosen_after_kimg=10.0, candidates=2)
    assert "its 10 kimg, with a score of 0.5 out of 1" in text
    text = text_of([{"kimg": 10.0, "loss": 0.5}])
    assert "its 10 kimg, quality not measured" in text
    assert "ganaug evaluate" in text


def test_kimg_is_explained_before_it_is_used_and_written_in_one_way(text_of, tmp_path):
    (tmp_path / "samples").mkdir()
    for name in ("real", "000020kimg", "000067kimg"):
        Image.new("L", (8, 8)).save(tmp_path / "samples" / f"{name}.png")
    rows = [{"kimg": kimg, "loss": 0.5} for kimg in (20.032, 67.84)]
    text = text_of(rows, total_kimg=67.8, last_loss=0.5)
    assert "kimg: thousands of images shown in training." in text[: text.index("its 67.8 kimg")]
    assert "After 20 kimg" in text
    assert "After 67.8 kimg" in text
    assert "total kimg 67.8 " in text


@pytest.mark.parametrize(("count", "scrolls"), [(10, False), (100, True)])
def test_a_grid_of_many_classes_keeps_its_width(text_of, tmp_path, count, scrolls):
    (tmp_path / "samples").mkdir()
    Image.new("L", (8, 8)).save(tmp_path / "samples" / "real.png")
    text_of([{"kimg": 10.0, "loss": 0.5}], classes=[f"class {k}" for k in range(count)])
    html = (tmp_path / "training" / "run.html").read_text()
    assert ('class="scroll" tabindex="0" role="region" aria-label="Grid, real images"' in html) == scrolls


def test_settings_are_those_that_this_model_has(text_of):
    recorded = {"discriminator_steps": 1, "discriminator_learning_rate": None, "fake_labels": "drawn", "augment": []}
    text = text_of([{"kimg": 10.0, "loss": 0.5}], **recorded, last_loss=0.5)
    assert "discriminator" not in text
    assert "fake labels" not in text
    text = text_of([{"kimg": 10.0, **GAN}], **recorded, last_D_loss=0.5)
    assert "discriminator steps 1 " in text
    assert "fake labels drawn " in text
    for unset in ("discriminator learning rate", "augment", "patience"):
        assert unset not in text


def test_a_run_whose_config_says_minutes_as_earlier_ones_do(text_of):
    text = text_of([{"kimg": 10.0, **GAN}], seconds=None, minutes=1.5)
    assert "of 2 classes in about 1 min 30 s." in text
    text = text_of([{"kimg": 10.0, **GAN}], seconds=None)
    assert "of 2 classes." in text


def test_a_run_that_stopped_early(text_of):
    rows = [{"kimg": float(kimg), **GAN, "score": score} for kimg, score in ((2, 0.5), (4, 0.3), (6, 0.2))]
    text = text_of(rows, chosen_after_kimg=2.0, candidates=3, patience=2)
    assert "Stopped early, after 6 of 10 kimg" in text
    assert "until 2 scores in a row were no better than an earlier one." in text


def test_how_a_run_ended_is_not_guessed_where_lines_are_missing(text_of):
    text = text_of([{"kimg": 4.0, **SCORED}], chosen_after_kimg=6.0, candidates=3, patience=2)
    assert "Stopped early" not in text
    assert "Trained on a budget of 10 kimg" in text


def test_signs_of_failure_at_the_end_are_in_the_headline(page):
    text, plots = page([{"kimg": 5.0, **GAN, "diversity": 1.0}, {"kimg": 10.0, **GAN, "diversity": 0.1}])
    assert text.count("At the end, images of a class are nearly one picture") == 1
    assert "Diversity" in plots
    text, _ = page([{"kimg": 5.0, **GAN, "diversity": 0.1}, {"kimg": 10.0, **GAN, "diversity": 1.0}])
    assert "At the end," not in text


def test_scores_of_0_are_no_reason(text_of):
    rows = [{"kimg": float(kimg), **GAN, **SCORED, "score": 0.0} for kimg in (5, 10)]
    text = text_of(rows, chosen_after_kimg=10.0, candidates=2)
    assert "all score 0, which says nothing about which is better, and this is the last one." in text
    assert "within 5 % of that" not in text


def test_steps_that_were_taken_again_count_once(page):
    """A run that goes back to a checkpoint logs the same kimg a second time."""
    rows = [{"kimg": kimg, "loss": loss, "score": 0.9 * loss} for kimg, loss in ((2.0, 0.9), (4.0, 1.0), (6.0, 0.7))]
    again = [{"kimg": kimg, "loss": loss, "score": loss / 2} for kimg, loss in ((4.0, 0.6), (6.0, 0.5), (10.0, 0.4))]
    text, plots = page([*rows, *again], chosen_after_kimg=2.0, candidates=4)
    assert "It diverged and went back to a checkpoint once with half the learning rate." in text
    assert "Of 4 generators scored" in text
    assert plots["Loss"][1] == "Loss over kimg; loss: 0.9 at first, 0.4 at last."


@pytest.mark.parametrize(
    ("monitors", "titles"),
    [
        ({"loss": 0.5}, ["Loss"]),
        (GAN, ["Losses", "What the discriminator says", "How often the discriminator is right"]),
        ({"loss": 0.5, "score": 0.1, "class_diversity": 0.2, "closeness": 0.5}, ["Score", "Loss"]),
    ],
)
def test_each_plot_has_its_own_lines_and_caption(page, monitors, titles):
    text, plots = page([{"kimg": 5.0, **monitors}, {"kimg": 10.0, **monitors}])
    assert list(plots) == titles
    assert "label fidelity" not in "".join(svg for svg, _ in plots.values())
    assert "The dashed line" not in text  # there was no choice
    for svg, _ in plots.values():
        width = float(ElementTree.fromstring(svg).attrib["viewBox"].split()[2])
        sizes = [float(size) for size in re.findall(r"font(?:-size)?: (?:\w+ )*([\d.]+)px", svg)]
        assert min(sizes) * 358 / width >= 12  # px on a phone, which gives a page 358


def test_the_dashed_line_is_explained_where_there_is_one(text_of):
    rows = [{"kimg": float(kimg), **GAN, **SCORED} for kimg in (5, 10)]
    text = text_of(rows, chosen_after_kimg=10.0, candidates=2)
    assert "The dashed line is the generator that was saved." in text
