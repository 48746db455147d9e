"""Clips are decoded as a stream, exactly as far as asked, or refused with a stable code."""

import gc
import json
import signal
import struct
import subprocess
import sys
import time
from pathlib import Path

import av
import numpy as np
import pytest
from fakes import REAL_CLIPS, draw_frames
from PIL import Image

from actiondiff.extract import Clip, ClipError, Recipe, Sampling, check_clips, cut_windows
from actiondiff.manifests import Manifest, Video, write_video


@pytest.fixture
def video(tmp_path):
    write_video(tmp_path / "clip.mp4", draw_frames(61), 25)
    return tmp_path / "clip.mp4"


def code_of(clip: Clip) -> str:
    with pytest.raises(ClipError) as caught:
        list(clip.frames())
    assert str(clip.path) in str(caught.value)
    return caught.value.code


@pytest.mark.parametrize("stride", [1, 4, 100])
def test_every_stride_th_frame_from_the_first_is_used(video, stride):
    frames = list(Clip(video).frames(Sampling(stride)))
    assert [frame.index for frame in frames] == list(range(0, 61, stride))
    assert np.allclose([frame.pts_seconds for frame in frames], np.arange(0, 61, stride) / 25)


def test_decoded_pixels_are_those_drawn(video):
    drawn = draw_frames(61)
    for frame in Clip(video).frames(Sampling(10)):
        assert np.abs(frame.pixels.astype(int) - drawn[frame.index]).mean() < 8


def test_a_part_begins_at_its_first_frame_and_keeps_source_indices(video):
    frames = list(Clip(video, 0.4, 1.2).frames(Sampling(4)))
    assert [frame.index for frame in frames] == [10, 14, 18, 22, 26]
    assert all(0.4 <= frame.pts_seconds < 1.2 for frame in frames)


def test_a_folder_of_frames_is_read_in_natural_order_without_times(tmp_path):
    for index in (10, 9, 1):
        Image.fromarray(np.full((8, 8, 3), index, np.uint8)).save(tmp_path / f"frame{index}.png")
    (tmp_path / "notes.txt").write_text("not a frame")
    frames = list(Clip(tmp_path).frames())
    assert [frame.pixels[0, 0, 0] for frame in frames] == [1, 9, 10]
    assert all(np.isnan(frame.pts_seconds) for frame in frames)


def test_grey_and_alpha_images_become_rgb(tmp_path):
    Image.fromarray(np.full((8, 8), 7, np.uint8)).save(tmp_path / "1.png")
    Image.fromarray(np.full((8, 8, 4), 9, np.uint8)).save(tmp_path / "2.png")
    assert [frame.pixels.shape for frame in Clip(tmp_path).frames()] == [(8, 8, 3)] * 2


def test_rotation_in_the_container_is_applied(tmp_path):
    frames = np.zeros((3, 32, 64, 3), np.uint8)
    frames[:, :, :32] = 255  # white on the left
    write_video(tmp_path / "clip.mp4", frames, 25)
    data = bytearray((tmp_path / "clip.mp4").read_bytes())
    place = data.index(b"tkhd") + 4 + 40  # the display matrix of a version 0 track header
    turned = struct.pack(">9i", 0, 1 << 16, 0, -(1 << 16), 0, 0, 0, 0, 1 << 30)  # shown turned clockwise by 90 degrees
    data[place : place + 36] = turned
    (tmp_path / "turned.mp4").write_bytes(data)
    shown = next(Clip(tmp_path / "turned.mp4").frames()).pixels
    assert shown.shape == (64, 32, 3)
    assert shown[:24].mean() > 200 > 50 > shown[40:].mean(), "what was left is on top"


def test_text_named_mp4_is_a_decode_error(tmp_path):
    (tmp_path / "clip.mp4").write_text("I am no video")
    assert code_of(Clip(tmp_path / "clip.mp4")) == "decode_error"


def test_a_truncated_video_is_a_decode_error(video):
    video.write_bytes(video.read_bytes()[:200])
    assert code_of(Clip(video)) == "decode_error"


@pytest.mark.parametrize("kind", ["mp4", "avi", "mkv"])
def test_a_video_cut_off_in_the_middle_is_told_not_taken_for_whole(tmp_path, kind):
    path = tmp_path / f"clip.{kind}"
    flags = {"movflags": "faststart"} if kind == "mp4" else {}
    with av.open(str(path), "w", options=flags) as container:
        stream = container.add_stream("mpeg4", rate=25)
        stream.width, stream.height, stream.pix_fmt, stream.gop_size = 64, 48, "yuv420p", 5
        for pixels in draw_frames(100):
            container.mux(stream.encode(av.VideoFrame.from_ndarray(pixels, format="rgb24")))
        container.mux(stream.encode(None))
    assert len(list(Clip(path).frames())) == 100
    data = path.read_bytes()
    path.write_bytes(data[: len(data) * 6 // 10])
    assert code_of(Clip(path)) in ("truncated", "decode_error")
    assert list(Clip(path, 0.0, 1.0).frames()), "a part that is whole can still be used"


def test_a_colon_in_a_name_is_no_protocol(video, tmp_path, monkeypatch):
    video.rename(tmp_path / "take:2.mp4")
    monkeypatch.chdir(tmp_path)
    assert len(list(Clip(Path("take:2.mp4")).frames())) == 61


def test_sixteen_bit_and_turned_images_are_shown_as_they_are_meant(tmp_path):
    Image.fromarray(np.full((8, 8), 0x8000, np.uint16)).save(tmp_path / "1.png")
    turned = Image.fromarray(np.zeros((4, 8, 3), np.uint8))
    turned.getexif()[0x0112] = 6
    turned.save(tmp_path / "2.jpg", exif=turned.getexif())
    first, second = Clip(tmp_path).frames()
    assert first.pixels[0, 0].tolist() == [127, 127, 127]
    assert second.pixels.shape == (8, 4, 3)


def test_a_broken_image_is_a_decode_error(tmp_path):
    (tmp_path / "1.png").write_bytes(b"no image")
    with pytest.raises(ClipError, match=r"1\.png") as caught:
        list(Clip(tmp_path).frames())
    assert caught.value.code == "decode_error"


def test_sound_without_pictures_is_no_video(tmp_path):
    with av.open(str(tmp_path / "clip.mp4"), "w") as container:
        stream = container.add_stream("aac", rate=8000)
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 1024), np.float32), format="fltp", layout="mono")
        frame.rate = 8000
        for packet in [*stream.encode(frame), *stream.encode(None)]:
            container.mux(packet)
    assert code_of(Clip(tmp_path / "clip.mp4")) == "no_video"


def test_an_empty_folder_and_an_empty_part_have_no_frames(tmp_path, video):
    (tmp_path / "empty").mkdir()
    assert code_of(Clip(tmp_path / "empty")) == "no_frames"
    assert code_of(Clip(video, 100.0, 101.0)) == "no_frames"


def test_what_is_not_there_is_missing(tmp_path):
    assert code_of(Clip(tmp_path / "nothing.mp4")) == "missing"


def test_a_folder_of_frames_has_no_clock_to_cut_by(tmp_path):
    Image.fromarray(np.zeros((8, 8, 3), np.uint8)).save(tmp_path / "1.png")
    assert code_of(Clip(tmp_path, 0.0, 1.0)) == "no_clock"


@pytest.mark.parametrize(("frames", "real"), [(1, [1]), (25, [25]), (26, [25, 1]), (61, [25, 25, 11])])
def test_windows_cover_every_frame_once_and_end_in_black(tmp_path, frames, real):
    write_video(tmp_path / "clip.mp4", draw_frames(frames), 25)
    made = list(cut_windows(Clip(tmp_path / "clip.mp4"), Recipe("fake", "", (64, 96), stride=1), "v"))
    assert [window.real_frames for window in made] == real
    assert np.concatenate([window.frame_index for window in made]).tolist() == list(range(frames))
    for window in made:
        assert window.pixels.shape == (25, 3, 64, 96)
        assert (window.pixels[window.real_frames :] == -1).all()
        assert (window.pixels[: window.real_frames] > -1).any(dim=(1, 2, 3)).all()


def test_the_last_window_can_be_filled_by_its_last_frame(video):
    *_, last = cut_windows(Clip(video), Recipe("fake", "", (64, 96), stride=1, pad="repeat"), "v")
    assert last.real_frames == 11
    assert (last.pixels[11:] == last.pixels[10]).all()


@pytest.mark.parametrize(
    ("fps", "indices"), [(5.0, range(0, 61, 5)), (10.0, [0, 3, 5, 8, 10, 13, 15]), (100.0, range(61))]
)
def test_frames_are_sampled_by_time_when_a_rate_is_asked_for(video, fps, indices):
    taken = [frame.index for frame in Clip(video).frames(Sampling(fps=fps))]
    assert taken[: len(indices)] == list(indices)
    assert abs(len(taken) - min(61, 61 / 25 * fps)) <= 1


def test_a_folder_of_frames_cannot_be_sampled_by_time(tmp_path):
    Image.fromarray(np.zeros((8, 8, 3), np.uint8)).save(tmp_path / "1.png")
    with pytest.raises(ClipError, match="no times"):
        list(Clip(tmp_path).frames(Sampling(fps=5.0)))


def test_the_hash_of_a_source_tells_content_not_place(video, tmp_path):
    copy = tmp_path / "copy.mp4"
    copy.write_bytes(video.read_bytes())
    assert Clip(copy).source().sha256 == Clip(video).source().sha256
    copy.write_bytes(video.read_bytes() + b"x")
    assert Clip(copy).source().sha256 != Clip(video).source().sha256


def test_check_decodes_every_clip_and_tells_faults(video, tmp_path):
    (tmp_path / "bad.mp4").write_text("no video")
    manifest = Manifest((Video("good", "clip.mp4", ("a",)), Video("bad", "bad.mp4", ("a",))), tmp_path)
    good, bad = check_clips(manifest)
    assert (good.frames, good.size_hw, good.promised, good.fault, good.note) == (61, (48, 64), 61, "", "")
    assert good.frames_per_second == pytest.approx(25)
    assert "bad.mp4" in bad.fault


def test_decoded_pictures_do_not_wait_for_the_garbage_collector(video):
    gc.collect()
    gc.disable()
    try:
        frames = Clip(video).frames(Sampling(4))
        for _ in frames:
            pass
        assert sum(type(thing) is av.VideoFrame for thing in gc.get_objects()) < 10
    finally:
        gc.enable()


def test_check_tells_codec_rate_promise_and_notes_in_the_manifests_order(video, tmp_path):
    (tmp_path / "bad.mp4").write_text("no video")
    rows = [Video(f"v{number}", "bad.mp4" if number == 3 else "clip.mp4", ("a",)) for number in range(8)]
    rows.append(Video("part", "clip.mp4", ("a",), start_seconds=1.0, end_seconds=2.0))
    checks = list(check_clips(Manifest(tuple(rows), tmp_path), workers=3))
    assert [check.video_id for check in checks] == [video.video_id for video in rows]
    assert [check.code for check in checks] == ["decode_error" if number == 3 else "" for number in range(9)]
    first, part = checks[0], checks[-1]
    assert (first.container, first.codec, first.pixel_format, first.turn) == ("mov", "h264", "yuv420p", "")
    assert (first.variable_rate, first.interlaced, first.damaged, first.notes) == (False, False, 0, ())
    assert first.seconds == pytest.approx(60 / 25)
    assert (part.frames, part.promised) == (25, 25)
    assert json.loads(json.dumps(first.to_json()))["frames_per_second"] == 25


def test_leaving_a_check_stops_the_clips_that_are_being_decoded(tmp_path):
    write_video(tmp_path / "long.mp4", np.concatenate([draw_frames(100)] * 10), 25)
    rows = tuple(Video(f"v{number}", "long.mp4", ("a",)) for number in range(40))
    checks = check_clips(Manifest(rows, tmp_path), workers=2)
    whole_began = time.perf_counter()
    assert next(checks).frames == 1000
    one_clip = time.perf_counter() - whole_began
    began = time.perf_counter()
    checks.close()
    assert time.perf_counter() - began < 3 * one_clip, "the others were stopped, not decoded"


def test_a_check_is_left_with_130_by_ctrl_c(tmp_path):
    write_video(tmp_path / "long.mp4", np.concatenate([draw_frames(100)] * 10), 25)
    Manifest(tuple(Video(f"v{n}", "long.mp4", ("a",)) for n in range(400)), tmp_path).write(tmp_path / "manifest.csv")
    # A suite that runs in the background of a shell inherits that Ctrl-C is ignored.
    script = "import signal; signal.signal(2, signal.default_int_handler); from actiondiff.cli import main; main()"
    command = [sys.executable, "-c", script]
    child = subprocess.Popen([*command, "manifest", "check", str(tmp_path / "manifest.csv")], stderr=subprocess.PIPE)
    while (said := child.stderr.read1()) and b"/400 [" not in said:
        pass
    child.send_signal(signal.SIGINT)
    child.stderr.read()
    assert child.wait(timeout=30) == 130


@pytest.mark.skipif(not REAL_CLIPS.is_dir(), reason="no folder of real clips beside the checkout")
def test_real_clips_decode_to_as_many_frames_as_their_index_says():
    import csv

    rows = list(csv.DictReader((REAL_CLIPS / "INDEX.csv").open()))[::40]
    for row in rows:
        frames = list(Clip(REAL_CLIPS / row["path"]).frames())
        assert len(frames) == int(row["frames"])
        assert frames[0].pixels.shape == (int(row["height"]), int(row["width"]), 3)
