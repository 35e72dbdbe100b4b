"""A trained model as an ONNX file: images in, probabilities, OOD score and verdict out."""

import json
import logging
import warnings
from pathlib import Path

import numpy as np
import torch

from pipeline.artifacts.files import replacing
from pipeline.errors import UserError
from pipeline.serving.open_set import OpenSetClassifier

OUTPUTS = ("probabilities", "score", "unknown")
TOLERANCE = 1e-4  # of probabilities and scores, between two float32 runtimes


def export(model: OpenSetClassifier, target: Path) -> float:
    """Write the file and run it with onnxruntime on random images; gives the largest difference to PyTorch.

    Its input is `images`, float32 in 0..1, (n, channels, size, size) for any n; its outputs are `probabilities`
    (n, classes), `score` (n,), larger for OOD, and `unknown` (n,). Its metadata hold the classes and the threshold.

    Raises:
        UserError: the packages for it are missing, or the file does not say what the model says.
    """
    try:
        import onnx
        import onnxruntime
        import onnxscript  # noqa: F401  torch.onnx needs it
    except ImportError as error:
        raise UserError(f"export: {error}; pip install 'penumbra[onnx]'") from None
    classifier = model.to("cpu").classifier
    example = torch.rand(3, classifier.channels, classifier.size, classifier.size)
    with replacing(target) as path:
        logging.getLogger("torch.onnx").setLevel(logging.ERROR)
        with warnings.catch_warnings(), torch.no_grad():
            warnings.simplefilter("ignore")  # of the exporter's own making
            torch.onnx.export(
                model, (example,), str(path), input_names=["images"], output_names=list(OUTPUTS), dynamo=True,
                dynamic_shapes=({0: torch.export.Dim("n", min=1)},), external_data=False, verbose=False,
            )  # fmt: skip
        file = onnx.load(path)
        about = {"classes": json.dumps(classifier.classes), **model.detector.model_dump()}
        for key, value in about.items():
            file.metadata_props.add(key=key, value=str(value))
        onnx.save(file, path)
        return _compare(model, onnxruntime.InferenceSession(path.read_bytes()), example[:2])


@torch.no_grad()
def _compare(model: OpenSetClassifier, session: object, images: torch.Tensor) -> float:
    """Another batch size than the one the file was traced with, so that a fixed one would show."""
    said = session.run(None, {"images": images.numpy()})  # type: ignore[attr-defined]
    expected = [part.numpy() for part in model(images)]
    worst = max(float(np.abs(a - b).max()) for a, b in zip(said[:2], expected[:2], strict=True))
    if worst > TOLERANCE or [part.shape for part in said] != [part.shape for part in expected]:
        raise UserError(f"export: the file differs from the model by {worst:.2g}, at most {TOLERANCE} is expected")
    return worst
