"""Pictures of many images."""

from __future__ import annotations

import pytest
import torch
from helpers.images import small_images
from PIL import Image, ImageDraw, ImageFont, ImageOps

from ganaug.data.grids import MOST_COLUMNS, real_grid, sample_grid, shown_classes


class Levels:
    """Draws images of the grey level that is their label."""

    def __init__(self, *names: str) -> None:
        count, self.label_names = len(names), names
        self.num_classes, self.conditional, self.asked = count, True, []

    def sample(self, labels, *, seed=0):
        self.asked += labels
        return (torch.tensor(labels) % 256).to(torch.uint8).view(-1, 1, 1, 1).expand(-1, 1, 56, 56)


@pytest.mark.parametrize(("count", "columns"), [(3, 3), (100, 100), (101, 100), (256, 100), (10_000, 100)])
def test_a_grid_shows_a_hundred_classes_at_most_and_says_so(count, columns):
    generator = Levels(*["k"] * count)
    picture = sample_grid(generator, rows=2)
    assert len(generator.asked) == 2 * columns
    assert picture.width == 2 + 58 * columns
    title = sample_grid(Levels(*["k"] * columns), rows=2).height - (2 + 2 * 58)
    assert (picture.height > title + 2 + 2 * 58) == (count > columns)  # a line below says so
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
    assert picture.size == sample_grid(Levels(*data.classes), rows=2).size


def test_names_of_classes_are_whole_and_can_be_read_on_a_phone():
    def titles(*names: str) -> Image.Image:
        picture = sample_grid(Levels(*names), rows=1)
        return picture.crop((0, 0, picture.width, picture.height - (2 + 58)))

    emoji = ["activities", "animals-and-nature", "flags", "smileys-and-emotion", "travel-and-places"]
    for k, name in enumerate(emoji):  # the last letter is there
        assert titles(*emoji).tobytes() != titles(*emoji[:k], f"{name[:-1]}#", *emoji[k + 1 :]).tobytes()
    for columns in (3, 10):  # an H of 12 pixels is about 8 high
        shown = titles(*"H" * columns)
        _, top, _, bottom = ImageOps.invert(shown).getbbox()
        assert (bottom - top) * min(1, 358 / shown.width) > 7.5
    assert titles("x" * 200, "y").height < 200


def test_a_long_name_is_cut_where_it_must_be_and_that_is_found_fast(monkeypatch):
    """A run draws many grids, some of a hundred classes, so letters are not measured one after the other."""
    measured, drawn, length = [], [], ImageFont.FreeTypeFont.getlength
    monkeypatch.setattr(
        ImageFont.FreeTypeFont, "getlength", lambda font, text: measured.append(1) or length(font, text)
    )
    monkeypatch.setattr(ImageDraw.ImageDraw, "text", lambda _, place, text, *rest, **more: drawn.append(text))
    sample_grid(Levels("i" * 200, "W" * 200), rows=1)
    assert len(drawn) == 2
    assert len(measured) < 30
    for title in drawn:
        widths = [length(ImageFont.load_default(12), text) for text in (title, title[0] + title)]
        assert title.endswith("…")
        assert widths[0] <= 120 < widths[1]
