"""Windows: runs of consecutive sampled frames, resized, the last one filled up with black."""

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
import torch
from jaxtyping import Float, Float64, Int64
from torch import Tensor

from actiondiff import InputError
from actiondiff.extract.clips import Clip, Frame
from actiondiff.extract.images import resize_frames
from actiondiff.extract.recipe import Recipe

BLACK = -1.0


@dataclass(frozen=True, eq=False)
class Window:
    """A backbone's input.

    Attributes:
        pixels: frames in [-1, 1]; those after the real ones are black.
        frame_index: source index of the real frames.
        pts_seconds: time of the real frames.
        name: video and number of the window: what seeds its noise, if noise is asked for.
    """

    pixels: Float[Tensor, "window 3 height width"]
    frame_index: Int64[np.ndarray, " frames"]
    pts_seconds: Float64[np.ndarray, " frames"]
    name: str = ""

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

    def without_pixels(self) -> "Window":
        """What is worth keeping of a window that has been through the backbone."""
        return replace(self, pixels=self.pixels[:, :, :0, :0].clone())

    def __repr__(self) -> str:
        return f"Window(pixels={tuple(self.pixels.shape)}, real_frames={self.real_frames})"


def cut_windows(clip: Clip, recipe: Recipe, name: str = "", frames: Iterator[Frame] | None = None) -> Iterator[Window]:
    """Cut a clip into windows without overlap; never more than one window is in memory.

    Args:
        clip: where the frames come from.
        recipe: which frames, how many a window, how large, what fills the last one.
        name: of the video.
        frames: the clip's sampled frames, if someone has them already.

    Raises:
        ClipError: as :meth:`Clip.frames`.
    """
    index: list[int] = []
    pts_seconds: list[float] = []
    pixels = _black(recipe)
    number = 0
    for frame in clip.frames(recipe.sampling) if frames is None else frames:
        pixels[len(index)] = resize_frames(torch.from_numpy(frame.pixels)[None], recipe.size_hw, recipe.resize)[0]
        index.append(frame.index)
        pts_seconds.append(frame.pts_seconds)
        del frame  # a large source frame is let go before the next one is decoded
        if len(index) == recipe.window:
            yield _window(pixels, index, pts_seconds, f"{name}#{number}")
            index, pts_seconds, pixels, number = [], [], _black(recipe), number + 1
    if index:
        if recipe.pad == "repeat":
            pixels[len(index) :] = pixels[len(index) - 1]
        yield _window(pixels, index, pts_seconds, f"{name}#{number}")


def _black(recipe: Recipe) -> Tensor:
    return torch.full((recipe.window, 3, *recipe.size_hw), BLACK)


def _window(pixels: Tensor, index: list[int], pts_seconds: list[float], name: str) -> Window:
    return Window(pixels, np.array(index, np.int64), np.array(pts_seconds, np.float64), name)
