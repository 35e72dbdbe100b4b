"""Judged candidates as an outlier dataset, with all that people look at beside the shards."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from torch import Tensor

from pipeline.artifacts import croissant, dataset_json, outliers
from pipeline.artifacts.cards import dataset_card
from pipeline.artifacts.marks import packet
from pipeline.artifacts.outliers import Sample, encode_sample
from pipeline.artifacts.pictures import contact_sheet
from pipeline.runtime.files import write_json


class Judged(Protocol):
    """The candidates of one method, some accepted and some rejected. See `synthesis.judging.Judged`."""

    @property
    def method(self) -> str: ...
    @property
    def strength_means(self) -> str: ...  # what the column `strength` means
    @property
    def source_type(self) -> str | None: ...  # of the images, in IPTC's vocabulary
    @property
    def pixels(self) -> Tensor: ...  # uint8 (n, channels, size, size)
    @property
    def raw_latents(self) -> Tensor: ...  # float32 (n, C, h, w)
    @property
    def reasons(self) -> list[str]: ...  # why each is rejected, "" for an accepted one
    def choose(self, wanted: int) -> list[int]: ...  # the rows to pack
    def fields(self, i: int) -> dict[str, Any]: ...  # the index fields of candidate i


@dataclass(frozen=True)
class Packed:
    """Judged candidates whose shards are written.

    Attributes:
        name: of the dataset.
        groups: the candidates, a method each.
        chosen: by method, those of them in the shards.
        shards: name, SHA-256 and number of samples of each.
        fingerprint: of the dataset, in the images' marks.
    """

    name: str
    groups: Sequence[Judged]
    chosen: dict[str, list[int]]
    shards: list[dict[str, Any]]
    fingerprint: str

    def document(self, folder: Path, about: dict[str, Any]) -> None:
        """Write what lies beside the shards and their index: rejected, dataset.json, card, contact sheet.

        Args:
            about: what dataset.json says besides counts and shards.
        """
        rejected = [row for judged in self.groups for row in self._rejected(judged)]
        methods = {judged.method: self._counts(judged, rejected) for judged in self.groups}
        outliers.write_rejected(folder, rejected)
        content = {"schema_version": dataset_json.SCHEMA_VERSION, "name": self.name, "fingerprint": self.fingerprint}
        content |= {"methods": methods} | about | {"shards": self.shards}
        describe(folder, content)
        if self.groups:
            contact_sheet(folder / "contact-sheet.png", [self._pictures(judged) for judged in self.groups])

    def _rejected(self, judged: Judged) -> list[dict[str, Any]]:
        packed = set(self.chosen[judged.method])
        left = [i for i in range(len(judged.reasons)) if i not in packed]
        return [judged.fields(i) | {"reason": judged.reasons[i] or "surplus"} for i in left]

    def _counts(self, judged: Judged, rejected: list[dict[str, Any]]) -> dict[str, Any]:
        """What became of a method's candidates, in all and by class."""
        chosen = self.chosen[judged.method]
        by_class = Counter(judged.fields(i)["parent_a"] for i in chosen)
        return {
            "strength": judged.strength_means,
            "source_type": judged.source_type,
            "packed": len(chosen),
            "candidates": len(judged.reasons),
            "rejected": dict(
                sorted(Counter(row["reason"] for row in rejected if row["method"] == judged.method).items())
            ),
            "packed_by_first_parent": {str(parent): by_class[parent] for parent in sorted(by_class)},
        }

    def _pictures(self, judged: Judged) -> dict[str, Tensor]:
        """Packed and rejected images side by side, for the contact sheet."""
        blocks = {f"{judged.method}: packed": judged.pixels[self.chosen[judged.method]]}
        rejected = [i for i, reason in enumerate(judged.reasons) if reason]
        return blocks | ({"rejected": judged.pixels[rejected]} if rejected else {})


def describe(folder: Path, about: dict[str, Any]) -> None:
    """Write dataset.json, and what is told of it to people (README.md) and tools (croissant.json)."""
    write_json(folder / "dataset.json", about)
    (folder / "README.md").write_text(dataset_card(about), encoding="utf-8")
    croissant.write(folder, about)


def pack(
    folder: Path, name: str, groups: Sequence[Judged], per_method: int, per_shard: int, fingerprint: str
) -> Packed:
    """Write the shards of one outlier dataset, and their index.

    Args:
        folder: an empty one, the same in every process.
        name: of the dataset, lower-case letters.
        per_method: samples of each method.
        per_shard: samples in a shard.
        fingerprint: of all that the dataset is made from.

    Raises:
        UserError: a method has too few accepted candidates.
    """
    chosen = {judged.method: judged.choose(per_method) for judged in groups}
    by_method = {judged.method: judged for judged in groups}

    def sample(method: str, position: int) -> Sample:
        judged, i = by_method[method], chosen[method][position]
        mark = packet(method, i, fingerprint, judged.source_type)
        return encode_sample(judged.pixels[i].numpy(), judged.raw_latents[i].numpy(), judged.fields(i), mark)

    shards = outliers.pack(folder, name, dict.fromkeys(chosen, per_method), sample, per_shard)
    return Packed(name, groups, chosen, shards, fingerprint)
