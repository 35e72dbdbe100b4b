"""Outliers from Stable Diffusion: a prompt whose class name is replaced by an outlier embedding.

As OAL (arXiv 2406.16525) and Dream-OOD (arXiv 2309.13415, section 3), with two steps that OAL's released code leaves
out. Image features are first aligned with the space of token embeddings; and an outlier has the length of its class's
token embedding, which differs 70-fold between that code's two datasets.
"""

from collections.abc import Sequence
from itertools import islice
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from pipeline.synthesis.boundary import Outliers
from pipeline.synthesis.randomness import torch_generators
from pipeline.training.batches import shuffled
from pipeline.training.loop import fit

TEMPERATURE = 0.1  # of the cosines, Dream-OOD section 3.1
STEPS, BATCH, LEARNING_RATE = 400, 256, 1e-2  # one linear layer: seconds


def align(features: Tensor, labels: Tensor, tokens: Tensor, seed: int) -> Tensor:
    """Bring image features into the space of token embeddings, by a linear map trained to name the class.

    Dream-OOD trains a whole network with this loss, cross-entropy of cosines between image and class tokens at
    temperature 0.1; here the teacher's features stay as they are and one layer is trained.

    Args:
        features: (n, f), of the ID training images.
        labels: int64 (n,).
        tokens: (classes, d), see `StableDiffusion.token_embeddings`.

    Returns:
        (n, d), of length 1.
    """
    torch.manual_seed(seed)
    scaled = (features - features.mean(dim=0)) / features.std(dim=0).clamp_min(1e-3)
    layer = nn.Linear(features.shape[1], tokens.shape[1]).to(features.device)
    names = functional.normalize(tokens).to(features.device)

    def objective(model: nn.Module, rows: Tensor) -> dict[str, Tensor]:
        cosines = functional.normalize(model(scaled[rows])) @ names.T
        return {"cross_entropy": functional.cross_entropy(cosines / TEMPERATURE, labels[rows].to(features.device))}

    optimizer = torch.optim.AdamW(layer.parameters(), lr=LEARNING_RATE)
    fit(
        layer, optimizer, lambda start: islice(shuffled(len(scaled), BATCH, seed), start, None), objective,
        steps=STEPS, description="text alignment",
    )  # fmt: skip
    with torch.no_grad():
        return functional.normalize(layer(scaled)).cpu()


class StableDiffusion:
    """A generator of latents from token embeddings.

    Args:
        pipeline: a diffusers `StableDiffusionPipeline` of version 1.x; its vocabulary is extended by placeholders.
        classes: names of the ID classes.
        prompt: with {} where the class name would stand.
        size: pixels, height and width of the images the latents stand for.
        steps, guidance: of the pipeline; guidance 1 for none.
        batch: the most outliers asked for at once: each has a placeholder token of its own.
        seed: of the outliers.
    """

    def __init__(
        self, pipeline: Any, classes: Sequence[str], prompt: str, size: int, steps: int, guidance: float, batch: int,
        seed: int,
    ):  # fmt: skip
        self.pipeline, self.prompt, self.seed = pipeline, prompt, seed
        self.options = {"height": size, "width": size, "num_inference_steps": steps, "guidance_scale": guidance}
        self.tokens = self.token_embeddings(classes)
        self.placeholders = [f"<outlier-{i}>" for i in range(batch)]
        pipeline.tokenizer.add_tokens(self.placeholders)
        pipeline.text_encoder.resize_token_embeddings(len(pipeline.tokenizer))
        pipeline.set_progress_bar_config(disable=True)

    def token_embeddings(self, classes: Sequence[str]) -> Tensor:
        """For each class the mean input embedding of its name's tokens, (classes, d)."""
        table = self.pipeline.text_encoder.get_input_embeddings().weight
        ids = [self.pipeline.tokenizer(name, add_special_tokens=False).input_ids for name in classes]
        return torch.stack([table[own].mean(dim=0) for own in ids]).detach().cpu()

    @torch.no_grad()
    def __call__(self, outliers: Outliers, indices: range) -> Tensor:
        """Latents float32 (n, C, h, w) on the CPU, scaled as the pipeline's; item i depends on (seed, i) alone."""
        lengths = self.tokens.norm(dim=1)[outliers.labels]
        table = self.pipeline.text_encoder.get_input_embeddings().weight
        names = self.placeholders[: len(indices)]
        rows = self.pipeline.tokenizer.convert_tokens_to_ids(names)
        table[rows] = (functional.normalize(outliers.vectors) * lengths[:, None]).to(table)
        return self.pipeline(
            [self.prompt.format(name) for name in names],
            generator=torch_generators(self.seed, "embedding", indices),
            output_type="latent",
            **self.options,
        ).images.float().cpu()  # fmt: skip
