"""One image as bytes: PNG out; JPEG, PNG and a few others in, whoever made them."""

import io

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from pipeline.errors import UserError, one_line

EIGHT_BITS = ("1", "CMYK", "LA", "P", "PA", "RGBA", "RGBX", "YCbCr")  # modes of Pillow that become RGB
FORMATS = ("JPEG", "PNG", "WEBP", "BMP", "TIFF", "GIF", "PPM")  # Pillow would hand others to Ghostscript


def encode_png(pixels: np.ndarray) -> bytes:
    """Lossless PNG of one image, uint8, (channels, height, width) with 1 or 3 channels."""
    array = pixels[0] if len(pixels) == 1 else np.moveaxis(pixels, 0, -1)
    buffer = io.BytesIO()
    Image.fromarray(array).save(buffer, format="PNG")
    return buffer.getvalue()


def decode(data: bytes, name: str, convert: bool = False, upright: bool = False) -> np.ndarray:
    """Decode one 8-bit grey or RGB image to uint8, (channels, height, width).

    Of a phone's JPEG of several frames (MPO) it is the first, the photograph.

    Args:
        convert: turn images of other 8-bit modes (CMYK, palette, with alpha) to RGB, as Pillow, torchvision and OpenOOD
            do: what is transparent shows the colour that lies under it.
        upright: turn it as its EXIF orientation says.

    Raises:
        UserError: not an image, truncated, animated, of more bits, or of another mode.
    """
    try:
        with Image.open(io.BytesIO(data), formats=FORMATS) as opened:
            # phones store previews behind the photograph, as further frames of a JPEG that Pillow calls MPO
            frames = 1 if opened.format == "MPO" else getattr(opened, "n_frames", 1)
            opened.load()
            image: Image.Image = ImageOps.exif_transpose(opened) if upright else opened
    except UnidentifiedImageError:
        raise UserError(f"{name}: not a readable image (of no known format); repair or remove the file") from None
    except Exception as error:  # Pillow raises nearly any type on bytes that lie, TypeError and struct.error too
        raise UserError(f"{name}: not a readable image ({one_line(error)}); repair or remove the file") from None
    if frames > 1:
        raise UserError(f"{name}: {frames} frames, expected a still image; save the one that counts")
    if convert and image.mode in EIGHT_BITS:
        image = image.convert("RGB")
    if image.mode not in ("L", "RGB"):
        raise UserError(f"{name}: image mode {image.mode}, expected L (8-bit grey) or RGB; convert the file")
    array = np.asarray(image)
    return array[None] if image.mode == "L" else np.moveaxis(array, -1, 0)
