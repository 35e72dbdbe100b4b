"""Is there a shortcut? What tells outliers from ID images without looking at what they show.

Outliers come out of a decoder and ID images do not, so a classifier can learn "decoded" in place of "unknown".
An AUROC of 50 % means that nothing gives them away, 100 % that one number does.
"""

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

FOLDS = 5
AT_ONCE = 2**22  # values of images that are measured together
LAPLACIAN = torch.tensor([[0.0, 1.0, 0.0], [1.0, -4.0, 1.0], [0.0, 1.0, 0.0]])


def _grey(pixels: Tensor) -> Tensor:
    return pixels.float().mean(dim=1, keepdim=True)  # (n, 1, h, w)


def sharpness(pixels: Tensor) -> Tensor:
    """Mean absolute Laplacian of the grey image, (n,), of uint8 pixels (n, channels, h, w)."""
    return functional.conv2d(_grey(pixels), LAPLACIAN[None, None]).abs().mean(dim=(1, 2, 3))


def colourfulness(pixels: Tensor) -> Tensor:
    """Mean standard deviation over the channels of a pixel, (n,); 0 for grey images."""
    return pixels.float().std(dim=1, correction=0).mean(dim=(1, 2))


STATISTICS: dict[str, Callable[[Tensor], Tensor]] = {
    "sharpness": sharpness,
    "contrast": lambda pixels: pixels.float().flatten(1).std(dim=1),
    "brightness": lambda pixels: pixels.float().flatten(1).mean(dim=1),
    "colourfulness": colourfulness,
    "saturation": lambda pixels: ((pixels == 0) | (pixels == 255)).float().flatten(1).mean(dim=1),
}


def spectrum(pixels: Tensor) -> np.ndarray:
    """Logarithm of the power of the grey image by radial frequency, (n, h // 2), of square images."""
    grey = _grey(pixels)[:, 0]
    power = torch.fft.fft2(grey - grey.mean(dim=(1, 2), keepdim=True)).abs().square()
    frequency = torch.fft.fftfreq(grey.shape[-1]) * grey.shape[-1]
    radius = (frequency[:, None] ** 2 + frequency**2).sqrt().round().long()
    rings = [power[:, radius == ring].mean(dim=1) for ring in range(1, grey.shape[-1] // 2 + 1)]
    return torch.stack(rings, dim=1).add(1e-3).log().numpy()


def _auroc(labels: np.ndarray, scores: np.ndarray) -> float:
    """In percent."""
    from sklearn.metrics import roc_auc_score  # here as below: scikit-learn takes two seconds to import

    return 100 * float(roc_auc_score(labels, scores))


def separation(first: np.ndarray, second: np.ndarray) -> float:
    """AUROC in percent, 50 to 100, of a number that tells two sets apart, whichever way round it runs."""
    labels = np.repeat([0, 1], [len(first), len(second)])
    area = _auroc(labels, np.concatenate([first, second]))
    return round(max(area, 100 - area), 2)


def shortcut_auroc(first: Tensor, second: Tensor) -> dict[str, float]:
    """How well single statistics, and a linear probe of the spectrum and all of them, tell two sets of images apart.

    Args:
        first, second: uint8 pixels (n, channels, size, size), at least 5 each.

    Returns:
        AUROC in percent, 50 to 100, by statistic; `probe` is cross-validated over 5 folds.
    """
    from sklearn.linear_model import LogisticRegression
    from sklearn.model_selection import StratifiedKFold, cross_val_predict
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    labels = np.repeat([0, 1], [len(first), len(second)])
    pairs = {name: (measure(first).numpy(), measure(second).numpy()) for name, measure in STATISTICS.items()}
    found = {name: separation(*pair) for name, pair in pairs.items()}
    columns = {name: np.concatenate(pair) for name, pair in pairs.items()}
    features = np.column_stack([*columns.values(), np.concatenate([spectrum(first), spectrum(second)])])
    model = make_pipeline(StandardScaler(), LogisticRegression(class_weight="balanced", max_iter=1000))
    folds = StratifiedKFold(FOLDS, shuffle=True, random_state=0)
    scores = cross_val_predict(model, features, labels, cv=folds, method="decision_function")
    area = _auroc(labels, scores)
    return found | {"probe": round(max(50.0, area), 2)}
