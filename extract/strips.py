"""A clip at a glance: a few of its frames side by side, as one small picture."""

import io
from dataclasses import dataclass
from itertools import islice

import numpy as np
from PIL import Image

from actiondiff.extract.clips import Clip, Sampling
from actiondiff.extract.cost import promised_frames

QUALITY = 70


@dataclass(frozen=True)
class FilmStrip:
    """An encoded picture of frames side by side."""

    data: bytes
    mime: str
    width: int
    height: int


def film_strip(clip: Clip, frames: int = 4, frame_height: int = 120) -> FilmStrip:
    """Decode a few frames of a clip, evenly spread as far as its container tells its length.

    Args:
        clip: what to look at; only up to the last frame taken is decoded.
        frames: how many, or fewer where the clip is shorter.
        frame_height: in pixels; the width follows from the frame's shape.

    Raises:
        ClipError: as :meth:`Clip.frames`.
    """
    stride = max(1, promised_frames(clip) // frames)
    taken = [frame.pixels for frame in islice(clip.frames(Sampling(stride)), frames)]
    height, width = taken[0].shape[:2]
    size = (max(1, round(width * frame_height / height)), frame_height)
    small = [np.asarray(Image.fromarray(pixels).resize(size, Image.Resampling.BILINEAR)) for pixels in taken]
    strip = Image.fromarray(np.concatenate(small, axis=1))
    buffer = io.BytesIO()
    strip.save(buffer, "JPEG", quality=QUALITY, optimize=True)
    return FilmStrip(buffer.getvalue(), "image/jpeg", *strip.size)
