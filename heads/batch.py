"""Videos of different lengths side by side: the room's only padding function and the batch it makes.

Letters in names say the axes: B batch, F frames, C channels, K classes, N videos.
"""

# ruff: noqa: N803, N815 - letters in names say the axes

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool, Float, Float32
from torch import Tensor

from actiondiff import InputError


@dataclass(frozen=True, eq=False)
class Batch:
    """Padded videos with their labels.

    Attributes:
        features_BFC: zero wherever the mask is False.
        mask_BF: True on real frames; every video has at least one.
        targets_BK: 1 for each label of a video, 0 elsewhere (between them after MixUp).
        video_ids: whose rows these are, in order.
    """

    features_BFC: Float[Tensor, "batch frames channels"]
    mask_BF: Bool[Tensor, "batch frames"]
    targets_BK: Float[Tensor, "batch classes"]
    video_ids: tuple[str, ...]

    def __post_init__(self) -> None:
        rows = {len(self.features_BFC), len(self.mask_BF), len(self.targets_BK), len(self.video_ids)}
        if len(rows) != 1 or self.features_BFC.shape[:2] != self.mask_BF.shape:
            raise InputError(f"Features, mask, targets and ids of a batch belong together; got {self!r}")

    def to(self, device: torch.device | str, non_blocking: bool = False) -> "Batch":
        """The same batch on another device (Lightning calls this)."""
        features, mask, targets = (
            tensor.to(device, non_blocking=non_blocking)
            for tensor in (self.features_BFC, self.mask_BF, self.targets_BK)
        )
        return Batch(features, mask, targets, self.video_ids)

    def __len__(self) -> int:
        return len(self.video_ids)

    def __repr__(self) -> str:
        shapes = [tuple(tensor.shape) for tensor in (self.features_BFC, self.mask_BF, self.targets_BK)]
        return f"Batch(features {shapes[0]}, mask {shapes[1]}, targets {shapes[2]}, {len(self.video_ids)} ids)"


def pad(
    features: Sequence[Float32[np.ndarray, "_ channels"]], max_length: int | None = None
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
    cut = [array[:max_length] for array in features]
    if not cut or any(len(array) == 0 for array in cut) or len({array.shape[1] for array in cut}) != 1:
        shapes = sorted({array.shape for array in features})
        raise InputError(f"Videos of a batch have one frame or more and the same channels; got shapes {shapes}.")
    lengths = torch.tensor([len(array) for array in cut])
    padded = torch.zeros(len(cut), int(lengths.max()), cut[0].shape[1])
    for row, array in zip(padded, cut, strict=True):
        row[: len(array)] = torch.from_numpy(array)
    return padded, torch.arange(padded.shape[1]) < lengths[:, None]


def collate(
    features: Sequence[Float32[np.ndarray, "_ channels"]],
    targets_BK: Float32[np.ndarray, "batch classes"],
    video_ids: Sequence[str],
    max_length: int | None = None,
) -> Batch:
    """Make a batch of some videos; arguments as :func:`pad`, and a row of targets and an id for each."""
    padded, mask = pad(features, max_length)
    return Batch(padded, mask, torch.from_numpy(np.ascontiguousarray(targets_BK)), tuple(video_ids))
