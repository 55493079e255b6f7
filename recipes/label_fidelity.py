"""Does a generator draw what it is asked for? A classifier trained on real images is the judge.

python recipes/label_fidelity.py --generator outputs/flow
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace

from ganaug import DataError, Generator, InputError
from ganaug.cli.flags import run
from ganaug.cli.images import DataArguments
from ganaug.core.hardware import set_cpu_threads
from ganaug.data import classes_with_counts
from ganaug.evaluation import ShiftFlip, accuracy, label_fidelity, train_classifier


@dataclass(frozen=True)
class Arguments:
    """Flags of this recipe.

    Args:
        generator: Folder or Hub id of the generator.
        num_images: How many images to draw.
        classifier_steps: Steps of 128 real images that the classifier is trained for.
        seed: Seed of the images and of the classifier.
    """

    generator: str
    data: DataArguments = field(default_factory=DataArguments)
    num_images: int = 1000
    classifier_steps: int = 600
    seed: int = 0


def main(args: Arguments) -> None:
    """Train the classifier, and print its own accuracy and the generator's label fidelity."""
    set_cpu_threads(None)
    generator = Generator.from_pretrained(args.generator)

    # Real images, in the size in which the generator makes them.
    data = replace(args.data, resolution=generator.image_size, channels=generator.channels)
    images = data.open()
    if not {*images.classes} <= {*generator.label_names}:
        raise InputError(
            f"{args.generator} draws {', '.join(generator.label_names) or 'no classes: it is unconditional'}; "
            f"{images.name} has {', '.join(images.classes)}. Give images of the generator's classes"
        )

    # The judge. A generator that was trained on mirrored images draws them too, so the classifier has to know them.
    mirrored = "flip" in generator.info["training"].get("augment", ())
    augment = ShiftFlip(0, flip=True, background=images.background) if mirrored else None
    classifier = train_classifier(images, steps=args.classifier_steps, seed=args.seed, augment=augment)
    print(f"classifier trained on {images}\nclasses: {classes_with_counts(images)}")
    try:
        print(
            f"its accuracy on held-out real images: {accuracy(classifier, data.open_split('test', like=images)):.1%}"
        )
    except DataError as error:
        print(f"its accuracy on held-out real images: not measured ({error})")

    # How often it sees the class that was asked for in what is drawn.
    fidelity = label_fidelity(
        generator, classifier, classes=images.classes, num_images=args.num_images, seed=args.seed
    )
    print(f"label fidelity of {args.generator} over {fidelity.num_images} generated images: {fidelity.share:.1%}")
    print("by class: " + ", ".join(f"{name} {share:.0%}" for name, share in fidelity.per_class.items()))


if __name__ == "__main__":
    run(Arguments, main, __doc__)
