"""Training: the loop, the objectives, and what surrounds them."""

from ganaug.training.hardware import start_accelerator
from ganaug.training.loop import train
from ganaug.training.objectives import GANObjective, Objective
from ganaug.training.run_folder import RunFolder, new_run_folder
from ganaug.training.settings import TrainingSettings
from ganaug.training.systems import SYSTEMS, System
from ganaug.training.trainer import Trainer

__all__ = [
    "SYSTEMS",
    "GANObjective",
    "Objective",
    "RunFolder",
    "System",
    "Trainer",
    "TrainingSettings",
    "new_run_folder",
    "start_accelerator",
    "train",
]
