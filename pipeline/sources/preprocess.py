"""An image as the networks see it: the same for a benchmark, a folder and a single file."""

import numpy as np
from PIL import Image
from torchvision.transforms import functional as transforms


def conform(pixels: np.ndarray, size: int, channels: int, resize: int | None = None) -> np.ndarray:
    """1 or 3 channels, shorter side resized (bilinear, antialiased), centre crop; unchanged if it is so already.

    Matches OpenOOD's test preprocessing (evaluation_api/preprocessor.py: convert, resize, centre crop). Colour becomes
    grey as in Pillow: the luma of ITU-R 601-2, 0.299 R + 0.587 G + 0.114 B.

    Args:
        pixels: uint8, (1 or 3, height, width).
        size: height and width of the result.
        channels: of the result; 3 from 1 by repetition.
        resize: the shorter side before the crop; `size` where none.
    """
    if pixels.shape == (channels, size, size) and resize in (None, size):
        return pixels
    image = Image.fromarray(pixels[0] if len(pixels) == 1 else np.moveaxis(pixels, 0, -1))
    image = image.convert("L" if channels == 1 else "RGB")
    array = np.asarray(transforms.center_crop(transforms.resize(image, [resize or size]), [size, size]))
    return array[None] if channels == 1 else np.moveaxis(array, -1, 0)
