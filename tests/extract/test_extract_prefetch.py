"""Decoding ahead keeps order and errors, holds few windows, and stops when it is told to."""

import os
import threading
import time
import tracemalloc
import weakref

import numpy as np
import pytest
import torch
from fakes import FakeBackbone

import actiondiff.extract.behind as behind_module
import actiondiff.extract.cost as cost
import actiondiff.extract.prefetch as prefetch
from actiondiff.extract.behind import Behind
from actiondiff.extract.clips import Clip
from actiondiff.extract.errors import ClipError
from actiondiff.extract.planning import Task, clip_of, make_plan
from actiondiff.extract.prefetch import streams
from actiondiff.extract.recipe import Recipe
from actiondiff.extract.rows import Rows
from actiondiff.extract.video import OpenVideo
from actiondiff.extract.windows import Window
from actiondiff.manifests import Manifest, Video
from actiondiff.store import Failure, FeatureKey, FeatureStore, Source, StoreWriter

RECIPE = Recipe("fake", "", (64, 64), window=5, stride=2)


def tasks(clips: Manifest) -> list[Task]:
    return [Task(video, clip_of(clips, video), (FeatureKey(1, 0),)) for video in clips.videos]


@pytest.mark.parametrize("workers", [0, 1, 2, 5])
def test_windows_come_in_order_whatever_the_number_of_threads(clips, workers):
    seen = []
    for stream in streams(tasks(clips), RECIPE, workers):
        frames = np.concatenate([window.frame_index for window in stream])
        assert stream.source.sha256
        seen.append((stream.task.video.video_id, len(frames), frames[-1]))
    assert seen == [(f"v{i}", -(-n // 2), (n - 1) // 2 * 2) for i, n in enumerate((5, 12, 26, 40, 61, 70))]


@pytest.mark.parametrize("workers", [0, 2])
def test_an_error_is_raised_at_its_own_clip(clips, tmp_path, workers):
    (tmp_path / "clips" / "1.mp4").write_text("no video")
    outcomes = []
    for stream in streams(tasks(clips), RECIPE, workers):
        try:
            outcomes.append(len(list(stream)))
        except ClipError as error:
            outcomes.append(error.code)
    assert outcomes == [1, "decode_error", 3, 4, 7, 7]


def test_few_windows_wait_and_leaving_early_stops_the_threads(clips, monkeypatch):
    made: list[int] = []
    cut = prefetch.cut_windows

    def counted(*arguments):
        for window in cut(*arguments):
            made.append(1)
            yield window

    monkeypatch.setattr(prefetch, "cut_windows", counted)
    found = streams(tasks(clips), RECIPE, 2)
    next(iter(next(found)))
    deadline = time.monotonic() + 0.5
    while time.monotonic() < deadline:
        assert len(made) <= 1 + 2 + 2 + 1  # used, in queues, and in hand of the threads
        time.sleep(0.01)
    found.close()
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("decode")]


@pytest.mark.skipif(os.cpu_count() == 1, reason="a single core has one thread for everything")
@pytest.mark.parametrize(("workers", "expected"), [(1, [0] * 6), (3, [1, 1, 0, 0, 0, 0])])
def test_a_long_clip_is_decoded_by_every_core_and_short_ones_by_one_beside_each_other(
    clips, monkeypatch, workers, expected
):
    """Of windows of 5 frames, every 2nd used, 20 source frames find room; the clips have 5, 12, 26, 40, 61 and 70."""
    used: dict[str, int] = {}
    pictures = OpenVideo.pictures

    def noted(video, packets):
        for picture in pictures(video, packets):
            used[video.path.name] = video.stream.codec_context.thread_count
            yield picture

    monkeypatch.setattr(OpenVideo, "pictures", noted)
    for stream in streams(tasks(clips), RECIPE, workers):
        list(stream)
    assert [int(used[f"{index}.mp4"] == 1) for index in range(6)] == expected


@pytest.mark.parametrize(("stride", "workers", "divided"), [(2, 4, True), (1, 4, False), (2, 1, False), (2, 0, False)])
def test_the_cost_of_decoding_is_divided_among_short_clips_only(clips, tmp_path, monkeypatch, stride, workers, divided):
    monkeypatch.setattr(cost.os, "cpu_count", lambda: 8)
    monkeypatch.setattr(cost, "_probe", lambda tasks, backbone, short: cost._Probe(0.0, 1.0, 1.0))
    six = Manifest(tuple(Video(f"w{index}", "clips/4.mp4") for index in range(6)), clips.root)  # 61 frames each
    backbone = FakeBackbone(window=16, stride=stride)
    plan = make_plan(six, tmp_path / "s.zarr", backbone.recipe, [FeatureKey(1, 0)])
    found = cost.estimate_cost(plan, backbone, workers=workers)
    assert found.decoding_seconds == found.windows / (4 if divided else 1)


def test_what_the_writer_raises_comes_out_behind(tmp_path):
    with StoreWriter(tmp_path / "s.zarr", RECIPE.to_json()) as writer:

        def broken(_):
            raise OSError(28, "No space left on device")

        writer.fail = broken
        with pytest.raises(OSError, match="No space left"), Behind(writer) as behind:
            behind.fail(Failure("v", "decode_error", "x"))


def test_finished_videos_become_a_part_while_the_next_one_takes_hours(tmp_path, monkeypatch):
    monkeypatch.setattr(behind_module, "_LOOK_SECONDS", 0.02)
    path = tmp_path / "s.zarr"
    with Behind(StoreWriter(path, RECIPE.to_json(), part_seconds=0.2)) as behind:
        behind.fail(Failure("v", "decode_error", "x"))
        deadline = time.monotonic() + 30
        while not FeatureStore(path).failures and time.monotonic() < deadline:
            time.sleep(0.02)
        assert set(FeatureStore(path).failures) == {"v"}


def test_rows_are_never_in_memory_twice_and_go_with_the_video(tmp_path):
    keys = [FeatureKey(layer, 0) for layer in range(1, 9)]
    rows = Rows(Task(Video("v", "v.mp4"), Clip(tmp_path / "v.mp4"), tuple(keys)), "float32")
    rows.source = Source("0" * 64, 1, 1)
    tracemalloc.start()
    for _ in range(4):
        rows.expect()
        window = Window(torch.zeros(64, 3, 1, 1), np.arange(64), np.zeros(64))
        rows.take(window, {key: np.ones((64, 1024), np.float32) for key in keys})
    before, _ = tracemalloc.get_traced_memory()
    tracemalloc.reset_peak()
    video = rows.video()
    after, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert video.features[keys[3]].shape == (256, 1024)
    assert rows._rows == {}
    assert max(after, peak - 2 * 2**20) < 1.02 * before, "the parts go key by key"


def test_a_failed_video_lets_go_of_its_rows(tmp_path):
    rows = Rows(Task(Video("v", "v.mp4"), Clip(tmp_path / "v.mp4"), (FeatureKey(1, 0),)), "float32")
    rows.expect()
    array = np.ones((2, 4), np.float32)
    seen = weakref.ref(array)
    rows.take(Window(torch.zeros(2, 3, 1, 1), np.arange(2), np.zeros(2)), {FeatureKey(1, 0): array})
    del array
    rows.fail("truncated", "x")
    assert (rows.settled, seen()) == (True, None)
