"""Generator and ratio of a mixed dataset: those that were given, or else one fitted to it and one chosen for it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Literal

from torch import Tensor

from ganaug.mixing.auto_ratio import auto_ratio
from ganaug.mixing.item_form import ItemForm
from ganaug.mixing.originals import with_originals
from ganaug.mixing.plan import DEFAULT_RATIO, Plan
from ganaug.sampling.class_sampler import ClassSampler
from ganaug.sampling.inference import ConditionalGenerator


def resolve(
    dataset: Any,
    generator: ConditionalGenerator | str | Path | None,
    ratio: float | Literal["auto"] | None,
    *,
    labels: Tensor,
    validation: Any,
    make_plan: Callable[..., Plan],
    make_sampler: Callable[..., ClassSampler],
    form: ItemForm,
    resizable: bool,
    class_map: Mapping[str, str] | None,
    cache_dir: Path,
) -> tuple[Plan, ClassSampler]:
    """Plan and sampler for a dataset; what can be refused is refused before anything takes minutes.

    Args:
        dataset (Dataset): map-style, items (image, label).
        generator (module, str or Path, optional): None: one is fitted to ``dataset``.
        ratio (float or "auto", optional): ``"auto"``: the one that does best on ``validation``.
        labels (Tensor): int64 (N,), those of ``dataset``.
        validation (Dataset, optional): real images that ``"auto"`` judges by.
        make_plan (callable): makes the plan for a ``ratio``.
        make_sampler (callable): makes the sampler from a generator and ``present``, the classes that the plan has.
        form (ItemForm): of the dataset's items.
        resizable (bool): whether transforms follow, which may bring sizes together.
        class_map (mapping, optional): {dataset class name: generator class name} for classes whose names differ.
        cache_dir (Path): where fitted generators and chosen ratios are kept.

    Raises:
        ValueError: only one of ``"auto"`` and ``validation`` is given, no plan can be made for the ratio, or the
            generator does not know a class, cannot vary images, or makes images of another number of channels or size;
            or a class has no image to vary.
        DataError: images that are to be varied cannot be read.
        TypeError: the generator is not one.
        LoadError: the generator cannot be loaded.
    """
    if (ratio == "auto") != (validation is not None):
        raise ValueError(
            "ratio='auto' and validation go together: the ratio is chosen on images that neither the generator "
            f"nor the classifiers have seen. Got ratio {ratio!r} and validation {type(validation).__name__}"
        )
    # The default stands in for a ratio that is yet to be chosen: it has the same classes.
    plan = make_plan(ratio=DEFAULT_RATIO if ratio == "auto" else ratio)

    if generator is None:
        from ganaug.mixing import fitting  # training is imported where it is needed

        shape = form.shape if resizable else None
        resolution = fitting.suitable_resolution(*shape[1:]) if shape else None
        generator = fitting.fit_generator(dataset, resolution=resolution, cache_dir=cache_dir)
    sampler = make_sampler(generator, present=plan.present)
    form.check(sampler.image_shape, resizable=resizable)
    sampler = with_originals(sampler, dataset, labels)

    if ratio == "auto":
        plan = make_plan(ratio=auto_ratio(dataset, validation, sampler, class_map=class_map, cache_dir=cache_dir))
    return plan, sampler
