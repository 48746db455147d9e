"""Features that are no longer of what the rows name are left out and told; splits are read to the letter."""

import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from actiondiff import InputError
from actiondiff.extract.clips import Clip
from actiondiff.heads import freshness
from actiondiff.heads.data import choose_key, extracted, load_features, load_rows
from actiondiff.heads.evaluation import evaluate
from actiondiff.heads.fitting import fit
from actiondiff.heads.freshness import stale_videos
from actiondiff.heads.parts import choose_parts
from actiondiff.heads.presets import FitConfig
from actiondiff.manifests import Manifest
from actiondiff.store import FeatureKey, FeatureStore, StoreWriter, VideoFeatures

KEY = FeatureKey(9, 20)


@pytest.fixture
def extracted_files(bench) -> Callable[..., tuple[FeatureStore, Manifest]]:
    """Files of videos (their content does not matter), a store of features that names them, and the manifest."""

    def make(count: int = 12, **columns: object) -> tuple[FeatureStore, Manifest]:
        manifest = bench.manifest([{**row, **columns} for row in bench.rows(count)])
        with StoreWriter(bench.folder / "features.zarr", {"backbone": "drawn"}, dtype="float32") as writer:
            for video in manifest:
                path = manifest.source(video)
                path.parent.mkdir(exist_ok=True)
                path.write_bytes(video.video_id.encode() * 9)
                array = bench.draw(video.labels)
                source = Clip(path, video.start_seconds, video.end_seconds).source()
                index, pts = np.arange(len(array)), np.arange(len(array)) / 30
                writer.add(VideoFeatures(video.video_id, source, index, pts, {KEY: array}))
        return FeatureStore(bench.folder / "features.zarr"), manifest

    return make


def test_what_was_extracted_is_fresh_and_no_file_is_read(extracted_files, monkeypatch: pytest.MonkeyPatch) -> None:
    store, manifest = extracted_files()
    monkeypatch.setattr(freshness, "_sha256", lambda *_: pytest.fail("read, though nothing differs"))
    assert stale_videos(store, manifest) == {}
    assert extracted(store, manifest) == (manifest, ())


def test_another_part_of_a_file_is_left_out_and_named(extracted_files) -> None:
    store, manifest = extracted_files(start_seconds=1.0, end_seconds=2.5)
    first = replace(manifest.videos[0], end_seconds=9.0)
    second = replace(manifest.videos[1], start_seconds=None)
    changed = Manifest((first, second, *manifest.videos[2:]), manifest.root)
    rest, [note] = extracted(store, changed)
    assert len(rest) == 10
    assert note.startswith("2 videos are left out, their features are not of what the manifest names now: ")
    assert "clip/000 (the features are of 1 s to 2.5 s, the row says 1 s to 9 s)" in note
    assert "the row says the start to 2.5 s" in note
    assert "extract into a new store" in note


def test_a_changed_file_is_left_out_a_touched_or_missing_one_is_not(extracted_files) -> None:
    store, manifest = extracted_files()
    longer, other, touched, gone = (manifest.source(video) for video in manifest.videos[:4])
    longer.write_bytes(b"more than there was, by far, and so not the same")
    other.write_bytes(other.read_bytes()[::-1])
    touched.touch()
    os.utime(touched, ns=(1, 1))
    os.utime(other, ns=(1, 1))
    gone.unlink()
    stale = stale_videos(store, manifest)
    assert list(stale) == ["clip/000", "clip/001"]
    assert "bytes and has" in stale["clip/000"]
    assert "content" in stale["clip/001"]


def test_folders_of_frames_are_hashed_as_extraction_hashes_them(tmp_path: Path) -> None:
    for number in (10, 9, 1):
        (tmp_path / f"f{number}.png").write_bytes(bytes([number]) * number)
    (tmp_path / ".hidden.png").write_bytes(b"no frame")
    (tmp_path / "note.txt").write_bytes(b"no frame")
    files = freshness._files(tmp_path)
    assert [file.name for file in files] == ["f1.png", "f9.png", "f10.png"]
    assert freshness._sha256(tmp_path, files) == Clip(tmp_path).source().sha256
    file = tmp_path / "f10.png"
    assert freshness._sha256(file, [file]) == Clip(file).source().sha256
    assert freshness._files(tmp_path / "nothing") == []


def test_nothing_is_known_of_imported_features(bench) -> None:
    manifest = bench.manifest(bench.rows(3))
    store = bench.store({v.video_id: bench.draw(v.labels) for v in manifest}, recipe={"backbone": "imported"})
    for video in manifest:
        path = manifest.source(video)
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(b"something")
    assert stale_videos(store, manifest) == {}


def test_fit_and_evaluate_say_what_they_left_out(extracted_files, quick: FitConfig) -> None:
    store, manifest = extracted_files()
    result = fit(store, manifest, quick)
    manifest.source(manifest.videos[0]).write_bytes(b"new")
    again = fit(store, manifest, quick)
    assert any("1 videos are left out" in note and "clip/000" in note for note in again.notes)
    assert all("clip/000" not in ids for ids in again.run.parts.values())
    evaluation = evaluate(result.run, store, manifest)
    assert evaluation.metrics.videos == 11
    assert any("clip/000" in note for note in evaluation.notes)
    for video in manifest:
        manifest.source(video).write_bytes(b"new")
    with pytest.raises(InputError, match="No video of the manifest has features that can be used"):
        fit(store, manifest, quick)


@pytest.mark.parametrize(
    ("split", "meant"), [("Train", "train"), ("TEST", "test"), ("validation", "val"), ("dev", "val")]
)
def test_misspelt_splits_are_refused(bench, quick: FitConfig, split: str, meant: str) -> None:
    manifest = bench.manifest(bench.rows(12) + bench.rows(6, split=split))
    store = bench.of(manifest)
    told = rf"by the words train, val and test; this manifest has '{split}' \(6 rows\) for {meant}"
    with pytest.raises(InputError, match=told):
        fit(store, manifest, quick)
    with pytest.raises(InputError, match=told):
        choose_parts(manifest, quick, train="split=")
    run = fit(store, manifest, quick, train="split=", tests=[f"split={split}"]).run
    with pytest.raises(InputError, match=told):
        evaluate(run, store, manifest)
    parts = choose_parts(manifest, quick, train="split=", tests=[f"split={split}"])
    assert (len(parts.train), len(parts.tests["test"])) == (12, 6)


def test_rows_of_other_splits_are_in_no_part_and_told(bench, quick: FitConfig) -> None:
    manifest = bench.manifest(bench.rows(6, split="train") + bench.rows(3) + bench.rows(4, split="fold2"))
    parts = choose_parts(manifest, quick)
    assert len(parts.train) == 6
    assert parts.notes == ("7 videos are in no part: their split is 'fold2', no split.",)
    manifest = bench.manifest(bench.rows(12) + bench.rows(4, split="unused") + bench.rows(4, split="test"))
    parts = choose_parts(manifest, quick)
    assert {video.split for video in parts.train} == {""}
    assert parts.notes == ("4 videos are in no part: their split is 'unused'.",)
    assert fit(bench.of(manifest), manifest, quick).notes[0] == parts.notes[0]


def test_remedies_name_the_store_and_the_backbone_in_use(bench) -> None:
    manifest = bench.manifest(bench.rows(3))
    drawn = {video.video_id: bench.draw(video.labels) for video in manifest}
    store = bench.store(drawn, "tiny.zarr", recipe={"backbone": "svd-tiny"})
    with pytest.raises(InputError, match=r"extract --layer 3 --t 20 --store .*tiny\.zarr --backbone svd-tiny"):
        choose_key(store, 3, None)
    more = bench.manifest(bench.rows(5))
    with pytest.raises(InputError, match=r"extract --layer 9 --t 20 --store .*tiny\.zarr --backbone svd-tiny"):
        load_features(store, more, KEY)


@pytest.mark.parametrize("limit_bytes", [None, 0])
def test_features_lie_in_one_array_in_memory_or_in_a_mapped_file(
    bench, quick: FitConfig, limit_bytes: int | None
) -> None:
    manifest = bench.manifest(bench.rows(600))
    store = bench.of(manifest)
    ids = [video.video_id for video in manifest][::-1]
    rows = load_rows(store, ids, KEY, limit_bytes)
    assert isinstance(rows.rows_RC, np.memmap) == (limit_bytes == 0)
    for index in (0, 1, 599):
        np.testing.assert_array_equal(rows[index], store.read(ids[index], layer=9, timestep=20))
    assert len(rows) == 600
    part = rows.subset([5, 2])
    assert part.rows_RC is rows.rows_RC
    np.testing.assert_array_equal(part[1], rows[2])
    assert not list(bench.folder.glob("actiondiff-features-*"))
