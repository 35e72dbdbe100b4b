"""Section `shards`: which candidates are accepted, and how they are packed."""

from collections.abc import Sequence

from pydantic import PositiveInt, field_validator

from pipeline.runtime.errors import like
from pipeline.settings.section import Quantile, Section, Share

FILTERS = (
    "non-finite", "unsafe", "flat", "saturated", "duplicate", "inside-id", "inside-id-features", "confident",
)  # fmt: skip


def _unknown(names: Sequence[str], known: Sequence[str]) -> str | None:
    """What is wrong with the first name that is not known."""
    if unknown := [name for name in names if name not in known]:
        return f"unknown {unknown[0]!r}{like(unknown[0], known)}; expected some of {', '.join(known)}"
    return None


class ShardsSettings(Section):
    """Filters and packing.

    Attributes:
        distance_quantile: an outlier lies farther out than this share of the ID validation images.
        confidence_quantile: the teacher is less sure of an outlier than of all but this share of them.
        id_licence, licence: of the ID images and of the result, by the Hub's names, such as `cc-by-4.0`.
        max_id_like: largest share of the accepted outliers of which the teacher may be as sure as of ID images.
    """

    per_method: PositiveInt
    per_shard: PositiveInt
    neighbours: PositiveInt
    distance_quantile: Quantile
    confidence_quantile: Quantile
    filters: list[str]
    max_id_like: Share
    id_licence: str
    licence: str

    @field_validator("filters")
    @classmethod
    def _known_filters(cls, names: list[str]) -> list[str]:
        if problem := _unknown(names, FILTERS):
            raise ValueError(problem)
        return names
