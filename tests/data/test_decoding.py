"""The rule by which images of any kind become 8-bit grey or RGB."""

from __future__ import annotations

import io
import logging
import re
import struct
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from helpers.images import small_images, write_class_folders
from helpers.mixed_images import write_mixed_folder
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from torch.utils.data import Dataset, TensorDataset
from torchvision.transforms.v2.functional import to_pil_image

from ganaug import DataError, LabelledImages, open_images

ROTATED = Image.Exif()
ROTATED[0x0112] = 6  # to be turned clockwise by a quarter


def open_saved(folder: Path, image: Image.Image, suffix: str = "png", saving=None, **options) -> torch.Tensor:
    """Write one image, open the folder, and give the image as the library has it, (C, H, W)."""
    (folder / "only").mkdir(exist_ok=True)
    image.save(folder / "only" / f"image.{suffix}", **(saving or {}))
    return open_images(folder, **options).images[0]


def of_array(values: list, dtype: type = np.uint8) -> Image.Image:
    return Image.fromarray(np.array(values, dtype))


def palette(indices: list[list[int]]) -> Image.Image:
    """Image with the palette red, green, blue."""
    image = of_array(indices).convert("P")
    image.putdata(np.array(indices).ravel().tolist())
    image.putpalette([255, 0, 0, 0, 255, 0, 0, 0, 255])
    return image


@pytest.mark.parametrize(
    ("image", "saving", "grey"),
    [
        (of_array([[0, 7], [200, 255]]), {}, [[0, 7], [200, 255]]),
        (of_array([[0, 255], [255, 0]]).convert("1"), {}, [[0, 255], [255, 0]]),
        # transparent at the first pixel, opaque at the last, over white
        (of_array([[[9, 0], [9, 255]]]), {}, [[255, 9]]),
        (of_array([[9, 8]]), {"transparency": 9}, [[255, 8]]),
        (
            of_array([[0, 128, 129, 257, 32896, 65406, 65407, 65535]], np.uint16),
            {},
            [[0, 0, 1, 1, 128, 254, 255, 255]],
        ),
        (of_array([[1000, 2570]], np.uint16), {"transparency": 1000}, [[255, 10]]),
    ],
    ids=["L", "1", "LA", "L with transparency", "I;16", "I;16 with transparency"],
)
def test_grey_kinds_stay_grey(tmp_path, image, saving, grey):
    assert open_saved(tmp_path, image, saving=saving).tolist() == [grey]
    assert open_saved(tmp_path, image, saving=saving, channels=3).tolist() == [grey] * 3


@pytest.mark.parametrize(
    ("image", "saving", "pixels"),
    [
        (of_array([[[1, 2, 3], [4, 5, 6]]]), {}, [[1, 2, 3], [4, 5, 6]]),
        (of_array([[[1, 2, 3, 0], [4, 5, 6, 255]]]), {}, [[255, 128, 0], [4, 5, 6]]),
        (of_array([[[1, 2, 3], [4, 5, 6]]]), {"transparency": (1, 2, 3)}, [[255, 128, 0], [4, 5, 6]]),
        (palette([[0, 1, 2]]), {}, [[255, 0, 0], [0, 255, 0], [0, 0, 255]]),
        (palette([[0, 1, 2]]), {"transparency": 1}, [[255, 0, 0], [255, 128, 0], [0, 0, 255]]),
        (palette([[0, 1, 2]]), {"transparency": b"\x00\xff\xff"}, [[255, 128, 0], [0, 255, 0], [0, 0, 255]]),
    ],
    ids=["RGB", "RGBA", "RGB with transparency", "P", "P with a transparent index", "P with alpha values"],
)
def test_coloured_kinds_become_rgb_over_the_background(tmp_path, image, saving, pixels):
    found = open_saved(tmp_path, image, saving=saving, background="#ff8000")
    assert found.permute(1, 2, 0).tolist() == [pixels]


def test_half_transparent_pixels_mix_with_the_background(tmp_path):
    image = of_array([[[200, 0, 100, 51]]])
    assert open_saved(tmp_path, image).flatten().tolist() == [244, 204, 224]  # a fifth of the colour, the rest white
    assert open_saved(tmp_path, image, background="black").flatten().tolist() == [40, 0, 20]


def test_grey_is_luma_also_of_the_background(tmp_path):
    colours = of_array([[[255, 0, 0], [0, 255, 0], [0, 0, 255], [10, 20, 30]]])
    assert open_saved(tmp_path, colours, channels=1).tolist() == [[[76, 150, 29, 18]]]  # 0.299 R + 0.587 G + 0.114 B
    assert open_saved(tmp_path, of_array([[[9, 0], [9, 255]]]), background="red").tolist() == [[[76, 9]]]


@pytest.mark.parametrize("suffix", ["tif", "ppm"])
def test_sixteen_bits_in_other_files(tmp_path, suffix):
    image = of_array([[0, 128, 129, 65535]], np.uint16)  # PPM opens as mode I
    assert open_saved(tmp_path, image, suffix).tolist() == [[[0, 0, 1, 255]]]


def test_sixteen_bit_colour_keeps_its_upper_bits(tmp_path):
    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    row = b"\x00" + struct.pack(">6H", 0, 255, 256, 0x1234, 0x80FF, 65535)
    header = struct.pack(">IIBBBBB", 2, 1, 16, 2, 0, 0, 0)
    (tmp_path / "only").mkdir()
    (tmp_path / "only" / "deep.png").write_bytes(
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(row)) + chunk(b"IEND", b"")
    )
    assert open_images(tmp_path).images[0].permute(1, 2, 0).tolist() == [[[0, 0, 1], [0x12, 0x80, 255]]]


def test_integers_beyond_sixteen_bits_and_floats_are_refused(tmp_path):
    with pytest.raises(DataError, match="the first is .*image.tif: its pixels are integers from -1 to 70000, beyond"):
        open_saved(tmp_path, of_array([[-1, 70000]], np.int32), "tif")
    with pytest.raises(DataError, match="the first is .*image.tif: its pixels are floating-point numbers"):
        open_saved(tmp_path, of_array([[0.0, 1.0]], np.float32), "tif")


def test_jpegs_grey_and_cmyk(tmp_path):
    assert open_saved(tmp_path, Image.new("L", (8, 8), 90), "jpg").tolist() == [[[90] * 8] * 8]
    cyan = open_saved(tmp_path, Image.new("CMYK", (8, 8), (255, 0, 0, 0)), "jpg")
    assert cyan.shape == (3, 8, 8)
    assert (cyan.float() - torch.tensor([0, 255, 255])[:, None, None]).abs().max() <= 3
    grey = open_saved(tmp_path, Image.new("CMYK", (8, 8), (255, 0, 0, 0)), "jpg", channels=1)
    assert (grey.float() - 0.701 * 255).abs().max() <= 3  # luma of the RGB colour, not a grey of CMYK's own


@pytest.mark.parametrize("suffix", ["jpg", "png", "tif", "webp"])
def test_exif_orientation_is_applied_before_the_size_is_looked_at(tmp_path, suffix):
    image = Image.new("L", (16, 8), 0)
    image.paste(255, (0, 0, 8, 8))  # the left half is bright; turned clockwise, the upper half is
    saving = {"exif": ROTATED, **({"compression": "tiff_lzw"} if suffix == "tif" else {})}
    found = open_saved(tmp_path, image, suffix, saving).float()
    assert found.shape[1:] == (16, 8)
    assert found[:, :6].min() > 245
    assert found[:, 10:].max() < 10


def test_sizes_that_agree_only_once_they_are_upright(tmp_path):
    open_saved(tmp_path, Image.new("RGB", (8, 16)), "png")
    Image.new("RGB", (16, 8)).save(tmp_path / "only" / "turned.jpg", exif=ROTATED)
    assert open_images(tmp_path).images.shape == (2, 3, 16, 8)


def test_animations_give_their_first_frame(tmp_path):
    frames = [Image.new("RGB", (4, 4), colour) for colour in ("red", "lime", "blue")]
    first = open_saved(tmp_path, frames[0], "webp", {"save_all": True, "append_images": frames[1:], "lossless": True})
    assert first[:, 0, 0].tolist() == [255, 0, 0]


def test_animated_gif(tmp_path):
    frames = [Image.new("RGB", (4, 4), colour) for colour in ("red", "lime", "blue")]
    frames[0].save(tmp_path / "x.gif", save_all=True, append_images=frames[1:])
    pairs = [(Image.open(tmp_path / "x.gif"), 0)]
    assert open_images(pairs).images[0, :, 0, 0].tolist() == [255, 0, 0]


def test_one_coloured_image_makes_all_rgb(tmp_path):
    write_class_folders(tmp_path, small_images())
    assert open_images(tmp_path).channels == 1
    Image.new("RGB", (12, 12), (1, 2, 3)).save(tmp_path / "class 0" / "zzz.png")
    images = open_images(tmp_path).images
    assert images.shape == (61, 3, 12, 12)
    assert images[20, :, 0, 0].tolist() == [1, 2, 3]
    assert torch.equal(images[0, 0], images[0, 2])


def test_sizes_that_differ_need_a_resolution(tmp_path):
    write_class_folders(tmp_path, small_images())
    Image.new("L", (20, 10)).save(tmp_path / "class 1" / "wide.png")
    with pytest.raises(
        DataError, match=r"images differ in size: .*000.png is 12x12, .*wide.png is 20x10.*--resolution"
    ):
        open_images(tmp_path)
    assert open_images(tmp_path, resolution=12).images.shape == (61, 1, 12, 12)


@given(
    long=st.integers(20, 90), short=st.integers(8, 20), wide=st.booleans(), resolution=st.integers(4, 30)
)  # fmt: skip
def test_the_crop_is_central_for_any_aspect_ratio(long, short, wide, resolution):
    # An image that is symmetric about its centre stays so, and a ramp along the long side keeps its middle value.
    ramp = np.broadcast_to(np.abs(np.linspace(-200, 200, long)), (short, long)).astype(np.uint8)
    pixels = torch.from_numpy((ramp if wide else ramp.T).copy())
    data = LabelledImages(pixels[None, None], torch.tensor([0]), ("only",), "ramp")
    found = open_images(data, resolution=resolution).images[0, 0].int()
    assert found.shape == (resolution, resolution)
    along = found if wide else found.T
    assert (along - along.flip(1)).abs().max() <= 1
    assert (along - along[:1]).abs().max() == 0
    assert abs(int(along[0, -1]) - 200 * short / long * (1 - 1 / resolution)) < 40


def test_resizing_averages_instead_of_picking():
    checks = (torch.arange(32)[:, None] + torch.arange(32)) % 2 * 255
    data = LabelledImages(checks.to(torch.uint8)[None, None], torch.tensor([0]), ("only",), "checks")
    assert (open_images(data, resolution=8).images[..., 2:-2, 2:-2].int() - 127.5).abs().max() < 8


@pytest.mark.parametrize("channels", [1, 2, 3, 4])
def test_images_in_memory_follow_the_same_rule(tmp_path, channels):
    pixels = small_images(channels=channels, n=3).images
    data = LabelledImages(pixels, torch.arange(3), ("a", "b", "c"), "x")
    folder = write_class_folders(tmp_path, data)
    for options in ({}, {"channels": 1}, {"channels": 3, "background": "red"}, {"resolution": 8}):
        expected = open_images(folder, **options).images
        assert torch.equal(open_images(data, **options).images, expected)
        assert torch.equal(open_images(TensorDataset(pixels, data.targets), **options).images, expected)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"channels": 2}, r"channels must be 1 \(grey\) or 3 \(RGB\), got 2"),
        ({"resolution": 0}, "resolution must be a positive number of pixels, got 0"),
        ({"resolution": 32.0}, "resolution must be a positive number of pixels, got 32.0"),
        ({"background": "snwo"}, "background must be an opaque colour .*, got 'snwo'"),
        ({"background": "#ffffff80"}, "background must be an opaque colour .*, got '#ffffff80'"),
    ],
)
def test_values_that_make_no_sense(options, message):
    with pytest.raises(DataError, match=message):
        open_images(small_images(), **options)


def test_five_channels_have_no_meaning():
    data = LabelledImages(torch.zeros(1, 5, 4, 4, dtype=torch.uint8), torch.tensor([0]), ("a",), "x")
    with pytest.raises(DataError, match="images must have 1 to 4 channels .*, got 5"):
        open_images(data)


def spoil(folder: Path) -> None:
    """Make three of the files of ``small_images`` unreadable, each in a way of its own."""
    path = folder / "class 1" / "001.png"
    path.write_bytes(path.read_bytes()[:-40])  # the header is fine, the pixels are not
    (folder / "class 1" / "004.png").write_text("not an image")
    (folder / "class 2" / "002.png").write_bytes(b"")


def test_images_that_cannot_be_decoded_are_named_and_counted(tmp_path):
    spoil(write_class_folders(tmp_path, small_images()))
    with pytest.raises(
        DataError, match=r"^3 of 60 images cannot be decoded; the first is .*class 1.001.png: .*skip_bad_images"
    ):
        open_images(tmp_path)


def test_bad_images_can_be_left_out_with_one_warning(tmp_path, caplog):
    data = small_images()
    spoil(write_class_folders(tmp_path, data))
    found = open_images(tmp_path, skip_bad_images=True)
    by_class = [i for k in range(3) for i in range(60) if i % 3 == k and i not in (1, 4, 2)]
    assert torch.equal(found.images, data.images[by_class])
    assert torch.equal(found.targets, data.targets[by_class])
    (record,) = caplog.records
    assert record.levelno == logging.WARNING
    assert re.match(r"3 of 60 images cannot be decoded; the first is .*class 1.001.png", record.getMessage())


def test_a_class_that_loses_all_its_images_is_named(tmp_path):
    folder = write_class_folders(tmp_path, small_images())
    for path in (folder / "class 1").iterdir():
        path.write_text("not an image")
    with pytest.raises(DataError, match="no image of class class 1. Add some"):
        open_images(folder, skip_bad_images=True)
    for path in folder.rglob("*.png"):
        path.write_text("not an image")
    with pytest.raises(DataError, match="60 of 60 images cannot be decoded"):
        open_images(folder, skip_bad_images=True)


@given(kind=st.sampled_from(["PNG", "JPEG", "GIF", "BMP", "WEBP"]), share=st.floats(0, 1))
def test_a_truncated_file_is_bad_wherever_it_ends(kind, share):
    images = small_images(channels=3, size=16, n=3).images
    whole = io.BytesIO()
    to_pil_image(images[0]).save(whole, kind)
    cut = whole.getvalue()[: int(share * (len(whole.getvalue()) - 40))]  # the last bytes may carry no pixels

    class Encoded(Dataset):
        targets = torch.tensor([0, 0])

        def __len__(self):
            return 2

        def __getitem__(self, index):
            return Image.open(io.BytesIO((whole.getvalue(), cut)[index])), 0

    assert len(open_images(Encoded(), skip_bad_images=True)) == 1


def test_mixed_folder(tmp_path):
    counts = write_mixed_folder(tmp_path / "mixed")
    data = open_images(tmp_path / "mixed", resolution=64)
    assert data.images.shape == (300, 3, 64, 64)
    assert dict(zip(data.classes, data.class_counts, strict=True)) == counts
    assert list(data.classes) == sorted(counts)

    whole = next((tmp_path / "mixed" / "gnu").glob("*.jpg")).read_bytes()
    (tmp_path / "mixed" / "gnu" / "broken.jpg").write_bytes(whole[: len(whole) // 2])
    (tmp_path / "mixed" / "elk" / "broken.png").write_text("not an image")
    with pytest.raises(DataError, match=r"^2 of 302 images cannot be decoded; the first is .*elk.broken.png"):
        open_images(tmp_path / "mixed", resolution=64)
    skipped = open_images(tmp_path / "mixed", resolution=64, skip_bad_images=True)
    assert skipped.fingerprint == data.fingerprint


def peak_growth(call: Callable[[], LabelledImages]) -> float:
    """How much the memory of this process grew at most during a call, in sizes of the images that it returned."""
    try:
        Path("/proc/self/clear_refs").write_text("5")  # starts the peak anew
    except OSError:
        pytest.skip("this system does not tell peaks of memory")
    before = _memory("VmRSS")
    result = call()
    return (_memory("VmHWM") - before) / result.images.nbytes


def _memory(field: str) -> int:
    return 1024 * int(re.search(rf"{field}:\s+(\d+) kB", Path("/proc/self/status").read_text())[1])


def test_decoded_images_are_held_once(tmp_path):
    (tmp_path / "only").mkdir()
    for i in range(40):
        Image.new("RGB", (1000, 1000), (i, 0, 0)).save(tmp_path / "only" / f"{i}.png", compress_level=1)
    assert peak_growth(lambda: open_images(tmp_path)) < 1.4
    assert peak_growth(lambda: open_images(tmp_path, resolution=900)) < 1.4
    data = open_images(tmp_path)
    assert peak_growth(lambda: open_images(data, resolution=900)) < 1.4


@pytest.mark.parametrize("in_files", [True, False])
def test_images_that_do_not_fit_into_memory_are_refused_with_their_size(tmp_path, in_files):
    data = small_images(n=3)
    write_class_folders(tmp_path, data)
    with pytest.raises(DataError, match=r"3 images of 10000000x10000000 .* GiB"):
        open_images(tmp_path if in_files else data, resolution=10**7)
