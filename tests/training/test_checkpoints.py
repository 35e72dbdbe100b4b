from itertools import islice
from pathlib import Path

import pytest
import torch
from diffusers.training_utils import EMAModel
from torch import nn

from pipeline.training.batches import shuffled
from pipeline.training.checkpoints import Checkpoint
from pipeline.training.loop import fit


class Killed(BaseException):
    """What no handler of the project catches."""


class Run:
    """A small training with all kinds of state: momenta, a schedule, a moving average, dropout."""

    def __init__(self, path: Path, identity: str = "a", optimizer: type[torch.optim.Optimizer] = torch.optim.AdamW):
        torch.manual_seed(0)
        self.model = nn.Sequential(nn.Linear(4, 8), nn.BatchNorm1d(8), nn.Dropout(0.3), nn.Linear(8, 2))
        self.average = EMAModel(self.model.parameters(), decay=0.9)
        self.optimizer = optimizer(self.model.parameters(), lr=0.01)
        self.checkpoint = Checkpoint(path, 5, {"settings": identity, "widths": (4, 8)}, {"average": self.average})
        self.seen: list[int] = []

    def fit(self, killed_at: int | None = None) -> list[dict[str, float]]:
        data = torch.randn(30, 4, generator=torch.Generator().manual_seed(1))

        def objective(model: nn.Module, rows: torch.Tensor) -> dict[str, torch.Tensor]:
            self.seen.append(int(rows[0]))
            if len(self.seen) == killed_at:
                raise Killed
            return {"square": model(data[rows]).square().mean()}

        return fit(
            self.model, self.optimizer, lambda start: islice(shuffled(30, 6, seed=2), start, None), objective, steps=33,
            description="test", warmup=3, checkpoint=self.checkpoint,
            after_step=lambda trained: self.average.step(trained.parameters()),
        )  # fmt: skip

    def weights(self) -> list[torch.Tensor]:
        return [*self.model.state_dict().values(), *self.average.state_dict()["shadow_params"]]


@pytest.mark.parametrize("optimizer", [torch.optim.AdamW, torch.optim.SGD])
@pytest.mark.parametrize("killed_at", [1, 5, 6, 17, 33])
def test_a_killed_training_ends_with_the_same_weights(
    tmp_path: Path, killed_at: int, optimizer: type[torch.optim.Optimizer]
) -> None:
    undisturbed = Run(tmp_path / "a", optimizer=optimizer)
    history = undisturbed.fit()
    killed = Run(tmp_path / "b", optimizer=optimizer)
    with pytest.raises(Killed):
        killed.fit(killed_at)
    again = Run(tmp_path / "b", optimizer=optimizer)
    assert again.fit() == history
    assert again.seen == undisturbed.seen[(killed_at - 1) // 5 * 5 :]
    for own, expected in zip(again.weights(), undisturbed.weights(), strict=True):
        assert torch.equal(own, expected)


def test_a_checkpoint_of_other_settings_is_not_taken_over(tmp_path: Path) -> None:
    Run(tmp_path / "a").fit()
    assert (tmp_path / "a").is_file()
    other = Run(tmp_path / "a", identity="b")
    other.fit()
    assert len(other.seen) == 33
