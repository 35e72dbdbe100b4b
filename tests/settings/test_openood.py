"""OpenOOD's grids: values that a model allows, and only where nothing of one's own is said."""

import pytest

from pipeline.settings.openood import GRIDS, grid, uses_grid


def test_values_that_a_model_does_not_allow_are_left_out() -> None:
    assert grid("knn", 45_000, 512, 10) == {"k": [50, 100, 200, 500, 1000]}
    assert grid("knn", 300, 512, 10) == {"k": [50, 100, 200]}
    assert grid("vim", 45_000, 512, 10) == {"d": [256]} and grid("vim", 45_000, 2048, 10) == {"d": [256, 1000]}
    assert grid("vim", 45_000, 64, 10) == {"d": [63]}
    assert grid("gen", 45_000, 512, 10) == GRIDS["gen"] | {"M": [10]}
    assert grid("gen", 45_000, 512, 3)["M"] == [3]


@pytest.mark.parametrize(
    ("images", "name", "options", "expected"),
    [
        ("cifar10", "knn", {}, True), ("cifar10", "knn", {"k": 5}, False), ("folder", "knn", {}, False),
        ("digits", "gen", {}, False), ("imagenet1k", "gen", {}, True), ("cifar10", "msp", {}, False),
    ],
)  # fmt: skip
def test_where_they_are_searched(images: str, name: str, options: dict[str, int], expected: bool) -> None:
    assert uses_grid(images, name, options) == expected
