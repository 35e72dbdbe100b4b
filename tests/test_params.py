from pathlib import Path

import pytest
import yaml

from pipeline import params
from pipeline.errors import UserError


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


@pytest.mark.parametrize("name", ["digits", "folder"])
def test_presets_hold_every_section(name: str, workplace: Path) -> None:
    from pipeline import autoencoder, boundary, diffusion, encode, infer, mixup, prepare, score, shards, teacher, train

    text = (Path(params.__file__).parent / f"presets/{name}.yaml").read_text()
    (workplace / "params.yaml").write_text(text)
    for stage in (prepare, autoencoder, encode, boundary, diffusion, mixup, shards, teacher, train, infer, score):
        params.read(stage.__name__.split(".")[1], stage.Params)
    for recipe in yaml.safe_load(text)["recipes"]:
        params.read(f"recipes.{recipe}", train.Recipe)
