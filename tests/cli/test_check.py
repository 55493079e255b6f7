"""``ganaug check``: what is wrong with a folder, what a training takes and would bring, and what to type next."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from helpers.images import small_images, write_class_folders
from helpers.programs import as_a_program
from PIL import Image

from ganaug.cli import check, main
from ganaug.cli.evaluate import EvaluateArguments
from ganaug.cli.flags import parse
from ganaug.cli.train import TrainArguments
from ganaug.cli.train_flags import parse_training
from ganaug.training import preflight


@pytest.fixture
def checked(capsys, monkeypatch) -> Callable[..., tuple[str, list[str]]]:
    """Run the command without timing anything: what it says in one line, and the commands to type next.

    Each of those can be typed: a shell reads it as one command, and the command reads its flags.
    """
    monkeypatch.setattr(preflight, "FEW_STEPS", 10**9)

    def run(*words: str) -> tuple[str, list[str]]:
        with as_a_program():
            main(["check", *words])
        told = capsys.readouterr().out
        assert all(len(line) <= check.WIDTH or "/" in line for line in told.splitlines())  # long paths are left whole
        what, _, following = told.partition("\nNext")
        typed = [" ".join(line.split()) for line in following.replace("\\\n", "").splitlines() if line.startswith(" ")]
        commands = [line for line in typed if line.startswith("ganaug ")]
        advice = " ".join(following.split())
        assert ("add --augment flip to the training" in advice) == bool(commands)
        assert ("--horizontal_flip" in advice) == any(line.startswith("ganaug evaluate") for line in commands)
        for command in commands:
            _, name, *flags = shlex.split(command)
            reads, arguments = {"train": (parse_training, TrainArguments), "evaluate": (parse, EvaluateArguments)}[
                name
            ]
            with as_a_program():
                assert reads(arguments, words=flags).budget_minutes
        return " ".join(what.split()), commands

    return run


@pytest.fixture
def photos(tmp_path, monkeypatch) -> Path:
    """Folders photos/train and photos/test, of 40 and 20 images."""
    monkeypatch.chdir(tmp_path)
    train, test = small_images().split(1 / 3)
    write_class_folders(tmp_path / "photos" / "train", train)
    write_class_folders(tmp_path / "photos" / "test", test)
    (tmp_path / "photos.zip").touch()
    return Path("photos")


def test_a_good_folder_has_no_warning(checked, photos):
    told, following = checked("photos")
    assert "!" not in told
    assert "class training held out class 0 13 7 class 1 13 7 class 2 13 7" in told
    assert "Sizes: 12x12 (39); looked at as 12x12" in told
    assert "None of the 21 held-out images is a copy" in told
    assert re.search(r"preset: flow, 60 kimg \(60,000 images shown in training\)\. .* takes: .* measured: ", told)
    assert "too few images, or too little training? " in told
    assert "ganaug evaluate says what it takes before it starts" in told
    assert following == [
        "ganaug train --train_data_dir photos --output_dir outputs/photos --budget_minutes 20",
        "ganaug evaluate --generator outputs/photos --budget_minutes 30 --train_data_dir photos",
    ]


def test_what_is_wrong_is_marked_and_the_next_command_deals_with_it(checked, photos):
    (photos / "train" / "class 0" / "broken.png").write_bytes(b"no image")
    (photos / "train" / "class 0" / "notes.txt").touch()
    (photos / "train" / "class 3").mkdir()
    Image.new("L", (6, 4), 200).save(photos / "train" / "class 1" / "wide.png")
    for number in range(50):
        Image.new("L", (12, 12), number).save(photos / "train" / "class 2" / f"more{number}.png")
    first = next((photos / "train" / "class 0").glob("0*.png"))
    shutil.copy(first, first.with_name("again.png"))
    shutil.copy(first, photos / "train" / "class 1" / "other.png")
    shutil.copy(first, photos / "test" / "class 2" / "leak.png")
    told, following = checked("photos", "--resolution", "12")
    for warning in (
        r"! Not square: 1 of 92 images",
        r"! Smaller than 12x12: 1 of 92 images",
        r"! Unreadable: 1 image\. .* The first: photos/train/class 0/broken\.png: ",
        r"Left out: 1 without an image's extension \(\.txt\)",
        r"! No image of class 3",
        r"! Copies within a class: 1 image \(every pixel equal at 12x12\)",
        r"! Contradicting labels: 1 image .* The first: \S+ 0/(0\d+|again)\.png and \S+ 1/other\.png",
        r"! Leak: 1 of 22 held-out images \(4\.5%\) .* photos/test/class 2/leak\.png",
    ):
        assert re.search(warning, told), told
    flags = "--train_data_dir photos --resolution 12 --skip_bad_images"
    assert following == [
        f"ganaug train {flags} --output_dir outputs/photos --budget_minutes 20",
        f"ganaug evaluate --generator outputs/photos --budget_minutes 30 {flags} --leave_out_copies",
    ]


@pytest.mark.parametrize("copied", [4, 5, 7])
def test_no_evaluation_is_offered_that_would_be_refused(checked, photos, copied):
    """Of the seven held-out images of a class."""
    for path in sorted((photos / "test" / "class 1").iterdir())[:copied]:
        shutil.copy(path, photos / "train" / "class 1" / f"again {path.name}")
    told, following = checked("photos")
    assert ("ganaug evaluate" in " ".join(following)) == (7 - copied >= 3)
    assert ("an evaluation: trains dozens" in told) == (7 - copied >= 3)
    assert (f"! Too few held-out images: class 1 ({7 - copied})." in told) == (7 - copied < 3)


def test_transparent_images_are_a_warning_that_says_what_they_are_put_on(checked, photos):
    for number in range(2):
        Image.new("RGBA", (12, 12), (9, number, 9, 99)).save(photos / "train" / "class 0" / f"alpha{number}.png")
    told, _ = checked("photos", "--background", "#102030")
    assert "! Transparent: 2 of 41 images, put on #102030 (--background)." in told


def test_long_commands_are_broken_where_a_shell_reads_on(checked, photos, capsys):
    far = Path("a folder with a long name", "and another folder with a long name", "train")
    far.parent.mkdir(parents=True)
    (photos / "train").rename(far)
    _, following = checked(str(far), "--test_data_dir", "photos/test", "--resolution", "12")
    assert following == [
        f"ganaug train --train_data_dir '{far}' --resolution 12 "
        "--output_dir 'outputs/and another folder with a long name' --budget_minutes 20",
        "ganaug evaluate --generator 'outputs/and another folder with a long name' --budget_minutes 30 "
        f"--train_data_dir '{far}' --resolution 12 --test_data_dir photos/test",
    ]


@pytest.mark.skipif(shutil.which("bash") is None or os.name == "nt", reason="asks bash, about names Windows has not")
def test_a_name_that_would_move_the_cursor_is_spelt_out_and_still_pasted():
    words = ["--train_data_dir", "it's \x1b[2J a\nb\\ $HOME \u202e猫 5\x01f", "c:\udc80"]
    typed = check.broken([["printf", r"%s\0"], words])
    assert all(line.isprintable() for line in typed.splitlines())
    read = subprocess.run(["bash", "-c", typed], stdout=subprocess.PIPE, check=True).stdout
    assert [os.fsdecode(word) for word in read.split(b"\0")[:-1]] == words


def test_the_next_evaluation_is_of_the_run_that_comes_next_and_reads_what_is_there(checked, photos):
    (photos / "test" / "class 0" / "broken.png").write_bytes(b"no image")
    Path("outputs/photos/training").mkdir(parents=True)
    _, following = checked("photos", "--images_per_class", "9")
    flags = "--train_data_dir photos --images_per_class 9"
    assert following == [
        f"ganaug train {flags} --output_dir outputs/photos-2 --budget_minutes 20",
        f"ganaug evaluate --generator outputs/photos-2 --budget_minutes 30 {flags} --skip_bad_images",
    ]
    assert list(Path("outputs").iterdir()) == [Path("outputs/photos")]


def test_few_images_are_those_that_are_trained_on(checked, photos):
    assert "! Few images: class 0 (4), class 1 (4), class 2 (4)" in checked("photos", "--images_per_class", "4")[0]


def test_classes_that_are_small_are_named(checked, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write_class_folders(tmp_path / "photos", small_images(n=45, classes=1))
    write_class_folders(tmp_path / "photos", small_images(n=6, classes=3, seed=1))
    told, following = checked("photos", "--classes", "class 0", "class 1")
    assert "! Imbalanced: class 0 has 45 different images and class 1 2" in told
    assert "! Few images: class 1 (2). Nothing was measured with fewer than" in told
    assert "! No held-out images: class folders photos" in told or "! No held-out images: photos has no split" in told
    assert following == [
        "ganaug train --train_data_dir photos --classes 'class 0' 'class 1' --output_dir outputs/photos "
        "--budget_minutes 20"
    ]
    assert "! There is one class" in checked("photos", "--classes", "class 0")[0]


def test_images_of_different_sizes_get_a_resolution_that_the_preset_draws(checked, photos, tmp_path):
    Image.new("L", (300, 200)).save(photos / "train" / "class 1" / "large.png")
    told, following = checked("photos")
    assert "Sizes: 12x12 (39), 300x200 (1); looked at as 12x12" in told
    assert following[0].startswith("ganaug train --train_data_dir photos --resolution 12 ")
    held_out = str(photos / "test")
    told, following = checked(str(photos / "train"), "--test_data_dir", held_out, "--resolution", "9")
    assert "! Images like these cannot be trained on: flow enlarges 2 times" in told
    assert not following


def test_many_classes_are_listed_in_short(checked, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write_class_folders(tmp_path / "photos", small_images(n=check.MOST_CLASSES + 9, classes=check.MOST_CLASSES + 4))
    told, _ = checked("photos")
    assert "and 4 more with 1 image each" in told
    assert "class 9 " not in told


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["photos", "--train_data_dir", "photos"], "give the folder once"),
        (["nowhere"], "no folder nowhere"),
        (["photos.zip"], "photos.zip is a file"),
        (["--dataset_name", "photos.zip"], "photos.zip is a file"),
        (["photos", "--test_split", "nowhere"], "has no split 'nowhere'"),
        (["photos", "--resolution", "0"], "resolution must be a positive number of pixels, got 0"),
        (["photos", "--images_per_class", "99"], "images_per_class is 99"),
        (["photos", "--test_data_dir", "nowhere"], "no folder nowhere"),
        (["photos", "--dataset_name", "sklearn:digits"], "not both"),
    ],
)
def test_images_that_cannot_be_opened_end_it_in_a_line(photos, capsys, words, message):
    with as_a_program(), pytest.raises(SystemExit) as ended:
        main(["check", *words])
    assert re.match(rf"error: .*{message}", ended.value.code)
    assert not capsys.readouterr().out


@pytest.mark.parametrize("name", ["a\x1b[31mred", "two\nlines", "not \udcff UTF-8"])
def test_names_are_shown_without_what_a_terminal_would_obey_or_could_not_show(checked, tmp_path, monkeypatch, name):
    monkeypatch.chdir(tmp_path)
    write_class_folders(tmp_path / "photos", small_images())
    (tmp_path / "photos" / "class 0").rename(tmp_path / "photos" / name)
    (tmp_path / "photos" / name / "broken.png").write_bytes(b"")
    told, following = checked("photos")
    assert told.isprintable()
    assert "Unreadable: 1 image" in told
    assert "Images like these cannot be trained on" in told
    assert not following


def test_a_folder_without_a_readable_image_is_not_told_to_leave_all_out(tmp_path):
    (tmp_path / "photos" / "cat").mkdir(parents=True)
    (tmp_path / "photos" / "cat" / "0.png").write_bytes(b"\x1b[31m")
    with as_a_program(), pytest.raises(SystemExit) as ended:
        main(["check", str(tmp_path / "photos")])
    assert re.match("error: 1 of 1 images cannot be decoded", ended.value.code)
    assert "skip_bad_images" not in ended.value.code


def test_ctrl_c_ends_it_in_a_line(capsys, monkeypatch):
    monkeypatch.setattr(check, "check", stopped)
    with as_a_program(), pytest.raises(SystemExit) as ended:
        main(["check"])
    assert ended.value.code == 130
    assert capsys.readouterr().err == "stopped\n"


def stopped(_: object) -> None:
    raise KeyboardInterrupt
