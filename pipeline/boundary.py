"""Sample boundary outliers around the outermost ID latents.

Reads: data/latents/train.arrow.
Writes: data/candidates/boundary.arrow.
Why: paper OAL (arXiv 2406.16525). Outliers near the edge of ID teach more than far ones, and latents need no
prompt and no labels of anything unknown.
"""

from pydantic import NonNegativeInt

from pipeline.artifacts import latents
from pipeline.artifacts.candidates import Candidates, Method, leave_out, produce
from pipeline.artifacts.latents import Latents
from pipeline.runtime.layout import LATENTS
from pipeline.runtime.resumable import fingerprint
from pipeline.settings import params
from pipeline.synthesis.boundary import Sampler, Sampling


class Params(Sampling):
    count: NonNegativeInt


def method(encoded: Latents, sampler: Sampler) -> Method:
    """Candidates from the sampler of the flattened latents."""

    def sample(indices: range) -> Candidates:
        found = sampler.sample(indices)
        raw_latents = found.vectors.view(-1, *encoded.mean.shape[1:])
        return Candidates(raw_latents, found.labels[:, None].repeat(1, 2), found.sigma, found.source)

    return sample


def main() -> None:
    settings, seed = params.read("boundary", Params), params.read("seed", int)
    if settings.count == 0:
        leave_out("boundary")
        return
    encoded = latents.load(LATENTS / "train.arrow")
    sampler = Sampler(encoded.mean.flatten(1), encoded.labels, settings, seed, "boundary")
    identity = {"settings": settings.model_dump(), "seed": seed, "latents": fingerprint(LATENTS / "train.arrow")}
    produce("boundary", method(encoded, sampler), settings.count, sampler.round, identity)
