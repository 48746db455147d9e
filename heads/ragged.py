"""Videos of different lengths as rows of one array: what batches are gathered from without a step of Python a video.

Axes: R rows of all videos, C channels, N videos, B videos of a batch, F frames.
"""

# ruff: noqa: N803, N806 - letters in names say the axes

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import overload

import numpy as np
import torch
from jaxtyping import Bool, Float, Int64, Shaped
from torch import Tensor

from actiondiff import InputError

Rows = Callable[[Tensor], Tensor]
"""What is done to gathered (rows, channels) before they are put side by side."""


class Ragged(Sequence[np.ndarray]):
    """Rows of several videos in one array, and where each video's begin; a subset shares the rows.

    Args:
        rows_RC: the rows, in the store's dtype; may be a memory map.
        starts_N: each video's first row.
        lengths_N: each video's number of rows, 1 or more.
    """

    def __init__(
        self,
        rows_RC: Shaped[np.ndarray, "rows channels"],
        starts_N: Int64[np.ndarray, " videos"],
        lengths_N: Int64[np.ndarray, " videos"],
    ) -> None:
        self.rows_RC, self.starts_N, self.lengths_N = rows_RC, starts_N, lengths_N

    @classmethod
    def of(cls, videos: Iterable[Shaped[np.ndarray, "_ channels"]]) -> "Ragged":
        """From one (frames, channels) array a video.

        Raises:
            InputError: no video, a video without frames, or different channels.
        """
        if isinstance(videos, cls):
            return videos
        arrays = list(videos)
        if not arrays or any(len(array) == 0 for array in arrays) or len({array.shape[1] for array in arrays}) != 1:
            shapes = sorted({array.shape for array in arrays})
            raise InputError(f"Videos have one frame or more and the same channels; got shapes {shapes}.")
        return cls.of_offsets(np.concatenate(arrays), np.cumsum([0, *map(len, arrays)], dtype=np.int64))

    @classmethod
    def of_offsets(cls, rows_RC: np.ndarray, row_offsets: Int64[np.ndarray, " videos_and_one"]) -> "Ragged":
        """From rows one video after another, as a store loads them."""
        return cls(rows_RC, row_offsets[:-1], np.diff(row_offsets))

    @property
    def channels(self) -> int:
        """Of every row."""
        return self.rows_RC.shape[1]

    def __len__(self) -> int:
        return len(self.starts_N)

    @overload
    def __getitem__(self, index: int) -> np.ndarray: ...
    @overload
    def __getitem__(self, index: slice) -> "Ragged": ...
    def __getitem__(self, index: int | slice) -> "np.ndarray | Ragged":
        if isinstance(index, slice):
            return self.subset(np.arange(len(self))[index])
        start = self.starts_N[index]
        return np.asarray(self.rows_RC[start : start + self.lengths_N[index]], dtype=np.float32)

    def __iter__(self) -> Iterator[np.ndarray]:
        return (self[index] for index in range(len(self)))

    def row_numbers(self, max_length: int | None = None) -> Int64[np.ndarray, " rows"]:
        """Numbers of the rows that these videos have, video by video, at most ``max_length`` of each."""
        lengths_N = self.lengths_N if max_length is None else np.minimum(self.lengths_N, max_length)
        return np.repeat(self.starts_N, lengths_N) + frame_numbers(lengths_N)

    def subset(self, indices: Sequence[int] | np.ndarray) -> "Ragged":
        """Some of the videos, in the order of the indices; their rows stay where they are."""
        chosen = np.asarray(indices, dtype=np.int64)
        return Ragged(self.rows_RC, self.starts_N[chosen], self.lengths_N[chosen])


class Gatherer:
    """Pads videos side by side on a device: the room's only padding of features.

    The rows are put on the device once where they fit; else each batch's are taken from where they lie and sent.

    Args:
        videos: one set of rows, or several of the same videos (other layers and timesteps), each with its own batch.
        device: where batches are wanted.
        reuse: whether each batch is written over the one before, which spares finding fresh memory for large ones.
        frames_first: whether the videos of a frame, of all sets, lie together in memory; shapes are the same.
    """

    def __init__(
        self,
        videos: Ragged | Sequence[Ragged],
        device: torch.device | str = "cpu",
        *,
        reuse: bool = False,
        frames_first: bool = False,
    ) -> None:
        sets = [videos] if isinstance(videos, Ragged) else list(videos)
        first = sets[0]
        if any((other.lengths_N != first.lengths_N).any() for other in sets):
            raise InputError("Features of several layers and timesteps belong to the same frames of the same videos.")
        self._device = torch.device(device)
        self._frames_first = frames_first
        self._reuse, self._memory = reuse, torch.empty(0, device=self._device)
        self._starts_N = [each.starts_N for each in sets]
        self.lengths_N, self.channels, self._alone = first.lengths_N, first.channels, isinstance(videos, Ragged)
        rows = [torch.from_numpy(each.rows_RC) for each in sets]
        stays = self._device.type == "cpu" or not _fits(rows, self._device)
        self._rows = rows if stays else [each.to(self._device) for each in rows]

    def batch(
        self,
        indices: Int64[np.ndarray, " batch"],
        max_length: int | None = None,
        change: Rows | Sequence[Rows | None] | None = None,
    ) -> tuple[Float[Tensor, "*sets batch frames channels"], Bool[Tensor, "batch frames"]]:
        """Features of some videos, float32, zeros behind the shorter ones, and the mask that is True on real frames.

        Where a video's last frame is not finite, what is behind it is not a number.

        Args:
            indices: which videos.
            max_length: frames beyond this many are dropped.
            change: applied to the real rows, such as standardisation; one for all sets or one for each.
        """
        changes = [change] * len(self._rows) if change is None or callable(change) else change
        lengths_B = self.lengths_N[indices]
        if max_length is not None:
            lengths_B = np.minimum(lengths_B, max_length)
        longest = int(lengths_B.max())
        frame_F = np.arange(longest)
        within_BF = np.minimum(frame_F, lengths_B[:, None] - 1)  # padding repeats the last frame until it is zeroed
        mask_BF = frame_F < lengths_B[:, None]
        memory = self._empty(len(indices), longest)
        padded_SBFC = memory.permute(1, 2, 0, 3) if self._frames_first else memory
        for own_BFC, rows, starts_N, made in zip(padded_SBFC, self._rows, self._starts_N, changes, strict=True):
            rows_BF = starts_N[indices][:, None] + within_BF
            own = own_BFC.transpose(0, 1) if self._frames_first else own_BFC
            taken = torch.from_numpy((rows_BF.T if self._frames_first else rows_BF).ravel()).to(rows.device)
            found = rows.index_select(0, taken).to(self._device)
            own.copy_((found if made is None else made(found.float())).view(own.shape))
        mask = torch.from_numpy(mask_BF).to(self._device)
        real = (mask.T[:, None] if self._frames_first else mask)[..., None]  # as the memory lies, for all sets
        memory *= real.float()  # twenty times as fast as masked_fill, five times as fast as index_fill
        return padded_SBFC[0] if self._alone else padded_SBFC, mask

    def _empty(self, batch: int, frames: int) -> Float[Tensor, "_ _ _ channels"]:
        sets, first = len(self._rows), self._frames_first
        shape = (frames, sets, batch, self.channels) if first else (sets, batch, frames, self.channels)
        if not self._reuse:
            return torch.empty(shape, device=self._device)
        if self._memory.numel() < math.prod(shape):
            self._memory = torch.empty(math.prod(shape), device=self._device)
        return self._memory[: math.prod(shape)].view(shape)


def frame_numbers(lengths_N: Int64[np.ndarray, " videos"]) -> Int64[np.ndarray, " rows"]:
    """For each row of videos of these lengths its number within its video: 0, 1, 2, 0, 1, ..."""
    return np.arange(lengths_N.sum()) - np.repeat(np.cumsum(lengths_N) - lengths_N, lengths_N)


def _fits(rows: Sequence[Tensor], device: torch.device) -> bool:
    """Whether the rows leave half of a GPU's free memory to the rest."""
    free, _ = torch.cuda.mem_get_info(device)
    return sum(each.nbytes for each in rows) <= free // 2
