"""A verdict for a card, as an evaluation might have found it."""

from __future__ import annotations

from ganaug.hub.card import CardArm, CardClass, CardDifference, CardVerdict


def example_verdict(name: str = "tiny", *, data: str | None = None) -> CardVerdict:
    """A verdict of 8 points more. ``name`` is what everything in it is called that others can name."""
    made = CardDifference(0.08, 0.05, 0.11)
    reference = CardArm(name, 0.72, 0.01, 0.74, 2, None)
    return CardVerdict(
        generator=name,
        sentence=name,
        covers=name,
        arms=(reference, mixed := CardArm(f"{name} + 30 % generated", 0.8, 0.02, 0.81, 2, made)),
        reference=reference,
        primary=mixed,
        generated_only=CardArm(f"{name} only", 0.6, 0.01, 0.61, 2, CardDifference(-0.12, -0.15, -0.09)),
        difference=made,
        data=data or name,
        train_images=10,
        test_images=5,
        classifier=name,
        steps=3,
        batch_size=4,
        label_fidelity=0.9,
        real_label_fidelity=0.95,
        lowest_diversity=0.5,
        lowest_diversity_class=name,
        classes=(CardClass(name, 0.7, 0.8, 0.9, 0.5), CardClass("dog", 0.74, 0.8, 0.9, None)),
        exact_copies=0,
        near_copies=0,
        varied=False,
        leakage=name,
        left_out=name,
        ganaug_version="1",
        created="2026-01-01",
    )
