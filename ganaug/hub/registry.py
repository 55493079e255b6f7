"""What saving and loading ask of a generator, and the registry that finds its class from a config."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, ClassVar, NamedTuple, Protocol, TypeVar

from torch import Tensor, nn

GeneratorClass = TypeVar("GeneratorClass", bound="type[SavedGenerator]")
_REGISTRY: dict[str, type[SavedGenerator]] = {}


class Origin(NamedTuple):
    """Where a generator was loaded from or saved to.

    Attributes:
        name: ``"user/repo@commit"`` on the Hub; None for any other folder.
        weights_sha256: of the file with its weights.
        fingerprint: of the module at that time; a generator that has another now was changed since.
    """

    name: str | None
    weights_sha256: str
    fingerprint: str


class SavedGenerator(Protocol):
    """What saving, loading and cards ask of a generator; see :class:`ganaug.Generator` for what each part means."""

    architecture: ClassVar[str]
    label_names: tuple[str, ...]
    latent_dim: int
    image_size: int
    channels: int
    info: dict[str, Any]
    seen_images: Tensor | None
    origin: Origin | None

    def __init__(self, label_names: Sequence[str], *, image_size: int, channels: int, **network: Any) -> None: ...

    @property
    def num_classes(self) -> int:
        """0 for an unconditional generator."""

    @property
    def conditional(self) -> bool:
        """Whether images can be drawn of a chosen class."""

    def network_options(self) -> dict[str, Any]:
        """The constructor's further arguments."""

    def sample(self, labels: list[int], *, seed: int = 0) -> Tensor:
        """Images, uint8 (N, C, H, W)."""

    def parameters(self) -> Iterator[nn.Parameter]:
        """This and the rest: see ``torch.nn.Module``."""

    def state_dict(self) -> dict[str, Tensor]:
        """All weights and buffers."""

    def load_state_dict(self, state_dict: Mapping[str, Tensor]) -> Any:
        """Set weights and buffers."""

    def eval(self) -> Any:
        """Leave training mode."""


def register_generator(cls: GeneratorClass) -> GeneratorClass:
    """Class decorator: makes ``from_pretrained`` build ``cls`` for configs that name its architecture.

    Raises:
        ValueError: another class has that architecture name.
    """
    known = _REGISTRY.setdefault(cls.architecture, cls)
    if known is not cls:
        raise ValueError(f"architecture {cls.architecture!r} is already registered, by {known.__qualname__}")
    return cls


def registered_generators() -> dict[str, type[SavedGenerator]]:
    """Generator classes by architecture name."""
    return dict(_REGISTRY)
