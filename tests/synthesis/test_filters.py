import torch

from pipeline.settings.shards import FILTERS
from pipeline.synthesis import filters

FLAGS = {"finite": True, "unsafe": False}


def evidence(**values: list[float]) -> filters.Evidence:
    n = len(next(iter(values.values())))
    base = {
        "feature_distance": [9.0] * n,
        "pixel_distance": [9.0] * n,
        "distance": [9.0] * n,
        "confidence": [0.2] * n,
        "contrast": [50.0] * n,
        "saturation": [0.1] * n,
    }
    tensors = {
        name: torch.tensor(row, dtype=torch.float64) for name, row in (base | values).items() if name not in FLAGS
    }
    flags = {name: torch.tensor(values.get(name, [usual] * n), dtype=torch.bool) for name, usual in FLAGS.items()}
    return filters.Evidence(**tensors, **flags)


LIMITS = filters.Thresholds(
    distance=5.0, feature_distance=2.0, pixel_distance=3.0, confidence=0.9, contrast=4.0, saturation=0.8
)


def test_each_reason_fires_at_its_limit_and_not_before() -> None:
    cases = {
        "inside-id": evidence(distance=[4.9, 5.0, 5.1]),
        "inside-id-features": evidence(feature_distance=[1.9, 2.0, 2.1]),
        "confident": evidence(confidence=[0.91, 0.9, 0.89]),
    }
    for reason, found in cases.items():
        assert filters.reasons(found, LIMITS, list(filters.FILTERS)) == [reason, reason, ""]
    assert filters.reasons(evidence(pixel_distance=[2.9, 3.0]), LIMITS, list(filters.FILTERS)) == ["duplicate", ""]
    assert filters.reasons(evidence(contrast=[3.9, 4.0]), LIMITS, list(filters.FILTERS)) == ["flat", ""]
    assert filters.reasons(evidence(saturation=[0.81, 0.8]), LIMITS, list(filters.FILTERS)) == ["saturated", ""]
    assert filters.reasons(evidence(finite=[False, True]), LIMITS, list(filters.FILTERS)) == ["non-finite", ""]


def test_the_first_filter_that_rejects_is_the_reason_and_others_can_be_switched_off() -> None:
    found = evidence(distance=[1.0], confidence=[0.99])
    assert filters.reasons(found, LIMITS, ["confident", "inside-id"]) == ["confident"]
    assert filters.reasons(found, LIMITS, ["inside-id"]) == ["inside-id"]
    assert filters.reasons(found, LIMITS, []) == [""]


def test_thresholds_are_quantiles_of_validation() -> None:
    found = evidence(
        distance=list(range(101)),
        confidence=[i / 100 for i in range(101)],
        contrast=[8.0] * 101,
        saturation=[0.5] * 101,
    )
    limits = filters.thresholds(found, 0.9, 0.2)
    assert (round(limits.distance, 6), round(limits.confidence, 6)) == (90, 0.2)
    assert (limits.contrast, limits.saturation) == (2.0, 0.75)
    accepted = [not reason for reason in filters.reasons(found, limits, ["inside-id"])]
    assert sum(accepted) == 10  # a tenth of ID validation lies farther out


def test_the_filters_that_are_allowed_are_those_that_exist() -> None:
    assert tuple(filters.FILTERS) == FILTERS
