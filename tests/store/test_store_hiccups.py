"""Errors that pass (a network, a server, a limit) say nothing of a file: nothing is taken for damage, nothing goes."""

import errno
import os
import secrets
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from store_helpers import RECIPE, Steps, contents_of, contents_told, draw_video, files_of, parts_of

from actiondiff.store import FeatureStore, RemoteError, StoreNotReadable, StoreWriter, compact, verify
from actiondiff.store.remote import RemotePath

VIDEOS = [draw_video(name) for name in "abc"]
PASSING = [errno.ESTALE, errno.ETIMEDOUT, errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.EACCES, errno.EHOSTDOWN]


def write(path: str | Path) -> None:
    with StoreWriter(path, RECIPE) as writer:
        for video in VIDEOS:
            writer.add(video)
            writer.commit()


@pytest.fixture
def url(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setenv("ACTIONDIFF_CACHE", str(tmp_path / "cache"))
    url = f"memory://{secrets.token_hex(4)}/f.zarr"
    write(url)
    return url


@pytest.fixture
def path(tmp_path: Path) -> Path:
    write(tmp_path / "f.zarr")
    return tmp_path / "f.zarr"


def failing_once(real: Callable[..., Any], number: int, error: OSError) -> Callable[..., Any]:
    """The call of this number fails; those before and after it do not."""
    calls = Steps()

    def call(*args: Any, **named: Any) -> Any:
        if calls.take() == number:
            raise error
        return real(*args, **named)

    return call


@pytest.mark.parametrize("method", ["read_bytes", "read_range", "sizes", "exists"])
def test_a_network_that_fails_for_a_moment_never_drops_a_part(
    url: str, monkeypatch: pytest.MonkeyPatch, method: str
) -> None:
    objects, raised = set(RemotePath(url).sizes()), 0
    real = getattr(RemotePath, method)
    for number in range(1, 200):
        with monkeypatch.context() as patches:
            patches.setattr(RemotePath, method, failing_once(real, number, RemoteError("the network is down")))
            try:
                check = verify(url, drop_damaged=True)
            except RemoteError:
                raised += 1
            else:
                assert check.good, f"call {number} of {method}"
                break
        assert set(RemotePath(url).sizes()) == objects
    assert number > 1
    assert raised == number - 1
    assert contents_of(FeatureStore(url)) == contents_told(VIDEOS)


@pytest.mark.parametrize("code", PASSING, ids=errno.errorcode.get)
@pytest.mark.parametrize("method", ["read_bytes", "open"])
def test_a_server_or_limit_that_fails_for_a_moment_never_drops_a_part(
    path: Path, monkeypatch: pytest.MonkeyPatch, method: str, code: int
) -> None:
    before, real = files_of(path), getattr(Path, method)
    for number in range(1, 200):
        with monkeypatch.context() as patches:
            patches.setattr(Path, method, failing_once(real, number, OSError(code, os.strerror(code))))
            try:
                check = verify(path, drop_damaged=True)
            except StoreNotReadable as error:
                assert str(path) in str(error)  # noqa: PT017 - the last round does not raise
            else:
                assert check.good, f"call {number} of {method}"
                break
        assert files_of(path) == before
    assert number > 1


def test_a_passing_error_stops_a_merge_and_is_not_told_as_damage(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before, real = files_of(path), Path.open
    for number in range(1, 200):
        with monkeypatch.context() as patches:
            patches.setattr(Path, "open", failing_once(real, number, OSError(errno.ESTALE, "Stale file handle")))
            try:
                result = compact(path)
            except OSError:
                assert files_of(path) == before or len(parts_of(path)) == 1
            else:
                assert result.damaged == ()
                break
    assert contents_of(FeatureStore(path)) == contents_told(VIDEOS)


def test_a_file_that_the_disk_cannot_read_is_damage_and_its_part_is_dropped(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = Path.open

    def bad_sector(self: Path, *args: Any, **named: Any) -> Any:
        if self == parts_of(path)[0] / "pts_seconds/c/0":
            raise OSError(errno.EIO, "Input/output error")
        return real(self, *args, **named)

    name = parts_of(path)[0].name
    monkeypatch.setattr(Path, "open", bad_sector)
    check = verify(path, drop_damaged=True)
    assert [damage.kind for damage in check.damages] == ["unreadable"]
    assert check.dropped == (name,)


def test_a_disk_that_fails_once_keeps_its_part(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before, real = files_of(path), Path.open
    target, error = parts_of(path)[0] / "pts_seconds/c/0", OSError(errno.EIO, "Input/output error")
    once = failing_once(real, 1, error)

    def first_time(self: Path, *args: Any, **named: Any) -> Any:
        return (once if self == target else real)(self, *args, **named)

    monkeypatch.setattr(Path, "open", first_time)
    check = verify(path, drop_damaged=True)
    assert ([damage.kind for damage in check.damages], check.dropped) == (["unreadable"], ())
    assert files_of(path) == before
    assert "read whole" in check.text()
