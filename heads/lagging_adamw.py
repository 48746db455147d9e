"""AdamW for weights that lie frame by frame, of which a step has a gradient for the first frames only.

Most of a long linear map's weights have a gradient of zero at most steps: few videos are long. AdamW moves them all the
same, and for a head that is nearly all there is to do. What it does to a weight without a gradient follows from where
that weight and its moments stood: so it is left where it is, and brought up when its frame is next used.

Axes: F frames, H weights side by side (heads trained at once), K outputs, C channels, B batch.
"""

# ruff: noqa: N803, N806 - letters in names say the axes

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor
from torch.optim.adamw import adamw

BETAS = (0.9, 0.999)
EPS = 1e-8
TILE_NUMBERS = 1 << 20
"""On a CPU a gradient is made and used piece by piece of so many numbers, which stay in its cache."""
TILE_NUMBERS_GPU = 1 << 26
"""The same on a GPU, where each piece is a call more and takes memory only."""
STEPS_AT_A_TIME = 32
"""Steps made up for at once: 0.9^32 is 0.03, from which float32 takes back what it was multiplied into. In the
beginning they are fewer, half of those done: AdamW's corrections change quickly then, and with them what eps means."""
FAR = 10_000_000
"""A number of steps after which AdamW corrects no bias."""
STILL_AFTER = 4 * STEPS_AT_A_TIME
"""After so many steps without a gradient a first moment is a millionth of what it was, and moves nothing any more."""


class LaggingAdamW:
    """AdamW of one weight whose later frames lag behind.

    After :meth:`bring_up` of everything, weight and moments are those that ``torch.optim.AdamW`` comes to, but for
    rounding; for ``eps`` in the steps made up for, which is a mean over some of them (it matters where gradients are as
    small as ``eps``); and for what a millionth of a first moment would have moved.

    Args:
        weight_FHKC: the weights, moved in place.
        weight_decay: AdamW's.
        moments: where it stands: first moment, second moment (both moved in place), and steps done.
    """

    def __init__(
        self,
        weight_FHKC: Float[Tensor, "frames heads outputs channels"],
        weight_decay: float,
        moments: tuple[Tensor, Tensor, int] | None = None,
    ) -> None:
        self._weight = weight_FHKC.detach()
        if moments is None:
            moments = torch.zeros_like(self._weight), torch.zeros_like(self._weight), 0
        self._first, self._second, self.steps = moments
        self._weight_decay = weight_decay
        self._even_at = self.steps  # the step that every frame has at least been brought to
        self._lrs: list[float] = []  # of the steps since
        self._spans: list[tuple[int, int]] = [(len(self._weight), self.steps)]  # up to which frame, at which step
        self._factors: list[tuple[Tensor, Tensor]] = []
        numbers = TILE_NUMBERS if self._weight.device.type == "cpu" else TILE_NUMBERS_GPU
        self._tile = max(1, numbers // self._weight[0].numel())
        self._memory, self._zeros = (torch.zeros_like(self._weight[: self._tile]) for _ in range(2))

    def bring_up(self, frames: int | None = None) -> None:
        """Make up for the steps that the first frames, or all, have sat out."""
        frames = len(self._weight) if frames is None else min(frames, len(self._weight))
        start = 0
        for end, step in self._spans:
            if start < frames and step < self.steps:
                self._make_up(start, min(end, frames), step)
            start = end
        self._reached(frames)

    def learn(
        self, grad_HKB: Float[Tensor, "heads outputs batch"], x_FHBC: Float[Tensor, "used heads batch channels"]
    ) -> None:
        """Add to the gradient of the coming step; the frames have been brought up, and are not changed until it."""
        self._factors.append((grad_HKB, x_FHBC))

    def forget(self) -> None:
        """Drop the gradient."""
        self._factors.clear()

    @torch.no_grad()
    def step(self, lr: float) -> None:
        """Move the frames that have a gradient; without any it is no step, as for AdamW."""
        if not self._factors:
            return
        self.steps += 1
        self._lrs.append(lr)
        frames = max(len(x_FHBC) for _, x_FHBC in self._factors)
        for first in range(0, frames, self._tile):
            last = min(first + self._tile, frames)
            self._move(first, last, self._gradient(first, last), self.steps - 1, AdamWStep(lr, self._weight_decay))
        self._factors.clear()
        self._reached(frames)

    def _gradient(self, first: int, last: int) -> Float[Tensor, "piece heads outputs channels"]:
        made = self._memory[: last - first]
        if len(self._factors) > 1:
            made.zero_()
        for grad_HKB, x_FHBC in self._factors:
            x_fHBC = x_FHBC[first:last]
            if not len(x_fHBC):
                continue
            grad_fKB = grad_HKB.to(x_fHBC.dtype).expand(len(x_fHBC), -1, -1, -1).flatten(0, 1)
            into, x_fBC = made[: len(x_fHBC)].flatten(0, 1), x_fHBC.flatten(0, 1)
            if x_fBC.dtype == into.dtype and len(self._factors) == 1:
                torch.bmm(grad_fKB, x_fBC, out=into)
            elif len(self._factors) == 1:
                into.copy_(torch.bmm(grad_fKB, x_fBC))
            else:
                into += torch.bmm(grad_fKB, x_fBC)
        return made

    def _reached(self, frames: int) -> None:
        later = [span for span in self._spans if span[0] > frames]
        self._spans = [(frames, self.steps), *later] if frames else later
        if not later:
            self._even_at = self.steps
            self._lrs.clear()

    def _make_up(self, start: int, end: int, since: int) -> None:
        """The steps after ``since``, of which these frames had no gradient."""
        done = since
        while done < self.steps:
            moves = done < since + STILL_AFTER
            many = max(1, min(STEPS_AT_A_TIME, done // 2)) if moves else self.steps
            until = min(done + many, self.steps)
            lrs = np.array(self._lrs[done - self._even_at : until - self._even_at])
            settings = _steps_as_one(lrs, done, self._weight_decay, moves=moves)
            for first in range(start, end, self._tile):
                last = min(first + self._tile, end)
                self._move(first, last, self._zeros[: last - first], FAR, settings)
            done = until

    def _move(self, first: int, last: int, gradient: Tensor, steps: int, settings: "AdamWStep") -> None:
        frames = slice(first, last)
        done = torch.full((), float(steps), device=self._weight.device)
        settings.move([self._weight[frames]], [gradient], [self._first[frames]], [self._second[frames]], [done])


@dataclass(frozen=True)
class AdamWStep:
    """Settings of one step of AdamW."""

    lr: float
    weight_decay: float
    beta1: float = BETAS[0]
    beta2: float = BETAS[1]
    eps: float = EPS

    @torch.no_grad()
    def move(
        self,
        weights: Sequence[Tensor],
        gradients: Sequence[Tensor],
        firsts: Sequence[Tensor],
        seconds: Sequence[Tensor],
        steps: Sequence[Tensor],
    ) -> None:
        """Move weights and their moments in one pass over each.

        PyTorch's optimisers call the same; but on a computer without a GPU each of their steps looks for one, which
        takes longer than a small head's arithmetic.

        Args:
            weights: to be moved, as dense in memory as their gradients and moments.
            gradients: of each.
            firsts: first moments.
            seconds: second moments.
            steps: that were done before, counted up by this one.
        """
        adamw(
            list(weights),
            list(gradients),
            list(firsts),
            list(seconds),
            [],
            list(steps),
            fused=True,
            lr=self.lr,
            beta1=self.beta1,
            beta2=self.beta2,
            weight_decay=self.weight_decay,
            eps=self.eps,
            amsgrad=False,
            maximize=False,
        )


def _steps_as_one(lrs: np.ndarray, done: int, weight_decay: float, moves: bool) -> AdamWStep:
    """Settings for one step of AdamW, without a gradient and without correction of bias, that does what several do.

    At step ``s``, ``j`` steps after the last gradient, AdamW without one moves a weight by
    ``lr_s sqrt(1 - b2^s) / (1 - b1^s) (b1 / sqrt(b2))^j m / (sqrt(v) + eps_s)``, after it has decayed; m and v stood
    there at the last gradient, and ``eps_s = eps sqrt(1 - b2^s) / b2^(j/2)``. But for the differences among ``eps_s``
    the sum of these is one multiple of ``m / (sqrt(v) + eps')``; with their mean, weighed by the movements, it is to
    first order in them.

    Args:
        lrs: learning rates of the steps.
        done: steps before them.
        weight_decay: AdamW's.
        moves: whether what is left of the first moment is worth a movement.
    """
    (beta1, beta2), count = BETAS, len(lrs)
    step, idle = done + 1 + np.arange(count), 1 + np.arange(count)
    kept = 1 - lrs * weight_decay
    kept_later = np.append(np.cumprod(kept[:0:-1])[::-1], 1.0)
    each = lrs * np.sqrt(1 - beta2**step) / (1 - beta1**step) * (beta1 / np.sqrt(beta2)) ** idle * kept_later
    eps = EPS * np.sqrt(1 - beta2**step) / beta2 ** (idle / 2)
    shrinks = beta1**count, beta2**count
    lr = float(each.sum()) * np.sqrt(shrinks[1]) / shrinks[0] if moves else float(lrs.mean())
    return AdamWStep(
        lr=lr,
        weight_decay=(1 - float(kept.prod())) / lr if lr else 0.0,
        beta1=shrinks[0],
        beta2=shrinks[1],
        eps=float((each @ eps / each.sum() if each.any() else eps[0]) * np.sqrt(shrinks[1])),
    )
