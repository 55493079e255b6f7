"""Evaluation: does a generator do what it was asked?"""

from ganaug.evaluation.classifier import SmallCNN, accuracy, predict, train_classifier
from ganaug.evaluation.label_fidelity import LabelFidelity, label_fidelity

__all__ = ["LabelFidelity", "SmallCNN", "accuracy", "label_fidelity", "predict", "train_classifier"]
