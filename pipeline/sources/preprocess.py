"""An image as the networks see it: the same for a benchmark, a folder and a single file."""

import numpy as np
from PIL import Image


def preprocess(pixels: np.ndarray, size: int, channels: int, resize: int | None = None) -> np.ndarray:
    """1 or 3 channels, shorter side resized (bilinear, antialiased), centre crop; unchanged if it is so already.

    Matches OpenOOD's test preprocessing (evaluation_api/preprocessor.py: convert, resize, centre crop). Colour becomes
    grey as in Pillow: the luma of ITU-R 601-2, 0.299 R + 0.587 G + 0.114 B.

    Args:
        pixels: uint8, (1 or 3, height, width).
        size: height and width of the result, at most `resize`.
        channels: of the result; 3 from 1 by repetition.
        resize: the shorter side before the crop; `size` where none.
    """
    if pixels.shape == (channels, size, size) and resize in (None, size):
        return pixels
    image = Image.fromarray(pixels[0] if len(pixels) == 1 else np.moveaxis(pixels, 0, -1))
    image = _centre(_resized(image.convert("L" if channels == 1 else "RGB"), resize or size), size)
    array = np.asarray(image)
    return array[None] if channels == 1 else np.moveaxis(array, -1, 0)


def _resized(image: Image.Image, shorter: int) -> Image.Image:
    """The shorter side resized, in two passes: across, then down.

    In one call Pillow 13 goes down first where that is faster, which changes some values by a grey level; earlier
    versions, and so published results, always went across first.
    """
    width, height = (shorter * side // min(image.size) for side in image.size)
    across = image.resize((width, image.height), Image.Resampling.BILINEAR)
    return across.resize((width, height), Image.Resampling.BILINEAR)


def _centre(image: Image.Image, size: int) -> Image.Image:
    """The square in the middle, as torchvision's `center_crop` finds it: half a pixel is rounded to even."""
    left, top = (round((side - size) / 2) for side in image.size)
    return image.crop((left, top, left + size, top + size))
