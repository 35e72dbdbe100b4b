"""Synthetic images are marked, and the marks are checked, read by an XML parser of the standard library."""

import io
import json
import shutil
import tarfile
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pytest
from PIL import Image

from pipeline import methods
from pipeline.artifacts import datasheet, marks
from pipeline.artifacts.codec import encode_png, text_of, without_texts
from pipeline.artifacts.provenance import RESTRICTED, RESTRICTIONS
from pipeline.hub import datasets as sharing
from pipeline.runtime.errors import UserError

RANDOM_PIXELS = np.random.default_rng(0).integers(0, 256, (3, 8, 8), np.uint8)
IPTC = "{http://iptc.org/std/Iptc4xmpExt/2008-02-29/}"
OWN = "{https://arxiv.org/abs/2406.16525#}"
FIELDS = {"method": "boundary", "candidate": 7}
ABOUT: dict[str, Any] = {"fingerprint": "f", "methods": {"boundary": {"source_type": "trainedAlgorithmicMedia"}}}
MARK = marks.packet("boundary", 7, "f", "trainedAlgorithmicMedia")


def description(packet: str) -> dict[str, str]:
    """The attributes of the description in a packet."""
    found = ElementTree.fromstring(packet).find(".//{http://www.w3.org/1999/02/22-rdf-syntax-ns#}Description")
    assert found is not None
    return dict(found.attrib)


def test_a_packet_is_xml_with_iptc_s_source_type() -> None:
    found = description(MARK)
    expected = "http://cv.iptc.org/newscodes/digitalsourcetype/trainedAlgorithmicMedia"
    assert found[f"{IPTC}DigitalSourceType"] == expected
    assert (found[f"{OWN}Method"], found[f"{OWN}Candidate"], found[f"{OWN}Dataset"]) == ("boundary", "7", "f")


def test_nothing_is_claimed_of_an_image_that_is_as_it_was_found() -> None:
    assert f"{IPTC}DigitalSourceType" not in description(marks.packet("oracle", 0, "f", None))


def test_what_a_name_contains_stays_a_value() -> None:
    odd = "a\"b<c>&'d"
    assert description(marks.packet(odd, 1, "f", None))[f"{OWN}Method"] == odd


def test_a_mark_changes_no_pixel_and_the_same_image_has_the_same_bytes() -> None:
    marked = encode_png(RANDOM_PIXELS, {marks.XMP: MARK})
    assert marked == encode_png(RANDOM_PIXELS, {marks.XMP: MARK})
    plain, found = (Image.open(io.BytesIO(data)) for data in (encode_png(RANDOM_PIXELS), marked))
    assert plain.tobytes() == found.tobytes()
    assert text_of(marked, marks.XMP) == MARK and text_of(encode_png(RANDOM_PIXELS), marks.XMP) is None


def test_without_its_mark_a_png_is_that_which_was_never_marked() -> None:
    plain = encode_png(RANDOM_PIXELS)
    assert without_texts(encode_png(RANDOM_PIXELS, {marks.XMP: MARK})) == plain == without_texts(plain)
    for other in (b"", b"no PNG", plain[:30], plain + b"x", plain[:33] + b"\xff" * 20):
        assert without_texts(other) == other


def test_what_is_marked_as_promised_passes_and_nothing_else() -> None:
    marks.check("x", MARK, FIELDS, ABOUT)
    for found, words in ((None, "no mark"), (MARK.replace('"7"', '"8"'), "the mark of another image")):
        with pytest.raises(UserError, match=f"x.png: {words}, expected that of a synthetic image of this dataset"):
            marks.check("x", found, FIELDS, ABOUT)


def test_a_dataset_that_promises_nothing_need_not_be_marked() -> None:
    marks.check("x", None, FIELDS, {"methods": ABOUT["methods"]})


def test_a_merged_dataset_has_the_marks_of_its_parts() -> None:
    other = {"fingerprint": "g", "methods": {"noise": {"source_type": "algorithmicMedia"}}}
    merged = {"methods": ABOUT["methods"] | other["methods"], "merged": [ABOUT, {"merged": [other], "methods": {}}]}
    marks.check("x", MARK, FIELDS, merged)
    marks.check("x", marks.packet("noise", 1, "g", "algorithmicMedia"), {"method": "noise", "candidate": 1}, merged)
    assert marks.fingerprints(merged) == {"f", "g"}
    with pytest.raises(UserError, match="the mark of another image"):  # a mark of the other part
        marks.check("x", marks.packet("boundary", 7, "g", "trainedAlgorithmicMedia"), FIELDS, merged)


def test_the_restrictions_of_a_generator_outlast_any_merging() -> None:
    licences = {"id": "mit", "generators": {"of embedding": RESTRICTED}, "result": "other"}
    about = {"licence": "other", "licences": licences}
    twice = {"licence": "other", "merged": [{"licence": "other", "merged": [about]}]}
    assert datasheet.licences(twice) == datasheet.licences(about)
    assert datasheet.licences(twice)[:3] == ["ID images: mit.", f"Of embedding: {RESTRICTED}.", RESTRICTIONS]


def test_every_packed_image_says_how_it_was_made(project: Path) -> None:
    for name in ("outliers", "controls"):
        folder = project / "data" / name
        fingerprint = json.loads((folder / "dataset.json").read_text())["fingerprint"]
        for shard in folder.glob("*-000000.tar"):
            with tarfile.open(shard) as tar:
                samples = {member.name: tar.extractfile(member).read() for member in tar}  # type: ignore[union-attr]
            for png in (own for own in samples if own.endswith(".png")):
                fields = json.loads(samples[png.replace(".png", ".json")])
                found = description(Image.open(io.BytesIO(samples[png])).info["XML:com.adobe.xmp"])
                source_type = methods.about(fields["method"].partition("+")[0]).source_type
                assert found.get(f"{IPTC}DigitalSourceType", "").rpartition("/")[2] == (source_type or "")
                assert found[f"{OWN}Candidate"] == str(fields["candidate"])
                assert found[f"{OWN}Dataset"] == fingerprint


def test_an_image_without_its_mark_is_named(project: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(project / "data/outliers", tmp_path / "set"))
    about = json.loads((folder / "dataset.json").read_text())
    (folder / "dataset.json").write_text(json.dumps(about | {"fingerprint": "another"}))
    with pytest.raises(UserError, match=r"boundary-000000.tar: 00000000.png: the mark of another image"):
        sharing.verify(folder)
