"""One head for every layer and timestep: what ``actiondiff sweep`` does."""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from actiondiff import InputError
from actiondiff.heads.data import LabelledFeatures, extract_command, extracted, load_features
from actiondiff.heads.fitting import with_one_kind
from actiondiff.heads.folders import check_free, write_json
from actiondiff.heads.grid import heads_at_once, train_grid
from actiondiff.heads.heat_maps import draw_sweep
from actiondiff.heads.metrics import Metrics, measure
from actiondiff.heads.parts import MIN_VIDEOS_TO_SET_ASIDE, Parts, choose_parts
from actiondiff.heads.presets import FitConfig
from actiondiff.heads.sweep_table import VAL, SweepRow, SweepTable, lines_of, read_rows
from actiondiff.heads.training import Progress, TrainedHead, score, train_head
from actiondiff.manifests import Manifest
from actiondiff.store import FeatureKey, FeatureStore, spell_keys, spell_numbers

FORMAT = 1


@dataclass(frozen=True, eq=False)
class SweepResult:
    """How heads do on every layer and timestep.

    Attributes:
        table: a row for each head, layer, timestep, seed and part.
        notes: what the user should know, in sentences.
        features: what the features are called.
        path: the sweep's folder, None if it was not written.
    """

    table: SweepTable
    notes: tuple[str, ...]
    features: str
    path: Path | None

    def to_dict(self) -> dict[str, Any]:
        """What validation chose, every row, and notes as JSON values."""
        best = [self.table.best(head) for head in self.table.heads]
        return {
            "out": None if self.path is None else str(self.path),
            "metric": self.table.metric,
            "best": [each.to_dict() for each in best if each is not None],
            "rows": [asdict(row) for row in self.table.rows],
            "notes": list(self.notes),
        }

    def text(self) -> str:
        """For the terminal."""
        lines = [self.caption(), *lines_of(self.table, self.table.heads), *self.notes]
        return "\n".join([*lines, f"-> {self.path}/sweep.csv, sweep.png"] if self.path else lines)

    def caption(self) -> str:
        """What the numbers are."""
        spread = f"mean over {self.table.seeds} seeds" if self.table.seeds > 1 else "one seed"
        return f"{self.table.metric.replace('_', ' ')} of {self.features}, {spread}"


def sweep(
    store: FeatureStore,
    manifest: Manifest,
    configs: FitConfig | Sequence[FitConfig],
    *,
    layers: Sequence[int] | None = None,
    timesteps: Sequence[int] | None = None,
    seeds: int = 1,
    train: str | None = None,
    val: str | None = None,
    tests: Sequence[str] = (),
    out: str | Path | None = None,
    allow_unseen: bool = False,
    device: str = "auto",
    progress: Progress | None = None,
) -> SweepResult:
    """Fit heads on every layer and timestep; linear ones all at once.

    Validation chooses each head's epoch, and the layer and timestep; so a part is set aside from ten training videos
    on, a test part or not. A test part chooses nothing.

    Args:
        store: the features.
        manifest: labels and parts.
        configs: settings of one head or of several.
        layers: which; None for all that the store has.
        timesteps: likewise.
        seeds: how many seeds, from each config's own upwards.
        train: WHERE of the training rows, as :func:`fit` takes it.
        val: WHERE of the rows that choose; likewise.
        tests: a WHERE for each test set; likewise.
        out: folder of ``sweep.csv``, ``sweep.png`` and ``sweep.json``; the rows of a sweep of the same settings and
            data that are there already are taken as they are. None writes nothing.
        allow_unseen: count test videos of labels never trained on as wrong, rather than refuse them.
        device: ``auto``, ``cpu`` or ``cuda``.
        progress: told how many heads are done and how many there are, before the first is trained, too.

    Raises:
        InputError: features that are not in the store, parts that overlap, an ``out`` of another sweep.
    """
    configs = [configs] if isinstance(configs, FitConfig) else list(configs)
    if seeds < 1 or not configs or len({config.head for config in configs}) < len(configs):
        raise InputError("A sweep needs one seed or more, and heads that differ in kind.")
    keys = choose_keys(store, layers, timesteps)
    manifest, notes = extracted(store, manifest)
    fits = [replace(config, seed=config.seed + turn) for config in configs for turn in range(seeds)]
    parts = {
        config: choose_parts(manifest, config, train, val, tests, needed=MIN_VIDEOS_TO_SET_ASIDE) for config in fits
    }
    notes += tuple(dict.fromkeys(note for each in parts.values() for note in each.notes))
    notes += tuple(dict.fromkeys(_how(each) for each in parts.values()))
    notes += (store.notice,) if store.notice else ()
    lab = _Lab(store, keys, allow_unseen, device, progress, len(fits) * len(keys))
    if out is not None:
        lab.open(Path(out), _identity(store, fits, parts))
    for config in fits:
        lab.run(config, parts[config])
    table = SweepTable(lab.in_order(fits))
    result = SweepResult(table, notes + tuple(lab.notes), store.name, None if out is None else Path(out))
    if out is not None:
        table.write(Path(out) / "sweep.csv")
        draw_sweep(Path(out) / "sweep.png", table, result.caption(), result.notes)
    return result


def choose_keys(
    store: FeatureStore, layers: Sequence[int] | None = None, timesteps: Sequence[int] | None = None
) -> tuple[FeatureKey, ...]:
    """Every pair of these layers and timesteps; None for those that the store has.

    Raises:
        InputError: the store lacks one that was asked for.
    """
    there = store.keys()
    wanted = [
        FeatureKey(layer, timestep)
        for layer in (layers if layers is not None else sorted({key.layer for key in there}))
        for timestep in (timesteps if timesteps is not None else sorted({key.timestep for key in there}))
    ]
    lacking = [key for key in wanted if key not in there]
    if layers is None or timesteps is None:  # a layer need not have every timestep of the others, but one at least
        wanted = [key for key in wanted if key in there]
        has = {key.layer for key in wanted}, {key.timestep for key in wanted}
        lacking = [
            key for key in lacking if (layers and key.layer not in has[0]) or (timesteps and key.timestep not in has[1])
        ]
    if lacking or not wanted:
        numbers = [spell_numbers(getattr(key, name) for key in lacking) for name in ("layer", "timestep")]
        raise InputError(
            f"{store.path} has no features of {spell_keys(lacking) if lacking else 'any layer'}; "
            f"it has {spell_keys(there)}. "
            f"Add them with: {extract_command(store, numbers[0] or 'all', numbers[1] or 'all')}"
        )
    return tuple(wanted)


def _how(parts: Parts) -> str:
    if parts.val is None:
        return f"No validation part: the last epoch was taken, and no layer is chosen ({parts.how})."
    return f"Epoch, layer and timestep are chosen on {len(parts.val)} validation videos {parts.how}."


def _identity(store: FeatureStore, fits: Sequence[FitConfig], parts: dict[FitConfig, Parts]) -> dict[str, Any]:
    """What must be the same for rows of an earlier session to be taken; layers, timesteps and seeds may be more."""
    config = replace(fits[0], seed=0, head="linear").to_dict()
    first = parts[fits[0]]
    named = {"train": [*first.train, *(first.val or ())], **{name: [*part] for name, part in first.tests.items()}}
    rows = {
        name: sorted([video.video_id, ";".join(video.labels), video.group] for video in part)
        for name, part in named.items()
    }
    return {
        "format": FORMAT,
        "recipe": store.fingerprint,
        "settings": {name: value for name, value in config.items() if name != "given"},
        "tests": list(first.tests),
        "videos": hashlib.sha256(json.dumps(rows).encode()).hexdigest(),
    }


@dataclass
class _Lab:
    """Trains and scores, remembers rows, and writes them as they come."""

    store: FeatureStore
    keys: tuple[FeatureKey, ...]
    allow_unseen: bool
    device: str
    progress: Progress | None
    total: int
    done: int = 0
    rows: list[SweepRow] = field(default_factory=list)
    notes: dict[str, None] = field(default_factory=dict)
    folder: Path | None = None

    def open(self, folder: Path, identity: dict[str, Any]) -> None:
        """Take over the rows of an earlier session, or begin a folder."""
        self.folder, record = folder, folder / "sweep.json"
        if record.exists():
            theirs = json.loads(record.read_text(encoding="utf-8"))
            if differs := [name for name, value in identity.items() if theirs.get(name) != value]:
                raise InputError(
                    f"{folder} holds a sweep of other {', '.join(differs)}. Choose another --out, or remove it."
                )
            self.rows = list(read_rows(folder / "sweep.csv"))
            return
        check_free(folder)
        folder.mkdir(parents=True, exist_ok=True)
        write_json(record, identity)

    def run(self, config: FitConfig, parts: Parts) -> None:
        """All heads of one config that have no rows yet."""
        there = {row.key for row in self.rows if (row.head, row.seed) == (config.head, config.seed)}
        left = [key for key in self.keys if key not in there]
        self._tell(len(self.keys) - len(left))
        for channels in sorted({self._channels(key) for key in left}):
            waiting = [key for key in left if self._channels(key) == channels]
            while waiting:
                first = self._load(waiting[0], parts)
                many = heads_at_once(first["train"], config, self.device) if config.head == "linear" else 1
                chunk, waiting = waiting[:many], waiting[many:]
                data = {chunk[0]: first} | {key: self._load(key, parts) for key in chunk[1:]}
                self._score(self._train(config, data), data)

    def in_order(self, fits: Sequence[FitConfig]) -> tuple[SweepRow, ...]:
        """All rows: by head, seed, layer, timestep, and part."""
        heads = list(dict.fromkeys([*(config.head for config in fits), *(row.head for row in self.rows)]))
        return tuple(sorted(self.rows, key=lambda row: (heads.index(row.head), row.seed, row.key, row.part != VAL)))

    def _channels(self, key: FeatureKey) -> int:
        part, positions = next(self.store.places_of(key))
        video_id = part.video_ids[positions[0]]
        return self.store.read(video_id, layer=key.layer, timestep=key.timestep).shape[1]

    def _load(self, key: FeatureKey, parts: Parts) -> dict[str, LabelledFeatures]:
        others = {**({VAL: parts.val} if parts.val else {}), **parts.tests}
        classes, several = parts.train.classes, parts.is_multilabel
        data = {"train": load_features(self.store, parts.train, key, several=several)}
        for name, part in others.items():
            data[name] = load_features(self.store, part, key, classes, self.allow_unseen, several=several)
        return with_one_kind(data)

    def _train(
        self, config: FitConfig, data: dict[FeatureKey, dict[str, LabelledFeatures]]
    ) -> dict[FeatureKey, TrainedHead]:
        train = {key: parts["train"] for key, parts in data.items()}
        val = {key: parts[VAL] for key, parts in data.items() if VAL in parts}
        if config.head == "linear":
            return train_grid(train, val or None, config, device=self.device)
        return {key: train_head(part, val.get(key), config, device=self.device) for key, part in train.items()}

    def _score(
        self, trained: dict[FeatureKey, TrainedHead], data: dict[FeatureKey, dict[str, LabelledFeatures]]
    ) -> None:
        """Rows of these heads; they are written at once, so that a sweep that is killed has them."""
        for key, done in trained.items():
            for name, part in data[key].items():
                length = done.config.max_length or 1
                if cut := part.longer_than(length):
                    self.notes[
                        f"{cut} videos of {name} are longer than {length} frames; the first {length} were used."
                    ] = None
                if name != "train":
                    metrics = measure(score(done.head, part, done.config.loss or "", device=self.device))
                    self.rows.append(_row(done, key, name, metrics))
        if self.folder is not None:
            SweepTable(tuple(self.rows)).write(self.folder / "sweep.csv")
        self._tell(len(trained))

    def _tell(self, more: int) -> None:
        self.done += more
        if self.progress is not None:
            self.progress(self.done, self.total)


def _row(trained: TrainedHead, key: FeatureKey, part: str, metrics: Metrics) -> SweepRow:
    return SweepRow(
        head=trained.config.head,
        layer=key.layer,
        timestep=key.timestep,
        seed=trained.config.seed,
        part=part,
        videos=metrics.videos,
        accuracy=metrics.accuracy,
        map_macro=metrics.map_macro,
        map_micro=metrics.map_micro,
        best_epoch=trained.best_epoch,
    )
