"""The tests' environment. No test reads or writes the home directory or the network."""

from __future__ import annotations

import os
import tempfile

import pytest

# Tests run beside one another: threads that wait for work must not take the cores from them. Read with libgomp.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
os.environ.setdefault("OMP_NUM_THREADS", "1")

# A home of the tests' own, and no token. huggingface_hub and datasets read these when they are imported.
_home = tempfile.TemporaryDirectory()
os.environ.update(dict.fromkeys(("HOME", "HF_HOME", "XDG_CACHE_HOME", "MPLCONFIGDIR"), _home.name))
os.environ.update(HF_HUB_DISABLE_TELEMETRY="1", HF_HUB_DISABLE_PROGRESS_BARS="1", HF_HUB_DISABLE_XET="1")
os.environ["NO_ALBUMENTATIONS_UPDATE"] = "1"  # else its import asks the network for a newer version
os.environ.pop("HF_TOKEN", None)


def pytest_configure(config: pytest.Config) -> None:
    """Load the fixtures, but not where pytest only hands out tests to its workers: they import torch, for seconds."""
    hands_out = config.getoption("dist", "no") != "no" and not hasattr(config, "workerinput")
    if not hands_out or config.option.collectonly:
        config.pluginmanager.import_plugin("helpers.fixtures")
