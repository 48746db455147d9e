"""The store's small arrays and JSON documents, read back."""

import json
from collections.abc import Callable
from typing import Any

import numpy as np

from actiondiff.store.arrays import DTYPES
from actiondiff.store.errors import RemoteError, StoreError, StoreNotReadable, telling_unreadable
from actiondiff.store.places import Place

Read = Callable[[Place], bytes]


def read_bytes(file: Place) -> bytes:
    """A file as it is now."""
    return file.read_bytes()


def read_array(folder: Place, read: Read = read_bytes) -> np.ndarray:
    """Read an array written by :func:`actiondiff.store.arrays.write_array`.

    Args:
        folder: the array's folder.
        read: gets a file's bytes.

    Raises:
        StoreError: where it is not there, not whole, or of another kind.
        StoreNotReadable: where it cannot be read just now; ``RemoteError`` behind a URL.
    """
    metadata = read_json(folder / "zarr.json", read)
    try:
        shape, dtype = metadata["shape"], DTYPES[metadata["data_type"]]
        path = folder / "/".join(["c"] + ["0"] * len(shape))
    except (KeyError, TypeError) as error:
        raise StoreError(f"{folder / 'zarr.json'} is not an array of format 1 ({error!r}).") from error
    try:
        with telling_unreadable(path):
            return np.frombuffer(read(path), dtype).reshape(shape)
    except (StoreNotReadable, RemoteError):
        raise
    except (OSError, ValueError) as error:
        raise StoreError(f"{path} is damaged or missing ({error}).") from error


def read_json(path: Place, read: Read = read_bytes) -> Any:
    """Read one of the store's JSON documents.

    Raises:
        StoreError: where it is not there or no JSON.
        StoreNotReadable: where it cannot be read just now; ``RemoteError`` behind a URL.
    """
    try:
        with telling_unreadable(path):
            content = read(path)
    except (StoreNotReadable, RemoteError):
        raise
    except OSError as error:
        raise StoreError(f"{path} cannot be read as JSON ({error}).") from error
    return parse_json(path, content)


def parse_json(path: Place, content: bytes) -> Any:
    """What the document at ``path`` says.

    Raises:
        StoreError: where it is no JSON.
    """
    try:
        return json.loads(content)
    except ValueError as error:
        raise StoreError(f"{path} cannot be read as JSON ({error}).") from error
