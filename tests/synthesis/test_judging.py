import numpy as np
import pytest
import torch
from sklearn.neighbors import NearestNeighbors

from pipeline.artifacts.candidates import Candidates
from pipeline.artifacts.images import ImageSet
from pipeline.errors import UserError
from pipeline.learning.networks import Classifier, predict
from pipeline.synthesis import autoencoder as space
from pipeline.synthesis import filters, judging


@pytest.fixture(scope="module")
def judge() -> judging.Judge:
    torch.manual_seed(0)
    autoencoder = space.small(1, 16, [8, 16], 4).eval().requires_grad_(False)
    teacher = Classifier("wrn-10-1", ["a", "b"], 1, [0.5], [0.3]).eval().requires_grad_(False)
    pixels = torch.randint(0, 256, (30, 1, 16, 16), dtype=torch.uint8)
    train_set = ImageSet(pixels, torch.arange(30) % 2, [str(i) for i in range(30)], ["a", "b"], "id")
    return judging.Judge(autoencoder, teacher, train_set, torch.randn(30, 4, 8, 8), neighbours=3)


def brute(points: torch.Tensor, references: torch.Tensor, k: int) -> np.ndarray:
    search = NearestNeighbors(n_neighbors=k, algorithm="brute").fit(references.numpy())
    return search.kneighbors(points.numpy())[0][:, -1]


def test_evidence_by_independent_means(judge: judging.Judge) -> None:
    pixels = torch.zeros(4, 1, 16, 16, dtype=torch.uint8)
    pixels[1, :, :8] = 255
    pixels[2] = torch.arange(256, dtype=torch.uint8).view(1, 16, 16)
    pixels[3] = judge.pixels[5].view(1, 16, 16).to(torch.uint8)  # a copy of a training image
    raw_latents = torch.randn(4, 4, 8, 8)
    found = judge.evidence(pixels, raw_latents)
    logits, features = predict(judge.teacher, pixels, 4)
    np.testing.assert_allclose(found.distance, brute(judge.scaled(raw_latents), judge.latents, 3), rtol=1e-4)
    np.testing.assert_allclose(found.feature_distance, brute(features, judge.features, 3), rtol=1e-3, atol=1e-5)
    np.testing.assert_allclose(found.confidence, logits.softmax(dim=1).amax(dim=1), rtol=1e-5)
    nearest = [float(((judge.pixels - image.flatten()) ** 2).mean(dim=1).min()) ** 0.5 for image in pixels.float()]
    np.testing.assert_allclose(found.pixel_distance, nearest, rtol=1e-4, atol=1e-3)
    assert found.pixel_distance[3] < 1e-3
    assert found.saturation[:2].tolist() == [1.0, 1.0] and found.saturation[2] == 2 / 256
    assert found.contrast[0] == 0 and float(found.contrast[1]) == pytest.approx(127.75, abs=0.1)
    assert found.finite.all()
    broken = raw_latents.index_fill(0, torch.tensor([2]), float("nan"))
    assert judge.evidence(pixels, broken).finite.tolist() == [True, True, False, True]


def judged(confidence: list[float], reasons: list[str]) -> judging.Judged:
    n = len(reasons)
    one = torch.ones(n)
    evidence = filters.Evidence(one, one, one, torch.tensor(confidence), one, one, one.bool())
    found = Candidates(torch.zeros(n, 1, 1, 1), torch.zeros(n, 2, dtype=torch.int64), one, [""] * n)
    return judging.Judged("mixup", found, torch.zeros(n, 1, 2, 2), evidence, -one.long(), reasons)


def test_the_first_accepted_are_chosen_and_too_few_are_an_error() -> None:
    own = judged([0.5] * 4, ["", "flat", "", ""])
    assert own.choose(2) == [0, 2]
    with pytest.raises(UserError, match=r"mixup: 3 of 4 candidates accepted \(rejected: flat 1\).*mixup.count"):
        own.choose(4)


def test_outliers_that_look_like_id_stop_the_run() -> None:
    limits = filters.Thresholds(1, 1, 1, confidence=0.9, contrast=1, saturation=1)
    own = judged([0.95, 0.95, 0.2, 0.3], [""] * 4)
    judging.check_unlike_id(own, [0, 1, 2, 3], limits, most=0.5)
    with pytest.raises(UserError, match="67% of the accepted outliers look in-distribution.*confident"):
        judging.check_unlike_id(own, [0, 1, 2], limits, most=0.5)
