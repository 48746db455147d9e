"""Videos of different lengths side by side: a batch, and the order in which batches come.

Letters in names say the axes: B batch, F frames, C channels, K classes, N videos.
"""

# ruff: noqa: N803, N815 - letters in names say the axes

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool, Float, Float32, Int64
from torch import Tensor

from actiondiff.heads.ragged import Gatherer, Ragged

BATCHES_A_POOL = 8
"""Batches of similar length are made from so many random batches' worth of videos; fewer videos stay in random order,
because batches that are alike cost accuracy where lengths go with labels (measured: see the room's README)."""
LENGTH_JITTER = 0.1
"""Deviation, as a share of the length, that keeps the same videos from always meeting in one batch."""


@dataclass(frozen=True, eq=False)
class Batch:
    """Padded videos with their labels.

    Attributes:
        features_BFC: zero wherever the mask is False.
        mask_BF: True on real frames; every video has at least one.
        targets_BK: 1 for each label of a video, 0 elsewhere (between them after MixUp).
    """

    features_BFC: Float[Tensor, "*sets batch frames channels"]
    mask_BF: Bool[Tensor, "batch frames"]
    targets_BK: Float[Tensor, "batch classes"]

    def __len__(self) -> int:
        return len(self.targets_BK)

    def __repr__(self) -> str:
        shapes = [tuple(tensor.shape) for tensor in (self.features_BFC, self.mask_BF, self.targets_BK)]
        return f"Batch(features {shapes[0]}, mask {shapes[1]}, targets {shapes[2]})"


def pad(
    features: Sequence[np.ndarray], max_length: int | None = None
) -> tuple[Float[Tensor, "batch frames channels"], Bool[Tensor, "batch frames"]]:
    """Put videos side by side, zeros behind the shorter ones.

    Args:
        features: one (frames, channels) array a video, each with a frame or more.
        max_length: frames beyond this many are dropped.

    Returns:
        The padded features, as long as the longest video, and the mask that is True on real frames.

    Raises:
        InputError: no video, a video without frames, or different channels.
    """
    return Gatherer(Ragged.of(features)).batch(np.arange(len(features)), max_length)


def collate(
    features: Sequence[np.ndarray], targets_BK: Float32[np.ndarray, "batch classes"], max_length: int | None = None
) -> Batch:
    """Make a batch of some videos; arguments as :func:`pad`, and a row of targets for each."""
    padded, mask = pad(features, max_length)
    return Batch(padded, mask, torch.from_numpy(np.ascontiguousarray(targets_BK)))


class Order:
    """Which videos come together: every video once an epoch, batches of similar length, another order each epoch.

    The order of an epoch follows from seed and epoch alone, so that a fit may stop after any epoch and go on later.

    Args:
        lengths_N: frames of each video that are used.
        batch_size: videos a batch; the last of an epoch's batches to be cut may be smaller.
        seed: of the order.
        batches_at_a_time: how many are handed over together; what hands them on takes time for each turn.
    """

    def __init__(
        self, lengths_N: Int64[np.ndarray, " videos"], batch_size: int, seed: int, batches_at_a_time: int = 1
    ) -> None:
        self._lengths_N, self._batch_size, self._seed, self._together = lengths_N, batch_size, seed, batches_at_a_time
        self.epoch = 0

    @property
    def batches(self) -> int:
        """Of an epoch."""
        return -(-len(self._lengths_N) // self._batch_size)

    def __len__(self) -> int:
        return -(-self.batches // self._together)

    def __iter__(self) -> Iterator[list[np.ndarray]]:
        """The batches of ``epoch`` as indices of videos, several together."""
        batches = self._of_epoch()
        return (batches[at : at + self._together] for at in range(0, len(batches), self._together))

    def _of_epoch(self) -> list[np.ndarray]:
        rng = np.random.default_rng([self._seed, 0, self.epoch])
        order = rng.permutation(len(self._lengths_N))
        jittered = self._lengths_N * (1 + LENGTH_JITTER * rng.standard_normal(len(self._lengths_N)))
        pool_size = BATCHES_A_POOL * self._batch_size
        batches: list[np.ndarray] = []
        for start in range(0, len(order), pool_size):
            pool = order[start : start + pool_size]
            if len(order) > pool_size:
                pool = pool[np.argsort(jittered[pool], kind="stable")]
            batches += [pool[at : at + self._batch_size] for at in range(0, len(pool), self._batch_size)]
        return [batches[number] for number in rng.permutation(len(batches))]
