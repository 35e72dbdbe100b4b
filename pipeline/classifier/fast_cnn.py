"""A small network that learns small images in minutes on a processor, after airbench94."""

from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional

PATCH = 2  # pixels of a side of what is whitened
WIDTHS = (64, 256, 256)
SMALLEST = 9  # pixels of a side that are left to pool
EPSILON = 5e-4  # added to the patches' variances, of images of variance about 1
SHIFTS = 64.0  # times the learning rate: that of the normalisations' shifts
SCALE = 1 / 9  # of the features, so that the last layer's weights learn slowly beside the others


class _Group(nn.Sequential):
    """Two convolutions, the first of which halves the image; normalisation shifts and does not scale."""

    def __init__(self, inputs: int, width: int):
        first, second = (nn.Conv2d(count, width, 3, padding=1, bias=False) for count in (inputs, width))
        norms = [nn.BatchNorm2d(width, momentum=0.4) for _ in range(2)]
        for convolution in (first, second):  # what comes in goes on as it is, at the start
            nn.init.dirac_(convolution.weight[: convolution.in_channels])
        for norm in norms:
            norm.weight.requires_grad_(False)
            norm.bias.register_hook(lambda gradient: SHIFTS * gradient)
        super().__init__(first, nn.MaxPool2d(2), norms[0], nn.GELU(), second, norms[1], nn.GELU())


class FastCnn(nn.Module):
    """Frozen whitening of patches, then three groups of two wide convolutions.

    The architecture of Jordan 2024, arXiv 2404.00498, section 3, with its fast shifts and quiet features, without its
    schedule, its lookahead and its alternating mirror images. It is made for SGD at a learning rate about 1.

    Images (n, channels, h, w) to pooled features (n, 256).

    Args:
        channels: of the images, which have at least `SMALLEST` pixels a side.
    """

    def __init__(self, channels: int):
        super().__init__()
        filters = 2 * channels * PATCH**2
        self.whiten = nn.Conv2d(channels, filters, PATCH)
        self.whiten.bias = nn.Parameter(torch.zeros(filters))
        self.whiten.weight.requires_grad_(False)
        counts = (filters, *WIDTHS)
        self.groups = nn.Sequential(*(_Group(*pair) for pair in pairwise(counts)))
        self.num_features = WIDTHS[-1]

    @torch.no_grad()
    def measure(self, images: Tensor) -> None:
        """Make the first layer whiten: its outputs of these normalised images' patches have the identity as covariance.

        Each principal component of the patches and its negative is a filter.
        """
        patches = functional.unfold(images.double(), PATCH).transpose(1, 2).flatten(0, 1)
        variances, components = torch.linalg.eigh(torch.cov(patches.T, correction=0))
        filters = (components / (variances + EPSILON).sqrt()).T.flip(0)
        self.whiten.weight.copy_(torch.cat([filters, -filters]).view_as(self.whiten.weight))

    def forward(self, images: Tensor) -> Tensor:
        return SCALE * self.groups(functional.gelu(self.whiten(images))).amax(dim=(2, 3))
