"""Pictures as CLIP sees them: scaled to its square with PIL's bicubic filter, and cut to the middle.

This is openai-clip's transform without torchvision, which itself calls PIL for pictures. Mean and deviation are part of
the image tower.
"""

from __future__ import annotations

import warnings
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps, UnidentifiedImageError

from mclip.errors import DataError

# The formats of photographs and screenshots; others PIL knows start programs, or are as large as one likes.
FORMATS = ("PNG", "JPEG", "WEBP", "GIF", "BMP", "TIFF")
MAX_FILE_BYTES = 100_000_000
# A quarter of a gigabyte once unpacked, and more than most cameras take.
MAX_PIXELS = 64_000_000
# The short side is scaled to 224: without a limit the long one could become anything.
MAX_ASPECT = 50


def read_picture(path: Path, size: int) -> NDArray[np.uint8]:
    """The middle of a picture file, upright as its camera says, as pixels (size, size, 3), RGB.

    Raises DataError for what is no picture, is cut short, or is too large.
    """
    if not path.is_file():
        raise DataError(f"{path}: no such picture")
    if path.stat().st_size > MAX_FILE_BYTES:
        raise DataError(f"{path}: is larger than {MAX_FILE_BYTES // 1_000_000} MB", "scale it down")
    try:
        with warnings.catch_warnings():
            # PIL's own limits and complaints about odd metadata; ours follow.
            warnings.simplefilter("ignore")
            with Image.open(path, formats=FORMATS) as image:
                width, height = image.size
                if width * height > MAX_PIXELS:
                    raise DataError(f"{path}: has {width} by {height} pixels, too many", "scale it down")
                if width < 1 or height < 1 or max(width, height) > MAX_ASPECT * min(width, height):
                    raise DataError(f"{path}: is {width} by {height} pixels, too narrow for a picture", "cut it")
                return fit(ImageOps.exif_transpose(image), size)
    except Image.DecompressionBombError:
        raise DataError(f"{path}: has too many pixels", "scale it down") from None
    except DataError:
        raise
    except Exception as error:
        # PIL raises a dozen kinds for files that are no pictures, or that end too early.
        reason = "is no picture" if isinstance(error, UnidentifiedImageError) else f"is damaged ({error})"
        raise DataError(f"{path}: {reason}", f"mclip reads {', '.join(FORMATS)}") from None


def fit_array(pixels: NDArray[np.uint8], size: int) -> NDArray[np.uint8]:
    """The middle of pixels (H, W, 3) as pixels (size, size, 3)."""
    return pixels if pixels.shape == (size, size, 3) else fit(Image.fromarray(pixels), size)


def fit(image: Image.Image, size: int) -> NDArray[np.uint8]:
    """The middle of a picture as pixels (size, size, 3): the short side becomes `size`, the colours come last."""
    width, height = image.size
    short = min(width, height)
    # Like torchvision: whole pixels, rounded down; an unchanged size is left alone.
    wide, high = size * width // short, size * height // short
    if (wide, high) != image.size:
        image = image.resize((wide, high), Image.Resampling.BICUBIC)
    left, top = round((wide - size) / 2), round((high - size) / 2)
    return np.asarray(image.crop((left, top, left + size, top + size)).convert("RGB"))
