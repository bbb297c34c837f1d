"""Pictures as CLIP sees them: against the formula of the resampling, and against files that are no pictures."""

from __future__ import annotations

import io
import zlib
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from mclip.errors import DataError
from mclip.runtime.pictures import MAX_FILE_BYTES, fit, fit_array, read_picture

SIZE = 24


def cubic(x: NDArray[np.float64]) -> NDArray[np.float64]:
    """Keys' kernel (1981) with a = -1/2, as PIL and torchvision use it."""
    x = np.abs(x)
    near, far = 1.5 * x**3 - 2.5 * x**2 + 1, -0.5 * x**3 + 2.5 * x**2 - 4 * x + 2
    return np.where(x < 1, near, np.where(x < 2, far, 0.0))


def resampling(length: int, wanted: int) -> NDArray[np.float64]:
    """The matrix (wanted, length) that scales a line: the kernel as wide as the pixels that go into one."""
    scale = length / wanted
    width = max(scale, 1.0)
    weights = cubic((np.arange(length)[None] + 0.5 - (np.arange(wanted)[:, None] + 0.5) * scale) / width)
    return np.asarray(weights / weights.sum(axis=1, keepdims=True))


def by_formula(pixels: NDArray[np.uint8], size: int) -> NDArray[np.float64]:
    """openai-clip's transform before mean and deviation, written out; pixels (H, W, 3)."""
    high, wide = pixels.shape[:2]
    short = min(high, wide)
    high, wide = int(size * high / short), int(size * wide / short)
    # Lines first, then columns, each rounded to whole values, as PIL does.
    lines = np.einsum("nw,hwc->hnc", resampling(pixels.shape[1], wide), pixels).clip(0, 255).round()
    scaled = np.einsum("mh,hnc->mnc", resampling(pixels.shape[0], high), lines).clip(0, 255).round()
    top, left = round((high - size) / 2.0), round((wide - size) / 2.0)
    return np.asarray(scaled[top : top + size, left : left + size])


@pytest.mark.parametrize("shape", [(24, 24), (25, 24), (24, 61), (10, 10), (7, 33), (120, 97), (301, 64), (23, 47)])
def test_pixels_are_the_formulas_to_one_step(shape: tuple[int, int]) -> None:
    # Smooth shapes with noise: noise alone would average out.
    random = np.random.default_rng(shape[0])
    waves = 120 + 110 * np.sin(np.arange(shape[0])[:, None, None] / 4 + np.arange(shape[1])[None, :, None] / 7)
    pixels = (waves + random.normal(0, 20, (*shape, 3))).clip(0, 255).astype(np.uint8)
    found = fit(Image.fromarray(pixels), SIZE)
    assert found.shape == (SIZE, SIZE, 3)
    assert np.abs(found - by_formula(pixels, SIZE)).max() <= 1
    np.testing.assert_array_equal(fit_array(pixels, SIZE), found)


def test_a_frame_of_the_right_size_is_left_alone() -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (SIZE, SIZE, 3), dtype=np.uint8)
    np.testing.assert_array_equal(fit_array(pixels, SIZE), pixels)


@pytest.mark.parametrize("mode", ["L", "P", "RGBA", "CMYK", "1", "I;16", "LA"])
def test_pictures_of_other_kinds_become_rgb_last(mode: str) -> None:
    image = Image.effect_mandelbrot((50, 40), (-2, -1.2, 1, 1.2), 60)
    image = image if mode == "I;16" else image.convert("RGB")
    image = image.convert(mode)
    scaled = image.resize((30, SIZE), Image.Resampling.BICUBIC).crop((3, 0, 3 + SIZE, SIZE)).convert("RGB")
    np.testing.assert_array_equal(fit(image, SIZE), np.asarray(scaled))


def test_a_photograph_stands_upright(tmp_path: Path) -> None:
    pixels = np.zeros((40, 40, 3), np.uint8)
    pixels[:20] = 255
    exif = Image.Exif()
    exif[0x0112] = 3  # upside down
    Image.fromarray(pixels).save(tmp_path / "photo.jpg", quality=95, exif=exif)
    found = read_picture(tmp_path / "photo.jpg", SIZE)
    assert found[:8].max() < 30
    assert found[-8:].min() > 225


def png(width: int, height: int) -> bytes:
    """A PNG that says it has this size and has next to no data."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return len(data).to_bytes(4, "big") + kind + data + zlib.crc32(kind + data).to_bytes(4, "big")

    header = width.to_bytes(4, "big") + height.to_bytes(4, "big") + bytes([8, 2, 0, 0, 0])
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"")) + chunk(b"IEND", b"")


def picture(kind: str) -> bytes:
    file = io.BytesIO()
    random = np.random.default_rng(0).integers(0, 256, (60, 60, 3), dtype=np.uint8)
    Image.fromarray(random).save(file, kind)
    return file.getvalue()


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "is no picture"),
        (b"a poem", "is no picture"),
        (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", "is no picture"),
        (picture("JPEG")[:1500], "damaged"),
        (picture("PNG")[:3000], "damaged"),
        (png(60_000, 60_000), "too many pixels"),
        (png(9_000, 9_000), "9000 by 9000 pixels, too many"),
        (png(60_000, 1), "too narrow"),
        (png(0, 7), "picture"),
    ],
)
def test_what_is_no_picture_is_explained(content: bytes, said: str, tmp_path: Path) -> None:
    (tmp_path / "x.png").write_bytes(content)
    with pytest.raises(DataError, match=said):
        read_picture(tmp_path / "x.png", SIZE)


def test_files_that_are_missing_or_huge_are_not_opened(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no such picture"):
        read_picture(tmp_path / "absent.png", SIZE)
    with (tmp_path / "huge.png").open("wb") as file:
        file.truncate(MAX_FILE_BYTES + 1)
    with pytest.raises(DataError, match="larger than"):
        read_picture(tmp_path / "huge.png", SIZE)
