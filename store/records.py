"""What the store holds of one video: its features by key, where each row came from, and how it ended."""

import unicodedata
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import PurePosixPath

import numpy as np
from jaxtyping import Float64, Int64, Shaped

from actiondiff import InputError

_TEARING_CATEGORIES = ("Cc", "Cs", "Zl", "Zp")  # control characters, lone surrogates, line and paragraph separators


@dataclass(frozen=True, order=True)
class FeatureKey:
    """Which features: ``layer`` counted from the input (1 = conv in), ``timestep`` in the direction of generation."""

    layer: int
    timestep: int

    def __post_init__(self) -> None:
        if self.layer < 1 or self.timestep < 0:
            raise InputError(f"Layers count from 1 and timesteps from 0; got layer {self.layer}, t {self.timestep}.")

    def __str__(self) -> str:
        return f"layer {self.layer}, t {self.timestep}"


def spell_numbers(numbers: Iterable[int]) -> str:
    """A set of numbers as ``--layer`` and ``--t`` take it: ``1-13``, ``3,6,9``, ``1-3,7``."""
    runs: list[list[int]] = []
    for number in sorted(set(numbers)):
        if runs and number == runs[-1][-1] + 1:
            runs[-1].append(number)
        else:
            runs.append([number])
    return ",".join(f"{run[0]}-{run[-1]}" if len(run) > 2 else ",".join(map(str, run)) for run in runs)


def spell_keys(keys: Iterable[FeatureKey]) -> str:
    """A set of layers and timesteps in few words: ``layer 1-8, t 0,20; layer 9, t 20``; ``nothing`` for none."""
    timesteps_of: dict[int, list[int]] = {}
    for key in sorted(set(keys)):
        timesteps_of.setdefault(key.layer, []).append(key.timestep)
    layers_with: dict[str, list[int]] = {}
    for layer, timesteps in timesteps_of.items():
        layers_with.setdefault(spell_numbers(timesteps), []).append(layer)
    spelled = [f"layer {spell_numbers(layers)}, t {timesteps}" for timesteps, layers in layers_with.items()]
    return "; ".join(spelled) or "nothing"


@dataclass(frozen=True)
class Source:
    """The file (or folder of frames) and the part of it that features were made from.

    Attributes:
        sha256: hex digest of the content.
        size_bytes: total size of the file or files.
        mtime_ns: latest modification; with the size a cheap sign that nothing changed.
        start_seconds: where the part begins, None for the file's start.
        end_seconds: where it ends, None for the file's end.
    """

    sha256: str
    size_bytes: int
    mtime_ns: int
    start_seconds: float | None = None
    end_seconds: float | None = None

    def __post_init__(self) -> None:
        if len(self.sha256) != 64 or set(self.sha256) - set("0123456789abcdef"):
            raise InputError(f"A source's sha256 is 64 lower-case hex digits; got {self.sha256!r}.")


def check_video_id(video_id: str) -> None:
    """Refuse ids that a file name could not safely carry: empty, absolute, climbing, with control characters."""
    parts = PurePosixPath(video_id).parts
    torn = any(unicodedata.category(letter) in _TEARING_CATEGORIES for letter in video_id)
    if not video_id or video_id.startswith("/") or ".." in parts or "\\" in video_id or torn:
        raise InputError(f"A video id is a relative name without '..', backslash or control signs; got {video_id!r}.")


@dataclass(frozen=True, eq=False)
class VideoFeatures:
    """Everything extracted from one video.

    Attributes:
        video_id: the manifest's id.
        source: what it was made from.
        frame_index: index of each row's frame in the source, counted from 0.
        pts_seconds: its presentation time; NaN where the source has no clock (folders of frames).
        features: (frames, channels) for every key; all timesteps of a layer have the same channels.
    """

    video_id: str
    source: Source
    frame_index: Int64[np.ndarray, " frames"]
    pts_seconds: Float64[np.ndarray, " frames"]
    features: Mapping[FeatureKey, Shaped[np.ndarray, "frames _"]]

    def __post_init__(self) -> None:
        check_video_id(self.video_id)
        frames = len(self.frame_index)
        if not frames or not self.features:
            raise InputError(f"Features of {self.video_id!r} need at least one frame and one key.")
        shapes = {str(key): array.shape for key, array in self.features.items()}
        if len(self.pts_seconds) != frames or any(len(shape) != 2 or shape[0] != frames for shape in shapes.values()):
            raise InputError(f"{self.video_id!r} has {frames} frame indices, so every array has as many rows: {shapes}")
        if self.frame_index.dtype != np.int64 or self.pts_seconds.dtype != np.float64:
            kinds = f"{self.frame_index.dtype} and {self.pts_seconds.dtype}"
            raise InputError(f"Frame indices are int64 and times float64; {self.video_id!r} has {kinds}.")
        channels = {(key.layer, array.shape[1]) for key, array in self.features.items()}
        if len(channels) != len({key.layer for key in self.features}) or any(not count for _, count in channels):
            raise InputError(f"A layer has one number of channels, at least 1; {self.video_id!r} has {shapes}.")

    def __repr__(self) -> str:
        return f"VideoFeatures({self.video_id!r}, frames={len(self.frame_index)}, keys={len(self.features)})"


@dataclass(frozen=True)
class Failure:
    """A video that could not be extracted: a stable ``code`` for programs, a ``message`` for people."""

    video_id: str
    code: str
    message: str

    def __post_init__(self) -> None:
        check_video_id(self.video_id)
