"""Windows: runs of consecutive sampled frames, resized, the last one filled up with black."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Float64, Int64
from torch import Tensor

from actiondiff import InputError
from actiondiff.extract.clips import Clip, Frame
from actiondiff.extract.images import resize_frames

BLACK = -1.0


@dataclass(frozen=True, eq=False)
class Window:
    """A backbone's input.

    Attributes:
        pixels: frames in [-1, 1]; those after the real ones are black.
        frame_index: source index of the real frames.
        pts_seconds: time of the real frames.
    """

    pixels: Float[Tensor, "window 3 height width"]
    frame_index: Int64[np.ndarray, " frames"]
    pts_seconds: Float64[np.ndarray, " frames"]

    def __post_init__(self) -> None:
        real = len(self.frame_index)
        if not 1 <= real <= len(self.pixels) or len(self.pts_seconds) != real:
            raise InputError(
                f"A window of {len(self.pixels)} frames has 1 to {len(self.pixels)} real ones, each with its time; "
                f"got {real} indices and {len(self.pts_seconds)} times."
            )

    @property
    def real_frames(self) -> int:
        """How many frames are not padding."""
        return len(self.frame_index)

    def __repr__(self) -> str:
        return f"Window(pixels={tuple(self.pixels.shape)}, real_frames={self.real_frames})"


def cut_windows(clip: Clip, *, window: int, stride: int, size_hw: tuple[int, int]) -> Iterator[Window]:
    """Cut a clip into windows without overlap; never more than one window is in memory.

    Args:
        clip: where the frames come from.
        window: frames of a window.
        stride: every how many-th frame of the clip is used.
        size_hw: height and width that frames are resized to.

    Raises:
        ClipError: as :meth:`Clip.frames`.
    """
    taken: list[Frame] = []
    pixels = torch.full((window, 3, *size_hw), BLACK)
    for frame in clip.frames(stride):
        pixels[len(taken)] = resize_frames(torch.from_numpy(frame.pixels)[None], size_hw)[0]
        taken.append(Frame(frame.index, frame.pts_seconds, frame.pixels[:0]))
        if len(taken) == window:
            yield _window(pixels, taken)
            taken, pixels = [], torch.full((window, 3, *size_hw), BLACK)
    if taken:
        yield _window(pixels, taken)


def _window(pixels: Tensor, taken: list[Frame]) -> Window:
    index = np.array([frame.index for frame in taken], np.int64)
    return Window(pixels, index, np.array([frame.pts_seconds for frame in taken], np.float64))
