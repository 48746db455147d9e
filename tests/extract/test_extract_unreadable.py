"""One clip that the file system does not give out, or that is gone, costs that clip and nothing else."""

import errno
import struct
from pathlib import Path

import numpy as np
import pytest
from fakes import FakeBackbone
from PIL import Image, ImageOps

import actiondiff.extract.clips as clips_module
import actiondiff.extract.video as video_module
from actiondiff.extract import Clip, ClipError, extract, make_plan
from actiondiff.manifests import Manifest, Video
from actiondiff.store import FeatureKey, FeatureStore

KEYS = [FeatureKey(9, 20), FeatureKey(3, 5)]


@pytest.mark.parametrize("number", [errno.EIO, errno.ESTALE])
def test_a_file_that_cannot_be_hashed_is_one_failed_clip(clips, tmp_path, monkeypatch, number):
    whole = clips_module._file_digest

    def broken(path: Path) -> str:
        if path.name == "2.mp4":
            raise OSError(number, "fault injected", str(path))
        return whole(path)

    monkeypatch.setattr(clips_module, "_file_digest", broken)
    report = extract(clips, tmp_path / "s.zarr", FakeBackbone(), KEYS)
    assert [(failure.video_id, failure.code) for failure in report.failed] == [("v2", "decode_error")]
    assert len(report.done) == 5
    again = extract(clips, tmp_path / "s.zarr", FakeBackbone(), KEYS)
    assert (again.done, len(again.skipped), len(again.failed)) == ((), 5, 1)


def test_a_file_that_vanishes_while_it_is_read_is_one_failed_clip(clips, tmp_path):
    class Removing(FakeBackbone):
        def window_features(self, window, keys):
            if window.name == "v5#0":
                (tmp_path / "clips" / "5.mp4").unlink()
            return super().window_features(window, keys)

    report = extract(clips, tmp_path / "s.zarr", Removing(window=5), KEYS, workers=0)
    assert [(failure.video_id, failure.code) for failure in report.failed] == [("v5", "missing")]
    assert len(report.done) == 5


@pytest.mark.parametrize("number", [errno.EIO, errno.EACCES, errno.ESTALE])
def test_a_path_that_cannot_be_looked_at_is_one_failed_clip(clips, tmp_path, monkeypatch, number):
    stat = Path.stat

    def broken(self, **settings):
        if self.name == "2.mp4":
            raise OSError(number, "fault injected", str(self))
        return stat(self, **settings)

    monkeypatch.setattr(Path, "stat", broken)
    report = extract(clips, tmp_path / "s.zarr", FakeBackbone(), KEYS)
    assert [(failure.video_id, failure.code) for failure in report.failed] == [("v2", "decode_error")]
    assert len(report.done) == 5


def test_a_done_clip_that_cannot_be_compared_is_told_and_the_others_go_on(clips, tmp_path, monkeypatch):
    extract(Manifest(clips.videos[:4], clips.root), tmp_path / "s.zarr", FakeBackbone(), KEYS)
    stat = Clip.stat

    def broken(self):
        if self.path.name == "2.mp4":
            raise ClipError("decode_error", "fault injected")
        return stat(self)

    monkeypatch.setattr(Clip, "stat", broken)
    report = extract(clips, tmp_path / "s.zarr", FakeBackbone(), KEYS)
    assert ([f.video_id for f in report.failed], len(report.skipped), len(report.done)) == (["v2"], 3, 2)


def test_a_malformed_display_matrix_is_one_failed_clip(clips, tmp_path, monkeypatch):
    def malformed(picture):
        raise struct.error("unpack requires a buffer of 36 bytes")

    monkeypatch.setattr(video_module, "display_matrix", malformed)
    report = extract(Manifest(clips.videos[:1], clips.root), tmp_path / "s.zarr", FakeBackbone(), KEYS)
    assert [failure.code for failure in report.failed] == ["decode_error"]


def test_an_image_with_malformed_exif_is_one_failed_clip(tmp_path, monkeypatch):
    def malformed(image):
        raise struct.error("unpack requires a buffer of 2 bytes")

    monkeypatch.setattr(ImageOps, "exif_transpose", malformed)
    Image.fromarray(np.zeros((8, 8, 3), np.uint8)).save(tmp_path / "1.png")
    with pytest.raises(ClipError) as caught:
        list(Clip(tmp_path).frames())
    assert caught.value.code == "decode_error"


def test_clips_that_are_missing_are_named_and_tried_again_when_they_are_there(clips, tmp_path):
    kept = (tmp_path / "clips" / "1.mp4").rename(tmp_path / "kept.mp4")
    report = extract(clips, tmp_path / "s.zarr", FakeBackbone(), KEYS)
    assert [(failure.video_id, failure.code) for failure in report.failed] == [("v1", "missing")]
    assert extract(clips, tmp_path / "s.zarr", FakeBackbone(), KEYS).failed[0].code == "missing"
    kept.rename(tmp_path / "clips" / "1.mp4")
    report = extract(clips, tmp_path / "s.zarr", FakeBackbone(), KEYS)
    assert (report.done, report.failed) == (("v1",), ())


def test_a_done_clip_whose_file_is_gone_stays_done(clips, tmp_path):
    extract(clips, tmp_path / "s.zarr", FakeBackbone(), KEYS[:1])
    before = FeatureStore(tmp_path / "s.zarr").read("v1", layer=9, timestep=20).tobytes()
    (tmp_path / "clips" / "1.mp4").unlink()
    report = extract(clips, tmp_path / "s.zarr", FakeBackbone(), KEYS[:1])
    assert (report.failed, len(report.skipped)) == ((), 6)
    report = extract(clips, tmp_path / "s.zarr", FakeBackbone(), KEYS)
    assert [(failure.video_id, failure.code) for failure in report.failed] == [("v1", "missing")]
    assert FeatureStore(tmp_path / "s.zarr").read("v1", layer=9, timestep=20).tobytes() == before


def test_the_command_takes_a_manifest_of_which_some_clips_are_missing(clips, tmp_path, actiondiff):
    clips.write(tmp_path / "manifest.csv")
    (tmp_path / "clips" / "1.mp4").unlink()
    result = actiondiff("extract", "--backbone", "frame-diff", cwd=tmp_path)
    assert result.exit_code == 1
    assert "v1 [missing]: There is nothing at" in result.stderr
    assert len(FeatureStore(tmp_path / "features.zarr")) == 5
    assert actiondiff("extract", "--backbone", "frame-diff", "--dry-run").exit_code == 0


def test_the_command_refuses_a_manifest_of_which_all_clips_are_missing(clips, tmp_path, actiondiff):
    clips.write(tmp_path / "manifest.csv")
    for path in (tmp_path / "clips").iterdir():
        path.unlink()
    result = actiondiff("extract", "--backbone", "frame-diff", cwd=tmp_path)
    assert (result.exit_code, "there is no file or folder" in result.stderr) == (2, True)
    assert not (tmp_path / "features.zarr").exists()


def test_videos_that_lack_the_same_features_come_together_in_the_manifests_order(clips, tmp_path, fake_backbone):
    some = Manifest(clips.videos[::2], clips.root)
    extract(some, tmp_path / "s.zarr", FakeBackbone(), KEYS[:1])
    extra = Manifest((*clips.videos, Video("v6", "clips/0.mp4")), clips.root)
    plan = make_plan(extra, tmp_path / "s.zarr", fake_backbone.recipe, KEYS)
    assert [task.video.video_id for task in plan.tasks] == ["v0", "v2", "v4", "v1", "v3", "v5", "v6"]
