"""Pictures of many images."""

from __future__ import annotations

import pytest
import torch
from helpers.images import small_images

from ganaug.data.grids import MOST_COLUMNS, real_grid, sample_grid, shown_classes


class Levels:
    """Draws images of the grey level that is their label."""

    def __init__(self, count: int) -> None:
        self.label_names = tuple(f"class {k}" for k in range(count))
        self.num_classes, self.conditional, self.asked = count, True, []

    def sample(self, labels, *, seed=0):
        self.asked += labels
        return (torch.tensor(labels) % 256).to(torch.uint8).view(-1, 1, 1, 1).expand(-1, 1, 56, 56)


@pytest.mark.parametrize(("count", "columns"), [(3, 3), (100, 100), (101, 100), (256, 100), (10_000, 100)])
def test_a_grid_shows_a_hundred_classes_at_most_and_says_so(count, columns):
    generator = Levels(count)
    picture = sample_grid(generator, rows=2)
    assert len(generator.asked) == 2 * columns
    assert picture.width == 2 + 58 * columns
    title = 16
    assert picture.height == 2 + 2 * 58 + title * (2 if count > columns else 1)
    shown = shown_classes(count)
    assert (shown[0], len(shown), len(set(shown))) == (0, columns, columns)
    for column in (0, columns // 2, columns - 1):  # under its own column, in both rows
        for row in range(2):
            level = picture.getpixel((30 + 58 * column, title + 30 + 58 * row))
            assert level == (shown[column] % 256,) * 3


def test_classes_of_large_sets_are_spread_over_all():
    shown = shown_classes(10_000)
    assert (shown[1], shown[-1]) == (100, 9_900)
    assert shown_classes(MOST_COLUMNS) == list(range(MOST_COLUMNS))


def test_a_grid_of_real_images_shows_the_same_classes():
    data = small_images(260, classes=130, size=4)
    picture = real_grid(data, rows=2)
    assert picture.size == sample_grid(Levels(130), rows=2).size
