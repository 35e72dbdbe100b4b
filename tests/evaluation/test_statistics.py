import pytest

from pipeline.evaluation.statistics import alarms, compare


@pytest.mark.parametrize(
    ("recipe", "reference", "metric", "verdict"),
    [
        ((95.0, 0.5), (93.0, 1.0), "auroc", "better"),
        ((92.0, 0.5), (95.0, 1.0), "auroc", "worse"),
        ((95.0, 0.5), (93.0, 3.0), "auroc", "no difference"),
        ((10.0, 0.5), (20.0, 1.0), "fpr95", "better"),
        ((20.0, 0.5), (10.0, 1.0), "fpr95_id_positive", "worse"),
        ((50.0, 0.0), (50.0, 0.0), "auroc", "no difference"),
    ],
)
def test_verdicts(recipe: tuple[float, float], reference: tuple[float, float], metric: str, verdict: str) -> None:
    values = [{"mean": mean, "std": std} for mean, std in (recipe, reference)]
    found = compare(*values, metric)
    assert found.verdict == verdict
    assert found.delta == recipe[0] - reference[0]


def test_worse_than_guessing_is_said() -> None:
    sets = {"moon": {"auroc": {"mean": 49.9}}, "page": {"auroc": {"mean": 50.0}}}
    assert list(alarms({"noise": {"energy": {"sets": sets}}})) == [
        "noise: energy on moon: AUROC 49.9 %, worse than guessing"
    ]
