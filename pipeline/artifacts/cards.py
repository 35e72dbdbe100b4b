"""The README.md of an outlier dataset: a Hugging Face dataset card."""

from collections.abc import Iterator, Mapping
from typing import Any

from huggingface_hub import DatasetCardData

from pipeline.artifacts.dataset_json import separations

CARD = """---
{metadata}
---

# {title}

{purpose} Made by [Penumbra](https://arxiv.org/abs/2406.16525) from {images} in-distribution (ID) training images of
{classes} classes: {names}.

{pictures}
| method | packed | from each class | candidates | rejected, by reason |
| --- | --- | --- | --- | --- |
{rows}

## Files

- `{stem}-000000.tar ...`: for each sample `KEY.png`, `KEY.latent.npy` (float16, raw latent: not scaled by the
  autoencoder's scaling factor) and `KEY.json`.
- `index.parquet`: one row per sample: method, parents, strength, distance to ID, the teacher's confidence, seed.
{strengths}
- `rejected.parquet`: the same for every candidate that is not packed, with the reason.
- `dataset.json`: counts, checksums, thresholds and all parameters.

```python
from datasets import load_dataset

samples = load_dataset("webdataset", data_files="{stem}-*.tar", split="train")
```

## Shortcuts

How well single statistics, and a linear probe of the spectrum, tell images apart without looking at what they show:
AUROC in %, 50 is not at all. A classifier can learn what gives outliers away in place of what is unknown about them.

{audit}
{quality}
## Limits

The images are synthetic. Filters compare them with ID validation images in latent space and by a classifier of the ID
classes; some may still show an ID class. They come out of a decoder, which a classifier can learn to recognise.
"""
SHEET = "![The images at a glance](contact-sheet.png)\n"
MAP = "\n![Where they lie beside ID latents, by principal components](latent-map.png)\n"
QUALITY = [
    "## The generators",
    "",
    "Fréchet distance to held-out ID images by features of the teacher, at equal numbers of images, and the percent",
    "of images that the teacher puts in the class they were asked for (`class-grid.png` shows some of each class).",
    "",
    "| images | Fréchet distance | class agreement |",
    "| --- | --- | --- |",
]
PURPOSES = {
    "outliers": "Synthetic out-of-distribution (OOD) images to train a classifier that knows what it does not know.",
    "controls": "Controls for outlier exposure, such as plain noise or mixtures of ID images as outliers, and further "
    "ID images, labelled by class.",
}


def dataset_card(about: dict[str, Any]) -> str:
    """The card of a dataset.json."""
    stem = about["name"]
    metadata = DatasetCardData(
        license=about["licence"],
        pretty_name=f"Penumbra {stem}",
        tags=["out-of-distribution-detection", "synthetic", "webdataset"],
        task_categories=["image-classification"],
        configs=[{"config_name": "default", "data_files": [{"split": "train", "path": f"{stem}-*.tar"}]}],
    )
    return CARD.format(
        metadata=metadata.to_yaml(),
        title=f"Penumbra {stem}",
        purpose=PURPOSES[stem],
        images=about["id"]["count"],
        classes=len(about["id"]["classes"]),
        names=", ".join(about["id"]["classes"]),
        rows="\n".join(_row(method, counts) for method, counts in about["methods"].items()),
        stem=stem,
        strengths="\n".join(_strengths(about["methods"])),
        pictures=_pictures(about, stem),
        audit=_audit(about.get("audit", [])),
        quality=_quality(about.get("quality", {})),
    )


def _pictures(about: Mapping[str, Any], stem: str) -> str:
    """Links to the pictures that are drawn: none without images, the map only where ID latents are at hand."""
    if not about["methods"]:
        return ""
    return SHEET + (MAP if stem == "outliers" and "merged" not in about else "")


def _strengths(methods: Mapping[str, Any]) -> Iterator[str]:
    """What the column `strength` means for each method, one line each; sets that others made may not say."""
    for method, about in methods.items():
        if meaning := about.get("strength"):
            yield f"  - `strength` of {method}: {meaning}."


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


def _row(method: str, counts: dict[str, Any]) -> str:
    rejected = ", ".join(f"{reason} {count}" for reason, count in counts["rejected"].items()) or "none"
    by_class = [count for parent, count in counts.get("packed_by_first_parent", {}).items() if int(parent) >= 0]
    spread = f"{min(by_class)} to {max(by_class)}" if by_class else "-"
    return f"| {method} | {counts['packed']} | {spread} | {counts['candidates']} | {rejected} |"
