"""torchvision's residual network for small images. A module of its own: torchvision takes seconds to import."""

from torch import nn
from torchvision.models.resnet import BasicBlock, ResNet


class SmallImageResNet(ResNet):
    """torchvision's ResNet with a 3x3 first convolution and no pooling after it, up to its pooled features.

    Depth 18 is the CIFAR ResNet-18 of OpenOOD (`ResNet18_32x32`); 6n + 2 is the family of He et al. 2016, section
    4.2 (three stages of 16, 32 and 64 channels), with 1x1 convolutions where its shortcuts change shape.
    """

    def __init__(self, depth: int, channels: int):
        blocks, widths = ([2] * 4, [64, 128, 256, 512]) if depth == 18 else ([(depth - 2) // 6] * 3, [16, 32, 64])
        super().__init__(BasicBlock, [1] * 4, zero_init_residual=False)
        self.inplanes = widths[0]
        self.conv1, self.maxpool = nn.Conv2d(channels, widths[0], 3, padding=1, bias=False), nn.Identity()
        self.bn1, self.fc, self.layer4 = nn.BatchNorm2d(widths[0]), nn.Identity(), nn.Identity()
        for number, (count, width) in enumerate(zip(blocks, widths, strict=True), start=1):
            setattr(self, f"layer{number}", self._make_layer(BasicBlock, width, count, stride=min(number, 2)))
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
        self.num_features = widths[-1]
