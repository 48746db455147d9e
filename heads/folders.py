"""Folders that are there whole or not at all."""

import json
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from actiondiff import InputError


@contextmanager
def new_folder(out: str | Path) -> Iterator[Path]:
    """A folder that appears at ``out`` only when everything is in it; on an error nothing is left.

    Raises:
        InputError: there is something at ``out`` already.
    """
    out = Path(out)
    check_free(out)
    out.parent.mkdir(parents=True, exist_ok=True)
    staging = Path(tempfile.mkdtemp(prefix=f".{out.name}-", dir=out.parent))
    try:
        staging.chmod(0o777 & ~_umask())
        yield staging
        if out.exists():
            out.rmdir()
        staging.rename(out)
    finally:
        shutil.rmtree(staging, ignore_errors=True)


def check_free(out: str | Path) -> None:
    """Refuse a place that is taken.

    Raises:
        InputError: a file or a folder with something in it is there.
    """
    out = Path(out)
    if out.exists() and not (out.is_dir() and not any(out.iterdir())):
        raise InputError(f"Results go into a new folder; {out} is there already. Choose another --out, or remove it.")


def write_json(path: Path, values: dict[str, Any]) -> None:
    """Write JSON for people and programs."""
    path.write_text(json.dumps(values, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask
