"""The domains of a manifest's column, and the rounds of training and testing that compare them fairly."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from actiondiff import InputError
from actiondiff.heads.data import first_few
from actiondiff.heads.parts import Parts, check_apart, has_split, set_aside
from actiondiff.heads.presets import FitConfig
from actiondiff.manifests import Manifest, Video, grouped_folds

DEFAULT_FOLDS = 5


@dataclass(frozen=True)
class Round:
    """One training: what is trained on, what chooses the epoch (None: the last is taken), what each domain tests."""

    train: Manifest
    val: Manifest | None
    tests: dict[str, Manifest]


@dataclass(frozen=True)
class Domains:
    """Rows of each value of a column.

    Attributes:
        by: the column.
        rows: the rows of each value, values sorted.
        folds: how many folds take turns inside a domain; 0 where the ``split`` column decides.
        notes: what the user should know, in sentences.
    """

    by: str
    rows: dict[str, Manifest]
    folds: int
    notes: tuple[str, ...] = ()

    @property
    def names(self) -> tuple[str, ...]:
        """The column's values."""
        return tuple(self.rows)

    @property
    def how(self) -> str:
        """In words, how training and test rows of a domain are told apart."""
        if self.folds:
            grouped = any(video.group for part in self.rows.values() for video in part)
            return f"{self.folds} folds {'by group' if grouped else 'of videos'} in each domain, last epoch"
        return "trained on split=train, tested on split=test"

    @property
    def rounds_each(self) -> int:
        """Trainings that one domain takes."""
        return self.folds or 1

    def training(self, name: str) -> Manifest:
        """Rows of a domain that a head is trained on, in one round or another."""
        return self.rows[name] if self.folds else _of_split(self.rows[name], "train")

    def testing(self, name: str) -> Manifest:
        """Rows of a domain that heads are tested on, in one round or another."""
        return self.rows[name] if self.folds else _of_split(self.rows[name], "test")

    def classes(self, name: str) -> tuple[str, ...]:
        """Labels that a head of this domain is trained on."""
        return self.training(name).classes

    def parts(self, name: str, config: FitConfig) -> Parts:
        """Training and validation rows of a domain whose ``split`` column decides."""
        train = _of_split(self.rows[name], "train")
        if has_split(self.rows[name], "val"):
            return Parts(train, _of_split(self.rows[name], "val"), how="given by split=val")
        return set_aside(train, config, tested=True)

    def selections(self, config: FitConfig) -> tuple[str, ...]:
        """For each domain, in words, what chooses the epoch."""
        if self.folds:
            return ()
        parts = {name: self.parts(name, config) for name in self.names}
        return tuple(
            f"{name}: {'last epoch taken, ' if part.val is None else 'epoch chosen on a part '}{part.how}."
            for name, part in parts.items()
        )

    def rounds(self, name: str, config: FitConfig) -> Iterator[Round]:
        """The trainings of one domain; folds and set-aside parts follow the config's seed."""
        if not self.folds:
            parts = self.parts(name, config)
            yield Round(parts.train, parts.val, {other: _of_split(rows, "test") for other, rows in self.rows.items()})
            return
        videos, root = self.rows[name].videos, self.rows[name].root
        for fold in grouped_folds(*_groups_and_labels(videos), self.folds, config.seed):
            held = {int(index) for index in fold}
            rest = tuple(video for index, video in enumerate(videos) if index not in held)
            own = Manifest(tuple(videos[index] for index in sorted(held)), root)
            yield Round(Manifest(rest, root), None, {**self.rows, name: own})


def split_domains(manifest: Manifest, by: str, folds: int | None = None, allow_unseen: bool = False) -> Domains:
    """Tell a manifest's domains apart and check that a matrix of them is honest.

    Args:
        manifest: all rows; those without a value of the column are left out.
        by: the column.
        folds: inside each domain; None for 5, or fewer where a domain has fewer groups. Not used where every domain has
            ``split=train`` and ``split=test`` rows.
        allow_unseen: whether a domain may have labels that another lacks.

    Raises:
        InputError: fewer than two domains, labels that a domain lacks, a group in two domains, too few groups.
    """
    rows = {
        value: Manifest(tuple(video for video in manifest if video.column(by) == value), manifest.root)
        for value in manifest.values(by)
    }
    if len(rows) < 2:
        raise InputError(
            f"A transfer needs two values of {by!r} or more; this manifest has {', '.join(rows) or 'none'}."
        )
    split = all(has_split(part, "train") and has_split(part, "test") for part in rows.values())
    left_out = len(manifest) - sum(len(part) for part in rows.values())
    notes = (f"{left_out} videos have no {by} and were left out.",) if left_out else ()
    domains = Domains(by, rows, 0 if split else _folds(rows, folds), notes)
    _check_apart(domains)
    if not allow_unseen:
        _check_labels(domains)
    return domains


def _folds(rows: dict[str, Manifest], folds: int | None) -> int:
    """How many folds every domain can be cut into."""
    counts = {name: _count_groups(part.videos) for name, part in rows.items()}
    fewest = min(counts, key=lambda name: counts[name])
    if counts[fewest] < max(2, folds or 2):
        raise InputError(
            f"{folds or 2} folds need as many groups in each domain; {fewest} has {counts[fewest]}. "
            "Give finer groups, or split=train and split=test rows in every domain."
        )
    return folds or min(DEFAULT_FOLDS, counts[fewest])


def _check_apart(domains: Domains) -> None:
    for name, rows in domains.rows.items():
        for other, other_rows in domains.rows.items():
            if not domains.folds:
                check_apart(_of_split(rows, "train"), _of_split(other_rows, "test"), f"the test rows of {other}")
            elif name != other:
                check_apart(rows, other_rows, f"the test rows of {other}")


def _check_labels(domains: Domains) -> None:
    for name in domains.names:
        known = set(domains.classes(name))
        for other, rows in domains.rows.items():
            if lacking := sorted(set(rows.classes) - known):
                raise InputError(
                    f"Every domain is tested on labels it can train on; {name} lacks {first_few(lacking)} of {other}. "
                    "Leave these labels out, or allow unseen labels: their videos count as wrong."
                )


def _of_split(rows: Manifest, split: str) -> Manifest:
    return Manifest(tuple(video for video in rows if video.split == split), rows.root)


def _groups_and_labels(videos: Sequence[Video]) -> tuple[list[str], list[str]]:
    return [video.group for video in videos], [";".join(video.labels) for video in videos]


def _count_groups(videos: Sequence[Video]) -> int:
    groups = [video.group for video in videos]
    return len(set(groups) - {""}) + groups.count("")
