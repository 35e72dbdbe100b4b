from pathlib import Path

import pytest
import torch
from pytorch_ood.model import WideResNet
from safetensors.torch import save_file

from pipeline.artifacts import models
from pipeline.classifier.networks import Classifier, backbone, load_pretrained, load_weights, predict
from pipeline.runtime.errors import UserError

LINEAR = {"kind": "linear"}


def classifier(network: str = "wrn-10-1", head: dict[str, object] = LINEAR, channels: int = 3) -> Classifier:
    torch.manual_seed(0)
    statistics = [0.1, 0.2, 0.3][:channels], [0.5, 0.6, 0.7][:channels]
    return Classifier(network, head, ["a", "b", "c"], 20, channels, *statistics).eval()


@pytest.mark.parametrize("head", [LINEAR, {"kind": "arcface", "scale": 16.0, "margin": 0.5}, {"kind": "adacos"}])
def test_a_saved_classifier_says_the_same(tmp_path: Path, head: dict[str, object]) -> None:
    model = classifier(head=head)
    model.save_pretrained(tmp_path)
    assert {"config.json", "model.safetensors"} <= {path.name for path in tmp_path.iterdir()}
    again = models.load(Classifier, tmp_path)
    images = torch.rand(2, 3, 20, 20)
    for mine, theirs in zip(model(images), again(images), strict=True):
        torch.testing.assert_close(mine, theirs)
    assert again.classes == ["a", "b", "c"] and again.size == 20


@pytest.mark.parametrize(
    ("network", "parameters", "width"),
    [
        ("wrn-40-2", 2_242_256, 128),  # 2,243,546 with its last layer for 10 classes, as Hendrycks' logs have it
        ("resnet-18", 11_168_832, 512),  # OpenOOD's ResNet18_32x32 without its last layer
        ("resnet-20", 271_824, 64),
        ("timm:resnet18", 11_176_512, 512),
    ],
)
def test_networks_have_their_size_and_pool_their_features(network: str, parameters: int, width: int) -> None:
    made = backbone(network, 3)
    assert made(torch.rand(2, 3, 32, 32)).shape == (2, width) and made.num_features == width
    assert sum(parameter.numel() for parameter in made.parameters()) == parameters


def test_dropout_acts_in_training_alone() -> None:
    made, plain = backbone("wrn-10-1-dropout-0.3", 3), backbone("wrn-10-1", 3)
    plain.load_state_dict(made.state_dict())
    images = torch.rand(4, 3, 16, 16)
    assert torch.equal(made.eval()(images), plain.eval()(images))
    plain.train(), made.train()
    for module in (*made.modules(), *plain.modules()):
        if isinstance(module, torch.nn.BatchNorm2d):
            module.eval()
    assert torch.equal(plain(images), plain(images)) and not torch.equal(made(images), made(images))


def test_resnet_20_counts_twenty_layers_and_halves_twice() -> None:
    made = backbone("resnet-20", 3)
    convolutions = [module for module in made.modules() if isinstance(module, torch.nn.Conv2d)]
    assert sum(module.kernel_size == (3, 3) for module in convolutions) == 19  # and the last layer
    assert made.layer3(made.layer2(made.layer1(torch.rand(1, 16, 32, 32)))).shape == (1, 64, 8, 8)


def test_at_32_pixels_the_wide_network_is_pytorch_oods() -> None:
    torch.manual_seed(0)
    made = backbone("wrn-10-1", 3).eval()
    theirs = WideResNet(7, depth=10, widen_factor=1, drop_rate=0.0).eval()
    theirs.load_state_dict(made.state_dict(), strict=False)
    images = torch.rand(2, 3, 32, 32)
    torch.testing.assert_close(made(images), theirs.features(images))


def test_normalisation_is_inside_the_model() -> None:
    model, pixels = classifier(channels=1), torch.randint(0, 256, (20, 1, 8, 8), dtype=torch.uint8)
    logits, features = predict(model, pixels, batch=7)
    by_hand = model.backbone((pixels / 255 - 0.1) / 0.5)
    torch.testing.assert_close(features, by_hand.detach(), atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(logits, model.head(by_hand)[0].detach(), atol=1e-5, rtol=1e-4)


def test_a_network_of_a_fixed_input_size_sees_images_of_that_size() -> None:
    model = classifier("timm:vit_tiny_patch16_224")
    assert model.input_size == [224, 224]
    assert model(torch.rand(1, 3, 20, 20))[0].shape == (1, 3)


def test_a_transformer_sees_smaller_images_at_their_own_size_by_timms_interpolation(tmp_path: Path) -> None:
    import timm

    torch.manual_seed(0)
    save_file(timm.create_model("vit_tiny_patch16_224").state_dict(), tmp_path / "model.safetensors")
    about = (["a", "b"], 128, 3, [0.5] * 3, [0.5] * 3)
    model = Classifier("timm:vit_tiny_patch16_224", {"kind": "linear"}, *about).eval()
    assert model.input_size == [128, 128]
    load_pretrained(model, "timm:vit_tiny_patch16_224", tmp_path / "model.safetensors")
    own = {"file": str(tmp_path / "model.safetensors"), "custom_load": False}
    theirs = timm.create_model(
        "vit_tiny_patch16_224", pretrained=True, pretrained_cfg_overlay=own, num_classes=0, img_size=128
    ).eval()
    images = torch.rand(2, 3, 128, 128)
    torch.testing.assert_close(model.embed(images), theirs((images - 0.5) / 0.5), atol=1e-4, rtol=1e-4)
    model.save_pretrained(tmp_path / "saved")
    again = models.load(Classifier, tmp_path / "saved")
    torch.testing.assert_close(again(images)[0], model(images)[0])


@pytest.mark.parametrize(
    "name", ["resnet", "wrn-12-1", "wrn-10-0", "wrn-4-1", "resnet-19", "timm:nothing", "timm:hf-hub:a/b", "timm:../x"]
)
def test_unknown_networks_are_named(name: str) -> None:
    with pytest.raises(UserError, match="unknown; expected wrn-DEPTH-WIDTH"):
        backbone(name, 1)


def test_pretrained_weights_come_from_a_safetensors_file_whatever_its_classes(tmp_path: Path) -> None:
    import timm

    torch.manual_seed(1)
    original = timm.create_model("resnet10t", num_classes=1000)
    save_file(original.state_dict(), tmp_path / "model.safetensors")
    model = classifier("timm:resnet10t")
    assert not torch.equal(model.backbone.layer1[0].conv1.weight, original.layer1[0].conv1.weight)
    load_pretrained(model, "timm:resnet10t", models.weights_file(str(tmp_path), None))
    assert torch.equal(model.backbone.layer1[0].conv1.weight, original.layer1[0].conv1.weight)
    grey = classifier("timm:resnet10t", channels=1)
    load_pretrained(grey, "timm:resnet10t", tmp_path / "model.safetensors")


def test_pretrained_weights_that_do_not_fit_are_refused(tmp_path: Path) -> None:
    save_file({"conv1.weight": torch.zeros(3)}, tmp_path / "model.safetensors")
    with pytest.raises(UserError, match="not weights of timm:resnet10t"):
        load_pretrained(classifier("timm:resnet10t"), "timm:resnet10t", tmp_path / "model.safetensors")
    with pytest.raises(UserError, match="for timm:NAME alone"):
        load_pretrained(classifier(), "wrn-10-1", tmp_path / "model.safetensors")
    (tmp_path / "model.safetensors").write_bytes(b"no weights")
    with pytest.raises(UserError, match="not weights of timm:resnet10t"):
        load_pretrained(classifier("timm:resnet10t"), "timm:resnet10t", tmp_path / "model.safetensors")
    with pytest.raises(UserError, match=r"no model\.safetensors"):
        models.weights_file(str(tmp_path.parent), None)


@pytest.mark.parametrize("head", [{"kind": "linear"}, {"kind": "arcface", "scale": 16.0, "margin": 0.5}])
def test_a_trunk_gives_its_backbone_and_a_head_of_the_same_kind(head: dict[str, object]) -> None:
    about = (["a", "b"], 16, 1, [0.5], [0.3])
    trunk, model = Classifier("wrn-10-1", {"kind": "linear"}, *about), Classifier("wrn-10-1", head, *about)
    before = model.head.weight.clone()
    load_weights(model, trunk)
    for name, weights in trunk.backbone.state_dict().items():
        assert torch.equal(model.backbone.state_dict()[name], weights)
    assert torch.equal(model.head.weight, trunk.head.weight if head["kind"] == "linear" else before)
    with pytest.raises(UserError, match=r"train\.network is not teacher\.network"):
        load_weights(Classifier("wrn-16-1", head, *about), trunk)
