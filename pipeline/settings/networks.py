"""Networks by name: `wrn-DEPTH-WIDTH`, `wrn-DEPTH-WIDTH-dropout-RATE`, `resnet-DEPTH`, `fast-cnn` or `timm:NAME`."""

import re
from typing import NamedTuple

from pipeline.runtime.errors import UserError

WIDE_RESNET = re.compile(r"wrn-(\d+)-(\d+)(?:-dropout-(0\.\d+))?")
RESNET, TIMM = re.compile(r"resnet-(\d+)"), re.compile(r"timm:(\w+)")
WELL_KNOWN = ("efficientnet_lite0",)  # of timm, which need not be asked
KNOWN = (
    "wrn-DEPTH-WIDTH with depth 10, 16, 22, 28, 34 or 40, and -dropout-0.3 for dropout; resnet-18; "
    "resnet-DEPTH with depth 20, 32, 44, 56 or 110; fast-cnn; "
    "or timm:NAME with a name that timm lists"
)


class WideResNet(NamedTuple):
    """pytorch-ood's wide residual network."""

    depth: int
    width: int
    dropout: float = 0.0


class ResNet(NamedTuple):
    """A residual network for small images."""

    depth: int


class FastCnn(NamedTuple):
    """A wide and shallow network for small images."""


class Timm(NamedTuple):
    """A network of timm."""

    name: str


def parse(network: str) -> WideResNet | ResNet | FastCnn | Timm:
    """What a network's name says.

    Raises:
        UserError: it is unknown, or no such depth exists. Whether timm has a name is seen when it is built.
    """
    if (found := WIDE_RESNET.fullmatch(network)) and 10 <= int(found[1]) <= 40 and int(found[1]) % 6 == 4:
        if width := int(found[2]):
            return WideResNet(int(found[1]), width, float(found[3] or 0))
    elif (found := RESNET.fullmatch(network)) and int(found[1]) in (18, 20, 32, 44, 56, 110):
        return ResNet(int(found[1]))
    elif network == "fast-cnn":
        return FastCnn()
    elif found := TIMM.fullmatch(network):
        return Timm(found[1])
    raise unknown(network)


def unknown(network: str) -> UserError:
    """What is said of a network that does not exist."""
    return UserError(f"network {network!r}: unknown; expected {KNOWN}")


def check_network(network: str) -> None:
    """Refuse a network that does not exist. timm, which takes seconds to import, is asked for its own names alone.

    Raises:
        UserError: it is unknown.
    """
    if isinstance(parsed := parse(network), Timm) and parsed.name not in WELL_KNOWN:
        import timm

        if not timm.is_model(parsed.name):
            raise unknown(network)


def timm_name(network: str) -> str:
    """The NAME of a network `timm:NAME`.

    Raises:
        UserError: it is of another kind, for which there are no pretrained weights.
    """
    if not isinstance(parsed := parse(network), Timm):
        raise UserError(f"network {network!r}: pretrained weights are for timm:NAME alone")
    return parsed.name
