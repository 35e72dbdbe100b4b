from pathlib import Path

import pytest
import torch
from diffusers import AutoencoderTiny, AutoModel

from pipeline import autoencoder as stage
from pipeline.artifacts import models
from pipeline.artifacts.revisions import check_revision
from pipeline.runtime.errors import UserError
from pipeline.settings.autoencoder import AutoencoderSettings
from pipeline.settings.encode import InferenceSettings
from pipeline.synthesis import autoencoder as space
from pipeline.synthesis.pixel_space import PixelSpace

PIXELS = torch.randint(0, 256, (7, 1, 16, 16), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))


@pytest.fixture(scope="module")
def autoencoder() -> space.Autoencoder:
    torch.manual_seed(0)
    model = space.small(1, 16, [8, 16], 4).eval().requires_grad_(False)
    model.register_to_config(scaling_factor=0.5, shift_factor=2.0)
    return model


def test_scaling_is_undone(autoencoder: space.Autoencoder) -> None:
    raw_latents = torch.randn(3, 4, 8, 8)
    latents = space.to_latents(autoencoder, raw_latents)
    torch.testing.assert_close(latents, (raw_latents - 2.0) * 0.5)
    torch.testing.assert_close(space.to_raw_latents(autoencoder, latents), raw_latents)


def test_encode_gives_the_posterior_unscaled(autoencoder: space.Autoencoder) -> None:
    mean, std = space.encode(autoencoder, PIXELS, 16, InferenceSettings(batch=3, precision="float32"))
    posterior = autoencoder.encode(PIXELS.float() / 127.5 - 1).latent_dist
    torch.testing.assert_close(mean, posterior.mean, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(std, posterior.std, atol=1e-5, rtol=1e-5)


def test_the_batch_size_does_not_matter(autoencoder: space.Autoencoder) -> None:
    raw_latents = torch.randn(7, 4, 8, 8, generator=torch.Generator().manual_seed(0))
    small, large = (
        space.decode(autoencoder, raw_latents, 16, InferenceSettings(batch=batch, precision="float32"))
        for batch in (2, 7)
    )
    assert (small.int() - large.int()).abs().max() <= 1


def test_decode_resizes_to_the_images_own_size(autoencoder: space.Autoencoder) -> None:
    decoded = space.decode(autoencoder, torch.zeros(2, 4, 8, 8), 12, InferenceSettings(batch=2, precision="float32"))
    assert decoded.shape == (2, 1, 12, 12) and decoded.dtype == torch.uint8


def test_stable_diffusions_tiny_autoencoder_works_too(tmp_path: Path) -> None:
    tiny = AutoencoderTiny(
        in_channels=3, out_channels=3, encoder_block_out_channels=(8, 8), decoder_block_out_channels=(8, 8),
        num_encoder_blocks=(1, 1), num_decoder_blocks=(1, 1), latent_channels=4,
    )  # fmt: skip
    tiny.save_pretrained(tmp_path)
    loaded = models.load(AutoModel, tmp_path)
    assert isinstance(loaded, AutoencoderTiny)
    pixels = PIXELS.expand(-1, 3, -1, -1)
    mean, std = space.encode(loaded, pixels, 32, InferenceSettings(batch=4, precision="float32"))
    assert mean.shape[:2] == (7, 4) and not std.any()
    assert space.decode(loaded, mean, 16, InferenceSettings(batch=4, precision="float32")).shape == pixels.shape
    raw_latents = torch.randn(2, 4, 4, 4)
    torch.testing.assert_close(space.to_latents(loaded, raw_latents), raw_latents)  # already scaled: factor 1


def test_training_learns_and_scales_to_unit_variance() -> None:
    images = torch.zeros(64, 1, 16, 16, dtype=torch.uint8)
    images[:32, :, :8], images[32:, :, 8:] = 255, 255
    values = {"source": "train", "revision": None, "size": 16, "widths": [8, 16], "latent_channels": 4}
    settings = AutoencoderSettings.model_validate(
        values | {"steps": 60, "batch": 16, "learning_rate": 0.005, "kl_weight": 0.0001}
    )
    model = stage.train(images, settings, seed=0)
    assert stage.psnr(model, images, settings) > 12  # a constant image reaches 6
    mean, _ = space.encode(model, images, 16, InferenceSettings(batch=64, precision="float32"))
    assert float(space.to_latents(model, mean).std()) == pytest.approx(1, abs=1e-3)


@pytest.mark.parametrize("revision", [None, "main", "a" * 39])
def test_a_hub_model_needs_a_pinned_commit(revision: str | None) -> None:
    with pytest.raises(UserError, match="revision"):
        check_revision("stabilityai/sd-vae-ft-mse", revision)
    check_revision("stabilityai/sd-vae-ft-mse", "a" * 40)


def test_pixel_space_changes_nothing(tmp_path: Path) -> None:
    PixelSpace(scaling_factor=1.7).save_pretrained(tmp_path)
    loaded = models.load(space.AnyAutoencoder, tmp_path)
    assert isinstance(loaded, PixelSpace) and loaded.config.scaling_factor == 1.7
    mean, std = space.encode(loaded, PIXELS, 16, InferenceSettings(batch=3, precision="float32"))
    torch.testing.assert_close(mean, PIXELS.float() / 127.5 - 1)
    assert not std.any()
    assert torch.equal(space.decode(loaded, mean, 16, InferenceSettings(batch=4, precision="float32")), PIXELS)


@pytest.mark.parametrize("kind", ["small", "tiny"])
def test_any_autoencoder_is_loaded_by_the_class_its_config_names(kind: str, tmp_path: Path) -> None:
    made = (
        space.small(1, 16, [8, 16], 4)
        if kind == "small"
        else AutoencoderTiny(encoder_block_out_channels=(8,) * 4, decoder_block_out_channels=(8,) * 4)
    )
    made.save_pretrained(tmp_path)
    assert type(models.load(space.AnyAutoencoder, tmp_path)) is type(made)
