"""Detectors as their papers and OpenOOD define them, typed again in NumPy, float64, image by image where that is plain.

Each takes what ours are given and returns scores that are larger for OOD.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from scipy.optimize import minimize_scalar
from scipy.special import log_softmax, logsumexp, softmax
from sklearn.covariance import EmpiricalCovariance
from sklearn.neighbors import NearestNeighbors

from pipeline.artifacts.outputs import Head, Outputs
from pipeline.evaluation.openmax import Weibull

RELATED = 0.03  # weakest relation that counts, in the authors' code and OpenOOD's


@dataclass
class Data:
    """Outputs of a model as float64 arrays: training, validation, scored, and the last layer."""

    train: Outputs
    val: Outputs
    test: Outputs
    head: Head

    def __post_init__(self) -> None:
        def arrays(outputs: Outputs) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
            features = np.empty(0) if outputs.features is None else outputs.features.double().numpy()
            return outputs.logits.double().numpy(), features, outputs.labels.numpy()

        self.train_logits, self.train_features, self.labels = arrays(self.train)
        self.val_logits, self.val_features, self.val_labels = arrays(self.val)
        self.logits, self.features, _ = arrays(self.test)
        self.w, self.b = self.head.weight.double().numpy(), self.head.bias.double().numpy()

    def by_head(self, features: np.ndarray) -> np.ndarray:
        return features @ self.w.T + self.b


def energy(logits: np.ndarray) -> np.ndarray:
    return -logsumexp(logits, axis=1)


def unit(features: np.ndarray) -> np.ndarray:
    return features / np.maximum(np.linalg.norm(features, axis=1, keepdims=True), 1e-12)


def temperature(data: Data) -> np.ndarray:
    """Guo et al. 2017: the temperature of the least cross-entropy on validation labels, by a grid and refinement."""

    def loss(log_t: float) -> float:
        log_p = log_softmax(data.val_logits / np.exp(log_t), axis=1)
        return float(-log_p[np.arange(len(log_p)), data.val_labels].mean())

    grid = np.linspace(np.log(1e-6), np.log(1e6), 1000)
    best = grid[int(np.argmin([loss(value) for value in grid]))]
    found = minimize_scalar(loss, bounds=(best - 0.1, best + 0.1), method="bounded", options={"xatol": 1e-7})
    ordered = np.sort(data.logits / np.exp(found.x), axis=1)
    return logsumexp(ordered[:, :-1], axis=1) - logsumexp(ordered, axis=1)  # log(1 - p), which does not saturate


def generalised_entropy(data: Data, gamma: float, M: int) -> np.ndarray:
    """Liu et al. 2023, equation 3."""
    log_p = log_softmax(data.logits, axis=1)
    order = np.argsort(log_p, axis=1)[:, ::-1]
    log_rest = np.stack([logsumexp(np.where(np.arange(log_p.shape[1]) == c, -np.inf, log_p), axis=1)
                         for c in range(log_p.shape[1])], axis=1)  # fmt: skip
    terms = np.take_along_axis(np.exp(gamma * (log_p + log_rest)), order, axis=1)
    return terms[:, :M].sum(axis=1)


def k_nearest(data: Data, k: int) -> np.ndarray:
    """Sun et al. 2022: distance to the k-th neighbour of features of length 1."""
    found = NearestNeighbors(n_neighbors=k, algorithm="brute").fit(unit(data.train_features))
    return found.kneighbors(unit(data.features))[0][:, -1]


def mahalanobis(data: Data, relative: bool = False, normalised: bool = False) -> np.ndarray:
    """Lee et al. 2018; less the background's (Ren et al. 2021); of features of length 1 (Müller & Hein 2025)."""
    train, test = (unit(part) if normalised else part for part in (data.train_features, data.features))
    classes = np.unique(data.labels)
    means = np.stack([train[data.labels == label].mean(axis=0) for label in classes])
    tied = EmpiricalCovariance(assume_centered=True).fit(train - means[np.searchsorted(classes, data.labels)])
    nearest = np.stack([tied.mahalanobis(test - mean) for mean in means]).min(axis=0)
    return nearest - EmpiricalCovariance().fit(train).mahalanobis(test) if relative else nearest


def virtual_logit(data: Data, d: int) -> np.ndarray:
    """Wang et al. 2022, section 4."""
    origin = -np.linalg.pinv(data.w) @ data.b
    centred = data.train_features - origin
    values, vectors = np.linalg.eigh(centred.T @ centred / len(centred))
    null = vectors[:, np.argsort(values)[::-1][d:]]
    residual = np.linalg.norm(centred @ null, axis=1)
    alpha = data.by_head(data.train_features).max(axis=1).mean() / residual.mean()
    return alpha * np.linalg.norm((data.features - origin) @ null, axis=1) + energy(data.by_head(data.features))


def kl_matching(data: Data) -> np.ndarray:
    """Hendrycks et al. 2022, section 3."""
    log_p = log_softmax(data.logits, axis=1)
    predicted = data.val_logits.argmax(axis=1)
    log_means = [
        logsumexp(log_softmax(data.val_logits[predicted == c], axis=1), axis=0) - np.log((predicted == c).sum())
        for c in np.unique(predicted)
    ]
    return np.stack([(np.exp(log_p) * (log_p - mean)).sum(axis=1) for mean in log_means]).min(axis=0)


def decision_boundary(data: Data) -> np.ndarray:
    """fDBD, Liu & Qin 2024, equation 6, over the distance to the training mean."""
    scores, mean = [], data.train_features.mean(axis=0)
    for z in data.features:
        logits = data.w @ z + data.b
        best = int(logits.argmax())
        others = np.delete(np.arange(len(logits)), best)
        distances = (logits[best] - logits[others]) / np.linalg.norm(data.w[best] - data.w[others], axis=1)
        scores.append(-distances.mean() / np.linalg.norm(z - mean))
    return np.array(scores)


def neural_collapse(data: Data, alpha: float) -> np.ndarray:
    """NCI, Liu & Qin 2025, equations 6 and 7."""
    predicted = data.w[data.by_head(data.features).argmax(axis=1)]
    centred = data.features - data.train_features.mean(axis=0)
    proximity = (centred * predicted).sum(axis=1) / np.linalg.norm(centred, axis=1)
    return -(proximity + alpha * np.abs(data.features).sum(axis=1))


def neighbour_guidance(data: Data, k: int) -> np.ndarray:
    """NNGuide, Park et al. 2023, equation 4, with all training images in the bank."""
    bank = unit(data.train_features) * logsumexp(data.by_head(data.train_features), axis=1)[:, None]
    guidance = np.sort(unit(data.features) @ bank.T, axis=1)[:, -k:].mean(axis=1)
    return -guidance * logsumexp(data.by_head(data.features), axis=1)


def stored_pattern(data: Data) -> np.ndarray:
    """SHE, Zhang et al. 2023, equation 8: the product with the mean of the class's right training features."""
    right = data.by_head(data.train_features).argmax(axis=1) == data.labels
    means = np.stack([data.train_features[right & (data.labels == c)].mean(axis=0) for c in range(len(data.w))])
    return -(data.features * means[data.by_head(data.features).argmax(axis=1)]).sum(axis=1)


def sparse(data: Data, p: float) -> np.ndarray:
    """DICE, Sun & Li 2022: only the weights that contribute most on average."""
    contribution = data.train_features.mean(axis=0) * data.w
    masked = np.where(contribution > np.percentile(contribution, 100 * p), data.w, 0)
    return energy(data.features @ masked.T + data.b)


def rectified(data: Data, percentile: float) -> np.ndarray:
    """ReAct, Sun et al. 2021: activations clipped at a percentile of ID validation activations."""
    return energy(data.by_head(np.minimum(data.features, np.percentile(data.val_features, 100 * percentile))))


def _largest(data: Data, percentile: float) -> tuple[np.ndarray, int]:
    width = data.features.shape[1]
    kept = width - int(np.round(width * percentile))
    mask = np.zeros_like(data.features)
    np.put_along_axis(mask, np.argsort(data.features, axis=1, kind="stable")[:, width - kept :], 1, axis=1)
    return mask, kept


def shaped(data: Data, percentile: float) -> np.ndarray:
    """ASH-B, Djurisic et al. 2023: the largest activations, all equal, with the sum of all."""
    mask, kept = _largest(data, percentile)
    return energy(data.by_head(mask * data.features.sum(axis=1, keepdims=True) / kept))


def scaled(data: Data, percentile: float) -> np.ndarray:
    """SCALE, Xu et al. 2024: all by exp(sum of all / sum of the largest)."""
    mask, _ = _largest(data, percentile)
    total, largest = data.features.sum(axis=1), (mask * data.features).sum(axis=1)
    return energy(data.by_head(data.features * np.exp(total / largest)[:, None]))


def open_max(data: Data, tail: int = 20, alpha: int = 3) -> np.ndarray:
    """Bendale & Boult 2016, algorithms 1 and 2, image by image and class by class."""
    classes, models = data.train_logits.shape[1], {}
    for c in range(classes):
        own = data.train_logits[(data.labels == c) & (data.train_logits.argmax(axis=1) == c)]
        if len(own):
            distances = np.sort(np.linalg.norm(own - own.mean(axis=0), axis=1))[-tail:]
            models[c] = (own.mean(axis=0), Weibull.fit(torch.tensor(distances)))
    scores = []
    for row in data.logits:
        revised = row.copy()
        for rank, c in enumerate(np.argsort(row)[::-1][:alpha]):
            share = 1.0
            if c in models:
                mean, model = models[c]
                share = 1 - np.exp(float(model.log_survival(torch.tensor(np.linalg.norm(row - mean)))))
            revised[c] = row[c] * (1 - share * (min(alpha, classes) - rank) / min(alpha, classes))
        unknown = (row - revised).sum()
        scores.append(unknown - logsumexp([*revised, unknown]))
    return np.array(scores)


def relation(data: Data, pow: int) -> np.ndarray:
    """Kim et al. 2023, equation 2, with the threshold of the authors' code."""
    cosines = np.maximum(unit(data.features) @ unit(data.train_features).T, 0)
    relations = cosines * (softmax(data.logits, axis=1) @ softmax(data.train_logits, axis=1).T)
    return -(np.where(relations > RELATED, relations, 0) ** pow).sum(axis=1)


def _divergences(values: np.ndarray, train: np.ndarray, smoothing: int, epsilon: float) -> np.ndarray:
    gap = (train.max() - train.min()) / len(train)
    edges = np.linspace(train.min() - gap, train.max() + gap, 101)
    mean = np.mean([np.histogram(row, edges)[0] / len(row) for row in train], axis=0) + epsilon
    found = []
    for row in values:
        own = np.pad(np.histogram(row, edges)[0] / len(row), ((smoothing - 1) // 2, smoothing // 2), mode="edge")
        own = np.convolve(own, np.ones(smoothing) / smoothing, mode="valid") + epsilon
        p, q = mean / mean.sum(), own / own.sum()
        found.append((p * np.log(p / q)).sum() + (q * np.log(q / p)).sum())
    return np.array(found)


def weiper(data: Data, repeats: int, smoothing: int, smoothing_perturbed: int = 2) -> np.ndarray:
    """WeiPer+KLD, Granz et al. 2024, section 3.3, with delta 2.1, both lambdas 1, and all training images."""
    noise = torch.randn(repeats, *data.head.weight.shape, generator=torch.Generator().manual_seed(0)).double().numpy()
    length = np.linalg.norm(data.w, axis=1)[None, :, None]
    perturbed = data.w + 2.1 * length * noise / np.linalg.norm(noise, axis=2, keepdims=True)
    logits = [np.einsum("nd,rcd->nrc", part, perturbed) + data.b for part in (data.train_features, data.features)]
    flat = [part.reshape(len(part), -1) for part in logits]
    msp = softmax(logits[1], axis=2).max(axis=2).mean(axis=1)
    of_features = _divergences(data.features, data.train_features, smoothing, 0.01)
    return of_features + _divergences(flat[1], flat[0], smoothing_perturbed, 0.025) - msp


def max_cosine(data: Data) -> np.ndarray:
    return -(unit(data.features) @ unit(data.w).T).max(axis=1)


PUBLISHED: dict[str, tuple[dict[str, float], Callable[..., np.ndarray]]] = {  # detector: arguments, formula
    "msp": ({}, lambda data: -softmax(data.logits, axis=1).max(axis=1)),
    "max-logit": ({}, lambda data: -data.logits.max(axis=1)),
    "energy": ({}, lambda data: energy(data.logits)),
    "gen": ({"gamma": 0.1, "M": 10}, generalised_entropy),
    "temperature": ({}, temperature),
    "knn": ({"k": 50}, k_nearest),
    "mahalanobis": ({}, mahalanobis),
    "mahalanobis++": ({}, lambda data: mahalanobis(data, normalised=True)),
    "rmd": ({}, lambda data: mahalanobis(data, relative=True)),
    "rmd++": ({}, lambda data: mahalanobis(data, relative=True, normalised=True)),
    "vim": ({"d": 12}, virtual_logit),
    "klm": ({}, kl_matching),
    "fdbd": ({}, decision_boundary),
    "nci": ({"alpha": 0.001}, neural_collapse),
    "nnguide": ({"k": 7}, neighbour_guidance),
    "max-cosine": ({}, max_cosine),
    "she": ({}, stored_pattern),
    "dice": ({"p": 0.9}, sparse),
    "react": ({"percentile": 0.9}, rectified),
    "ash-b": ({"percentile": 0.75}, shaped),
    "scale": ({"percentile": 0.75}, scaled),
    "openmax": ({}, open_max),
    "relation": ({"pow": 4}, relation),
    "weiper": ({"repeats": 10, "smoothing": 4, "smoothing_perturbed": 2}, weiper),
}
