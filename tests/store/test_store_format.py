"""Format 1 for ever: a fixture that is read by this version, and by a reader that knows the room's README alone."""

import json
import re
import shutil
import struct
import sys
from collections.abc import Iterator
from pathlib import Path

import google_crc32c
import numpy as np
import pytest
import zstandard
from store_helpers import files_of

from actiondiff.store import FeatureKey, FeatureStore, StoreWriter, verify

FIXTURES = Path(__file__).with_name("fixtures")
sys.path.insert(0, str(FIXTURES))
import make_format_1 as made  # noqa: E402

STORE = FIXTURES / "format_1.zarr"
FIRST, LATER = [(9, 20)], [(1, 5), (1, 20), (13, 0)]
KEYS = {"lawn/push": FIRST + LATER, "lawn/hug": FIRST + LATER, "straße/推": LATER}


def test_the_fixture_of_format_1_reads_as_its_known_values() -> None:
    store = FeatureStore(STORE)
    assert store.recipe == made.RECIPE
    assert store.notice == "A fixture."
    assert store.fingerprint == "2c8ce407aff66cc3f425d34cd2ac84423c4322dbfec29743cf1bec80c15bb8e6"
    assert store.video_ids == ("lawn/hug", "lawn/push", "straße/推")
    assert store.failures == {"broken": made.FAILURE}
    for video_id, keys in KEYS.items():
        assert store.keys(video_id) == tuple(sorted(FeatureKey(*key) for key in keys))
        assert store.source(video_id) == made.SOURCES[video_id]
        np.testing.assert_array_equal(store.frame_index(video_id), np.arange(made.FRAMES[video_id]) * 4)
        np.testing.assert_array_equal(store.pts_seconds(video_id), made.video(video_id, keys).pts_seconds)
        for layer, timestep in keys:
            read = store.read(video_id, layer=layer, timestep=timestep)
            assert read.dtype == np.float16
            np.testing.assert_array_equal(read, made.values(video_id, layer, timestep))
    assert store.read("lawn/push", layer=9, timestep=20).tolist() == [
        [9.625, 9.375],
        [10.625, 10.375],
        [11.625, 11.375],
    ]


@pytest.mark.parametrize(("name", "parts", "compression"), [("format_1_compacted", 1, "none"), ("format_2", 4, "zstd")])
def test_the_fixtures_of_a_merged_store_and_of_format_2_read_as_their_known_values(
    name: str, parts: int, compression: str
) -> None:
    path = FIXTURES / f"{name}.zarr"
    store = FeatureStore(path)
    assert (store.recipe, store.compression, len(store.parts)) == (made.RECIPE, compression, parts)
    assert store.video_ids == ("lawn/hug", "lawn/push")
    assert store.failures == {"broken": made.FAILURE}
    for video_id in store.video_ids:
        assert store.keys(video_id) == tuple(sorted(FeatureKey(*key) for key in FIRST + LATER))
        assert store.source(video_id) == made.SOURCES[video_id]
        np.testing.assert_array_equal(store.frame_index(video_id), np.arange(made.FRAMES[video_id]) * 4)
        for layer, timestep in FIRST + LATER:
            read = store.read(video_id, layer=layer, timestep=timestep)
            np.testing.assert_array_equal(read, made.values(video_id, layer, timestep))
    assert verify(path).good


def test_the_fixture_can_be_written_on(tmp_path: Path) -> None:
    shutil.copytree(STORE, tmp_path / "copy.zarr")
    before = files_of(STORE)
    with StoreWriter(tmp_path / "copy.zarr", made.RECIPE) as writer:
        writer.add(made.video("lawn/push", [(2, 2)]))
    assert FeatureStore(tmp_path / "copy.zarr").keys("lawn/push")[2] == FeatureKey(2, 2)
    assert before.items() <= files_of(tmp_path / "copy.zarr").items()


def test_this_version_writes_the_fixtures_bytes(tmp_path: Path) -> None:
    path = tmp_path / "again.zarr"
    with StoreWriter(path, made.RECIPE, notice="A fixture.") as writer:
        writer.add(made.video("lawn/push", FIRST))
        writer.add(made.video("lawn/hug", FIRST))
        writer.fail(made.FAILURE)
        writer.commit()
        for video_id in made.FRAMES:
            writer.add(made.video(video_id, LATER))
    assert list(without_part_ids(path)) == list(without_part_ids(STORE))


def without_part_ids(store: Path) -> Iterator[tuple[str, bytes | None]]:
    """Files in order; parts are numbered, since their ids are times. The fixture's header has no checksum yet."""
    numbers = {part.name: str(n) for n, part in enumerate(sorted((store / "parts").glob("part-*")))}
    for name, content in sorted(files_of(store).items()):
        if name == "zarr.json" and content is not None:
            content = re.sub(rb'"crc32c":"[0-9a-f]{8}",', b"", content)
        yield "/".join(numbers.get(piece, piece) for piece in name.split("/")), content


def read_by_the_readme(store: Path, video_id: str, layer: int, timestep: int) -> list[list[float]]:
    """With nothing but JSON, a CRC, zstd and seeking in files, as a reader in another language would."""
    header = json.loads((store / "zarr.json").read_bytes())["attributes"]["actiondiff"]
    packed = header.get("compression") == "zstd"
    assert header["format_version"] == 1 + packed
    for part in sorted(entry for entry in (store / "parts").iterdir() if entry.name.startswith("part-")):
        index = json.loads((part / "zarr.json").read_bytes())["attributes"]
        told = index.pop("crc32c")
        spelled = json.dumps(index, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()
        assert int(told, 16) == google_crc32c.value(spelled)
        if video_id not in index["video_ids"] or [layer, timestep] not in index["keys"]:
            continue
        position = index["video_ids"].index(video_id)
        start, stop = index["row_offsets"][position : position + 2]
        folder = part / f"layer_{layer:02d}"
        array = json.loads((folder / "zarr.json").read_bytes())
        _, padded_rows, channels = array["chunk_grid"]["configuration"]["chunk_shape"]
        place = array["attributes"]["timesteps"].index(timestep)
        assert array["data_type"] == "float16"
        content = (folder / "c/0/0/0").read_bytes()
        assert index["files"][f"layer_{layer:02d}/c/0/0/0"] == [len(content), f"{google_crc32c.value(content):08x}"]
        row_bytes = 2 * channels
        if packed:
            chunk_rows = array["codecs"][0]["configuration"]["chunk_shape"][1]
            chunks = len(array["attributes"]["timesteps"]) * padded_rows // chunk_rows
            index = struct.unpack_from(f"<{2 * chunks}Q", content, len(content) - 16 * chunks - 4)
            frames = [content[index[2 * n] : index[2 * n] + index[2 * n + 1]] for n in range(chunks)]
            content = b"".join(zstandard.decompress(frame) for frame in frames)
        first = (place * padded_rows + start) * row_bytes
        numbers = struct.unpack_from(f"<{(stop - start) * channels}e", content, first)
        return [list(numbers[i : i + channels]) for i in range(0, len(numbers), channels)]
    raise KeyError(video_id)


@pytest.mark.parametrize("name", ["format_1_compacted", "format_2"])
def test_a_reader_that_knows_the_readme_alone_reads_the_other_fixtures_too(name: str) -> None:
    for video_id in ("lawn/push", "lawn/hug"):
        for layer, timestep in FIRST + LATER:
            read = read_by_the_readme(FIXTURES / f"{name}.zarr", video_id, layer, timestep)
            assert read == made.values(video_id, layer, timestep).tolist()


@pytest.mark.parametrize("video_id", KEYS)
def test_a_reader_that_knows_the_readme_alone_reads_the_same(video_id: str) -> None:
    for layer, timestep in KEYS[video_id]:
        assert read_by_the_readme(STORE, video_id, layer, timestep) == made.values(video_id, layer, timestep).tolist()
