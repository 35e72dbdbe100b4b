"""An image as the networks see it: the same for a benchmark, a folder and a single file."""

import numpy as np
from PIL import Image

from pipeline.errors import UserError


def conform(pixels: np.ndarray, name: str, size: int, channels: int, resize: int | None = None) -> np.ndarray:
    """Shorter side resized (bilinear, antialiased), centre crop, 1 or 3 channels; unchanged if it is so already.

    Matches OpenOOD's test preprocessing (evaluation_api/preprocessor.py: convert, resize, centre crop).

    Args:
        pixels: uint8, (1 or 3, height, width).
        name: of the image, for the error.
        size: height and width of the result.
        channels: of the result; 3 from 1 by repetition.
        resize: the shorter side before the crop; `size` where none.

    Raises:
        UserError: a colour image where grey is asked for.
    """
    if len(pixels) > channels:
        raise UserError(f"{name}: a colour image, expected grey; set prepare.folder.channels to 3, or convert it")
    if pixels.shape == (channels, size, size) and resize in (None, size):
        return pixels
    from torchvision.transforms import functional as transforms  # seconds, for images of another form alone

    image = Image.fromarray(pixels[0] if len(pixels) == 1 else np.moveaxis(pixels, 0, -1))
    image = image.convert("L" if channels == 1 else "RGB")
    array = np.asarray(transforms.center_crop(transforms.resize(image, [resize or size]), [size, size]))
    return array[None] if channels == 1 else np.moveaxis(array, -1, 0)
