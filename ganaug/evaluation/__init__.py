"""Evaluation: does a generator do what it was asked, and do its images help?"""

from ganaug.evaluation.augmentation import RandAugment, ShiftFlip, TrivialAugment
from ganaug.evaluation.backbones import TimmClassifier, TorchvisionClassifier
from ganaug.evaluation.cells import Answers
from ganaug.evaluation.classifier import accuracy, predict, predict_probabilities, train_classifier
from ganaug.evaluation.classifier_names import classifier_named
from ganaug.evaluation.draws import Draw, Draws, draw_images, kind_of_draws, shared_by_draws
from ganaug.evaluation.evaluate import Evaluation, evaluate
from ganaug.evaluation.fidelity import Fidelity, LabelFidelity, fidelity, label_fidelity
from ganaug.evaluation.generator_score import GeneratorScore
from ganaug.evaluation.leakage import LeakageCheck, check_leakage
from ganaug.evaluation.memorization import (
    ClosestPairs,
    Memorization,
    closest_pairs,
    closest_pairs_picture,
    memorization,
)
from ganaug.evaluation.networks import ClassifierFactory, SmallCNN, SmallViT
from ganaug.evaluation.ratio import RatioChoice, choose_ratio
from ganaug.evaluation.report.contents import Report, report_of
from ganaug.evaluation.report.figures import forest_plot
from ganaug.evaluation.report.files import add_verdict, write_report
from ganaug.evaluation.semi_supervised import train_semi_supervised
from ganaug.evaluation.study import UtilitySettings
from ganaug.evaluation.utility import Utility, Verdict, classification_accuracy, utility

__all__ = [
    "Answers",
    "ClassifierFactory",
    "ClosestPairs",
    "Draw",
    "Draws",
    "Evaluation",
    "Fidelity",
    "GeneratorScore",
    "LabelFidelity",
    "LeakageCheck",
    "Memorization",
    "RandAugment",
    "RatioChoice",
    "Report",
    "ShiftFlip",
    "SmallCNN",
    "SmallViT",
    "TimmClassifier",
    "TorchvisionClassifier",
    "TrivialAugment",
    "Utility",
    "UtilitySettings",
    "Verdict",
    "accuracy",
    "add_verdict",
    "check_leakage",
    "choose_ratio",
    "classification_accuracy",
    "classifier_named",
    "closest_pairs",
    "closest_pairs_picture",
    "draw_images",
    "evaluate",
    "fidelity",
    "forest_plot",
    "kind_of_draws",
    "label_fidelity",
    "memorization",
    "predict",
    "predict_probabilities",
    "report_of",
    "shared_by_draws",
    "train_classifier",
    "train_semi_supervised",
    "utility",
    "write_report",
]
