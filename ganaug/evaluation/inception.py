"""FID and KID, as they are published: in the features of the Inception network, through torchmetrics.

It was trained on photographs of 299 pixels, so for small or other images these say less than
:func:`ganaug.evaluation.fidelity.fidelity`. They need thousands of images: the features are 2,048.
"""

from __future__ import annotations

import pickle
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from ganaug.core.defaults import usual_defaults
from ganaug.core.errors import InputError
from ganaug.core.seeding import forked_rng
from ganaug.data import LabelledImages

_SUBSET = 1000  # images in each of KID's 100 random subsets, torchmetrics' default


@dataclass(frozen=True)
class InceptionDistances:
    """FID and KID between two sets of images.

    Attributes:
        fid (float): Fréchet inception distance, at least 0; small sets bias it upwards.
        kid (float): kernel inception distance, about 0 for equal distributions.
        num_images (int): in the smaller set.
    """

    fid: float
    kid: float
    num_images: int


@usual_defaults()
def inception_distances(
    generated: LabelledImages,
    real: LabelledImages,
    weights: Path | None,
    device: torch.device,
) -> InceptionDistances:
    """FID and KID between two sets of images of any size; grey images are repeated to RGB.

    Sources: Heusel et al. 2017, "GANs trained by a two time-scale update rule converge to a local Nash equilibrium",
    equation 6 (FID); Bińkowski et al. 2018, "Demystifying MMD GANs", section 4 (KID). Both are computed by
    torchmetrics with the weights of torch-fidelity; KID is the mean over 100 random subsets of 1,000 images, or of
    all images if there are fewer.

    Args:
        generated, real (LabelledImages): at least two images each.
        weights (Path, optional): file of the Inception weights. Default: torch-fidelity downloads them
        device (torch.device): to compute on.

    Raises:
        InputError: torchmetrics or torch-fidelity is not installed, the weights cannot be read, or a set has fewer
            than two images.
    """
    if min(len(generated), len(real)) < 2:
        raise InputError(
            f"FID and KID are of at least 2 images each; {generated.name} has {len(generated)} and {real.name} "
            f"{len(real)}. Give more"
        )
    # The network is initialised, and KID's subsets are drawn, from torch's global random state.
    with forked_rng(0, device), warnings.catch_warnings(), torch.inference_mode():
        warnings.filterwarnings(
            "ignore", message="Metric `Kernel Inception Distance` will save all extracted features"
        )
        metrics = _metrics(weights, min(_SUBSET, len(generated), len(real))).to(device)
        for data, is_real in ((real, True), (generated, False)):
            for batch in data.images.split(64):
                metrics.update(batch.to(device).repeat(1, 3 // data.channels, 1, 1), real=is_real)
        found = metrics.compute()
    return InceptionDistances(
        fid=max(0.0, found["fid"].item()),  # rounding can leave -1e-20
        kid=found["kid"][0].item(),
        num_images=min(len(generated), len(real)),
    )


def _metrics(weights: Path | None, subset_size: int) -> Any:
    """Both metrics, with one network between them."""
    try:
        from torchmetrics.image.fid import FrechetInceptionDistance
        from torchmetrics.image.kid import KernelInceptionDistance
        from torchmetrics.wrappers import FeatureShare

        if weights is not None:
            # torch-fidelity would run any code in the file; this refuses a file that contains code.
            torch.load(weights, map_location="cpu", weights_only=True)
        fid = FrechetInceptionDistance(feature_extractor_weights_path=None if weights is None else str(weights))
        return FeatureShare({"fid": fid, "kid": KernelInceptionDistance(fid.inception, subset_size=subset_size)})
    except ModuleNotFoundError as error:
        raise InputError(
            f"FID and KID need torchmetrics and torch-fidelity: {error.name or error}. Run pip install "
            '"ganaug[inception]"'
        ) from error
    except (OSError, EOFError, RuntimeError, pickle.UnpicklingError, TypeError) as error:
        source = "from torch-fidelity's download" if weights is None else f"from {weights}"
        raise InputError(
            f"the Inception weights cannot be loaded {source}: {error}. Give the file "
            "weights-inception-2015-12-05-6726825d.pth of torch-fidelity"
        ) from error
