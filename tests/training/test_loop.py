import math
from collections.abc import Iterator

import pytest
import torch

from pipeline.runtime.errors import UserError
from pipeline.training.loop import cosine, fit


def line(start: int) -> Iterator[torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    while True:
        yield torch.randn(32, 1, generator=generator)


def squared_error(model: torch.nn.Module, x: torch.Tensor) -> dict[str, torch.Tensor]:
    error = (model(x) - (3 * x - 1)).square().mean()
    return {"error": error, "distance": error.detach().sqrt()}


def test_fit_solves_a_regression_and_records_each_term() -> None:
    torch.manual_seed(0)
    model = torch.nn.Linear(1, 1)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    history = fit(model, optimizer, line, squared_error, steps=101, description="line", warmup=5)
    assert [row["step"] for row in history] == [0, 25, 50, 75, 100]
    assert history[-1]["error"] < 1e-3 < history[0]["error"]
    assert all(row["distance"] == pytest.approx(row["error"] ** 0.5) for row in history), "recorded, not minimised"
    assert not model.training
    torch.testing.assert_close(model.weight.detach(), torch.tensor([[3.0]]), atol=0.02, rtol=0)


def test_a_loss_that_is_not_finite_stops_with_advice() -> None:
    model = torch.nn.Linear(1, 1)
    optimizer = torch.optim.SGD(model.parameters(), lr=1e30)
    with pytest.raises(UserError, match="line: error, distance not finite at step 25; lower its learning_rate"):
        fit(model, optimizer, line, squared_error, steps=60, description="line")


def test_learning_rate_schedule() -> None:
    assert [cosine(step, 100, 4) for step in range(4)] == [0.25, 0.5, 0.75, 1.0]
    assert cosine(4, 100, 4) == 1 and cosine(52, 100, 4) == pytest.approx(0.5) and cosine(100, 100, 4) == 0
    assert cosine(25, 100, 0) == pytest.approx((1 + math.cos(math.pi / 4)) / 2)


def test_after_step_sees_the_bare_model() -> None:
    model, seen = torch.nn.Linear(1, 1), []
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    fit(model, optimizer, line, squared_error, steps=3, description="line", after_step=seen.append)
    assert [item is model for item in seen] == [True] * 3
