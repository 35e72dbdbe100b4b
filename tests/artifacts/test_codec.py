import io

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from PIL import Image

from pipeline.artifacts.codec import decode, encode_png

SHAPES = st.tuples(st.sampled_from([1, 3]), st.integers(1, 9), st.integers(1, 9))


@settings(deadline=None)
@given(pixels=arrays.arrays(np.uint8, SHAPES))
def test_png_is_lossless(pixels: np.ndarray) -> None:
    np.testing.assert_array_equal(decode(encode_png(pixels), "image"), pixels)


def test_of_a_phone_s_jpeg_the_photograph_is_taken() -> None:
    photograph, preview = Image.new("RGB", (32, 24), "red"), Image.new("RGB", (8, 6), "blue")
    alone, both = io.BytesIO(), io.BytesIO()
    photograph.save(alone, "JPEG")
    photograph.save(both, "MPO", save_all=True, append_images=[preview])
    with Image.open(io.BytesIO(both.getvalue())) as opened:
        assert (opened.format, getattr(opened, "n_frames", 1)) == ("MPO", 2)
    np.testing.assert_array_equal(decode(both.getvalue(), "image"), decode(alone.getvalue(), "image"))
