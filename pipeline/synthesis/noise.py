"""The control every outlier method has to beat: images of plain noise."""

import numpy as np
import torch
from torch import Tensor

from pipeline.synthesis.randomness import generator

GAUSSIAN_STD = 64.0  # grey levels around the middle grey


def noise_images(seed: int, count: int, shape: tuple[int, ...]) -> Tensor:
    """Noise images, uint8 (count, channels, size, size): uniform and Gaussian in turn.

    Image i depends on (seed, i) alone.
    """
    images = np.empty((count, *shape), dtype=np.uint8)
    for i in range(count):
        random = generator(seed, "noise", i)
        if i % 2:
            values = random.normal(127.5, GAUSSIAN_STD, shape).round().clip(0, 255)
        else:
            values = random.integers(0, 256, shape)
        images[i] = values.astype(np.uint8)
    return torch.from_numpy(images)
