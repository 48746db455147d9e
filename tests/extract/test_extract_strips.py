"""Film strips: a few frames of a clip side by side."""

import io
from pathlib import Path

import numpy as np
import pytest
from fakes import draw_frames
from PIL import Image

from actiondiff.extract import Clip, ClipError, film_strip
from actiondiff.manifests import write_video


def opened(data: bytes) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(data)), dtype=float)


@pytest.mark.parametrize(("frames", "shown"), [(60, 4), (4, 4), (2, 2), (1, 1)])
def test_frames_are_spread_over_the_clip(tmp_path: Path, frames: int, shown: int) -> None:
    drawn = draw_frames(frames)
    write_video(tmp_path / "clip.mp4", drawn, 10)
    strip = film_strip(Clip(tmp_path / "clip.mp4"))
    assert (strip.mime, strip.width, strip.height) == ("image/jpeg", 160 * shown, 120)
    pixels = opened(strip.data)
    assert pixels.shape == (120, 160 * shown, 3)
    stride = max(1, frames // 4)
    for place in range(shown):
        small = pixels[::5, place * 160 : (place + 1) * 160 : 5].mean(axis=2)
        distances = [np.abs(small - frame[::2, ::2].mean(axis=2)).mean() for frame in drawn]
        assert distances[place * stride] < 12
        assert distances[place * stride] <= min(distances) + 3


def test_a_part_of_a_video_and_a_clip_that_cannot_be_read(tmp_path: Path) -> None:
    write_video(tmp_path / "clip.mp4", draw_frames(60), 10)
    whole, part = film_strip(Clip(tmp_path / "clip.mp4")), film_strip(Clip(tmp_path / "clip.mp4", 3.0, 5.0))
    assert part.width == whole.width
    assert part.data != whole.data
    (tmp_path / "text.mp4").write_text("no video")
    with pytest.raises(ClipError):
        film_strip(Clip(tmp_path / "text.mp4"))
