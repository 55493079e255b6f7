"""The model card: README.md beside a generator's weights."""

from __future__ import annotations

from huggingface_hub import ModelCardData

from ganaug.generators.base import Generator

GRID = "samples/grid.png"


def model_card(generator: Generator) -> str:
    """README.md of a generator: what it is, a picture, how to use it, what it was trained on, its limits."""
    dataset, training = generator.info["dataset"], generator.info["training"]
    size, channels = generator.image_size, generator.channels
    shape = f"uint8 (10, {channels}, {size}, {size})"
    if generator.conditional:
        title, kind, picture = (
            f"{generator.num_classes} classes, {size}x{size} pixels",
            "class-conditional",
            "generated images, one class per column",
        )
        imports, use = (
            "ConditionalGANAugment, Generator",
            f"images = generator.sample([0] * 10, seed=0)  # {shape}, ten of class 0\n"
            "train = ConditionalGANAugment(dataset, generator, ratio=0.3)",
        )
    else:
        title, kind, picture = f"{size}x{size} pixels", "unconditional", "generated images"
        imports, use = "Generator", f"images = generator.sample([0] * 10, seed=0)  # {shape}"
    header = ModelCardData(
        library_name="ganaug",
        pipeline_tag="unconditional-image-generation",
        tags=["ganaug", generator.architecture, kind, *["data-augmentation"] * generator.conditional],
    ).to_yaml()
    counts = dataset.get("class_counts", {})
    classes = "\n".join(
        f"| {k} | {name} | {counts.get(name, 'not recorded')} |"
        for k, name in enumerate(generator.label_names or counts)
    )
    settings = "\n".join(f"| `{key}` | {value} |" for key, value in training.items()) or "| not recorded | |"
    return f"""---
{header}
---

# {generator.architecture}: {title}

This image generator is {kind} and was trained with ganaug. Nothing in the picture was selected:

![{picture}]({GRID})

## Use

```python
from ganaug import {imports}

generator = Generator.from_pretrained("path/to/this/folder")
{use}
```

## Trained on

{dataset.get("name", "Not recorded")}

| label | class | training images |
|---|---|---|
{classes}

## Training

| setting | value |
|---|---|
{settings}

## Limits

Generated images can repeat or resemble training images, and adding them does not always help a classifier: compare
against training without them, on real held-out images. Whether this generator helps has not been measured here.
"""
