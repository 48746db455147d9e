"""Safetensors files: which of a folder, which tensors, filling a network with them, their hash. Never a pickle."""

import json
import re
import struct
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn

from actiondiff.extract.errors import WeightsError, WeightsNotFound

_KINDS_LISTED = 12
_SHARD = re.compile(r"-(\d{5})-of-(\d{5})")


def tensor_patterns(stem: str, half: bool) -> list[str]:
    """Patterns of the files that one set of tensors may lie in: whole or in shards, plain or the float16 variant."""
    shard = "-?????-of-?????"
    names = (".fp16", f".fp16{shard}", f"{shard}.fp16") if half else ("", shard)
    return [f"{stem}{name}.safetensors" for name in names]


def has_tensors(folder: Path, stem: str) -> bool:
    """Whether a folder has a set of tensors, in either variant."""
    patterns = [pattern for half in (False, True) for pattern in tensor_patterns(stem, half)]
    return any(True for pattern in patterns for _ in folder.glob(pattern))


def tensor_files(folder: Path, stem: str, half: bool) -> list[Path]:
    """The files of a set of tensors: the float16 variant where half precision is asked for and it is there.

    Raises:
        WeightsNotFound: none, or not all of a set of shards.
    """
    for variant in (half, not half):
        for pattern in tensor_patterns(stem, variant):
            if found := sorted(folder.glob(pattern)):
                _check_shards(found)
                return found
    raise WeightsNotFound(f"There is no {stem}.safetensors in {folder}; pickled weights (.bin) are never read.")


def _check_shards(paths: Sequence[Path]) -> None:
    shards = [(int(match[1]), int(match[2])) for path in paths if (match := _SHARD.search(path.name))]
    if not shards:
        return
    totals = {total for _, total in shards}
    missing = set(range(1, max(totals) + 1)) - {number for number, _ in shards}
    if missing or len(totals) > 1:
        raise WeightsNotFound(
            f"{paths[0].parent} has shards {', '.join(path.name for path in paths)}, which are not one whole set. "
            "Fetch it again."
        )


def read_tensors(paths: Iterable[Path], wanted: Callable[[str], bool]) -> dict[str, Tensor]:
    """The wanted tensors of some files, by name; the others are not read.

    Raises:
        WeightsError: not whole safetensors files.
    """
    tensors: dict[str, Tensor] = {}
    for path in paths:
        try:
            with safe_open(path, framework="pt") as file:
                tensors |= {name: file.get_tensor(name) for name in file.keys() if wanted(name)}  # noqa: SIM118
        except SafetensorError as error:
            raise WeightsError(f"{path} is not a whole safetensors file: {error}. Fetch it again.") from error
    return tensors


def read_json(path: Path, missing: str) -> Mapping[str, Any]:
    """A JSON object of a weights folder.

    Args:
        path: the file.
        missing: what to say where there is none.

    Raises:
        WeightsNotFound: no such file.
        WeightsError: not a JSON object.
    """
    if not path.is_file():
        raise WeightsNotFound(missing)
    try:
        document = json.loads(path.read_text())
    except ValueError as error:
        raise WeightsError(f"{path} is not JSON: {error}.") from error
    if not isinstance(document, dict):
        raise WeightsError(f"{path} holds no JSON object.")
    return document


def fill(module: nn.Module, tensors: Mapping[str, Tensor], what: str) -> None:
    """Put tensors into a network made on the meta device.

    Raises:
        WeightsError: missing, unexpected or misshapen tensors, as a list.
    """
    try:
        result = module.load_state_dict(tensors, strict=False, assign=True)
    except RuntimeError as error:
        raise WeightsError(f"The tensors of {what} do not fit its configuration: {error}") from error
    if result.missing_keys or result.unexpected_keys:
        raise WeightsError(key_report(what, result.missing_keys, result.unexpected_keys))


def key_report(what: str, missing: Sequence[str], unexpected: Sequence[str]) -> str:
    """A message with the missing and unexpected names, one line for those that differ in numbers only."""
    lines = [f"The tensors of {what} are not those of its configuration:"]
    for word, names in (("missing", missing), ("unexpected", unexpected)):
        if names:
            lines += [f"  {len(names)} {word}:", *_grouped(names)]
    return "\n".join([*lines, "Are these weights of another model, or does --weights-config belong to another one?"])


def _grouped(names: Sequence[str]) -> list[str]:
    kinds: dict[str, list[str]] = defaultdict(list)
    for name in names:
        kinds[re.sub(r"\d+", "#", name)].append(name)
    lines = [
        f"    {alike[0]}" + (f" and {len(alike) - 1} like it ({kind})" if len(alike) > 1 else "")
        for kind, alike in kinds.items()
    ]
    rest = len(lines) - _KINDS_LISTED
    return lines if rest <= 0 else [*lines[:_KINDS_LISTED], f"    and {rest} more kinds"]


def hash_tensors(digest: Any, part: str, tensors: Mapping[str, Tensor]) -> None:
    """Add tensors to a hash, by name: in whatever files and order they lie, the same tensors give the same hash."""
    for name in sorted(tensors):
        tensor = tensors[name]
        shape = tuple(tensor.shape)
        digest.update(f"{part}.{name}\0{tensor.dtype}\0{shape}\0".encode() + struct.pack("<Q", tensor.numel()))
        digest.update(tensor.contiguous().reshape(-1).view(torch.uint8).numpy())
