"""Training: the loop, the objectives, and what surrounds them."""

from ganaug.training.budget import kimg_within
from ganaug.training.checkpoints import Checkpoint, Checkpoints, open_checkpoint
from ganaug.training.fit import fit
from ganaug.training.flow_trainer import FlowTrainer
from ganaug.training.gan_trainer import GANTrainer
from ganaug.training.hardware import start_accelerator
from ganaug.training.init_from import init_from
from ganaug.training.interruption import StoppedError
from ganaug.training.loop import train
from ganaug.training.models import CLASSIC_MODELS, MODELS, Model, make_trainer
from ganaug.training.objectives import GANObjective, Objective
from ganaug.training.presets import Preset, choose_preset
from ganaug.training.resume import check_same_run, find_checkpoint
from ganaug.training.run_folder import RunFolder, new_run_folder
from ganaug.training.selection import hold_back
from ganaug.training.settings import TrainingSettings
from ganaug.training.trainer import Trainer

__all__ = [
    "CLASSIC_MODELS",
    "MODELS",
    "Checkpoint",
    "Checkpoints",
    "FlowTrainer",
    "GANObjective",
    "GANTrainer",
    "Model",
    "Objective",
    "Preset",
    "RunFolder",
    "StoppedError",
    "Trainer",
    "TrainingSettings",
    "check_same_run",
    "choose_preset",
    "find_checkpoint",
    "fit",
    "hold_back",
    "init_from",
    "kimg_within",
    "make_trainer",
    "new_run_folder",
    "open_checkpoint",
    "start_accelerator",
    "train",
]
