"""Features of several videos in one array: rows one video after another, and where each begins."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from jaxtyping import Int64, Shaped


@dataclass(frozen=True, eq=False)
class RaggedFeatures:
    """The rows of several videos, one video after another.

    Attributes:
        video_ids: the videos, in the order of their rows.
        row_offsets: one number more than videos: video *i* has the rows from number *i* to number *i + 1*.
        features: (rows, channels) of all of them.

    Example:
        >>> every = FeatureStore("features.zarr").load(layer=9, timestep=20)  # doctest: +SKIP
        >>> for video_id, features in every.items():  # doctest: +SKIP
        ...     print(video_id, features.mean(axis=0))
    """

    video_ids: tuple[str, ...]
    row_offsets: Int64[np.ndarray, " videos_and_one"]
    features: Shaped[np.ndarray, "rows channels"]

    def __len__(self) -> int:
        return len(self.video_ids)

    def __getitem__(self, position: int) -> Shaped[np.ndarray, "frames channels"]:
        """A view of one video's rows."""
        position = range(len(self))[position]
        return self.features[self.row_offsets[position] : self.row_offsets[position + 1]]

    def items(self) -> Iterator[tuple[str, Shaped[np.ndarray, "frames channels"]]]:
        """Every video's id and a view of its rows."""
        for position, video_id in enumerate(self.video_ids):
            yield video_id, self[position]
