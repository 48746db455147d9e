"""Looking at clips before they cost GPU time: every one is decoded to its end."""

import math
import sys
from collections.abc import Iterator
from dataclasses import dataclass

from tqdm import tqdm

from actiondiff.extract.clips import Clip
from actiondiff.extract.errors import ClipError
from actiondiff.extract.planning import clip_of, promised_frames
from actiondiff.manifests import Manifest


@dataclass(frozen=True)
class ClipCheck:
    """What decoding a clip found.

    Attributes:
        video_id: of the manifest.
        frames: decoded frames.
        size_hw: height and width of the first, as shown (after rotation); (0, 0) without frames.
        frames_per_second: mean rate; 0 where there is no clock.
        promised: frames that the container speaks of; 0 where it does not.
        fault: why the clip cannot be used, "" where it can.
    """

    video_id: str
    frames: int
    size_hw: tuple[int, int]
    frames_per_second: float
    promised: int
    fault: str = ""

    @property
    def note(self) -> str:
        """What is odd about a clip that can be used all the same."""
        if self.fault or not self.promised or self.promised == self.frames:
            return ""
        return f"the container speaks of {self.promised} frames, {self.frames} were decoded"


def check_clips(manifest: Manifest, *, progress: bool = False) -> Iterator[ClipCheck]:
    """Decode every clip of a manifest, one after another."""
    for video in tqdm(manifest.videos, unit="clip", disable=not progress, file=sys.stderr):
        yield check_clip(video.video_id, clip_of(manifest, video))


def check_clip(video_id: str, clip: Clip) -> ClipCheck:
    """Decode one clip to its end."""
    frames, size_hw, first_seconds, last_seconds = 0, (0, 0), math.nan, math.nan
    try:
        promised = promised_frames(clip)
        for frame in clip.frames():
            frames += 1
            last_seconds = frame.pts_seconds
            if frames == 1:
                size_hw, first_seconds = frame.pixels.shape[:2], frame.pts_seconds
    except ClipError as error:
        return ClipCheck(video_id, frames, size_hw, 0.0, 0, str(error))
    elapsed = last_seconds - first_seconds
    rate = (frames - 1) / elapsed if elapsed > 0 else 0.0
    return ClipCheck(video_id, frames, size_hw, rate, promised)
