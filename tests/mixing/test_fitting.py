"""Fitting a generator to a dataset that comes without one."""

from __future__ import annotations

import contextlib
import io
import json
import logging
import multiprocessing
import os
import re
import shlex
import shutil
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState
from filelock import FileLock
from helpers.generators import make_generator
from helpers.images import THREE, small_images
from helpers.programs import REPOSITORY, as_a_program, start
from safetensors.torch import load_file
from torch.utils.data import DataLoader, Dataset, Subset, TensorDataset
from torchvision.transforms import v2
from torchvision.transforms.v2.functional import to_pil_image
from tqdm import tqdm

import ganaug
from ganaug import ConditionalGANAugment, DataError, Generator, InputError, LabelledImages
from ganaug.generators import CGANMLPGenerator
from ganaug.mixing import fitting
from ganaug.mixing.fitting import fit_generator
from ganaug.training import MODELS, GANObjective, Preset, TrainingSettings, fit, open_checkpoint, own_process
from ganaug.training.own_process import run_job

QUICK = TrainingSettings(total_kimg=0.032, train_batch_size=16, log_kimg=0.016, mixed_precision="no", cpu_threads=1)
LAUNCHED = {
    "RANK": "1",
    "LOCAL_RANK": "1",
    "WORLD_SIZE": "2",
    "LOCAL_WORLD_SIZE": "2",
    "GROUP_RANK": "0",
    "ROLE_WORLD_SIZE": "2",
    "MASTER_ADDR": "localhost",
    "MASTER_PORT": "1",
    "TORCHELASTIC_RUN_ID": "none",
    "ACCELERATE_MIXED_PRECISION": "fp16",
    "OMPI_COMM_WORLD_SIZE": "2",
}


def use_preset(monkeypatch: pytest.MonkeyPatch, settings: TrainingSettings = QUICK, model: str = "flow") -> None:
    preset = Preset(model, settings, "For the test", "what to expect: nothing")
    monkeypatch.setattr(fitting, "choose_preset", lambda images: preset)


def install_stand_in(monkeypatch: pytest.MonkeyPatch, folder: Path, body: str) -> None:
    """Let a shell script stand in for Python; ``$JOB`` and ``$OUTPUT`` are the folders it is given."""
    script = folder / "python"
    script.write_text(f"#!/bin/sh\nJOB=$3 OUTPUT=$4\n{body}\n")
    script.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(script))


@pytest.fixture
def stand_in(monkeypatch, tmp_path) -> Callable[[str], None]:
    use_preset(monkeypatch)
    install_stand_in(monkeypatch, tmp_path, "mkdir $OUTPUT/training")
    return partial(install_stand_in, monkeypatch, tmp_path)


def kept(cache: Path) -> list[str]:
    """Names of what is in the cache, locks aside."""
    return [path.name for path in (cache / "fitted").glob("*") if path.suffix != ".lock"]


def test_a_generator_is_fitted_once_whatever_surrounds_it(monkeypatch, tmp_path, caplog):
    AcceleratorState._reset_state(True)
    mine = Accelerator(cpu=True, mixed_precision="bf16")
    use_preset(monkeypatch)
    for name, value in LAUNCHED.items():  # with any of them, the fit would wait for others or be refused
        monkeypatch.setenv(name, value)
    data = small_images()
    shown = io.StringIO()
    try:
        with contextlib.redirect_stderr(shown):
            folder = fit_generator(data, cache_dir=tmp_path)
        assert mine.mixed_precision == Accelerator().mixed_precision == "bf16"
        assert mine.num_processes == 1
    finally:
        AcceleratorState._reset_state(True)
    assert folder.parent == tmp_path / "fitted"
    assert "32.0/32.0" in shown.getvalue()  # the progress bar, in images
    warning = caplog.messages[0]
    assert "to noise: 60 images of 12x12 pixels, 3 classes. It takes minutes" in warning
    assert "preset: flow, 0.032 kimg (32 images shown in training). For the test" in warning
    assert "what to expect: nothing" in warning
    assert "\nclasses: class 0 20, class 1 20, class 2 20\n" in warning
    assert str(folder) in warning
    assert "second argument" in warning

    generator = Generator.from_pretrained(folder)
    assert (generator.label_names, generator.image_size) == (data.classes, 12)
    assert generator.info["dataset"] == {
        "name": "noise",
        "fingerprint": data.fingerprint,
        "num_images": 60,
        "class_counts": dict.fromkeys(data.classes, 20),
    }
    assert torch.equal(generator.seen_images, data.image_hashes.unique())
    facts = generator.info["training"]
    assert (facts["num_processes"], facts["mixed_precision"], facts["total_kimg"]) == (1, "no", 0.032)

    mixed = ConditionalGANAugment(data, ratio=0.25, cache_dir=tmp_path)
    assert (len(mixed), mixed[79][0].shape) == (80, (1, 12, 12))

    caplog.clear()
    before = folder.stat()
    with caplog.at_level(logging.INFO, "ganaug"):
        assert fit_generator(data, cache_dir=tmp_path) == folder
    assert (folder.stat().st_ino, folder.stat().st_mtime_ns) == (before.st_ino, before.st_mtime_ns)
    assert caplog.messages == [f"using the generator that was fitted to these images before: {folder}"]
    assert kept(tmp_path) == [folder.name]
    assert sorted(path.name for path in folder.iterdir()) == [
        "README.md",
        "config.json",
        "model.safetensors",
        "samples",
        "training",
        "training_images.safetensors",
    ]


def in_processes(count: int, run: Callable[[int], None]) -> list[Any]:
    """Start processes that have all imports behind them."""
    started = [multiprocessing.get_context("fork").Process(target=run, args=(k,)) for k in range(count)]
    for process in started:
        process.start()
    return started


def test_of_two_processes_one_trains_and_the_other_waits(stand_in, tmp_path):
    # The training ends when the other one waits for it.
    here = shlex.quote(str(tmp_path))
    make_generator(small_images().classes).save_pretrained(tmp_path / "made")
    stand_in(
        f"echo trained >> {here}/trained; mkdir $OUTPUT/training; cp {here}/made/* $OUTPUT; "
        f"until grep -q 'waiting for a generator' {here}/*.log; do sleep 0.05; done"
    )

    def ask(k: int) -> None:
        torch.set_num_threads(1)
        logging.basicConfig(filename=tmp_path / f"{k}.log", level=logging.INFO, force=True)
        (tmp_path / f"{k}.answer").write_text(str(fit_generator(small_images(), cache_dir=tmp_path)))

    for process in in_processes(2, ask):
        process.join(100)
        assert process.exitcode == 0
    logs = [(tmp_path / f"{k}.log").read_text() for k in range(2)]
    assert sorted(log.count("No generator was given") for log in logs) == [0, 1]
    assert sorted(
        log.count("waiting for a generator for noise, which another worker or process is making") for log in logs
    ) == [0, 1]
    answers = {(tmp_path / f"{k}.answer").read_text() for k in range(2)}
    assert answers == {str(tmp_path / "fitted" / name) for name in kept(tmp_path)}
    assert (tmp_path / "trained").read_text() == "trained\n"


def wait_until(condition: Callable[[], Any]) -> Any:
    end = time.monotonic() + 90
    while not (found := condition()):
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.02)
    return found


def process_states() -> Iterator[tuple[int, int, str]]:
    """Number, parent and state of all processes."""
    for path in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            state, parent = path.read_text().rpartition(")")[2].split()[:2]
            yield int(path.parent.name), int(parent), state


def alive(pid: int) -> bool:
    return any(pid == other and state != "Z" for other, _, state in process_states())


def checkpoints(cache: Path) -> list[Path]:
    return sorted(cache.glob("fitted/.*.unfinished/training/checkpoints/step-*"))


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="reads the process table of Linux")
def test_a_killed_fit_goes_on_to_the_same_generator(monkeypatch, tmp_path, caplog):
    """The whole run is made in this process, the killed one in processes of their own."""
    settings = replace(QUICK, total_kimg=3.2, checkpointing_kimg=0.8, log_kimg=0.16)
    use_preset(monkeypatch, settings)
    with as_a_program():
        make = partial(MODELS["flow"].make_generator, small_images())
        fit(make, GANObjective(), small_images(), settings, tmp_path / "whole")

    def ask(_: int) -> None:
        torch.set_num_threads(1)
        with contextlib.redirect_stderr(io.StringIO()):
            fit_generator(small_images(), cache_dir=tmp_path)

    (asking,) = in_processes(1, ask)
    wait_until(lambda: checkpoints(tmp_path))
    (training,) = [pid for pid, parent, _ in process_states() if parent == asking.pid]
    assert alive(training)
    asking.kill()
    asking.join()
    wait_until(lambda: not alive(training))
    reached = open_checkpoint(checkpoints(tmp_path)[-1]).step
    assert 0 < reached < 200
    assert {name.split(".")[-1].partition("-")[0] for name in kept(tmp_path)} == {"tmp", "unfinished"}

    # What the killed processes left is not in the way, and the bar goes on where they were.
    shown = io.StringIO()
    with contextlib.redirect_stderr(shown):
        folder = fit_generator(small_images(), cache_dir=tmp_path)
    assert "It goes on where an earlier call stopped" in caplog.text
    first = re.findall(r"\|\s*([\d.]+k?)/3\.20k", shown.getvalue())[1]
    assert first == tqdm.format_sizeof(16 * reached)
    ours, whole = (load_file(path / "model.safetensors") for path in (folder, tmp_path / "whole"))
    assert all(torch.equal(ours[name], whole[name]) for name in whole)
    assert kept(tmp_path) == [folder.name]
    assert not list(folder.rglob("checkpoints"))
    kimg = [json.loads(line)["kimg"] for line in (folder / "training" / "metrics.jsonl").read_text().splitlines()]
    assert kimg == sorted(set(kimg))
    assert len(kimg) == 20


def test_a_training_that_fails_leaves_nothing(stand_in, tmp_path):
    stand_in("mkdir -p $OUTPUT/training; echo 'No space' >&2; echo left; exit 3")
    with pytest.raises(RuntimeError, match="fitting a generator to noise failed") as caught:
        fit_generator(small_images(), cache_dir=tmp_path)
    assert "ended with exit code 3. Its last lines: No space\nleft\nNothing was kept" in str(caught.value)
    assert "ganaug train" in str(caught.value)
    assert kept(tmp_path) == []
    stand_in("mkdir $OUTPUT/training")
    assert [fit_generator(small_images(), cache_dir=tmp_path).name] == kept(tmp_path)


@pytest.mark.parametrize(
    ("end", "told"), [("kill -9 $$", "signal 9"), ("kill -15 $$", "signal 15"), ("exit 143", "exit code 143")]
)
def test_a_training_that_is_stopped_says_where_it_goes_on(stand_in, tmp_path, end, told):
    stand_in(f"mkdir $OUTPUT/training; touch $OUTPUT/training/reached; {end}")
    with pytest.raises(RuntimeError, match=f"noise was stopped.*{told}. Its last lines: none") as caught:
        fit_generator(small_images(), cache_dir=tmp_path)
    (unfinished,) = kept(tmp_path)
    assert f"Its checkpoints are kept in {tmp_path}/fitted/{unfinished}. Try again" in str(caught.value)
    stand_in("mv $OUTPUT/training/reached $OUTPUT/again")
    folder = fit_generator(small_images(), cache_dir=tmp_path)
    assert (folder / "again").exists()
    assert kept(tmp_path) == [folder.name]


@pytest.fixture
def job(stand_in, tmp_path) -> Callable[[], Any]:
    """Starts the training of a job, in a process that has its imports behind it, in the folder ``run``."""
    stand_in(f"cp -r $JOB {shlex.quote(str(tmp_path))}/job; mkdir $OUTPUT/training")
    fit_generator(small_images(), cache_dir=tmp_path / "unused")
    (tmp_path / "run").mkdir()
    return lambda: start(run_job, str(tmp_path / "job"), str(tmp_path / "run"))


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_a_signal_to_the_training_itself_ends_it_with_a_checkpoint(job, tmp_path, number, code):
    change_settings(tmp_path / "job", total_kimg=1000, checkpointing_kimg=1000)
    training = job()
    wait_until((tmp_path / "run" / "training" / "metrics.jsonl").exists)
    os.kill(training.pid, number)
    assert training.wait() == code
    (reached,) = (tmp_path / "run" / "training" / "checkpoints").iterdir()
    step = open_checkpoint(reached).step
    assert step > 0

    # It goes on there, to an end that is near.
    change_settings(tmp_path / "job", total_kimg=(step + 3) * 16 / 1000)
    assert job().wait() == 0
    assert (tmp_path / "run" / "model.safetensors").exists()
    kimg = [json.loads(line)["kimg"] for line in (tmp_path / "run/training/metrics.jsonl").read_text().splitlines()]
    assert kimg == [16 * (k + 1) / 1000 for k in range(step + 3)]


def change_settings(job: Path, **settings: float) -> None:
    values = json.loads((job / "job.json").read_text())
    values["settings"] |= settings
    (job / "job.json").write_text(json.dumps(values))


def test_a_training_waits_for_one_that_is_in_its_last_step(job, tmp_path):
    with FileLock(tmp_path / "run" / ".lock"):
        training = job()
        time.sleep(0.5)
        assert training.running()
        assert [path.name for path in (tmp_path / "run").iterdir()] == [".lock"]
    assert training.wait() == 0
    assert (tmp_path / "run" / "model.safetensors").exists()


def test_a_training_that_does_not_stop_in_time_leaves_the_users_interrupt(stand_in, monkeypatch, tmp_path, caplog):
    """And it speaks UTF-8, whatever the console does."""
    monkeypatch.setenv("PYTHONIOENCODING", "cp1252")
    monkeypatch.setattr(own_process, "LAST_STEP", 0.1)

    def interrupted(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr(own_process.tqdm, "write", interrupted)
    said = shlex.quote(str(tmp_path / "encoding"))
    stand_in(f"trap '' TERM; mkdir $OUTPUT/training; echo $PYTHONIOENCODING > {said}; echo begun; exec sleep 60")
    with pytest.raises(KeyboardInterrupt):
        fit_generator(small_images(), cache_dir=tmp_path)
    assert "was stopped. The next call" in caplog.text
    assert (tmp_path / "encoding").read_text(encoding="utf-8") == "utf-8\n"


def test_the_bar_and_the_minutes(stand_in, monkeypatch, tmp_path, capsys, caplog):
    """They follow what the training says; its bar is not among its last lines."""
    monkeypatch.setattr(own_process, "TIMED", 0.02)
    begun = r"printf '\r8/32\n'; sleep 0.1; printf '\r16/32\n\n'; sleep 0.1"
    stand_in(rf"{begun}; printf '\r24/32\n      \rdiverged \342\200\246\n'; exit 1")
    with pytest.raises(RuntimeError, match="Its last lines: diverged …\n"):
        fit_generator(small_images(), cache_dir=tmp_path)
    shown = capsys.readouterr().err
    bars = re.findall(r"([\d.]+)/32\.0 ", shown)
    assert (bars[0], bars[1], bars[-1]) == ("0.00", "8.00", "24.0")
    assert "diverged …\n" in shown
    said = [message for message in caplog.messages if message.startswith("the rest takes")]
    assert re.fullmatch(r"the rest takes a minute or less, and \d\.\d GiB of memory", *said)

    # A thousandth of the images took 0.2 seconds.
    caplog.clear()
    use_preset(monkeypatch, replace(QUICK, total_kimg=100))
    stand_in(r"printf '\r0/1000000\n'; sleep 0.2; printf '\r1000/1000000\n'")
    fit_generator(small_images(), cache_dir=tmp_path)
    (said,) = [message for message in caplog.messages if message.startswith("the rest takes")]
    assert 3 <= int(re.match(r"the rest takes about (\d+) minutes, and .* of memory", said)[1]) < 60

    # Later phases take more than the first; and what goes before the first step is no part of the pace.
    caplog.clear()
    use_preset(monkeypatch, replace(QUICK, total_kimg=200), model="acgan")
    stand_in(r"printf '\r0/1000000\n'; sleep 1; printf '\r0/1000000\n'; sleep 0.2; printf '\r1000/1000000\n'")
    fit_generator(small_images(), cache_dir=tmp_path)
    (said,) = [message for message in caplog.messages if message.startswith("the rest takes")]
    assert 3 <= int(re.match(r"the rest takes at least (\d+) minutes, and .* of memory", said)[1]) < 15


def test_ctrl_c_ends_the_training_and_keeps_its_run(stand_in, tmp_path):
    stand_in("mkdir $OUTPUT/training; echo my number is $$; exec sleep 100")
    shown = io.StringIO()

    def interrupt() -> None:
        wait_until(lambda: "my number" in shown.getvalue())
        os.kill(os.getpid(), signal.SIGINT)

    # A shell has it ignored in what it starts in the background, and Python leaves that so.
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    keyboard = threading.Thread(target=interrupt)
    keyboard.start()
    try:
        with contextlib.redirect_stderr(shown), pytest.raises(KeyboardInterrupt):
            fit_generator(small_images(), cache_dir=tmp_path)
    finally:
        keyboard.join()
        signal.signal(signal.SIGINT, before)
    with pytest.raises(ProcessLookupError):
        os.kill(int(re.search(r"my number is (\d+)", shown.getvalue())[1]), 0)
    (unfinished,) = kept(tmp_path)
    assert unfinished.endswith(".unfinished")
    stand_in("[ -d $OUTPUT/training ] || exit 1")
    assert [fit_generator(small_images(), cache_dir=tmp_path).name] == kept(tmp_path)


def test_what_the_training_process_is_given(stand_in, tmp_path, monkeypatch):
    stand_in("mkdir $OUTPUT/training; env > $OUTPUT/env; cp -r $JOB $OUTPUT/copy; pwd > $OUTPUT/cwd")
    for name, value in {**LAUNCHED, "RANKING": "kept"}.items():
        monkeypatch.setenv(name, value)
    monkeypatch.chdir(REPOSITORY)
    monkeypatch.syspath_prepend("relative")
    folder = fit_generator(small_images(), cache_dir=tmp_path)
    environment = dict(line.split("=", 1) for line in (folder / "env").read_text().splitlines() if "=" in line)
    assert not environment.keys() & LAUNCHED.keys()
    assert (environment["RANKING"], environment["HOME"]) == ("kept", os.environ["HOME"])
    assert environment["PYTHONPATH"].split(os.pathsep)[0] == str(REPOSITORY / "relative")
    assert sorted(path.name for path in (folder / "copy").iterdir()) == ["images.safetensors", "job.json"]
    assert Path((folder / "cwd").read_text().strip()).name == "job"  # where nothing can be imported by accident
    assert not (folder / "job").exists()


def test_what_is_kept_is_found_by_images_and_preset(stand_in, tmp_path, monkeypatch):
    data = small_images()
    first = fit_generator(data, cache_dir=tmp_path)
    fakes = [LabelledImages(data.images, data.targets, data.classes, "under another name"), Subset(data, range(60))]
    assert {fit_generator(same, cache_dir=tmp_path) for same in fakes} == {first}
    pixels, targets = data.images.clone(), data.targets.clone()
    pixels[0, 0, 0, 0] += 1
    targets[0] = 1
    folders = [
        fit_generator(other, cache_dir=tmp_path)
        for other in (
            replace(data, images=pixels),
            replace(data, targets=targets),
            replace(data, classes=("a", "b", "c")),
            Subset(data, range(59)),
        )
    ]
    folders.append(fit_generator(data, cache_dir=tmp_path, resolution=8))
    for settings, model in ((replace(QUICK, seed=1), "flow"), (QUICK, "acgan-28"), (QUICK, "cgan-mlp")):
        use_preset(monkeypatch, settings, model)
        folders.append(fit_generator(data, cache_dir=tmp_path))
    assert len({first, *folders}) == 9
    assert sorted(kept(tmp_path)) == sorted(folder.name for folder in {first, *folders})


def test_it_is_kept_in_the_users_cache_by_default(stand_in, tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert fit_generator(small_images()).parent == tmp_path / "ganaug" / "fitted"
    monkeypatch.chdir(tmp_path)
    assert fit_generator(small_images(), cache_dir="here").parent == tmp_path / "here" / "fitted"


@pytest.mark.parametrize(
    ("height", "width", "resolution"), [(31, 31, None), (12, 16, None), (66, 66, None), (12, 12, 11), (12, 12, 96)]
)
def test_sizes_that_the_preset_does_not_draw(stand_in, tmp_path, height, width, resolution):
    images = torch.zeros(6, 1, height, width, dtype=torch.uint8)
    data = LabelledImages(images, torch.arange(6) % 2, ("a", "b"), "zeros")
    side = f"{resolution}x{resolution}" if resolution else f"{width}x{height}"
    message = rf"is even and at most 64 pixels, and these images are {side}. Instead, train a generator"
    with pytest.raises(InputError, match=message):
        fit_generator(data, resolution=resolution, cache_dir=tmp_path)
    assert not (tmp_path / "fitted").exists()
    assert fit_generator(data, resolution=12, cache_dir=tmp_path).is_dir()


def test_classes_that_a_subset_leaves_empty_are_not_fitted(stand_in, tmp_path):
    stand_in("mkdir -p $OUTPUT && cp $JOB/job.json $OUTPUT")
    data = small_images(n=30)
    pairs = TensorDataset(data.images, data.targets)
    pairs.classes = list(THREE)
    folder = fit_generator(Subset(pairs, [i for i in range(30) if i % 3 != 1]), cache_dir=tmp_path)
    assert json.loads((folder / "job.json").read_text())["classes"] == ["class 0", "class 2"]


def test_images_that_differ_in_size_need_a_resolution(stand_in, tmp_path):
    data = small_images(n=6)
    pairs = [(to_pil_image(image).resize((8 + i, 20)), i % 3) for i, image in enumerate(data.images)]
    with pytest.raises(
        DataError, match="no generator can be fitted to this dataset: images differ in size.*Instead, train"
    ):
        fit_generator(pairs, cache_dir=tmp_path)
    assert fit_generator(pairs, resolution=16, cache_dir=tmp_path).is_dir()
    with pytest.raises(DataError, match="no generator can be fitted to this dataset: dataset int cannot be read"):
        fit_generator(3, cache_dir=tmp_path)
    unnamed = TensorDataset(data.images, data.targets)
    unnamed.classes = ["a", "a", "b"]
    with pytest.raises(ValueError, match="same name"):
        fit_generator(unnamed, cache_dir=tmp_path)


class Fitting(Dataset):
    def __init__(self, cache: Path) -> None:
        self.cache = cache

    def __len__(self) -> int:
        return 1

    def __getitem__(self, index: int) -> str:
        try:
            return str(fit_generator(small_images(), cache_dir=self.cache))
        except RuntimeError as error:
            return str(error)


def test_no_worker_fits(stand_in, tmp_path):
    options = {"batch_size": None, "multiprocessing_context": "fork", "generator": torch.Generator()}
    (answer,) = DataLoader(Fitting(tmp_path), num_workers=1, **options)
    assert answer.startswith("a DataLoader worker cannot fit a generator. Make the dataset before the loader starts")
    assert not (tmp_path / "fitted").exists()
    assert Path(Fitting(tmp_path)[0]).is_dir()


class Photos(Dataset):
    """PIL images of differing sizes, with a transform that brings them to one."""

    classes = THREE

    def __init__(self):
        self.data, self.targets = small_images(n=12), small_images(n=12).targets
        self.transform = v2.Compose([v2.Resize((16, 16)), v2.ToImage()])

    def __len__(self):
        return 12

    def __getitem__(self, index):
        image, label = self.data[index]
        return self.transform(to_pil_image(image).resize((40 + index, 31))), label


def test_the_wrapper_without_a_generator(stand_in, monkeypatch, tmp_path):
    """Photos are fitted to at a size the preset draws; the second time, nothing is trained."""
    with torch.random.fork_rng():
        CGANMLPGenerator(THREE, image_size=30, channels=1).save_pretrained(tmp_path / "made")
    stand_in(f"mkdir $OUTPUT/training; cp -r {shlex.quote(str(tmp_path))}/made/. $OUTPUT; cp -r $JOB $OUTPUT/copy")
    lengths = []
    for again in (False, True):
        if again:
            monkeypatch.setattr(sys, "executable", "no-such-python")
        train = ConditionalGANAugment(Photos(), ratio=0.25, cache_dir=tmp_path)
        lengths.append((len(train), train.n_fake, train[15][0].shape))
        assert train.sampler.image_shape == (1, 30, 30)
    assert lengths == [(16, 4, (1, 16, 16))] * 2
    (images,) = tmp_path.glob("fitted/*/copy/images.safetensors")
    assert load_file(images)["images"].shape == (12, 1, 30, 30)


def test_a_given_time_is_kept_to_and_kept_when_the_training_goes_on(job, tmp_path):
    values = json.loads((tmp_path / "job" / "job.json").read_text())
    values["settings"]["augment"] = ["flip"]
    for minutes in (1e-5, 60):  # the second time it goes on with the length that was found the first time
        (tmp_path / "job" / "job.json").write_text(json.dumps({**values, "minutes": minutes}))
        assert job().wait() == 0
        config = json.loads((tmp_path / "run" / "config.json").read_text())
        assert config["training"]["total_kimg"] == 0.064  # a step; the preset's own length is 60 kimg
        assert config["training"]["augment"] == ["flip"]


@pytest.fixture
def cache(stand_in, monkeypatch, tmp_path) -> Path:
    """Where :func:`ganaug.fit` keeps generators, one of which stands in for what is trained."""
    with torch.random.fork_rng():
        CGANMLPGenerator(THREE, image_size=12, channels=1).save_pretrained(tmp_path / "made")
    stand_in(f"mkdir $OUTPUT/training; cp -r {shlex.quote(str(tmp_path))}/made/. $OUTPUT; cp $JOB/job.json $OUTPUT")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(fitting, "write_run_page", lambda folder: (folder / "training" / "run.html").touch())
    return tmp_path / "cache" / "ganaug"


def test_fitting_in_one_line(cache, caplog):
    generator = ganaug.fit(small_images(), minutes=10, augment=["flip"])
    assert (generator.label_names, generator.training) == (THREE, False)
    assert "A generator is fitted to noise: 60 images of 12x12 pixels, 3 classes. It takes 10 minutes" in caplog.text
    (folder,) = (cache / "fitted" / name for name in kept(cache))
    job = json.loads((folder / "job.json").read_text())
    assert (job["minutes"], job["settings"]["augment"]) == (10, ["flip"])


def test_what_is_fitted_is_found_by_all_that_was_asked_for(cache, monkeypatch):
    data = small_images()
    asked = ({}, {"minutes": 10}, {"minutes": 20}, {"augment": ["flip"]}, {"resolution": 8})
    for number, options in enumerate(asked, 1):
        ganaug.fit(data, **options)
        assert len(kept(cache)) == number
    assert fit_generator(data).name in kept(cache)  # without choices, the one that a dataset without a generator gets
    monkeypatch.setattr(sys, "executable", "no-such-python")
    for options in (*asked, {"minutes": 10.0}):
        ganaug.fit(data, **options)


def test_a_run_is_kept_where_the_user_says(cache, stand_in, tmp_path):
    run = tmp_path / "run"
    run.mkdir()
    (run / "notes.txt").write_text("mine")
    ganaug.fit(small_images(), folder=run)
    (folder,) = (cache / "fitted" / name for name in kept(cache))
    names = {path.relative_to(run).as_posix() for path in run.rglob("*")}
    assert names == {"notes.txt", "training/run.html", *(p.relative_to(folder).as_posix() for p in folder.rglob("*"))}

    # The same call again finds it there, and leaves the card as it is by now.
    (run / "README.md").write_text("with a verdict")
    assert ganaug.fit(small_images(), folder=str(run)).label_names == THREE
    assert (run / "README.md").read_text() == "with a verdict"

    # A copy that was broken off is made whole.
    (run / "model.safetensors").unlink()
    shutil.rmtree(run / "training")
    ganaug.fit(small_images(), folder=run)
    assert names == {path.relative_to(run).as_posix() for path in run.rglob("*")}

    # Another one does not go there, which is said before it is trained.
    stand_in("exit 1")
    with pytest.raises(InputError, match=r"run already holds a run, .* Give another folder"):
        ganaug.fit(small_images(seed=1), folder=run)
    (tmp_path / "begun" / "training").mkdir(parents=True)  # by ganaug train, which is not through
    with pytest.raises(InputError, match="already holds a run"):
        ganaug.fit(small_images(), folder=tmp_path / "begun")
    with pytest.raises(InputError, match="is a file"):
        ganaug.fit(small_images(), folder=run / "notes.txt")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"minutes": 0}, "minutes must be positive and finite, got 0"),
        ({"minutes": float("nan")}, "minutes must be positive and finite, got nan"),
        ({"minutes": "10"}, "minutes must be positive and finite, got '10'"),
        ({"resolution": "64"}, "resolution must be a positive number of pixels, got '64'"),
        ({"augment": "flip"}, r"augment must be a list of names, got 'flip'\. Write \['flip'\]"),
        ({"augment": ["mirror"]}, "augment takes shift, flip"),
        ({"augment": ["cutout"]}, "may only be flip; got cutout"),
        ({"resolution": 11}, "11"),
    ],
)
def test_what_cannot_be_fitted_is_refused_before_it_is_trained(cache, options, message):
    with pytest.raises(InputError, match=message):
        ganaug.fit(small_images(), **options)
    assert not cache.exists()


def test_no_generator_is_fitted_to_images_that_judge(cache):
    with pytest.raises(InputError, match="noise is for evaluation.*Give the training images"):
        ganaug.fit(replace(small_images(), train=False))
    with pytest.raises(DataError, match="no folder nowhere"):
        ganaug.fit(Path("nowhere"))
    assert not cache.exists()
