"""Two-level intervals: of the units that vary as a whole, such as training seeds, and of the test images.

A handful of seeds cannot be resampled: the percentiles of a bootstrap over three of them cover the truth 70 to 80 times
in 100. So the seeds' part is Student's t interval of their values, the images' part is their bootstrap variance, and
the squares of the half widths are added. tests/benchmarks/test_coverage.py simulates how often these intervals cover.
"""

import numpy as np
from scipy import special

LOWER_IS_BETTER = ("fpr95", "fpr95_id_positive")
LEVEL = 0.05  # of the intervals and of the tests


def images_variance(samples: np.ndarray) -> np.ndarray:
    """Variance of the mean over units that its test images alone cause: (...), of samples (..., units, times).

    What other images do to every unit alike, the mean covariance of two units; what they do to each by itself is in
    the variance of the units already. Of a single unit, its variance.
    """
    units = samples.shape[-2]
    of_mean = samples.mean(axis=-2).var(axis=-1, ddof=1)
    if units == 1:
        return of_mean
    of_each = samples.var(axis=-1, ddof=1).mean(axis=-1)
    return np.maximum(0, of_mean - (of_each - of_mean) / (units - 1))


def half_width(by_unit: np.ndarray, variance: np.ndarray, level: float | np.ndarray = LEVEL) -> np.ndarray:
    """Half the width of a two-level interval: sqrt(t ** 2 * variance of units / units + z ** 2 * variance of images).

    Args:
        by_unit: the units' values (..., units), on the same images. Of a single one the images' part alone is known.
        variance: (...), see `images_variance`.
        level: 1 minus the confidence, (...) or a number.
    """
    units = by_unit.shape[-1]
    squared = special.ndtri(np.asarray(level) / 2) ** 2 * variance
    if units > 1:
        quantile = special.stdtrit(units - 1, np.asarray(level) / 2)
        squared = squared + quantile**2 * by_unit.var(axis=-1, ddof=1) / units
    return np.sqrt(squared)


def bounded(value: np.ndarray, half: np.ndarray, images: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Ends of the interval of a percentage, on the logit scale: wider towards 50, and within 0 to 100.

    Where a detector is all but perfect, images drawn again hardly differ. So half an image more counts as ranked either
    way, and the half width is at least that of one image in two sets of that size.

    Args:
        value: in percent; half: in points, see `half_width`.
        images: of the smaller of the two sets.
    """
    share = (value / 100 * images + 0.5) / (images + 1)
    half = np.maximum(half / 100, -special.ndtri(LEVEL / 2) * np.sqrt(0.5) / images)
    middle, width = special.logit(share), half / (share * (1 - share))
    low, high = 100 * special.expit(middle - width), 100 * special.expit(middle + width)
    return np.minimum(low, value), np.maximum(high, value)


def p_value(by_unit: np.ndarray, variance: np.ndarray) -> np.ndarray:
    """The level at which the two-level interval of a mean reaches zero, two-sided, by bisection: (...)."""
    means = np.abs(by_unit.mean(axis=-1))
    low, high = np.full(means.shape, -15.0), np.zeros(means.shape)  # of the logarithm
    for _ in range(60):
        middle = (low + high) / 2
        wide = half_width(by_unit, variance, 10**middle) >= means
        low, high = np.where(wide, middle, low), np.where(wide, high, middle)
    return np.where(means == 0, 1.0, 10**high)


def holm(p_values: np.ndarray) -> np.ndarray:
    """P values (n,) adjusted for n comparisons (Holm 1979): at most 1, none below its own."""
    order = np.argsort(p_values)
    factors = np.arange(len(p_values), 0, -1)
    adjusted = np.empty(len(p_values))
    adjusted[order] = np.minimum(1, np.maximum.accumulate(factors * p_values[order]))
    return adjusted


def verdict(delta: float, p: float, metric: str) -> str:
    """`better` or `worse` where a difference is significant at `LEVEL`."""
    if p >= LEVEL or delta == 0:
        return "no difference"
    return "better" if (delta < 0) == (metric in LOWER_IS_BETTER) else "worse"
