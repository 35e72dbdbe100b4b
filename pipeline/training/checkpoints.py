"""Training that survives a kill: the whole state of a loop in one safetensors file, without a pickle."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor

from pipeline.runtime.files import atomic_write


class Stateful(Protocol):
    """What has a state to keep: modules, optimisers, schedules, moving averages."""

    def state_dict(self) -> dict[str, Any]: ...
    def load_state_dict(self, state: dict[str, Any], /) -> Any: ...


@dataclass(frozen=True)
class Checkpoint:
    """Where and how often a loop keeps its state.

    Attributes:
        path: the file; its writer removes it when the training's result is safe.
        every: steps between two writes.
        identity: JSON that decides the training (settings, seed, hashes of data); a file of another one is ignored.
        extra: what else has a state, by name.
    """

    path: Path
    every: int
    identity: Any
    extra: Mapping[str, Stateful] = field(default_factory=dict)

    def save(self, step: int, history: list[dict[str, float]], parts: Mapping[str, Stateful]) -> None:
        """Keep the state after `step` steps, in place of the last one kept."""
        tensors: dict[str, Tensor] = {"random": torch.get_rng_state()}
        if torch.cuda.is_available():
            tensors["random on the device"] = torch.cuda.get_rng_state()
        states = {name: _pack(part.state_dict(), tensors) for name, part in {**parts, **self.extra}.items()}
        content = {"identity": self.identity, "step": step, "history": history, "states": states}
        with atomic_write(self.path) as partial:
            save_file(tensors, partial, metadata={"content": json.dumps(content)})

    def restore(self, parts: Mapping[str, Stateful]) -> tuple[int, list[dict[str, float]]]:
        """Take over the state that was kept; returns the steps done and the history so far, 0 and none without one."""
        if not self.path.is_file():
            return 0, []
        with safe_open(self.path, "pt") as file:
            content = json.loads(file.metadata()["content"])
            if content["identity"] != json.loads(json.dumps(self.identity)):
                return 0, []
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        for name, part in {**parts, **self.extra}.items():
            part.load_state_dict(_unpack(content["states"][name], tensors))
        torch.set_rng_state(tensors["random"])
        if "random on the device" in tensors:
            torch.cuda.set_rng_state(tensors["random on the device"])
        return content["step"], content["history"]


def _pack(value: Any, tensors: dict[str, Tensor]) -> Any:
    """JSON of a nested state; its tensors move to `tensors` and leave their names behind."""
    if isinstance(value, Tensor):
        name = str(len(tensors))
        tensors[name] = value.detach().cpu().contiguous().clone()
        return {"tensor": name}
    if isinstance(value, Mapping):  # as pairs: JSON has no integer keys
        return {"pairs": [[key, _pack(item, tensors)] for key, item in value.items()]}
    if isinstance(value, list | tuple):
        return [_pack(item, tensors) for item in value]
    return value


def _unpack(value: Any, tensors: Mapping[str, Tensor]) -> Any:
    """The inverse of `_pack`; tuples come back as lists."""
    if isinstance(value, dict):
        if "tensor" in value:
            return tensors[value["tensor"]]
        return {key: _unpack(item, tensors) for key, item in value["pairs"]}
    return [_unpack(item, tensors) for item in value] if isinstance(value, list) else value
