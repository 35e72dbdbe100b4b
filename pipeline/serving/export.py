"""A trained model as an ONNX file: photographs in, probabilities, OOD score and verdict out."""

import json
import logging
import warnings
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from pipeline.runtime.destination import Destination, Kind
from pipeline.runtime.errors import UserError
from pipeline.serving.open_set import OpenSetClassifier
from pipeline.serving.resize import Preprocess

INPUTS = ("images", "false_alarms")
OUTPUTS = ("probabilities", "score", "p_value", "unknown", "part_p_values")
TOLERANCE = 1e-4  # of probabilities and scores, or of a score that is larger than 1, between two float32 runtimes
TRACED, CHECKED = (2, 31, 47, 3), (3, 52, 29, 3)  # shapes of images: another one is checked, so that a fixed one shows


class Deployed(nn.Module):
    """Preprocessing and classifier in one graph."""

    def __init__(self, model: OpenSetClassifier):
        super().__init__()
        classifier = model.classifier
        self.preprocess = Preprocess(classifier.resize, classifier.size, classifier.channels)
        self.model = model

    def forward(self, images: Tensor, false_alarms: Tensor) -> tuple[Tensor, ...]:
        """uint8 RGB (n, height, width, 3) and a rate to all that an `OpenSetClassifier` says."""
        return self.model(self.preprocess(images), false_alarms)


def preprocessing(resize: int, size: int, channels: int) -> dict[str, str | int]:
    """What the graph does to images before the classifier sees them, for the file's metadata."""
    return {
        "input": "uint8 RGB of any size, (n, height, width, 3), upright: apply the EXIF orientation first",
        "channels": channels, "grey": "luma of ITU-R 601-2", "resize": resize, "interpolation": "bilinear, antialiased",
        "crop": size, "crop_at": "centre",
    }  # fmt: skip


def _strangers(path: Path) -> list[str]:
    """Nothing, for a file that `export` wrote; raises ValueError where it is none."""
    import onnx
    from google.protobuf.message import DecodeError

    try:
        file = onnx.load(path, format="protobuf", load_external_data=False)
    except DecodeError as error:
        raise ValueError(str(error)) from None
    if not {"classes", "false_alarms"} <= {entry.key for entry in file.metadata_props}:
        raise ValueError("other metadata")
    return []


CLASSIFIER = Kind("exported classifier", is_folder=False, strangers=_strangers)


def check_packages() -> None:
    """Stop where a package is missing that only an export needs.

    Raises:
        UserError: names it.
    """
    try:
        import onnx  # noqa: F401
        import onnxruntime  # noqa: F401
        import onnxscript  # noqa: F401  torch.onnx needs it
    except ImportError as error:
        raise UserError(f"export: {error}; pip install 'penumbra[onnx]'") from None


def export(model: OpenSetClassifier, target: Destination) -> float:
    """Write the file and run it with onnxruntime on random images; returns the largest difference to PyTorch.

    Its inputs are `images`, uint8 RGB (n, height, width, 3) for any n, height and width, and `false_alarms`, float64
    (); its outputs are `probabilities` (n, classes), `score` (n,), larger for OOD, `p_value` (n,), `unknown` (n,) and
    `part_p_values` (n, parts of the score). Its metadata hold the classes, the score's parts, the default rate of false
    alarms and the preprocessing, which is in the graph.

    Raises:
        UserError: packages are missing, or the file does not say what the model says.
    """
    check_packages()
    import onnx
    import onnxruntime

    deployed = Deployed(model.to("cpu")).eval()
    classifier = model.classifier
    names = {axis: torch.export.Dim(name, min=1) for axis, name in enumerate(("n", "height", "width"))}
    with target.writing() as path:
        logging.getLogger("torch.onnx").setLevel(logging.ERROR)
        with warnings.catch_warnings(), torch.no_grad():
            warnings.simplefilter("ignore")  # of the exporter's own making
            torch.onnx.export(
                deployed, _asked(model, TRACED), str(path), input_names=list(INPUTS), output_names=list(OUTPUTS),
                dynamo=True, dynamic_shapes=(names, None), external_data=False, verbose=False,
            )  # fmt: skip
        file = onnx.load(path)
        steps = preprocessing(classifier.resize, classifier.size, classifier.channels)
        score = json.dumps(model.settings.score)
        about = {"classes": json.dumps(classifier.classes), **model.settings.model_dump(), "score": score, **steps}
        for key, value in about.items():
            file.metadata_props.add(key=key, value=str(value))
        onnx.save(file, path)
        return _compare(deployed, onnxruntime.InferenceSession(path.read_bytes()), _asked(model, CHECKED))


def _asked(model: OpenSetClassifier, shape: tuple[int, int, int, int]) -> tuple[Tensor, Tensor]:
    """Soft spots of colour: of plain noise some networks see next to nothing, and rounding would decide its score."""
    n, height, width, channels = shape
    spots = 255 * torch.rand(n, channels, 6, 6, generator=torch.Generator().manual_seed(0))
    images = functional.interpolate(spots, (height, width), mode="bilinear").movedim(1, -1).round().to(torch.uint8)
    return images, torch.tensor(model.settings.false_alarms, dtype=torch.float64)


@torch.no_grad()
def _compare(deployed: Deployed, session: object, asked: tuple[Tensor, Tensor]) -> float:
    inputs = {name: value.numpy() for name, value in zip(INPUTS, asked, strict=True)}
    said = session.run(None, inputs)  # type: ignore[attr-defined]
    expected = [part.numpy() for part in deployed(*asked)]
    pairs = zip(said[:2], expected[:2], strict=True)
    worst = max(float((np.abs(a - b) / np.maximum(1, np.abs(b))).max()) for a, b in pairs)  # a sum of z-scores is large
    if worst > TOLERANCE or [part.shape for part in said] != [part.shape for part in expected]:
        raise UserError(f"export: the file differs from the model by {worst:.2g}, at most {TOLERANCE} is expected")
    return worst
