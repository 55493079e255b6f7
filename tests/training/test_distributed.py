"""Training shared by several processes is that of one; gradients added up are those of a larger batch."""

from __future__ import annotations

import os
import runpy
import signal
import time
from pathlib import Path

import pytest
import torch
from accelerate import Accelerator
from helpers.killed import BATCH
from helpers.programs import as_a_program, recipe_path, run_ranks, start_python
from helpers.shared_training import comparable_trainer, losses

from ganaug import Generator
from ganaug.generators import one_pass
from ganaug.training import find_checkpoint

STEPS = 50


@pytest.mark.parametrize(
    ("system", "steps", "double"),
    [
        ("flow", STEPS, False),
        ("acgan-28", STEPS, True),
        ("acgan", 33, True),  # of which 18 are of the flow, 12 of distillation, and 3 against the discriminator
        pytest.param("sngan", STEPS, True, marks=pytest.mark.slow),
    ],
)
def test_two_processes_train_as_one_with_twice_the_batch(monkeypatch, tmp_path, system, steps, double):
    """In float32 the losses of GANs do so for 20 steps; then rounding has grown, as it does between two machines."""
    monkeypatch.setattr(one_pass, "LEAST_TIME", one_pass.LEAST_TIME)  # which a comparable trainer changes
    flags = [system, str(steps), str(BATCH // 2), str(double), str(tmp_path)]
    run_ranks(2, "-m", "helpers.shared_training", *flags, cwd=tmp_path)
    first, second = (torch.load(tmp_path / f"{rank}.pt") for rank in range(2))
    with as_a_program():
        trainer = comparable_trainer(system, steps, double=double)
        expected = losses(trainer)
    assert trainer.total_steps == steps
    assert first["losses"].keys() == expected.keys()
    for name, values in expected.items():
        assert values.std() > 1e-3, name
        assert torch.allclose(first["losses"][name], values, rtol=1e-4, atol=0), name
    one = trainer.state()
    for part, tensors in first["state"].items():  # weights, averages, running means and moments
        for name, value in tensors.items():
            assert torch.equal(value, second["state"][part][name]), (part, name)
            if double:
                assert torch.allclose(value, one[part][name], rtol=1e-3, atol=1e-5), (part, name)


@pytest.mark.parametrize("system", ["acgan-28", "dcgan-32-conditional", "flow"])
@pytest.mark.parametrize("parts", [2, 4])
def test_gradients_of_parts_are_added_up_for_each_network_alike(system, parts):
    split = {"train_batch_size": BATCH // parts, "gradient_accumulation_steps": parts}
    with as_a_program():
        trainer = comparable_trainer(system, 10, double=True, **split)
        found, whole = losses(trainer), losses(comparable_trainer(system, 10, double=True))
    steps = {
        float(value)
        for network in trainer.state()
        if network.endswith("optimizer")
        for name, value in trainer.state()[network].items()
        if name.endswith(".step")
    }
    assert steps == {10.0}
    if system != "acgan-28":  # whose BatchNorm sees the parts
        assert all(torch.allclose(found[name], whole[name], rtol=1e-4, atol=0) for name in whole)


def test_the_check_for_other_machines_says_what_is_wrong(capsys):
    check = runpy.run_path(recipe_path("check_distributed"))
    compare, steps = check["compare"], check["STEPS"]
    good = {
        "losses": torch.linspace(1, 2, 2 * steps).view(steps, 2),
        "processes": torch.tensor(2),
        "moved": torch.tensor(0.3),
        "generator_optimizer.w.step": torch.tensor(10.0),
    }
    assert compare("flow", [good, good], good)
    for number, changed in enumerate(
        [
            {"processes": torch.tensor(1)},
            {"losses": good["losses"] * 1.1},
            {"moved": torch.tensor(0.0)},
            {"generator_optimizer.w.step": torch.tensor(5.0)},
        ]
    ):
        bad = good | changed
        assert not compare("flow", [bad, bad], good), number
    assert not compare("flow", [good, good | {"generator_optimizer.w.step": torch.tensor(9.0)}], good)
    shown = capsys.readouterr().out
    assert shown.count("NO") == 5
    assert "flow: the same weights, averages and moments on all: NO" in shown
    other = good | {"generator_optimizer.w.step": torch.tensor(9.0)}
    assert check["compare_machines"]("flow", [good, good], [good, good])
    assert not check["compare_machines"]("flow", [good, other], [good, good])
    assert capsys.readouterr().out.splitlines()[-1].endswith("moments on 2 machines as on one, bit for bit: NO")


@pytest.mark.slow
def test_the_check_passes_here(in_process):
    assert in_process(name="check_distributed") is None


def test_two_processes_choose_together(tmp_path):
    folder = tmp_path / "run"
    run_ranks(2, "-m", "helpers.killed", str(folder), "flow", cwd=tmp_path)
    training = Generator.from_pretrained(folder).info["training"]
    assert (training["num_processes"], training["candidates"]) == (2, 3)
    candidates = find_checkpoint(folder).facts["candidates"]
    assert training["chosen_after_kimg"] in [found["kimg"] for found in candidates]
    assert len(candidates) == 3
    assert (folder / "training" / "last" / "model.safetensors").exists()


@pytest.mark.slow
def test_a_process_that_dies_ends_the_run(tmp_path):
    command = ["-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2", recipe_path("train_acgan")]
    command += ["--dataset_name", "sklearn:digits", "--model", "acgan-28", "--total_kimg", "1000"]
    command += ["--train_batch_size", "8", "--checkpointing_kimg", "0.064"]
    launcher = start_python(*command, cwd=tmp_path, before=os.setsid)
    try:
        while not list(tmp_path.glob("outputs/acgan-28/training/checkpoints/step-*")):
            assert launcher.running()
            time.sleep(0.05)
        children = Path(f"/proc/{launcher.pid}/task/{launcher.pid}/children").read_text().split()
        os.kill(int(children[-1]), signal.SIGKILL)
        assert launcher.wait() != 0
    finally:
        if launcher.running():
            os.killpg(launcher.pid, signal.SIGKILL)
    assert "Signal 9 (SIGKILL)" in launcher.read()


LONG = """
import time
from datetime import timedelta
from pathlib import Path
from accelerate import PartialState
from ganaug.training import TrainingSettings, start_accelerator
from ganaug.training.distributed import going_first

PartialState(cpu=True, timeout=timedelta(seconds=1))  # instead of half an hour
accelerator = start_accelerator(TrainingSettings(mixed_precision="no"))
with going_first(accelerator, accelerator.is_main_process):
    if accelerator.is_main_process:
        time.sleep(3)
        Path("made").touch()
    else:
        print("made" if Path("made").exists() else "too early")
accelerator.wait_for_everyone()
accelerator.end_training()
"""


def test_processes_wait_for_what_one_does_first_longer_than_for_lost_ones(tmp_path):
    _, other = run_ranks(2, "-c", LONG, cwd=tmp_path)
    assert other.splitlines()[-1] == "made"


DAMAGED = """
from ganaug import LoadError
from ganaug.training import TrainingSettings, start_accelerator
from ganaug.training.distributed import on_main
accelerator = start_accelerator(TrainingSettings())
def read():
    assert accelerator.is_main_process
    raise LoadError("it is damaged")
try:
    on_main(accelerator, read)
except LoadError as error:
    print(error)
print(on_main(accelerator, lambda: accelerator.process_index))
"""


def test_what_the_main_process_cannot_read_ends_all_of_them(tmp_path):
    (tmp_path / "damaged.py").write_text(DAMAGED)
    assert run_ranks(2, "damaged.py", cwd=tmp_path) == ["it is damaged\n0\n"] * 2


def test_processes_that_do_not_see_one_another_are_an_error(in_process, monkeypatch):
    def alone(**options):
        with monkeypatch.context() as patch:
            patch.delenv("WORLD_SIZE")
            return Accelerator(**options)

    monkeypatch.setattr("ganaug.training.distributed.Accelerator", alone)
    monkeypatch.setenv("WORLD_SIZE", "2")
    message = in_process("--total_kimg", "0.1")
    assert message.startswith("error: 2 processes were started (WORLD_SIZE), and accelerate sees 1. Start them with")
