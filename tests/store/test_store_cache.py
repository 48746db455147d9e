"""What is kept of remote stores: the same bytes, in a bounded room, however many processes ask."""

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from store_helpers import GRID, KEY, RECIPE, contents_of, contents_told, draw_video

from actiondiff import InputError
from actiondiff.store import FeatureStore, StoreWriter
from actiondiff.store.cache import Cache, the_cache
from actiondiff.store.remote import RemotePath


def content_of(name: str, size: int = 100) -> bytes:
    return (name.encode() * size)[:size]


def kept_bytes(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file() and path.name[0] != ".")


def test_what_is_kept_is_fetched_once_and_is_there_for_the_next_cache(tmp_path: Path) -> None:
    fetched: list[str] = []

    def fetch() -> Iterator[bytes]:
        fetched.append("a")
        yield b"one "
        yield b"two"

    for _ in range(2):
        cache = Cache(tmp_path / "c", 1000)
        found = cache.keep("s/a", 7, fetch)
        assert found is not None
        assert found.tobytes() == b"one two"
        assert not found.flags.writeable
    assert fetched == ["a"]
    assert cache.find("s/b") is None


def test_the_oldest_in_use_go_and_the_bound_is_kept(tmp_path: Path) -> None:
    cache = Cache(tmp_path, 1000)
    for number in range(30):
        name = f"s/{number:02d}"
        mapped = cache.keep(name, 100, lambda name=name: [content_of(name)])
        assert mapped is not None
        assert kept_bytes(tmp_path) <= 1000
        assert cache.find("s/00") is not None, "it was used all the time"
        now = time.time_ns()
        os.utime(tmp_path / name, ns=(now + number, now + number))
        os.utime(tmp_path / "s/00", ns=(now + 10**9, now + 10**9))
    assert cache.find("s/01") is None
    assert mapped.tobytes() == content_of("s/29")


def test_a_map_outlives_the_file(tmp_path: Path) -> None:
    cache = Cache(tmp_path, 150)
    first = cache.keep("s/a", 100, lambda: [content_of("s/a")])
    cache.keep("s/b", 100, lambda: [content_of("s/b")])
    assert cache.find("s/a") is None
    assert first is not None
    assert first.tobytes() == content_of("s/a")


def test_what_is_too_large_or_does_not_fit_on_the_disk_is_not_kept(tmp_path: Path) -> None:
    assert Cache(tmp_path, 99).keep("s/a", 100, lambda: pytest.fail("asked for what it cannot keep")) is None
    (tmp_path / "file").write_text("")
    assert Cache(tmp_path / "file", 1000).keep("s/a", 100, lambda: [content_of("s/a")]) is None


def test_what_breaks_off_is_not_kept_and_its_error_goes_on(tmp_path: Path) -> None:
    cache = Cache(tmp_path, 1000)

    def breaks() -> Iterator[bytes]:
        yield b"half"
        raise ConnectionError("gone")

    with pytest.raises(ConnectionError):
        cache.keep("s/a", 100, breaks)
    with pytest.raises(EOFError, match="4 bytes of a came, 100 were expected"):
        cache.keep("s/a", 100, lambda: [b"half"])
    assert (cache.find("s/a"), kept_bytes(tmp_path)) == (None, 0)


def test_files_of_dead_processes_are_removed_when_room_is_made(tmp_path: Path) -> None:
    cache = Cache(tmp_path, 150)
    cache.keep("s/a", 100, lambda: [content_of("s/a")])
    (tmp_path / "s/.new-dead").write_bytes(bytes(100))
    cache.keep("s/b", 100, lambda: [content_of("s/b")])
    assert not (tmp_path / "s/.new-dead").exists()
    assert cache.find("s/b") is not None


HAMMER = """
import sys
from pathlib import Path
from actiondiff.store.cache import Cache
cache, fetched = Cache(Path(sys.argv[1]), 1000), 0
for turn in range(60):
    name = f"s/{turn * int(sys.argv[2]) % 17:02d}"
    def fetch():
        global fetched
        fetched += 1
        yield (name.encode() * 100)[:50]
        yield (name.encode() * 100)[50:100]
    found = cache.keep(name, 100, fetch)
    assert found is None or found.tobytes() == (name.encode() * 100)[:100], name
    with cache._locked(".size"):
        used = sum(p.stat().st_size for p in Path(sys.argv[1]).rglob("[0-9]*"))
    assert used <= 1000, used
print(fetched)
"""


def test_many_processes_and_threads_share_it(tmp_path: Path) -> None:
    def hammer(step: int) -> Any:
        return subprocess.run([sys.executable, "-c", HAMMER, tmp_path, str(step)], capture_output=True, text=True)

    with ThreadPoolExecutor(6) as pool:
        runs = list(pool.map(hammer, [1, 1, 3, 5, 7, 11]))
    assert [run.returncode for run in runs] == [0] * 6, [run.stderr for run in runs]
    assert not list(tmp_path.rglob(".new-*"))
    assert kept_bytes(tmp_path) <= 1000


def test_processes_that_want_the_same_fetch_it_once(tmp_path: Path) -> None:
    count = 0

    def fetch() -> Iterator[bytes]:
        nonlocal count
        count += 1
        time.sleep(0.05)
        yield content_of("s/a")

    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(lambda _: Cache(tmp_path, 1000).keep("s/a", 100, fetch), range(8)))
    assert count == 1
    assert all(one is not None and one.tobytes() == content_of("s/a") for one in found)


FORK_MEANWHILE = """
import os, signal, sys
from pathlib import Path
from actiondiff.store import cache as module
from actiondiff.store.cache import Cache
module.LOCKS = 1
cache, children = Cache(Path(sys.argv[1]), 1000), []
def fetch():
    ready, go = os.pipe()
    child = os.fork()
    if not child:
        signal.alarm(20)
        os.close(go)
        os.read(ready, 1)  # until the parent has fetched
        found = cache.keep("s/b", 3, lambda: [b"two"])  # another name, the same lock
        os._exit(0 if found is not None and found.tobytes() == b"two" else 1)
    os.close(ready)
    children.append((child, go))
    yield b"one"
cache.keep("s/a", 3, fetch)
[(child, go)] = children
os.write(go, b"x")
sys.exit(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
"""


def test_a_process_that_was_forked_during_a_fetch_does_not_wait_for_itself(tmp_path: Path) -> None:
    done = subprocess.run([sys.executable, "-c", FORK_MEANWHILE, tmp_path], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr


def test_the_environment_names_folder_and_bound(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ACTIONDIFF_CACHE", str(tmp_path))
    monkeypatch.setenv("ACTIONDIFF_CACHE_GB", "0.5")
    assert the_cache() == Cache(tmp_path, 500_000_000)
    monkeypatch.setenv("ACTIONDIFF_CACHE_GB", "much")
    with pytest.raises(InputError, match="number of gigabytes, 0 for no cache; got 'much'"):
        the_cache()


@pytest.fixture
def url(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setenv("ACTIONDIFF_CACHE", str(tmp_path / "cache"))
    url = f"memory://{tmp_path.name}/f.zarr"
    with StoreWriter(url, RECIPE) as writer:
        for name in "abc":
            writer.add(draw_video(name, GRID))
    return url


def counted_ranges(monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, int]]:
    """What is asked for of the layers' files beyond their indices."""
    ranges: list[tuple[int, int]] = []
    real = RemotePath.read_range

    def counting(self: RemotePath, start: int, stop: int) -> bytes:
        ranges.append((start, stop))
        return real(self, start, stop)

    monkeypatch.setattr(RemotePath, "read_range", counting)
    return ranges


def test_one_timestep_of_one_layer_is_all_that_is_fetched_and_only_once(
    url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    told = contents_told([draw_video(name, GRID) for name in "abc"])
    ranges = counted_ranges(monkeypatch)
    store = FeatureStore(url)
    for _ in range(3):
        for name in "abc":
            assert store.read(name, layer=2, timestep=20).tobytes() == told[name, GRID[3]]
    fetched = [stop - start for start, stop in ranges[1:]]  # the first is the index of the file
    [part] = store.parts
    assert sum(fetched) == part.file(2).stretch(20)[1] - part.file(2).stretch(20)[0]
    again = FeatureStore(url)
    ranges.clear()
    assert again.read("a", layer=2, timestep=20).tobytes() == told["a", GRID[3]]
    assert len(ranges) == 1  # the index


@pytest.mark.parametrize("compression", ["none", "zstd"])
def test_a_look_at_a_few_videos_does_not_fetch_a_large_part(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, compression: str
) -> None:
    monkeypatch.setenv("ACTIONDIFF_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr("actiondiff.store.fetching.REQUEST_BYTES", 200)
    url = f"memory://{tmp_path.name}/large.zarr"
    videos = [draw_video(f"v{number:02d}", frames=40) for number in range(50)]
    with StoreWriter(url, RECIPE, compression=compression) as writer:
        for video in videos:
            writer.add(video)
    ranges, store, told = counted_ranges(monkeypatch), FeatureStore(url), contents_told(videos)
    assert store.read("v07", layer=9, timestep=20).tobytes() == told["v07", KEY]
    [part] = store.parts
    begin, end = part.file(9).stretch(20)
    assert sum(stop - start for start, stop in ranges[1:]) < (end - begin) / 10
    for _ in range(4):
        assert contents_of(store) == told
    assert sum(stop - start for start, stop in ranges[1:]) <= 2 * (end - begin) + 1000


def test_without_a_cache_everything_is_read_by_ranges(
    url: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("ACTIONDIFF_CACHE_GB", "0")
    for _ in range(2):
        assert contents_of(FeatureStore(url)) == contents_told([draw_video(name, GRID) for name in "abc"])
    assert FeatureStore(url).load(layer=1, timestep=5).features.shape[1] == 3
    assert kept_bytes(tmp_path / "cache") == 0
