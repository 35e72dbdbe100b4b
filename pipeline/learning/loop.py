"""The training loop: every network of the project is fitted by this one."""

import math
from collections.abc import Callable, Iterator
from typing import Any, Literal, TypeVar

import torch
from accelerate import Accelerator
from torch import Tensor, nn

from pipeline.console import track
from pipeline.errors import UserError
from pipeline.learning.checkpoints import Checkpoint

Batch = TypeVar("Batch")
Row = dict[str, float]  # `step`, and the value of each of the objective's terms
Precision = Literal["float32", "bfloat16"]
CHECK_EVERY = 25  # steps between looks at the loss: a look waits for the device


def cosine(step: int, steps: int, warmup: int) -> float:
    """Learning-rate factor: linear warm-up, then half a cosine down to 0 at the last step."""
    if step < warmup:
        return (step + 1) / warmup
    return 0.5 * (1 + math.cos(math.pi * (step - warmup) / max(1, steps - warmup)))


def fit(
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    batches: Callable[[int], Iterator[Batch]],
    objective: Callable[[nn.Module, Batch], dict[str, Tensor]],
    *,
    steps: int,
    description: str,
    warmup: int = 0,
    clip: float | None = None,
    precision: Precision = "float32",
    compiled: bool = False,
    after_step: Callable[[nn.Module], None] | None = None,
    look: Callable[[Row], None] | None = None,
    checkpoint: Checkpoint | None = None,
) -> list[Row]:
    """Minimise the sum of the objective's terms over `steps` batches; `model` is left in eval mode.

    Args:
        model: trained in place, on the device accelerate picks.
        batches: gives the batches from a step on, on that device.
        objective: gives scalars by name, each recorded by itself; those without a gradient are only recorded.
        clip: largest gradient norm; None for no limit.
        precision: bfloat16 for automatic mixed precision; weights stay float32.
        compiled: let `torch.compile` translate the model first.
        after_step: called with the bare model after each step (a moving average, say).
        look: called with each row of the history as soon as it is known, a resumed run's earlier rows too.
        checkpoint: where to keep the state. A killed training goes on there and ends with the same weights, if all
            that is random comes from `batches`, whose batch i is the same every time, or PyTorch's CPU generator.

    Returns:
        the terms' values every 25 steps and at the last one, with `step`.

    Raises:
        UserError: a term is not finite.
    """
    accelerator = Accelerator()
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: cosine(step, steps, warmup))
    wrapped, optimizer = accelerator.prepare(model.train(), optimizer)
    run: Any = torch.compile(wrapped) if compiled else wrapped
    parts: dict[str, Any] = {"model": model, "optimizer": optimizer, "schedule": schedule}
    done, history = checkpoint.restore(parts) if checkpoint else (0, [])
    look = look or (lambda row: None)
    for row in history:
        look(row)
    for step, batch in track(zip(range(done, steps), batches(done), strict=False), description, steps - done):
        with torch.autocast(accelerator.device.type, torch.bfloat16, enabled=precision == "bfloat16"):
            terms = objective(run, batch)
        accelerator.backward(torch.stack([term for term in terms.values() if term.requires_grad]).sum())
        if clip is not None:
            accelerator.clip_grad_norm_(wrapped.parameters(), clip)
        optimizer.step()
        schedule.step()
        optimizer.zero_grad()
        if after_step is not None:
            after_step(model)
        if step % CHECK_EVERY == 0 or step == steps - 1:
            history.append(_row(step, terms, description))
            look(history[-1])
        if checkpoint is not None and ((step + 1) % checkpoint.every == 0 or step + 1 == steps):
            checkpoint.save(step + 1, history, parts)
    model.eval()
    return history


def _row(step: int, values: dict[str, Tensor], description: str) -> Row:
    row: Row = {"step": step} | {name: float(value.detach()) for name, value in values.items()}
    if broken := [name for name, value in row.items() if not math.isfinite(value)]:
        raise UserError(f"{description}: {', '.join(broken)} not finite at step {step}; lower its learning_rate")
    return row
