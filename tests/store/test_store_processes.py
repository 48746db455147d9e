import json
import os
import signal
import subprocess
import sys
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import store_children
from store_helpers import GRID, RECIPE, contents_of, contents_told, draw_failure, draw_video, parts_of

from actiondiff.store import FeatureStore, StoreNotFound, StoreNotWritable, StoreWriter, VideoFeatures, verify


def run_child(what: str, folder: Path) -> dict[str, Any]:
    done = subprocess.run([sys.executable, store_children.__file__, what, folder], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return {**json.loads(done.stdout), "stderr": done.stderr}


def test_a_writer_killed_at_any_step_leaves_whole_videos_and_the_next_one_completes_the_store(
    tmp_path: Path,
) -> None:
    killed = run_child("kill_everywhere", tmp_path)["killed"]
    assert killed > 120
    first, second = [draw_video("a"), draw_video("b")], [draw_video("a", GRID[:2])]
    states = ({}, contents_told(first), contents_told([*first, *second]))
    seen, staged = Counter[str](), 0
    for step in range(1, killed + 1):
        path = tmp_path / f"{step:03d}.zarr"
        try:
            store = FeatureStore(path)
        except StoreNotFound:
            seen["no store"] += 1
        else:
            found = contents_of(store)
            assert found in states
            assert ("broken" in store.failures) == bool(found)
            assert verify(path).good
            seen[f"{len(found)} arrays"] += 1
        staged += (path / ".writing").exists()
        with StoreWriter(path, RECIPE) as writer:
            assert not (path / ".writing").exists(), "the dead writer's staging is still there"
            there = FeatureStore(path)
            for video in (*first, *second):
                if there.missing(video.video_id, list(video.features)):
                    writer.add(video)
        assert contents_of(FeatureStore(path)) == states[-1]
        assert sorted(entry.name for entry in path.iterdir()) == ["parts", "zarr.json"]
        assert sorted(entry.name for entry in (path / "parts").iterdir() if not entry.name.startswith("part-")) == [
            "zarr.json"
        ]
    assert set(seen) == {"no store", "0 arrays", "2 arrays", "4 arrays"}
    assert staged > 40


def test_putting_damaged_parts_away_can_be_killed_at_any_step_and_done_again(tmp_path: Path) -> None:
    killed = run_child("kill_drops", tmp_path)["killed"]
    assert killed > 20
    for step in range(1, killed + 1):
        path = tmp_path / f"{step:03d}.zarr"
        verify(path, drop_damaged=True)
        with StoreWriter(path, RECIPE) as writer:
            there = FeatureStore(path)
            assert "c" in there
            for name in "ab":
                if name not in there:
                    writer.add(draw_video(name))
        assert verify(path).good
        assert contents_of(FeatureStore(path)) == contents_told([draw_video(name) for name in "abc"])
        assert not (path / ".writing").exists()


@pytest.mark.parametrize("commits", [1, 5])
def test_sigkill_from_outside_keeps_every_committed_video_and_no_half_one(tmp_path: Path, commits: int) -> None:
    path = tmp_path / "features.zarr"
    command = [sys.executable, store_children.__file__, "write_for_ever", path]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as writer:
        assert writer.stdout is not None
        for _ in range(commits):
            writer.stdout.readline()
        writer.send_signal(signal.SIGKILL)
    store = FeatureStore(path)
    assert len(store) >= commits
    drawn = [draw_video(video_id, (*GRID, store_children.KEY)) for video_id in store.video_ids]
    assert contents_of(store) == contents_told(drawn)


def test_the_staging_of_a_dead_process_is_cleaned_and_that_of_live_and_foreign_ones_is_not(tmp_path: Path) -> None:
    path = tmp_path / "features.zarr"
    StoreWriter(path, RECIPE)
    with subprocess.Popen([sys.executable, "-c", ""]) as process:
        process.wait()
    host = os.uname().nodename.replace(".", "-")
    dead = [f"part-1.{host}.{process.pid}", f"dead-1.{host}.{process.pid}"]
    kept = [
        f"part-2.{host}.{os.getpid()}",
        f"part-3.another-machine.{process.pid}",
        "part-4",
        "part-5.x.y",
        "notes.txt",
    ]
    for name in (*dead, *kept):
        (path / ".writing" / name / "layer_09").mkdir(parents=True)
    with StoreWriter(path, RECIPE) as writer:
        writer.add(draw_video("a"))
    assert {entry.name for entry in (path / ".writing").iterdir()} == set(kept)
    assert FeatureStore(path).video_ids == ("a",)


def test_a_writer_whose_staging_was_cleaned_though_it_lives_says_so_and_publishes_nothing_half(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "features.zarr"
    writer = StoreWriter(path, RECIPE)
    writer.add(draw_video("a"))
    real, cleaned = os.fsync, False

    def fsync(descriptor: int) -> None:
        nonlocal cleaned
        if not cleaned:  # as a writer in another container of this host's name would
            cleaned = True
            monkeypatch.setattr("actiondiff.store.staging._alive", lambda process: False)
            StoreWriter(path, RECIPE)
        real(descriptor)

    monkeypatch.setattr(os, "fsync", fsync)
    with pytest.raises(StoreNotWritable, match="taken away by another process"):
        writer.commit()
    assert parts_of(path) == []
    writer.commit()
    assert contents_of(FeatureStore(path)) == contents_told([draw_video("a")])


def test_four_processes_writing_into_one_new_store_at_once_lose_nothing_and_double_nothing(tmp_path: Path) -> None:
    told = run_child("write_many", tmp_path)
    assert told["codes"] == [0] * 80, told["stderr"]
    drawn = [draw_video(f"{number}/{index}") for number in range(4) for index in range(3)]
    for path in sorted(tmp_path.iterdir()):
        store = FeatureStore(path)
        assert contents_of(store) == contents_told(drawn)
        assert sum(len(part.video_ids) for part in store.parts) == len(drawn)
        assert store.failures == {f"broken/{n}": draw_failure(f"broken/{n}") for n in range(4)}
        assert sorted(entry.name for entry in path.iterdir()) == ["parts", "zarr.json"]


def test_eight_write_four_read_and_one_merges_at_once_and_nothing_is_lost_or_double(tmp_path: Path) -> None:
    told = run_child("everyone_at_once", tmp_path)
    assert told["codes"] == [0] * 13, told["stderr"]
    store = FeatureStore(tmp_path / "features.zarr")
    drawn = [draw_video(f"{number}/{index:02d}") for number in range(8) for index in range(12)]
    assert contents_of(store) == contents_told(drawn)
    assert sum(len(part.video_ids) for part in store.parts) == told["videos"] == 96
    assert told["merges"] > 0
    assert min(told["rounds"]) > 0
    assert verify(tmp_path / "features.zarr").good


@pytest.fixture
def videos(tmp_path: Path) -> list[VideoFeatures]:
    drawn = [draw_video(f"v{index}", GRID) for index in range(12)]
    with StoreWriter(tmp_path / "features.zarr", RECIPE, part_bytes=5000) as writer:
        for video in drawn:
            writer.add(video)
    return drawn


def test_forked_readers_read_the_same_with_the_parents_maps_and_without(
    tmp_path: Path, videos: list[VideoFeatures]
) -> None:
    told = run_child("read_forked", tmp_path / "features.zarr")
    assert told["codes"] == [0] * 4, told["stderr"]
    assert told["digest"] == store_children.digest(FeatureStore(tmp_path / "features.zarr"))


def test_a_reader_that_is_forked_while_a_map_is_let_go_waits_for_nobody(
    tmp_path: Path, videos: list[VideoFeatures]
) -> None:
    told = run_child("fork_while_maps_are_let_go", tmp_path / "features.zarr")
    assert (told["same"], told["codes"]) == (True, [0]), told["stderr"]


def test_threads_that_share_a_reader_read_the_same(tmp_path: Path, videos: list[VideoFeatures]) -> None:
    store = FeatureStore(tmp_path / "features.zarr")
    expected = contents_told(videos)
    with ThreadPoolExecutor(8) as pool:
        for found in pool.map(contents_of, [store] * 16):
            assert found == expected
