"""The generator that a run keeps is the one with the best score, however the run got to its end."""

from __future__ import annotations

import json
import os
import re
import signal
from html import unescape

import pytest
import torch
from helpers.images import small_images, write_class_folders
from helpers.killed import DIGITS, HELD_OUT, new_trainer
from helpers.programs import as_a_program, without_curves
from PIL import Image
from safetensors.torch import load_file

from ganaug import Generator, InputError
from ganaug.training import RunFolder, StoppedError, find_checkpoint, open_checkpoint, selection, train
from ganaug.training.run_page import write_run_page

HEALTHY, COLLAPSED = {"diversity": 1.0}, {"diversity": 0.1}
EVERY = 2 * 8 / 1000  # kimg: every second step


@pytest.fixture
def run(tmp_path, monkeypatch):
    """Train 12 steps in a folder; the candidates' scores are told, one after the other."""

    def go(scores, folder="run", *, signs=(), resume=None, steps=12, **settings):
        told = iter(scores)

        def score(generator):
            value = next(told)
            if isinstance(value, signal.Signals):
                os.kill(os.getpid(), value)
            return {"score": value, "label_fidelity": value}

        monkeypatch.setattr(selection, "GeneratorScore", lambda *_, **__: score)
        trainer = new_trainer("acgan-28", "no", steps, evaluation_kimg=EVERY, **settings)
        look, looks = trainer.closer_look, iter(signs)
        monkeypatch.setattr(trainer, "closer_look", lambda: look() | next(looks, HEALTHY))
        after = None if resume is None else resume.facts["kimg"]
        run = RunFolder(tmp_path / folder, after_kimg=after)
        trained = train(trainer, run, resume=resume, held_out=HELD_OUT)
        assert list(told) == []
        return trainer, trained

    with as_a_program():
        yield go


def rows(folder):
    return [json.loads(line) for line in (folder / "training" / "metrics.jsonl").read_text().splitlines()]


def same(ours, theirs):
    return ours.keys() == theirs.keys() and all(torch.equal(ours[name], theirs[name]) for name in ours)


def test_the_best_of_a_run_is_saved_and_the_last_one_too(run, tmp_path):
    trainer, trained = run([0.1, 0.7, 0.67, 0.4, 0.66, 0.2], checkpoints_total_limit=9)
    folder = tmp_path / "run"
    third = open_checkpoint(folder / "training" / "checkpoints" / "step-00000006").state()
    assert same(
        load_file(folder / "model.safetensors"), third["average"]
    )  # the last that is nearly as good as the best
    assert same(dict(trained.state_dict()), third["average"])
    last = Generator.from_pretrained(folder / "training" / "last")
    assert same(dict(last.state_dict()), dict(trainer.averaged_generator.state_dict()))
    assert not same(dict(last.state_dict()), third["average"])
    facts = Generator.from_pretrained(folder).info["training"]
    assert (facts["chosen_after_kimg"], facts["chosen_score"], facts["candidates"]) == (3 * EVERY, 0.67, 6)
    assert "chosen_score" not in last.info["training"]
    assert [row["score"] for row in rows(folder) if "score" in row] == [0.1, 0.7, 0.67, 0.4, 0.66, 0.2]
    assert len(list((folder / "samples").glob("*kimg.png"))) >= 1
    # What a choice was made by is not held out any more.
    for generator in (trained, last):
        assert torch.isin(torch.cat([HELD_OUT.image_hashes, DIGITS.image_hashes]), generator.seen_images).all()


def test_a_generator_with_signs_of_failure_is_the_last_choice(run, tmp_path, caplog):
    run([0.1, 0.3, 0.9], signs=[HEALTHY, HEALTHY, COLLAPSED], steps=6)
    assert Generator.from_pretrained(tmp_path / "run").info["training"]["chosen_score"] == 0.3
    assert "images of a class are nearly one picture" in caplog.text
    run([0.1, 0.3, 0.9], "all", signs=[COLLAPSED] * 3, steps=6)
    assert Generator.from_pretrained(tmp_path / "all").info["training"]["chosen_score"] == 0.9


def test_patience_ends_a_run_without_checkpoints(run, tmp_path):
    run([0.5, 0.1], patience=1, checkpointing_kimg=None)
    assert Generator.from_pretrained(tmp_path / "run").info["training"]["chosen_score"] == 0.5
    assert not (tmp_path / "run" / "training" / "checkpoints").exists()


def test_patience_ends_a_run(run, tmp_path):
    run([0.2, 0.5, 0.1, 0.4], patience=2)
    folder = tmp_path / "run"
    checkpoint = find_checkpoint(folder)
    assert checkpoint.step == 8
    assert Generator.from_pretrained(folder).info["training"]["chosen_after_kimg"] == 2 * EVERY
    before = load_file(folder / "model.safetensors")
    run([], resume=checkpoint, patience=2)  # there is nothing left to do
    assert same(load_file(folder / "model.safetensors"), before)
    run([0.6, 0.1], resume=checkpoint)
    assert Generator.from_pretrained(folder).info["training"]["chosen_after_kimg"] == 5 * EVERY


def test_a_resumed_run_knows_the_candidates_before_it(run, tmp_path):
    run([0.1, 0.8, 0.3, 0.4, 0.6, 0.2], checkpoints_total_limit=9)
    whole = load_file(tmp_path / "run" / "model.safetensors")
    (tmp_path / "run" / "model.safetensors").unlink()
    middle = open_checkpoint(tmp_path / "run" / "training" / "checkpoints" / "step-00000008")
    _, trained = run([0.6, 0.2], resume=middle, checkpoints_total_limit=9)
    assert same(dict(trained.state_dict()), whole)
    assert trained.info["training"]["candidates"] == 6
    # One that was better in steps that are taken anew does not count before they are.
    early = open_checkpoint(tmp_path / "run" / "training" / "checkpoints" / "step-00000002")
    expected = early.state()["average"]
    _, trained = run([0.01, 0.02, 0.03, 0.04, 0.05], resume=early)
    assert same(dict(trained.state_dict()), expected)


def test_a_signal_breaks_off_a_score_which_is_made_up_for(run, tmp_path):
    run([0.1, 0.4, 0.8, 0.2, 0.3, 0.6], "whole")
    whole = load_file(tmp_path / "whole" / "model.safetensors")
    last = load_file(tmp_path / "whole" / "training" / "last" / "model.safetensors")
    with pytest.raises(StoppedError, match="SIGTERM.*step-00000006"):
        run([0.1, 0.4, signal.SIGTERM])
    checkpoint = find_checkpoint(tmp_path / "run")
    assert [found["step"] for found in checkpoint.facts["candidates"]] == [2, 4]
    with pytest.raises(StoppedError):  # where it makes up for it, too
        run([signal.SIGINT], resume=checkpoint)
    assert find_checkpoint(tmp_path / "run").path == checkpoint.path
    run([0.8, 0.2, 0.3, 0.6], resume=checkpoint)
    assert same(load_file(tmp_path / "run" / "model.safetensors"), whole)
    assert same(load_file(tmp_path / "run" / "training" / "last" / "model.safetensors"), last)
    scored = [(row["kimg"], row["score"]) for row in rows(tmp_path / "run") if "score" in row]
    assert scored == [(row["kimg"], row["score"]) for row in rows(tmp_path / "whole") if "score" in row]


def test_a_run_that_goes_back_forgets_the_candidates_on_the_way(run, tmp_path, monkeypatch):
    monkeypatch.setattr("ganaug.training.recovery.Recovery.PATIENCE", 2)
    scores = iter([0.1, 0.2, 0.9, 0.3, 0.4, 0.5, 0.6, 0.7])
    monkeypatch.setattr(selection, "GeneratorScore", lambda *_, **__: lambda generator: {"score": next(scores)})
    trainer = new_trainer("acgan-28", "no", 12, evaluation_kimg=EVERY, checkpointing_kimg=2 * EVERY)
    shown, slow = trainer.batches.real, []

    def real(number, part):
        images, labels = shown(number, part)
        slow.append(trainer.learning_rate_factor)
        return (images * float("nan") if number >= 6 and slow[-1] == 1 else images), labels

    monkeypatch.setattr(trainer.batches, "real", real)
    train(trainer, RunFolder(tmp_path / "run"), held_out=HELD_OUT)
    # Scored after 2, 4 and 6 steps, back to 4, and on: 6 is scored anew.
    found = find_checkpoint(tmp_path / "run").facts["candidates"]
    assert [(each["step"], each["scores"]["score"]) for each in found] == [
        (2, 0.1),
        (4, 0.2),
        (6, 0.3),
        (8, 0.4),
        (10, 0.5),
        (12, 0.6),
    ]


@pytest.fixture
def quick_score(monkeypatch):
    for name, value in (("STEPS", 5), ("REFERENCE_STEPS", 5), ("IMAGES", 40)):
        monkeypatch.setattr(f"ganaug.evaluation.generator_score.{name}", value)


@pytest.mark.usefixtures("quick_score")
@pytest.mark.parametrize("model", ["acgan-28", "flow"])
def test_scoring_leaves_training_as_it_is(tmp_path, model):
    """With the real score, which trains classifiers and draws."""
    with as_a_program():
        plain, scored = (new_trainer(model, "no", 6, evaluation_kimg=EVERY) for _ in range(2))
        train(plain, RunFolder(tmp_path / "plain"))
        train(scored, RunFolder(tmp_path / "scored"), held_out=HELD_OUT)
    ours, theirs = plain.state(), scored.state()
    assert all(same(ours[part], theirs[part]) for part in ours)
    assert {"score", "label_fidelity", "class_diversity"} <= rows(tmp_path / "scored")[-1].keys()
    assert not (tmp_path / "plain" / "training" / "last").exists()


def test_held_out_images_must_fit(tmp_path):
    with as_a_program(), pytest.raises(InputError, match="cannot be compared"):
        train(new_trainer("acgan-28", "no", 4, evaluation_kimg=EVERY), None, held_out=small_images(30))


def test_the_page_of_a_run_says_which_one_was_chosen_and_why(run, tmp_path, monkeypatch):
    run([0.1, 0.51, 0.4, 0.9], signs=[HEALTHY, HEALTHY, HEALTHY, COLLAPSED], steps=8, sample_kimg=EVERY)
    write_run_page(tmp_path / "run")
    html = (tmp_path / "run" / "training" / "run.html").read_text()
    text = unescape(re.sub(r"\s+", " ", re.sub(r"<[^>]+>", " ", html)))
    assert "kimg, with a score of 0.51 out of 1" in text
    assert "generator that was saved is the one after 0.032 kimg;" in text
    assert "Of 4 generators scored" in text
    assert "held back, 3 show no signs that training failed; of these, it has the best score." in text
    assert "The last generator of the run, after 0.064 kimg, scores 0.9; it is in training/last." in text
    assert html.count('class="primary"') == 1
    assert "nearly one picture" in text
    assert 'src="http' not in html
    with Image.open(tmp_path / "run" / "training" / "curves.png") as picture:
        assert picture.width > 500
    run([0.9, 0.88], "nearly", steps=4)
    without_curves(monkeypatch)
    write_run_page(tmp_path / "nearly")
    told = (tmp_path / "nearly" / "training" / "run.html").read_text()
    assert "held back, the best scores 0.9, and this is the last one within 5 % of that." in told
    assert "scores 0.1; it is in training/last" not in told


def test_the_page_of_a_run_without_a_choice_says_so(tmp_path, monkeypatch):
    without_curves(monkeypatch)
    with as_a_program():
        train(new_trainer("flow", "no", 4), RunFolder(tmp_path / "run"))
    write_run_page(tmp_path / "run")
    text = (tmp_path / "run" / "training" / "run.html").read_text()
    assert "kimg, quality not measured</h2>" in text
    assert "is the last one;" in text
    assert "<h2>The choice</h2>" not in text


@pytest.mark.usefixtures("quick_score")
def test_the_recipe_holds_back_a_tenth_where_there_is_a_choice(in_process, tmp_path, capsys):
    flags = ["--dataset_name", "sklearn:digits", "--model", "acgan-28", "--train_batch_size", "16"]
    flags += ["--total_kimg", "0.064", "--cpu_threads", "1", "--latent_dim", "8"]
    held_back = r"held back, to choose a generator by: .*held-out part: \(143,"
    assert in_process(*flags, "--images_per_class", "5", name="train_acgan") is None
    assert "so the last one is saved" in capsys.readouterr().out
    one_class = small_images(300, classes=1)
    write_class_folders(tmp_path / "photos", one_class)
    assert in_process("--train_data_dir", "photos", *flags[2:], name="train_acgan") is None
    assert "so the last one is saved" in capsys.readouterr().out
    assert in_process(*flags, name="train_acgan") is None  # it may be trained further
    assert re.search(held_back, capsys.readouterr().out)
    folder = tmp_path / "outputs" / "acgan-28-3"
    assert "candidates" not in Generator.from_pretrained(folder).info["training"]
    longer = ["--resume_from_checkpoint", str(folder), "--total_kimg", "0.16", "--evaluation_kimg", "0.048"]
    assert in_process(*longer, "--override", name="train_acgan", page=True) is None
    assert re.search(held_back, capsys.readouterr().out)
    info = Generator.from_pretrained(folder).info
    assert info["dataset"]["num_images"] == 1438 - 143
    assert info["training"]["candidates"] == 3  # after 96, 144 and 160 images
    assert (folder / "training" / "run.html").exists()
