"""The contract of a generator."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, ClassVar, TypeVar, cast

from torch import Tensor, nn

from ganaug.core.errors import InputError
from ganaug.core.text import LONGEST_NAME, is_name
from ganaug.hub.download import fetch
from ganaug.hub.folder import load, save
from ganaug.hub.registry import Origin
from ganaug.hub.upload import publish
from ganaug.sampling.draw import sample

GeneratorSelf = TypeVar("GeneratorSelf", bound="Generator")


class Generator(nn.Module, ABC):
    """Class-conditional image generator.

    A subclass sets ``architecture``, builds its layers, and defines ``forward`` and :meth:`make_discriminator`. It
    takes ``label_names``, ``image_size`` and ``channels``; whatever else its constructor takes, with plain JSON
    values, it returns from :meth:`network_options`, so that ``config.json`` can rebuild it.

    Args:
        label_names (sequence of str): class names; label k is ``label_names[k]``. An empty one makes an unconditional
            generator of a class that sets ``can_be_unconditional``.
        image_size (int): side of the square images, in pixels.
        channels (int): 1 for grey, 3 for RGB.
        latent_dim (int): length of a latent vector.

    Attributes:
        info (dict): facts that travel in ``config.json``: ``"dataset"`` and ``"training"``, plain JSON values.
        seen_images (Tensor, optional): ``LabelledImages.image_hashes`` of the images it was trained on, int64 (N,),
            sorted, none twice; None where they were not recorded. It is no buffer: it stays on the CPU and is not
            part of ``state_dict``.
        origin (Origin, optional): where it was loaded from, or saved to last; None for one that was only made here.

    Raises:
        ValueError: a class name is missing, double, too long or has control characters, or a size is not a positive
            int.
    """

    architecture: ClassVar[str]
    can_be_unconditional: ClassVar[bool] = False

    def __init__(self, label_names: Sequence[str], *, image_size: int, channels: int, latent_dim: int) -> None:
        super().__init__()
        self.label_names = tuple(label_names)
        enough = self.label_names or self.can_be_unconditional
        if not enough or not all(is_name(name) for name in self.label_names):
            raise ValueError(
                f"label_names must be one or more strings of 1 to {LONGEST_NAME} characters, not of control; got "
                f"{list(label_names)!r}"
            )
        if len(set(self.label_names)) < len(self.label_names):
            raise ValueError(f"label_names must differ from one another, got {list(label_names)!r}")
        for name, value in [("image_size", image_size), ("channels", channels), ("latent_dim", latent_dim)]:
            if type(value) is not int or value < 1:
                raise InputError(f"{name} must be a positive int, got {value!r}")
        self.image_size = image_size
        self.channels = channels
        self.latent_dim = latent_dim
        self.info: dict[str, Any] = {"dataset": {}, "training": {}}
        self.seen_images: Tensor | None = None
        self.origin: Origin | None = None

    @property
    def num_classes(self) -> int:
        """Number of classes; 0 for an unconditional generator."""
        return len(self.label_names)

    @property
    def conditional(self) -> bool:
        """Whether images of a wanted class can be drawn."""
        return bool(self.label_names)

    def network_options(self) -> dict[str, Any]:
        """Constructor arguments, beside names, size and channels, that rebuild this network."""
        return {"latent_dim": self.latent_dim}

    @abstractmethod
    def forward(self, z: Tensor, labels: Tensor) -> Tensor:
        """Images for latents and labels.

        Args:
            z (Tensor): float (N, latent_dim), standard normal.
            labels (Tensor): int64 (N,), in [0, num_classes).

        Returns:
            Tensor: float (N, channels, image_size, image_size) in [-1, 1].
        """

    def make_discriminator(self) -> nn.Module:
        """A new discriminator to train this generator against.

        Returns:
            nn.Module: maps float images (N, channels, image_size, image_size) in [-1, 1] and int64 labels (N,) to
            (real/fake logits (N,), high for real; class logits (N, num_classes), or None without a class head).

        Raises:
            InputError: this architecture has none.
        """
        raise InputError(
            f"{type(self).__name__} has no discriminator to train against: define make_discriminator in the class"
        )

    def _require_multiple(self, factor: int) -> None:
        """Refuse image sizes that layers which enlarge ``factor`` times cannot end at."""
        if self.image_size % factor:
            raise InputError(
                f"{self.architecture} enlarges {factor} times, so the image size must be a multiple of {factor}; got "
                f"{self.image_size}. Resize the images, for instance with --resolution "
                f"{max(factor, round(self.image_size / factor) * factor)}"
            )

    def sample(self, labels: Sequence[int] | Tensor, *, seed: int = 0) -> Tensor:
        """Draw one image per label; image k depends on ``labels[k]``, ``seed`` and k alone.

        Args:
            labels (sequence of int or Tensor): shape (N,), in [0, num_classes); all 0 for an unconditional generator.
            seed (int): in [0, 2**64). Default: 0

        Returns:
            Tensor: uint8 (N, channels, image_size, image_size), on the CPU.

        Raises:
            ValueError: a label is not a class of this generator, or the seed is out of range.
        """
        highest = max(self.num_classes - 1, 0)
        bad = [int(label) for label in labels if not 0 <= label <= highest]
        if bad:
            classes = ", ".join(f"{k}: {name}" for k, name in enumerate(self.label_names))
            raise ValueError(
                f"labels must be from 0 to {highest}, got {bad[0]}; "
                + (f"the classes are {classes}" if classes else "this generator is unconditional")
            )
        return sample(self, labels, seed=seed)

    def save_pretrained(
        self, save_directory: str | Path, *, repo_id: str | None = None, push_to_hub: bool = False, **kwargs: Any
    ) -> str | None:
        """Write ``model.safetensors``, ``config.json``, ``README.md`` and ``samples/grid.png``.

        ``training_images.safetensors`` has :attr:`seen_images`, where they were recorded. Someone who has an image
        can find out from it whether exactly that image was trained on.

        Args:
            save_directory (str or Path): made if missing. Of an existing ``README.md``, only what stands between
                ganaug's marks changes.
            repo_id (str, optional): with ``push_to_hub``; default: the folder's name.
            push_to_hub (bool): publish the folder too. Default: False
            kwargs: as of :func:`ganaug.publish`.

        Returns:
            str or None: address of the commit, with ``push_to_hub``.

        Raises:
            OSError: the folder cannot be written to.
            PublishError: as :func:`ganaug.publish`; everything is saved then.
            TypeError: one of ``kwargs`` is not known, or given without ``push_to_hub``.
        """
        if kwargs and not push_to_hub:
            raise TypeError(f"{', '.join(kwargs)}: only with push_to_hub=True")
        save(self, save_directory)
        if push_to_hub:
            made = publish(save_directory, repo_id or Path(save_directory).name, **kwargs)
            self.origin = cast(Origin, self.origin)._replace(name=f"{made.repo_id}@{made.commit}")
            return made.url
        return None

    def push_to_hub(self, repo_id: str, **kwargs: Any) -> str:
        """Publish the generator on the Hub, in one commit.

        Args:
            repo_id (str): ``"user/repo"``; made if missing.
            kwargs: ``private``, ``token``, ``branch``, ``commit_message``, ``create_pr``, ``licence``, ``endpoint``;
                as of :func:`ganaug.publish`.

        Returns:
            str: address of the commit.

        Raises:
            PublishError: as :func:`ganaug.publish`.
        """
        with TemporaryDirectory() as folder:
            return cast(str, self.save_pretrained(folder, repo_id=repo_id, push_to_hub=True, **kwargs))

    @classmethod
    def from_pretrained(
        cls: type[GeneratorSelf],
        pretrained_model_name_or_path: str | Path,
        *,
        revision: str | None = None,
        token: str | bool | None = None,
        cache_dir: str | Path | None = None,
        local_files_only: bool = False,
        force_download: bool = False,
        endpoint: str | None = None,
    ) -> GeneratorSelf:
        """Load a generator; its class is found from the config's architecture.

        Args:
            pretrained_model_name_or_path (str or Path): a folder, or a Hub id: ``"user/repo"``,
                ``"user/repo@revision"``.
            revision (str, optional): branch, tag or commit on the Hub.
            token, cache_dir, local_files_only, force_download, endpoint: as in ``huggingface_hub``.

        Returns:
            Generator: in evaluation mode, on the CPU.

        Raises:
            LoadError: there is no such folder or repository, it holds no generator of ours, or its weights do not
                fit its config.
        """
        folder = fetch(
            pretrained_model_name_or_path,
            revision=revision,
            token=token,
            cache_dir=cache_dir,
            local_files_only=local_files_only,
            force_download=force_download,
            endpoint=endpoint,
        )
        return load(folder, expected=cls)


def require_positive_multiple(name: str, value: object, factor: int) -> None:
    """Refuse an option of a network that is not a positive int and a multiple of ``factor``.

    Raises:
        InputError: it is not.
    """
    if type(value) is not int or value < factor or value % factor:
        raise InputError(f"{name} must be a positive multiple of {factor}, got {value!r}")
