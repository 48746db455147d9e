"""Which videos train, which choose the epoch, which test; leaks between them are refused."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace

from actiondiff import InputError
from actiondiff.heads.data import first_few
from actiondiff.heads.presets import FitConfig
from actiondiff.manifests import Manifest, Video, grouped_holdout, misspelt_splits

MIN_VIDEOS_TO_SET_ASIDE = 10
"""Where there is no test part: the validation part then gives the only number, of the epoch it chose."""

MIN_VIDEOS_BESIDE_A_TEST = 100
"""Where there is a test part: of few training videos, choosing an epoch wins less than a fifth of them would teach
(measured: see the room's README)."""


@dataclass(frozen=True)
class Parts:
    """The rows of a fit.

    Attributes:
        train: what the weights see.
        val: what chooses the epoch; None where the last epoch is taken.
        tests: test sets by name; they choose nothing.
        how: in words, where the validation part comes from, or why there is none.
        notes: what the user should know, in sentences.
    """

    train: Manifest
    val: Manifest | None
    tests: dict[str, Manifest] = field(default_factory=dict)
    how: str = ""
    notes: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        for name, part in (("val", self.val), *self.tests.items()):
            if part is not None:
                check_apart(self.train, part, name)
        for name, part in self.tests.items():
            shared = _ids(part) & _ids(self.val or ()) or _groups(part) & _groups(self.val or ())
            if shared:
                raise InputError(
                    f"A test part chooses nothing, so it shares no video and no group with the validation part; {name} "
                    f"has {first_few(sorted(shared))} in both. Give --val or --test other rows."
                )

    @property
    def is_multilabel(self) -> bool:
        """Whether a video of any part has several labels."""
        return any(part.is_multilabel for part in (self.train, self.val, *self.tests.values()) if part is not None)

    def selection(self, best_epoch: int, epochs: int) -> str:
        """How the weights were chosen, in words."""
        if self.val is None:
            return f"last epoch taken: {self.how}"
        return f"epoch {best_epoch} of {epochs} chosen on {len(self.val)} validation videos {self.how}"


def choose_parts(
    manifest: Manifest,
    config: FitConfig,
    train: str | None = None,
    val: str | None = None,
    tests: Sequence[str] = (),
    *,
    needed: int | None = None,
) -> Parts:
    """Split a manifest by what was asked for, else by its ``split`` column, else by setting groups aside.

    Args:
        manifest: all rows.
        config: for ``val_fraction`` and ``seed``.
        train: WHERE of the training rows; None for ``split=train`` if there is any, else all that the others leave.
        val: WHERE of the validation rows; None for ``split=val`` (if ``train`` is None, too), else a part of train.
        tests: a WHERE for each test set; none for ``split=test`` if there is any.
        needed: training videos from which on a validation part is set aside; None for fewer where nothing is tested.

    Raises:
        InputError: a video or a group is in two parts, a split is misspelt, or nothing is left to train on.
    """
    test_parts = _tests(manifest, tests)
    val_part = manifest.where(val) if val else None
    if val_part is None and train is None and has_split(manifest, "val"):
        val, val_part = "split=val", manifest.where("split=val")
    train_part, notes = _train(manifest, train, [*test_parts.values(), *([val_part] if val_part else [])])
    if val_part is not None:
        return Parts(train_part, val_part, test_parts, f"given by {val}", notes)
    for name, part in test_parts.items():  # before a part is set aside: a group of a test part must not get there
        check_apart(train_part, part, name)
    return replace(set_aside(train_part, config, test_parts, needed=needed), notes=notes)


def set_aside(
    train: Manifest,
    config: FitConfig,
    tests: dict[str, Manifest] | None = None,
    *,
    tested: bool = False,
    needed: int | None = None,
) -> Parts:
    """Take a validation part out of a training part, whole groups at a time, if there is enough of it.

    Args:
        train: the rows.
        config: for ``val_fraction`` and ``seed``.
        tests: test sets by name.
        tested: whether the head will be tested on other videos than these sets, too.
        needed: videos from which on a part is set aside; None for more where the head is tested.
    """
    if needed is None:
        needed = MIN_VIDEOS_BESIDE_A_TEST if tests or tested else MIN_VIDEOS_TO_SET_ASIDE
    held, how = _held_out(train, config, needed)
    videos = train.videos
    rest = tuple(video for index, video in enumerate(videos) if index not in held)
    val = Manifest(tuple(videos[index] for index in sorted(held)), train.root) if held else None
    return Parts(Manifest(rest, train.root), val, tests or {}, how)


def has_split(manifest: Manifest, value: str) -> bool:
    """Whether any row's split is this one.

    Raises:
        InputError: a row's split is another spelling of train, val or test: it would be taken for none of them.
    """
    check_splits(manifest)
    return any(video.split == value for video in manifest)


def check_splits(manifest: Manifest) -> None:
    """Refuse splits that mean train, val or test and are not spelt so.

    Raises:
        InputError: naming them and how to spell them.
    """
    if told := misspelt_splits(manifest):
        raise InputError(
            f"The split column decides by the words train, val and test; this manifest has {told}. "
            "Correct the column, or say which rows are which with --train, --val and --test."
        )


def check_apart(train: Manifest, other: Manifest, name: str) -> None:
    """Refuse a part that shares videos or groups with the training part.

    Raises:
        InputError: naming what is shared.
    """
    if shared := _ids(train) & _ids(other):
        raise InputError(
            f"Parts share no videos; {first_few(sorted(shared))} would be in train and in {name}. "
            "Select the training rows with --train, or other rows here."
        )
    if shared := _groups(train) & _groups(other):
        raise InputError(
            f"A group stays on one side; {first_few(sorted(shared))} would be in train and in {name}. Split by group, "
            "or clear the group column if its videos have nothing in common."
        )


def _tests(manifest: Manifest, tests: Sequence[str]) -> dict[str, Manifest]:
    wheres = list(tests) or (["split=test"] if has_split(manifest, "test") else [])
    if len(wheres) == 1:
        return {"test": manifest.where(wheres[0])}
    return {where: manifest.where(where) for where in wheres}


def _train(manifest: Manifest, train: str | None, others: Sequence[Manifest]) -> tuple[Manifest, tuple[str, ...]]:
    """The training rows, and what is said of rows that are in no part."""
    by_split = train is None and has_split(manifest, "train")
    if by_split:
        train = "split=train"
    taken = set().union(*(_ids(part) for part in others))
    if train is not None:
        part = manifest.where(train)
        taken |= _ids(part)
        rest = [video for video in manifest if video.video_id not in taken] if by_split else []
    else:  # a split of another name is not silently trained on
        part = Manifest(
            tuple(v for v in manifest if v.video_id not in taken and v.split in ("", "train")), manifest.root
        )
        rest = [video for video in manifest if video.video_id not in taken and video.split not in ("", "train")]
    if not len(part):
        raise InputError("Nothing is left to train on: every row is in a validation or test part. Give --train.")
    splits = sorted({repr(video.split) if video.split else "no split" for video in rest})
    note = f"{len(rest)} videos are in no part: their split is {first_few(splits)}."
    return part, (note,) if rest else ()


def _held_out(train: Manifest, config: FitConfig, needed: int) -> tuple[set[int], str]:
    """Indices to set aside, and in words how or why not."""
    if config.val_fraction == 0:
        return set(), "no validation part was asked for"
    if len(train) < needed:
        return set(), f"{len(train)} training videos are too few to set some aside ({needed} needed)"
    groups = [video.group for video in train]
    if len(_groups(train)) + groups.count("") < 2:
        return set(), "the training videos are all of one group, so none can be set aside"
    labels = [";".join(video.labels) for video in train]
    held = {int(index) for index in grouped_holdout(groups, labels, config.val_fraction, config.seed)}
    left = {label for index, video in enumerate(train) if index not in held for label in video.labels}
    if not held or left != set(train.classes):
        return set(), "no group can be set aside without losing a label"
    return held, "set aside from train by group" if any(groups) else "set aside from train"


def _ids(videos: Iterable[Video]) -> set[str]:
    return {video.video_id for video in videos}


def _groups(videos: Iterable[Video]) -> set[str]:
    return {video.group for video in videos} - {""}
