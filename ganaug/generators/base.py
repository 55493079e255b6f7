"""The contract that every generator keeps: what it is made from, how it draws, how it is saved and loaded."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, ClassVar, TypeVar, cast

import torch
from torch import Tensor, nn

from ganaug.core.errors import InputError
from ganaug.core.integers import positive_int, to_int
from ganaug.core.text import LONGEST_NAME, in_short, is_name
from ganaug.hub.download import fetch
from ganaug.hub.folder import load, save
from ganaug.hub.registry import Origin
from ganaug.hub.upload import publish
from ganaug.sampling.draw import sample
from ganaug.sampling.variations import cannot_vary

GeneratorSelf = TypeVar("GeneratorSelf", bound="Generator")


class Generator(nn.Module, ABC):
    """Class-conditional image generator.

    A subclass sets ``architecture``, builds its layers, and defines ``forward``; a GAN's also defines
    :meth:`make_discriminator`. Its constructor takes ``label_names``, ``image_size`` and ``channels``. Any further
    arguments must be bools, short strings or numbers, ints up to 100,000, and :meth:`network_options` returns them, so
    that ``config.json`` can rebuild the network. Everything else that images depend on must be in ``state_dict``,
    or be the same whenever the network is made; training refuses a generator that could not be loaded again.

    Args:
        label_names (sequence of str): class names; label k is ``label_names[k]``. Empty for an unconditional
            generator, where the class sets ``can_be_unconditional``.
        image_size (int): side of the square images, in pixels.
        channels (int): 1 for grey, 3 for RGB.
        latent_dim (int): length of a latent vector.

    Attributes:
        info (dict): facts that travel in ``config.json``: ``"dataset"`` and ``"training"``, plain JSON values.
        seen_images (Tensor, optional): ``LabelledImages.image_hashes`` of the images it was trained on, int64 (N,),
            sorted and unique; None if they were not recorded. It is not a buffer: it stays on the CPU and is not
            part of ``state_dict``.
        origin (Origin, optional): where it was loaded from or last saved to; None for one that exists only in memory.

    Raises:
        ValueError: class names are missing, repeated, too long or contain control characters, or a size is not a
            positive int.
    """

    architecture: ClassVar[str]
    can_be_unconditional: ClassVar[bool] = False

    def __init__(self, label_names: Sequence[str], *, image_size: int, channels: int, latent_dim: int) -> None:
        super().__init__()
        self.label_names = tuple(label_names)
        wrong = [name for name in self.label_names if not is_name(name)]
        if wrong or not (self.label_names or self.can_be_unconditional):
            advice = ". Rename that class" if wrong else ""
            raise InputError(
                f"label_names must be one or more strings of 1 to {LONGEST_NAME} characters, without control "
                f"characters; got {in_short(ascii(wrong[0])) if wrong else 'none'}{advice}"
            )
        if len(set(self.label_names)) < len(self.label_names):
            twice = next(name for name in self.label_names if self.label_names.count(name) > 1)
            raise InputError(f"label_names must differ from one another, got {twice!r} more than once")
        self.image_size = positive_int("image_size", image_size)
        self.channels = positive_int("channels", channels)
        self.latent_dim = positive_int("latent_dim", latent_dim)
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
        """Constructor arguments that rebuild this network, beyond ``label_names``, ``image_size`` and ``channels``."""
        return {"latent_dim": self.latent_dim}

    @abstractmethod
    def forward(self, z: Tensor, labels: Tensor) -> Tensor:
        """Images for latents and labels.

        Args:
            z (Tensor): float32 (N, latent_dim), standard normal.
            labels (Tensor): int64 (N,), in [0, num_classes).

        Returns:
            Tensor: float (N, channels, image_size, image_size) in [-1, 1].
        """

    def forward_from(self, z: Tensor, labels: Tensor, images: Tensor, strength: float) -> Tensor:
        """Images that begin at real ones with noise mixed into them, for :meth:`vary`.

        Args:
            z, labels (Tensor): as in :meth:`forward`.
            images (Tensor): float (N, channels, image_size, image_size) in [-1, 1].
            strength (float): share of the way from noise to image that they go, in (0, 1]; at 1 the result is that of
                :meth:`forward`.

        Returns:
            Tensor: as of :meth:`forward`.

        Raises:
            InputError: this generator knows the way to an image from noise alone.
        """
        raise cannot_vary(self.architecture, "it draws from noise alone")

    def make_discriminator(self) -> nn.Module:
        """A new discriminator to train this generator against.

        Returns:
            nn.Module: maps float images (N, channels, image_size, image_size) in [-1, 1] and int64 labels (N,) to
            (real/fake logits (N,), high for real; class logits (N, num_classes), or None without a class head).

        Raises:
            InputError: this architecture has no discriminator.
        """
        raise InputError(
            f"{type(self).__name__} has no discriminator to train against: define make_discriminator in the class"
        )

    def _require_multiple(self, factor: int) -> None:
        """Refuse an image size that layers which enlarge by ``factor`` cannot produce."""
        if self.image_size % factor:
            raise InputError(
                f"{self.architecture} enlarges {factor} times, so the image size must be a multiple of {factor}; got "
                f"{self.image_size}. Resize the images, for instance with --resolution "
                f"{max(factor, round(self.image_size / factor) * factor)}"
            )

    def sample(self, labels: Sequence[int] | Sequence[str] | Tensor, *, seed: int = 0) -> Tensor:
        """Draw one image per label; image k depends on ``labels[k]``, ``seed`` and k alone.

        Args:
            labels (sequence of int or str, or Tensor): shape (N,), ints in [0, num_classes) or class names; all 0 for
                an unconditional generator.
            seed (int): in [0, 2**64). Default: 0

        Returns:
            Tensor: uint8 (N, channels, image_size, image_size) in [0, 255], on the CPU.

        Raises:
            ValueError: a label is not a class of this generator, the seed is out of range, or an image is not finite.
        """
        return sample(self, labels, seed=seed)

    def vary(
        self,
        images: Tensor,
        labels: Sequence[int] | Sequence[str] | Tensor,
        *,
        strength: float = 0.5,
        seed: int = 0,
    ) -> Tensor:
        """Draw a variation of each image: noise is mixed into it, and the generator goes the rest of the way.

        Variation k depends on ``images[k]``, ``labels[k]``, ``strength``, ``seed`` and k alone. Only a flow of 8 or
        more passes can do this: one that was taught to draw in fewer has forgotten the rest of the way.

        Args:
            images (Tensor): uint8 (N, channels, image_size, image_size) in [0, 255], on the CPU.
            labels (sequence of int or str, or Tensor): the images' classes; see :meth:`sample`.
            strength (float): in (0, 1]; the share of the way from noise to image that is gone again. Near 0 the images
                hardly change; at 1 nothing of them is left, and what is drawn is what :meth:`sample` draws. Default:
                0.5
            seed (int): in [0, 2**64). Default: 0

        Returns:
            Tensor: uint8 (N, channels, image_size, image_size) in [0, 255], on the CPU.

        Raises:
            InputError: this generator is no such flow, or the images are of another form or number.
            ValueError: ``strength`` is not a number in (0, 1], or see :meth:`sample`.

        Source: Meng et al. 2022, "SDEdit: guided image synthesis and editing with stochastic differential equations",
        section 3; here with the deterministic flow in the place of the stochastic equation.
        """
        shape = (len(labels), self.channels, self.image_size, self.image_size)
        if images.dtype != torch.uint8 or images.shape != shape:
            raise InputError(
                f"images must be uint8 (N, C, H, W) = {shape}, one for each label and of the form that the generator "
                f"draws; got {images.dtype} {tuple(images.shape)}. ganaug.open_images has resolution and channels"
            )
        return sample(self, labels, seed=seed, originals=images, strength=strength)

    def save_pretrained(
        self, save_directory: str | Path, *, repo_id: str | None = None, push_to_hub: bool = False, **kwargs: Any
    ) -> str | None:
        """Write ``model.safetensors``, ``config.json``, ``README.md`` and ``samples/grid.png``.

        If :attr:`seen_images` were recorded, ``training_images.safetensors`` holds them. Whoever has an image can find
        out from it whether the generator was trained on exactly that image.

        Args:
            save_directory (str or Path): made if missing. In an existing ``README.md``, only the text between ganaug's
                marks changes.
            repo_id (str, optional): where ``push_to_hub`` publishes to, ``"user/repo"``.
            push_to_hub (bool): publish the folder too. Default: False
            kwargs: see :func:`ganaug.publish`.

        Returns:
            str or None: address of the commit, with ``push_to_hub``.

        Raises:
            OSError: the folder cannot be written to.
            PublishError: see :func:`ganaug.publish`; the folder has been saved by then.
            TypeError: one of ``kwargs`` is unknown, or was given without ``push_to_hub``; or that without ``repo_id``.
        """
        if push_to_hub and repo_id is None:
            raise TypeError("push_to_hub=True needs repo_id, where to publish: 'user/repo'")
        if kwargs and not push_to_hub:
            raise TypeError(f"{', '.join(kwargs)}: only with push_to_hub=True")
        save(self, save_directory)
        if push_to_hub:
            made = publish(save_directory, cast(str, repo_id), **kwargs)
            self.origin = cast(Origin, self.origin)._replace(name=f"{made.repo_id}@{made.commit}")
            return made.url
        return None

    def push_to_hub(self, repo_id: str, **kwargs: Any) -> str:
        """Publish the generator on the Hub, in one commit.

        Args:
            repo_id (str): ``"user/repo"``; made if missing.
            kwargs: ``private``, ``token``, ``branch``, ``commit_message``, ``create_pr``, ``licence``, ``endpoint``;
                see :func:`ganaug.publish`.

        Returns:
            str: address of the commit.

        Raises:
            PublishError: see :func:`ganaug.publish`.
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
        """Load a generator; the architecture that its config names decides the class.

        Args:
            pretrained_model_name_or_path (str or Path): a folder, or a Hub id: ``"user/repo"`` or
                ``"user/repo@revision"``. ``~`` is the home folder; ``"outputs/..."`` is always a folder.
            revision (str, optional): branch, tag or commit on the Hub.
            token, cache_dir, local_files_only, force_download, endpoint: as in ``huggingface_hub``.

        Returns:
            Generator: in evaluation mode, on the CPU.

        Raises:
            LoadError: there is no such folder or repository, it does not hold a generator of this library, the
                generator is of another class than the one asked, or its weights do not fit its config.
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


def positive_multiple(name: str, value: object, factor: int) -> int:
    """A network's option as a plain int, which is positive and a multiple of ``factor``.

    Raises:
        InputError: ``value`` is not such an int.
    """
    number = to_int(value)
    if number is None or number < factor or number % factor:
        raise InputError(f"{name} must be a positive multiple of {factor}, got {value!r}")
    return number
