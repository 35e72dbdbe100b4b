"""What others hand us is not to be trusted: images, outlier shards, outputs, model folders.

Every case ends in an error that names the cause, in a recorded skip, or in the right result; never in a crash, in code
that runs, in a hang or in a silent wrong result. `pytest -m faults --faults=docs/reliability.md` writes the table.
"""

import hashlib
import io
import json
import math
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
from safetensors.torch import save, save_file

from pipeline.artifacts import outliers, outputs
from pipeline.artifacts.codec import decode, formats
from pipeline.artifacts.outliers import encode_sample
from pipeline.artifacts.outputs import Outputs
from pipeline.artifacts.selection import Selection
from pipeline.classifier.networks import Classifier
from pipeline.hub import datasets as sharing
from pipeline.runtime.errors import UserError
from pipeline.serving import open_set, predict
from pipeline.settings.prepare import FolderSettings
from pipeline.training.loaders import whole
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
    "TIFF whose tags say nothing": (b"II*\0\x08\0\0\0\0\0\0\0\0\0", "no known format"),
    "truncated PNG": (GOOD[:200], "image file is truncated"),
    "PNG header alone": (GOOD[:8], "no known format"),
    "truncated JPEG": (encoded(RGB, "JPEG")[:300], "Truncated File Read"),
    "PNG with a damaged byte of pixels": (GOOD[:60] + bytes([GOOD[60] ^ 255]) + GOOD[61:], "broken data stream"),
    "PNG with a damaged checksum of its header": (GOOD[:29] + bytes([GOOD[29] ^ 255]) + GOOD[30:], "no known format"),
    "PNG that claims 60,000 x 60,000 pixels": (png(60_000, 60_000, b""), "exceeds limit"),
    "PNG that claims more pixels than it has": (png(500, 500, b"\0" * 90), "image file is truncated"),
    "PNG of no width": (png(0, 5, b""), "no known format"),
    "compressed comment of 200 MB": (commented(200_000_000), "Decompressed data too large"),
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
    (folder / "detector.json").write_bytes(DETECTOR)
    save_file({"id_scores": torch.tensor([-0.9, -0.5])}, folder / "detector.safetensors")
    return folder


@pytest.mark.parametrize("name", IMAGES)
def test_images_to_judge(name: str, model: Path, tmp_path: Path, fault: Callable[[str, str, str], None]) -> None:
    data, words = IMAGES[name]
    (tmp_path / "a.png").write_bytes(GOOD)
    (tmp_path / "b.png").write_bytes(data)
    (tmp_path / "c.png").write_bytes(GOOD)
    rows = list(
        predict.predict(open_set.load(str(model), None), predict.find([str(tmp_path / "?.png")]).images, 2, 0.05)
    )
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
    paths = predict.find([str(tmp_path / "*.png")]).images
    scores = [row["score"] for row in predict.predict(loaded, paths, 2, 0.05)]
    assert scores[0] == pytest.approx(scores[1], abs=1e-6)
    fault("image to `predict`", f"EXIF orientation {orientation}", "judged as it is looked at")


NAMES = ["naïve.png", "雪.png", "a b\n.png", "-rf.png", "$(touch pwned).png", "A.PNG", "a.PNG", "x" * 240 + ".png"]


@pytest.mark.parametrize("name", NAMES)
def test_names_of_files(name: str, model: Path, tmp_path: Path, fault: Callable[[str, str, str], None]) -> None:
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / name).write_bytes(GOOD)
    rows = list(predict.predict(open_set.load(str(model), None), predict.find([str(tmp_path / "in")]).images, 2, 0.05))
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
    rows = list(predict.predict(open_set.load(str(model), None), predict.find([str(tmp_path / "in")]).images, 2, 0.05))
    assert [Path(row["path"]).name for row in rows if "error" not in row] == ["a.png"]
    for kind in ("dead link", "link to itself", "folder named like an image", "named pipe"):
        fault("image to `predict`", kind, "left out or skipped, with its reason")


FIELDS = {
    "method": "noise", "label": -1, "parent_a": 0, "parent_b": 1, "strength": 0.5, "source": "", "candidate": 0,
    "distance": 0.5, "confidence": 0.5, "seed": 0,
}  # fmt: skip
LATENT = np.zeros((4, 2, 2), np.float16)
SAMPLE = encode_sample(RANDOM.integers(0, 256, (1, 8, 8), np.uint8), LATENT, FIELDS, "no mark")
SHARD = "outliers-noise-000000.tar"
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
        "shards": outliers.pack(folder, "outliers", {"noise": len(samples)}, lambda _, i: samples[i], 5),
        "methods": {"noise": {"packed": 2, "candidates": 2, "rejected": {}}},
        "id": {"classes": ["a", "b"], "count": 2, "shape": [1, 8, 8]},
        "licence": "other",
    }
    (folder / "dataset.json").write_text(json.dumps(about))
    assert sharing.verify(folder)["name"] == "outliers"
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


def first(**changes: bytes | None) -> Members:
    """Two samples, the first one changed."""
    return [*sample(**changes), *SECOND]


def fields(**changes: Any) -> Members:
    """Two samples, fields of the first one changed."""
    return first(json=json.dumps(FIELDS | changes).encode())


HUGE = IMAGES["PNG that claims 60,000 x 60,000 pixels"][0]
TWICE = json.dumps(FIELDS)[:-1].encode() + b', "method": "other"}'
CODE = "__import__('os').mkdir('pwned')"
NOT_DIGITS, NO_IMAGE = "a key that is not of digits alone", "00000000: no plain file png in the tar"
NOT_READABLE = "00000000.png: not a readable image"
# name -> the shard, and what is said of it
SHARDS: dict[str, tuple[Members | bytes, str]] = {
    "path that leads out": ([("../../evil.png", b"x"), *first()], f"../../evil: {NOT_DIGITS}"),
    "absolute path": ([("/tmp/evil.png", b"x"), *first()], f"/tmp/evil: {NOT_DIGITS}"),
    "symbolic link to /etc/passwd": (special(tarfile.SYMTYPE, "/etc/passwd"), NO_IMAGE),
    "hard link out": (special(tarfile.LNKTYPE, "../../etc/passwd"), NO_IMAGE),
    "character device": (special(tarfile.CHRTYPE, ""), NO_IMAGE),
    "named pipe": (special(tarfile.FIFOTYPE, ""), NO_IMAGE),
    "folder in place of the image": (special(tarfile.DIRTYPE, ""), NO_IMAGE),
    "member that claims 1 TB": (lying(2**40), "not a tar of samples (unexpected end of data)"),
    "member cut short": (lying(10**6), "not a tar of samples (unexpected end of data)"),
    "not a tar": (b"no tar at all" * 100, "not a tar of samples (invalid header)"),
    "empty file": (b"", "not a tar of samples (empty file)"),
    "compressed tar": (zlib.compress(b"x" * 10**6), "not a tar of samples (bad checksum)"),
    "no samples": ([], "samples: 0 in the shards, 2 in index.parquet"),
    "no image": (first(png=None), NO_IMAGE),
    "no latent": (first(latent_npy=None), "00000000: no plain file latent.npy in the tar"),
    "no JSON": (first(json=None), "00000000: no plain file json in the tar"),
    "the same key twice": ([*sample(), *sample()], "not a tar of samples (00000000.json: duplicate file name"),
    "keys in another order": ([*SECOND, *sample()], f"00000001: its row is of {SHARD}: 00000000"),
    "one more sample": ([*first(), *sample("00000002")], "00000002: it has no row"),
    "one sample less": (sample(), "samples: 1 in the shards, 2 in index.parquet, 2 in dataset.json's list"),
    "keys that differ by case": ([*sample("a0000000"), *sample("A0000000")], f"a0000000: {NOT_DIGITS}"),
    "key in Unicode": ([*sample("雪"), *SECOND], f"雪: {NOT_DIGITS}"),
    "image that is no image": (first(png=b"no image"), f"{NOT_READABLE} (of no known format)"),
    "image of another shape": (first(png=GOOD), "00000000.png: shape (3, 16, 16), expected (1, 8, 8)"),
    "image of 16 bits": (first(png=IMAGES["16-bit grey"][0]), "00000000.png: image mode I;16"),
    "palette image": (first(png=IMAGES["palette"][0]), "00000000.png: image mode P,"),
    "decompression bomb": (first(png=HUGE), f"{NOT_READABLE} (Image size (3600000000 pixels) exceeds limit"),
    "animated image": (first(png=animated("PNG")), "00000000.png: 2 frames"),
    "pickled latent": (first(latent_npy=npy(np.array([Payload()], dtype=object))), "npy: object (1,)"),
    "pickle in place of a latent": (first(latent_npy=pickle.dumps(Payload())), "npy: the magic string is not correct"),
    "latent that promises 2 TB": (
        first(latent_npy=npy_header("(1000000, 1000000, 1)")), "npy: cannot reshape array of size 0 into shape",
    ),
    "latent of negative shape": (first(latent_npy=npy_header("(-1, 2, 2)")), "npy: float16 (-1, 2, 2)"),
    "latent header of code": (first(latent_npy=npy_header(CODE)), "npy: malformed node or string on line 1"),
    "latent header that ends in the middle": (first(latent_npy=npy_header("(4, 2, 2")), "npy: ('EOF in multi-line"),
    "latent header of 5,000 brackets": (first(latent_npy=npy_header("(" * 5000)), "npy: ('EOF in multi-line"),
    "latent of float64": (first(latent_npy=npy(LATENT.astype(np.float64))), "npy: float64 (4, 2, 2)"),
    "latent of text": (first(latent_npy=npy(np.array(["x"]))), "npy: <U1 (1,)"),
    "latent of two dimensions": (first(latent_npy=npy(LATENT[0])), "npy: float16 (2, 2)"),
    "latent with NaN": (first(latent_npy=npy(LATENT * np.float16("nan"))), "npy: NaN or infinite values"),
    "latent with infinity": (first(latent_npy=npy(LATENT + np.float16("inf"))), "npy: NaN or infinite values"),
    "empty latent": (first(latent_npy=b""), "npy: EOF: reading magic string"),
    "JSON 100,000 levels deep": (first(json=DEEP), "00000000.json: Invalid JSON: recursion limit exceeded"),
    "JSON that is a list": (first(json=b"[]"), "00000000.json: Input should be an object"),
    "JSON with NaN": (fields(distance=float("nan")), "00000000.json: distance: Input should be a finite number"),
    "JSON with a field missing": (first(json=b'{"method": "noise"}'), "00000000.json: label: Field required"),
    "JSON with a field twice": (first(json=TWICE), "00000000.json: method stands twice"),
    "label of text": (fields(label="-1"), "00000000.json: label: Input should be a valid integer"),
    "label of no class": (fields(label=7), "00000000.json: class 7, expected at most 1"),
    "label beyond 64 bits": (fields(label=2**70), "00000000.json: label: Input should be less than"),
    "another method than the index says": (fields(method="x"), "00000000: method is 'x', in its row 'noise'"),
    "another distance than the index says": (fields(distance=0.25), "00000000: distance is 0.25, in its row 0.5"),
}  # fmt: skip


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
    content, words = SHARDS[name]
    rewrite(dataset, content)
    with pytest.raises(UserError) as error:
        sharing.verify(dataset)
    assert words in str(error.value)
    try:  # training reads less of a sample than the check does; what it takes is whole
        pixels, labels = whole(Selection([dataset], {"noise": 2}))
        assert pixels.shape == (2, 1, 8, 8) and set(labels.tolist()) <= {-1, 0, 1}
    except UserError:
        pass
    fault("outlier shard", name, str(error.value))


def shard(**changes: Any) -> Callable[[dict[str, Any]], None]:
    return lambda about: about["shards"][0].update(changes)


# name -> what is done to a sound one, and what is said of it
DATASETS: dict[str, tuple[Callable[[dict[str, Any]], Any], str]] = {
    "shard name that leads out": (shard(name="../x-000000.tar"), "shard name '../x-000000.tar', expected"),
    "shard name that is a command": (shard(name="pipe:touch pwned"), "shard name 'pipe:touch pwned', expected"),
    "shard name that is an address": (shard(name="http://x/x-000000.tar"), "shard name 'http://x/x-000000.tar'"),
    "shard listed twice": (lambda about: about["shards"].append(about["shards"][0]), f"the shard {SHARD!r} twice"),
    "another checksum": (shard(sha256="0" * 64), f"{SHARD}: sha256 "),
    "number of samples below 0": (shard(samples=-2), "shards.0.samples: Input should be greater than 0"),
    "number of samples that is wrong": (
        shard(samples=3), "samples: 2 in the shards, 2 in index.parquet, 3 in dataset.json's list",
    ),
    "count of a method that is wrong": (
        lambda about: about["methods"]["noise"].update(packed=3), "has 2 rows of noise, dataset.json says 3",
    ),
    "method without a sample": (
        lambda about: about["methods"].update(real=about["methods"]["noise"]), "0 rows of real, dataset.json says 2",
    ),
    "another schema": (lambda about: about.update(schema_version=99), "schema 99, expected 2"),
    "no list of shards": (lambda about: about.update(shards=None), "shards: Input should be a valid list"),
    "no methods": (lambda about: about.pop("methods"), "methods: Field required"),
    "methods of text": (lambda about: about.update(methods="all"), "methods: Input should be a valid dictionary"),
    "no ID set": (lambda about: about.pop("id"), "id: Field required"),
    "fingerprint that is a list": (lambda about: about.update(fingerprint=[]), "fingerprint: Input should be a"),
    "source type that is a number": (
        lambda about: about["methods"]["noise"].update(source_type=5), "methods.noise.source_type: Input should be a",
    ),
    "merged from a number": (lambda about: about.update(merged=5), "merged: Input should be a valid list"),
    "merged from a dataset without methods": (
        lambda about: about.update(merged=[{"shards": [], "id": about["id"]}]), "merged.0.methods: Field required",
    ),
    "licences of text": (lambda about: about.update(licences="all"), "licences: Input should be a valid dictionary"),
    "shape of text": (lambda about: about["id"].update(shape="large"), "id.shape: Input should be a valid list"),
}  # fmt: skip


@pytest.mark.parametrize("name", DATASETS)
def test_dataset_json(name: str, dataset: Path, fault: Callable[[str, str, str], None]) -> None:
    about = json.loads((dataset / "dataset.json").read_text())
    change, words = DATASETS[name]
    change(about)
    (dataset / "dataset.json").write_text(json.dumps(about))
    with pytest.raises(UserError) as error:
        sharing.verify(dataset)
    assert words in str(error.value)
    fault("dataset.json", name, str(error.value))


CONTENTS = {
    b"": "not valid JSON (Expecting value",
    b"[]": "found list, expected a JSON object",
    b"null": "found NoneType, expected a JSON object",
    DEEP: "not valid JSON (maximum recursion depth exceeded",
    b"\xff\xfe": "not valid JSON ('utf-8' codec can't decode",
    b'{"schema_version": NaN}': "schema nan, expected 2",
}


@pytest.mark.parametrize("content", CONTENTS)
def test_dataset_json_that_is_none(content: bytes, dataset: Path, fault: Callable[[str, str, str], None]) -> None:
    (dataset / "dataset.json").write_bytes(content)
    with pytest.raises(UserError) as error:
        sharing.verify(dataset)
    assert CONTENTS[content] in str(error.value)
    name = "JSON 100,000 levels deep" if content is DEEP else repr(content)
    fault("dataset.json", name, str(error.value))


@pytest.mark.parametrize("shard", ["../../x.tar", "/etc/passwd", "pipe:touch pwned", "other-000000.tar"])
def test_an_index_that_leads_elsewhere(shard: str, dataset: Path, fault: Callable[[str, str, str], None]) -> None:
    rows = [row | {"shard": shard} for row in pq.read_table(dataset / "index.parquet").to_pylist()]
    pq.write_table(pa.Table.from_pylist(rows, outliers.INDEX), dataset / "index.parquet")
    with pytest.raises(UserError) as error:
        sharing.verify(dataset)
    assert f"{SHARD}: 00000000: its row is of {shard}: 00000000" in str(error.value)
    with pytest.raises(UserError) as error:
        whole(Selection([dataset], {"noise": 2}))
    assert f"index.parquet names {shard!r}, which dataset.json does not" in str(error.value)
    fault("index.parquet", f"names the shard {shard!r}", str(error.value))


def test_an_index_without_a_column(dataset: Path, fault: Callable[[str, str, str], None]) -> None:
    pq.write_table(pq.read_table(dataset / "index.parquet").drop_columns(["label"]), dataset / "index.parquet")
    with pytest.raises(UserError) as error:
        whole(Selection([dataset], {"noise": 2}))
    assert "set/index.parquet: no column label" in str(error.value)
    fault("index.parquet", "no column `label`", str(error.value))
    with pytest.raises(UserError, match="00000000: label is -1, in its row None"):
        sharing.verify(dataset)


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


def logits(*values: Any) -> Callable[[pa.Table], pa.Table]:
    """These in turn for the logits of 20 images."""
    return column("logits", pa.array([values[i % len(values)] for i in range(20)]))


def labels(value: Any) -> Callable[[pa.Table], pa.Table]:
    return column("label", pa.array([value] * 20))


NAN, INFINITY, NO_LISTS = float("nan"), float("inf"), pa.array([None] * 20, pa.list_(pa.float32()))
NULLS, NOT_FINITE = "test.parquet: 20 logits or scores are null", "test.parquet: logits has NaN or infinite"
# name -> what the test set becomes, or every set for a score; and what is said of it
PARQUET: dict[str, tuple[Callable[[pa.Table], pa.Table] | bytes, str]] = {
    "not parquet": (b"no parquet", "test.parquet: not readable (Parquet magic bytes not found"),
    "empty file": (b"", "test.parquet: not readable (Parquet file size is 0 bytes)"),
    "truncated": (b"PAR1" + b"\0" * 50 + b"PAR1", "test.parquet: not readable (Couldn't deserialize thrift"),
    "no rows": (lambda table: table.slice(0, 0), "test.parquet: no rows"),
    "no logits": (column("logits", None), "test.parquet: no column logits"),
    "no labels": (column("label", None), "test.parquet: no column label"),
    "no keys": (column("key", None), "test.parquet: no column key"),
    "logits of text": (logits(["x", "y"]), "test.parquet: logits of string, expected float32"),
    "logits that are numbers": (logits(0.5), "test.parquet: logits of type double, expected lists"),
    "logits of several lengths": (logits([0.0], [0.0, 0.0]), "test.parquet: logits of lengths [1, 2]"),
    "logits that are null": (column("logits", NO_LISTS), NULLS),
    "logits with NaN": (logits([0.0, NAN]), NOT_FINITE),
    "logits with infinity": (logits([0.0, INFINITY]), NOT_FINITE),
    "another number of classes": (
        logits([0.0, 1.0, 2.0], [2.0, 0.0, 0.0]), "train.parquet: logits of 2 classes, expected 3 as in test.parquet",
    ),
    "labels of text": (labels("x"), "test.parquet: label of type string, expected numbers"),
    "labels that are null": (column("label", pa.array([None] * 20, pa.int64())), "20 rows without a label"),
    "labels of no class": (labels(7), "test.parquet: labels 7 to 7, expected -1 for OOD or one of 2 classes"),
    "labels that are no whole numbers": (labels(0.5), "20 rows with a label that is no whole number (the first"),
    "labels of OOD in a set of ID": (labels(-1), "20 rows with the label -1 of OOD, in a set of ID images"),
    "keys twice": (column("key", pa.array(["a", "b"] * 10)), "18 rows with the key of an earlier row"),
    "keys that are null": (column("key", pa.array([None] * 20, pa.string())), "20 rows without a key"),
    "a column called set": (column("set", pa.array(["test"] * 20)), "a column 'set', a name of the tables of scores"),
    "a column called seed": (column("seed", pa.array([0] * 20)), "a column 'seed', a name of the tables of scores"),
    "score of text": (column("mine", pa.array(["x"] * 20)), "could not convert string to float: 'x'; expected numbers"),
    "score with NaN": (column("mine", pa.array([NAN] * 20)), "mine: not finite"),
    "features of another width": (
        column("features", pa.array([[0.0] * 9] * 20)), "knn: mat1 and mat2 shapes",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", PARQUET)
def test_outputs(name: str, tmp_path: Path, fault: Callable[[str, str, str], None]) -> None:
    from pipeline.score import score_external

    (tmp_path / "params.yaml").write_text("score: {detectors: {msp: {}, knn: {k: 3}}, resamples: 0}\n")
    folder = given_outputs(tmp_path / "given")
    change, words = PARQUET[name]
    for path in folder.rglob("*.parquet") if name.startswith("score") else [folder / "test.parquet"]:
        if isinstance(change, bytes):
            path.write_bytes(change)
        else:
            pq.write_table(change(pq.read_table(path)), path)
    with pytest.raises(UserError) as error:
        score_external(folder, tmp_path / "out", None, force=False)
    assert words in str(error.value)
    assert not (tmp_path / "out").exists() and not list(tmp_path.glob(".*partial"))
    fault("outputs of a model", name, str(error.value))


def by_pandas(table: pa.Table) -> pa.Table:
    """As pandas writes it with its index beside the columns: every second row of a longer table."""
    frame = table.to_pandas()
    frame.index = range(0, 2 * len(frame), 2)
    return pa.Table.from_pandas(frame)


READ: dict[str, Callable[[pa.Table], pa.Table]] = {
    "pandas' index beside the columns": by_pandas,
    "pandas' index, its metadata lost": lambda table: by_pandas(table).replace_schema_metadata(None),
    "pandas' index with a name": lambda table: pa.Table.from_pandas(
        table.to_pandas().rename_axis("row"), preserve_index=True
    ),
    "pandas' index of keys": lambda table: pa.Table.from_pandas(table.to_pandas().set_index("key")),
    "large lists, as polars writes": lambda table: table.set_column(
        2, "logits", pa.array(table.column("logits").to_pylist(), pa.large_list(pa.float32()))
    ),
    "lists of float64": lambda table: table.set_column(2, "logits", pa.array(table.column("logits").to_pylist())),
    "large strings": lambda table: table.set_column(0, "key", table.column("key").cast(pa.large_string())),
    "whole labels as floats": lambda table: table.set_column(1, "label", table.column("label").cast(pa.float64())),
}


@pytest.mark.parametrize("name", READ)
def test_outputs_of_other_writers(name: str, tmp_path: Path, fault: Callable[[str, str, str], None]) -> None:
    from pipeline.score import score_external

    (tmp_path / "params.yaml").write_text("score: {detectors: {msp: {}}, resamples: 0}\n")
    given = given_outputs(tmp_path / "given")
    score_external(given, tmp_path / "plain", None, force=False)
    for path in given.rglob("*.parquet"):
        pq.write_table(READ[name](pq.read_table(path)), path)
    score_external(given, tmp_path / "changed", None, force=False)
    plain, changed = ((tmp_path / name / "summary.json").read_text() for name in ("plain", "changed"))
    assert plain == changed
    fault("outputs of a model", name, "the same tables")


def test_columns_that_are_taken_for_scores_are_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from pipeline.score import score_external

    (tmp_path / "params.yaml").write_text("score: {detectors: {msp: {}}, resamples: 0}\n")
    for path in given_outputs(tmp_path / "given").rglob("*.parquet"):
        table = pq.read_table(path)
        pq.write_table(table.append_column("mine", pa.array(range(len(table)))), path)
    score_external(tmp_path / "given", tmp_path / "out", None, force=False)
    assert "columns of the outputs that are taken for scores: mine" in capsys.readouterr().out


STRAYS = {
    "ner/x.parquet": "ner is no part of a model's outputs, did you mean near",
    "tst.parquet": "tst.parquet is no part of a model's outputs, did you mean test.parquet",
    "near/deep/x.parquet": "deep is no part of a model's outputs; expected",
}


@pytest.mark.parametrize("place", STRAYS)
def test_outputs_that_no_reader_looks_at(place: str, tmp_path: Path, fault: Callable[[str, str, str], None]) -> None:
    given = given_outputs(tmp_path / "given")
    (given / place).parent.mkdir(parents=True, exist_ok=True)
    (given / place).write_bytes((given / "far/textures.parquet").read_bytes())
    with pytest.raises(UserError) as error:
        outputs.find(given)
    assert STRAYS[place] in str(error.value)
    fault("outputs of a model", f"stray {place}", STRAYS[place])


def test_models_that_would_not_be_scored(tmp_path: Path) -> None:
    from pipeline.score import models_of

    given_outputs(tmp_path / "all/mine/s0")
    given_outputs(tmp_path / "all/mine/seed1")
    with pytest.raises(UserError, match=r"mine/seed1: outputs that would not be scored, expected .*RECIPE/s<seed>"):
        models_of(tmp_path / "all", None)


DETECTOR = b'{"score": {"msp": {}}, "false_alarms": 0.05}'
UNLOADABLE = "given: cannot be loaded as a model (Error while deserializing header: "
# name -> a file of the folder, what it becomes (None: it is not there), and what is said of it
MODELS: dict[str, tuple[str, Callable[[bytes], bytes] | bytes | None, str]] = {
    "no config": ("config.json", None, "given/config.json: not found"),
    "config that is a list": ("config.json", b"[]", "given/config.json: found list, expected a JSON object"),
    "config 100,000 levels deep": ("config.json", DEEP, "given/config.json: not valid JSON (maximum recursion depth"),
    "config without its keys": ("config.json", b"{}", "missing 7 required positional arguments: 'network'"),
    "config of another network": (
        "config.json", lambda own: own.replace(b"wrn-10-1", b"resnet-21"), "given: network 'resnet-21': unknown",
    ),
    "weights of another network": (
        "config.json", lambda own: own.replace(b"wrn-10-1", b"resnet-20"), "Error(s) in loading state_dict",
    ),
    "weights that are a pickle": ("model.safetensors", pickle.dumps(Payload()), f"{UNLOADABLE}header too large"),
    "weights cut short": ("model.safetensors", b"\x10\0\0\0\0\0\0\0{", f"{UNLOADABLE}invalid header length"),
    "header of weights that claims 1 TB": (
        "model.safetensors", struct.pack("<Q", 2**40) + b"{}", f"{UNLOADABLE}header too large",
    ),
    "no weights": ("model.safetensors", None, "given: no safetensors weights"),
    "no detector": ("detector.json", None, "given/detector.json: not found"),
    "unknown score": (
        "detector.json", DETECTOR.replace(b"msp", b"__import__"), "detector.json: score: '__import__': unknown",
    ),
    "rate of false alarms that is NaN": (
        "detector.json", DETECTOR.replace(b"0.05", b"NaN"), "detector.json: false_alarms: Input should be",
    ),
    "no scores of validation images": ("detector.safetensors", None, "given/detector.safetensors: not found"),
    "scores of validation images that are a pickle": (
        "detector.safetensors", pickle.dumps(Payload()), "given/detector.safetensors: not readable",
    ),
    "scores of validation images that are NaN": (
        "detector.safetensors", save({"id_scores": torch.tensor([math.nan])}), "not finite numbers in ascending order",
    ),
    "scores of validation images out of order": (
        "detector.safetensors", save({"id_scores": torch.tensor([1.0, 0.0])}), "not finite numbers in ascending order",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", MODELS)
def test_model_folders(name: str, model: Path, tmp_path: Path, fault: Callable[[str, str, str], None]) -> None:
    folder = tmp_path / "given"
    folder.mkdir()
    for path in model.iterdir():
        (folder / path.name).write_bytes(path.read_bytes())
    file, content, words = MODELS[name]
    if content is None:
        (folder / file).unlink()
    else:
        (folder / file).write_bytes(content if isinstance(content, bytes) else content((folder / file).read_bytes()))
    with pytest.raises(UserError) as error:
        open_set.load(str(folder), None)
    assert words in str(error.value)
    fault("model folder", name, str(error.value))


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
        sharing.verify(dataset)
    except UserError:
        pass
    else:  # the damage hit what carries no meaning: padding, owner, time, checksums in a PNG that Pillow skips
        samples = [own for _, own in outliers.read(dataset, outliers.verify(dataset))]
        assert len(samples) == 2
        for own in samples:
            assert np.array_equal(decode(own.image, "damaged"), decode(SAMPLE.image, "sound"))
    finally:
        path.write_bytes(sound)
        (dataset / "dataset.json").write_text(about)


def test_a_damaged_end_of_a_png_changes_no_pixel(dataset: Path) -> None:
    sound = (dataset / SHARD).read_bytes()
    end = sound.rindex(SAMPLE.image) + len(SAMPLE.image)
    rewrite(dataset, sound[: end - 3] + b"\xe0\xc1\xc4" + sound[end:])
    sharing.verify(dataset)
    images = [own.image for _, own in outliers.read(dataset, outliers.verify(dataset))]
    assert images[1] != SAMPLE.image
    assert np.array_equal(decode(images[1], "damaged"), decode(SAMPLE.image, "sound"))


@FUZZ
@given(data=st.binary(max_size=100), at=st.integers(0, 2**20), kind=st.sampled_from(formats()))
def test_any_damage_to_an_image_is_skipped_or_seen_through(
    model: Path, tmp_path: Path, data: bytes, at: int, kind: str
) -> None:
    sound = encoded(RGB, kind)
    start = at % len(sound)
    (tmp_path / "a.png").write_bytes(sound[:start] + data + sound[start + len(data) :])
    rows = list(predict.predict(open_set.load(str(model), None), [tmp_path / "a.png"], 1, 0.05))
    assert len(rows) == 1 and ("error" in rows[0]) != ("score" in rows[0])


@pytest.mark.parametrize("near", ["../up", "A", "a.b", "", "x/y"])
def test_names_of_sets_that_lead_elsewhere(near: str, fault: Callable[[str, str, str], None]) -> None:
    form = {"val_fraction": 0.1, "test_fraction": 0.1, "resize": 8, "size": 8, "channels": 3}
    with pytest.raises(ValueError, match=r"near\..*\[key\]\n.*String should match pattern"):
        FolderSettings.model_validate(form | {"id": "x", "near": {near: "x"}, "far": {}, "val_near": {}, "val_far": {}})
    fault("params.yaml", f"OOD set named {near!r}", "refused before any work")


def test_reading_does_not_leave_threads_behind(model: Path, tmp_path: Path) -> None:
    before = threading.active_count()
    for _ in range(5):
        (tmp_path / "a.png").write_bytes(b"")
        list(predict.predict(open_set.load(str(model), None), [tmp_path / "a.png"], 1, 0.05))
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
