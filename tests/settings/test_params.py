from pathlib import Path

import pytest
import yaml
from dvc.utils.serialize import load_yaml, modify_yaml
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from pipeline.presets import compose
from pipeline.runtime.errors import UserError
from pipeline.settings import params
from pipeline.settings.section import Section


class Example(Section):
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


YAML_1_2 = {
    "1e-5": 1e-5, "1e-05": 1e-5, "2e-05": 2e-5, "1E5": 1e5, "1.e3": 1e3, "0.00002": 2e-5, "-1e3": -1e3, "1.0e-5": 1e-5,
    "1": 1, "0x1f": 31, "0o10": 8, "010": 10, "1_000": 1000, "1:30": "1:30",
    "true": True, "True": True, "yes": "yes", "no": "no", "on": "on", "off": "off", "y": "y",
    "null": None, "~": None, "": None, "1e5x": "1e5x",
}  # fmt: skip


@pytest.mark.parametrize("text", YAML_1_2)
def test_scalars_are_read_as_yaml_1_2_and_as_dvc_reads_them(workplace: Path, text: str) -> None:
    (workplace / "params.yaml").write_text(f"a: {text}\n")
    assert repr(params.load()[0]) == repr({"a": YAML_1_2[text]}) == repr(load_yaml("params.yaml"))


SCALARS = st.text("0123456789+-._eExobinfatrulsyNO:~ ", max_size=8)


@settings(max_examples=300, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(SCALARS)
@example("!!bool x")
@example("&a [*a]")
def test_any_scalar_is_what_dvc_reads_or_refused(workplace: Path, text: str) -> None:
    (workplace / "params.yaml").write_text(f"a: {text}\n")
    try:
        content = params.load()[0]
    except UserError as error:
        assert "\n" not in str(error)
    else:
        assert repr(content) == repr(load_yaml("params.yaml"))


def test_a_small_number_that_dvc_writes_is_a_number(workplace: Path) -> None:
    with modify_yaml("params.yaml") as content:  # as `dvc exp run -S teacher.weight_decay=0.00002` does
        content["teacher"]["weight_decay"] = 0.00002
    assert "weight_decay: 2e-05\n" in (workplace / "params.yaml").read_text()
    assert params.read("teacher.weight_decay", float) == 2e-05


def test_a_no_of_yaml_1_1_is_refused_as_text(workplace: Path) -> None:
    (workplace / "params.yaml").write_text("a:\n  size: 1\n  rate: 1.0\nflag: no\n")
    with pytest.raises(UserError) as error:
        params.read("flag", bool)
    assert str(error.value) == "params.yaml line 4: flag: Input should be a valid boolean (found 'no')"


def test_settings_as_text_are_the_settings(workplace: Path) -> None:
    (workplace / "params.yaml").write_text(compose("cifar10-ablations"))
    assert params.as_text() == yaml.safe_dump(yaml.safe_load(compose("cifar10-ablations")), sort_keys=False)


def test_a_file_that_changes_is_read_again(workplace: Path) -> None:
    for seed in (1, 2):
        (workplace / "params.yaml").write_text(f"seed: {seed}\n")
        assert params.read("seed", int) == seed
