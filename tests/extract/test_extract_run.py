"""A run resumes, refuses to mix, never substitutes; order and interruption change no byte of a video."""

import os
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
from fakes import FakeBackbone

from actiondiff.extract import estimate_cost, extract, load_backbone, make_plan
from actiondiff.manifests import Manifest, Video
from actiondiff.store import FeatureKey, FeatureStore, RecipeMismatch

KEYS = [FeatureKey(9, 20), FeatureKey(3, 5)]


def bytes_of(store_path, keys=KEYS) -> dict[str, bytes]:
    store = FeatureStore(store_path)
    return {
        video_id: b"".join(store.read(video_id, layer=key.layer, timestep=key.timestep).tobytes() for key in keys)
        + store.frame_index(video_id).tobytes()
        + store.pts_seconds(video_id).tobytes()
        for video_id in store.video_ids
    }


def test_every_row_is_its_own_frames_feature(clips, tmp_path, fake_backbone):
    report = extract(clips, tmp_path / "s.zarr", fake_backbone, KEYS)
    assert (len(report.done), report.skipped, report.failed) == (6, (), ())
    store = FeatureStore(tmp_path / "s.zarr")
    assert store.read("v5", layer=9, timestep=20).shape == (18, 4)
    assert store.read("v5", layer=3, timestep=5)[0].tolist()[1:] == [3, 5, 18]
    assert store.frame_index("v5").tolist() == list(range(0, 70, 4))
    assert np.allclose(store.pts_seconds("v5"), np.arange(0, 70, 4) / 25)


def test_a_second_run_does_nothing_again(clips, tmp_path):
    extract(clips, tmp_path / "s.zarr", FakeBackbone(), KEYS)
    again = FakeBackbone()
    report = extract(clips, tmp_path / "s.zarr", again, KEYS)
    assert (report.done, len(report.skipped), again.windows_seen) == ((), 6, 0)


def test_only_missing_layers_and_timesteps_are_added(clips, tmp_path):
    extract(clips, tmp_path / "s.zarr", FakeBackbone(), KEYS[:1])
    extract(clips, tmp_path / "s.zarr", FakeBackbone(), KEYS)
    extract(clips, tmp_path / "whole.zarr", FakeBackbone(), KEYS)
    assert FeatureStore(tmp_path / "s.zarr").keys() == tuple(sorted(KEYS))
    assert bytes_of(tmp_path / "s.zarr") == bytes_of(tmp_path / "whole.zarr")


def test_a_bad_clip_is_noted_and_never_substituted(clips, tmp_path):
    (tmp_path / "clips" / "2.mp4").write_text("no video")
    report = extract(clips, tmp_path / "s.zarr", FakeBackbone(), KEYS)
    assert [(failure.video_id, failure.code) for failure in report.failed] == [("v2", "decode_error")]
    store = FeatureStore(tmp_path / "s.zarr")
    assert "v2" not in store
    assert store.failures["v2"].code == "decode_error"


def test_a_failed_clip_is_tried_again_only_when_asked(clips, tmp_path):
    good = (tmp_path / "clips" / "2.mp4").read_bytes()
    (tmp_path / "clips" / "2.mp4").write_text("no video")
    extract(clips, tmp_path / "s.zarr", FakeBackbone(), KEYS)
    (tmp_path / "clips" / "2.mp4").write_bytes(good)
    still = extract(clips, tmp_path / "s.zarr", FakeBackbone(), KEYS)
    assert [failure.video_id for failure in still.failed] == ["v2"]
    mended = extract(clips, tmp_path / "s.zarr", FakeBackbone(), KEYS, retry_failed=True)
    assert (mended.done, mended.failed) == (("v2",), ())
    assert FeatureStore(tmp_path / "s.zarr").failures == {}


def test_on_error_fail_stops_at_the_first_bad_clip_and_keeps_what_is_whole(clips, tmp_path):
    (tmp_path / "clips" / "2.mp4").write_text("no video")
    report = extract(clips, tmp_path / "s.zarr", FakeBackbone(), KEYS, on_error="fail")
    assert (report.done, [failure.video_id for failure in report.failed]) == (("v0", "v1"), ["v2"])
    assert FeatureStore(tmp_path / "s.zarr").video_ids == ("v0", "v1")


def test_a_clip_whose_content_changed_is_told_not_mixed(clips, tmp_path):
    extract(clips, tmp_path / "s.zarr", FakeBackbone(), KEYS)
    (tmp_path / "clips" / "1.mp4").write_bytes((tmp_path / "clips" / "0.mp4").read_bytes())
    os.utime(tmp_path / "clips" / "3.mp4")  # touched, but the same content
    report = extract(clips, tmp_path / "s.zarr", FakeBackbone(), KEYS)
    assert [(failure.video_id, failure.code) for failure in report.failed] == [("v1", "source_changed")]
    assert len(report.skipped) == 5


def test_another_part_of_the_same_video_is_another_source(clips, tmp_path):
    extract(clips, tmp_path / "s.zarr", FakeBackbone(), KEYS)
    cut = Manifest((Video("v5", "clips/5.mp4", start_seconds=0.5, end_seconds=1.0),), tmp_path)
    assert extract(cut, tmp_path / "s.zarr", FakeBackbone(), KEYS).failed[0].code == "source_changed"


def test_a_store_of_another_recipe_is_refused_naming_the_difference(clips, tmp_path):
    extract(clips, tmp_path / "s.zarr", FakeBackbone(), KEYS)
    before = bytes_of(tmp_path / "s.zarr")
    with pytest.raises(RecipeMismatch, match=r"stride 4 \(asked for: 2\)"):
        extract(clips, tmp_path / "s.zarr", FakeBackbone(stride=2), KEYS)
    assert bytes_of(tmp_path / "s.zarr") == before


def test_values_that_are_not_finite_or_overflow_fail_the_video(clips, tmp_path):
    class Broken(FakeBackbone):
        def window_features(self, window, keys):
            features = super().window_features(window, keys)
            value = {5: float("nan"), 12: 1e6}.get(int(window.frame_index[-1]) + 1, 0.0)
            return {key: array + value for key, array in features.items()}

    report = extract(clips, tmp_path / "s.zarr", Broken(stride=1, store_dtype="float16"), KEYS)
    assert {failure.video_id: failure.code for failure in report.failed} == {"v0": "not_finite", "v1": "overflow"}
    assert len(report.done) == 4


def test_an_unexpected_error_names_its_clip_and_keeps_what_is_whole(clips, tmp_path):
    class Dying(FakeBackbone):
        def window_features(self, window, keys):
            if self.windows_seen == 3:
                raise RuntimeError("device on fire")
            return super().window_features(window, keys)

    with pytest.raises(RuntimeError) as caught:
        extract(clips, tmp_path / "s.zarr", Dying(stride=1), KEYS)
    assert "'v2'" in caught.value.__notes__[0]
    assert FeatureStore(tmp_path / "s.zarr").video_ids == ("v0", "v1")


def test_order_halves_and_interruption_change_no_byte(clips, tmp_path):
    """With the real network: one go, reversed, in two halves, and interrupted after the third clip."""
    settings = {"size_hw": (64, 64), "stride": 8, "device": "cpu"}
    keys = [FeatureKey(9, 20), FeatureKey(13, 5)]

    def run(name, manifest):
        extract(manifest, tmp_path / name, load_backbone("svd-tiny", **settings), keys)

    run("once", clips)
    run("reversed", Manifest(clips.videos[::-1], clips.root))
    run("halves", Manifest(clips.videos[::2], clips.root))
    run("halves", clips)

    backbone = load_backbone("svd-tiny", **settings)
    whole = backbone.features
    calls = []

    def interrupted(window, keys):
        calls.append(window)
        if len(calls) == 4:
            raise KeyboardInterrupt
        return whole(window, keys)

    backbone.features = interrupted
    with pytest.raises(KeyboardInterrupt):
        extract(clips, tmp_path / "interrupted", backbone, keys)
    assert len(FeatureStore(tmp_path / "interrupted")) == 3
    run("interrupted", clips)

    expected = bytes_of(tmp_path / "once", keys)
    assert len(expected) == 6
    for name in ("reversed", "halves", "interrupted"):
        assert bytes_of(tmp_path / name, keys) == expected, name


KILLED_RUN = """
import sys, time
sys.path.insert(0, {tests!r})
from pathlib import Path
from fakes import FakeBackbone
from actiondiff.extract import extract
from actiondiff.manifests import Manifest
from actiondiff.store import FeatureKey
from actiondiff.store import StoreWriter

class Slow(FakeBackbone):
    def window_features(self, window, keys):
        time.sleep(0.05)
        return super().window_features(window, keys)

StoreWriter.__init__.__defaults__ = ("float16", 1, 600.0, "", None)  # every video is a part of its own
folder = Path({folder!r})
print("ready", flush=True)
extract(Manifest.read(folder / "manifest.csv"), folder / "s.zarr", Slow(), [FeatureKey(9, 20), FeatureKey(3, 5)])
"""


@pytest.mark.parametrize("parts", [0, 2, 4])
def test_a_killed_run_resumes_to_the_same_bytes(clips, tmp_path, parts):
    from pathlib import Path

    clips.write(tmp_path / "manifest.csv")
    script = KILLED_RUN.format(tests=str(Path(__file__).parents[1]), folder=str(tmp_path))
    process = subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True)
    assert process.stdout.readline().strip() == "ready"
    deadline = time.monotonic() + 60
    while len(list((tmp_path / "s.zarr" / "parts").glob("part-*"))) < parts and time.monotonic() < deadline:
        time.sleep(0.005)
    process.send_signal(signal.SIGKILL)
    process.wait()
    if parts:
        assert parts <= len(FeatureStore(tmp_path / "s.zarr")) < 6
    extract(clips, tmp_path / "s.zarr", FakeBackbone(), KEYS)
    extract(clips, tmp_path / "whole.zarr", FakeBackbone(), KEYS)
    assert bytes_of(tmp_path / "s.zarr") == bytes_of(tmp_path / "whole.zarr")


def test_a_plan_and_its_cost_are_told_without_writing(clips, tmp_path, fake_backbone):
    plan = make_plan(clips, tmp_path / "s.zarr", fake_backbone.recipe, KEYS)
    cost = estimate_cost(plan, fake_backbone)
    sampled = sum(-(-frames // 4) for frames in (5, 12, 26, 40, 61, 70))
    assert (cost.clips, cost.frames, cost.windows, cost.unknown) == (6, sampled, 6, 0)
    assert cost.store_bytes == sampled * 4 * 2 * 4
    assert not (tmp_path / "s.zarr").exists()
