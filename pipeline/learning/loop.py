"""The training loop: every network of the project is fitted by this one."""

import math
from collections.abc import Callable, Iterator
from itertools import islice
from typing import Any, TypeVar

import torch
from accelerate import Accelerator
from torch import Tensor, nn

from pipeline.console import track
from pipeline.errors import UserError
from pipeline.learning.checkpoints import Checkpoint

Batch = TypeVar("Batch")
CHECK_EVERY = 25  # steps between looks at the loss: a look waits for the device


def cosine(step: int, steps: int, warmup: int) -> float:
    """Learning-rate factor: linear warm-up, then half a cosine down to 0 at the last step."""
    if step < warmup:
        return (step + 1) / warmup
    return 0.5 * (1 + math.cos(math.pi * (step - warmup) / max(1, steps - warmup)))


def fit(
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    batches: Iterator[Batch],
    objective: Callable[[nn.Module, Batch], dict[str, Tensor]],
    *,
    steps: int,
    description: str,
    warmup: int = 0,
    clip: float | None = None,
    after_step: Callable[[nn.Module], None] | None = None,
    checkpoint: Checkpoint | None = None,
) -> list[dict[str, float]]:
    """Minimise the sum of the objective's terms over `steps` batches; `model` is left in eval mode.

    Args:
        model: trained in place, on the device accelerate picks, in the precision of `accelerate launch`.
        batches: at least `steps` of them, on that device.
        objective: gives the loss terms by name, each a scalar; each is recorded by itself.
        clip: largest gradient norm; None for no limit.
        after_step: called with the bare model after each step (an exponential moving average, say).
        checkpoint: where to keep the state. A killed training goes on there and ends with the same weights, if all
            that is random comes from `batches`, which are drawn again, or from PyTorch's CPU generator.

    Returns:
        the terms' values every 25 steps and at the last one, with `step`.

    Raises:
        UserError: a loss term is not finite.
    """
    accelerator = Accelerator()
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: cosine(step, steps, warmup))
    wrapped, optimizer = accelerator.prepare(model.train(), optimizer)
    parts: dict[str, Any] = {"model": model, "optimizer": optimizer, "schedule": schedule}
    done, history = checkpoint.restore(parts) if checkpoint else (0, [])
    numbered = islice(zip(range(steps), batches, strict=False), done, None)
    for step, batch in track(numbered, description, steps - done):
        with accelerator.autocast():
            terms = objective(wrapped, batch)
        accelerator.backward(torch.stack(list(terms.values())).sum())
        if clip is not None:
            accelerator.clip_grad_norm_(wrapped.parameters(), clip)
        optimizer.step()
        schedule.step()
        optimizer.zero_grad()
        if after_step is not None:
            after_step(model)
        if step % CHECK_EVERY == 0 or step == steps - 1:
            history.append({"step": step} | {name: float(term.detach()) for name, term in terms.items()})
            _check(history[-1], description)
        if checkpoint is not None and (step + 1) % checkpoint.every == 0 and step + 1 < steps:
            checkpoint.save(step + 1, history, parts)
    model.eval()
    return history


def _check(values: dict[str, float], description: str) -> None:
    broken = [name for name, value in values.items() if not math.isfinite(value)]
    if broken:
        raise UserError(
            f"{description}: {', '.join(broken)} not finite at step {values['step']}; lower its learning_rate"
        )
