"""The presets of real benchmarks, every stage: as they stand, but for counts, steps and where files are.

The images stand in the layouts that users have, OpenOOD's and Hugging Face's; the autoencoders are small ones of Stable
Diffusion's and of TAESD's make.
"""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
import yaml
from diffusers import AutoencoderKL, AutoencoderTiny
from pytorch_ood.benchmark import img as openood
from typer.testing import CliRunner

from pipeline.__main__ import app
from pipeline.artifacts.codec import encode_png
from pipeline.presets import compose
from pipeline.runtime.layout import CANDIDATES
from pipeline.settings.benchmarks import record
from pipeline.settings.methods import bases
from tests.conftest import in_fast_precision, run_stages

CLASSES, EACH = 3, 4  # images of a class
SIDES = {"cifar10": 32, "oal": 32, "label-mixup": 32, "imagenet200": 60}  # of the images as they are found


def picture(of: str, i: int, label: int, side: int) -> bytes:
    """Image i of a set: a colour a class with a little noise; an OOD image (-1) is noise alone."""
    random = np.random.default_rng([i, *of.encode()])
    pixels = random.integers(0, 256, (3, side, side))
    if label >= 0:
        pixels = pixels // 16 + 40
        pixels[label] += 150
    return encode_png(pixels.astype(np.uint8))


def write_lists(root: Path, preset: str) -> None:
    """OpenOOD's lists of a benchmark, and images of them."""
    benchmark = "imagenet200" if preset == "imagenet200" else "cifar10"
    known: Any = getattr(openood, record(benchmark).benchmark or "")
    folder = root / "openood_benchmark_imglist/benchmark_imglist" / known._subdir
    folder.mkdir(parents=True)
    splits = dict.fromkeys((known._train_imglist, known._val_id_imglist, known._test_id_imglist), True)
    sets = dict.fromkeys([known._val_ood_imglist, *(file for _, file in known._ood_imglists)], False)
    for file, is_id in (splits | sets).items():
        lines = []
        for i in range(CLASSES * EACH if is_id else EACH):
            label = i % CLASSES if is_id else -1
            path = f"images/class-{label}/{file}-{i}.png"
            (root / path).parent.mkdir(parents=True, exist_ok=True)
            (root / path).write_bytes(picture(file, i, label, SIDES[preset]))
            lines.append(f"{path} {label}\n")
        (folder / file).write_text("".join(lines))


def write_parquet(path: Path, is_id: bool) -> str:
    """Images in Hugging Face's layout, enough of them that a tenth has every class."""
    labels = [i % CLASSES if is_id else -1 for i in range(10 * CLASSES * EACH)]
    images = [{"bytes": picture(path.stem, i, label, 32), "path": f"{i}.png"} for i, label in enumerate(labels)]
    names = [f"class {label}" for label in range(CLASSES)]
    about = {"info": {"features": {"image": {"_type": "Image"}, "label": {"names": names, "_type": "ClassLabel"}}}}
    table = pa.table({"image": images, "label": pa.array([max(label, 0) for label in labels])})
    pq.write_table(table.replace_schema_metadata({"huggingface": json.dumps(about)}), path)
    return str(path)


def use_parquet(folder: dict[str, Any]) -> None:
    """Fill in the paths that the preset leaves to its user."""
    folder["id"] = {split: write_parquet(Path(f"{split}.parquet"), is_id=True) for split in folder["id"]}
    for role in ("near", "far", "val_near", "val_far"):
        folder[role] = {name: write_parquet(Path(f"{name}.parquet"), is_id=False) for name in folder[role]}
    if folder["hold_out"]:
        folder["hold_out"] = [{"near": ["class 1"], "val_near": []}]


def of_every_shape(recipes: dict[str, Any], shipped: str) -> dict[str, Any]:
    """Recipes that differ in more than whose images they see, the shipped one among them."""
    found: dict[str, str] = {}
    for name in [shipped, *recipes]:
        found.setdefault(str(recipes[name] | {"auxiliary": "auxiliary" in recipes[name]}), name)
    return {name: recipe for name, recipe in recipes.items() if name in found.values()}


def cut_down(settings: dict[str, Any]) -> None:
    """Seconds rather than hours."""
    in_fast_precision(settings)
    settings["recipes"] = of_every_shape(settings["recipes"], settings["shipped"])
    for own in settings["sample"].values():
        own |= ({"count": 12} if "count" in own else {}) | ({"steps": 2} if "steps" in own else {})
    settings["teacher"] |= {"steps": 3, "warmup": 1, "batch": 16, "learning_rate": 1e-6}
    sampling = {"neighbours": 2, "anchors": 3, "perturbations": 8}
    for name in ("boundary", "embedding"):
        settings["sample"][name] |= sampling
    settings["diffusion"] |= {"widths": [8, 16, 16], "steps": 2, "batch": 4}
    settings["shards"] |= {"per_method": 6, "neighbours": 2, "max_id_like": 1.0}
    if "confident" in settings["shards"]["filters"]:  # what a teacher of three steps is sure of means nothing
        settings["shards"]["filters"].remove("confident")
    settings["train"] |= {
        "auxiliary_count": 6,
        "steps": 2,
        "warmup": 1,
        "learning_rate": 1e-4,
        "batch": 8,
        "auxiliary_batch": 8,
        "seeds": [0],
    }
    settings["score"] |= {"resamples": 20}
    settings["score"]["detectors"].pop("she", None)  # it needs a right prediction of every class
    settings["score"]["detectors"] |= {"knn": {"k": [3, 5]}, "vim": {"d": [2, 3]}}


def save_autoencoder(preset: str) -> None:
    """An untrained one of the preset's make, in the folder `vae`; that of TAESD's make would show nothing but black."""
    torch.manual_seed(0)
    widths = (8, 8, 8, 8)
    if preset in SIDES:
        blocks = {"down_block_types": ("DownEncoderBlock2D",) * 4, "up_block_types": ("UpDecoderBlock2D",) * 4}
        AutoencoderKL(block_out_channels=widths, norm_num_groups=4, **blocks).save_pretrained("vae")
        return
    tiny = AutoencoderTiny(encoder_block_out_channels=widths, decoder_block_out_channels=widths)
    with torch.no_grad():
        tiny.decoder.layers[-1].weight *= 35
        tiny.decoder.layers[-1].bias -= tiny.decode(torch.zeros(1, 4, 8, 8)).sample.mean(dim=(0, 2, 3)) / 2
    tiny.save_pretrained("vae")


@pytest.mark.parametrize("preset", ["cifar10", "imagenet200", "cifar10-lite", "cifar6", "oal", "label-mixup"])
def test_every_stage(preset: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert CliRunner().invoke(app, ["preset", preset]).exit_code == 0
    settings = yaml.safe_load(Path("params.yaml").read_text())
    if settings["autoencoder"]["source"] != "pixels":
        save_autoencoder(preset)
        Path("vae/README.md").write_text("---\nlicense: mit\n---\n# An autoencoder\n")
        settings["autoencoder"] |= {"source": "vae", "revision": None}
    if preset in SIDES:
        write_lists(tmp_path / "openood", preset)
        settings["prepare"] |= {"root": str(tmp_path / "openood"), "download": False, "partial": True}
    else:
        use_parquet(settings["prepare"]["folder"])
    cut_down(settings)
    Path("params.yaml").write_text(yaml.safe_dump(settings, sort_keys=False))
    run_stages(settings)
    summary = json.loads(Path("metrics/summary.json").read_text())
    assert list(summary) == list(settings["recipes"])
    assert Path("report/index.html").is_file()
    assert {path.stem for path in CANDIDATES.iterdir()} == set(bases(settings["methods"]))
    about = json.loads(Path("data/controls/dataset.json").read_text())
    made_here = settings["autoencoder"]["source"] == "pixels"
    assert about["licences"]["generators"] == ({} if made_here else {"autoencoder": "mit"})
    assert about["generators"]["autoencoder"].get("source") == (None if made_here else "vae")
    assert set(json.loads(Path("metrics/hold_out.json").read_text())) == (set(summary) if preset == "cifar6" else set())
    assert "boundary-crossing" not in settings["methods"]


def test_cifar6_has_the_five_splits_of_open_set_recognition() -> None:
    names = ["airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"]
    known = [[0, 1, 2, 4, 5, 9], [0, 3, 5, 7, 8, 9], [0, 1, 5, 6, 7, 8], [3, 4, 5, 7, 8, 9], [0, 1, 2, 3, 7, 8]]
    splits = yaml.safe_load(compose("cifar6"))["prepare"]["folder"]["hold_out"]
    found = [[i for i, name in enumerate(names) if name not in own["near"] + own["val_near"]] for own in splits]
    assert found == known and all(len(own["near"]) == len(own["val_near"]) == 2 for own in splits)
