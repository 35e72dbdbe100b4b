"""One image as bytes: PNG out; JPEG, PNG and a few others in, whoever made them."""

import io
from collections.abc import Mapping
from functools import cache

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError, features
from PIL.PngImagePlugin import PngInfo

from pipeline.runtime.errors import UserError, one_line

EIGHT_BITS = ("1", "CMYK", "LA", "P", "PA", "RGBA", "RGBX", "YCbCr")  # modes of Pillow that become RGB
STORED = (b"\x89PNG", b"\xff\xd8")  # how files begin that image sets take as they are, PNG and JPEG
TEXTS = (b"iTXt", b"tEXt", b"zTXt")  # chunks of a PNG
WITH_PREVIEWS = ("MPO", "HEIF")  # phones store further frames behind the photograph


@cache
def formats() -> tuple[str, ...]:
    """Formats that are read, by Pillow's names: Pillow would hand others to Ghostscript.

    AVIF where Pillow was built with it (since 11.3 its wheels are), HEIF where pillow-heif is installed.
    """
    found = ["JPEG", "PNG", "WEBP", "BMP", "TIFF", "GIF", "PPM"]
    if features.check("avif"):
        found.append("AVIF")
    try:
        import pillow_heif
    except ImportError:
        return tuple(found)
    pillow_heif.register_heif_opener()
    return (*found, "HEIF")


@cache
def suffixes() -> frozenset[str]:
    """Suffixes of the files of these formats, in lower case with their dots, as Pillow knows them."""
    known = (*formats(), "MPO")  # a JPEG of several frames
    return frozenset(suffix for suffix, name in Image.registered_extensions().items() if name in known)


def stored(data: bytes, pixels: np.ndarray) -> bytes:
    """The bytes that an image set keeps: the file's own if it is a PNG or JPEG of just these pixels, else a PNG.

    A palette, or an EXIF orientation, was taken into account when the pixels were made, and would not be again.
    """
    try:
        if data.startswith(STORED) and np.array_equal(decode(data, "image"), pixels):
            return data
    except UserError:  # a mode that is only read with `convert`
        pass
    return encode_png(pixels)


def encode_png(pixels: np.ndarray, texts: Mapping[str, str] | None = None) -> bytes:
    """Lossless PNG of one image, uint8, (channels, height, width) with 1 or 3 channels; an iTXt chunk for each text."""
    array = pixels[0] if len(pixels) == 1 else np.moveaxis(pixels, 0, -1)
    info, buffer = PngInfo(), io.BytesIO()
    for keyword, text in (texts or {}).items():
        info.add_itxt(keyword, text)
    Image.fromarray(array).save(buffer, format="PNG", pnginfo=info)
    return buffer.getvalue()


def text_of(data: bytes, keyword: str) -> str | None:
    """The text under a keyword in an image that `decode` has read; None where there is none."""
    with Image.open(io.BytesIO(data), formats=formats()) as image:
        return image.info.get(keyword)


def without_texts(data: bytes) -> bytes:
    """The bytes of a PNG without its text chunks: what it shows, whatever is said of it. Others as they are."""
    if not data.startswith(STORED[0]):
        return data
    kept, place = [data[:8]], 8  # behind the signature
    while place + 8 <= len(data):
        end = place + 12 + int.from_bytes(data[place : place + 4], "big")
        if data[place + 4 : place + 8] not in TEXTS:
            kept.append(data[place:end])
        place = end
    return b"".join([*kept, data[place:]])


def decode(data: bytes, name: str, convert: bool = False, upright: bool = False) -> np.ndarray:
    """Decode one 8-bit grey or RGB image to uint8, (channels, height, width).

    Of a phone's file of several frames (MPO, HEIF) it is the photograph.

    Args:
        convert: turn images of other 8-bit modes (CMYK, palette, with alpha) to RGB, as Pillow, torchvision and OpenOOD
            do: what is transparent shows the colour that lies under it.
        upright: turn it as its EXIF orientation says.

    Raises:
        UserError: not an image, truncated, animated, of more bits, or of another mode.
    """
    try:
        with Image.open(io.BytesIO(data), formats=formats()) as opened:
            frames = 1 if opened.format in WITH_PREVIEWS else getattr(opened, "n_frames", 1)
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
