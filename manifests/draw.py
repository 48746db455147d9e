"""The drawn data set: a few actions in two domains that look unlike, as real video files with a manifest.

It lets the whole way be tried and tested where no clips are at hand.
"""

# ruff: noqa: N803 - letters of a name say its axes

import os
import uuid
import zlib
from collections.abc import Collection, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, cast

import numpy as np
from jaxtyping import UInt8

from actiondiff import InputError
from actiondiff.manifests.manifest import Manifest
from actiondiff.manifests.scenes import MOTIONS, WORLDS, draw_frames
from actiondiff.manifests.video import Video

if TYPE_CHECKING:
    from av.container import OutputContainer
    from av.video.stream import VideoStream

ACTIONS = tuple(MOTIONS)
DOMAINS = tuple(WORLDS)
TEST_PART = 1 / 3
SMALLEST_SIDE = 16
# One thread, because x264's bytes depend on their number. With mbtree, on a processor with AVX-512, they differ from
# run to run: those of 19 of 36 clips did in 25 runs.
X264 = {"crf": "20", "preset": "veryfast", "threads": "1", "x264-params": "mbtree=0"}
# Builds of FFmpeg without x264 still hold the older encoder.
ENCODERS = {"libx264": X264, "mpeg4": {"b": "2M"}}


def draw_clips(
    folder: str | os.PathLike[str],
    *,
    actions: Sequence[str] = ACTIONS,
    domains: Sequence[str] = DOMAINS,
    clips_per_action: int,
    frames: int = 48,
    size_hw: tuple[int, int] = (96, 128),
    fps: int = 12,
    seed: int = 0,
) -> Manifest:
    """Draw clips into `folder/domain/action/NN.mp4` and write `folder/manifest.csv`.

    Args:
        folder: where to; made if need be. Clips and a manifest of the same names are replaced.
        actions: names of `ACTIONS`.
        domains: names of `DOMAINS`.
        clips_per_action: how many clips of each action in each domain; about a third of them get the split `test`.
        frames: length of each clip.
        size_hw: height and width in pixels; even numbers, as video encoders want them.
        fps: frames per second.
        seed: the same seed draws the same pixels, whatever else is drawn beside them.

    Raises:
        InputError: an action or domain that is not known, or a size that cannot be encoded.
    """
    _check_names("action", actions, ACTIONS)
    _check_names("domain", domains, DOMAINS)
    _check_numbers(clips_per_action, frames, fps, size_hw)
    root = Path(folder)
    videos = tuple(_planned_videos(actions, domains, clips_per_action))
    for video in videos:
        # A generator for each clip, so that asking for more clips does not change the ones before.
        rng = np.random.default_rng([seed, zlib.crc32(video.video_id.encode())])
        write_video(root / video.path, draw_frames(video.labels[0], video.domain, frames, size_hw, rng), fps)
    manifest = Manifest(videos, root)
    manifest.write(root / "manifest.csv")
    return manifest


def write_video(path: Path, frames_THWC: UInt8[np.ndarray, "T H W 3"], fps: int) -> None:
    """Encode RGB frames as a video file, which appears only when it is whole.

    Args:
        path: the file, `.avi` or else mp4; missing parent folders are made.
        frames_THWC: pictures with even height and width.
        fps: frames per second.
    """
    import av

    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.{uuid.uuid4().hex}.partial")
    try:
        with av.open(str(partial), "w", format="avi" if path.suffix == ".avi" else "mp4") as container:
            stream = _add_stream(container, frames_THWC.shape[1:3], fps)
            for picture in frames_THWC:
                container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
            container.mux(stream.encode(None))
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)


def _add_stream(container: "OutputContainer", size_hw: tuple[int, ...], fps: int) -> "VideoStream":
    import av

    encoder = next(name for name in ENCODERS if name in av.codec.codecs_available)
    stream = cast("VideoStream", container.add_stream(encoder, rate=fps, options=ENCODERS[encoder]))
    stream.height, stream.width = size_hw
    stream.pix_fmt = "yuv420p"
    return stream


def _planned_videos(actions: Sequence[str], domains: Sequence[str], clips_per_action: int) -> Iterator[Video]:
    first_test = clips_per_action - _test_clips(clips_per_action)
    for domain in domains:
        for action in actions:
            for number in range(clips_per_action):
                video_id = f"{domain}/{action}/{number:02d}"
                split = "train" if number < first_test else "test"
                yield Video(video_id, f"{video_id}.mp4", (action,), split=split, domain=domain, group=video_id)


def _test_clips(clips_per_action: int) -> int:
    """About a third, but at least one wherever one is left to train on."""
    return max(1, round(clips_per_action * TEST_PART)) if clips_per_action > 1 else 0


def _check_names(what: str, names: Sequence[str], known: Collection[str]) -> None:
    unknown = [name for name in names if name not in known]
    if unknown or not names or len(set(names)) < len(names):
        raise InputError(f"Each {what} must be one of {', '.join(known)}, named once; {list(names)} came.")


def _check_numbers(clips_per_action: int, frames: int, fps: int, size_hw: tuple[int, int]) -> None:
    if min(clips_per_action, frames, fps) < 1:
        raise InputError(f"Clips, frames and fps must be 1 or more; {clips_per_action}, {frames} and {fps} came.")
    if any(side < SMALLEST_SIDE or side % 2 for side in size_hw):
        raise InputError(f"Height and width must be even and {SMALLEST_SIDE} or more; {size_hw} came. Try (96, 128).")
