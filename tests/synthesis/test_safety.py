"""Stable Diffusion's safety checker as a filter, on a small one that hides a single image."""

from pathlib import Path

import pytest
import torch
from torch.nn import functional

pytest.importorskip("transformers")
from diffusers.pipelines.stable_diffusion.safety_checker import StableDiffusionSafetyChecker
from transformers import CLIPConfig, CLIPImageProcessor

from pipeline.artifacts import provenance
from pipeline.runtime.errors import UserError
from pipeline.synthesis import filters, safety
from tests.synthesis.test_stable_diffusion import folder, settings

__all__ = ["folder"]  # a fixture: a tiny Stable Diffusion without a checker

PIXELS = torch.randint(0, 256, (40, 3, 16, 16), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
HIDDEN = 21  # of the images


@pytest.fixture(scope="module")
def checked(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same with a checker whose only concept is one image."""
    import json
    import shutil

    saved = Path(shutil.copytree(folder, tmp_path_factory.mktemp("checked") / "pipeline"))
    torch.manual_seed(0)
    vision = {"hidden_size": 32, "intermediate_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2}
    checker = StableDiffusionSafetyChecker(
        CLIPConfig(vision_config=vision | {"image_size": 32, "patch_size": 8}, projection_dim=16)
    )
    extractor = CLIPImageProcessor(size={"shortest_edge": 32}, crop_size={"height": 32, "width": 32})
    seen = extractor(list(PIXELS), return_tensors="pt").pixel_values
    with torch.no_grad():
        found = functional.normalize(checker.visual_projection(checker.vision_model(seen)[1]))
    others = torch.cat([found[:HIDDEN], found[HIDDEN + 1 :]])
    limit = (1 + float((others @ found[HIDDEN]).max())) / 2  # no other image is as near
    checker.concept_embeds.data[:] = found[HIDDEN]
    checker.concept_embeds_weights.data[:] = limit
    checker.special_care_embeds_weights.data[:] = 2.0  # of a cosine: never
    checker.save_pretrained(saved / "safety_checker")
    extractor.save_pretrained(saved / "feature_extractor")
    index = json.loads((saved / "model_index.json").read_text())
    index |= {
        "safety_checker": ["stable_diffusion", "StableDiffusionSafetyChecker"],
        "feature_extractor": ["transformers", "CLIPImageProcessor"],
    }
    (saved / "model_index.json").write_text(json.dumps(index))
    return saved


def test_what_the_pipeline_would_hide_is_rejected_with_that_reason(checked: Path) -> None:
    is_unsafe = settings(checked).safety_checker()
    assert is_unsafe is not None
    before = PIXELS.clone()
    unsafe = is_unsafe(PIXELS)
    assert torch.nonzero(unsafe).flatten().tolist() == [HIDDEN]
    assert torch.equal(PIXELS, before)  # the checker blacks out what it is given
    one = torch.full((len(PIXELS),), 0.5)
    evidence = filters.Evidence(one, one, one, one, one, one, one.bool(), unsafe)
    limits = filters.Thresholds(*[0.0] * 3, confidence=1.0, contrast=0.0, saturation=1.0)
    assert set(filters.reasons(evidence, limits, ["non-finite", "unsafe", "flat"])) == {"", "unsafe"}


def test_a_pipeline_without_a_checker_hides_nothing(folder: Path) -> None:
    assert settings(folder).safety_checker() is None
    assert settings(folder, generator="diffusion").safety_checker() is None


def test_a_checker_that_cannot_be_loaded_stops_the_run(checked: Path, tmp_path: Path) -> None:
    import shutil

    broken = Path(shutil.copytree(checked, tmp_path / "broken"))
    shutil.rmtree(broken / "safety_checker")
    with pytest.raises(UserError, match="cannot be loaded"):
        safety.load(str(broken), None)


def test_where_a_pipeline_came_from_and_its_restrictions(checked: Path, tmp_path: Path) -> None:
    import hashlib
    import shutil

    found = settings(checked).provenance()
    assert found is not None and found["licence"] == provenance.RESTRICTED and found["source"] == str(checked)
    assert found["files"] == {
        name: hashlib.sha256((checked / name).read_bytes()).hexdigest()
        for name in ("text_encoder/model.safetensors", "unet/diffusion_pytorch_model.safetensors",
                     "vae/diffusion_pytorch_model.safetensors")
    }  # fmt: skip
    named = Path(shutil.copytree(checked, tmp_path / "named"))
    (named / "README.md").write_text("---\nlicense: apache-2.0\n---\n# mine\n")
    assert provenance.provenance(str(named), None)["licence"] == "apache-2.0"
    (named / "README.md").write_text("---\nlicense: [\n---\n")
    assert provenance.provenance(str(named), None)["licence"] == provenance.UNKNOWN
