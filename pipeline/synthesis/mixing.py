"""Label mixup: condition a class-conditional diffusion model on two classes at once (arXiv 2405.00631)."""

from typing import TYPE_CHECKING

import torch
from torch import Tensor

from pipeline.settings.diffusion import MixupMode
from pipeline.synthesis.diffusion import Predict, conditioned
from pipeline.synthesis.randomness import generator

if TYPE_CHECKING:
    from pipeline.synthesis.unet import ConditionalUNet


def draw_parents(seed: int, indices: range, classes: int, low: float, high: float) -> tuple[Tensor, Tensor]:
    """For each index a pair of different classes, uniform over unordered pairs, and parent a's share.

    Returns:
        parents int64 (n, 2) with a < b, shares float32 (n,), uniform in [low, high].
    """
    parents, shares = [], []
    for index in indices:
        random = generator(seed, "mixup-parents", index)
        parents.append(sorted(random.choice(classes, size=2, replace=False).tolist()))
        shares.append(random.uniform(low, high))
    return torch.tensor(parents), torch.tensor(shares, dtype=torch.float32)


def mix(first: Tensor, second: Tensor, share: Tensor, mode: MixupMode) -> Tensor:
    """Mix class embeddings (n, d) with `share` (n,) of the first.

    `sum` adds the two, the paper's example [1, 1], whatever the share; `mean` is the convex combination;
    `slerp` goes along the sphere, so that the mixture keeps the embeddings' norm. `score` mixes predictions,
    not embeddings: see `predictor`.
    """
    weight = share[:, None]
    if mode == "sum":
        return first + second
    if mode == "mean":
        return weight * first + (1 - weight) * second
    return _slerp(first, second, weight)


def _slerp(first: Tensor, second: Tensor, weight: Tensor) -> Tensor:
    norms = first.norm(dim=1, keepdim=True), second.norm(dim=1, keepdim=True)
    angle = torch.arccos((first / norms[0] * second / norms[1]).sum(dim=1, keepdim=True).clamp(-1, 1))
    sine = angle.sin()
    flat = sine < 1e-4  # equal or opposite directions have no arc to follow
    safe = sine.where(~flat, torch.ones_like(sine))
    first_part = torch.where(flat, weight, (weight * angle).sin() / safe)
    second_part = torch.where(flat, 1 - weight, ((1 - weight) * angle).sin() / safe)
    direction = first_part * first / norms[0] + second_part * second / norms[1]
    return direction * (weight * norms[0] + (1 - weight) * norms[1])


def predictor(model: "ConditionalUNet", parents: Tensor, share: Tensor, mode: MixupMode, guidance: float) -> Predict:
    """The model's prediction for mixtures: of mixed embeddings, or for `score` the mixed predictions.

    The embeddings are fixed here, once for each sample and all its timesteps.
    """
    first, second = model.embedding(parents[:, 0]), model.embedding(parents[:, 1])
    if mode == "score":
        of_first, of_second = conditioned(model, first, guidance), conditioned(model, second, guidance)
        weight = share[:, None, None, None]
        return lambda noisy, times: weight * of_first(noisy, times) + (1 - weight) * of_second(noisy, times)
    return conditioned(model, mix(first, second, share, mode), guidance)
