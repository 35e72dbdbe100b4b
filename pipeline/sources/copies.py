"""Files with the same bytes: copies of an image in two classes, in two splits, or within one class."""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pipeline.runtime.console import track
from pipeline.runtime.errors import UserError
from pipeline.sources.collection import Item


@dataclass(frozen=True)
class Copy:
    """An image and an earlier one of the same bytes, with the splits that they are in."""

    item: Item
    split: str
    first: Item
    first_split: str

    @property
    def pair(self) -> str:
        """Both keys, for messages."""
        if self.split == self.first_split:
            return f"{self.first.key} and {self.item.key}"
        return f"{self.first_split}: {self.first.key} and {self.split}: {self.item.key}"


def find(splits: Mapping[Any, Sequence[Item]]) -> list[Copy]:
    """Every image that is a copy of an earlier one, in the order of the splits and their images."""
    first: dict[bytes, tuple[Item, str]] = {}
    copies = []
    everything = [(item, split) for split, items in splits.items() for item in items]
    for item, split in track(everything, "look for copies", len(everything)):
        original, its_split = first.setdefault(hashlib.sha256(item.read()).digest(), (item, split))
        if original is not item:
            copies.append(Copy(item, split, original, its_split))
    return copies


def different(items: Sequence[Item]) -> list[Item]:
    """The images without later copies of the same bytes."""
    copies = {id(copy.item) for copy in find({"train": items})}
    return [item for item in items if id(item) not in copies]


def refuse(copies: Sequence[Copy], place: str) -> None:
    """Stop at images of two classes, or of two splits.

    Args:
        place: where the images are from.

    Raises:
        UserError: the number of such images, and the first of them.
    """
    for what, found in {
        "classes": [copy for copy in copies if copy.item.label != copy.first.label],
        "splits": [copy for copy in copies if copy.split != copy.first_split],
    }.items():
        if found:
            first = f"the first of them {found[0].pair}"
            raise UserError(f"{place}: {len(found)} images are in two {what}, {first}; remove one of each pair")
