import numpy as np
import pytest
import torch
from sklearn.neighbors import NearestNeighbors

from pipeline.artifacts.images import ImageSet
from pipeline.classifier.networks import Classifier, predict
from pipeline.runtime.errors import UserError
from pipeline.synthesis import filters, judging
from pipeline.synthesis.rendering import Images

GENERATOR = torch.Generator().manual_seed(0)
PIXELS = torch.randint(0, 256, (30, 1, 16, 16), dtype=torch.uint8, generator=GENERATOR)
TRAIN_SET = ImageSet(PIXELS, torch.arange(30) % 2, [str(i) for i in range(30)], ["a", "b"], "id")
LATENTS = torch.randn(30, 4, 8, 8, generator=GENERATOR)


@pytest.fixture(scope="module")
def judge() -> judging.Judge:
    torch.manual_seed(0)
    teacher = Classifier("wrn-10-1", {"kind": "linear"}, ["a", "b"], 16, 1, [0.5], [0.3]).eval().requires_grad_(False)
    return judging.Judge(teacher, TRAIN_SET, LATENTS, 3)


def brute(points: torch.Tensor, references: torch.Tensor, k: int) -> np.ndarray:
    search = NearestNeighbors(n_neighbors=k, algorithm="brute").fit(references.numpy())
    return search.kneighbors(points.numpy())[0][:, -1]


def test_evidence_by_independent_means(judge: judging.Judge) -> None:
    pixels = torch.zeros(4, 1, 16, 16, dtype=torch.uint8)
    pixels[1, :, :8] = 255
    pixels[2] = torch.arange(256, dtype=torch.uint8).view(1, 16, 16)
    pixels[3] = TRAIN_SET.pixels[5]  # a copy of a training image
    raw_latents = torch.randn(4, 4, 8, 8)
    found = judge.evidence(pixels, raw_latents)
    logits, features = predict(judge.teacher, pixels, 4)
    np.testing.assert_allclose(found.distance, brute(judge.scaled(raw_latents), judge.scaled(LATENTS), 3), rtol=1e-4)
    np.testing.assert_allclose(
        found.feature_distance,
        brute(features, predict(judge.teacher, TRAIN_SET.pixels, 50)[1], 3),
        rtol=1e-3,
        atol=1e-5,
    )
    np.testing.assert_allclose(found.confidence, logits.softmax(dim=1).amax(dim=1), rtol=1e-5)
    known = TRAIN_SET.pixels.flatten(1).float()
    nearest = [float(((known - image.flatten()) ** 2).mean(dim=1).min()) ** 0.5 for image in pixels.float()]
    np.testing.assert_allclose(found.pixel_distance, nearest, rtol=1e-4, atol=1e-3)
    assert found.pixel_distance[3] < 1e-3
    assert found.saturation[:2].tolist() == [1.0, 1.0] and found.saturation[2] == 2 / 256
    assert found.contrast[0] == 0 and float(found.contrast[1]) == pytest.approx(127.75, abs=0.1)
    assert found.finite.all()
    broken = raw_latents.index_fill(0, torch.tensor([2]), float("nan"))
    assert judge.evidence(pixels, broken).finite.tolist() == [True, True, False, True]


def test_a_dimension_that_id_images_do_not_use_gives_finite_distances(judge: judging.Judge) -> None:
    latents = LATENTS.clone()
    latents[:, 0, 0, 0] = -1
    own = judging.Judge(judge.teacher, TRAIN_SET, latents, 3)
    found = own.evidence(TRAIN_SET.pixels[:4], torch.randn(4, 4, 8, 8))
    assert bool(found.distance.isfinite().all()) and float(own.scale.min()) > 0


def judged(confidence: list[float], reasons: list[str]) -> judging.Judged:
    n = len(reasons)
    one = torch.ones(n)
    evidence = filters.Evidence(one, one, one, torch.tensor(confidence), one, one, one.bool(), ~one.bool())
    parents, source = torch.zeros(n, 2, dtype=torch.int64), torch.arange(n) - 1
    images = Images(torch.zeros(n, 1, 2, 2), torch.zeros(n, 1, 1, 1), parents, one, source)
    keys = ["first", "second", "third", "fourth"]
    return judging.Judged("mixup", "its meaning", None, images, evidence, -one.long(), reasons, keys, 7)


def test_the_first_accepted_are_chosen_and_too_few_are_an_error() -> None:
    own = judged([0.5] * 4, ["", "flat", "", ""])
    assert own.choose(2) == [0, 2]
    with pytest.raises(UserError, match=r"mixup: 3 of 4 candidates accepted \(rejected: flat 1\).*sample.mixup.count"):
        own.choose(4)


def test_outliers_that_look_like_id_stop_the_run() -> None:
    limits = filters.Thresholds(1, 1, 1, confidence=0.9, contrast=1, saturation=1)
    own = judged([0.95, 0.95, 0.2, 0.3], [""] * 4)
    judging.check_unlike_id(own, [0, 1, 2, 3], limits, most=0.5)
    with pytest.raises(UserError, match="67% of the accepted outliers look in-distribution.*confident"):
        judging.check_unlike_id(own, [0, 1, 2], limits, most=0.5)


def test_fields_name_the_source_image_and_the_parents() -> None:
    own = judged([0.5, 0.25], ["", ""])
    fields = [own.fields(i) for i in range(2)]
    assert [row["source"] for row in fields] == ["", "first"]
    assert fields[1] == {
        "method": "mixup", "label": -1, "parent_a": 0, "parent_b": 0, "strength": 1.0, "source": "first",
        "candidate": 1, "distance": 1.0, "confidence": 0.25, "seed": 7,
    }  # fmt: skip


def test_thumbnails_are_block_means_and_small_images_themselves() -> None:
    pixels = torch.randint(0, 256, (3, 2, 64, 64), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    blocks = pixels.double().view(3, 2, 32, 2, 32, 2).mean(dim=(3, 5))
    np.testing.assert_allclose(judging.thumbnails(pixels, 2), blocks.flatten(1), atol=1e-4)
    assert torch.equal(judging.thumbnails(pixels[:, :, :16, :16], 2), pixels[:, :, :16, :16].float().flatten(1))
