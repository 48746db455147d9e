"""Compacting: fewer parts, the same content; nothing lost or doubled by a kill at any step or by those who go on."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
import store_children
from store_helpers import GRID, KEY, RECIPE, contents_of, contents_told, draw_failure, draw_video, files_of, parts_of

from actiondiff.store import Failure, FeatureStore, Source, StoreBusy, StoreWriter, VideoFeatures, compact, verify
from actiondiff.store.part import Part, write_part
from actiondiff.store.staging import only_one

VIDEOS = [draw_video(f"v{index}", GRID) for index in range(7)]


def write_each(path: Path, videos: list[VideoFeatures]) -> None:
    for video in videos:
        with StoreWriter(path, RECIPE) as writer:
            writer.add(video)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "features.zarr"
    write_each(path, VIDEOS)
    return path


def test_small_parts_become_one_with_the_same_content(path: Path) -> None:
    reader = FeatureStore(path)
    before = [part.name for part in parts_of(path)]
    result = compact(path)
    [part] = parts_of(path)
    assert result.merged == {part.name: tuple(before)}
    assert (result.parts_before, result.parts_after, result.damaged) == (7, 1, ())
    assert "7 parts -> 1" in result.text()
    assert verify(path).good
    for store in (reader, FeatureStore(path)):
        assert contents_of(store) == contents_told(VIDEOS)
    assert part.name.split("-")[1] == before[-1].split("-")[1]
    assert not (path / ".writing").exists()


def test_compacting_again_changes_nothing(path: Path) -> None:
    compact(path)
    before = files_of(path)
    assert compact(path).merged == {}
    assert files_of(path) == before


def test_merged_parts_hold_no_more_than_they_may_and_large_ones_are_left(path: Path) -> None:
    with StoreWriter(path, RECIPE) as writer:
        writer.add(draw_video("large", GRID, frames=700))
    large = parts_of(path)[-1].name
    compact(path, part_bytes=8000)
    assert large in {part.name for part in parts_of(path)}
    assert 2 < len(parts_of(path)) < 8
    assert contents_of(FeatureStore(path)) == contents_told([*VIDEOS, draw_video("large", GRID, frames=700)])


def test_parts_of_other_keys_between_them_are_left_and_repeated_videos_are_kept_once(path: Path) -> None:
    others = [draw_video("v0"), draw_video("v5"), draw_video("w")]
    write_each(path, others)
    write_each(path, [VIDEOS[3], draw_video("v6")])
    compact(path)
    store = FeatureStore(path)
    assert contents_of(store) == contents_told([*VIDEOS, *others, draw_video("v6")])
    assert sorted(len(part.video_ids) for part in store.parts) == [4, 7]


def test_a_failure_that_counts_goes_on_counting_and_one_that_was_taken_back_does_not(path: Path) -> None:
    write_part(path, [], [draw_failure("gone"), draw_failure("back")], "float16")
    write_each(path, [draw_video("back", GRID), draw_video("v1", GRID)])
    write_part(path, [], [Failure("v1", "other", "Layer 9 failed.")], "float16")
    write_each(path, [draw_video("late", GRID)])
    before = FeatureStore(path).failures
    assert set(before) == {"gone", "v1"}
    for _ in range(2):
        compact(path)
        assert FeatureStore(path).failures == before
    write_each(path, [draw_video("v1"), draw_video("gone")])
    compact(path)
    assert FeatureStore(path).failures == {}


def test_a_video_of_two_sources_keeps_the_order_of_its_parts(path: Path) -> None:
    video = draw_video("v0")
    other = VideoFeatures("v0", Source("f" * 64, 1, 2), video.frame_index, video.pts_seconds, video.features)
    write_each(path, [other])
    compact(path)
    assert FeatureStore(path).source("v0") == VIDEOS[0].source
    assert sorted(len(part.video_ids) for part in FeatureStore(path).parts) == [1, 1, 6]


def test_damage_is_never_given_a_new_checksum(path: Path) -> None:
    shard = parts_of(path)[2] / "layer_02/c/0/0/0"
    content = bytearray(shard.read_bytes())
    content[0] ^= 1
    shard.write_bytes(content)
    result = compact(path)
    assert result.damaged == (shard.parents[4].name,)
    assert result.damaged[0] in result.text()
    assert [damage.part for damage in verify(path).damages] == list(result.damaged)
    verify(path, drop_damaged=True)
    assert contents_of(FeatureStore(path)) == contents_told([*VIDEOS[:2], *VIDEOS[3:]])


def test_a_reader_that_meets_both_leaves_out_the_superseded_and_the_next_merge_puts_them_away(path: Path) -> None:
    names = [part.name for part in parts_of(path)]
    write_part(path, VIDEOS, [], "float16", supersedes=names)
    store = FeatureStore(path)
    assert contents_of(store) == contents_told(VIDEOS)
    assert [len(part.video_ids) for part in store.parts] == [7]
    check = verify(path)
    assert (check.good, check.parts) == (True, 1)
    assert compact(path).merged == {}
    assert len(parts_of(path)) == 1


def test_two_do_not_compact_at_once(path: Path) -> None:
    with only_one(path), pytest.raises(StoreBusy):
        compact(path)


def test_a_listing_that_misses_both_the_old_and_the_new_is_not_believed(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from actiondiff.store import index as index_module

    real, calls = index_module.part_names, []

    def names(folder: Path) -> list[str]:
        found = real(folder)
        calls.append(found)
        if len(calls) == 1:
            return found  # and between the two listings all of them are merged
        if len(calls) == 2:
            compact(path)
            return []
        return real(folder)

    monkeypatch.setattr(index_module, "part_names", names)
    assert contents_of(FeatureStore(path)) == contents_told(VIDEOS)


def test_a_part_that_is_merged_between_listing_and_opening_is_looked_for_again(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = Part.open

    def slow(folder: Path) -> Part:
        monkeypatch.setattr(Part, "open", real)
        compact(path)
        return real(folder)

    monkeypatch.setattr(Part, "open", slow)
    assert contents_of(FeatureStore(path)) == contents_told(VIDEOS)


def test_a_kill_before_any_file_operation_of_a_merge_loses_and_doubles_nothing(tmp_path: Path) -> None:
    command = [sys.executable, store_children.__file__, "kill_merges", tmp_path]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    killed = json.loads(done.stdout)["killed"]
    assert killed > 40
    told, seen = contents_told([draw_video(name) for name in "abc"]), set()
    for step in range(1, killed + 1):
        path = tmp_path / f"{step:03d}.zarr"
        store = FeatureStore(path)
        assert contents_of(store) == told
        assert sum(len(part.video_ids) for part in store.parts) == 3
        assert set(store.failures) == {"broken"}
        assert verify(path).good
        seen.add((len(parts_of(path)), len(store.parts)))
        if step % 4 == 0 or len(parts_of(path)) > len(store.parts):
            compact(path)
            assert contents_of(FeatureStore(path)) == told
            assert (len(parts_of(path)), set(FeatureStore(path).failures)) == (1, {"broken"})
            assert not (path / ".writing").exists()
    assert seen >= {(3, 3), (4, 1), (1, 1)}
    assert store.keys() == (KEY,)


def test_layers_that_were_added_later_go_beside_the_first_ones(tmp_path: Path) -> None:
    path = tmp_path / "features.zarr"
    for keys in ((KEY,), GRID[:2], GRID[2:4]):
        write_each(path, [draw_video(name, keys) for name in "abc"])
    old = [part.name for part in parts_of(path)]
    reader = FeatureStore(path)
    result = compact(path)
    [part] = parts_of(path)
    assert (result.parts_before, result.parts_after) == (9, 1)
    assert {name: sorted(names) for name, names in result.merged.items()} == {part.name: old}
    told = contents_told([draw_video(name, (KEY, *GRID[:4])) for name in "abc"])
    for store in (reader, FeatureStore(path)):
        assert contents_of(store) == told
    assert verify(path).good
    assert compact(path).merged == {}


def test_parts_that_share_only_some_videos_stay_beside_one_another(tmp_path: Path) -> None:
    path = tmp_path / "features.zarr"
    write_each(path, [draw_video("a"), draw_video("b"), draw_video("a", GRID)])
    assert compact(path).parts_after == 2
    assert contents_of(FeatureStore(path)) == contents_told([draw_video("a", (KEY, *GRID)), draw_video("b")])


def test_what_a_killed_merge_left_is_kept_as_long_as_the_merged_part_is_damaged(path: Path) -> None:
    names = [part.name for part in parts_of(path)]
    merged = write_part(path, VIDEOS, [], "float16", supersedes=names)
    (path / "parts" / merged / "layer_02/c/0/0/0").unlink()
    result = compact(path)
    assert (result.damaged, {part.name for part in parts_of(path)}) == ((merged,), {*names, merged})
    assert verify(path, drop_damaged=True).dropped == (merged,)
    assert contents_of(FeatureStore(path)) == contents_told(VIDEOS)
    assert compact(path).damaged == ()
    assert contents_of(FeatureStore(path)) == contents_told(VIDEOS)


def test_what_a_killed_merge_left_goes_part_by_part(path: Path) -> None:
    """Two merges were killed; one of the merged parts is whole."""
    names = [part.name for part in parts_of(path)]
    good = write_part(path, VIDEOS[:2], [], "float16", supersedes=names[:2])
    bad = write_part(path, VIDEOS[2:], [], "float16", supersedes=names[2:])
    (path / "parts" / bad / "pts_seconds/c/0").unlink()
    assert compact(path).damaged == (bad,)
    assert {part.name for part in parts_of(path)} == {good, bad, *names[2:]}
