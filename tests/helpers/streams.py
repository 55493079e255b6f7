"""Small iterable datasets and generators for the tests of streams."""

from __future__ import annotations

import numpy as np
import torch
from torch import nn
from torch.utils.data import IterableDataset, get_worker_info

from helpers.images import THREE


class Plain(nn.Module):
    """Images of one pixel, whose grey level is 10 times the label."""

    latent_dim = 1
    label_names = THREE

    def forward(self, z, labels):
        return (labels * 10 / 127.5 - 1).view(-1, 1, 1, 1)


class Noise(nn.Module):
    """Images that depend on nothing but their latents."""

    latent_dim = 16
    label_names = THREE

    def forward(self, z, labels):
        return z.view(-1, 1, 4, 4).tanh()


class Reals(IterableDataset):
    """Real items of one pixel, 200 + epoch bright, each worker's share of the labels; it can go on from a state."""

    classes = THREE

    def __init__(self, labels, size=1):
        self.labels, self.size = list(labels), size
        self.epoch = self.start = self.at = self.reads = 0

    def set_epoch(self, epoch):
        self.epoch = epoch

    def __iter__(self):
        worker = get_worker_info()
        labels = self.labels[worker.id :: worker.num_workers] if worker else self.labels
        self.at, self.start = self.start, 0
        for label in labels[self.at :]:
            self.at += 1
            self.reads += 1
            yield torch.full((1, self.size, self.size), 200 + self.epoch, dtype=torch.uint8), label
        self.at = 0


class StatefulReals(Reals):
    def state_dict(self):
        return {"at": self.at}

    def load_state_dict(self, state):
        self.start = state["at"]


class Items:
    """An iterable of given items."""

    classes = THREE

    def __init__(self, *items):
        self.items = items

    def __iter__(self):
        return iter(self.items)


def facts(items) -> list[tuple]:
    """Items of which the images are bytes, to compare."""
    return [(np.asarray(image).tobytes(), *rest) for image, *rest in items]


def generated(items) -> tuple[torch.Tensor, list[int]]:
    """Images and labels of the generated items of a stream with its sources."""
    fakes = [(image, label) for image, label, source in items if source]
    return torch.stack([image for image, _ in fakes]), [label for _, label in fakes]
