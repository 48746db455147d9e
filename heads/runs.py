"""A fitted head and everything that decided it, in memory and as a folder without pickles."""

import csv
import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from actiondiff import ActionDiffError, InputError
from actiondiff.heads.folders import write_json
from actiondiff.heads.models import Head, HeadConfig, build_head
from actiondiff.heads.presets import FitConfig
from actiondiff.store import FeatureKey

FORMAT = 1


class RunError(InputError):
    """A folder is not a run, or is damaged, or does not fit the features it is used on."""


@dataclass(frozen=True)
class RunConfig:
    """Everything that decided a run, as its ``config.json`` holds it.

    Attributes:
        fit: the settings, with nothing left open.
        head: the head's shape.
        key: layer and timestep of the features.
        classes: what the logits stand for.
        multilabel: whether videos can have several labels.
        recipe: how the features were made.
        fingerprint: of the recipe.
        selection: in words, which epoch was taken and why.
        details: what else was so: versions, paths, which rows, how many, notes.
    """

    fit: FitConfig
    head: HeadConfig
    key: FeatureKey
    classes: tuple[str, ...]
    multilabel: bool
    recipe: dict[str, Any]
    fingerprint: str
    selection: str
    details: dict[str, Any] = field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        """As JSON values."""
        return {
            "format": FORMAT,
            **self.details,
            "layer": self.key.layer,
            "timestep": self.key.timestep,
            "classes": list(self.classes),
            "multilabel": self.multilabel,
            "selection": self.selection,
            "fit": self.fit.to_dict(),
            "head": asdict(self.head),
            "fingerprint": self.fingerprint,
            "recipe": self.recipe,
        }

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> "RunConfig":
        """The reverse of :meth:`to_dict`."""
        rest = dict(values)
        if rest.pop("format", None) != FORMAT:
            raise RunError(f"This version reads runs of format {FORMAT}; got {values.get('format')!r}.")
        return cls(
            fit=FitConfig.from_dict(rest.pop("fit")),
            head=HeadConfig.from_dict(rest.pop("head")),
            key=FeatureKey(rest.pop("layer"), rest.pop("timestep")),
            classes=tuple(rest.pop("classes")),
            multilabel=rest.pop("multilabel"),
            recipe=rest.pop("recipe"),
            fingerprint=rest.pop("fingerprint"),
            selection=rest.pop("selection"),
            details=rest,
        )


@dataclass(frozen=True, eq=False)
class Run:
    """A fitted head and what it needs to be used.

    Attributes:
        head: in evaluation mode.
        config: everything that decided it.
        parts: ids of the videos of each part: ``train``, ``val``, the test sets.
        groups: of the videos that have one.
    """

    head: Head
    config: RunConfig
    parts: dict[str, tuple[str, ...]]
    groups: dict[str, str] = field(default_factory=dict)

    @property
    def learned_from(self) -> set[str]:
        """Ids of the videos that the weights saw or that chose the epoch."""
        return {*self.parts.get("train", ()), *self.parts.get("val", ())}

    @property
    def learned_groups(self) -> set[str]:
        """Groups of these videos."""
        return {self.groups[video_id] for video_id in self.learned_from if video_id in self.groups}

    @classmethod
    def load(cls, path: str | Path) -> "Run":
        """Read a run's folder: JSON and safetensors, nothing that could run code.

        Raises:
            RunError: not a run's folder, or a damaged one.
        """
        path = Path(path)
        with _told(path):
            config = _read_config(path)
            head = build_head(config.head)
            head.load_state_dict(load_file(path / "head.safetensors"))
            parts, groups = _read_parts(path / "parts.csv")
        return cls(head.eval(), config, parts, groups)

    def save(self, folder: Path) -> None:
        """Write ``config.json``, ``parts.csv`` and ``head.safetensors`` into a folder."""
        write_json(folder / "config.json", self.config.to_dict())
        _write_parts(folder / "parts.csv", self.parts, self.groups)
        save_file(
            {name: value.contiguous() for name, value in self.head.state_dict().items()}, folder / "head.safetensors"
        )


def read_description(path: str | Path) -> tuple[RunConfig, dict[str, str]]:
    """What a run's folder says of it, without its weights: the config, and the groups of its videos.

    Raises:
        RunError: as :meth:`Run.load`.
    """
    with _told(Path(path)):
        return _read_config(Path(path)), _read_parts(Path(path) / "parts.csv")[1]


def _read_config(path: Path) -> RunConfig:
    return RunConfig.from_dict(json.loads((path / "config.json").read_text(encoding="utf-8")))


@contextmanager
def _told(path: Path) -> Iterator[None]:
    """Turn whatever a damaged folder leads to into an error that names it."""
    try:
        yield
    except FileNotFoundError as error:
        lacking = Path(error.filename or "head.safetensors").name
        raise RunError(
            f"A run's folder holds config.json, head.safetensors and parts.csv; {path} lacks {lacking}. "
            "Name the folder that actiondiff fit --out wrote."
        ) from error
    except (ActionDiffError, ValueError, KeyError, TypeError, AttributeError, RuntimeError, SafetensorError) as error:
        raise RunError(f"The run in {path} cannot be read ({_reason(error)}). Fit it again.") from error


def _write_parts(path: Path, parts: dict[str, tuple[str, ...]], groups: dict[str, str]) -> None:
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(["part", "video_id", "group"])
        writer.writerows([name, video_id, groups.get(video_id, "")] for name, ids in parts.items() for video_id in ids)


def _read_parts(path: Path) -> tuple[dict[str, tuple[str, ...]], dict[str, str]]:
    parts: dict[str, list[str]] = {}
    groups: dict[str, str] = {}
    with path.open(newline="", encoding="utf-8") as file:
        for row in csv.DictReader(file):
            parts.setdefault(row["part"], []).append(row["video_id"])
            if group := row.get("group"):  # runs of earlier versions do not tell
                groups[row["video_id"]] = group
    return {name: tuple(ids) for name, ids in parts.items()}, groups


def _reason(error: Exception) -> str:
    return f"{type(error).__name__}: {str(error).splitlines()[0]}" if str(error) else type(error).__name__
