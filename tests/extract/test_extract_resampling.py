"""``verify --sample``: what is in the store is what extracting again gives, or the difference is told."""

import json
from pathlib import Path

import numpy as np
import pytest
from fakes import FakeBackbone, draw_frames

from actiondiff import InputError
from actiondiff.extract import backbone_of, compare_sample, extract
from actiondiff.manifests import Manifest, Video, write_video
from actiondiff.store import FeatureKey, FeatureStore, RecipeMismatch, StoreWriter, VideoFeatures

KEYS = [FeatureKey(9, 20), FeatureKey(3, 5)]


@pytest.fixture
def path(clips: Manifest, tmp_path: Path) -> Path:
    extract(clips, tmp_path / "features.zarr", FakeBackbone(), KEYS)
    return tmp_path / "features.zarr"


def changed(path: Path, out: Path, video_id: str, by: float) -> FeatureStore:
    """A copy of the store in which one value of one video is another."""
    store = FeatureStore(path)
    with StoreWriter(out, store.recipe, "float32") as writer:
        for name in store.video_ids:
            features = {key: store.read(name, layer=key.layer, timestep=key.timestep) for key in store.keys(name)}
            if name == video_id:
                features[KEYS[1]][-1, 3] += by
            writer.add(
                VideoFeatures(name, store.source(name), store.frame_index(name), store.pts_seconds(name), features)
            )
    return FeatureStore(out)


def test_a_store_as_it_was_extracted_is_the_same_byte_for_byte(path: Path, clips: Manifest) -> None:
    check = compare_sample(FeatureStore(path), clips, FakeBackbone(), 4, seed=1)
    assert check.good
    assert [video.outcome for video in check.videos] == ["same"] * 4
    assert "4 same, 0 close" in check.text()


def test_the_seed_decides_which_videos_are_drawn_and_no_more_than_there_are(path: Path, clips: Manifest) -> None:
    def drawn(count: int, seed: int) -> list[str]:
        return [v.video_id for v in compare_sample(FeatureStore(path), clips, FakeBackbone(), count, seed).videos]

    assert drawn(2, 3) == drawn(2, 3)
    assert len({tuple(drawn(2, seed)) for seed in range(6)}) > 1
    assert drawn(100, 0) == [f"v{index}" for index in range(6)]


@pytest.mark.parametrize(("by", "outcome", "good"), [(1e-5, "close", True), (0.5, "differs", False)])
def test_a_value_that_is_another_is_told_with_its_size_and_place(
    path: Path, clips: Manifest, tmp_path: Path, by: float, outcome: str, good: bool
) -> None:
    store = changed(path, tmp_path / "changed.zarr", "v4", by)
    check = compare_sample(store, clips, FakeBackbone(), 6)
    found = {video.video_id: video for video in check.videos}
    assert (check.good, found["v4"].outcome) == (good, outcome)
    largest = np.abs(store.read("v4", layer=3, timestep=5)).max()
    assert found["v4"].error == pytest.approx(by / largest, rel=0.2)
    assert "layer 3, t 5" in found["v4"].message
    assert {video.outcome for name, video in found.items() if name != "v4"} == {"same"}


def test_a_clip_that_changed_or_went_is_told(path: Path, clips: Manifest) -> None:
    write_video(clips.root / "clips/1.mp4", draw_frames(12, seed=99), 25)
    (clips.root / "clips/2.mp4").unlink()
    check = compare_sample(FeatureStore(path), clips, FakeBackbone(), 6)
    outcomes = {video.video_id: video.outcome for video in check.videos}
    assert (check.good, outcomes["v1"], outcomes["v2"], outcomes["v3"]) == (False, "differs", "unreadable", "same")


def test_what_cannot_be_compared_is_refused(path: Path, clips: Manifest) -> None:
    store = FeatureStore(path)
    with pytest.raises(InputError, match="at least 1 video"):
        compare_sample(store, clips, FakeBackbone(), 0)
    with pytest.raises(RecipeMismatch, match="stride 4"):
        compare_sample(store, clips, FakeBackbone(stride=2), 1)
    with pytest.raises(InputError, match="No video of the manifest"):
        compare_sample(store, Manifest((Video("other", "clips/0.mp4", ("a",)),), clips.root), FakeBackbone(), 1)


def test_imported_features_cannot_be_extracted_again(tmp_path: Path) -> None:
    StoreWriter(tmp_path / "f.zarr", {"backbone": "imported"})
    with pytest.raises(InputError, match="were imported"):
        backbone_of(FeatureStore(tmp_path / "f.zarr"))


def test_the_command_compares_with_the_stores_own_recipe(clips: Manifest, tmp_path: Path, actiondiff) -> None:
    clips.write(tmp_path / "manifest.csv")
    told = actiondiff("extract", "--backbone", "frame-diff", "--store-compression", "zstd", cwd=tmp_path)
    assert told.exit_code == 0, told.stderr
    assert FeatureStore(tmp_path / "features.zarr").compression == "zstd"
    result = actiondiff("store", "verify", "--sample", 3, "--json", cwd=tmp_path)
    assert result.exit_code == 0, result.stderr
    sample = json.loads(result.stdout)["sample"]
    assert [video["outcome"] for video in sample["videos"]] == ["same"] * 3
    write_video(tmp_path / "clips/0.mp4", draw_frames(5, seed=99), 25)
    result = actiondiff("store", "verify", "--sample", 6, cwd=tmp_path)
    assert (result.exit_code, "v0 [differs]" in result.stderr) == (1, True)
