"""Stores behind URLs: an S3-compatible server on loopback, and fsspec's memory and file."""

import json
import os
import pickle
import secrets
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import fsspec
import numpy as np
import pytest
import store_children
import zarr
from store_helpers import GRID, KEY, RECIPE, Steps, contents_of, contents_told, draw_failure, draw_video

from actiondiff import InputError
from actiondiff.store import (
    FeatureStore,
    RecipeMismatch,
    RemoteError,
    StoreError,
    StoreNotFound,
    StoreNotWritable,
    StoreWriter,
    compact,
    describe,
    export_hdf5,
    import_features,
    place_of,
    verify,
)
from actiondiff.store import remote as remote_module
from actiondiff.store.remote import RemotePath

SERVER = """
import logging, sys
from moto.server import ThreadedMotoServer
logging.getLogger("werkzeug").setLevel(logging.ERROR)
server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
server.start()
print(server.get_host_and_port()[1], flush=True)
sys.stdin.read()
"""


@pytest.fixture(scope="module")
def s3() -> Iterator[str]:
    """A bucket of a server of its own; everybody finds it as they would find AWS, by the environment."""
    pytest.importorskip("moto")
    s3fs = pytest.importorskip("s3fs")
    s3fs.S3FileSystem.clear_instance_cache()  # another module's server, or an earlier one of this, is gone
    with (
        subprocess.Popen(
            [sys.executable, "-c", SERVER], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        ) as server,
        pytest.MonkeyPatch.context() as patches,
    ):
        assert server.stdout is not None
        assert server.stdin is not None
        port = server.stdout.readline().strip()
        patches.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{port}")
        for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
            patches.setenv(name, "testing")
        patches.setenv("AWS_DEFAULT_REGION", "us-east-1")
        fsspec.filesystem("s3").mkdir("features")
        yield "s3://features"
        s3fs.S3FileSystem.clear_instance_cache()
        server.stdin.close()


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("ACTIONDIFF_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture(params=["memory", "local", "s3"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """Where no store is yet."""
    if request.param == "s3":
        return f"{request.getfixturevalue('s3')}/{secrets.token_hex(4)}/features.zarr"
    return (
        f"memory://{secrets.token_hex(4)}/features.zarr" if request.param == "memory" else f"local://{tmp_path}/f.zarr"
    )


VIDEOS = [draw_video(name, frames=40 + 7 * n) for n, name in enumerate(("a", "lawn/b", "straße/推"))]


def write(url: str, compression: str | None = None) -> None:
    with StoreWriter(url, RECIPE, compression=compression) as writer:
        for video in VIDEOS:
            writer.add(video)
            writer.commit()
        writer.fail(draw_failure("broken"))


def objects(url: str) -> set[str]:
    return set(RemotePath(url).sizes())


@pytest.mark.parametrize("compression", ["none", "zstd"])
def test_what_is_written_is_read_back_bit_for_bit_and_again_from_the_cache(
    url: str, compression: str, cache: Path
) -> None:
    write(url, compression)
    for _ in range(2):
        store = FeatureStore(url)
        assert contents_of(store) == contents_told(VIDEOS)
        assert store.failures == {"broken": draw_failure("broken")}
        loaded = store.load(layer=9, timestep=20)
        assert {(name, KEY): rows.tobytes() for name, rows in loaded.items()} == contents_told(VIDEOS)
    assert str(store.path) == url
    assert any(cache.rglob("*.20"))
    assert verify(url).good


def test_the_objects_are_those_of_a_local_store_and_plain_zarr_reads_them(url: str, tmp_path: Path) -> None:
    write(url)
    fetched = RemotePath(url).fetch(tmp_path / "fetched")
    assert verify(fetched).good
    assert contents_of(FeatureStore(fetched)) == contents_told(VIDEOS)
    group = zarr.open_group(zarr.storage.FsspecStore.from_url(f"{url}/parts", read_only=True), mode="r")
    for _, part in group.groups():
        for video, start, stop in zip(
            part.attrs["video_ids"], part.attrs["row_offsets"], part.attrs["row_offsets"][1:], strict=False
        ):
            assert (
                part["layer_09"][0, start:stop].tobytes()
                == draw_video(video, frames=stop - start).features[KEY].tobytes()
            )


def test_a_store_is_made_once_extended_and_guarded_by_its_recipe(url: str) -> None:
    with pytest.raises(StoreNotFound, match="There is no store at"):
        FeatureStore(url)
    write(url)
    with StoreWriter(url, RECIPE) as writer:
        writer.add(draw_video("late", GRID))
    assert FeatureStore(url).keys("late") == GRID
    before = objects(url)
    with pytest.raises(RecipeMismatch, match="stride 4"):
        StoreWriter(url, RECIPE | {"stride": 8})
    (RemotePath(f"{url}-other") / "notes.txt").write_new(b"notes")
    with pytest.raises(InputError, match="holds 'notes"):
        StoreWriter(f"{url}-other", RECIPE)
    assert objects(url) == before


def test_small_parts_are_merged_while_a_reader_goes_on(url: str) -> None:
    write(url)
    reader = FeatureStore(url)
    assert reader.read("a", layer=9, timestep=20).tobytes() == VIDEOS[0].features[KEY].tobytes()
    result = compact(url)
    assert (result.parts_before, result.parts_after) == (4, 2)
    assert contents_of(reader) == contents_told(VIDEOS)
    assert contents_of(FeatureStore(url)) == contents_told(VIDEOS)
    assert verify(url).good
    assert len({name.split("/")[1] for name in objects(url) if "/part-" in name}) == 2


def test_a_changed_a_missing_and_a_strange_object_are_named_and_dropped(url: str) -> None:
    write(url)
    parts = sorted({name.split("/")[1] for name in objects(url) if "/part-" in name})
    with remote_module.asking(RemotePath(url)) as (fs, path):
        shard = f"{path}/parts/{parts[0]}/layer_09/c/0/0/0"
        content = bytearray(fs.cat_file(shard))
        content[5] ^= 1
        fs.pipe_file(shard, bytes(content))
        fs.rm(f"{path}/parts/{parts[1]}/pts_seconds/c/0")
        fs.pipe_file(f"{path}/notes.txt", b"notes")
    check = verify(url, drop_damaged=True)
    assert {(damage.kind, damage.video_ids) for damage in check.damages} == {
        ("changed", ("a",)),
        ("missing", ("lawn/b",)),
        ("extra", ()),
    }
    assert FeatureStore(url).video_ids == ("straße/推",)
    assert not any(parts[0] in name for name in objects(url))


def test_an_upload_that_fails_at_any_object_leaves_no_part_and_the_videos_in_hand(
    url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(url)
    before, writer = objects(url), StoreWriter(url, RECIPE)
    writer.add(draw_video("late"))
    for step in range(1, 100):
        with monkeypatch.context() as patches:
            taken = break_at(patches, step)
            try:
                writer.commit()
            except StoreNotWritable as error:
                assert "network is down" in str(error)  # noqa: PT017 - the last round does not raise
        if taken() < step:
            break
        assert objects(url) == before
        assert len(FeatureStore(url)) == 3
    assert step > 10
    assert contents_of(FeatureStore(url)) == contents_told([*VIDEOS, draw_video("late")])


def break_at(patches: pytest.MonkeyPatch, step: int) -> Callable[[], int]:
    """Every object that is written counts; the one of this number does not arrive."""
    steps = Steps()

    def patch(name: str) -> None:
        real = getattr(RemotePath, name)

        def counted(self: RemotePath, *args: Any) -> Any:
            own = steps.take()
            with remote_module.asking(self, writing=True):
                if own == step:
                    raise ConnectionError("the network is down")
            return real(self, *args)

        patches.setattr(RemotePath, name, counted)

    patch("upload")
    patch("write_new")
    return lambda: steps.taken


def test_a_part_that_did_not_arrive_whole_does_not_appear(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    StoreWriter(url, RECIPE)
    real = RemotePath.upload

    def cut(self: RemotePath, file: Path) -> None:
        if self.url.endswith("layer_09/c/0/0/0"):
            file.write_bytes(file.read_bytes()[:-1])
        real(self, file)

    with StoreWriter(url, RECIPE) as writer:
        writer.add(VIDEOS[0])
        with monkeypatch.context() as patches:
            patches.setattr(RemotePath, "upload", cut)
            with pytest.raises(StoreNotWritable, match="did not arrive whole"):
                writer.commit()
        assert len(FeatureStore(url)) == 0
    assert contents_of(FeatureStore(url)) == contents_told(VIDEOS[:1])


def test_uploads_that_broke_off_are_no_parts_and_compact_takes_the_old_ones_away(
    url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(url)
    left = "parts/part-01795380045065156736-52091a72/layer_09/zarr.json"
    mark = ".writing/part-01795380045065156736-52091a72"
    for name in (mark, left):
        (RemotePath(url) / name).write_new(b"{}")
    assert contents_of(FeatureStore(url)) == contents_told(VIDEOS)
    assert verify(url).good
    compact(url)
    assert {left, mark} <= objects(url), "its writer may still be at it"
    monkeypatch.setattr(remote_module, "BROKEN_OFF_AFTER", remote_module.timedelta(seconds=-1))
    compact(url)
    assert {left, mark} & objects(url) == set()
    assert contents_of(FeatureStore(url)) == contents_told(VIDEOS)


def test_a_part_that_lost_its_index_is_damage_and_compact_never_deletes_it(
    url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(url)
    assert not any(name.startswith(".writing") for name in objects(url)), "a part that is there has no mark any more"
    lost = next(name for name in sorted(objects(url)) if name.endswith("/zarr.json") and name.count("/") == 2)
    (RemotePath(url) / lost).remove()
    monkeypatch.setattr(remote_module, "BROKEN_OFF_AFTER", remote_module.timedelta(seconds=-1))
    name = lost.split("/")[1]
    before = {file for file in objects(url) if name in file}
    result = compact(url)
    assert name in result.damaged
    assert {file for file in objects(url) if name in file} == before
    [damage] = verify(url).damages
    assert (damage.kind, damage.file, damage.part) == ("index", lost, name)
    assert verify(url, drop_damaged=True).dropped == (name,)
    assert verify(url).good
    assert not any(name in file for file in objects(url))


def test_a_part_whose_removal_was_killed_is_litter_and_no_damage(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    write(url)
    part = next(name for name in sorted(objects(url)) if name.startswith("parts/part-")).split("/")[1]
    target, real, calls = RemotePath(f"{url}/parts/{part}"), RemotePath.remove, 0

    def killed(self: RemotePath) -> None:
        nonlocal calls
        calls += 1
        if calls == 2:
            raise KeyboardInterrupt
        real(self)

    with monkeypatch.context() as patches:
        patches.setattr(RemotePath, "remove", killed)
        with pytest.raises(KeyboardInterrupt):
            remote_module.withdraw(target)
    assert target.sizes()
    assert verify(url).good
    monkeypatch.setattr(remote_module, "BROKEN_OFF_AFTER", remote_module.timedelta(seconds=-1))
    compact(url)
    assert not any(part in name for name in objects(url))


def test_two_writers_that_make_the_store_at_the_same_time_agree_on_one(url: str) -> None:
    (RemotePath(url) / "zarr.json").write_new(b"first")
    with pytest.raises(FileExistsError):
        (RemotePath(url) / "zarr.json").write_new(b"second")
    assert (RemotePath(url) / "zarr.json").read_bytes() == b"first"


def test_hdf5_goes_out_to_a_url_and_comes_back_the_same(url: str, tmp_path: Path) -> None:
    write(url)
    result = export_hdf5(url, f"{url}-out/f.h5")
    assert (str(result.out), result.videos) == (f"{url}-out/f.h5", 3)
    with pytest.raises(InputError, match="is there already"):
        export_hdf5(url, f"{url}-out/f.h5")
    import_features(f"{url}-out/f.h5", f"{url}-again", compression="zstd")
    again = FeatureStore(f"{url}-again")
    assert (contents_of(again), again.failures) == (contents_told(VIDEOS), FeatureStore(url).failures)
    for layer in (1, 2):
        array = RemotePath(f"{url}-npy/layer_{layer}/walk/c_mean.npy")
        (tmp_path / "c.npy").write_bytes(npy(np.full((4, 2), layer, np.float16)))
        array.upload(tmp_path / "c.npy")
    import_features(f"{url}-npy", f"{url}-imported", timestep=20)
    assert FeatureStore(f"{url}-imported").read("walk/c", layer=2, timestep=20).tolist() == [[2, 2]] * 4


def npy(array: np.ndarray) -> bytes:
    import io

    out = io.BytesIO()
    np.save(out, array)
    return out.getvalue()


def test_a_reader_can_be_pickled_and_counts_what_is_there(url: str) -> None:
    write(url)
    if not url.startswith("memory"):
        told = subprocess.run(
            [sys.executable, "-c", READ_PICKLED], input=pickle.dumps(FeatureStore(url)), capture_output=True, check=True
        )
        assert told.stdout.decode().split() == ["a", "lawn/b", "straße/推"]
    summary = describe(url)
    assert (summary.videos, summary.parts, summary.compression) == (3, 4, "none")
    assert json.loads(json.dumps(summary.to_dict()))["path"] == url


READ_PICKLED = """
import pickle, sys
store = pickle.load(sys.stdin.buffer)
for name, rows in store.load(layer=9, timestep=20).items():
    assert (store.read(name, layer=9, timestep=20) == rows).all()
    print(name)
"""


def test_forked_readers_read_what_the_parent_has_opened(s3: str) -> None:
    """In a process of its own; it would hang with a library whose threads are lost in a fork."""
    url = f"{s3}/{secrets.token_hex(4)}/f.zarr"
    write(url)
    told = subprocess.run(
        [sys.executable, store_children.__file__, "read_forked", url], capture_output=True, text=True, timeout=120
    )
    assert told.returncode == 0, told.stderr
    assert json.loads(told.stdout)["codes"] == [0] * 4, told.stderr


def test_a_killed_upload_leaves_whole_parts_and_the_next_writer_completes_the_store(s3: str) -> None:
    """SIGKILL right before every object that is written."""
    folder = f"{s3}/{secrets.token_hex(4)}"
    told = subprocess.run(
        [sys.executable, store_children.__file__, "kill_uploads", folder], capture_output=True, text=True, timeout=300
    )
    assert told.returncode == 0, told.stderr
    killed = json.loads(told.stdout)["killed"]
    assert killed == 2 + 1 + 12 + 1  # the store, a part's mark, its files, its index
    expected = contents_told([draw_video("a"), draw_video("b")])
    for step in range(1, killed + 1):
        url = f"{folder}/{step:03d}.zarr"
        try:
            assert contents_of(FeatureStore(url)) == {}
        except StoreNotFound:
            assert step <= 2
        else:
            assert verify(url).good
        if step in (1, 2, 3, 9, killed):
            with StoreWriter(url, RECIPE) as writer:
                for name in "ab":
                    writer.add(draw_video(name))
            assert contents_of(FeatureStore(url)) == expected
    assert contents_of(FeatureStore(f"{folder}/{killed + 1:03d}.zarr")) == expected


def test_what_cannot_be_reached_or_is_not_allowed_is_told_with_a_remedy(
    s3: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(StoreNotWritable, match=r"cannot be written .*bucket"):
        StoreWriter("s3://no-such-bucket/f.zarr", RECIPE)
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "1")
    fsspec.filesystem("s3").clear_instance_cache()
    monkeypatch.setattr("s3fs.S3FileSystem.retries", 1)
    with pytest.raises(RemoteError, match=r"cannot be read .*Check the address"):
        FeatureStore("s3://features/f.zarr")
    monkeypatch.undo()
    fsspec.filesystem("s3").clear_instance_cache()


@pytest.mark.parametrize("url", ["nothing://bucket/f.zarr", "simplecache::s3://bucket/f.zarr"])
def test_a_url_that_no_library_speaks_is_refused(url: str) -> None:
    with pytest.raises(InputError, match=r"cannot be used|one URL"):
        place_of(url)


def test_a_damaged_index_of_the_cache_is_fetched_again_and_one_at_the_other_end_is_told(url: str, cache: Path) -> None:
    write(url)
    FeatureStore(url)
    for index in cache.rglob("zarr.json"):
        index.write_bytes(b"{}")
    assert contents_of(FeatureStore(url)) == contents_told(VIDEOS)
    part = next(name for name in sorted(objects(url)) if name.endswith("/zarr.json") and name.count("/") == 2)
    with remote_module.asking(RemotePath(url)) as (fs, path):
        fs.pipe_file(f"{path}/{part}", b"{}")
    for index in cache.rglob("zarr.json"):
        index.unlink()
    with pytest.raises(StoreError, match="is not the index of a part"):
        FeatureStore(url)


def test_the_url_of_a_local_file_is_that_path(tmp_path: Path) -> None:
    with StoreWriter(f"file://{tmp_path}/f%20f.zarr", RECIPE) as writer:
        writer.add(VIDEOS[0])
    assert FeatureStore(tmp_path / "f f.zarr").video_ids == ("a",)


def test_local_paths_load_no_remote_library(tmp_path: Path) -> None:
    code = (
        "import sys; from actiondiff.store import StoreWriter, FeatureStore; "
        f"StoreWriter({str(tmp_path / 'f.zarr')!r}, {{}}); FeatureStore({str(tmp_path / 'f.zarr')!r}); "
        "print([name for name in ('fsspec', 's3fs', 'zstandard', 'torch', 'zarr') if name in sys.modules])"
    )
    told = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env={**os.environ}, check=True)
    assert told.stdout.strip() == "[]"


def test_an_index_whose_answer_was_lost_is_not_written_as_another_part(
    url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    StoreWriter(url, RECIPE)
    real = RemotePath.write_new

    def twice(self: RemotePath, content: bytes) -> None:
        real(self, content)
        real(self, content)

    with StoreWriter(url, RECIPE) as writer:
        writer.add(VIDEOS[0])
        with monkeypatch.context() as patches:
            patches.setattr(RemotePath, "write_new", twice)
            writer.commit()
    assert len(FeatureStore(url).parts) == 1


def test_a_part_that_another_process_merged_is_looked_for_anew(s3: str) -> None:
    """What this process has listed earlier must not hide it."""
    url = f"{s3}/{secrets.token_hex(4)}/f.zarr"
    write(url)
    reader = FeatureStore(url)
    describe(url)
    merge = f"from actiondiff.store import compact; compact({url!r})"
    subprocess.run([sys.executable, "-c", merge], check=True)
    assert contents_of(reader) == contents_told(VIDEOS)
    assert len(reader.parts) == 2


def test_extract_and_fit_take_a_url(clips, tmp_path: Path, actiondiff) -> None:
    clips.write(tmp_path / "manifest.csv")
    store = f"memory://{secrets.token_hex(4)}/f.zarr"
    for _ in range(2):
        result = actiondiff("extract", "--backbone", "frame-diff", "--store", store, "--json", cwd=tmp_path)
        assert result.exit_code == 0, result.stderr
    assert json.loads(result.stdout)["skipped"] == 6
    fitted = ["fit", "--head", "linear", "--epochs", 1, "--store", store, "--out", "run", "--device", "cpu"]
    result = actiondiff(*fitted, cwd=tmp_path)
    assert result.exit_code == 0, result.stderr
    assert json.loads((tmp_path / "run/config.json").read_text())["store"] == store
    assert not list(tmp_path.glob("memory:*")), "a URL was taken for a folder"


def test_the_command_line_takes_a_url_for_a_store(s3: str, actiondiff) -> None:
    url = f"{s3}/{secrets.token_hex(4)}/f.zarr"
    write(url)
    result = actiondiff("store", "info", url, "--json")
    assert (result.exit_code, json.loads(result.stdout)["videos"]) == (0, 3), result.stderr
    assert actiondiff("store", "verify", url).exit_code == 0
    assert actiondiff("store", "compact", url).exit_code == 0
    assert actiondiff("store", "info", f"{url}-not").exit_code == 2
