"""Outlier datasets from hand to hand: check every sample, merge, upload, download."""

import shutil
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import torch
from huggingface_hub import snapshot_download
from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError

from pipeline.artifacts import dataset_json, marks, outliers
from pipeline.artifacts.cards import dataset_card
from pipeline.artifacts.codec import decode, text_of
from pipeline.artifacts.outliers import Sample
from pipeline.artifacts.packing import describe
from pipeline.artifacts.pictures import COLUMNS, ROWS, contact_sheet
from pipeline.artifacts.revisions import COMMIT
from pipeline.hub.upload import upload
from pipeline.runtime.console import track
from pipeline.runtime.destination import Kind, destination, others
from pipeline.runtime.errors import UserError, one_line

PUBLISHED = ["*.tar", "*.parquet", "dataset.json", "croissant.json", "README.md", "*.png"]
BESIDE_SHARDS = (
    "dataset.json", "croissant.json", "README.md", "index.parquet", "rejected.parquet", "contact-sheet.png",
    "latent-map.png", "class-grid.png",
)  # fmt: skip


def _strangers(folder: Path) -> list[str]:
    """Files of an outlier dataset's folder that are not the dataset's; raises UserError where it is none."""
    about = outliers.verify(folder)
    card = folder / "README.md"
    edited = [card.name] if card.is_file() and card.read_text(encoding="utf-8") != dataset_card(about) else []
    return edited + others(folder, [*BESIDE_SHARDS, *(shard["name"] for shard in about["shards"])])


DATASET = Kind("outlier dataset", is_folder=True, strangers=_strangers)


def verify(folder: Path) -> dict[str, Any]:
    """Check a whole outlier dataset: schema, names, checksums, counts, index, that every sample decodes and is marked.

    Returns:
        its dataset.json.

    Raises:
        UserError: names the first thing that does not hold.
    """
    about = outliers.verify(folder)
    index = _table(folder, "index")
    samples = track(outliers.read(folder, about), "verify", len(index))
    seen = 0
    for seen, (name, sample) in enumerate(samples, start=1):
        if difference := _difference(index[seen - 1] if seen <= len(index) else None, name, sample):
            problem = f"index.parquet and the shards disagree at sample {name}: {difference}"
            raise UserError(f"{folder}: {problem}; get the dataset again")
        _check_sample(name, sample, about)
    _check_counts(folder, about, index, seen)
    return about


def _check_counts(folder: Path, about: dict[str, Any], index: list[dict[str, Any]], seen: int) -> None:
    """The samples that were read, the rows of the index and what dataset.json says of shards and methods agree."""
    promised = sum(shard["samples"] for shard in about["shards"])
    if not seen == len(index) == promised:
        raise UserError(
            f"{folder}: samples: {seen} in the shards, {len(index)} in index.parquet, {promised} in dataset.json's "
            "list of shards; get the dataset again"
        )
    counts = Counter(row["method"] for row in index)
    for method in {**counts, **about["methods"]}:
        packed = about["methods"][method]["packed"] if method in about["methods"] else 0
        if counts[method] != packed:
            raise UserError(
                f"{folder}: index.parquet has {counts[method]} rows of {method}, dataset.json says {packed}; get the "
                "dataset again"
            )


def _table(folder: Path, name: str) -> list[dict[str, Any]]:
    try:
        return pq.read_table(folder / f"{name}.parquet").to_pylist()
    except (OSError, ValueError) as error:
        raise UserError(f"{folder / name}.parquet: not readable ({error}); get the dataset again") from None


def _difference(row: dict[str, Any] | None, name: str, sample: Sample) -> str | None:
    """Where a row of the index is not that of a sample; the index holds float32, the sample's JSON the full digits."""
    if row is None:
        return "it has no row"
    if (other := f"{row.get('shard')}: {row.get('key')}") != name:
        return f"its row is of {other}"
    for field, value in sample.fields.items():
        listed = row.get(field)
        rounded = isinstance(value, float) and isinstance(listed, float)
        if (np.float32(value) != np.float32(listed)) if rounded else (value != listed):
            return f"{field} is {value!r}, in its row {listed!r}"
    return None


def _check_sample(name: str, sample: Sample, about: dict[str, Any]) -> None:
    pixels, shape = decode(sample.image, f"{name}.png"), tuple(about["id"]["shape"])
    if pixels.shape != shape:
        raise UserError(f"{name}.png: shape {pixels.shape}, expected {shape}; get the dataset again")
    marks.check(name, text_of(sample.image, marks.XMP), sample.fields, about)
    outliers.latent_of(sample, name)


def merge(folders: Sequence[Path], target: Path, per_shard: int, force: bool = False) -> dict[str, Any]:
    """Merge outlier datasets of the same ID classes and image shape into one, checked first and renumbered.

    Args:
        per_shard: samples in a shard of the result.
        force: replace an earlier dataset at `target`.

    Returns:
        the result's dataset.json; its `merged` holds those of the parts.

    Raises:
        UserError: `target` is not free, a part does not verify, or the parts do not fit together.
    """
    place = destination(target, DATASET, folders, force)
    parts = [verify(folder) for folder in folders]
    for folder, about in zip(folders, parts, strict=True):
        for key in ("classes", "shape"):
            if about["id"][key] != parts[0]["id"][key]:
                raise UserError(
                    f"{folder}: ID {key} {about['id'][key]}, expected {parts[0]['id'][key]} as in {folders[0]}; "
                    "merge like with like"
                )
    samples: dict[str, list[Sample]] = {}
    for folder, about in zip(folders, parts, strict=True):
        for _, sample in outliers.read(folder, about):
            samples.setdefault(sample.fields["method"], []).append(sample)
    counts = {method: len(own) for method, own in samples.items()}
    with place.writing() as partial:
        partial.mkdir()
        shards = outliers.pack(partial, "outliers", counts, lambda method, i: samples[method][i], per_shard)
        outliers.write_rejected(partial, [row for folder in folders for row in _table(folder, "rejected")])
        licences = sorted({about["licence"] for about in parts})
        about = {
            "schema_version": dataset_json.SCHEMA_VERSION,
            "name": "outliers",
            "methods": _sum_methods(parts),
            "shards": shards,
            "licence": licences[0] if len(licences) == 1 else "other",
            "id": parts[0]["id"],
            "audit": dataset_json.audit_rows(parts),
            "merged": parts,
        }
        describe(partial, about)
        _draw(partial, samples)
    return about


def _sum_methods(parts: Sequence[dict[str, Any]]) -> dict[str, Any]:
    total: dict[str, Any] = {}
    for about in parts:
        for method, counts in about["methods"].items():
            kept = {key: counts[key] for key in ("strength", "source_type") if key in counts}
            own = total.setdefault(method, kept | {"packed": 0, "candidates": 0, "rejected": {}})
            own["packed"] += counts["packed"]
            own["candidates"] += counts["candidates"]
            own["rejected"] = dict(sorted((Counter(own["rejected"]) + Counter(counts["rejected"])).items()))
    return total


def _draw(folder: Path, samples: dict[str, list[Sample]]) -> None:
    """The contact sheet; none of datasets of no method."""
    lines = []
    for method, own in samples.items():
        pixels = np.stack([decode(sample.image, "sample") for sample in own[: ROWS * COLUMNS]])
        lines.append({f"{method}, packed": torch.from_numpy(pixels)})
    if lines:
        contact_sheet(folder / "contact-sheet.png", lines)


def push(folder: Path, repository: str) -> str:
    """Upload a checked outlier dataset to the Hugging Face Hub; returns the commit that others pin.

    Raises:
        UserError: the dataset does not hold, or the Hub refuses.
    """
    verify(folder)
    return upload(folder, repository, "dataset", PUBLISHED, "Outlier dataset")


def pull(repository: str, revision: str, target: Path, force: bool = False) -> dict[str, Any]:
    """Download an outlier dataset at a pinned commit and check it; nothing is left where it does not hold.

    Args:
        force: replace an earlier dataset at `target`.

    Raises:
        UserError: `target` is not free, the revision is no commit, the Hub has no such dataset, or the dataset does not
            hold.
    """
    place = destination(target, DATASET, force=force)
    if not COMMIT.fullmatch(revision):
        raise UserError(f"{repository}: revision {revision!r}, expected the 40-digit commit that its owner names")
    with place.writing() as partial:
        try:
            snapshot_download(
                repository, repo_type="dataset", revision=revision, local_dir=partial, allow_patterns=PUBLISHED
            )
        except (HfHubHTTPError, LocalEntryNotFoundError) as error:
            raise UserError(
                f"{repository}: cannot be downloaded ({one_line(error)}); check the name and commit"
            ) from None
        shutil.rmtree(partial / ".cache", ignore_errors=True)  # the Hub's client keeps notes there
        return verify(partial)
