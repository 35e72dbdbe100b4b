"""Key `methods`: what is drawn and packed, METHOD or METHOD+CORRECTION+..."""

import re
from collections.abc import Iterable
from typing import Annotated

from pydantic import AfterValidator

from pipeline.settings import params

CORRECTIONS = ("residual", "contrast", "histogram", "sharpness")  # and jpeg-QUALITY; see shortcuts/corrections.py
JPEG = re.compile(r"jpeg-([1-9]\d?|100)")


def base_of(pool: str) -> str:
    """The METHOD of METHOD+CORRECTION+..."""
    return pool.partition("+")[0]


def corrections_of(pool: str) -> list[str]:
    """The corrections of METHOD+CORRECTION+..., in their order."""
    return pool.split("+")[1:]


def bases(pools: Iterable[str]) -> list[str]:
    """The methods whose candidates some pools are made of, each once."""
    return list(dict.fromkeys(map(base_of, pools)))


def _known_corrections(pool: str) -> str:
    for name in corrections_of(pool):
        if name not in CORRECTIONS and not JPEG.fullmatch(name):
            known = ", ".join(CORRECTIONS)
            raise ValueError(f"correction {name!r} is unknown; expected some of {known}, jpeg-QUALITY")
    return pool


def _each_once(pools: list[str]) -> list[str]:
    if twice := [pool for i, pool in enumerate(pools) if pool in pools[:i]]:
        raise ValueError(f"{twice[0]} is named twice; remove one")
    return pools


Pool = Annotated[str, AfterValidator(_known_corrections)]
Pools = Annotated[list[Pool], AfterValidator(_each_once)]


def some_named() -> bool:
    """Some method is named in params.yaml: its images are judged beside ID latents."""
    return bool(params.read("methods", Pools))
