"""Flags of the train_*.py recipes."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from arguments import DataArguments

from ganaug.training import GANObjective, TrainingSettings


@dataclass(frozen=True)
class TrainingArguments:
    """Flags of every training recipe.

    Args:
        unlabeled_data: Folder of further images, or another source of them; labels that they may have are not looked
            at. They are labelled by classifiers trained on the labelled ones, with init_from on images of that
            generator too, and trained on.
        output_dir: Folder for the generator, its card and the files of the run; by default outputs/ and the
            name of its architecture, with -2 and so on where that is taken.
        report_to: Show the monitors and grids in this tracker; TensorBoard's are in training/logs. The monitors always
            go to training/metrics.jsonl.
        latent_dim: Length of the generator's latent vector; by default that of the model. A flow has one number for
            each value of an image, and takes no other.
        init_from: Folder or Hub id of a trained generator of the same model to start from; its classes may be others.
        budget_minutes: Train no longer than about this: a few steps are timed, and the budget in kimg is lowered if it
            would take more. Without a model, a network that needs less time is taken where that is better.
        resume_from_checkpoint: Go on with a run that was stopped: latest, of output_dir or of all in outputs/, or the
            folder of a run or of one of its checkpoints. Its flags need not be given again, but those of publishing
            and report_to.
        override: With resume_from_checkpoint, train to another total_kimg, or with another precision or number of
            threads.
        summary: Print a table of the layers of both networks first.
        push_to_hub: Publish the generator when it is trained; see recipes/publish.py.
        hub_model_id: Where to, as user/repo.
        hub_strategy: Publish the best generator of the run, which is the one that is saved, or the one at its end.
        hub_private_repo: Make a new repository private.
        licence: Of the generator, for its card, such as mit.
    """

    data: DataArguments = field(default_factory=DataArguments)
    training: TrainingSettings = field(default_factory=TrainingSettings)
    objective: GANObjective = field(default_factory=GANObjective)
    unlabeled_data: str | None = None
    output_dir: Path | None = None
    report_to: Literal["tensorboard", "trackio", "wandb", "none"] = "tensorboard"
    latent_dim: int | None = None
    init_from: str | None = None
    budget_minutes: float | None = None
    resume_from_checkpoint: str | None = None
    override: bool = False
    summary: bool = False
    push_to_hub: bool = False
    hub_model_id: str | None = None
    hub_strategy: Literal["best", "end"] = "best"
    hub_private_repo: bool = False
    licence: str | None = None

    def network_options(self) -> dict[str, Any]:
        """Arguments of the generator beside those that the images give."""
        return {} if self.latent_dim is None else {"latent_dim": self.latent_dim}
