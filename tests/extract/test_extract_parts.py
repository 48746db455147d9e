"""A part of a video is the slice of the whole, to the pixel, and costs no more than its key frame's distance."""

import csv
import json
import pickle
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import av
import numpy as np
import pytest
import video_kinds as kinds
from fakes import REAL_CLIPS
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from actiondiff.extract import Clip, ClipError, Sampling, clips, parts, timeline
from actiondiff.extract.remembered import Remembered

X264 = {"g": "12", "preset": "medium"}
OPEN_GOP = {"x264-params": "keyint=12:min-keyint=12:open-gop=1:bframes=3:b-pyramid=2", "preset": "medium"}
X265 = {"x265-params": "log-level=none:keyint=12:min-keyint=12:open-gop=1:bframes=4", "preset": "medium"}
UNEVEN_MS = np.cumsum(np.random.default_rng(0).integers(10, 90, 97)).tolist()
FRAMES = 97

SEEKABLE = {
    "h264.mp4": {"options": X264},
    "h264-open.mp4": {"options": OPEN_GOP},
    "h264-open.mkv": {"options": OPEN_GOP},
    "h264-open.ts": {"options": OPEN_GOP},
    "h264-one-gop.mp4": {"options": {"g": "250"}},
    "h264.flv": {"options": X264},
    "h264-fragments.mp4": {"options": X264, "container_options": {"movflags": "frag_keyframe+empty_moov"}},
    "h264-uneven.mkv": {"options": X264, "times_ms": UNEVEN_MS},
    "h264-late.mkv": {"options": X264, "times_ms": range(5000, 5000 + 40 * FRAMES, 40)},
    "hevc-open.mp4": {"codec": "libx265", "options": X265},
    "mpeg4.avi": {"codec": "mpeg4", "b_frames": 2, "options": {"g": "12"}},
    "mpeg4-plain.avi": {"codec": "mpeg4", "b_frames": 0, "options": {"g": "12"}},
    "mpeg4-packed.avi": {"packed": True},
    "mpeg4.mp4": {"codec": "mpeg4", "b_frames": 2, "options": {"g": "12"}},
    "mpeg2.ts": {"codec": "mpeg2video", "b_frames": 2, "options": {"g": "12"}},
    "vp9.webm": {"codec": "libvpx-vp9", "options": {"g": "12", "deadline": "realtime", "cpu-used": "8"}},
    "av1.mkv": {"codec": "libsvtav1", "options": {"g": "12", "preset": "12"}},
    "mjpeg.mov": {"codec": "mjpeg", "pixel_format": "yuvj420p"},
    "wmv2.wmv": {"codec": "wmv2", "options": {"g": "12"}},
}
DOUBTFUL = {
    "h264.avi": {"options": X264},
    "h264-refresh.mp4": {"options": {"x264-params": "keyint=12:intra-refresh=1:bframes=0", "preset": "medium"}},
    "vp8.webm": {"codec": "libvpx", "options": {"auto-alt-ref": "1", "lag-in-frames": "16", "deadline": "good"}},
    "mpeg1.mpg": {"codec": "mpeg1video", "b_frames": 2, "options": {"g": "12"}},
}


@pytest.fixture(scope="module")
def videos(tmp_path_factory):
    """Paths of videos, and all their frames, each made when it is first asked for."""
    folder, made = tmp_path_factory.mktemp("videos"), {}

    def video(name):
        if name not in made:
            how = dict((SEEKABLE | DOUBTFUL)[name])
            path = folder / name
            kinds.packed_avi(path, FRAMES) if how.pop("packed", False) else kinds.write(path, frames=FRAMES, **how)
            made[name] = path, list(Clip(path).frames())
        return made[name]

    return video


def same(found, expected) -> bool:
    return [(frame.index, frame.pts_seconds) for frame in found] == [
        (frame.index, frame.pts_seconds) for frame in expected
    ] and all(np.array_equal(one.pixels, other.pixels) for one, other in zip(found, expected, strict=True))


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.data())
def test_a_part_is_the_slice_of_the_whole(videos, data):
    path, whole = videos(data.draw(st.sampled_from(sorted(SEEKABLE | DOUBTFUL))))
    length = whole[-1].pts_seconds + 0.2
    on_a_frame = st.sampled_from([frame.pts_seconds for frame in whole])
    start, end = sorted(data.draw(st.lists(on_a_frame | st.floats(0, length), min_size=2, max_size=2)))
    stride = data.draw(st.sampled_from([1, 4]))
    expected = [frame for frame in whole if start <= frame.pts_seconds < end][::stride]
    clip = Clip(path, start, data.draw(st.sampled_from([end, None])) if end > length - 0.2 else end)
    if clip.end_seconds is None:
        expected = [frame for frame in whole if start <= frame.pts_seconds][::stride]
    if not expected:
        with pytest.raises(ClipError, match=r"no frame between"):
            list(clip.frames(Sampling(stride)))
        return
    frames = clip.frames(Sampling(stride))
    assert same(list(frames), expected)
    assert not frames.reading.missing


@pytest.mark.parametrize("name", SEEKABLE)
def test_a_late_part_is_found_by_seeking(videos, monkeypatch, name):
    path, whole = videos(name)
    first, last = len(whole) - 20, len(whole) - 10
    assert timeline.scan(path).doubt == ""
    if name != "h264-one-gop.mp4":
        monkeypatch.setattr(parts, "from_beginning", lambda *_, **__: pytest.fail("decoded from the beginning"))
    clip = Clip(path, whole[first].pts_seconds, whole[last].pts_seconds)
    assert same(list(clip.frames()), whole[first:last])


@pytest.mark.parametrize("name", SEEKABLE)
def test_the_timeline_of_packets_is_that_of_decoded_frames(videos, name):
    path, whole = videos(name)
    assert timeline.scan(path).seconds.tolist() == [frame.pts_seconds for frame in whole]


@pytest.mark.parametrize("name", DOUBTFUL)
def test_what_cannot_be_found_by_seeking_is_found_all_the_same(videos, name):
    path, whole = videos(name)
    assert same(list(Clip(path, whole[60].pts_seconds, whole[70].pts_seconds).frames()), whole[60:70])


def test_a_part_decodes_about_a_gop_and_itself(videos, monkeypatch):
    path, _ = videos("h264.mp4")
    next(Clip(path, 3.0, 3.2).frames())  # reads the timeline
    decoded = []
    look = parts.OpenVideo._look
    monkeypatch.setattr(parts.OpenVideo, "_look", lambda video, picture: (decoded.append(1), look(video, picture))[1])
    assert len(list(Clip(path, 3.0, 3.2).frames())) == 5
    assert len(decoded) < 12 + 5 + 24, "a group of pictures, the part, and what reordering holds back"


def test_where_seeking_lands_wrongly_packets_are_read_up_to_the_key(videos, monkeypatch):
    path, whole = videos("h264.mp4")
    monkeypatch.setattr(parts, "_seek", lambda video, key: (_ for _ in ()).throw(parts.LostInFile()))
    monkeypatch.setattr(parts, "from_beginning", lambda *_, **__: pytest.fail("decoded from the beginning"))
    assert same(list(Clip(path, 3.0, 3.2).frames()), whole[75:80])


def test_a_timeline_that_lies_gives_no_wrong_frame(videos, monkeypatch):
    path, whole = videos("h264.mp4")
    true = timeline.scan(path)
    lying = timeline.Timeline(true.ticks + 1, true.seconds, true.keys)
    monkeypatch.setattr(clips, "timeline_of", lambda _: lying)
    assert same(list(Clip(path, 3.0, 3.2).frames()), whole[75:80])


def test_a_part_that_lost_its_frames_is_told(tmp_path):
    whole = kinds.write(tmp_path / "good.avi", "mjpeg", pixel_format="yuvj420p")
    with av.open(str(whole)) as container:
        places = [(packet.pos, packet.size) for packet in container.demux(video=0) if packet.size]
    data = bytearray(whole.read_bytes())
    for place, size in places[30:33]:
        data[place : place + size] = b"\1" * size
    whole.write_bytes(data)
    assert len(list(Clip(whole, 0.4, 1.0).frames())) == 15
    with pytest.raises(ClipError, match="cut off or damaged between") as caught:
        list(Clip(whole, 1.16, 1.36).frames())
    assert caught.value.code == "truncated"
    frames = Clip(whole).frames()
    assert len(list(frames)) == 57
    assert any("60 frames are promised, 57 were decoded" in note for note in frames.reading.notes)


def test_a_recording_is_read_and_hashed_once_however_many_rows_it_has(videos, monkeypatch):
    path, _ = videos("h264.mp4")
    scans, hashes = [], []
    scan, digest = timeline.scan, clips._hash_file
    monkeypatch.setattr(clips, "timeline_of", Remembered(lambda path: (scans.append(path), scan(path))[1], 8))
    monkeypatch.setattr(clips, "_file_digest", Remembered(lambda path: (hashes.append(path), digest(path))[1], 8))
    rows = [Clip(path, start / 10, start / 10 + 0.2) for start in range(1, 30)]
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda clip: (list(clip.frames()), clip.source()), rows))
    assert (len(scans), len(hashes)) == (1, 1)


def test_an_answer_is_asked_for_again_when_the_file_changes_or_the_question_failed(tmp_path):
    path, asked = tmp_path / "file", []

    def ask(path: Path) -> str:
        asked.append(path.read_text())
        if asked[-1] == "bad":
            raise ValueError("bad")
        return asked[-1]

    answer = Remembered(ask, most=2)
    path.write_text("good")
    assert [answer(path), answer(path)] == ["good", "good"]
    path.write_text("bad")
    for _ in range(2):
        with pytest.raises(ValueError, match="bad"):
            answer(path)
    assert asked == ["good", "bad", "bad"]


def read_part(clip: Clip) -> list[int]:
    return [frame.index for frame in clip.frames(Sampling(4))]


def test_clips_go_to_threads_and_processes(videos):
    path, _ = videos("mpeg4-packed.avi")
    clip = Clip(path, 2.0, 3.0)
    expected = read_part(clip)
    with ThreadPoolExecutor(3) as pool:
        assert list(pool.map(read_part, [clip] * 6)) == [expected] * 6
    code = (
        "import pickle, sys; from actiondiff.extract import Sampling; clip = pickle.load(sys.stdin.buffer); "
        "print([frame.index for frame in clip.frames(Sampling(4))])"
    )
    child = subprocess.run([sys.executable, "-c", code], input=pickle.dumps(clip), capture_output=True, check=True)
    assert json.loads(child.stdout) == expected


def test_leaving_a_clip_early_closes_its_file(videos):
    path, _ = videos("h264.mp4")
    before = len(list(Path("/proc/self/fd").iterdir()))
    for _ in range(20):
        frames = Clip(path, 2.0).frames()
        next(frames)
        del frames
    assert len(list(Path("/proc/self/fd").iterdir())) <= before
    assert threading.active_count() < 50


@pytest.mark.skipif(not REAL_CLIPS.is_dir(), reason="no folder of real clips beside the checkout")
def test_packed_b_frames_of_real_clips_have_even_times_and_exact_parts():
    rows = list(csv.DictReader((REAL_CLIPS / "INDEX.csv").open()))[::12]
    for row in rows:
        whole = list(Clip(REAL_CLIPS / row["path"]).frames())
        with av.open(str(REAL_CLIPS / row["path"])) as container:
            plain = [picture.to_ndarray(format="rgb24") for picture in container.decode(video=0)]
        assert len(whole) == len(plain)
        assert all(np.array_equal(frame.pixels, pixels) for frame, pixels in zip(whole, plain, strict=True))
        steps = np.diff([frame.pts_seconds for frame in whole]) * 30
        assert (np.abs(steps - 1) < 1e-6).sum() >= len(steps) - 1
        assert steps.min() > 0.99
        start, end = whole[30].pts_seconds, whole[45].pts_seconds
        assert same(list(Clip(REAL_CLIPS / row["path"], start, end).frames()), whole[30:45])
