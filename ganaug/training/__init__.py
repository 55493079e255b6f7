"""Training a generator: models and presets, trainers and objectives, and the loop with its checkpoints."""

from ganaug.training.acgan_trainer import ACGANTrainer
from ganaug.training.adapting import AdaptingTrainer
from ganaug.training.checkpoints import (
    Checkpoint,
    Checkpoints,
    check_same_run,
    find_checkpoint,
    open_checkpoint,
)
from ganaug.training.distributed import start_accelerator
from ganaug.training.fit import fit
from ganaug.training.flow_trainer import FlowTrainer
from ganaug.training.gan_trainer import GANTrainer
from ganaug.training.init_from import init_from
from ganaug.training.interruption import StoppedError
from ganaug.training.loop import train
from ganaug.training.losses import GANObjective, Objective
from ganaug.training.models import CLASSIC_MODELS, MODELS, Model, make_trainer
from ganaug.training.monitoring import TrainingEvent
from ganaug.training.presets import (
    Preset,
    choose_preset,
    expected_utility,
    kimg_within,
    measured_utility,
    preset_within,
)
from ganaug.training.pseudo_labels import PseudoLabels, pseudo_label
from ganaug.training.run_folder import RunFolder, new_run_folder
from ganaug.training.run_page import write_run_page
from ganaug.training.selection import hold_back
from ganaug.training.settings import TrainingSettings
from ganaug.training.trainer import Trainer

__all__ = [
    "CLASSIC_MODELS",
    "MODELS",
    "ACGANTrainer",
    "AdaptingTrainer",
    "Checkpoint",
    "Checkpoints",
    "FlowTrainer",
    "GANObjective",
    "GANTrainer",
    "Model",
    "Objective",
    "Preset",
    "PseudoLabels",
    "RunFolder",
    "StoppedError",
    "Trainer",
    "TrainingEvent",
    "TrainingSettings",
    "check_same_run",
    "choose_preset",
    "expected_utility",
    "find_checkpoint",
    "fit",
    "hold_back",
    "init_from",
    "kimg_within",
    "make_trainer",
    "measured_utility",
    "new_run_folder",
    "open_checkpoint",
    "preset_within",
    "pseudo_label",
    "start_accelerator",
    "train",
    "write_run_page",
]
