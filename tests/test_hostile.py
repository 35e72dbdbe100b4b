"""What others hand us is not to be trusted: images, outlier shards, outputs, model folders.

Every case ends in an error that names the cause, in a recorded skip, or in the right result; never in a crash, in code
that runs, in a hang or in a silent wrong result. `pytest -m faults --faults=docs/reliability.md` writes the table.
"""

import hashlib
import io
import json
import os
import pickle
import struct
import subprocess
import sys
import tarfile
import threading
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from PIL import Image, PngImagePlugin

from pipeline.artifacts import outliers, outputs, sharing
from pipeline.artifacts.codec import FORMATS, decode
from pipeline.artifacts.outliers import encode_sample
from pipeline.artifacts.outputs import Outputs
from pipeline.artifacts.selection import Selection
from pipeline.errors import UserError
from pipeline.learning.networks import Classifier
from pipeline.learning.pools import whole
from pipeline.serving import open_set, predict
from pipeline.sources.folder import Settings as FolderSettings
from tests.conftest import ROOT

pytestmark = [pytest.mark.faults, pytest.mark.timeout(60)]
RANDOM = np.random.default_rng(0)
PIXELS = RANDOM.integers(0, 256, (16, 16, 3), dtype=np.uint8)


class Payload:
    """A pickle that leaves a file behind when it is loaded."""

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, ("pwned",)


@pytest.fixture(autouse=True)
def nothing_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.chdir(tmp_path)
    yield
    assert not (tmp_path / "pwned").exists()


def encoded(image: Image.Image, kind: str = "PNG", **options: Any) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


RGB = Image.fromarray(PIXELS)
GOOD = encoded(RGB)


def chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png(width: int, height: int, data: bytes, bits: int = 8, colour: int = 2) -> bytes:
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, bits, colour, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + header + chunk(b"IDAT", zlib.compress(data)) + chunk(b"IEND", b"")


def commented(size: int) -> bytes:
    about = PngImagePlugin.PngInfo()
    about.add_text("comment", "x" * size, zip=True)
    return encoded(RGB, pnginfo=about)


def animated(kind: str) -> bytes:
    return encoded(RGB, kind, save_all=True, append_images=[RGB.rotate(90)])


# name -> bytes, and what is said of it; None: it is read
IMAGES: dict[str, tuple[bytes, str | None]] = {
    "empty file": (b"", "no known format"),
    "text": (b"hello", "no known format"),
    "random bytes": (RANDOM.bytes(5000), "no known format"),
    "a pickle": (pickle.dumps(Payload()), "no known format"),
    "HTML in place of an image": (b"<html>404</html>", "no known format"),
    "PostScript, which Pillow would have Ghostscript run": (encoded(RGB, "EPS"), "no known format"),
    "TIFF whose tags say nothing": (b"II*\0\x08\0\0\0\0\0\0\0\0\0", "not a readable image"),
    "truncated PNG": (GOOD[:200], "not a readable image"),
    "PNG header alone": (GOOD[:8], "not a readable image"),
    "truncated JPEG": (encoded(RGB, "JPEG")[:300], "not a readable image"),
    "PNG with a damaged checksum": (GOOD[:60] + bytes([GOOD[60] ^ 255]) + GOOD[61:], "not a readable image"),
    "PNG that claims 60,000 x 60,000 pixels": (png(60_000, 60_000, b""), "not a readable image"),
    "PNG that claims more pixels than it has": (png(500, 500, b"\0" * 90), "not a readable image"),
    "PNG of no width": (png(0, 5, b""), "not a readable image"),
    "compressed comment of 200 MB": (commented(200_000_000), "not a readable image"),
    "16-bit grey": (encoded(Image.fromarray(np.full((9, 9), 40_000, np.uint16))), "I;16"),
    "32-bit integers": (encoded(Image.new("I", (9, 9), 70_000), "TIFF"), "image mode I"),
    "floating point": (encoded(Image.new("F", (9, 9), float("nan")), "TIFF"), "image mode F"),
    "Lab colours": (encoded(Image.new("LAB", (9, 9)), "TIFF"), "image mode LAB"),
    "animated PNG": (animated("PNG"), "2 frames"),
    "animated WebP": (animated("WEBP"), "2 frames"),
    "TIFF of two pages": (animated("TIFF"), "2 frames"),
    "CMYK": (encoded(RGB.convert("CMYK"), "JPEG"), None),
    "palette": (encoded(RGB.convert("P")), None),
    "one bit": (encoded(RGB.convert("1")), None),
    "with alpha": (encoded(RGB.convert("RGBA")), None),
    "grey with alpha": (encoded(RGB.convert("LA")), None),
    "grey": (encoded(RGB.convert("L")), None),
    "one pixel": (encoded(RGB.resize((1, 1))), None),
    "1 x 20,000 pixels": (encoded(RGB.resize((1, 20_000))), None),
    "20,000 x 400 pixels": (encoded(Image.new("RGB", (20_000, 400))), None),
    "EXIF that is no EXIF": (encoded(RGB, "JPEG", exif=b"Exif\0\0" + b"\xff" * 40), None),
}


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.manual_seed(0)
    folder = tmp_path_factory.mktemp("model")
    Classifier("wrn-10-1", {"kind": "linear"}, ["a", "b"], 16, 3, [0.5] * 3, [0.2] * 3).save_pretrained(folder)
    detector = {"score": "msp", "threshold": -0.5, "id_pass_rate": 0.95}
    (folder / "detector.json").write_text(json.dumps(detector))
    return folder


@pytest.mark.parametrize("name", IMAGES)
def test_images_to_judge(name: str, model: Path, tmp_path: Path, fault: Callable[[str, str, str], None]) -> None:
    data, words = IMAGES[name]
    (tmp_path / "a.png").write_bytes(GOOD)
    (tmp_path / "b.png").write_bytes(data)
    (tmp_path / "c.png").write_bytes(GOOD)
    rows = list(predict.predict(open_set.load(str(model), None), predict.find([str(tmp_path / "?.png")]), 2))
    assert rows[0]["score"] == pytest.approx(rows[2]["score"], abs=1e-6) and "error" not in rows[0]
    if words is None:
        assert "error" not in rows[1] and 0 < rows[1]["confidence"] <= 1
        fault("image to `predict`", name, "judged")
    else:
        assert words in rows[1]["error"] and "score" not in rows[1]
        fault("image to `predict`", name, f"skipped: {rows[1]['error']}")


@pytest.mark.parametrize("orientation", range(1, 9))
def test_an_image_is_judged_upright(
    orientation: int, model: Path, tmp_path: Path, fault: Callable[[str, str, str], None]
) -> None:
    turns = {1: None, 2: 0, 3: 3, 4: 1, 5: 5, 6: 2, 7: 6, 8: 4}  # how it was stored; Pillow's Transpose, inverted
    stored = RGB if turns[orientation] is None else RGB.transpose(Image.Transpose(turns[orientation]))
    exif = Image.Exif()
    exif[0x0112] = orientation
    (tmp_path / "upright.png").write_bytes(GOOD)
    (tmp_path / "turned.png").write_bytes(encoded(stored, exif=exif))
    loaded = open_set.load(str(model), None)
    scores = [row["score"] for row in predict.predict(loaded, predict.find([str(tmp_path / "*.png")]), 2)]
    assert scores[0] == pytest.approx(scores[1], abs=1e-6)
    fault("image to `predict`", f"EXIF orientation {orientation}", "judged as it is looked at")


NAMES = ["naïve.png", "雪.png", "a b\n.png", "-rf.png", "$(touch pwned).png", "A.PNG", "a.PNG", "x" * 240 + ".png"]


@pytest.mark.parametrize("name", NAMES)
def test_names_of_files(name: str, model: Path, tmp_path: Path, fault: Callable[[str, str, str], None]) -> None:
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / name).write_bytes(GOOD)
    rows = list(predict.predict(open_set.load(str(model), None), predict.find([str(tmp_path / "in")]), 2))
    assert [Path(row["path"]).name for row in rows] == [name] and "error" not in rows[0]
    assert json.loads(predict.line(rows[0], as_json=True))["path"].endswith(name)
    fault("file name", repr(name) if len(name) < 50 else f"{len(name)} letters", "judged under its name")


def test_what_is_no_file(model: Path, tmp_path: Path, fault: Callable[[str, str, str], None]) -> None:
    (tmp_path / "in").mkdir()
    (tmp_path / "in/a.png").write_bytes(GOOD)
    (tmp_path / "in/broken.png").symlink_to("nowhere")
    (tmp_path / "in/round.png").symlink_to("round.png")
    (tmp_path / "in/folder.png").mkdir()
    os.mkfifo(tmp_path / "in/pipe.png")  # to open it would wait for ever
    rows = list(predict.predict(open_set.load(str(model), None), predict.find([str(tmp_path / "in")]), 2))
    assert [Path(row["path"]).name for row in rows if "error" not in row] == ["a.png"]
    for kind in ("dead link", "link to itself", "folder named like an image", "named pipe"):
        fault("image to `predict`", kind, "left out or skipped, with its reason")


FIELDS = {
    "method": "noise", "label": -1, "parent_a": 0, "parent_b": 1, "strength": 0.5, "source": "", "candidate": 0,
    "distance": 0.5, "confidence": 0.5, "seed": 0,
}  # fmt: skip
LATENT = np.zeros((4, 2, 2), np.float16)
SAMPLE = encode_sample(RANDOM.integers(0, 256, (1, 8, 8), np.uint8), LATENT, FIELDS)
SHARD = "outliers-000000.tar"
Members = list[tuple[tarfile.TarInfo | str, bytes]]


@pytest.fixture
def dataset(tmp_path: Path) -> Path:
    """A sound outlier dataset of two samples."""
    folder = tmp_path / "set"
    folder.mkdir()
    samples = [SAMPLE, outliers.Sample(SAMPLE.image, SAMPLE.latent, FIELDS | {"candidate": 1})]
    about = {
        "schema_version": 2,
        "name": "outliers",
        "shards": outliers.pack(folder, "outliers", len(samples), samples.__getitem__, 5),
        "methods": {"noise": {"packed": 2, "candidates": 2, "rejected": {}}},
        "id": {"classes": ["a", "b"], "count": 2, "shape": [1, 8, 8]},
        "licence": "other",
    }
    (folder / "dataset.json").write_text(json.dumps(about))
    assert sharing.check(folder)["name"] == "outliers"
    return folder


def sample(key: str = "00000000", **changes: bytes | None) -> Members:
    """A sample's members, some changed or left out."""
    members = {"json": json.dumps(FIELDS).encode(), "latent.npy": SAMPLE.latent, "png": SAMPLE.image}
    members |= {name.replace("_", "."): data for name, data in changes.items()}
    return [(f"{key}.{name}", data) for name, data in members.items() if data is not None]


def npy(array: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    np.save(buffer, array, allow_pickle=True)
    return buffer.getvalue()


def npy_header(shape: str, descr: str = "<f2") -> bytes:
    """A .npy file that promises an array and has none."""
    header = f"{{'descr': '{descr}', 'fortran_order': False, 'shape': {shape}, }}".ljust(117) + "\n"
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(header)) + header.encode()


def special(kind: bytes, target: str) -> Members:
    """A member that is no plain file."""
    info = tarfile.TarInfo("00000000.png")
    info.type, info.linkname = kind, target
    return [*sample(png=None), (info, b"")]


def lying(size: int) -> bytes:
    """A tar whose first member says it is larger than it is."""
    buffer = io.BytesIO()
    info = tarfile.TarInfo("00000000.png")
    info.size = size
    buffer.write(info.tobuf())
    return buffer.getvalue() + SAMPLE.image.ljust(1024, b"\0")


SECOND = sample("00000001", json=json.dumps(FIELDS | {"candidate": 1}).encode())
DEEP = b'{"a":' * 100_000 + b"1" + b"}" * 100_000
SHARDS: dict[str, Members | bytes] = {
    "path that leads out": [("../../evil.png", b"x"), *sample(), *SECOND],
    "absolute path": [("/tmp/evil.png", b"x"), *sample(), *SECOND],
    "symbolic link to /etc/passwd": special(tarfile.SYMTYPE, "/etc/passwd"),
    "hard link out": special(tarfile.LNKTYPE, "../../etc/passwd"),
    "character device": special(tarfile.CHRTYPE, ""),
    "named pipe": special(tarfile.FIFOTYPE, ""),
    "folder in place of the image": special(tarfile.DIRTYPE, ""),
    "member that claims 1 TB": lying(2**40),
    "member cut short": lying(10**6),
    "not a tar": b"no tar at all" * 100,
    "empty file": b"",
    "compressed tar": zlib.compress(b"x" * 10**6),
    "no samples": [],
    "no image": [*sample(png=None), *SECOND],
    "no latent": [*sample(latent_npy=None), *SECOND],
    "no JSON": [*sample(json=None), *SECOND],
    "the same key twice": [*sample(), *sample()],
    "keys in another order": [*SECOND, *sample()],
    "one more sample": [*sample(), *SECOND, *sample("00000002")],
    "one sample less": sample(),
    "keys that differ by case": [*sample("a0000000"), *sample("A0000000")],
    "key in Unicode": [*sample("雪"), *SECOND],
    "image that is no image": [*sample(png=b"no image"), *SECOND],
    "image of another shape": [*sample(png=GOOD), *SECOND],
    "image of 16 bits": [*sample(png=IMAGES["16-bit grey"][0]), *SECOND],
    "palette image": [*sample(png=IMAGES["palette"][0]), *SECOND],
    "decompression bomb": [*sample(png=IMAGES["PNG that claims 60,000 x 60,000 pixels"][0]), *SECOND],
    "animated image": [*sample(png=animated("PNG")), *SECOND],
    "pickled latent": [*sample(latent_npy=npy(np.array([Payload()], dtype=object))), *SECOND],
    "pickle in place of a latent": [*sample(latent_npy=pickle.dumps(Payload())), *SECOND],
    "latent that promises 2 TB": [*sample(latent_npy=npy_header("(1000000, 1000000)")), *SECOND],
    "latent of negative shape": [*sample(latent_npy=npy_header("(-1, 2, 2)")), *SECOND],
    "latent header of code": [*sample(latent_npy=npy_header("__import__('os').mkdir('pwned')")), *SECOND],
    "latent header that ends in the middle": [*sample(latent_npy=npy_header("(4, 2, 2"), png=GOOD), *SECOND],
    "latent header of 5,000 brackets": [*sample(latent_npy=npy_header("(" * 5000)), *SECOND],
    "latent of float64": [*sample(latent_npy=npy(LATENT.astype(np.float64))), *SECOND],
    "latent of text": [*sample(latent_npy=npy(np.array(["x"]))), *SECOND],
    "latent of two dimensions": [*sample(latent_npy=npy(LATENT[0])), *SECOND],
    "latent with NaN": [*sample(latent_npy=npy(LATENT * np.float16("nan"))), *SECOND],
    "latent with infinity": [*sample(latent_npy=npy(LATENT + np.float16("inf"))), *SECOND],
    "empty latent": [*sample(latent_npy=b""), *SECOND],
    "JSON 100,000 levels deep": [*sample(json=DEEP), *SECOND],
    "JSON that is a list": [*sample(json=b"[]"), *SECOND],
    "JSON with NaN": [*sample(json=json.dumps(FIELDS | {"distance": float("nan")}).encode()), *SECOND],
    "JSON with a field missing": [*sample(json=b'{"method": "noise"}'), *SECOND],
    "JSON with a field twice": [*sample(json=json.dumps(FIELDS)[:-1].encode() + b', "method": "other"}'), *SECOND],
    "label of text": [*sample(json=json.dumps(FIELDS | {"label": "-1"}).encode()), *SECOND],
    "label of no class": [*sample(json=json.dumps(FIELDS | {"label": 7}).encode()), *SECOND],
    "label beyond 64 bits": [*sample(json=json.dumps(FIELDS | {"label": 2**70}).encode()), *SECOND],
    "another method than the index says": [*sample(json=json.dumps(FIELDS | {"method": "x"}).encode()), *SECOND],
}


def rewrite(folder: Path, content: Members | bytes) -> None:
    """Put a shard in place of the folder's, its checksum corrected: who makes the one can make the other."""
    path = folder / SHARD
    if isinstance(content, bytes):
        path.write_bytes(content)
    else:
        with tarfile.open(path, "w") as tar:
            for member, data in content:
                info = tarfile.TarInfo(member) if isinstance(member, str) else member
                info.size = len(data)
                tar.addfile(info, io.BytesIO(data))
    about = json.loads((folder / "dataset.json").read_text())
    about["shards"][0]["sha256"] = hashlib.sha256(path.read_bytes()).hexdigest()
    (folder / "dataset.json").write_text(json.dumps(about))


@pytest.mark.parametrize("name", SHARDS)
def test_shards(name: str, dataset: Path, fault: Callable[[str, str, str], None]) -> None:
    rewrite(dataset, SHARDS[name])
    with pytest.raises(UserError) as error:
        sharing.check(dataset)
    assert str(dataset.name) in str(error.value) or SHARD in str(error.value)
    try:  # training reads less of a sample than the check does; what it takes is whole
        pixels, labels = whole(Selection([dataset], {"noise": 2}))
        assert pixels.shape == (2, 1, 8, 8) and set(labels.tolist()) <= {-1, 0, 1}
    except UserError:
        pass
    fault("outlier shard", name, str(error.value).split("/")[-1])


DATASETS: dict[str, Callable[[dict[str, Any]], Any]] = {
    "shard name that leads out": lambda about: about["shards"][0].update(name="../x-000000.tar"),
    "shard name that is a command": lambda about: about["shards"][0].update(name="pipe:touch pwned"),
    "shard name that is an address": lambda about: about["shards"][0].update(name="http://x/x-000000.tar"),
    "shard listed twice": lambda about: about["shards"].append(about["shards"][0]),
    "another checksum": lambda about: about["shards"][0].update(sha256="0" * 64),
    "number of samples below 0": lambda about: about["shards"][0].update(samples=-2),
    "another schema": lambda about: about.update(schema_version=99),
    "no list of shards": lambda about: about.update(shards=None),
    "no methods": lambda about: about.pop("methods"),
    "methods of text": lambda about: about.update(methods="all"),
    "no ID set": lambda about: about.pop("id"),
    "shape of text": lambda about: about["id"].update(shape="large"),
}


@pytest.mark.parametrize("name", DATASETS)
def test_dataset_json(name: str, dataset: Path, fault: Callable[[str, str, str], None]) -> None:
    about = json.loads((dataset / "dataset.json").read_text())
    DATASETS[name](about)
    (dataset / "dataset.json").write_text(json.dumps(about))
    with pytest.raises(UserError) as error:
        sharing.check(dataset)
    fault("dataset.json", name, str(error.value).split("/")[-1])


@pytest.mark.parametrize("content", [b"", b"[]", b"null", DEEP, b"\xff\xfe", b'{"schema_version": NaN}'])
def test_dataset_json_that_is_none(content: bytes, dataset: Path, fault: Callable[[str, str, str], None]) -> None:
    (dataset / "dataset.json").write_bytes(content)
    with pytest.raises(UserError) as error:
        sharing.check(dataset)
    name = "JSON 100,000 levels deep" if content is DEEP else repr(content)
    fault("dataset.json", name, str(error.value).split("/")[-1][:200])


@pytest.mark.parametrize("shard", ["../../x.tar", "/etc/passwd", "pipe:touch pwned", "other-000000.tar"])
def test_an_index_that_leads_elsewhere(shard: str, dataset: Path, fault: Callable[[str, str, str], None]) -> None:
    rows = [row | {"shard": shard} for row in pq.read_table(dataset / "index.parquet").to_pylist()]
    pq.write_table(pa.Table.from_pylist(rows, outliers.INDEX), dataset / "index.parquet")
    for reader in (sharing.check, lambda folder: whole(Selection([folder], {"noise": 2}))):
        with pytest.raises(UserError) as error:
            reader(dataset)
    fault("index.parquet", f"names the shard {shard!r}", str(error.value).split("/")[-1])


def given_outputs(folder: Path) -> Path:
    random = torch.Generator().manual_seed(0)
    for name, role in (("train", "id"), ("val", "id"), ("test", "id"), ("textures", "far")):
        labels = torch.full((20,), -1) if role == "far" else torch.arange(20) % 2
        logits, features = torch.randn(20, 2, generator=random), torch.randn(20, 4, generator=random)
        found = Outputs([str(i) for i in range(20)], labels, logits, features, {})
        outputs.write(outputs.path_of(folder, name, role), [found])  # type: ignore[arg-type]
    return folder


def column(name: str, values: Any) -> Callable[[pa.Table], pa.Table]:
    def change(table: pa.Table) -> pa.Table:
        left = table.drop_columns([name]) if name in table.column_names else table
        return left if values is None else left.append_column(name, values)

    return change


PARQUET: dict[str, Callable[[pa.Table], pa.Table] | bytes] = {
    "not parquet": b"no parquet",
    "empty file": b"",
    "truncated": b"PAR1" + b"\0" * 50 + b"PAR1",
    "no rows": lambda table: table.slice(0, 0),
    "no logits": column("logits", None),
    "no labels": column("label", None),
    "no keys": column("key", None),
    "logits of text": column("logits", pa.array([["x", "y"]] * 20)),
    "logits that are numbers": column("logits", pa.array([0.5] * 20)),
    "logits of several lengths": column("logits", pa.array([[0.0] * (1 + i % 2) for i in range(20)])),
    "logits that are null": column("logits", pa.array([None] * 20, pa.list_(pa.float32()))),
    "logits with NaN": column("logits", pa.array([[0.0, float("nan")]] * 20)),
    "logits with infinity": column("logits", pa.array([[0.0, float("inf")]] * 20)),
    "another number of classes": column("logits", pa.array([[0.0, 1.0, 2.0]] * 20)),
    "labels of text": column("label", pa.array(["x"] * 20)),
    "labels that are null": column("label", pa.array([None] * 20, pa.int64())),
    "labels of no class": column("label", pa.array([7] * 20)),
    "score of text": column("mine", pa.array(["x"] * 20)),
    "score with NaN": column("mine", pa.array([float("nan")] * 20)),
    "features of another width": column("features", pa.array([[0.0] * 9] * 20)),
}


@pytest.mark.parametrize("name", PARQUET)
def test_outputs(name: str, tmp_path: Path, fault: Callable[[str, str, str], None]) -> None:
    from pipeline.score import elsewhere

    (tmp_path / "params.yaml").write_text("score: {detectors: {msp: {}, knn: {k: 3}}, resamples: 0}\n")
    path = given_outputs(tmp_path / "given") / "test.parquet"
    change = PARQUET[name]
    if isinstance(change, bytes):
        path.write_bytes(change)
    else:
        pq.write_table(change(pq.read_table(path)), path)
    with pytest.raises(UserError) as error:
        elsewhere(tmp_path / "given", tmp_path / "out", None)
    assert not (tmp_path / "out").exists() and not list(tmp_path.glob(".*partial"))
    fault("outputs of a model", name, str(error.value).split("/")[-1])


MODELS: dict[str, tuple[str, bytes | None]] = {
    "no config": ("config.json", None),
    "config that is a list": ("config.json", b"[]"),
    "config 100,000 levels deep": ("config.json", DEEP),
    "config of another network": ("config.json", b'{"network": "resnet-21"}'),
    "weights that are a pickle": ("model.safetensors", pickle.dumps(Payload())),
    "weights cut short": ("model.safetensors", b"\x10\0\0\0\0\0\0\0{"),
    "header of weights that claims 1 TB": ("model.safetensors", struct.pack("<Q", 2**40) + b"{}"),
    "no weights": ("model.safetensors", None),
    "no detector": ("detector.json", None),
    "unknown score": (
        "detector.json", b'{"score": "__import__", "threshold": 0.0, "id_pass_rate": 0.95}',
    ),
    "threshold that is NaN": ("detector.json", b'{"score": "msp", "threshold": NaN, "id_pass_rate": 0.95}'),
}  # fmt: skip


@pytest.mark.parametrize("name", MODELS)
def test_model_folders(name: str, model: Path, tmp_path: Path, fault: Callable[[str, str, str], None]) -> None:
    folder = tmp_path / "given"
    folder.mkdir()
    for path in model.iterdir():
        (folder / path.name).write_bytes(path.read_bytes())
    file, content = MODELS[name]
    (folder / file).unlink()
    if content is not None:
        (folder / file).write_bytes(content)
    with pytest.raises(UserError) as error:
        open_set.load(str(folder), None)
    fault("model folder", name, str(error.value).split("/")[-1][:200])


def test_a_pickle_beside_the_weights_is_not_opened(model: Path, tmp_path: Path) -> None:
    folder = tmp_path / "given"
    folder.mkdir()
    for path in model.iterdir():
        (folder / path.name).write_bytes(path.read_bytes())
    (folder / "pytorch_model.bin").write_bytes(pickle.dumps(Payload()))
    open_set.load(str(folder), None)


FUZZ = hypothesis_settings(max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)


@FUZZ
@given(data=st.binary(max_size=300), at=st.integers(0, 2**20), cut=st.booleans())
def test_any_damage_to_a_shard_is_found(dataset: Path, data: bytes, at: int, cut: bool) -> None:
    path = dataset / SHARD
    sound, about = path.read_bytes(), (dataset / "dataset.json").read_text()
    start = at % len(sound)
    damaged = sound[:start] + data + (b"" if cut else sound[start + len(data) :])
    rewrite(dataset, damaged)
    try:
        sharing.check(dataset)
    except UserError:
        pass
    else:  # the damage hit what carries no meaning: padding, owner, time, the checksum of a PNG's empty last chunk
        samples = [own for _, own in outliers.read(dataset, outliers.verify(dataset))]
        assert [own.image[:-4] for own in samples] == [SAMPLE.image[:-4]] * 2
    finally:
        path.write_bytes(sound)
        (dataset / "dataset.json").write_text(about)


def test_a_damaged_end_of_a_png_changes_no_pixel(dataset: Path) -> None:
    sound = (dataset / SHARD).read_bytes()
    end = sound.rindex(SAMPLE.image) + len(SAMPLE.image)
    rewrite(dataset, sound[: end - 3] + b"\xe0\xc1\xc4" + sound[end:])
    sharing.check(dataset)
    images = [own.image for _, own in outliers.read(dataset, outliers.verify(dataset))]
    assert images[1] != SAMPLE.image
    assert np.array_equal(decode(images[1], "damaged"), decode(SAMPLE.image, "sound"))


@FUZZ
@given(data=st.binary(max_size=100), at=st.integers(0, 2**20), kind=st.sampled_from(FORMATS))
def test_any_damage_to_an_image_is_skipped_or_seen_through(
    model: Path, tmp_path: Path, data: bytes, at: int, kind: str
) -> None:
    sound = encoded(RGB, kind)
    start = at % len(sound)
    (tmp_path / "a.png").write_bytes(sound[:start] + data + sound[start + len(data) :])
    rows = list(predict.predict(open_set.load(str(model), None), [tmp_path / "a.png"], 1))
    assert len(rows) == 1 and ("error" in rows[0]) != ("score" in rows[0])


@pytest.mark.parametrize("near", ["../up", "A", "a.b", "", "x/y"])
def test_names_of_sets_that_lead_elsewhere(near: str, fault: Callable[[str, str, str], None]) -> None:
    form = {"val_fraction": 0.1, "test_fraction": 0.1, "resize": 8, "size": 8, "channels": 3}
    with pytest.raises(ValueError, match="near"):
        FolderSettings.model_validate(form | {"id": "x", "near": {near: "x"}, "far": {}, "val_near": {}, "val_far": {}})
    fault("params.yaml", f"OOD set named {near!r}", "refused before any work")


def test_reading_does_not_leave_threads_behind(model: Path, tmp_path: Path) -> None:
    before = threading.active_count()
    for _ in range(5):
        (tmp_path / "a.png").write_bytes(b"")
        list(predict.predict(open_set.load(str(model), None), [tmp_path / "a.png"], 1))
    assert threading.active_count() <= before + 2


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("target", ["image", "shards", "settings"])
def test_fuzzed_along_new_branches(target: str, fault: Callable[[str, str, str], None]) -> None:
    pytest.importorskip("atheris")
    command = [sys.executable, "-m", "tests.fuzz", target, "-runs=20000", "-max_len=12000", "-seed=1"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0 and "Done 20000 runs" in done.stderr, done.stderr[-3000:]
    fault(f"`{target}` by atheris", "20,000 inputs", "an error in a line, or read")
