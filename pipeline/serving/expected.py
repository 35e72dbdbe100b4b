"""Whether more images are unknown than chance makes of known ones."""

import math

from scipy.stats import betabinom, binomtest

LEVEL = 0.05  # of the statement that there are more than by chance


def fewest(false_alarms: float) -> int:
    """ID validation images without which no p-value is as small as a rate of false alarms."""
    return math.ceil(1 / false_alarms - 1 - 1e-9)


def summary(unknown: int, images: int, validation: int, false_alarms: float) -> str:
    """One line: the share of unknown images with its exact binomial interval, and what is expected of ID images.

    How many of `images` ID images get a p-value of at most `false_alarms` is beta-binomial (Vovk 2012, for the rate;
    Bates et al. 2023, section 2): the validation images of one model are the same for all of them.

    Args:
        unknown: images that were called unknown.
        images: that were judged, at least 1.
        validation: ID validation images of the model.
        false_alarms: 0..1.
    """
    low, high = binomtest(unknown, images).proportion_ci(0.95, method="exact")
    share = f"{unknown} of {images} images are unknown, {unknown / images:.1%} [{low:.1%}, {high:.1%}]"
    if validation < fewest(false_alarms):
        return f"{share}; none can be, see above"
    alarms = int(false_alarms * (validation + 1) + 1e-9)  # of validation images and one more, in order
    chance = betabinom.sf(unknown - 1, images, alarms, validation + 1 - alarms)
    verdict = "more than chance" if chance <= LEVEL else "no more than chance"
    return f"{share}; {false_alarms:.1%} of known images are expected to be: {verdict}"
