"""What users import stays where it is."""

from __future__ import annotations

import importlib
import inspect

import pytest

PUBLIC = {
    "ganaug": [
        "ConditionalGANAugment", "ConditionalGANStream", "DataError", "GANMix", "Generator", "InputError",
        "LabelledImages", "LoadError", "MixedBatchSampler", "PublishError", "adapt", "augment_dataset",
        "bundled_digits", "evaluate", "fit", "generate_dataset", "open_images", "publish", "publish_dataset",
        "register_generator", "sample",
    ],
    "ganaug.data": [
        "Audit", "LabelledImages", "audit_images", "bundled_digits", "joined", "long_tail_counts", "open_images",
        "open_unlabeled", "reduce_images",
    ],
    "ganaug.evaluation": [
        "closest_pairs", "closest_pairs_picture", "evaluate", "forest_plot", "report_of", "utility", "write_report",
    ],
    "ganaug.filters": ["ClassifierAgreement", "DiscriminatorScore", "Filter", "StarvedFilterError"],
    "ganaug.generators": [
        "ACGAN28Discriminator", "ACGAN28Generator", "ACGAN64Discriminator", "ACGAN64Generator",
        "CGANMLPDiscriminator", "CGANMLPGenerator", "CGANMaxoutDiscriminator", "CGANMaxoutGenerator",
        "DCGAN32Discriminator", "DCGAN32Generator", "FlowGenerator", "Generator", "SNGANDiscriminator",
        "SNGANGenerator", "VelocityUNet", "register_generator", "registered_generators",
    ],
    "ganaug.sampling": [
        "ClassSampler", "ClassifierAgreement", "ConditionalGenerator", "DiscriminatorScore", "Filter",
        "StarvedFilterError", "sample",
    ],
    "ganaug.testing": ["check_augmented_dataset", "check_generator"],
    "ganaug.training": ["GANObjective", "TrainingSettings", "fit", "train"],
    "ganaug.transforms": ["GANMix"],
}  # fmt: skip


@pytest.mark.parametrize("path", PUBLIC)
def test_public_paths_have_their_names_and_say_what_they_are_for(path):
    module = importlib.import_module(path)
    assert set(PUBLIC[path]) <= set(dir(module))
    assert inspect.getdoc(module)
    for name in getattr(module, "__all__", ()):
        assert hasattr(module, name), f"{path}.__all__ promises {name}"
