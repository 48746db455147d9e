"""A video's features while they come in, window by window, already as they will lie on disk."""

from collections.abc import Mapping, Sequence

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from actiondiff.extract.planning import Task
from actiondiff.extract.windows import Window
from actiondiff.store import Failure, FeatureKey, Source, VideoFeatures, as_stored

HostFeatures = dict[FeatureKey, Float[np.ndarray, "_ _"]]


class Rows:
    """Gathers one video: its windows arrive in order, some of them perhaps later than its end.

    Args:
        task: the video and the features wanted of it.
        store_dtype: of the rows that are kept; in float16 an hour of video needs half the memory.
    """

    def __init__(self, task: Task, store_dtype: str) -> None:
        self.task = task
        self.failure: Failure | None = None
        self.source: Source | None = None
        self.notes: tuple[str, ...] = ()
        self._store_dtype = store_dtype
        self._rows: dict[FeatureKey, list[np.ndarray]] = {key: [] for key in task.keys}
        self._windows: list[Window] = []
        self._awaited = 0

    @property
    def settled(self) -> bool:
        """Whether nothing more will come: the video failed, or all of its windows are here."""
        return self.failure is not None or (self.source is not None and not self._awaited)

    @property
    def frames(self) -> int:
        """Rows at every key."""
        return sum(window.real_frames for window in self._windows)

    def fail(self, code: str, message: str) -> None:
        """Nothing will come of this video; what is there is let go."""
        self.failure = Failure(self.task.video.video_id, code, message)
        self._rows.clear()

    def expect(self) -> None:
        """A window is on its way."""
        self._awaited += 1

    def take(self, window: Window, features: HostFeatures) -> None:
        """A window has arrived.

        Raises:
            FeatureValueError: a value is not finite, or overflows the store's dtype.
        """
        self._awaited -= 1
        stored = {
            key: as_stored(array, self._store_dtype, self.task.video.video_id, key) for key, array in features.items()
        }
        for key, array in stored.items():
            self._rows[key].append(array)
        self._windows.append(window.without_pixels())

    def video(self) -> VideoFeatures:
        """The whole video, once it is settled without a failure; the rows are in it then, and no longer here."""
        if self.source is None:
            raise ValueError("Rows become a video when its source is known.")
        return VideoFeatures(
            self.task.video.video_id,
            self.source,
            np.concatenate([window.frame_index for window in self._windows]),
            np.concatenate([window.pts_seconds for window in self._windows]),
            {key: np.concatenate(self._rows.pop(key)) for key in list(self._rows)},  # never all of it twice
        )


def to_host(features: Sequence[Mapping[FeatureKey, Float[Tensor, "_ _"]]]) -> list[HostFeatures]:
    """Bring a batch's features from the device in one transfer instead of one a layer and timestep."""
    flat = torch.cat([array.flatten() for window in features for array in window.values()]).cpu().numpy()
    found: list[HostFeatures] = []
    begin = 0
    for window in features:
        found.append({})
        for key, array in window.items():
            found[-1][key] = flat[begin : begin + array.numel()].reshape(tuple(array.shape))
            begin += array.numel()
    return found
