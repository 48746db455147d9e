"""The model hub: what looks like an id, which files are fetched, and what to say where they are not to be had."""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from actiondiff.extract.errors import WeightsNotFound
from actiondiff.extract.tensors import has_tensors, tensor_patterns

_ID = re.compile(r"[A-Za-z0-9][\w-]*(\.[\w-]+)*/[A-Za-z0-9][\w-]*(\.[\w-]+)*")
_FILE_ENDINGS = (".safetensors", ".ckpt", ".pt", ".pth", ".bin", ".json")
_WITHOUT = "To try the pipeline without any download: --backbone svd-tiny, or --random-weights 0."


@dataclass(frozen=True)
class HubPart:
    """One network of a repository: its ``config.json`` and its safetensors.

    Attributes:
        folder: inside the repository, "" for its root.
        stem: name of the safetensors without ending, variant and shard number.
        half: whether the float16 variant is preferred, where there is one.
        config: names of configuration files that belong to it.
    """

    folder: str
    stem: str
    half: bool = False
    config: tuple[str, ...] = ("config.json",)

    def patterns(self, half: bool) -> list[str]:
        """Patterns of the files of one variant."""
        prefix = f"{self.folder}/" if self.folder else ""
        return [prefix + name for name in (*self.config, *tensor_patterns(self.stem, half))]

    def is_in(self, repository: Path) -> bool:
        """Whether a downloaded repository has its tensors, in either variant."""
        return has_tensors(repository / self.folder, self.stem)


def is_hub_id(text: str) -> bool:
    """Whether a text looks like ``user/repository``; one that climbs (``..``), is rooted or names a file does not."""
    return _ID.fullmatch(text) is not None and not text.endswith(_FILE_ENDINGS)


def find_weights(weights: Path | str, fetch: Callable[[str], Path], what: str = "--weights") -> Path:
    """A local path as it is; what looks like a hub id, and is not there as a path, is fetched.

    Args:
        weights: as the user gave it; only a text, never a Path, is taken for a hub id.
        fetch: gets the folder of a hub id.
        what: the option that it came from.

    Raises:
        WeightsNotFound: neither a path that exists nor a hub id.
    """
    if Path(weights).exists():
        return Path(weights)
    if isinstance(weights, str) and is_hub_id(weights):
        return fetch(weights)
    raise WeightsNotFound(
        f"{what} takes a local folder, a .safetensors file, or a hub id such as user/repository; there is no "
        f"{weights}. {_WITHOUT}"
    )


def fetch_from_hub(hub_id: str, parts: Sequence[HubPart], *, offline: bool = False) -> Path:
    """The folder of a hub repository, downloaded if it is not cached: only the files in use, never a pickle.

    Args:
        hub_id: ``user/repository``.
        parts: the networks wanted; where a part lacks the preferred variant, the other one is fetched.
        offline: look into the local cache only.

    Raises:
        WeightsNotFound: not cached and not to be had, with what to do about it.
    """
    if not is_hub_id(hub_id):
        raise WeightsNotFound(f"A hub id has the form user/repository; got {hub_id!r}.")
    patterns = [pattern for part in parts for pattern in part.patterns(part.half)]
    folder = _snapshot(hub_id, patterns, offline)
    if lacking := [part for part in parts if not part.is_in(folder)]:
        patterns += [pattern for part in lacking for pattern in part.patterns(not part.half)]
        folder = _snapshot(hub_id, patterns, offline)
    if lacking := [part for part in lacking if not part.is_in(folder)]:
        names = ", ".join(f"{part.folder or '.'}/{part.stem}.safetensors" for part in lacking)
        where = "in the local cache, and --offline forbids to fetch it" if offline else "there"
        raise WeightsNotFound(
            f"{hub_id} has no {names} {where}; pickled weights (.bin) are never read. Look at the page of {hub_id} "
            "on the hub, or give a local folder with --weights."
        )
    return folder


def _snapshot(hub_id: str, patterns: Sequence[str], offline: bool) -> Path:
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import GatedRepoError, HfHubHTTPError, LocalEntryNotFoundError, RepositoryNotFoundError

    wanted = list(dict.fromkeys(patterns))
    try:
        return Path(snapshot_download(hub_id, allow_patterns=wanted, local_files_only=offline))
    except GatedRepoError as error:
        raise WeightsNotFound(
            f"The hub gives out {hub_id} only to those who accepted its licence. 1. Visit the page of {hub_id} on the "
            "hub and accept it. 2. Run `hf auth login`. 3. Run this command again. Or give a local folder with "
            f"--weights. {_WITHOUT}"
        ) from error
    except RepositoryNotFoundError as error:
        raise WeightsNotFound(
            f"The hub has no {hub_id} that you may see: look whether its page, {hub_id} on the hub, is there and so "
            "spelt; if it is private, run `hf auth login`. Or give a local folder with --weights; there is no local "
            f"path {hub_id}. {_WITHOUT}"
        ) from error
    except LocalEntryNotFoundError as error:
        raise WeightsNotFound(_not_cached(hub_id, offline)) from error
    except (HfHubHTTPError, OSError) as error:
        raise WeightsNotFound(f"{_not_cached(hub_id, offline)} ({type(error).__name__}: {error})") from error


def _not_cached(hub_id: str, offline: bool) -> str:
    if offline:
        return (
            f"The weights of {hub_id} are not in the local cache, and --offline forbids to fetch them. Run "
            f"`hf download {hub_id}`, or this command without --offline, while there is a network; or give "
            f"a local folder with --weights. {_WITHOUT}"
        )
    return (
        f"The weights of {hub_id} are neither in the local cache nor could they be fetched from the hub. Go online and "
        f"run `hf download {hub_id}` or this command again; or give a local folder with --weights. {_WITHOUT}"
    )
