"""The network that denoises latents. Imported where one is built or loaded: diffusers takes longer than torch."""

import torch
from diffusers import DDPMScheduler, UNet2DModel
from diffusers.configuration_utils import ConfigMixin, register_to_config
from diffusers.models.modeling_utils import ModelMixin
from torch import Tensor, nn

from pipeline.settings.diffusion import Prediction, Schedule
from pipeline.synthesis.diffusion import noise_schedule


class ConditionalUNet(ModelMixin, ConfigMixin):
    """A `UNet2DModel` that takes its condition as an embedding, so that conditions can be mixed before they go in.

    One model serves every method: its condition is a class, features of the teacher, or nothing.

    Args:
        classes: number of ID classes, each a learned embedding that is added to the time's.
        features: dimensions of the teacher's features.
        channels: of the latents.
        size: height and width of the latents.
        widths: channels at each resolution; attention at the lowest.
        schedule, prediction: see `noise_schedule`.
    """

    @register_to_config
    def __init__(
        self,
        classes: int,
        features: int,
        channels: int,
        size: int,
        widths: list[int],
        schedule: Schedule = "cosine",
        prediction: Prediction = "velocity",
    ):
        super().__init__()
        width = 4 * widths[0]
        self.embedding = nn.Embedding(classes + 1, width)  # the last row stands for no condition
        self.projection = nn.Sequential(nn.Linear(features, width), nn.SiLU(), nn.Linear(width, width))
        self.feature_mean: Tensor
        self.feature_std: Tensor
        self.register_buffer("feature_mean", torch.zeros(features))
        self.register_buffer("feature_std", torch.ones(features))
        levels = len(widths) - 1
        self.unet = UNet2DModel(
            sample_size=size,
            in_channels=channels,
            out_channels=channels,
            layers_per_block=1,
            block_out_channels=tuple(widths),
            down_block_types=("DownBlock2D",) * levels + ("AttnDownBlock2D",),
            up_block_types=("AttnUpBlock2D",) + ("UpBlock2D",) * levels,
            norm_num_groups=8,
            class_embed_type="identity",
        )

    def forward(self, noisy: Tensor, timesteps: Tensor, embeddings: Tensor) -> Tensor:
        """(n, C, h, w), (n,), (n, 4 * widths[0]) to a prediction (n, C, h, w)."""
        return self.unet(noisy, timesteps, class_labels=embeddings).sample

    def of_features(self, features: Tensor) -> Tensor:
        """The condition of features (n, d) of the teacher."""
        return self.projection((features - self.feature_mean) / self.feature_std)

    def of_nothing(self, count: int) -> Tensor:
        """`count` times the condition that says nothing."""
        return self.embedding.weight[-1].expand(count, -1)

    @property
    def shape(self) -> tuple[int, int, int]:
        """Shape of one latent."""
        return self.config["channels"], self.config["size"], self.config["size"]

    @property
    def noise_schedule(self) -> DDPMScheduler:
        """The forward process the model was trained for."""
        return noise_schedule(self.config["schedule"], self.config["prediction"])
