"""A tiny Stable Diffusion, built from configs and saved as the real one is."""

import json
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch.nn import functional

pytest.importorskip("transformers")
from diffusers import AutoencoderKL, DDIMScheduler, StableDiffusionPipeline, UNet2DConditionModel
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer

from pipeline.artifacts import models
from pipeline.artifacts.images import ImageSet
from pipeline.methods import embedding
from pipeline.runtime.errors import UserError
from pipeline.synthesis.boundary import Outliers
from pipeline.synthesis.stable_diffusion import StableDiffusion, align
from tests.methods.inputs import SmallInputs

WIDTH = 16  # of a token embedding
CLASSES = ["cat", "dog", "cat dog"]


def tokenizer(folder: Path) -> CLIPTokenizer:
    """Letters, their end-of-word forms, and two whole words."""
    letters = list("abcdefghijklmnopqrstuvwxyz<>-0123456789")
    merges = ["c a", "ca t</w>", "d o", "do g</w>"]
    tokens = ["<|startoftext|>", "<|endoftext|>", *letters, *(f"{letter}</w>" for letter in letters)]
    tokens += [merge.replace(" ", "") for merge in merges]
    (folder / "vocab.json").write_text(json.dumps({token: i for i, token in enumerate(tokens)}))
    (folder / "merges.txt").write_text("\n".join(["#version: 0.2", *merges]))
    return CLIPTokenizer(str(folder / "vocab.json"), str(folder / "merges.txt"), model_max_length=16)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.manual_seed(0)
    files = tmp_path_factory.mktemp("tokenizer")
    words = tokenizer(files)
    text = CLIPTextConfig(
        vocab_size=len(words), hidden_size=WIDTH, intermediate_size=32, num_hidden_layers=2, num_attention_heads=2,
        max_position_embeddings=16, bos_token_id=0, eos_token_id=1, pad_token_id=1,
    )  # fmt: skip
    pipeline = StableDiffusionPipeline(
        vae=AutoencoderKL(block_out_channels=(8,) * 4, down_block_types=("DownEncoderBlock2D",) * 4,
                          up_block_types=("UpDecoderBlock2D",) * 4, norm_num_groups=4, latent_channels=4),
        text_encoder=CLIPTextModel(text),
        tokenizer=words,
        unet=UNet2DConditionModel(
            sample_size=4, block_out_channels=(8, 16), layers_per_block=1, cross_attention_dim=WIDTH, norm_num_groups=4,
            down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"), attention_head_dim=4,
            up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"),
        ),
        scheduler=DDIMScheduler(beta_schedule="scaled_linear", clip_sample=False, steps_offset=1),
        safety_checker=None, feature_extractor=None, requires_safety_checker=False,
    )  # fmt: skip
    saved = tmp_path_factory.mktemp("stable-diffusion")
    pipeline.save_pretrained(saved)
    return saved


def settings(folder: Path, **changes: Any) -> embedding.Settings:
    values = {
        "count": 6, "neighbours": 2, "anchors": 2, "perturbations": 4, "kept_per_anchor": 1, "sigmas": [1.0],
        "unit_sphere": True, "generator": str(folder), "revision": None, "prompt": "a photo of a {}",
        "sampler": "ddim", "steps": 2, "guidance": 4.0, "batch": 3,
    }  # fmt: skip
    return embedding.Settings.model_validate(values | changes)


def generator(folder: Path, **changes: Any) -> StableDiffusion:
    id_set = ImageSet(torch.zeros(0), torch.zeros(0), [], CLASSES, "id")
    return embedding.stable_diffusion(settings(folder, **changes), SmallInputs(seed=5, size=32, images=id_set))


def outliers(count: int) -> Outliers:
    vectors = torch.randn(count, WIDTH, generator=torch.Generator().manual_seed(1))
    return Outliers(vectors, torch.arange(count) % 3, torch.ones(count), torch.zeros(count, dtype=torch.int64))


def part(found: Outliers, rows: slice) -> Outliers:
    return Outliers(*(column[rows] for column in vars(found).values()))


def test_a_class_has_the_mean_embedding_of_its_names_tokens(folder: Path) -> None:
    found = generator(folder)
    table = found.pipeline.text_encoder.get_input_embeddings().weight
    ids = found.pipeline.tokenizer.convert_tokens_to_ids(["cat</w>", "dog</w>"])
    torch.testing.assert_close(found.tokens[:2], table[ids])
    torch.testing.assert_close(found.tokens[2], table[ids].mean(dim=0))


def test_the_prompt_holds_the_outlier_with_the_length_of_its_class(folder: Path) -> None:
    """What the text encoder is given, against the plain call of diffusers with a prompt embedding made by hand."""
    found, wanted = generator(folder), outliers(3)
    latents = found(wanted, range(3))
    pipeline = models.load_pipeline(StableDiffusionPipeline, folder, safety_checker=None)
    pipeline.set_progress_bar_config(disable=True)
    encoder = pipeline.text_encoder
    for i in range(3):
        vector = functional.normalize(wanted.vectors[i], dim=0) * found.tokens[wanted.labels[i]].norm()
        ids = pipeline.tokenizer("a photo of a cat", padding="max_length", return_tensors="pt").input_ids
        place = int((ids[0] == pipeline.tokenizer.convert_tokens_to_ids("cat</w>")).nonzero())
        hook = encoder.get_input_embeddings().register_forward_hook(
            lambda _, __, output, at=place, new=vector: output.index_copy(1, torch.tensor([at]), new[None, None])
        )
        with torch.no_grad():
            condition = encoder(ids)[0]
        hook.remove()
        state = np.random.SeedSequence([5, zlib.crc32(b"embedding"), i]).generate_state(1, np.uint64)[0]
        plain = pipeline(
            prompt_embeds=condition, negative_prompt_embeds=encoder(pipeline.tokenizer(
                "", padding="max_length", return_tensors="pt").input_ids)[0],
            generator=torch.Generator().manual_seed(int(state >> np.uint64(1))),
            height=32, width=32, num_inference_steps=2, guidance_scale=4.0, output_type="latent",
        ).images  # fmt: skip
        torch.testing.assert_close(latents[i : i + 1], plain, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("guidance", [1.0, 4.0])
def test_an_outlier_does_not_depend_on_its_batch(folder: Path, guidance: float) -> None:
    found, wanted = generator(folder, guidance=guidance), outliers(3)
    whole = found(wanted, range(3))
    assert whole.shape == (3, 4, 4, 4) and whole.isfinite().all()
    torch.testing.assert_close(found(part(wanted, slice(1, 3)), range(1, 3)), whole[1:], atol=1e-4, rtol=1e-4)


def test_each_outlier_decides_its_own_latent(folder: Path) -> None:
    found, wanted = generator(folder), outliers(2)
    before = found(wanted, range(2))
    wanted.vectors[1] *= -1
    after = found(wanted, range(2))
    torch.testing.assert_close(before[0], after[0], atol=1e-5, rtol=1e-5)
    assert (before[1] - after[1]).abs().max() > 1e-4


def test_alignment_brings_features_to_their_class_names() -> None:
    generator = torch.Generator().manual_seed(0)
    labels = torch.arange(90) % 3
    features = torch.eye(3)[labels].repeat(1, 4) + 0.1 * torch.randn(90, 12, generator=generator)
    tokens = torch.randn(3, WIDTH, generator=generator) * torch.tensor([[0.4], [3.0], [27.0]])
    found = align(features, labels, tokens, seed=0)
    torch.testing.assert_close(found.norm(dim=1), torch.ones(90))
    cosines = found @ functional.normalize(tokens).T
    assert torch.equal(cosines.argmax(dim=1), labels)
    assert torch.equal(found, align(features, labels, tokens, seed=0))


def test_errors_name_what_to_change(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"prompt is 'a cat', expected one \{\}"):
        generator(folder, prompt="a cat")
    with pytest.raises(UserError, match="revision None, expected the 40-digit commit"):
        generator(Path("someone/some-model"))
    with pytest.raises(UserError, match="no safetensors weights"):
        generator(tmp_path)
