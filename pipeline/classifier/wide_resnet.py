"""pytorch-ood's wide residual network, for images of any size."""

import sys
from importlib.util import find_spec, module_from_spec, spec_from_file_location
from pathlib import Path
from types import ModuleType
from typing import Any

from torch import Tensor, nn


def _import_alone(name: str) -> ModuleType:
    """A module that needs nothing of its package, without the package's `__init__`: pytorch-ood's takes seconds.

    It is the module that the package has, whichever of the two is imported first.
    """
    if name not in sys.modules:
        package, *inside = name.split(".")
        installed = find_spec(package)
        assert installed is not None and installed.origin is not None
        spec = spec_from_file_location(name, Path(installed.origin).parent.joinpath(*inside).with_suffix(".py"))
        assert spec is not None and spec.loader is not None
        sys.modules[name] = module_from_spec(spec)
        spec.loader.exec_module(sys.modules[name])
    return sys.modules[name]


WideResNet: Any = _import_alone("pytorch_ood.model.wrn").WideResNet


class PooledWideResNet(WideResNet):
    """pytorch-ood's wide residual network up to its pooled features, for images of any size."""

    def __init__(self, depth: int, width: int, dropout: float, channels: int):
        super().__init__(1, depth=depth, widen_factor=width, drop_rate=dropout, in_channels=channels)
        self.num_features = 64 * width
        self.fc = nn.Identity()

    def forward(self, images: Tensor) -> Tensor:
        return self.feature_maps(images).mean(dim=(2, 3))  # the network's own pooling takes 32 px alone
