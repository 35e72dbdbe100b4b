"""The README.md of an outlier dataset: a Hugging Face dataset card."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from huggingface_hub import DatasetCard, DatasetCardData

from pipeline.artifacts import datasheet, marks
from pipeline.artifacts.dataset_json import separations
from pipeline.artifacts.outliers import FIELDS

TEMPLATE = Path(__file__).with_name("dataset_card.md.j2")
SIZES = ((1_000, "n<1K"), (10_000, "1K<n<10K"), (100_000, "10K<n<100K"), (1_000_000, "100K<n<1M"))  # the Hub's names
QUALITY = [
    "## The generators",
    "",
    "Fréchet distance to held-out ID images by features of the teacher, at equal numbers of images, and the percent",
    "of images that the teacher puts in the class they were asked for (`class-grid.png` shows some of each class).",
    "",
    "| images | Fréchet distance | class agreement |",
    "| --- | --- | --- |",
]


def dataset_card(about: Mapping[str, Any]) -> str:
    """The card of a dataset.json."""
    stem = about["name"]
    card = DatasetCard.from_template(
        _metadata(about),
        template_path=str(TEMPLATE),
        title=f"Penumbra {stem}",
        purpose=datasheet.PURPOSES[stem],
        images=about["id"]["count"],
        classes=about["id"]["classes"],
        methods=[_row(method, counts) for method, counts in about["methods"].items()],
        has_map=stem == "outliers" and "merged" not in about,
        stem=stem,
        audit=_audit(about.get("audit", [])),
        quality=_quality(about.get("quality", {})),
        collection=datasheet.collection(about),
        sheet=datasheet,
        fingerprint=", ".join(sorted(marks.fingerprints(about))),
        licences=datasheet.licences(about),
    )
    return str(card) + "\n"


def _metadata(about: Mapping[str, Any]) -> DatasetCardData:
    """The card's YAML: what the Hub's search and viewer read."""
    stem, methods, count = about["name"], about["methods"], sum(own["packed"] for own in about["methods"].values())
    named: dict[str, Any] = (
        {"license_name": "see-licences", "license_link": "#licences"} if about["licence"] == "other" else {}
    )
    return DatasetCardData(
        license=about["licence"],
        **named,
        annotations_creators=["machine-generated"],
        size_categories=[next((name for limit, name in SIZES if count < limit), "n>1M")],
        source_datasets=_source(about["id"].get("benchmark")),
        pretty_name=f"Penumbra {stem}",
        tags=["out-of-distribution-detection", "synthetic", "webdataset"],
        task_categories=["image-classification"],
        configs=[
            _config("default", f"{stem}-*.tar", default=True),
            *(_config(method, f"{stem}-{method}-??????.tar") for method in methods),
        ],
        dataset_info=[{"config_name": "default", "features": list(_features(about["id"]["classes"]))}],
    )


def _source(benchmark: str | None) -> list[str]:
    """The ID set by the Hub's convention; somebody's own photographs have no name."""
    return ["original"] if benchmark in (None, "folder") else [f"extended|other-{benchmark}"]


def _config(name: str, path: str, default: bool = False) -> dict[str, Any]:
    """What `load_dataset(FOLDER, name)` reads."""
    return {"config_name": name, "data_files": [{"split": "train", "path": path}]} | (
        {"default": True} if default else {}
    )


def _features(classes: list[str]) -> Iterator[dict[str, Any]]:
    """The columns of the viewer, whose classes have names. See `datasets.Features`."""
    label = {"class_label": {"names": {str(i): name for i, name in enumerate(classes)}}}
    types = {"string": "string", "int64": "int64", "float": "float64"}  # JSON has all digits
    kinds = {name: label if name in ("label", "parent_a", "parent_b") else types[str(kind)] for name, kind in FIELDS}
    yield {"name": "json", "struct": [{"name": name, "dtype": kind} for name, kind in kinds.items()]}
    yield {"name": "latent.npy", "list": {"list": {"list": "float16"}}}
    yield {"name": "png", "dtype": "image"}
    yield from ({"name": name, "dtype": "string"} for name in ("__key__", "__url__"))


def _audit(audit: list[dict[str, Any]]) -> str:
    """The audit as a Markdown table, and a line on diversity for each method."""
    if not (rows := separations(audit)):
        return "Not measured for this set."
    names = [name for name in rows[0] if name != "images"]
    table = [f"| | {' | '.join(names)} |", f"| --- |{' --- |' * len(names)}"]
    table += [f"| {row['images']} | {' | '.join(f'{row[name]:.0f}' for name in names)} |" for row in rows]
    lines = [
        f"Diversity of {row['method']}: median distance to the nearest other {row['nearest']:.1f} standard deviations, "
        f"{row['duplicates']} with exactly the pixels of an earlier one."
        for row in audit
        if row["kind"] == "diversity"
    ]
    return "\n".join([*table, "", *lines])


def _quality(found: dict[str, dict[str, float]]) -> str:
    """The generators' quality as a section with a Markdown table; nothing where it was not measured."""
    if not found:
        return ""
    rows = [f"| {name} | {values['frechet']:.2f} | {values['agreement']:.1f} |" for name, values in found.items()]
    return "\n".join(["", *QUALITY, *rows, ""])


def _row(method: str, counts: Mapping[str, Any]) -> dict[str, Any]:
    """What the card says of a method; sets that others made may not say what `strength` means."""
    by_class = [count for parent, count in counts.get("packed_by_first_parent", {}).items() if int(parent) >= 0]
    return {
        "name": method,
        "packed": counts["packed"],
        "spread": f"{min(by_class)} to {max(by_class)}" if by_class else "-",
        "candidates": counts["candidates"],
        "rejected": ", ".join(f"{reason} {count}" for reason, count in counts["rejected"].items()) or "none",
        "strength": counts.get("strength"),
    }
