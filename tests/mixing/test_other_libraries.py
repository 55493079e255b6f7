"""The wrapper in loaders and trainers of other libraries, as its users have it: each item shows what its label says.

Real and generated images show their class by how grey they are, and the generator has the classes in another order.
The libraries are imported where they are used, for some take seconds.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from accelerate import Accelerator
from helpers.generators import LEVELS, Honest
from helpers.programs import as_a_program
from helpers.readmes import code_blocks
from PIL import Image
from torch import nn
from torch.utils.data import ConcatDataset, DataLoader, Dataset, default_collate
from torchvision.datasets import ImageFolder
from torchvision.transforms import v2

from ganaug import ConditionalGANAugment, augment_dataset

CLASSES = ("ant", "bee", "cat")
NOISE = 0.1  # at most, of an image's mean in [-1, 1] and, generated ones, of its pixels
TO_FLOAT = [v2.ToImage(), v2.ToDtype(torch.float32, scale=True), v2.Normalize([0.5] * 3, [0.5] * 3)]
RANDOM = v2.Compose([v2.RandomResizedCrop(12), v2.RandomHorizontalFlip(), *TO_FLOAT])


class Noisy(Honest):
    """Draws 16x16 RGB images that all differ; its classes come in another order than the datasets'."""

    latent_dim = 1 + 4 * 4

    def __init__(self):
        super().__init__("cat", "ant", "bee")

    def forward(self, z, labels):
        mean, texture = z[:, :1, None, None].tanh(), z[:, 1:].reshape(-1, 1, 4, 4).tanh()
        values = super().forward(z, labels) + NOISE * (mean + texture)
        return nn.functional.interpolate(values, size=16).expand(-1, 3, -1, -1).contiguous()


def grey_picture(name: str, number: int) -> Image.Image:
    level = LEVELS[name] + 127.5 * NOISE * (number % 5 - 2) / 2
    return Image.new("RGB", (16, 16), (round(level),) * 3)


def write_grey_folders(folder: Path, per_class: int = 8) -> Path:
    for name in CLASSES:
        (folder / name).mkdir(parents=True)
        for number in range(per_class):
            grey_picture(name, number).save(folder / name / f"{number}.png")
    return folder


def assert_as_labelled(images: torch.Tensor, labels: torch.Tensor) -> None:
    """Float images in [-1, 1] (N, C, H, W) show the classes of int labels (N,), or mixtures in shares (N, C)."""
    shares = nn.functional.one_hot(labels, len(CLASSES)).float() if labels.ndim == 1 else labels
    levels = torch.tensor([LEVELS[name] / 127.5 - 1 for name in CLASSES])
    assert len(images)
    assert ((images.mean((1, 2, 3)) - shares @ levels).abs() <= 2 * NOISE + 0.01).all()


def train_on(loader: DataLoader, steps: int = 3) -> list[tuple[torch.Tensor, torch.Tensor]]:
    """Train a linear classifier for a few steps; all batches of the loader."""
    batches = list(loader)
    network = nn.Linear(batches[0][0][0].numel(), len(CLASSES))
    optimizer = torch.optim.SGD(network.parameters(), 0.01)
    for images, labels in batches[:steps]:
        loss = nn.functional.cross_entropy(network(images.flatten(1)), labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert all(weight.isfinite().all() for weight in network.parameters())
    return batches


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    return write_grey_folders(tmp_path_factory.mktemp("photos") / "train")


@pytest.fixture(scope="module")
def extra(tmp_path_factory) -> Path:
    return write_grey_folders(tmp_path_factory.mktemp("more") / "extra", per_class=4)


@pytest.fixture(autouse=True)
def _global_states():
    """These libraries seed and use them, as programs may."""
    with as_a_program():
        yield


def loader_of(dataset: Dataset, **options) -> DataLoader:
    return DataLoader(dataset, **{"batch_size": 8, "shuffle": True, **options})


def all_of(batches) -> tuple[torch.Tensor, torch.Tensor]:
    images, labels = zip(*batches, strict=True)
    return torch.cat(images), torch.cat(labels)


def half_generated(dataset: Dataset, **options) -> ConditionalGANAugment:
    return ConditionalGANAugment(dataset, Noisy(), ratio=0.5, **options)


def test_torchvision_with_random_crops_and_mixup(folder):
    train, mixup = half_generated(ImageFolder(folder, RANDOM)), v2.MixUp(num_classes=3)
    loader = loader_of(train, num_workers=2, collate_fn=lambda items: mixup(*default_collate(items)))
    images, shares = all_of(train_on(loader))
    assert images.shape == (48, 3, 12, 12)
    assert ((shares > 0.01) & (shares < 0.99)).any()  # some are mixtures of two classes
    assert_as_labelled(images, shares)


class Albumented(Dataset):
    """As the documentation of Albumentations has it."""

    classes = CLASSES

    def __init__(self, transform=None):
        self.targets, self.transform = [0, 1, 2] * 8, transform

    def __len__(self):
        return len(self.targets)

    def __getitem__(self, index):
        label = self.targets[index]
        image = np.asarray(grey_picture(CLASSES[label], index))
        if self.transform:
            image = self.transform(image=image)["image"]
        return image, label


def test_albumentations():
    import albumentations
    from albumentations.pytorch import ToTensorV2

    transform = albumentations.Compose(
        [
            albumentations.RandomCrop(12, 12),
            albumentations.HorizontalFlip(),
            albumentations.Normalize(mean=[0.5] * 3, std=[0.5] * 3),
            ToTensorV2(),
        ]
    )
    train = half_generated(
        Albumented(transform),
        fake_transform=lambda image: transform(image=image.permute(1, 2, 0).numpy())["image"],
    )
    images, labels = all_of(train_on(loader_of(train, num_workers=2)))
    assert images.shape == (48, 3, 12, 12)
    assert_as_labelled(images, labels)


# timm's own dataset opens files that it leaves to Pillow to close, which does so only if pixels are wanted.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.parametrize("kind", ["", "torch/image_folder"])
def test_timm(folder, kind):
    """Its loader gives the dataset a transform."""
    from timm.data import create_dataset, create_loader

    real = create_dataset(kind, str(folder.parent if kind else folder), split="train")
    train = half_generated(real)
    assert train.classes == list(CLASSES)
    loader = create_loader(
        train,
        input_size=(3, 12, 12),
        batch_size=8,
        is_training=True,
        use_prefetcher=False,
        mean=(0.5,) * 3,
        std=(0.5,) * 3,
        color_jitter=0,
        num_workers=2,
        persistent_workers=False,
    )
    images, labels = all_of(train_on(loader))
    assert images.shape == (48, 3, 12, 12)
    assert images.dtype == torch.float32
    assert_as_labelled(images, labels)


class Classifier(nn.Module):
    """What a Trainer trains; it keeps what it was given."""

    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(3 * 12 * 12, 3)
        self.given: list[tuple[torch.Tensor, torch.Tensor]] = []

    def forward(self, pixel_values, labels):
        self.given.append((pixel_values, labels))
        logits = self.layer(pixel_values.flatten(1))
        return {"loss": nn.functional.cross_entropy(logits, labels), "logits": logits}


def trained(dataset, folder: Path, epochs: int = 1, **options) -> Classifier:
    from transformers import Trainer, TrainingArguments

    model = Classifier()
    arguments = TrainingArguments(
        output_dir=str(folder),
        num_train_epochs=epochs,
        per_device_train_batch_size=8,
        use_cpu=True,
        report_to="none",
        save_strategy="no",
        disable_tqdm=True,
        remove_unused_columns=False,
    )
    Trainer(model, arguments, train_dataset=dataset, **options).train()
    return model


class AsDicts(Dataset):
    """Items as a Trainer wants them."""

    def __init__(self, dataset: Dataset):
        self.dataset = dataset

    def __len__(self):
        return len(self.dataset)

    def __getitem__(self, index):
        image, label = self.dataset[index]
        return {"pixel_values": image, "labels": label}


def collate(items):
    images, labels = default_collate(items)
    return {"pixel_values": images, "labels": labels}


def test_a_trainer_of_items_in_a_wrapper(folder, tmp_path, caplog):
    """That wrapper has no set_epoch for the Trainer to call."""
    train = half_generated(ImageFolder(folder, RANDOM), resample=True)
    model = trained(AsDicts(train), tmp_path, epochs=3)
    images, labels = all_of(model.given)
    assert len(images) == 3 * 48
    assert_as_labelled(images, labels)
    assert sum("epoch 0 is read again" in message for message in caplog.messages) == 1


def test_a_trainer_tells_a_wrapped_wrapper_by_the_callback_of_the_readme(folder, tmp_path, caplog):
    (block,) = [each for each in code_blocks("ganaug/mixing/README.md", "python") if "TrainerCallback" in each]
    names: dict[str, Any] = {}
    exec(block, names)
    train = half_generated(ImageFolder(folder, v2.Compose([v2.Resize(12), *TO_FLOAT])), resample=True)
    model = trained(AsDicts(train), tmp_path, epochs=3, callbacks=[names["SetEpoch"](train)])
    for epoch in range(3):
        train.set_epoch(epoch)
        images, _ = all_of(model.given[6 * epoch : 6 * (epoch + 1)])
        wanted = (train[index][0] for index in range(len(train)))
        assert sorted(image.numpy().tobytes() for image in images) == sorted(each.numpy().tobytes() for each in wanted)
    assert "is read again" not in caplog.text


def test_a_trainer_with_a_collator(folder, tmp_path, caplog):
    """It tells the wrapper the epoch, by accelerate's loader."""
    train = half_generated(ImageFolder(folder, v2.Compose([v2.Resize(12), *TO_FLOAT])), resample=True)
    model = trained(train, tmp_path, epochs=2, data_collator=collate)
    assert train.epoch == 1
    epochs = [all_of(model.given[:6]), all_of(model.given[6:])]
    for images, labels in epochs:
        assert_as_labelled(images, labels)
    # The real images are the same in both, the generated ones are not.
    seen = [{image.numpy().tobytes() for image in images} for images, _ in epochs]
    real = {train[index][0].numpy().tobytes() for index in range(24)}
    assert seen[0] & seen[1] == real
    assert "is read again" not in caplog.text


def test_a_trainer_of_hugging_face_rows(tmp_path):
    import datasets

    features = datasets.Features({"image": datasets.Image(), "label": datasets.ClassLabel(names=list(CLASSES))})
    labels = [0, 1, 2] * 8
    rows = {"image": [grey_picture(CLASSES[k], i) for i, k in enumerate(labels)], "label": labels}
    real = datasets.Dataset.from_dict(rows, features=features)
    transform = v2.Compose([v2.Resize(12), *TO_FLOAT])

    def processed(rows):
        return {"pixel_values": [transform(image) for image in rows["image"]], "labels": rows["label"]}

    mixed = augment_dataset(real, Noisy(), ratio=0.5, cache_dir=tmp_path / "cache").with_transform(processed)
    images, labels = all_of(trained(mixed, tmp_path).given)
    assert len(images) == 48
    assert_as_labelled(images, labels)


def test_two_splits_in_one(folder, extra):
    train = half_generated(ConcatDataset([ImageFolder(folder, RANDOM), ImageFolder(extra, RANDOM)]))
    assert (train.n_real, train.classes) == (36, list(CLASSES))
    images, labels = all_of(train_on(loader_of(train, num_workers=2)))
    assert images.shape == (72, 3, 12, 12)
    assert_as_labelled(images, labels)


def test_a_mixed_split_beside_another(folder, extra):
    train = ConcatDataset([half_generated(ImageFolder(folder, RANDOM)), ImageFolder(extra, RANDOM)])
    images, labels = all_of(train_on(loader_of(train, num_workers=2)))
    assert images.shape == (60, 3, 12, 12)
    assert_as_labelled(images, labels)


def test_accelerate_with_several_workers(folder):
    train = half_generated(ImageFolder(folder, v2.Compose(TO_FLOAT)), resample=True)
    loader = Accelerator(cpu=True).prepare(loader_of(train, num_workers=2, persistent_workers=True))
    epochs = []
    for _ in range(2):
        images, labels = all_of(train_on(loader))
        assert_as_labelled(images, labels)
        epochs.append({image.numpy().tobytes() for image in images})
    assert len(epochs[0] & epochs[1]) < len(epochs[0])
    assert train.epoch == 1
