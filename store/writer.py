"""Writing: videos are gathered in memory and leave as parts; a kill loses at most the part in hand."""

import dataclasses
import os
import secrets
import threading
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from functools import wraps
from pathlib import Path
from types import TracebackType
from typing import Any, Concatenate, ParamSpec

import numpy as np

from actiondiff import InputError
from actiondiff.store.arrays import COMPRESSIONS, group_metadata, write_file
from actiondiff.store.errors import telling_why
from actiondiff.store.header import (
    FORMAT_OF,
    as_json,
    check_recipe,
    compression_of,
    header_checksum,
    read_header,
    recipe_fingerprint,
)
from actiondiff.store.part import write_part
from actiondiff.store.places import Place, names_in, place_of
from actiondiff.store.records import Failure, FeatureKey, VideoFeatures
from actiondiff.store.staging import STAGING, clear_staging, fsync_folder, staged
from actiondiff.store.values import as_stored

PART_BYTES = 512 * 2**20
PART_SECONDS = 600.0

_Given = ParamSpec("_Given")


def _one_at_a_time(
    method: "Callable[Concatenate[StoreWriter, _Given], None]",
) -> "Callable[Concatenate[StoreWriter, _Given], None]":
    @wraps(method)
    def locked(self: "StoreWriter", *args: _Given.args, **options: _Given.kwargs) -> None:
        with self._lock:
            method(self, *args, **options)

    return locked


class StoreWriter:
    """Adds videos to a store, which it makes if there is none. Many writers may share a store, and threads a writer.

    Use it as a context manager: on leaving, also by an error or Ctrl-C, the whole videos in hand become a part.

    Args:
        path: the store's folder, or its URL.
        recipe: everything that can change a feature's bytes, as JSON values.
        dtype: ``float16`` or ``float32``.
        part_bytes: a part is written when it holds this much,
        part_seconds: or when its first video is this old: the most work that a kill can undo.
        notice: what everyone who sees numbers made from the store should know.
        compression: ``none`` or ``zstd``; None takes what the store has, and ``none`` for a new one.

    Raises:
        RecipeMismatch: where the store holds features of another recipe.
        InputError: where it is compressed in another way.
        StoreNotWritable: where the disk is full, or does not permit it; the store is as it was before.
    """

    def __init__(
        self,
        path: str | Place,
        recipe: Mapping[str, Any],
        dtype: str = "float16",
        part_bytes: int = PART_BYTES,
        part_seconds: float = PART_SECONDS,
        notice: str = "",
        compression: str | None = None,
    ) -> None:
        if dtype not in ("float16", "float32"):
            raise InputError(f"A store holds float16 or float32; got {dtype!r}.")
        self.path = place_of(path)
        self._dtype, self._part_bytes, self._part_seconds = dtype, part_bytes, part_seconds
        self._videos: list[VideoFeatures] = []
        self._failures: dict[str, Failure] = {}
        self._bytes = 0
        self._lock = threading.RLock()
        self._since_seconds = time.monotonic()
        self.compression = create_store(self.path, recipe, notice, compression)
        clear_staging(self.path)

    @_one_at_a_time
    def add(self, video: VideoFeatures) -> None:
        """Take a whole video; it is on disk after the next :meth:`commit` at the latest.

        Arrays that have the store's dtype already are not copied: leave them as they are until then.

        Raises:
            FeatureValueError: a value is not finite, or overflows the store's dtype.
        """
        features = {key: as_stored(array, self._dtype, video.video_id, key) for key, array in video.features.items()}
        if self._videos and _channels(self._videos[0]) != _channels(video):
            self.commit()
        self._start_clock()
        same = all(features[key] is array for key, array in video.features.items())
        self._videos.append(video if same else dataclasses.replace(video, features=features))
        self._failures.pop(video.video_id, None)
        self._bytes += sum(array.size for array in video.features.values()) * np.dtype(self._dtype).itemsize
        self.commit_if_due()

    @_one_at_a_time
    def fail(self, failure: Failure) -> None:
        """Note that a video could not be extracted."""
        self._start_clock()
        self._failures[failure.video_id] = failure
        self.commit_if_due()

    @_one_at_a_time
    def commit_if_due(self) -> None:
        """:meth:`commit`, if what is in hand is as large or as old as a part may be.

        ``add`` and ``fail`` do this by themselves. Whoever works on one video for long calls it now and then, from any
        thread, so that those that are finished do not wait in memory.
        """
        if self._bytes >= self._part_bytes or time.monotonic() - self._since_seconds >= self._part_seconds:
            self.commit()

    @_one_at_a_time
    def commit(self) -> None:
        """Write what is in hand as a part; where that fails it stays in hand."""
        if not self._videos and not self._failures:
            return
        failures = list(self._failures.values())
        with telling_why(self.path):
            write_part(self.path, self._videos, failures, self._dtype, compression=self.compression)
            self._videos, self._failures, self._bytes = [], {}, 0
            fsync_folder(self.path / "parts")

    def __enter__(self) -> "StoreWriter":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.commit()

    def _start_clock(self) -> None:
        if not self._videos and not self._failures:
            self._since_seconds = time.monotonic()


def create_store(path: Place, recipe: Mapping[str, Any], notice: str = "", compression: str | None = None) -> str:
    """Make an empty store, or check that the one there has this recipe.

    Returns:
        how the store is compressed.

    Raises:
        RecipeMismatch: where it has another recipe.
        InputError: where ``path`` is something else than a store, or one that is compressed in another way.
    """
    if compression is not None and compression not in COMPRESSIONS:
        raise InputError(f"A store is compressed by {' or '.join(COMPRESSIONS)}; got {compression!r}.")
    with telling_why(path, "No store was made."):
        if not (path / "zarr.json").exists():
            _check_vacant(path)
            if isinstance(path, Path):
                (path / "parts").mkdir(parents=True, exist_ok=True)
            _write_once(path, "parts/zarr.json", group_metadata({}))
            _write_once(path, "zarr.json", group_metadata({"actiondiff": _new_header(recipe, notice, compression)}))
            fsync_folder(path.parent)
    header = read_header(path)
    check_recipe(path, header, recipe)
    there = compression_of(header)
    if compression not in (None, there):
        raise InputError(
            f"A store is compressed in one way, chosen when it is made. {path} has {there} (asked for: {compression}). "
            "Leave it out, or give another --store."
        )
    return there


def _new_header(recipe: Mapping[str, Any], notice: str, compression: str | None) -> dict[str, Any]:
    header: dict[str, Any] = {
        "format_version": FORMAT_OF[compression or "none"],
        "recipe": as_json(recipe),
        "fingerprint": recipe_fingerprint(recipe),
        "notice": notice,
    }
    if compression not in (None, "none"):
        header["compression"] = compression
    return header | {"crc32c": header_checksum(header)}


def _check_vacant(path: Place) -> None:
    """Refuse a place where anything lies that is not of a store in the making, by this writer or another."""
    strangers = _names(path) - {"parts", STAGING, "zarr.json"} | _names(path / "parts") - {"zarr.json"}
    if strangers and not (path / "zarr.json").exists():  # asked again: another writer may have made it by now
        raise InputError(
            f"A store is a folder of its own; {path} is none and holds {min(strangers)!r}. Choose another --store."
        )


def _names(folder: Place) -> set[str]:
    try:
        return names_in(folder)
    except NotADirectoryError:
        return {folder.name}


def _write_once(store: Place, name: str, content: bytes) -> None:
    """Put a file there whole and for good, or leave the one that another writer put there first."""
    target = store / name
    if not isinstance(target, Path):
        with suppress(FileExistsError):
            target.write_new(content)
        return
    with staged(store, f"new-{secrets.token_hex(4)}") as folder:
        write_file(folder / target.name, [content])
        try:
            os.link(folder / target.name, target)
        except FileExistsError:
            pass
        except OSError:  # a file system without hard links: not proof against two writers in the same instant
            if not target.exists():
                (folder / target.name).rename(target)
    fsync_folder(target.parent)


def _channels(video: VideoFeatures) -> dict[FeatureKey, int]:
    return {key: array.shape[1] for key, array in video.features.items()}
