"""params.yaml as a whole: every slip is named with its line, the nearest known name beside it; nothing else happens."""

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from pipeline.__main__ import PRESETS
from pipeline.presets import compose
from pipeline.runtime.errors import UserError
from pipeline.settings import check, params
from tests.conftest import ROOT

DIGITS = yaml.safe_load((ROOT / "params.yaml").read_text())


def edited(change: Callable[[dict[str, Any]], Any]) -> dict[str, Any]:
    content = copy.deepcopy(DIGITS)
    change(content)
    return content


def said_of(folder: Path, text: str | bytes) -> str:
    """What the check says of a file, "" if it is content."""
    target = folder / "params.yaml"
    target.write_bytes(text if isinstance(text, bytes) else text.encode())
    try:
        check.check_params()
    except UserError as error:
        return str(error)
    return ""


@pytest.mark.parametrize("name", PRESETS)
def test_presets_hold(name: str, workplace: Path) -> None:
    assert said_of(workplace, compose(name)) == ""


def set_to(*place: Any) -> Callable[[dict[str, Any]], None]:
    """An edit: the last of `place` is the value, what stands before it leads there."""

    def change(content: dict[str, Any]) -> None:
        *keys, last, value = place
        for key in keys:
            content = content[key]
        content[last] = value

    return change


OWN = {
    "id": "photos", "near": {}, "far": {}, "val_near": {}, "val_far": {}, "val_fraction": 0.1, "test_fraction": 0.1,
    "resize": 32, "size": 32, "channels": 3,
}  # fmt: skip
EXPOSURE = {"weight": 0.5, "temperature": 1.0}
ATTRIBUTED = {
    "virtual_outliers": {"kind": "attribution", "share": 0.1, "step": [1.0, 0.1], "sign": "plus"},
    "outlier_exposure": EXPOSURE,
}
MICL = {"weight": 0.1, "estimator": "club", "fitting_steps": 1, "learning_rate": 0.1}


def own_images(content: dict[str, Any]) -> dict[str, Any]:
    """The section `prepare` of somebody without an OOD set, and detectors without a choice."""
    given = {"id": "photos", "near": {}, "far": {}, "val_near": {}, "val_far": {}}
    form = {"val_fraction": 0.1, "test_fraction": 0.1, "resize": 16, "size": 16, "channels": 3}
    section = content["prepare"] | {"benchmark": "folder", "folder": given | form}
    return {"prepare": section, "score": {"resamples": 0, "detectors": {"msp": {}}}}


FROZEN = {"network": "timm:efficientnet_lite0", "weights": "efficientnet-lite0", "backbone": "frozen"}

SLIPS: dict[str, tuple[Callable[[dict[str, Any]], Any], list[str]]] = {
    "unknown section": (set_to("encod", {}), ["encod: unknown section, did you mean encode"]),
    "missing section": (lambda own: own.pop("shards"), ["shards: is missing"]),
    "unknown key": (set_to("sample", "boundary", "sigma", [1.0]), ["boundary.sigma: unknown, did you mean sigmas"]),
    "unknown key, nothing near": (set_to("sample", "boundary", "xyzzy", 1), ["sample.boundary.xyzzy: unknown"]),
    "missing key": (lambda own: own["train"].pop("steps"), ["train.steps: is missing"]),
    "text for a number": (set_to("train", "steps", "many"), ["train.steps", "'many'"]),
    "fraction for a count": (set_to("train", "steps", 1.5), ["train.steps", "1.5"]),
    "truth for a count": (set_to("seed", True), ["seed", "True"]),
    "negative seed": (set_to("seed", -1), ["seed", "-1"]),
    "not a number": (set_to("teacher", "learning_rate", float("nan")), ["teacher.learning_rate"]),
    "infinite": (set_to("teacher", "weight_decay", float("inf")), ["teacher.weight_decay"]),
    "share above 1": (set_to("sample", "mixup", "ratio", [0.3, 1.7]), ["sample.mixup.ratio.1", "1.7"]),
    "range the wrong way round": (set_to("sample", "mixup", "ratio", [0.7, 0.3]), ["mixup", "low <= high"]),
    "share of nothing": (set_to("shards", "distance_quantile", 0.0), ["shards.distance_quantile"]),
    "more kept than drawn": (
        set_to("sample", "boundary", "kept_per_anchor", 200), ["boundary", "is 200", "perturbations = 40"],
    ),
    "no sigma": (set_to("sample", "boundary", "sigmas", []), ["boundary.sigmas"]),
    "one pixel of latents": (set_to("autoencoder", "widths", [8, 8, 8, 8, 8]), ["autoencoder", "32 or more"]),
    "autoencoder's widths not of eight": (set_to("autoencoder", "widths", [10, 20]), ["autoencoder.widths.0", "10"]),
    "width of nothing": (set_to("diffusion", "widths", [0]), ["diffusion.widths.0", "0"]),
    "latents that cannot be halved": (set_to("diffusion", "widths", [8] * 5), ["diffusion.widths", "of 8 pixels"]),
    "more steps than were trained": (set_to("sample", "mixup", "steps", 1001), ["sample.mixup.steps", "1001"]),
    "shift over the whole image": (set_to("teacher", "shift", 16), ["teacher.shift", "fewer pixels than", "16"]),
    "unknown benchmark": (set_to("prepare", "benchmark", "cifar11"), ["prepare.benchmark", "did you mean cifar10"]),
    "no folder": (set_to("prepare", "benchmark", "folder"), ["prepare.folder", "null"]),
    "crop larger than the image": (set_to("prepare", "folder", OWN | {"size": 64}), ["prepare.folder", "resize = 32"]),
    "two channels": (set_to("prepare", "folder", OWN | {"channels": 2}), ["prepare.folder.channels", "1 or 3"]),
    "odd size": (set_to("autoencoder", "size", 15), ["autoencoder", "size is 15", "multiple of"]),
    "width not of eight": (set_to("diffusion", "widths", [12]), ["diffusion.widths.0", "12"]),
    "unknown method": (set_to("methods", ["boundry"]), ["methods", "did you mean boundary"]),
    "unknown correction": (set_to("methods", ["boundary+sharp"]), ["methods", "'sharp' is unknown"]),
    "method twice": (set_to("methods", ["boundary", "boundary"]), ["methods", "twice"]),
    "unknown filter": (set_to("shards", "filters", ["flatt"]), ["shards.filters", "did you mean flat"]),
    "fewer candidates than packed": (set_to("sample", "boundary", "count", 10), ["boundary.count", "per_method"]),
    "method without its settings": (lambda own: own["sample"].pop("boundary"), ["sample", "boundary is missing"]),
    "settings of no method": (set_to("sample", "bondary", {}), ["sample.bondary", "did you mean boundary"]),
    "settings of a method that has none": (set_to("sample", "noise", {}), ["sample.noise: unknown"]),
    "frozen from nothing": (set_to("train", "backbone", "frozen"), ["train.backbone", "train.weights is null"]),
    "a last stage from nothing": (set_to("teacher", "backbone", "last-stage"), ["teacher.backbone", "weights is null"]),
    "a layer on no frozen network": (set_to("train", "hidden", 64), ["train.hidden", "frozen"]),
    "frozen, and started from others": (
        lambda own: own["train"].update(FROZEN, init_from="pretrained"), ["train.init_from", "set it to scratch"],
    ),
    "frozen, and a detector of images": (
        lambda own: (own["train"].update(FROZEN), own["infer"].update(detectors={"odin": {}})),
        ["infer.detectors", "odin need images"],
    ),
    "frozen, and the teacher": (
        lambda own: own["train"].update(FROZEN), ["recipes.distilled", "needs images"],
    ),
    "virtual outliers that no term uses": (
        set_to("recipes", "baseline", {"virtual_outliers": {"kind": "mixture", "ratio": [0.3, 0.7]}}),
        ["recipes.baseline.auxiliary", "no term that sees them"],
    ),
    "images made from features": (
        lambda own: (own["train"].update(FROZEN), own["recipes"]["baseline"].update(ATTRIBUTED)),
        ["recipes.baseline.virtual_outliers", "attribution needs images"],
    ),
    "features made from images": (
        set_to("recipes", "baseline", {"virtual_outliers": {"kind": "permuted"}, "outlier_exposure": EXPOSURE}),
        ["recipes.baseline.virtual_outliers", "permuted needs train.backbone: frozen"],
    ),
    "weights of no timm network": (
        set_to("train", "weights", "efficientnet-lite0"), ["train.weights", "for timm:NAME alone"],
    ),
    "weights of the Hub without a commit": (
        lambda own: own["train"].update(FROZEN, weights="timm/x"), ["train.revision", "40-digit commit"],
    ),
    "a score that is none": (set_to("train", "score", {"mps": {}}), ["train.score", "'mps': unknown"]),
    "a score that cannot be shipped": (set_to("train", "score", {"openmax": {}}), ["train.score", "cannot be shipped"]),
    "a sum of what is not listed": (set_to("score", "detectors", {"msp": {}, "msp+rmd": {}}), ["unknown 'msp+rmd'"]),
    "a sum with arguments": (
        set_to("score", "detectors", {"msp": {}, "knn": {"k": 1}, "msp+knn": {"k": 2}}),
        ["score.detectors.msp+knn", "a sum takes its parts"],
    ),
    "a method that is named twice": (set_to("methods", ["noise", "noise"]), ["methods"]),
    "method that is not made": (
        set_to("recipes", "noise", "auxiliary", ["cut-mix"]), ["recipes.noise.auxiliary", "cut-mix is not in methods"],
    ),
    "correction that is not made": (
        set_to("recipes", "boundary", "auxiliary", ["boundary+contrast"]),
        ["auxiliary", "boundary+contrast is not in methods"],
    ),
    "shipped recipe that is none": (set_to("shipped", "penumbr"), ["shipped", "did you mean penumbra"]),
    "more asked for than packed": (set_to("train", "auxiliary_count", 10**6), ["recipes.noise.auxiliary", "lower it"]),
    "seed twice": (set_to("train", "seeds", [0, 0]), ["train.seeds", "twice"]),
    "no seed": (set_to("train", "seeds", []), ["train.seeds"]),
    "unknown start": (set_to("train", "init_from", "teacher"), ["train.init_from", "pretrained"]),
    "pretrained, but none is": (set_to("train", "init_from", "pretrained"), ["train.init_from", "[0, 1, 2"]),
    "unknown network": (set_to("train", "network", "resnet-21"), ["train.network", "resnet-21"]),
    "longer warm-up than training": (set_to("teacher", "warmup", 10**6), ["teacher.warmup"]),
    "unknown precision": (set_to("encode", "precision", "float16"), ["encode.precision", "bfloat16"]),
    "no recipe": (set_to("recipes", {}), ["recipes"]),
    "recipe name with a dot": (set_to("recipes", "a.b", {}), ["recipes.a.b"]),
    "recipe name that leads out": (set_to("recipes", "../up", {}), ["recipes.../up"]),
    "unknown term": (
        set_to("recipes", "baseline", {"outlier_exposur": 1}),
        ["recipes.baseline.outlier_exposur", "did you mean outlier_exposure"],
    ),
    "unknown head": (set_to("recipes", "baseline", {"head": {"kind": "cosine"}}), ["recipes.baseline.head"]),
    "head without its margin": (
        set_to("recipes", "baseline", {"head": {"kind": "arcface", "scale": 16.0}}), ["baseline.head", "margin"],
    ),
    "unknown outliers": (set_to("recipes", "noise", "auxiliary", ["nois"]), ["auxiliary", "did you mean noise"]),
    "outliers not named": (
        lambda own: own["recipes"]["noise"].pop("auxiliary"), ["recipes.noise", "outlier_exposure without outliers"],
    ),
    "outliers that no term uses": (
        set_to("recipes", "baseline", {"auxiliary": ["boundary"]}), ["recipes.baseline.auxiliary", "no term that uses"],
    ),
    "MICL without outliers": (
        set_to("recipes", "baseline", {"micl": MICL}), ["recipes.baseline", "micl without outliers"],
    ),
    "exposure to further ID images alone": (
        set_to("recipes", "synthetic-id", "outlier_exposure", EXPOSURE), ["id.auxiliary", "exposure without outliers"],
    ),
    "MICL beside further ID images": (
        set_to("recipes", "baseline", {"auxiliary": ["boundary", "synthetic-id"], "micl": MICL}),
        ["recipes.baseline.auxiliary", "name outlier methods alone"],
    ),
    "MICL of outliers of no class": (
        set_to("recipes", "baseline", {"auxiliary": ["noise"], "micl": MICL}),
        ["recipes.baseline.auxiliary", "needs outliers made from ID classes"],
    ),
    "shares of which no outlier is left": (
        lambda own: own["recipes"].update(
            a={"auxiliary": {"boundary": 1, "synthetic-id": 1000}, "outlier_exposure": EXPOSURE}
        ),
        ["recipes.a.auxiliary", "exposure without outliers"],
    ),
    "real outliers that nobody gave": (
        lambda own: own.update(own_images(own), methods=[*own["methods"], "oracle"]),
        ["methods", "oracle: no image", "val_near"],
    ),
    "values that nothing decides between": (
        lambda own: own.update(own_images(own), score={"resamples": 0, "detectors": {"knn": {"k": [1, 5]}}}),
        ["score.detectors.knn", "several values and no OOD validation set"],
    ),
    "autoencoder without its commit": (
        set_to("autoencoder", "source", "someone/some-vae"), ["autoencoder.revision", "someone/some-vae", "40-digit"],
    ),
    "teacher without its commit": (
        lambda own: own["teacher"].update(network="timm:resnet10t", weights="timm/resnet10t"),
        ["teacher.revision", "timm/resnet10t", "40-digit"],
    ),
    "generator without its commit": (
        set_to("sample", "embedding", "generator", "someone/sd"), ["embedding.revision", "someone/sd", "40-digit"],
    ),
    "pretrained weights for a network that has none": (
        lambda own: own["teacher"].update(weights="someone/some-net", revision="a" * 40),
        ["teacher.weights", "timm:NAME alone"],
    ),
    "prompt without a place for the class": (
        lambda own: own["sample"]["embedding"].update(generator="someone/sd", revision="a" * 40, prompt="a cat"),
        ["embedding", "prompt is 'a cat', expected one {}"],
    ),
    "clipping that the sampler does not do": (
        set_to("sample", "mixup", "clip", 1.0), ["sample.mixup", "clip is 1.0 and sampler dpm-solver++"],
    ),
    "real unknown images that nobody gave": (
        lambda own: own.update(own_images(own), methods=[*own["methods"], "unknown"]),
        ["methods", "unknown: no image", "prepare.folder.unknown"],
    ),
    "real unknown images beside a benchmark": (
        lambda own: own["methods"].append("unknown"), ["methods", "unknown: no image", "prepare.benchmark: folder"],
    ),
    "unknown detector": (set_to("score", "detectors", {"mps": {}}), ["score.detectors", "did you mean msp"]),
    "unknown image detector": (set_to("infer", "detectors", {"odn": {}}), ["infer.detectors", "did you mean odin"]),
    "section that is a list": (set_to("encode", [1]), ["encode"]),
    "section that is nothing": (set_to("encode", None), ["encode"]),
}  # fmt: skip


@pytest.mark.parametrize("slip", SLIPS)
def test_a_slip_is_named_with_its_line(slip: str, workplace: Path) -> None:
    change, words = SLIPS[slip]
    said = said_of(workplace, yaml.safe_dump(edited(change), sort_keys=False))
    assert said.startswith("params.yaml") and all(word in said for word in words), said
    if not slip.startswith("missing section"):
        line = int(said.split("line ")[1].split(":")[0])
        key = words[0].split(":")[0].split(".")
        text = (workplace / "params.yaml").read_text().splitlines()[line - 1]
        assert any(part in text for part in key) or slip in (
            "missing key",
            "width not of eight",
            "unknown correction",
            "a sum of what is not listed",
        ), (line, text)


def test_what_goes_together_without_validation_sets_is_welcome(workplace: Path) -> None:
    assert said_of(workplace, yaml.safe_dump(edited(lambda own: own.update(own_images(own))), sort_keys=False)) == ""


def test_foreign_outliers_are_judged_when_they_are_read(workplace: Path) -> None:
    def foreign(own: dict[str, Any]) -> None:
        own["train"]["outliers"] = "theirs"
        own["recipes"] |= {
            "a": {"auxiliary": ["theirs"]},
            "b": {"auxiliary": ["synthetic-id"], "outlier_exposure": EXPOSURE},
        }

    assert said_of(workplace, yaml.safe_dump(edited(foreign), sort_keys=False)) == ""
    refused = edited(lambda own: (foreign(own), own["recipes"].update(c={"outlier_exposure": EXPOSURE})))
    assert "recipes.c.auxiliary: outlier_exposure without outliers" in said_of(workplace, yaml.safe_dump(refused))


def test_an_alias_is_welcome(workplace: Path) -> None:
    text = (ROOT / "params.yaml").read_text()
    once = text.replace(
        "outlier_exposure: {weight: 0.5, temperature: 1.0}", "outlier_exposure: &own {weight: 0.5, temperature: 1.0}", 1
    )
    again = once.replace("outlier_exposure: {weight: 0.5, temperature: 1.0}", "outlier_exposure: *own")
    assert "*own" in again and said_of(workplace, again) == ""


def test_all_slips_are_named_at_once(workplace: Path) -> None:
    def several(content: dict[str, Any]) -> None:
        for slip in ("unknown section", "unknown key", "share above 1", "unknown detector", "seed twice"):
            SLIPS[slip][0](content)

    said = said_of(workplace, yaml.safe_dump(edited(several), sort_keys=False))
    assert said.startswith("params.yaml: 5 problems\n") and len(said.splitlines()) == 6


FILES = {
    "twice": ("seed: 0\nprepare: {}\nseed: 1\n", "line 3: seed is in line 1 already"),
    "twice, inside": ("train:\n  steps: 1\n  steps: 2\n", "line 3: train.steps is in line 2 already"),
    "a bomb": (
        "a0: &a0 [x]\n" + "".join(f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 9)}]\n" for i in range(1, 10)),
        "aliases of aliases",
    ),
    "an alias of itself": ("a: &a [*a]\n", "aliases of aliases"),
    "a Python object": ("seed: !!python/object/apply:os.system ['true']\n", "not valid YAML"),
    "deep": ("[" * 900 + "]" * 900, "levels deep"),
    "deeper than Python's stack": ("[" * 100_000 + "]" * 100_000, "levels deep"),
    "two documents": ("a: 1\n---\nb: 2\n", "not valid YAML"),
    "a tab": ("a:\n\tb: 1\n", "not valid YAML"),
    "empty": ("", "NoneType"),
    "a list": ("- a\n", "found list"),
    "no text": (b"\xff\xfe\x00\x00", "not valid YAML"),
    "a control character": (b"seed: \x00\n", "not valid YAML"),
    "huge": ("a: " + "x" * 2_000_000, "bytes"),
    "a list for a key": ("? [1, 2]\n: 3\n", "a key that is a list"),
    "a number for a section": ("1: 2\n", "unknown section"),
}


@pytest.mark.parametrize("name", FILES)
def test_a_file_that_is_no_params_is_refused(name: str, workplace: Path) -> None:
    text, words = FILES[name]
    assert words in said_of(workplace, text)


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=9),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=5,
)
PLACES = [(name, key) for name, own in DIGITS.items() for key in (own if isinstance(own, dict) else [None])]


@hypothesis_settings(max_examples=300, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(place=st.sampled_from(PLACES), value=VALUES)
def test_any_value_anywhere_is_accepted_or_explained(workplace: Path, place: tuple[str, Any], value: Any) -> None:
    name, key = place
    change = set_to(name, value) if key is None else set_to(name, key, value)
    said = said_of(workplace, yaml.safe_dump(edited(change), sort_keys=False, allow_unicode=True))
    assert said == "" or said.startswith("params.yaml")


@hypothesis_settings(max_examples=300, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(st.binary(max_size=60) | st.text(max_size=60).map(str.encode))
def test_any_bytes_are_explained(workplace: Path, data: bytes) -> None:
    assert said_of(workplace, data).startswith("params.yaml")
    with pytest.raises(UserError):
        params.read("train", int)
