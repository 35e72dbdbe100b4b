"""Detectors of pytorch-ood, and our own where it is wrong or has none. A score is larger for OOD.

Adding one is one line in `DETECTORS`. Each is fitted on ID outputs alone. One that needs images or gradients is in
image_detectors.py and runs in `infer`.
"""

import logging
from collections.abc import Callable
from functools import cache
from typing import TYPE_CHECKING, Any

from pipeline.runtime.errors import UserError, one_line

if TYPE_CHECKING:
    import numpy as np
    from torch import Tensor

    from pipeline.artifacts.outputs import Head, Outputs

Scorer = Callable[["Outputs"], "np.ndarray"]


@cache
def library() -> Any:
    """pytorch-ood's detectors, imported by who fits one: `check` needs their names alone."""
    logging.getLogger("pytorch_ood").setLevel(logging.ERROR)
    from pytorch_ood import detector

    return detector


def own() -> Any:
    """The package with the modules of our own detectors, likewise."""
    import pipeline.evaluation.exact
    import pipeline.evaluation.openmax
    import pipeline.evaluation.relation
    import pipeline.evaluation.weiper

    return pipeline.evaluation


def classify(head: "Head") -> Callable[["Tensor"], "Tensor"]:
    """The last layer as a function of features (n, d), or of feature maps that are pooled already (n, d, 1, 1)."""
    return lambda features: features.flatten(1) @ head.weight.T + head.bias


def linear(head: "Head") -> Any:
    """The last layer as a module."""
    from torch import nn

    layer = nn.utils.skip_init(nn.Linear, head.weight.shape[1], head.weight.shape[0])
    layer.weight.data, layer.bias.data = head.weight, head.bias
    return layer


class MaxSoftmax:
    """Negative largest softmax probability, without the seconds that pytorch-ood takes to import."""

    def predict_logits(self, logits: "Tensor") -> "Tensor":
        from pipeline.classifier.scores import max_softmax

        return max_softmax(logits)


class MaxCosine:
    """Negative largest cosine of a feature and a class weight: the score of angular heads, which pytorch-ood lacks."""

    def __init__(self, weight: "Tensor"):
        self.weight = weight

    def predict_features(self, features: "Tensor") -> "Tensor":
        from pipeline.classifier.scores import max_cosine

        return max_cosine(features, self.weight)


DETECTORS: dict[str, Callable[..., Any]] = {
    "msp": lambda head, **options: MaxSoftmax(**options),
    "max-logit": lambda head, **options: library().MaxLogit(None, **options),
    "energy": lambda head, **options: library().EnergyBased(None, **options),
    "gen": lambda head, **options: own().exact.Gen(**options),
    "temperature": lambda head, **options: own().exact.Temperature(**options),
    "knn": lambda head, **options: own().exact.Knn(**options),
    "mahalanobis": lambda head, **options: own().exact.Mahalanobis(**options),
    "mahalanobis++": lambda head, **options: own().exact.Mahalanobis(normalised=True, **options),
    "rmd": lambda head, **options: own().exact.Mahalanobis(relative=True, **options),
    "rmd++": lambda head, **options: own().exact.Mahalanobis(relative=True, normalised=True, **options),
    "vim": lambda head, **options: own().exact.Vim(head.weight, head.bias, **options),
    "klm": lambda head, **options: own().exact.KLMatching(**options),
    "fdbd": lambda head, **options: library().fDBD(None, linear(head), **options),
    "nci": lambda head, **options: library().NCI(None, linear(head), **options),
    "nnguide": lambda head, **options: library().NNGuide(None, classify(head), **options),
    "max-cosine": lambda head, **options: MaxCosine(head.weight, **options),
    "she": lambda head, **options: library().SHE(None, classify(head), **options),
    "dice": lambda head, **options: library().DICE(None, head.weight, head.bias, **options),
    "react": lambda head, **options: library().ReAct(None, classify(head), **options),
    "ash-b": lambda head, **options: library().ASH(None, classify(head), variant="ash-b", **options),
    "scale": lambda head, **options: library().SCALE(None, classify(head), **options),
    "openmax": lambda head, **options: own().openmax.OpenMax(**options),
    "relation": lambda head, **options: own().relation.Relation(**options),
    "weiper": lambda head, **options: own().weiper.WeiPerKLD(head.weight, head.bias, **options),
}
NEEDS_HEAD = ("vim", "fdbd", "nci", "nnguide", "max-cosine", "she", "dice", "react", "ash-b", "scale", "weiper")


# what fitting gives a detector, as attributes: tensors, or numbers; one that is not here cannot be shipped with a model
FITTED: dict[str, tuple[str, ...]] = {
    "msp": (), "max-logit": (), "energy": (), "gen": (), "max-cosine": (), "ash-b": (), "scale": (),
    "temperature": ("temperature",),
    "klm": ("log_means",),
    "knn": ("known",),
    "mahalanobis": ("mean", "whitening", "whitened_means"),
    "mahalanobis++": ("mean", "whitening", "whitened_means"),
    "rmd": ("mean", "whitening", "whitened_means", "whitening_of_all"),
    "rmd++": ("mean", "whitening", "whitened_means", "whitening_of_all"),
    "vim": ("origin", "minor", "alpha"),
    "fdbd": ("train_mean", "_denom_matrix"),
    "nnguide": ("_scaled_features",),
    "she": ("patterns",),
    "dice": ("masked_w",),
    "react": ("threshold",),
    "relation": ("directions", "softmaxes"),
}  # fmt: skip


def unshippable(name: str) -> str | None:
    """Why a detector cannot be shipped with a model; None where it can."""
    if name in FITTED:
        return None
    why = "cannot be shipped with a model" if name in DETECTORS else "unknown"
    return f"{name!r}: {why}; expected some of {', '.join(FITTED)}"


def as_maps(features: "Tensor") -> "Tensor":
    """Pooled features (n, d) as feature maps (n, d, 1, 1), on which OpenOOD has ReAct, ASH and SCALE act."""
    return features[:, :, None, None]


def fitted(
    name: str, options: dict[str, Any], train: "Outputs | None", val: "Outputs | None", head: "Head | None"
) -> Any:
    """A detector, fitted on ID outputs; `score_of` gives its scores.

    What is estimated from features is so on training outputs; ReAct's threshold, as in OpenOOD, and the temperature
    on validation outputs. Logit detectors see float64, so that confident softmaxes do not tie at 1.

    Args:
        name: a key of `DETECTORS`.
        options: arguments of the pytorch-ood class.
        train: of the ID training images; None where the detector needs none.
        val: of the ID validation images; likewise.
        head: the last layer; likewise.

    Raises:
        UserError: the detector is unknown, its options do not fit, or what it needs is not there.
    """
    if name not in DETECTORS:
        raise UserError(
            f"score.detectors: unknown {name!r}; expected some of {', '.join(DETECTORS)}; "
            "one that needs images belongs in infer.detectors"
        )
    if name in NEEDS_HEAD and head is None:
        raise UserError(f"score.detectors: {name} needs head.parquet, which the outputs lack; add it, or drop {name}")
    try:
        detector = DETECTORS[name](head, **options)
        if getattr(detector, "requires_fit", False):
            _fit(detector, name, train, val)
    except (TypeError, ValueError, AssertionError) as error:
        raise UserError(f"score.detectors.{name}: {options}: {error}; correct its options") from None
    return detector


def fit(
    name: str, options: dict[str, Any], train: "Outputs | None", val: "Outputs | None", head: "Head | None"
) -> Scorer:
    """A function from outputs to scores, float64 (n,), by a detector that is `fitted`; raises as that."""
    detector = fitted(name, options, train, val, head)

    def score(outputs: "Outputs") -> "np.ndarray":
        features = _features(outputs, name) if needs_features(detector) else None
        try:
            return score_of(detector, outputs.logits, features).detach().numpy()
        except (ValueError, RuntimeError) as error:
            raise UserError(f"score.detectors.{name}: {one_line(error)[:200]}; are all outputs of one model?") from None

    return score


def needs_features(detector: Any) -> bool:
    """A detector looks at features, and not at logits alone."""
    return any(hasattr(detector, f"predict_{kind}") for kind in ("outputs", "features", "feature_maps"))


def score_of(detector: Any, logits: "Tensor", features: "Tensor | None") -> "Tensor":
    """Scores, float64 (n,), of logits (n, C) and, where a detector `needs_features`, features (n, d)."""
    if hasattr(detector, "predict_outputs"):
        return detector.predict_outputs(logits, features).double()
    if hasattr(detector, "predict_features"):
        return detector.predict_features(features).double()
    if hasattr(detector, "predict_feature_maps"):
        assert features is not None
        return detector.predict_feature_maps(as_maps(features)).double()
    return detector.predict_logits(logits.double()).double()


def _fit(detector: Any, name: str, train: "Outputs | None", val: "Outputs | None") -> None:
    if hasattr(detector, "fit_outputs"):
        outputs = _given(train, name, "train.parquet")
        detector.fit_outputs(outputs.logits, _features(outputs, name))
        return
    if hasattr(detector, "fit_train_logits"):
        outputs = _given(train, name, "train.parquet")
        detector.fit_train_logits(outputs.logits, outputs.labels)
        return
    if hasattr(detector, "fit_features"):
        outputs = _given(train, name, "train.parquet")
        detector.fit_features(_features(outputs, name), outputs.labels)
        return
    outputs = _given(val, name, "val.parquet")
    if hasattr(detector, "fit_feature_maps"):
        detector.fit_feature_maps(as_maps(_features(outputs, name)), outputs.labels)
    else:
        detector.fit_logits(outputs.logits.double(), outputs.labels)


def _given(outputs: "Outputs | None", name: str, file: str) -> "Outputs":
    if outputs is None:
        raise UserError(f"score.detectors: {name} is fitted on {file}, which the outputs lack; add it, or drop {name}")
    return outputs


def _features(outputs: "Outputs", name: str) -> "Tensor":
    if outputs.features is None:
        raise UserError(f"score.detectors: {name} needs the column `features`, which the outputs lack; drop {name}")
    return outputs.features
