"""A look at the machine: what extraction needs, what is there, what to do about the rest."""

import shutil
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version

PACKAGES = (
    "torch",
    "diffusers",
    "transformers",
    "open_clip_torch",
    "av",
    "zarr",
    "h5py",
    "openpyxl",
    "pytorch-lightning",
)
FULL_SIZE_MEMORY_GB = 16


@dataclass(frozen=True)
class Finding:
    """One thing looked at.

    Attributes:
        subject: what was looked at.
        good: whether it is as it should be.
        text: what was found and, where it is not good, what to do.
        optional: whether the pipeline works without.
    """

    subject: str
    good: bool
    text: str
    optional: bool = False


def examine() -> list[Finding]:
    """Look at Python, packages, device, video codecs, weights and disk."""
    return [_python(), *map(_package, PACKAGES), _device(), *_codecs(), *_weights(), _disk()]


def _python() -> Finding:
    found = ".".join(map(str, sys.version_info[:3]))
    return Finding("Python", sys.version_info >= (3, 11), f"{found} (3.11 or newer is needed)")


def _package(name: str) -> Finding:
    try:
        return Finding(name, True, version(name))
    except PackageNotFoundError:
        return Finding(name, False, f"not installed. Run: pip install {name}")


def _device() -> Finding:
    import torch

    if not torch.cuda.is_available():
        return Finding(
            "GPU",
            False,
            "none that torch can use: svd-tiny runs on the CPU, the real weights want a GPU",
            optional=True,
        )
    properties = torch.cuda.get_device_properties(0)
    memory_gb = properties.total_memory / 1e9
    enough = memory_gb >= FULL_SIZE_MEMORY_GB
    advice = "" if enough else f"; 576x1024 was planned for {FULL_SIZE_MEMORY_GB} GB, use a smaller --size"
    return Finding("GPU", enough, f"{properties.name}, {memory_gb:.0f} GB{advice}", optional=True)


def _codecs() -> list[Finding]:
    import av

    wanted = ("h264", "hevc", "mpeg4", "vp9", "av1")
    missing = [name for name in wanted if name not in av.codecs_available]
    text = f"decodes {', '.join(name for name in wanted if name not in missing)}"
    return [Finding("video codecs", not missing, text + (f"; not {', '.join(missing)}" if missing else ""), True)]


def _weights() -> list[Finding]:
    """For every backbone whether its weights are in the local cache; those of one repository stand together."""
    from actiondiff.extract.backbone import BACKBONES

    repositories: dict[str, list[str]] = {}
    for name, spec in BACKBONES.items():
        if spec.hub_id:
            repositories.setdefault(spec.hub_id, []).append(name)
    return [_cached(hub_id, names, BACKBONES[names[0]].family == "svd") for hub_id, names in repositories.items()]


def _cached(hub_id: str, names: Sequence[str], in_parts: bool) -> Finding:
    from huggingface_hub import try_to_load_from_cache

    subject = f"weights of {', '.join(names)}"
    if isinstance(try_to_load_from_cache(hub_id, "unet/config.json" if in_parts else "config.json"), str):
        return Finding(subject, True, f"{hub_id} is in the local cache", optional=True)
    gated = "accept its licence on its hub page, then `hf auth login`, and " if in_parts else ""
    return Finding(
        subject,
        False,
        f"{hub_id} is not in the local cache: {gated}extract fetches what it needs; or give --weights FOLDER. "
        "--backbone svd-tiny and --random-weights SEED need none",
        optional=True,
    )


def _disk() -> Finding:
    free_gb = shutil.disk_usage(".").free / 1e9
    return Finding("free disk here", free_gb > 10, f"{free_gb:.0f} GB", optional=True)
