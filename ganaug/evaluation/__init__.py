"""Evaluation: does a generator do what it was asked, and do its images help?"""

from ganaug.evaluation.classifier import (
    SmallCNN,
    TorchvisionClassifier,
    accuracy,
    predict,
    predict_probabilities,
    train_classifier,
)
from ganaug.evaluation.evaluate import Evaluation, evaluate
from ganaug.evaluation.fidelity import Fidelity, fidelity
from ganaug.evaluation.generator_score import GeneratorScore
from ganaug.evaluation.label_fidelity import LabelFidelity, label_fidelity
from ganaug.evaluation.leakage import LeakageCheck, check_leakage
from ganaug.evaluation.memorization import Memorization, memorization
from ganaug.evaluation.ratio import RatioChoice, choose_ratio
from ganaug.evaluation.report.contents import report_of, write_report
from ganaug.evaluation.study import UtilitySettings
from ganaug.evaluation.utility import ClassificationAccuracy, Utility, Verdict, classification_accuracy, utility

__all__ = [
    "ClassificationAccuracy",
    "Evaluation",
    "Fidelity",
    "GeneratorScore",
    "LabelFidelity",
    "LeakageCheck",
    "Memorization",
    "RatioChoice",
    "SmallCNN",
    "TorchvisionClassifier",
    "Utility",
    "UtilitySettings",
    "Verdict",
    "accuracy",
    "check_leakage",
    "choose_ratio",
    "classification_accuracy",
    "evaluate",
    "fidelity",
    "label_fidelity",
    "memorization",
    "predict",
    "predict_probabilities",
    "report_of",
    "train_classifier",
    "utility",
    "write_report",
]
