"""Pillow's bilinear resize and a centre crop as tensor operations, so that they can be part of an exported graph.

Matches Pillow to the last bit: its horizontal pass, then its vertical one, each in fixed point (Pillow's Resample.c),
and torchvision's rules for the size and the crop. The resize operators of runtimes round differently.
"""

import torch
from torch import SymInt, Tensor, nn

PRECISION = 22  # bits of Pillow's coefficients


class Preprocess(nn.Module):
    """RGB images of any size to what a classifier takes, as `sources.preprocess.conform` does.

    Args:
        resize: shorter side in pixels, before the crop.
        size: height and width of the crop, at most `resize`.
        channels: 3, or 1 for grey.
    """

    def __init__(self, resize: int, size: int, channels: int):
        super().__init__()
        self.resize, self.size, self.channels = resize, size, channels

    def forward(self, images: Tensor) -> Tensor:
        """uint8 (n, height, width, 3) to float32 in 0..1, (n, channels, size, size)."""
        pixels = images.movedim(-1, 1).double()
        if self.channels == 1:  # Pillow's luma, in fixed point
            red, green, blue = pixels.unbind(1)
            pixels = ((19595 * red + 38470 * green + 7471 * blue + 2**15) / 2**16).floor()[:, None]
        height, width = images.shape[1], images.shape[2]
        shorter = torch.sym_min(height, width)
        across = self._weights(width, self.resize * width // shorter)
        down = self._weights(height, self.resize * height // shorter)
        pixels = _rounded(pixels @ across.T)
        return _rounded(down @ pixels).float() / 255

    def _weights(self, length: int | SymInt, resized: int | SymInt) -> Tensor:
        """Pillow's coefficients of one axis, whole numbers of 2^-22, float64 (size, length).

        Args:
            length: of the image's side.
            resized: of that side after the resize, of which `size` pixels in the middle are kept.
        """
        left = resized - self.size
        start = left // 2 + (left % 2) * (left // 2 % 2)  # half of it, .5 rounded to even
        # as a tensor: an exporter would divide two numbers in float32
        scale = torch.scalar_tensor(length, dtype=torch.float64) / torch.scalar_tensor(resized, dtype=torch.float64)
        support = scale.clamp(min=1)
        centres = (torch.arange(self.size, dtype=torch.float64)[:, None] + start + 0.5) * scale
        places = torch.arange(length, dtype=torch.float64)[None]
        inside = (places >= (centres - support + 0.5).floor()) & (places < (centres + support + 0.5).floor())
        weights = (1 - ((places - centres + 0.5) / support).abs()).clamp(min=0) * inside
        return (weights / weights.sum(dim=1, keepdim=True) * 2**PRECISION + 0.5).floor()


def _rounded(sums: Tensor) -> Tensor:
    """Grey levels of sums of fixed-point products."""
    return ((sums + 2 ** (PRECISION - 1)) / 2**PRECISION).floor().clamp(0, 255)
