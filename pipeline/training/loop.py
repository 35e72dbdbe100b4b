"""The training loop: every network of the project is fitted by this one, by one process or by several."""

import math
from collections.abc import Callable, Iterator
from typing import Any, TypeVar

import torch
from accelerate import Accelerator
from torch import Tensor, nn

from pipeline.runtime.console import track
from pipeline.runtime.errors import UserError
from pipeline.runtime.processes import average, count, is_first, share
from pipeline.training.checkpoints import Checkpoint
from pipeline.training.precision import Resolved

Batch = TypeVar("Batch")
Row = dict[str, float]  # `step`, and the value of each of the objective's terms
CHECK_EVERY = 25  # steps between looks at the loss: a look waits for the device


def cosine(step: int, steps: int, warmup: int) -> float:
    """Learning-rate factor: linear warm-up, then half a cosine down to 0 at the last step."""
    if step < warmup:
        return (step + 1) / warmup
    return 0.5 * (1 + math.cos(math.pi * (step - warmup) / max(1, steps - warmup)))


class _Loss(nn.Module):
    """The model and its objective as one module, so that several processes average the gradients of both."""

    def __init__(self, model: nn.Module, objective: Callable[[nn.Module, Any], dict[str, Tensor]]):
        super().__init__()
        self.model, self.objective = model, objective

    def forward(self, batch: Any) -> dict[str, Tensor]:
        return self.objective(self.model, batch)


def _own_rows(batch: Any) -> Any:
    """This process' share of a batch: of a tuple of tensors with one row per item."""
    if count() == 1:
        return batch
    columns: list[Any] = [share(column) for column in batch]
    return type(batch)(*(column.clone() for column in columns))  # a stride in the rows slows what follows


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
    precision: Resolved = "float32",
    compiled: bool = False,
    after_step: Callable[[nn.Module], None] | None = None,
    callback: Callable[[Row], None] | None = None,
    checkpoint: Checkpoint | None = None,
) -> list[Row]:
    """Minimise the sum of the objective's terms over `steps` batches; `model` is left in eval mode.

    Several processes take the same batches, each works on its share of the rows, and gradients are averaged. On GPUs
    batch normalisation sees the whole batch; on processors each process normalises its share by itself.

    Args:
        model: trained in place, on the device accelerate picks.
        batches: gives the batches from a step on, on that device; named tuples of tensors with one row per item.
        objective: gives scalars by name, each recorded by itself; those without a gradient are only recorded.
        clip: largest gradient norm; None for no limit.
        precision: bfloat16 for automatic mixed precision; weights stay float32.
        compiled: let `torch.compile` translate the model first.
        after_step: called with the bare model after each step (a moving average, say).
        callback: called with each row of the history as soon as it is known, a resumed run's earlier rows too.
        checkpoint: where to keep the state. A killed training goes on there and ends with the same weights, if all
            that is random comes from `batches`, whose batch i is the same every time, or PyTorch's CPU generator.

    Returns:
        the terms' values every 25 steps and at the last one, with `step`.

    Raises:
        UserError: a term is not finite.
    """
    accelerator = Accelerator()
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: cosine(step, steps, warmup))
    if count() > 1 and accelerator.device.type == "cuda":
        model = nn.SyncBatchNorm.convert_sync_batchnorm(model)
    run: Any = torch.compile(model.train()) if compiled else model.train()
    loss, optimizer = accelerator.prepare(_Loss(run, objective), optimizer)
    parts: dict[str, Any] = {"model": model, "optimizer": optimizer, "schedule": schedule}
    done, history = checkpoint.restore(parts) if checkpoint else (0, [])
    callback = callback or (lambda row: None)
    for row in history:
        callback(row)
    for step, batch in track(zip(range(done, steps), batches(done), strict=False), description, steps - done):
        terms = _backward(loss, _own_rows(batch), accelerator, precision)
        if clip is not None:
            accelerator.clip_grad_norm_(model.parameters(), clip)
        optimizer.step()
        schedule.step()
        optimizer.zero_grad()
        if after_step is not None:
            after_step(model)
        if step % CHECK_EVERY == 0 or step == steps - 1:
            values = average({name: value.detach() for name, value in terms.items()})
            history.append(_row(step, values, description))
            callback(history[-1])
        if checkpoint is not None and is_first() and ((step + 1) % checkpoint.every == 0 or step + 1 == steps):
            checkpoint.save(step + 1, history, parts)
    model.eval()
    return history


def _backward(loss: nn.Module, batch: Any, accelerator: Accelerator, precision: Resolved) -> dict[str, Tensor]:
    """The terms of a batch, by name, whose sum has been differentiated."""
    with torch.autocast(accelerator.device.type, torch.bfloat16, enabled=precision == "bfloat16"):
        terms: dict[str, Tensor] = loss(batch)
    accelerator.backward(torch.stack([term for term in terms.values() if term.requires_grad]).sum())
    return terms


def _row(step: int, values: dict[str, Tensor], description: str) -> Row:
    row: Row = {"step": step} | {name: float(value) for name, value in values.items()}
    if broken := [name for name, value in row.items() if not math.isfinite(value)]:
        raise UserError(f"{description}: {', '.join(broken)} not finite at step {step}; lower its learning_rate")
    return row
