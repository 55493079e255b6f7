"""Images generated into files: by one process or two, and again after a kill."""

from __future__ import annotations

import json
import os
import re
import resource
import signal
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from filelock import FileLock
from helpers.generators import Honest, shown
from helpers.programs import recipe_path, run, run_python, run_ranks, start_python
from torch import nn

from ganaug import InputError
from ganaug.core.files import write_json
from ganaug.core.image_file import ImageFile
from ganaug.generators import DCGAN32Generator
from ganaug.sampling.class_sampler import ClassSampler
from ganaug.sampling.export import generate_shards

RECIPE = recipe_path("generate")
TORCHRUN = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2"]
SMALL = ["--num_images", "203", "--images_per_shard", "32"]


def content(folder: Path) -> dict[str, bytes]:
    """All files of a folder, hidden ones too."""
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.fixture
def generate(in_process, generator_folder):
    return lambda *flags: in_process("--generator", str(generator_folder), *flags, name="generate")


@pytest.fixture
def sampler(three) -> ClassSampler:
    return ClassSampler(three)


@pytest.mark.parametrize(
    ("format", "launched"), [("parquet", False), ("npy", False), pytest.param("parquet", True, marks=pytest.mark.slow)]
)
def test_one_process_or_two_make_the_same_files(generate, generator_folder, tmp_path, format, launched):
    flags = [*SMALL, "--format", format, "--seed", "3"]
    assert generate(*flags, "--output_dir", "one") is None
    command = [RECIPE, "--generator", str(generator_folder), *flags, "--output_dir", "two"]
    output = run(*TORCHRUN, *command, cwd=tmp_path) if launched else "".join(run_ranks(2, *command, cwd=tmp_path))
    assert content(tmp_path / "one") == content(tmp_path / "two")
    assert output.count("two holds 203 generated images\n") == 1
    # Shards 0, 2, 4 and 6 of 0 .. 6, the last of 11 images: what the first process has to do.
    assert re.search(r"generating \(1 of 2 processes\): 100%.* 107/107 .*img/s", output), output


def test_parquet_loads_with_its_features_and_all_images(generate, generator, capsys):
    from datasets import ClassLabel, Image, Value
    from huggingface_hub import DatasetCard

    assert generate(*SMALL, "--output_dir", "out", "--seed", str(2**64 - 1)) is None
    assert sorted(path.name for path in Path("out", "data").iterdir()) == [
        f"train-{k:05d}-of-00007.parquet" for k in range(7)
    ]
    names: dict = {}
    exec(capsys.readouterr().out.split("Load them:\n")[1], names)
    dataset = names["dataset"]
    assert dataset.features == {
        "image": Image(),
        "label": ClassLabel(names=list(generator.label_names)),
        "seed": Value("uint64"),
        "index": Value("int64"),
    }
    assert dataset["index"] == list(range(203))
    assert dataset["label"] == [k % 10 for k in range(203)]
    assert set(dataset["seed"]) == {2**64 - 1}
    card = DatasetCard.load("out/README.md")
    assert re.search(rf"\*\*Synthetic data\.\*\* .* with a generator .*acgan-28.*, seed {2**64 - 1}\.", card.text)
    assert "| 2 | 2 | 21 |\n| 3 | 3 | 20 |" in card.text
    assert "synthetic" in card.data["tags"]
    drawn = ClassSampler(generator, seed=2**64 - 1).draw(torch.arange(203) % 10, range(203))
    assert np.array_equal(np.stack([np.asarray(image) for image in dataset["image"]]), drawn[:, 0].numpy())


def test_parts_of_several_seeds_are_one_dataset_of_different_images(generate):
    from datasets import Image, load_dataset

    for seed in ("0", "1"):
        assert generate(*SMALL, "--seed", seed, "--output_dir", f"parts/{seed}") is None
    both = load_dataset("parquet", data_files="parts/*/data/*.parquet", split="train")
    both = both.cast_column("image", Image(decode=False))
    assert {(row["seed"], row["index"]) for row in both} == {(seed, k) for seed in (0, 1) for k in range(203)}
    assert len({row["image"]["bytes"] for row in both}) == 406


def test_npy_is_mapped_and_says_what_it_holds(generate, generator, capsys):
    assert generate(*SMALL, "--output_dir", "out", "--format", "npy", "--classes", "7", "3") is None
    assert {path.name for path in Path("out").iterdir() if path.name[0] != "."} == {
        "images.npy",
        "labels.npy",
        "index.json",
    }
    assert not Path("out", ".shards").exists()
    names: dict = {}
    exec(capsys.readouterr().out.split("Load them:\n")[1], names)
    images, labels = names["images"], names["labels"]
    assert isinstance(images, np.memmap)
    assert (images.dtype, images.shape, labels.dtype) == (np.uint8, (203, 1, 28, 28), np.int64)
    assert labels.tolist() == [k % 2 for k in range(203)]
    drawn = ClassSampler(generator).draw(torch.tensor([7, 3])[labels], range(203))
    assert np.array_equal(images, drawn.numpy())
    assert torch.equal(ImageFile(Path("out", "images.npy"), images.shape, advice="").read([5, 202]), drawn[[5, 202]])
    index = json.loads(Path("out", "index.json").read_text())
    assert index["label_counts"] == {"7": 102, "3": 101}
    assert (index["images"]["shape"], index["seed"]) == ([203, 1, 28, 28], 0)


def test_rgb_images_in_memory_channels_last(tmp_path):
    shape = (5, 3, 8, 8)
    pixels = torch.randint(256, shape, dtype=torch.uint8, generator=torch.Generator().manual_seed(0))

    class Fixed(ClassSampler):
        def draw(self, labels, indices, *, epoch=0):
            return pixels[list(indices)].to(memory_format=torch.channels_last)

    generate_shards(Fixed(_Counting(channels=3)), 5, tmp_path / "out", format="npy", images_per_shard=3)
    assert np.array_equal(np.load(tmp_path / "out" / "images.npy"), pixels.numpy())


@pytest.mark.parametrize("classes", [(), ("cat", "ant"), ("bee", "cat", "ant")])
@pytest.mark.parametrize("format", ["parquet", "npy"])
def test_files_say_what_their_labels_are(format, classes, tmp_path):
    """Whether the labels are the generator's or those of some of its classes in an order of one's own."""
    generator = Honest("ant", "bee", "cat")
    generate_shards(ClassSampler(generator), 20, tmp_path / "out", classes=classes, format=format)
    names = classes or generator.label_names
    if format == "npy":
        pairs = zip(np.load(tmp_path / "out/images.npy"), np.load(tmp_path / "out/labels.npy"), strict=True)
        found = list(json.loads((tmp_path / "out/index.json").read_text())["label_counts"])
    else:
        from datasets import load_dataset

        rows = load_dataset(str(tmp_path / "out"), split="train", cache_dir=str(tmp_path / "cache"))
        pairs, found = ((row["image"], row["label"]) for row in rows), rows.features["label"].names
    assert tuple(found) == names
    assert [shown(image) for image, _ in pairs] == [names[k % len(names)] for k in range(20)]


def test_after_kill_9_the_same_command_goes_on(generate, generator_folder, tmp_path):
    from datasets import load_dataset

    flags = ["--num_images", "1600", "--images_per_shard", "16", "--cpu_threads", "2"]
    command = [RECIPE, "--generator", str(generator_folder), *flags, "--output_dir", "killed"]
    running = start_python(*command, cwd=tmp_path)
    unfinished = tmp_path / "killed" / ".shards"
    deadline = time.monotonic() + 100
    while len(list(unfinished.glob("train-*"))) < 5:
        assert running.running()
        assert time.monotonic() < deadline
        time.sleep(0.001)
    os.kill(running.pid, signal.SIGKILL)
    assert running.wait() == -signal.SIGKILL
    made = {path.name: path.stat().st_mtime_ns for path in unfinished.glob("train-*")}
    assert 5 <= len(made) < 100
    with pytest.raises(FileNotFoundError):  # some shards are not taken for all of them
        load_dataset(str(tmp_path / "killed"))
    (unfinished / ".train-00099-of-00100.tmp-1.parquet").write_bytes(b"half")  # where the kill left none

    assert generate(*flags, "--output_dir", "killed") is None
    assert generate(*flags, "--output_dir", "undisturbed") is None
    assert content(tmp_path / "killed") == content(tmp_path / "undisturbed")
    data = tmp_path / "killed" / "data"
    assert {name: (data / name).stat().st_mtime_ns for name in made} == made


def test_a_finished_folder_is_left_alone(generate, capsys):
    for format in ("parquet", "npy"):
        flags = [*SMALL, "--format", format, "--output_dir", format]
        assert generate(*flags) is None
        assert "were there already" not in capsys.readouterr().out
        before = {path: path.stat().st_mtime_ns for path in Path(format).rglob("*") if path.name != ".generation.lock"}
        assert generate(*flags) is None
        assert f"{format} holds 203 generated images, 203 of which were there already" in capsys.readouterr().out
        assert {path: path.stat().st_mtime_ns for path in before} == before


def test_only_what_is_missing_is_made(sampler, tmp_path):
    def again() -> int:
        return generate_shards(sampler, 50, tmp_path / "out", images_per_shard=20)

    assert again() == 0
    whole = content(tmp_path / "out")
    (tmp_path / "out" / "data" / "train-00001-of-00003.parquet").unlink()
    assert again() == 30
    assert content(tmp_path / "out") == whole


@pytest.mark.parametrize("damage", [lambda whole: whole[:1000], lambda whole: b"", lambda whole: whole[::-1]])
@pytest.mark.parametrize("format", ["parquet", "npy"])
@pytest.mark.parametrize("finished", [True, False])
def test_what_is_damaged_is_made_again(sampler, tmp_path, caplog, monkeypatch, damage, format, finished):
    def again() -> int:
        return generate_shards(sampler, 50, tmp_path / "out", images_per_shard=20, format=format)

    generate_shards(sampler, 50, tmp_path / "whole", images_per_shard=20, format=format)
    if finished:
        again()
        there = tmp_path / "out" / ("data/train-00001-of-00003.parquet" if format == "parquet" else "images.npy")
        there.chmod(0o644)
    else:
        monkeypatch.setattr("ganaug.sampling.export._Generation.finish", stopped)
        with pytest.raises(KeyboardInterrupt):
            again()
        monkeypatch.undo()
        there = next((tmp_path / "out" / ".shards").glob("*00001-of*"))
    there.write_bytes(damage(there.read_bytes()))
    assert again() == (0 if finished and format == "npy" else 30)
    assert f"{there} is damaged" in caplog.text
    assert content(tmp_path / "out") == content(tmp_path / "whole")


def stopped(_) -> None:
    raise KeyboardInterrupt


def test_an_error_while_parts_are_joined_costs_no_images(sampler, tmp_path, monkeypatch):
    out = tmp_path / "out"

    def failing(path, value):
        if path.name == "index.json":
            raise OSError(28, "No space left on device")
        write_json(path, value)

    monkeypatch.setattr("ganaug.sampling.export.write_json", failing)
    with pytest.raises(OSError, match="No space"):
        generate_shards(sampler, 50, out, images_per_shard=20, format="npy")
    monkeypatch.undo()
    assert generate_shards(sampler, 50, out, images_per_shard=20, format="npy") == 50
    generate_shards(sampler, 50, tmp_path / "other", images_per_shard=20, format="npy")
    assert content(out) == content(tmp_path / "other")


def test_a_full_disk_ends_in_a_line_and_leaves_nothing_half_written(generate, generator_folder, tmp_path):
    """A limit on the size of files stands in for the disk: plan and lock fit, a shard does not."""
    command = [RECIPE, "--generator", str(generator_folder), *SMALL, "--output_dir", "out"]
    output = run_python(*command, cwd=tmp_path, expected=1, before=_limit_files)
    assert re.search(r"error: .*(File too large|No space)", output.splitlines()[-1]), output
    assert "Traceback" not in output
    assert set(content(tmp_path / "out")) == {".generation.json", ".generation.lock"}
    assert generate(*SMALL, "--output_dir", "out") is None
    assert generate(*SMALL, "--output_dir", "other") is None
    assert content(tmp_path / "out") == content(tmp_path / "other")


def _limit_files() -> None:
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)  # as Python does when it starts
    resource.setrlimit(resource.RLIMIT_FSIZE, (3000, 3000))


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--num_images", "0"], r"error: num_images must be a positive int, got 0"),
        (["--images_per_shard", "-1"], r"error: images_per_shard must be a positive int, got -1"),
        (["--cpu_threads", "0"], r"error: cpu_threads must be a positive int, got 0"),
        (["--seed", "-1"], r"error: seed must be an int from 0"),
        (["--classes", "7", "eleven"], r"error: the generator does not know eleven in .*; it knows 0, 1, 2, 3"),
        (["--classes", "7", "7"], r"error: a class is named twice in classes 7, 7"),
        (["--generator", "nowhere"], r"error: no folder 'nowhere'"),
        (["--output_dir", "file/out"], r"error: .*Not a directory"),
        (["--output_dir", "mine"], r"error: mine holds notes\. Give a folder that is empty or does not exist"),
    ],
)
def test_wrong_input_ends_in_a_line_that_helps(generate, tmp_path, flags, message):
    (tmp_path / "file").touch()
    (tmp_path / "mine" / "notes").mkdir(parents=True)
    before = sorted(tmp_path.rglob("*"))
    assert re.match(message, generate(*SMALL, "--output_dir", "out", *flags))
    assert sorted(tmp_path.rglob("*")) == before


def test_an_unconditional_generator_is_refused(generate, tmp_path):
    with torch.random.fork_rng():
        DCGAN32Generator((), channels=1).save_pretrained(tmp_path / "unconditional")
    message = generate(*SMALL, "--output_dir", "out", "--generator", "unconditional")
    assert re.match(r"error: the generator \(DCGAN32Generator\) is unconditional", message)
    assert not (tmp_path / "out").exists()


class _Counting(nn.Module):
    """Draws for the labels, and remembers with how many threads."""

    latent_dim, label_names = 3, ("class 0", "class 1", "class 2")
    threads: set[int] = set()  # noqa: RUF012

    def __init__(self, shift: float = 0.0, channels: int = 1) -> None:
        super().__init__()
        self.shift, self.channels = shift, channels

    def forward(self, z, labels):
        type(self).threads.add(torch.get_num_threads())
        return (z.mean(1).tanh().view(-1, 1, 1, 1) * 0.5 + self.shift).expand(-1, self.channels, 8, 8)


def test_every_image_is_computed_by_one_thread(tmp_path):
    """Otherwise its last bits would depend on how many cores a process has."""
    sampler = ClassSampler(_Counting())
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        _Counting.threads.clear()
        generate_shards(sampler, 40, tmp_path / "three", images_per_shard=10, cpu_threads=3)
        assert _Counting.threads == {1}
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)
    generate_shards(sampler, 40, tmp_path / "one", images_per_shard=10)
    assert content(tmp_path / "one") == content(tmp_path / "three")


def test_another_plan_is_refused_with_the_differences(tmp_path):
    def plan(seed: int = 0, shift: float = 0.0, **options) -> None:
        sampler = ClassSampler(_Counting(shift), seed=seed)
        arguments = {"num_images": 30, "folder": tmp_path / "out", "images_per_shard": 20, **options}
        generate_shards(sampler, **arguments)

    plan()
    before = content(tmp_path / "out")
    for options, message in [
        ({"seed": 1}, r"out was begun with something else \(seed: 0 there, 1 now\)\. Give what it was begun with"),
        ({"num_images": 31, "format": "npy"}, r"\(num_images: 30 there, 31 now; format: parquet there, npy now\)"),
        ({"images_per_shard": 10}, r"\(images_per_shard: 20 there, 10 now\)"),
        ({"classes": ["class 1"]}, r"\(classes: \['class 0', .*\] there, \['class 1'\] now\)"),
        # Its weights are the same: none. Only what it draws tells.
        ({"shift": 0.25}, r"\(fingerprint: \w+ there, \w+ now; the generator is the same"),
    ]:
        with pytest.raises(InputError, match=message):
            plan(**options)
    assert content(tmp_path / "out") == before
    (tmp_path / "out" / ".generation.json").write_text("[1, 2")
    with pytest.raises(InputError, match=r"\.generation\.json cannot be read"):
        plan()


def test_what_a_kill_before_the_plan_leaves_is_no_obstacle(sampler, tmp_path):
    for name in (".generation.lock", "..generation.tmp-1.json"):
        (tmp_path / name).touch()
    assert generate_shards(sampler, 5, tmp_path) == 0
    files = {".generation.json", ".generation.lock", "README.md", "data/train-00000-of-00001.parquet"}
    assert set(content(tmp_path)) == files


def test_a_second_command_waits_for_the_first(sampler, tmp_path, caplog):
    lock = FileLock(tmp_path / ".generation.lock")
    second = threading.Thread(target=generate_shards, args=(sampler, 5, tmp_path))
    with lock:
        second.start()
        deadline = time.monotonic() + 60
        while "waiting for it" not in caplog.text:
            assert time.monotonic() < deadline
            time.sleep(0.01)
        assert not (tmp_path / ".generation.json").exists()
    second.join(60)
    assert (tmp_path / "data").exists()


def test_a_process_that_does_not_see_the_folder_says_so(sampler, tmp_path):
    class Elsewhere:
        process_index, num_processes = 1, 2

        def wait_for_everyone(self) -> None:
            pass

    with pytest.raises(InputError, match=r"cannot be read .*Give a folder that all processes share"):
        generate_shards(sampler, 5, tmp_path / "out", processes=Elsewhere())


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"num_images": True}, "num_images must be a positive int, got True"),
        ({"num_images": 2.5}, "num_images must be a positive int, got 2.5"),
        ({"format": "csv"}, "format must be parquet or npy, got 'csv'"),
    ],
)
def test_wrong_arguments(sampler, tmp_path, options, message):
    with pytest.raises(InputError, match=message):
        generate_shards(sampler, **{"num_images": 5, "folder": tmp_path / "out", **options})
    assert not (tmp_path / "out").exists()


def test_a_generator_without_class_names_is_refused(tmp_path):
    class Nameless(_Counting):
        label_names = None

    with pytest.raises(InputError, match=r"\(Nameless\) does not name its classes\. Give it label_names"):
        generate_shards(ClassSampler(Nameless()), 5, tmp_path / "out")
    assert not os.listdir(tmp_path)
