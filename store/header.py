"""A store's header: its format, recipe and fingerprint, read and checked."""

import hashlib
import json
from collections.abc import Mapping
from typing import Any

import google_crc32c

from actiondiff.store.array_reading import parse_json
from actiondiff.store.arrays import COMPRESSIONS, dump_json
from actiondiff.store.errors import RecipeMismatch, StoreError, StoreNotFound, telling_unreadable
from actiondiff.store.places import Place, place_of

FORMAT_OF = {"none": 1, "zstd": 2}
"""Which version of the format a store has: without compression it is one that readers of version 1 know."""


def read_header(path: str | Place) -> dict[str, Any]:
    """The store's own record: format version, recipe, fingerprint.

    Raises:
        StoreNotFound: nothing is there.
        StoreError: of another format, or damaged.
        StoreNotReadable: it cannot be read just now; ``RemoteError`` behind a URL.
    """
    path = place_of(path)
    file = path / "zarr.json"
    try:
        with telling_unreadable(file):
            document = parse_json(file, file.read_bytes())
    except (FileNotFoundError, NotADirectoryError, IsADirectoryError):
        if not path.exists():
            raise StoreNotFound(
                f"There is no store at {path}. Make one with: actiondiff extract --store {path}"
            ) from None
        document = {}
    try:
        header = document["attributes"]["actiondiff"]
        version = header["format_version"]
    except (KeyError, TypeError):
        raise StoreNotFound(f"{path} is not a feature store of actiondiff (no such record in its zarr.json).") from None
    if version not in FORMAT_OF.values():
        raise StoreError(
            f"{path} has format {version}; this version of actiondiff reads format 1 and 2. Update actiondiff."
        )
    recipe = header.get("recipe")
    if not isinstance(recipe, dict) or header.get("fingerprint") != recipe_fingerprint(recipe):
        raise StoreError(f"{file} is damaged: its fingerprint is not the one of its recipe.")
    if header.get("crc32c", header_checksum(header)) != header_checksum(header):
        raise StoreError(f"{file} is damaged: the checksum of its header does not match.")
    if FORMAT_OF.get(compression_of(header)) != version:
        raise StoreError(
            f"{path} is compressed by {compression_of(header)!r}, unknown to this version in format {version}: "
            f"it knows {', '.join(COMPRESSIONS)}. Update actiondiff."
        )
    return header


def compression_of(header: Mapping[str, Any]) -> str:
    """How a store's features are compressed; format 1 does not tell, and they are not."""
    return header.get("compression", "none")


def header_checksum(header: Mapping[str, Any]) -> str:
    """CRC-32C, in hex, of a header (without its own checksum) in the store's spelling of JSON."""
    rest = {name: value for name, value in header.items() if name != "crc32c"}
    return f"{google_crc32c.value(dump_json(rest)):08x}"


def recipe_fingerprint(recipe: Mapping[str, Any]) -> str:
    """Hex SHA-256 of a recipe: two recipes agree exactly when their fingerprints do."""
    return hashlib.sha256(dump_json(as_json(recipe))).hexdigest()


def as_json(recipe: Mapping[str, Any]) -> dict[str, Any]:
    """As it reads from JSON, where tuples are lists and names are strings."""
    return json.loads(dump_json(dict(recipe)))


def check_recipe(path: str | Place, header: Mapping[str, Any], recipe: Mapping[str, Any]) -> None:
    """Refuse to mix recipes, naming what differs.

    Raises:
        RecipeMismatch: where the header's recipe is another one.
    """
    if header["fingerprint"] == recipe_fingerprint(recipe):
        return
    there, asked = _spelled(header["recipe"]), _spelled(as_json(recipe))
    names = [name for name in sorted(there.keys() | asked.keys()) if there.get(name) != asked.get(name)]
    differences = ", ".join(
        f"{name} {there.get(name, 'not given')} (asked for: {asked.get(name, 'not given')})" for name in names
    )
    raise RecipeMismatch(
        f"A store holds the features of one recipe. {path} was made with {differences}. "
        "Give the same options, or another --store."
    )


def _spelled(recipe: Mapping[str, Any]) -> dict[str, str]:
    """Every field as JSON: there 1, 1.0 and true differ, as they do in fingerprints."""
    return {name: dump_json(value).decode() for name, value in recipe.items()}
