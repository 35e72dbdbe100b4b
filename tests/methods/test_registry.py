"""Every method's file keeps the contract that `sample`, `shards` and `check` rely on."""

import subprocess
import sys

import pytest
import yaml
from pydantic import ValidationError

from pipeline import methods
from pipeline.artifacts.candidates import Candidates
from pipeline.runtime.errors import UserError
from pipeline.settings.section import Section
from tests.conftest import CONTROLS, OUTLIERS, toy_params
from tests.methods.inputs import SmallInputs

OF_THE_TOY = toy_params()["sample"]


class Counting(SmallInputs):
    """Notes which inputs are read."""

    def __getattribute__(self, name: str) -> object:
        if name in ("images", "latents", "autoencoder", "teacher", "diffusion", "oracle", "unknown"):
            object.__getattribute__(self, "__dict__").setdefault("seen", set()).add(name)
        return object.__getattribute__(self, name)


def settings_of(name: str) -> methods.MethodSettings:
    small = {"neighbours": 2, "anchors": 3, "perturbations": 5} if "anchors" in OF_THE_TOY.get(name, {}) else {}
    return methods.about(name).model_validate(OF_THE_TOY.get(name, {}) | small)


@pytest.mark.parametrize("name", methods.names())
def test_a_method_reads_what_it_says_and_draws_what_it_is_asked_for(name: str) -> None:
    module, settings, inputs = methods.load(name), settings_of(name), Counting()
    found = module.method(settings, inputs)(range(3, 8))
    assert isinstance(found, Candidates) and len(found) == 5 and (module.__doc__ or "").strip()
    read = vars(inputs)["seen"]
    assert read - {"images", "autoencoder", "teacher"} <= set(settings.reads)  # models of `Inputs` need each other
    assert set(settings.reads) <= read
    assert settings.has_parents == bool((found.parents >= 0).all()) and settings.strength


@pytest.mark.parametrize("name", methods.names())
def test_the_base_preset_has_the_settings_of_every_method(name: str) -> None:
    assert methods.settings_of(name, methods.schema().model_validate(OF_THE_TOY)) is not None


def test_unknown_methods_and_missing_settings_are_refused() -> None:
    section = methods.schema().model_validate({})
    assert list(methods.required(["noise", "noise+jpeg-75"], section)) == ["noise"]
    with pytest.raises(UserError, match=r"methods: unknown 'bondary', did you mean boundary; expected some of "):
        methods.required(["bondary"], section)
    with pytest.raises(UserError, match="sample.boundary is missing, and methods names it"):
        methods.required(["boundary+contrast"], section)
    with pytest.raises(ValidationError, match="Extra inputs"):
        methods.schema().model_validate({"noise": {}})
    assert issubclass(methods.schema(), Section)


def test_settings_need_no_torch() -> None:
    code = "import sys; from pipeline import methods; methods.schema(); assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_names_are_those_that_yaml_reads_as_text() -> None:
    assert yaml.safe_load(yaml.safe_dump(list(methods.names()))) == list(methods.names())


def test_the_toy_project_makes_every_method() -> None:
    of = {name: methods.about(name).dataset for name in methods.names()}
    made = dict.fromkeys(OUTLIERS, "outliers") | dict.fromkeys(CONTROLS, "controls")
    assert of == made | {"unknown": "controls"}  # images of one's own, which digits have not: tests/test_folder.py
