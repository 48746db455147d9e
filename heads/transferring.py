"""Train in one domain, test in every one: the matrix of a manifest's column beside its baselines."""

from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from statistics import fmean
from typing import Any

import numpy as np

from actiondiff import InputError
from actiondiff.heads.baselines import label_frequencies, naive_bayes, prior_guess
from actiondiff.heads.correlations import label_correlations
from actiondiff.heads.data import LabelledFeatures, choose_key, extracted, load_features
from actiondiff.heads.domains import Domains, Round, split_domains
from actiondiff.heads.folders import check_free
from actiondiff.heads.matrix import TransferResult, TransferRow
from actiondiff.heads.metrics import Metrics, Predictions, measure
from actiondiff.heads.presets import FitConfig
from actiondiff.heads.training import Progress, score, train_head
from actiondiff.manifests import Manifest
from actiondiff.store import FeatureStore


def transfer(
    sources: FeatureStore | Mapping[str, FeatureStore],
    manifest: Manifest,
    by: str,
    configs: FitConfig | Sequence[FitConfig],
    *,
    seeds: int = 1,
    folds: int | None = None,
    layer: int | None = None,
    timestep: int | None = None,
    allow_unseen: bool = False,
    device: str = "auto",
    out: str | Path | None = None,
    progress: Progress | None = None,
) -> TransferResult:
    """Fit heads on each value of a column and test them on every one.

    Where every domain has ``split=train`` and ``split=test`` rows, a head is trained on the one's train rows (part of
    them set aside to choose the epoch, as in :func:`fit`) and tested on the other's test rows. Else each domain is cut
    into folds by group: a head is trained on all but one fold to the last epoch, its own domain's number comes from the
    held-out folds together, another domain's is the mean over the folds' heads; so both come from heads trained on
    equally many videos.

    Args:
        sources: the features, or several kinds of them by name.
        manifest: labels, groups, and the column.
        by: the column, for example ``domain``.
        configs: settings of one head or of several; ``max_length`` None is the longest video of all domains, so that
            every head of a matrix has the same size.
        seeds: how many seeds, from each config's own upwards.
        folds: inside each domain where there is no split; None for 5, or fewer where groups are few.
        layer: of the features; for each source as :func:`choose_key`.
        timestep: likewise.
        allow_unseen: count videos of labels that a domain cannot train on as wrong, rather than refuse them.
        device: ``auto``, ``cpu`` or ``cuda``.
        out: folder for table and picture, new; None writes nothing.
        progress: told before the first training and after each.

    Raises:
        InputError: fewer than two domains, labels of one that another lacks, a group in two, too few groups.
    """
    if out is not None:
        check_free(out)
    configs = [configs] if isinstance(configs, FitConfig) else list(configs)
    named = {"features": sources} if isinstance(sources, FeatureStore) else dict(sources)
    if seeds < 1 or not configs or not named:
        raise InputError("A transfer needs at least one seed, one head and one store of features.")
    left_out: tuple[str, ...] = ()
    for store in named.values():
        manifest, failed = extracted(store, manifest)
        left_out += failed
    domains = split_domains(manifest, by, folds, allow_unseen)
    count = _Count(len(named) * len(configs) * seeds * len(domains.names) * domains.rounds_each, progress)
    count.tell()
    rows: list[TransferRow] = []
    made: dict[str, Any] = {}
    notes = left_out + domains.notes + domains.selections(configs[0])
    used = Manifest(tuple(video for part in domains.rows.values() for video in part), manifest.root)
    for name, store in named.items():
        # A store of one key, such as a control's, has no other to choose.
        key = choose_key(store, layer, timestep) if len(store.keys()) > 1 or len(named) == 1 else store.keys()[0]
        made[name] = {
            "layer": key.layer,
            "timestep": key.timestep,
            "fingerprint": store.fingerprint,
            "recipe": store.recipe,
        }
        data = load_features(store, used, key)
        notes += (store.notice,) if store.notice else ()
        for config in configs:
            length = config.max_length or data.longest
            notes += _notes(name, data, length)
            for seed in range(config.seed, config.seed + seeds):
                lab = _Lab(name, replace(config, seed=seed, max_length=length), data, device, count)
                rows += [row for domain in domains.names for row in _rows_of(lab.of(domains, domain), domains, domain)]
    details = {"by": by, "how": domains.how, "seeds": seeds, "sources": made, "fits": [c.to_dict() for c in configs]}
    result = TransferResult(
        tuple(rows), domains.names, by, domains.how, label_correlations(domains), tuple(dict.fromkeys(notes)), details
    )
    if out is not None:
        result.write(out)
    return result


def _notes(source: str, data: LabelledFeatures, length: int) -> tuple[str, ...]:
    cut = data.longer_than(length)
    return (f"{cut} videos of {source} are longer than {length} frames; the first {length} were used.",) if cut else ()


@dataclass
class _Count:
    """Trainings done of all there are."""

    total: int
    progress: Progress | None
    done: int = field(default=0)

    def tick(self) -> None:
        self.done += 1
        self.tell()

    def tell(self) -> None:
        if self.progress:
            self.progress(self.done, self.total)


@dataclass(frozen=True, eq=False)
class _Lab:
    """Trains heads of one config on one source."""

    source: str
    config: FitConfig
    data: LabelledFeatures
    device: str
    count: _Count

    def of(self, domains: Domains, domain: str) -> "_Lab":
        """For heads that know the labels of one domain."""
        return replace(self, data=self.data.over(domains.classes(domain)))

    def pick(self, rows: Manifest) -> LabelledFeatures:
        places = {video_id: place for place, video_id in enumerate(self.data.video_ids)}
        return self.data.subset([places[video.video_id] for video in rows])

    def play(self, game: Round) -> dict[str, "_Scores"]:
        """Train once; for each domain the head's scores beside those of the baselines."""
        train = self.pick(game.train)
        trained = train_head(train, self.pick(game.val) if game.val else None, self.config, device=self.device)
        self.count.tick()
        loss = trained.config.loss or ""
        tests = {name: self.pick(rows) for name, rows in game.tests.items()}
        return {
            name: _Scores(
                score(trained.head, test, loss, device=self.device),
                label_frequencies(train, test),
                naive_bayes(train, test),
                prior_guess(train, test),
            )
            for name, test in tests.items()
        }


@dataclass(frozen=True, eq=False)
class _Scores:
    """Of one round in one domain: the head's, and the baselines'."""

    head: Predictions
    most_frequent: Predictions
    naive_bayes: Predictions
    prior_guess: float | None


def _rows_of(lab: _Lab, domains: Domains, domain: str) -> list[TransferRow]:
    played: dict[str, list[_Scores]] = defaultdict(list)
    for game in domains.rounds(domain, lab.config):
        for name, scores in lab.play(game).items():
            played[name].append(scores)
    return [_row(lab, domain, name, played[name], _pooled if name == domain else _averaged) for name in domains.names]


def _row(
    lab: _Lab, train: str, test: str, rounds: list[_Scores], combine: Callable[[list[Predictions]], Metrics]
) -> TransferRow:
    head, most_frequent, bayes = (
        combine([getattr(scores, name) for scores in rounds]) for name in ("head", "most_frequent", "naive_bayes")
    )
    sizes = [len(scores.head) for scores in rounds]
    weighted = zip(rounds, sizes, strict=True)
    guesses = [scores.prior_guess * size for scores, size in weighted if scores.prior_guess is not None]
    return TransferRow(
        head=lab.config.head,
        features=lab.source,
        seed=lab.config.seed,
        train=train,
        test=test,
        videos=head.videos,
        accuracy=head.accuracy,
        map_macro=head.map_macro,
        map_micro=head.map_micro,
        chance=most_frequent.main if lab.data.multilabel else 1 / len(lab.data.classes),
        most_frequent=most_frequent.main,
        prior_guess=sum(guesses) / sum(sizes) if guesses else None,
        naive_bayes=bayes.main,
    )


def _pooled(folds: list[Predictions]) -> Metrics:
    """Metrics of the held-out folds together, each video scored once."""
    first = folds[0]
    return measure(
        Predictions(
            tuple(video_id for fold in folds for video_id in fold.video_ids),
            tuple(labels for fold in folds for labels in fold.labels),
            first.classes,
            np.concatenate([fold.scores_NK for fold in folds]),
            first.multilabel,
        )
    )


def _averaged(folds: list[Predictions]) -> Metrics:
    """Mean of each metric over heads that all scored the same videos."""
    each = [measure(fold) for fold in folds]

    def mean(name: str) -> float | None:
        values = [getattr(metrics, name) for metrics in each]
        return None if None in values else fmean(values)

    return replace(each[0], accuracy=mean("accuracy"), map_macro=mean("map_macro"), map_micro=mean("map_micro"))
