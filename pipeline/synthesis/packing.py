"""Judged candidates as an outlier dataset, with all that people look at beside the shards."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor

from pipeline.artifacts import dataset_json, outliers
from pipeline.artifacts.cards import dataset_card
from pipeline.artifacts.outliers import Sample, encode_sample
from pipeline.artifacts.pictures import contact_sheet
from pipeline.runtime.console import say
from pipeline.runtime.files import write_json
from pipeline.synthesis.judging import Judged


@dataclass(frozen=True)
class Packed:
    """Judged candidates whose shards are written.

    Attributes:
        name: of the dataset.
        groups: the candidates, a method each.
        chosen: by method, those of them in the shards.
        shards: name, SHA-256 and number of samples of each.
        keys: of the ID training images.
        seed: of stage one.
    """

    name: str
    groups: list[Judged]
    chosen: dict[str, list[int]]
    shards: list[dict[str, Any]]
    keys: Sequence[str]
    seed: int

    def document(self, folder: Path, about: dict[str, Any]) -> None:
        """Write what stands beside the shards and their index: rejected, dataset.json, card, contact sheet.

        Args:
            about: what dataset.json says besides counts and shards.
        """
        rejected = []
        for judged in self.groups:
            packed = set(self.chosen[judged.method])
            left = [i for i in range(len(judged.found)) if i not in packed]
            rejected += [
                judged.fields(i, self.seed, self.keys) | {"reason": judged.reasons[i] or "surplus"} for i in left
            ]
        methods = {judged.method: _counts(judged, self.chosen[judged.method], rejected) for judged in self.groups}
        outliers.write_rejected(folder, rejected)
        content = {"schema_version": dataset_json.SCHEMA_VERSION, "name": self.name, "methods": methods} | about
        content["shards"] = self.shards
        write_json(folder / "dataset.json", content)
        (folder / "README.md").write_text(dataset_card(content), encoding="utf-8")
        contact_sheet(folder / "contact-sheet.png", _pictures(self.groups, self.chosen))
        counts = ", ".join(f"{method} {own['packed']}" for method, own in methods.items())
        say(f"shards: {self.name}: {counts}")


def pack(
    folder: Path, name: str, groups: list[Judged], keys: Sequence[str], per_method: int, per_shard: int, seed: int
) -> Packed:
    """Write the shards of one outlier dataset, and their index.

    Args:
        folder: an empty one, the same in every process.
        name: of the dataset, lower-case letters.
        keys: of the ID training images.
        per_method: samples of each method.
        per_shard: samples in a shard.

    Raises:
        UserError: a method has too few accepted candidates.
    """
    chosen = {judged.method: judged.choose(per_method) for judged in groups}

    def sample(number: int) -> Sample:
        position, method = divmod(number, len(groups))  # methods in turn, so that every shard holds all of them
        judged = groups[method]
        i = chosen[judged.method][position]
        return encode_sample(
            judged.pixels[i].numpy(), judged.found.raw_latents[i].numpy(), judged.fields(i, seed, keys)
        )

    shards = outliers.pack(folder, name, per_method * len(groups), sample, per_shard)
    return Packed(name, groups, chosen, shards, keys, seed)


def _counts(judged: Judged, chosen: list[int], rejected: list[dict[str, Any]]) -> dict[str, Any]:
    """What became of a method's candidates, in all and by class."""
    own = [row for row in rejected if row["method"] == judged.method]
    by_class = Counter(int(parent) for parent in judged.found.parents[chosen, 0])
    return {
        "packed": len(chosen),
        "candidates": len(judged.found),
        "rejected": dict(sorted(Counter(row["reason"] for row in own).items())),
        "packed_by_first_parent": {str(parent): by_class[parent] for parent in sorted(by_class)},
    }


def _pictures(groups: list[Judged], chosen: dict[str, list[int]]) -> list[dict[str, Tensor]]:
    """Packed and rejected images of each method side by side, for the contact sheet."""
    lines = []
    for judged in groups:
        packed = {f"{judged.method}: packed": judged.pixels[chosen[judged.method]]}
        rejected = [i for i, reason in enumerate(judged.reasons) if reason]
        lines.append(packed | ({"rejected": judged.pixels[rejected]} if rejected else {}))
    return lines
