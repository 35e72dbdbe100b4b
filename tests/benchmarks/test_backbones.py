"""What pretrained networks cost on photographs of 224 pixels: the table of docs/own-images.md.

Run with `pytest tests/benchmarks/test_backbones.py --benchmark-only -s`. Weights are random: the time does not depend
on them.
"""

from typing import Any

import pytest
import torch

from pipeline.classifier.networks import Classifier
from pipeline.features import embed

NETWORKS = (
    "efficientnet_lite0", "resnet18", "mobilenetv4_conv_medium", "convnext_tiny", "vit_small_patch14_dinov2.lvd142m",
)  # fmt: skip


@pytest.mark.parametrize("network", NETWORKS)
def test_features_of_photographs(benchmark: Any, network: str) -> None:
    name = network.partition(".")[0]
    model = Classifier(f"timm:{name}", {"kind": "linear"}, ["a", "b"], 224, 3, [0.5] * 3, [0.5] * 3).eval()
    model = model.to(memory_format=torch.channels_last)
    pixels = torch.randint(256, (26, 3, 224, 224), dtype=torch.uint8)
    benchmark.pedantic(lambda: embed(model, pixels, 64), rounds=2, warmup_rounds=1)
    weights = sum(weight.numel() for weight in model.backbone.parameters())
    milliseconds = 1000 * benchmark.stats.stats.min / len(pixels)
    inputs = model.input_size or [224]
    print(f"\n| `timm:{name}` | {weights / 1e6:.1f} M | {inputs[0]} | {milliseconds:.0f} s |")
    assert inputs[0] == 224
