"""Pretrained weights of a network of timm: where they are, and the inputs that they expect."""

from pathlib import Path
from typing import NamedTuple

from pipeline.artifacts import lite0, models
from pipeline.artifacts.revisions import check_revision
from pipeline.runtime.errors import UserError
from pipeline.runtime.files import read_json_object
from pipeline.settings import networks
from pipeline.settings.training import EFFICIENTNET_LITE0, TrainingSettings


class Pretrained(NamedTuple):
    """A safetensors file, and mean and standard deviation in 0..1, one a channel, that inputs are normalised with."""

    path: Path
    mean: list[float]
    std: list[float]


def find(settings: TrainingSettings) -> Pretrained | None:
    """The weights that the settings name; None where they name none.

    Raises:
        UserError: another network than the weights are of, a Hub id without its commit, or weights that are not there.
    """
    if (source := settings.weights) is None:
        return None
    name = networks.timm_name(settings.network)
    if source == EFFICIENTNET_LITE0:
        if name != lite0.NETWORK:
            raise UserError(f"weights {source} are of timm:{lite0.NETWORK}, but network is {settings.network}")
        return Pretrained(lite0.weights(), lite0.MEAN, lite0.STD)
    if (path := Path(source)).is_file():
        return Pretrained(path, *_expected(name, {}))
    check_revision(source, settings.revision)
    path = models.weights_file(source, settings.revision)
    config = models.file(source, settings.revision, "config.json")
    return Pretrained(path, *_expected(name, read_json_object(config) if config.is_file() else {}))


def _expected(name: str, config: dict) -> tuple[list[float], list[float]]:
    """What timm says of a network's inputs, or the config.json beside its weights."""
    import timm

    own = timm.get_pretrained_cfg(name, allow_unregistered=False)
    about = config.get("pretrained_cfg", {})
    return list(about.get("mean", own.mean if own else [0.5] * 3)), list(
        about.get("std", own.std if own else [0.5] * 3)
    )
