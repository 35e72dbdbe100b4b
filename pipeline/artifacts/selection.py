"""The images of some methods, out of one or more outlier datasets: what a recipe trains on beside ID images."""

import hashlib
from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from torch import Tensor

from pipeline.artifacts import outliers
from pipeline.artifacts.codec import decode, without_texts
from pipeline.artifacts.outliers import Sample
from pipeline.artifacts.roles import OOD_LABEL
from pipeline.runtime.errors import UserError, one_line


class Selection:
    """The first images of each method in the index's order, read shard by shard.

    Args:
        folders: outlier datasets; a method is taken from the first that has it. Each is verified.
        counts: images of each method.
        left_out: ID classes; of these images, those that were made from one of them are passed over.

    Attributes:
        sizes: images of each piece, a shard.
        has_outliers: some are outliers.
        has_id_images: some are further ID images.
        has_parents: some were made from an ID class.

    Raises:
        UserError: a dataset does not verify, or a method has too few images.
    """

    def __init__(self, folders: Sequence[Path], counts: Mapping[str, int], left_out: Collection[int] = ()):
        self._pieces: list[tuple[Path, str, set[str]]] = []
        self._about: dict[Path, dict[str, Any]] = {}
        self.has_outliers = self.has_id_images = self.has_parents = False
        found: Counter[str] = Counter()
        for folder in folders:
            wanted = [method for method in counts if not found[method]]
            if not wanted:
                break
            self._about[folder] = outliers.verify(folder)
            keys: dict[str, set[str]] = {}
            for key, shard, method, label, *parents in _index(folder):
                if method in wanted and found[method] < counts[method]:
                    found[method] += 1
                    if not {label, *parents}.isdisjoint(left_out):
                        continue
                    self.has_outliers |= label == OOD_LABEL
                    self.has_id_images |= label != OOD_LABEL
                    self.has_parents |= max(parents) >= 0
                    keys.setdefault(shard, set()).add(key)
            self._pieces += [(folder, shard, keys[shard]) for shard in sorted(keys)]
        for method, count in counts.items():
            if found[method] < count:
                raise UserError(
                    f"{method}: {found[method]} images in {' and '.join(map(str, folders))}, expected {count}; lower "
                    "train.auxiliary_count, raise shards.per_method, or name another method in the recipe"
                )
        self.sizes = [len(keys) for _, _, keys in self._pieces]

    def load(self, piece: int) -> tuple[Tensor, Tensor]:
        """Pixels, uint8 (n, channels, size, size), and labels, int64 (n,), of one shard's selected samples.

        Raises:
            UserError: the shard does not hold what the index says, or an unreadable image.
        """
        folder = self._pieces[piece][0]
        expected = tuple(self._about[folder]["id"]["shape"])
        pixels, labels = [], []
        for name, sample in self._samples(piece):
            pixels.append(decode(sample.image, f"{name}.png"))
            labels.append(sample.fields["label"])
            if pixels[-1].shape != expected:
                raise UserError(f"{folder}: {name}.png of shape {pixels[-1].shape}, expected {expected}; get it again")
        return torch.from_numpy(np.stack(pixels)), torch.tensor(labels)

    def names(self, piece: int) -> tuple[list[str], Tensor]:
        """Keys and labels, int64 (n,), of one shard's selected samples, in the order of `load`."""
        found = [(name.rpartition(" ")[2], sample.fields["label"]) for name, sample in self._samples(piece)]
        return [key for key, _ in found], torch.tensor([label for _, label in found])

    def folder(self, piece: int) -> Path:
        """The dataset that a piece is of."""
        return self._pieces[piece][0]

    def digest(self) -> str:
        """SHA-256 of all that is learned from the selected samples, in their order: the same wherever they are packed.

        Their marks, which name the dataset, are left out: one more method there changes nothing here.

        Raises:
            UserError: the shards do not hold what the index says.
        """
        found = hashlib.sha256()
        for piece in range(len(self.sizes)):
            for _, sample in self._samples(piece):
                classes = [sample.fields[name] for name in ("label", "parent_a", "parent_b")]
                for part in (without_texts(sample.image), sample.latent, repr(classes).encode()):
                    found.update(hashlib.sha256(part).digest())
        return found.hexdigest()

    def latents(self) -> tuple[Tensor, Tensor]:
        """Raw latents, float32 (n, C, h, w), and parent classes, int64 (n, 2), of all selected samples.

        Raises:
            UserError: the shards do not hold what the index says.
        """
        named = [item for piece in range(len(self.sizes)) for item in self._samples(piece)]
        arrays = [outliers.latent_of(sample, name).astype(np.float32) for name, sample in named]
        if len(shapes := {array.shape for array in arrays}) > 1:
            raise UserError(f"latents of several shapes {sorted(shapes)}; name methods of one autoencoder in a recipe")
        parents = [[sample.fields["parent_a"], sample.fields["parent_b"]] for _, sample in named]
        return torch.from_numpy(np.stack(arrays)), torch.tensor(parents)

    def _samples(self, piece: int) -> Iterator[tuple[str, Sample]]:
        folder, shard, keys = self._pieces[piece]
        seen = 0
        about = self._about[folder]
        if not (own := [listed for listed in about["shards"] if listed["name"] == shard]):
            raise UserError(
                f"{folder}: index.parquet names {shard!r}, which dataset.json does not; do not trust this set"
            )
        for name, sample in outliers.read(folder, about | {"shards": own}):
            if name.rpartition(" ")[2] in keys:
                seen += 1
                yield name, sample
        if seen != len(keys):
            raise UserError(f"{folder / shard}: {seen} of {len(keys)} samples of index.parquet; get the dataset again")


def _index(folder: Path) -> Iterator[tuple[str, str, str, int, int, int]]:
    path, columns = folder / "index.parquet", ["key", "shard", "method", "label", "parent_a", "parent_b"]
    try:
        with pq.ParquetFile(path) as file:
            missing = [name for name in columns if name not in file.schema_arrow.names]
            table = file.read([name for name in columns if name not in missing])
    except (pa.ArrowException, OSError) as error:
        raise UserError(f"{path}: not readable ({one_line(error)}); get the dataset again") from None
    if missing:
        raise UserError(f"{path}: no column {' or '.join(missing)}; get the dataset again")
    return zip(*(table.column(name).to_pylist() for name in columns), strict=True)
