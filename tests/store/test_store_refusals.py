"""Disks that are full, folders that may not be written: one message with a remedy, and the store as it was before."""

import errno
import os
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from store_helpers import GRID, KEY, RECIPE, Steps, contents_of, contents_told, draw_video, files_of, parts_of

from actiondiff.store import (
    FeatureStore,
    StoreNotReadable,
    StoreNotWritable,
    StoreWriter,
    compact,
    export_hdf5,
    verify,
)

SMALL_MB = 2


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of two megabytes, where one may be mounted."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", f"size={SMALL_MB}m", "tmpfs", folder], capture_output=True, text=True
    )
    if mounted.returncode:
        pytest.skip(f"no file system can be mounted here: {mounted.stderr}")
    yield folder
    subprocess.run(["umount", folder], check=True)


@contextmanager
def read_only(disk: Path) -> Iterator[None]:
    subprocess.run(["mount", "-o", "remount,ro", disk], check=True)
    yield
    subprocess.run(["mount", "-o", "remount,rw", disk], check=True)


def large(name: str) -> Any:
    return draw_video(name, frames=400, channels=1280)


def test_a_full_disk_leaves_the_store_as_it_was_and_the_videos_in_hand_until_there_is_room(small_disk: Path) -> None:
    path, ballast = small_disk / "f.zarr", small_disk / "ballast"
    with StoreWriter(path, RECIPE) as writer:
        writer.add(draw_video("first"))
    before, writer = files_of(path), StoreWriter(path, RECIPE)
    ballast.write_bytes(bytes(1_500_000))
    writer.add(large("late"))
    with pytest.raises(StoreNotWritable, match=r"its disk is full\. Free some space") as caught:
        writer.commit()
    assert "[Errno" not in str(caught.value)
    assert str(path) in str(caught.value)
    assert files_of(path) == before
    ballast.unlink()
    writer.commit()
    assert contents_of(FeatureStore(path)) == contents_told([draw_video("first"), large("late")])


def test_a_full_disk_stops_a_merge_and_an_export_and_nothing_changes(small_disk: Path, tmp_path: Path) -> None:
    path = small_disk / "f.zarr"
    for name in "ab":
        with StoreWriter(path, RECIPE) as writer:
            writer.add(draw_video(name, frames=280, channels=1280))
    before = files_of(path)
    with pytest.raises(StoreNotWritable, match="its disk is full"):
        compact(path)
    assert files_of(path) == before
    with pytest.raises(StoreNotWritable, match="Nothing was exported"):
        export_hdf5(path, small_disk / "f.h5")
    assert {entry.name for entry in small_disk.iterdir()} == {"f.zarr"}
    assert verify(path).good


def test_a_read_only_file_system_is_told_by_everything_that_writes_and_can_be_read(small_disk: Path) -> None:
    path = small_disk / "f.zarr"
    for name in "ab":
        with StoreWriter(path, RECIPE) as writer:
            writer.add(draw_video(name))
    writer = StoreWriter(path, RECIPE)
    writer.add(draw_video("late"))
    with read_only(small_disk):
        for work in (writer.commit, lambda: compact(path), lambda: StoreWriter(small_disk / "new.zarr", RECIPE)):
            with pytest.raises(StoreNotWritable, match="file system is read-only"):
                work()
        assert contents_of(FeatureStore(path)) == contents_told([draw_video(name) for name in "ab"])
        assert verify(path).good
    writer.commit()


@contextmanager
def nobody() -> Iterator[None]:
    """Without the rights of an administrator, who may everything."""
    if os.geteuid() == 0:
        os.seteuid(65534)
    yield
    if os.getuid() == 0:
        os.seteuid(0)


@pytest.fixture
def closed(tmp_path: Path) -> Path:
    """A store that others than its owner may only read; ``nobody`` reaches the folders above it."""
    folder = tmp_path
    while folder != folder.parent:
        if not folder.stat().st_mode & 0o001:
            folder.chmod(folder.stat().st_mode | 0o055)
        folder = folder.parent
    with StoreWriter(tmp_path / "f.zarr", RECIPE) as writer:
        writer.add(draw_video("a"))
    if os.geteuid() != 0:
        for entry in (tmp_path / "f.zarr", *(tmp_path / "f.zarr").rglob("*")):
            if entry.is_dir():
                entry.chmod(0o555)
    return tmp_path / "f.zarr"


def test_no_permission_to_write_is_told_and_what_may_be_read_is_read(closed: Path) -> None:
    with nobody():
        writer = StoreWriter(closed, RECIPE)
        writer.add(draw_video("late"))
        with pytest.raises(StoreNotWritable, match="no permission to write there") as caught:
            writer.commit()
        assert isinstance(caught.value, OSError)
        with pytest.raises(StoreNotWritable, match="No store was made"):
            StoreWriter(closed / "parts" / "new.zarr", RECIPE)
        assert contents_of(FeatureStore(closed)) == contents_told([draw_video("a")])


@pytest.mark.parametrize("what", ["zarr.json", "parts"])
def test_no_permission_to_read_is_told(closed: Path, what: str) -> None:
    (closed / what).chmod(0)
    with nobody(), pytest.raises(StoreNotReadable, match=r"no permission to\. Ask for it"):
        FeatureStore(closed)
    (closed / what).chmod(0o755)


def failing(monkeypatch: pytest.MonkeyPatch, step: int, code: int) -> Callable[[], int]:
    """The file operation of this number fails so, and every one after it, as on a disk that is full."""
    steps = Steps()

    def patch(owner: Any, name: str) -> None:
        real = getattr(owner, name)

        def counted(*args: Any, **options: Any) -> Any:
            writes = name != "open" or "x" in str(args[1:])
            if writes and steps.take() >= step:
                raise OSError(code, os.strerror(code))
            return real(*args, **options)

        monkeypatch.setattr(owner, name, counted)

    for owner, name in ((os, "fsync"), (os, "link"), (Path, "mkdir"), (Path, "open")):
        patch(owner, name)
    return lambda: steps.taken


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EIO])
def test_a_store_that_cannot_be_made_at_any_step_is_no_store_and_can_be_made_later(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: int
) -> None:
    for step in range(1, 100):
        path = tmp_path / f"{step}.zarr"
        with monkeypatch.context() as patches:
            taken = failing(patches, step, code)
            try:
                StoreWriter(path, RECIPE)
            except StoreNotWritable as error:
                assert str(path) in str(error)  # noqa: PT017 - the last round does not raise
                assert "[Errno" not in str(error)  # noqa: PT017
        if taken() < step:
            break
        with StoreWriter(path, RECIPE) as writer:
            writer.add(draw_video("a"))
        assert contents_of(FeatureStore(path)) == contents_told([draw_video("a")])
    assert step > 8


def test_a_merge_that_fails_at_any_step_loses_and_doubles_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "f.zarr"
    for keys in ((KEY,), GRID[:2]):
        with StoreWriter(path, RECIPE) as writer:
            writer.add(draw_video("a", keys))
    told, failed = contents_told([draw_video("a", (KEY, *GRID[:2]))]), 0
    for step in range(1, 200):
        with monkeypatch.context() as patches:
            failing(patches, step, errno.ENOSPC)
            try:
                compact(path)
            except StoreNotWritable:
                failed += 1
        assert contents_of(FeatureStore(path)) == told
        assert verify(path).good
        if len(parts_of(path)) == 1:
            break
    assert failed > 20


def test_the_command_line_tells_it_in_one_sentence_and_leaves_with_2(tmp_path: Path, actiondiff) -> None:
    (tmp_path / "f.zarr").write_text("notes")
    (tmp_path / "npy/layer_9").mkdir(parents=True)
    for arguments in (["import", tmp_path / "npy", "--store", tmp_path / "f.zarr"], ["info", tmp_path / "f.zarr"]):
        result = actiondiff("store", *arguments)
        assert result.exit_code == 2
        assert "[Errno" not in result.stderr
        assert len(result.stderr.splitlines()) == 1
