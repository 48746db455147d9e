"""Drawn videos, what a store holds, and everything that lies in a folder."""

import zlib
from collections.abc import Iterable
from pathlib import Path
from threading import Lock

import numpy as np

from actiondiff.store import Failure, FeatureKey, FeatureStore, Source, VideoFeatures

KEY = FeatureKey(9, 20)
GRID = tuple(FeatureKey(layer, timestep) for layer in (1, 2, 3) for timestep in (5, 20))
RECIPE = {"backbone": "svd-tiny", "stride": 4, "size_hw": [128, 192], "store_dtype": "float16"}

Contents = dict[tuple[str, FeatureKey], bytes]


class Steps:
    """Counts calls, those of threads that come together, too."""

    def __init__(self) -> None:
        self.taken = 0
        self._lock = Lock()

    def take(self) -> int:
        """The number of this one, from 1."""
        with self._lock:
            self.taken += 1
            return self.taken


def draw_bits(shape: tuple[int, ...], dtype: str, seed: int) -> np.ndarray:
    """Any finite bit patterns: zeros of both signs, subnormals, the largest numbers."""
    bits = np.random.default_rng(seed).bytes(int(np.prod(shape)) * np.dtype(dtype).itemsize)
    array = np.frombuffer(bits, dtype).reshape(shape).copy()
    array[~np.isfinite(array)] = 0
    return array


def draw_video(
    video_id: str,
    keys: Iterable[FeatureKey] = (KEY,),
    frames: int | None = None,
    channels: int = 3,
    dtype: str = "float16",
) -> VideoFeatures:
    """A video whose content follows from its id and keys alone."""
    seed = zlib.crc32(video_id.encode())
    frames = 1 + seed % 70 if frames is None else frames
    source = Source(f"{seed:064x}", seed, seed * 1000, None if seed % 2 else 1.5, None if seed % 3 else 9.25)
    features = {
        key: draw_bits((frames, channels), dtype, seed + 1000 * key.layer + key.timestep) for key in sorted(keys)
    }
    return VideoFeatures(video_id, source, np.arange(frames) * 4, np.arange(frames) / 7.5, features)


def draw_failure(video_id: str, message: str = "There is no frame in it.") -> Failure:
    return Failure(video_id, "no_frames", message)


def contents_of(store: FeatureStore) -> Contents:
    """Every video at every key, as bytes, through the reader; each video's origins are checked on the way."""
    found = {}
    for video_id in store.video_ids:
        drawn = draw_video(video_id, frames=1)
        assert store.source(video_id) == drawn.source
        frames = len(store.frame_index(video_id))
        for key in store.keys(video_id):
            array = store.read(video_id, layer=key.layer, timestep=key.timestep)
            assert len(array) == frames
            found[video_id, key] = array.tobytes()
    return found


def contents_told(videos: Iterable[VideoFeatures], dtype: str = "float16") -> Contents:
    return {
        (video.video_id, key): array.astype(dtype).tobytes()
        for video in videos
        for key, array in video.features.items()
    }


def files_of(folder: Path) -> dict[str, bytes | None]:
    """Every file's bytes (folders: None) by its path."""
    return {str(path.relative_to(folder)): path.read_bytes() if path.is_file() else None for path in folder.rglob("*")}


def parts_of(store: Path) -> list[Path]:
    return sorted((store / "parts").glob("part-*"))
