"""Machines, each with a home and a folder of its own, work together as the processes of one do."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest
from helpers.images import small_images, write_class_folders
from helpers.programs import LAUNCH, RECIPE, recipe_path, run, run_machines, run_ranks

TORCHRUN = [sys.executable, "-m", "torch.distributed.run"]
LAUNCHERS = {"torchrun": TORCHRUN, "accelerate": LAUNCH}
LITTLE = ["--dataset_name", "sklearn:digits", "--report_to", "none", "--output_dir", "run"]


@pytest.fixture
def machines(tmp_path) -> list[Path]:
    folders = [tmp_path / name for name in ("first", "second")]
    for folder in folders:
        folder.mkdir()
    return folders


def weights(folder: Path) -> bytes:
    return (folder / "run" / "model.safetensors").read_bytes()


def test_two_machines_train_as_two_processes_of_one_and_the_first_writes_and_speaks(machines, tmp_path):
    flags = [*LITTLE, "--total_kimg", "0.128", "--train_batch_size", "16"]
    first, second = run_machines(machines, RECIPE, *flags)
    run_ranks(2, RECIPE, *flags, cwd=tmp_path)
    assert weights(machines[0]) == weights(tmp_path)
    assert "processes: 2" in first
    assert first.count("opened: ") == first.count("Use it:") == 1
    assert second.count("process 1 of the same run") == 1
    assert not any(said in second for said in ("opened: ", "output: ", "img/s", "Use it:"))
    assert not (machines[1] / "run").exists()


def test_two_machines_draw_into_a_folder_that_both_see(machines, generator_folder, tmp_path):
    flags = ["--generator", str(generator_folder), "--num_images", "203", "--images_per_shard", "32"]
    first, second = run_machines(machines, recipe_path("generate"), *flags, "--output_dir", str(tmp_path / "both"))
    run_machines(machines[:1], recipe_path("generate"), *flags, "--output_dir", "one")
    folders = tmp_path / "both", machines[0] / "one"
    both, one = ({path.name: path.read_bytes() for path in folder.rglob("train-*")} for folder in folders)
    assert len(both) == 7
    assert both == one
    assert "generating (1 of 2 processes)" in first
    assert "generating (2 of 2 processes)" in second
    # Into one that each has for itself, neither pretends to have drawn all.
    for said in run_machines(machines, recipe_path("generate"), *flags, "--output_dir", "own", expected=1):
        assert "holds 203" not in said


@pytest.mark.parametrize("different", ["images", "one image", "resumed", "another run"])
def test_machines_that_were_given_other_things_are_told_apart(machines, different):
    flags = ["--total_kimg", "0.064", "--train_data_dir", "photos", "--report_to", "none", "--output_dir", "run"]
    for number, folder in enumerate(machines):
        write_class_folders(folder / "photos", small_images(n=20, classes=2, size=16))
        if number and different == "images":
            next((folder / "photos").rglob("*.png")).unlink()
        if number and different == "one image":
            one, other = sorted((folder / "photos").rglob("*.png"))[:2]
            shutil.copy(one, other)
    host = socket.gethostname()
    expected = {
        "images": "number of images 19 instead of 20",
        "one image": "fingerprint of the images ",
        "resumed": "step to resume after None instead of 1",
        "another run": f"main process on {host}: written at ",
    }
    begun = {"resumed": machines[:1], "another run": machines}.get(different, [])
    for machine in begun:
        run_machines([machine], RECIPE, *flags)
        (machine / "run" / "model.safetensors").unlink()
    flags += ["--resume_from_checkpoint", "latest"] * bool(begun)
    for said in run_machines(machines, RECIPE, *flags, expected=1):
        assert f"error: process 1 on {host} has other values than the main process on {host}: " in said
        assert expected[different] in said, said


DIVERGING = """
from helpers.killed import new_trainer
from ganaug.training import RunFolder, train
from ganaug.training.recovery import Recovery

Recovery.PATIENCE = 2
trainer = new_trainer("flow", "no", 24)  # steps of one process, so 12 of two
shown = trainer.batches.real

def real(number, part):
    images, labels = shown(number, part)
    return (images * float("nan") if number >= 8 and trainer.learning_rate_factor == 1 else images), labels

trainer.batches.real = real
train(trainer, RunFolder("run") if trainer.accelerator.is_main_process else None)
print("learning rate times", trainer.learning_rate_factor)
"""


def test_machines_go_back_to_a_checkpoint_that_only_the_first_sees(machines):
    for said in run_machines(machines, "-c", DIVERGING):
        assert "Back to run/training/checkpoints/step-00000008" in said
        assert "learning rate times 0.5" in said
    assert weights(machines[0])
    assert not (machines[1] / "run").exists()


def test_a_launcher_that_leaves_processes_alone_is_an_error(in_process, generator_folder, monkeypatch):
    """As accelerate launch --num_machines 2 does on CPUs, if it is not told --multi_gpu."""
    monkeypatch.delenv("WORLD_SIZE", raising=False)
    monkeypatch.setenv("ACCELERATE_MIXED_PRECISION", "no")
    monkeypatch.setenv("MASTER_ADDR", "127.0.0.1")
    drawn = ["--generator", str(generator_folder), "--num_images", "8", "--output_dir", "out"]
    for flags, name in ((["--total_kimg", "0.1"], "train_flow"), (drawn, "generate")):
        message = in_process(*flags, name=name)
        assert message.startswith("error: accelerate launch was told of several processes or machines"), message
        assert "Add --multi_gpu" in message


def start_launchers(machines: list[Path], launcher: str, *command: str) -> list[subprocess.Popen[bytes]]:
    """A launcher on each machine; they meet at a free port."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    started = []
    for rank, folder in enumerate(machines):
        own = {
            "torchrun": f"--nnodes 2 --node_rank {rank} --master_addr 127.0.0.1 --master_port {port}",
            "accelerate": f"--multi_gpu --num_machines 2 --num_processes 2 --machine_rank {rank} "
            f"--main_process_ip 127.0.0.1 --main_process_port {port}",
        }
        with (folder / "log").open("wb") as log:
            environment = {**os.environ, "HOME": str(folder)}
            words = [*LAUNCHERS[launcher], *own[launcher].split(), *command]
            started.append(
                subprocess.Popen(words, cwd=folder, env=environment, stdout=log, stderr=log, start_new_session=True)
            )
    return started


@pytest.mark.slow
def test_accelerate_launch_trains_a_gan_on_two_machines_as_on_one(machines, tmp_path):
    command = [recipe_path("train_acgan"), *LITTLE, "--model", "acgan-28", "--total_kimg", "0.256"]
    command += ["--train_batch_size", "16"]
    launchers = start_launchers(machines, "accelerate", *command)
    assert [each.wait() for each in launchers] == [0, 0], (machines[0] / "log").read_text()
    run(*TORCHRUN, "--standalone", "--nproc_per_node", "2", *command, cwd=tmp_path)
    assert weights(machines[0]) == weights(tmp_path)
    assert not (machines[1] / "run").exists()


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_after_a_machine_is_lost_the_run_goes_on_with_a_copy_of_its_folder(machines, tmp_path):
    command = [RECIPE, *LITTLE, "--total_kimg", "0.64", "--train_batch_size", "8", "--checkpointing_kimg", "0.08"]
    launchers = start_launchers(machines, "torchrun", *command)
    checkpoints = machines[0] / "run" / "training" / "checkpoints"
    try:
        while len(list(checkpoints.glob("step-*"))) < 2:
            assert launchers[0].poll() is None, (machines[0] / "log").read_text()
            time.sleep(0.05)
        os.killpg(launchers[1].pid, signal.SIGKILL)
        assert launchers[0].wait(120) != 0
    finally:
        for each in launchers:
            if each.poll() is None:
                os.killpg(each.pid, signal.SIGKILL)
    shutil.copytree(machines[0] / "run", machines[1] / "run")
    again = start_launchers(machines, "torchrun", RECIPE, "--resume_from_checkpoint", "run", "--report_to", "none")
    assert [each.wait() for each in again] == [0, 0], (machines[0] / "log").read_text()
    run_ranks(2, *command, cwd=tmp_path)
    assert weights(machines[0]) == weights(tmp_path)
    kimg = [json.loads(line)["kimg"] for line in (machines[0] / "run/training/metrics.jsonl").read_text().splitlines()]
    assert kimg == sorted(set(kimg))
