"""The state of a fit after an epoch, as one safetensors file: weights, optimiser and history, never a pickle."""

import json
import os
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from actiondiff import InputError

SAVE_EVERY_SECONDS = 60.0


@dataclass(frozen=True, eq=False)
class FitState:
    """Where a fit stands at the end of an epoch.

    Order, MixUp and dropout of an epoch follow from seed and epoch, and the learning rate from the step, so that no
    generator and no scheduler has a state of its own.

    Attributes:
        weights: of the head.
        best_weights: of its best epoch so far; empty where there is none.
        moments: AdamW's, by number of the parameter: ``step``, ``exp_avg``, ``exp_avg_sq``.
        history: the record of each epoch done.
        best_epoch: counted from 1, 0 for none.
        best_value: its validation metric.
    """

    weights: dict[str, Tensor]
    best_weights: dict[str, Tensor]
    moments: dict[int, dict[str, Tensor]]
    history: tuple[dict[str, Any], ...]
    best_epoch: int
    best_value: float

    @staticmethod
    def moments_of(optimizer: torch.optim.Optimizer) -> dict[int, dict[str, Tensor]]:
        """An optimiser's state, on the CPU."""
        state = optimizer.state_dict()["state"]
        return {number: {name: value.detach().cpu() for name, value in own.items()} for number, own in state.items()}

    def optimizer_state(self, optimizer: torch.optim.Optimizer) -> dict[str, Any]:
        """As ``load_state_dict`` of an optimiser takes it."""
        [group] = optimizer.param_groups
        settings = {name: value for name, value in group.items() if name != "params"}
        return {"state": self.moments, "param_groups": [{**settings, "params": list(range(len(group["params"])))}]}

    def save(self, path: Path, identity: dict[str, Any]) -> None:
        """Write in one atomic step.

        Args:
            path: the file.
            identity: what makes the fit the one that it is.
        """
        tensors = {f"weights/{name}": value for name, value in self.weights.items()}
        tensors |= {f"best/{name}": value for name, value in self.best_weights.items()}
        tensors |= {f"moments/{n}/{name}": value for n, own in self.moments.items() for name, value in own.items()}
        record = {
            "identity": identity,
            "history": self.history,
            "best_epoch": self.best_epoch,
            "best_value": None if self.best_epoch == 0 else self.best_value,
        }
        path.parent.mkdir(parents=True, exist_ok=True)
        partial = path.with_name(f".{path.name}.{os.getpid()}")
        try:
            save_file({n: v.contiguous() for n, v in tensors.items()}, partial, {"fit": json.dumps(record)})
            with partial.open("rb+") as file:
                os.fsync(file.fileno())
            partial.replace(path)
        finally:
            partial.unlink(missing_ok=True)

    @classmethod
    def load(cls, path: Path, identity: dict[str, Any]) -> "FitState":
        """Read a state of the same fit.

        Raises:
            InputError: damaged, or of another fit; the message says what differs.
        """
        try:
            with safe_open(path, "pt") as file:
                record = json.loads(file.metadata()["fit"])
                tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - no mapping
        except (SafetensorError, KeyError, TypeError, ValueError) as error:
            raise InputError(f"{path} is not the state of a fit. Remove it and fit without --resume.") from error
        theirs = record["identity"]
        if differs := [name for name in identity if theirs.get(name) != json.loads(json.dumps(identity[name]))]:
            shown = "; ".join(_difference(name, theirs.get(name), identity[name]) for name in differs)
            raise InputError(
                f"{path} is the state of another fit, it differs in {shown}. Give the same options and data to go on "
                "with it, or remove it and fit without --resume."
            )
        moments: dict[int, dict[str, Tensor]] = {}
        for name in tensors:
            kind, _, rest = name.partition("/")
            if kind == "moments":
                number, _, moment = rest.partition("/")
                moments.setdefault(int(number), {})[moment] = tensors[name]
        best_value = float("-inf") if record["best_value"] is None else record["best_value"]
        weights, best = ({n[len(k) :]: v for n, v in tensors.items() if n.startswith(k)} for k in ("weights/", "best/"))
        return cls(weights, best, moments, tuple(record["history"]), record["best_epoch"], best_value)


def _difference(name: str, theirs: Any, ours: Any) -> str:
    if isinstance(theirs, dict) and isinstance(ours, dict):
        names = [key for key in ours if theirs.get(key) != ours[key]]
        return ", ".join(f"{key}: {theirs.get(key)!r} there, {ours[key]!r} here" for key in names)
    shown = [repr(value) if len(repr(value)) < 40 else "another" for value in (theirs, ours)]
    return name if "another" in shown else f"{name}: {shown[0]} there, {shown[1]} here"


@dataclass
class Checkpoint:
    """Where and how often the state of a fit is written.

    Attributes:
        path: the file.
        identity: what makes the fit the one that it is.
        every_seconds: the least time between two writings; short fits write nothing.
        resume: whether to go on from what is there.
    """

    path: Path
    identity: dict[str, Any]
    every_seconds: float = field(default_factory=lambda: SAVE_EVERY_SECONDS)
    resume: bool = False

    def __post_init__(self) -> None:
        self._last = time.monotonic()

    def found(self) -> FitState | None:
        """The state to go on from; None where there is none or none was asked for."""
        return FitState.load(self.path, self.identity) if self.resume and self.path.exists() else None

    @property
    def is_due(self) -> bool:
        """Whether it is time to write."""
        return time.monotonic() - self._last >= self.every_seconds

    def save(self, state: FitState) -> None:
        """Write the state."""
        state.save(self.path, self.identity)
        self._last = time.monotonic()

    def remove(self) -> None:
        """The fit is done."""
        self.path.unlink(missing_ok=True)
