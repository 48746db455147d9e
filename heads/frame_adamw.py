"""AdamW for heads with linear maps of frames, as Lightning wants an optimiser."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from actiondiff.heads.frame_linear import FrameLinear, frames_first, outputs_first
from actiondiff.heads.lagging_adamw import BETAS, EPS, AdamWStep, LaggingAdamW


class FrameAdamW(torch.optim.AdamW):
    """``torch.optim.AdamW`` of a head, whose :class:`FrameLinear` layers' later frames may lag behind.

    Before a weight itself is read, :meth:`bring_up`; state dicts, the head's and this one's, do so by themselves. This
    one's is that of AdamW on ``nn.Linear`` layers.

    Args:
        head: whose parameters are trained.
        lr: the learning rate.
        weight_decay: AdamW's.
        lagging: whether frames may lag; False where gradients have to go through autograd, as between processes.
    """

    def __init__(self, head: nn.Module, lr: float, weight_decay: float, *, lagging: bool = True) -> None:
        super().__init__(head.parameters(), lr=lr, weight_decay=weight_decay, betas=BETAS, eps=EPS, fused=True)
        self._layers = [module for module in head.modules() if isinstance(module, FrameLinear)]
        self._learners: list[LaggingAdamW] = []
        self._release_layers()
        if lagging:
            self._attach()

    def _attach(self) -> None:
        for layer in self._layers:
            own = self._state_of(layer.weight)
            moments = own["exp_avg"].unsqueeze(1), own["exp_avg_sq"].unsqueeze(1), int(own["step"])
            layer.learner = LaggingAdamW(layer.weight.unsqueeze(1), self.param_groups[0]["weight_decay"], moments)
            self._learners.append(layer.learner)

    def _state_of(self, parameter: nn.Parameter) -> dict[str, Tensor]:
        if not self.state[parameter]:
            self.state[parameter] = {
                "step": torch.zeros((), device=parameter.device),
                "exp_avg": torch.zeros_like(parameter),
                "exp_avg_sq": torch.zeros_like(parameter),
            }
        return self.state[parameter]

    def step(self) -> None:  # type: ignore[override]  # takes no closure: gradients are there
        """Move what has a gradient."""
        settings = self.param_groups[0]
        for learner in self._learners:
            learner.step(settings["lr"])
        moved = {parameter: parameter.grad for parameter in settings["params"] if parameter.grad is not None}
        states = [self._state_of(parameter) for parameter in moved]
        AdamWStep(settings["lr"], settings["weight_decay"]).move(
            list(moved),
            list(moved.values()),
            *([state[name] for state in states] for name in ("exp_avg", "exp_avg_sq", "step")),
        )

    def bring_up(self) -> None:
        """Let no frame lag."""
        for layer, learner in zip(self._layers, self._learners, strict=False):
            learner.bring_up()
            self.state[layer.weight]["step"].fill_(learner.steps)

    def zero_grad(self, set_to_none: bool = True) -> None:
        """Begin a gradient anew."""
        super().zero_grad(set_to_none)
        for learner in self._learners:
            learner.forget()

    def detach(self) -> None:
        """Leave the head as any other."""
        self.bring_up()
        self._release_layers()

    def _release_layers(self) -> None:
        for layer in self._layers:
            if layer.learner is not None:
                layer.learner.bring_up()
            layer.learner = None
        self._learners.clear()

    def state_dict(self) -> dict[str, Any]:
        """As AdamW's on ``nn.Linear`` layers."""
        self.bring_up()
        whole, numbers = super().state_dict(), self._numbers()
        whole["state"] = whole["state"] | {
            number: {name: outputs_first(value) if value.dim() == 3 else value for name, value in own.items()}
            for number, own in whole["state"].items()
            if number in numbers
        }
        return whole

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """From :meth:`state_dict`."""
        state = dict(state_dict["state"])
        for number, layer in zip(self._numbers(), self._layers, strict=True):
            if number in state:
                channels = layer.weight.shape[2]
                state[number] = {n: frames_first(v, channels) if v.dim() == 2 else v for n, v in state[number].items()}
        super().load_state_dict(state_dict | {"state": state})
        if self._learners:
            self._release_layers()
            self._attach()

    def _numbers(self) -> Sequence[int]:
        """Of the layers' weights among the parameters."""
        parameters = self.param_groups[0]["params"]
        return [
            next(number for number, each in enumerate(parameters) if each is layer.weight) for layer in self._layers
        ]
