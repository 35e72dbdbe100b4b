from pathlib import Path

import pytest
import yaml

from pipeline import params
from pipeline.errors import UserError
from pipeline.presets import compose


class Example(params.Section):
    size: int
    rate: float


def test_values_are_checked_not_coerced(workplace: Path) -> None:
    (workplace / "params.yaml").write_text(yaml.safe_dump({"a": {"b": {"size": 3, "rate": 1}}}))
    assert params.read("a.b", Example) == Example(size=3, rate=1.0)
    with pytest.raises(UserError, match=r"a\.c is missing; a has: b"):
        params.read("a.c", Example)


def test_all_problems_of_a_section_are_named_at_once(workplace: Path) -> None:
    (workplace / "params.yaml").write_text(yaml.safe_dump({"a": {"size": True, "speed": 2}}))
    with pytest.raises(UserError) as error:
        params.read("a", Example)
    assert all(word in str(error.value) for word in ("a.size", "a.rate", "a.speed", "True"))


def test_ablations_differ_from_digits_in_their_recipes_alone() -> None:
    digits, ablations = (yaml.safe_load(compose(name)) for name in ("digits", "ablations"))
    assert {key for key in digits if digits[key] != ablations[key]} == {"recipes"} and list(digits) == list(ablations)
    shared = {name for name in ablations["recipes"] if name in digits["recipes"]}
    assert shared >= {"baseline", "mixup", "penumbra"}
    assert all(digits["recipes"][name] == ablations["recipes"][name] for name in shared)
