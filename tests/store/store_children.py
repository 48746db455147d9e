"""What other processes do to a store: run as ``python store_children.py WHAT FOLDER`` and told of by JSON on stdout.

A process of its own, since the tests' has threads (of zarr-python and TensorStore) that a fork would lose.
"""

import hashlib
import json
import os
import resource
import signal
import sys
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

import google_crc32c
from store_helpers import GRID, KEY, RECIPE, Steps, contents_of, draw_failure, draw_video

from actiondiff.store import FeatureStore, RaggedFeatures, StoreWriter, compact, open_maps, place_of, verify
from actiondiff.store.part import Part
from actiondiff.store.remote import RemotePath

FILE_EVENTS = {"open", "os.mkdir", "os.rename", "os.link", "os.remove", "os.rmdir"}


def in_child(work: Callable[[], None]) -> int:
    """Fork and do it there; the child's process number."""
    child = os.fork()
    if child == 0:
        try:
            work()
            os._exit(0)
        except BaseException:
            traceback.print_exc()
            os._exit(1)
    return child


def outcome(child: int) -> int:
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def write_everything(store: Path) -> None:
    with StoreWriter(store, RECIPE) as writer:
        for name in "ab":
            writer.add(draw_video(name))
        writer.fail(draw_failure("broken"))
        writer.add(draw_video("a", GRID[:2]))


def kill_at_step(store: Path, step: int) -> Callable[[], None]:
    """Write, and SIGKILL oneself right before the step of this number: a file operation, a piece of a file, a flush."""

    return killing_itself(store, step, lambda: write_everything(store))


def killing_itself(store: Path, step: int, what: Callable[[], object]) -> Callable[[], None]:
    """The same of anything that is done to a store."""

    def work() -> None:
        steps = Steps()

        def count() -> None:
            if steps.take() == step:
                os.kill(os.getpid(), signal.SIGKILL)

        def hear(event: str, args: tuple[Any, ...]) -> None:
            if event in FILE_EVENTS and str(store) in str(args[0]):
                count()

        def extend(checksum: int, piece: bytes) -> int:
            if sys._getframe(1).f_code.co_name == "write_file":
                count()  # a file in the middle: the piece before this sum is written, or still in its buffer
            return summed(checksum, piece)

        summed, google_crc32c.extend = google_crc32c.extend, extend
        os.fsync = lambda descriptor: count()
        sys.addaudithook(hear)
        what()

    return work


def _each_step(folder: Path, prepare: Callable[[Path], None], killed: Callable[[Path, int], Any]) -> dict[str, Any]:
    """A new store for every step that something can be killed at, until it comes through."""
    step = 0
    while True:
        step += 1
        path = folder / f"{step:03d}.zarr"
        prepare(path)
        if outcome(in_child(killed(path, step))) == 0:
            return {"killed": step - 1}


def _three_parts(path: Path, broken: str = "") -> None:
    for name in "abc":
        with StoreWriter(path, RECIPE) as writer:
            if name == broken:
                writer.fail(draw_failure("broken"))
            writer.add(draw_video(name))


def _two_damaged_of_three(path: Path) -> None:
    _three_parts(path)
    for part in sorted((path / "parts").glob("part-*"))[:2]:
        (part / "frame_index/c/0").unlink()


def kill_everywhere(folder: Path) -> dict[str, Any]:
    """One new store for every step that a writer can be killed at."""
    return _each_step(folder, lambda path: None, kill_at_step)


def kill_merges(folder: Path) -> dict[str, Any]:
    """One new store of three small parts for every step that a merge can be killed at."""
    return _each_step(
        folder,
        lambda path: _three_parts(path, broken="b"),
        lambda path, step: killing_itself(path, step, lambda: compact(path)),
    )


def kill_drops(folder: Path) -> dict[str, Any]:
    """One new store with two damaged parts for every step that putting them away can be killed at."""
    return _each_step(
        folder,
        _two_damaged_of_three,
        lambda path, step: killing_itself(path, step, lambda: verify(path, drop_damaged=True)),
    )


def write_many(folder: Path) -> dict[str, Any]:
    """Four processes write into one new store at the same time, over and over."""
    codes, seconds = [], []
    for turn in range(20):
        store, begin = folder / f"{turn:02d}.zarr", time.monotonic() + 0.01

        def work(number: int, store: Path = store, begin: float = begin) -> None:
            while time.monotonic() < begin:
                pass
            with StoreWriter(store, RECIPE, part_bytes=1) as writer:
                for index in range(3):
                    writer.add(draw_video(f"{number}/{index}"))
                writer.fail(draw_failure(f"broken/{number}"))

        children = [in_child(lambda number=number, work=work: work(number)) for number in range(4)]
        codes += [outcome(child) for child in children]
        seconds.append(time.monotonic() - begin)
    return {"codes": codes, "seconds": seconds}


def everyone_at_once(folder: Path) -> dict[str, Any]:
    """Eight processes write, four read and one merges, all in one store."""
    path, writers, videos = folder / "features.zarr", 8, 12
    StoreWriter(path, RECIPE)
    writing = folder / "writing"
    writing.touch()

    def write(number: int) -> None:
        with StoreWriter(path, RECIPE) as writer:
            for index in range(videos):
                writer.add(draw_video(f"{number}/{index:02d}"))
                if index % 2:
                    writer.commit()

    def read(number: int) -> None:
        store, seen, rounds = FeatureStore(path), set[str](), 0
        while writing.exists():
            store.refresh()
            if not seen <= set(store.video_ids):
                raise AssertionError("A video that was there is gone.")
            seen = set(store.video_ids)
            for video_id in seen:
                if store.read(video_id, layer=9, timestep=20).tobytes() != draw_video(video_id).features[KEY].tobytes():
                    raise AssertionError(f"{video_id} reads as something else.")
            rounds += 1
        (folder / f"reader-{number}").write_text(str(rounds))

    def merge() -> None:
        merges = 0
        while writing.exists():
            merges += len(compact(path).merged)
        (folder / "merges").write_text(str(merges))

    others = [in_child(lambda number=number: read(number)) for number in range(4)] + [in_child(merge)]
    begin = time.monotonic()
    children = [in_child(lambda number=number: write(number)) for number in range(writers)]
    codes = [outcome(child) for child in children]
    seconds = time.monotonic() - begin
    writing.unlink()
    codes += [outcome(child) for child in others]
    rounds = [int((folder / f"reader-{number}").read_text()) for number in range(4)]
    merges = int((folder / "merges").read_text())
    return {"codes": codes, "seconds": seconds, "rounds": rounds, "merges": merges, "videos": writers * videos}


def digest(store: FeatureStore) -> str:
    found = hashlib.sha256()
    for (video_id, key), content in sorted(contents_of(store).items()):
        found.update(f"{video_id} {key}".encode() + content)
    return found.hexdigest()


def read_forked(folder: str | Path) -> dict[str, Any]:
    """Forked readers with the parent's mapped arrays and without."""
    fresh, used = FeatureStore(folder), FeatureStore(folder)
    expected = digest(used)

    def work(store: FeatureStore) -> None:
        for _ in range(3):
            if digest(store) != expected:
                raise AssertionError("A forked reader reads something else.")

    children = [in_child(lambda store=store: work(store)) for store in (fresh, used, fresh, used)]
    return {"codes": [outcome(child) for child in children], "digest": expected}


def fork_while_maps_are_let_go(folder: str | Path) -> dict[str, Any]:
    """A reader whose process is forked in the middle of letting a map go, as another thread may do."""
    open_maps.maps_at_most, forget, children = (lambda: 1), Part.forget, []
    store = FeatureStore(folder)
    expected = digest(store)

    def read() -> None:
        signal.alarm(20)
        if digest(store) != expected:
            raise AssertionError("A forked reader reads something else.")

    def forked(part: Part, unit: tuple[int, ...]) -> None:
        if not children:
            children.append(0)
            children[0] = in_child(read)
        forget(part, unit)

    Part.forget = forked
    return {"same": digest(store) == expected, "codes": [outcome(child) for child in children]}


def write_for_ever(folder: Path) -> dict[str, Any]:
    """A writer that says when each video is in a part, until it is killed."""
    with StoreWriter(folder, RECIPE) as writer:
        for index in range(10**6):
            writer.add(draw_video(f"v{index:06d}", (KEY, *GRID)))
            writer.commit()
            sys.stdout.write(f"{index}\n")
            sys.stdout.flush()
    return {}


def load_with_few_files(place: str | Path) -> dict[str, Any]:
    """How many videos of many parts come back right where a hundred files may be open."""
    resource.setrlimit(resource.RLIMIT_NOFILE, (100, 100))
    store = FeatureStore(place)

    def right(loaded: RaggedFeatures) -> int:
        return sum(
            rows.tobytes() == draw_video(name, frames=3).features[KEY].tobytes() for name, rows in loaded.items()
        )

    names = sorted(store.video_ids, key=lambda name: name[::-1])
    found = {
        "by_id": right(store.load(names, layer=9, timestep=20)),
        "all": right(store.load(layer=9, timestep=20)),
        "batches": sum(map(right, store.batches(names, layer=9, timestep=20, batch_size=7))),
    }
    del store  # whose maps take half of the files
    parts_after = compact(place).parts_after
    return found | {"parts_after": parts_after, "again": right(FeatureStore(place).load(names, layer=9, timestep=20))}


def load_with_no_file_left(folder: Path) -> dict[str, Any]:
    """What is told where something else has taken all files."""
    resource.setrlimit(resource.RLIMIT_NOFILE, (100, 100))
    store, taken = FeatureStore(folder), []
    try:
        while True:
            taken.append(os.open(os.devnull, os.O_RDONLY))
    except OSError:
        pass
    try:
        store.load(store.video_ids, layer=9, timestep=20)
    except OSError as error:
        return {"error": type(error).__name__, "told": "store compact" in str(error) and "ulimit -n" in str(error)}
    return {}


def kill_uploads(url: str) -> dict[str, Any]:
    """One new store behind a URL for every object that a writer can be killed before."""
    RemotePath(url).exists()  # loads the library, so that the children need not
    step = 0
    while True:
        step += 1
        if outcome(in_child(lambda step=step: upload_until_killed(f"{url}/{step:03d}.zarr", step))) == 0:
            return {"killed": step - 1}


def upload_until_killed(url: str, step: int) -> None:
    """Write into a store, and SIGKILL oneself right before the object of this number."""
    steps = Steps()

    def count(real: Callable[..., None]) -> Callable[..., None]:
        def counted(*args: Any) -> None:
            if steps.take() == step:
                os.kill(os.getpid(), signal.SIGKILL)
            real(*args)

        return counted

    RemotePath.upload, RemotePath.write_new = count(RemotePath.upload), count(RemotePath.write_new)
    with StoreWriter(url, RECIPE) as writer:
        for name in "ab":
            writer.add(draw_video(name))


if __name__ == "__main__":
    os.fsync = lambda descriptor: None  # a process's death loses nothing that the system has been given
    place = place_of(sys.argv[2])
    what = place if isinstance(place, Path) else str(place)
    sys.stdout.write(json.dumps(globals()[sys.argv[1]](what)) + "\n")
