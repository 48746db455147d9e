"""The trainer: order, resuming, stopping early, several processes and class weights."""

import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors import safe_open

from actiondiff import InputError
from actiondiff.heads.batch import Order
from actiondiff.heads.data import LabelledFeatures
from actiondiff.heads.metrics import measure
from actiondiff.heads.models import HEADS
from actiondiff.heads.presets import FitConfig
from actiondiff.heads.resuming import Checkpoint
from actiondiff.heads.training import TrainedHead, fast_precision, score, train_head

Drawn = Callable[..., LabelledFeatures]


def weights(trained: TrainedHead) -> dict[str, bytes]:
    return {name: value.numpy().tobytes() for name, value in trained.head.state_dict().items()}


@given(
    lengths=st.lists(st.integers(1, 150), min_size=1, max_size=400),
    batch_size=st.integers(1, 20),
    together=st.integers(1, 5),
    seed=st.integers(0, 99),
)
@settings(max_examples=40, deadline=None)
def test_every_video_comes_once_an_epoch(lengths: list[int], batch_size: int, together: int, seed: int) -> None:
    order = Order(np.array(lengths), batch_size, seed, together)
    for epoch in range(2):
        order.epoch = epoch
        steps = list(order)
        batches = [batch for step in steps for batch in step]
        assert len(steps) == len(order)
        assert len(batches) == order.batches
        assert sorted(np.concatenate(batches)) == list(range(len(lengths)))
        assert sum(len(batch) < batch_size for batch in batches) <= 1


def test_order_follows_seed_and_epoch_and_groups_lengths_of_many_videos() -> None:
    lengths = np.random.default_rng(0).integers(1, 151, 1000)

    def epoch(seed: int, number: int) -> list[np.ndarray]:
        order = Order(lengths, 16, seed)
        order.epoch = number
        return [batch for step in order for batch in step]

    def frames(batches: list[np.ndarray]) -> int:
        return sum(len(batch) * int(lengths[batch].max()) for batch in batches)

    first = epoch(0, 0)
    assert all((a == b).all() for a, b in zip(first, epoch(0, 0), strict=True))
    assert any((a[:5] != b[:5]).any() for a, b in zip(first, epoch(0, 1), strict=True))
    assert any((a[:5] != b[:5]).any() for a, b in zip(first, epoch(1, 0), strict=True))
    assert frames(first) < 1.25 * lengths.sum()
    assert {tuple(sorted(batch)) for batch in first}.isdisjoint({tuple(sorted(batch)) for batch in epoch(0, 1)})


def test_few_videos_are_in_random_order_because_lengths_may_go_with_labels() -> None:
    lengths = np.arange(1, 97)
    batches = [batch for step in Order(lengths, 16, 0) for batch in step]
    assert min(np.ptp(lengths[batch]) for batch in batches) > 48


class Killed(Exception):
    pass


@pytest.mark.parametrize("kind", HEADS)
@pytest.mark.parametrize("validates", [True, False])
def test_a_fit_that_was_killed_goes_on_to_the_same_weights(
    kind: str, validates: bool, drawn: Drawn, quick: FitConfig, tmp_path: Path
) -> None:
    config = replace(quick, head=kind, mixup=0.2, epochs=6, hidden=16)
    train, val = drawn(24), drawn(9, start="w") if validates else None

    def stop(done: int, total: int) -> None:
        if done == 3:
            raise Killed

    whole = train_head(train, val, config)
    for _ in range(2):  # the second time nothing is left from the first
        with pytest.raises(Killed):
            train_head(train, val, config, checkpoint=Checkpoint(tmp_path / "s", {}, every_seconds=0.0), progress=stop)
        torch.rand(5)
        told: list[int] = []
        checkpoint = Checkpoint(tmp_path / "s", {}, every_seconds=0.0, resume=True)
        resumed = train_head(
            train, val, config, checkpoint=checkpoint, progress=lambda done, _, told=told: told.append(done)
        )
        assert told == [4, 5, 6]
        assert weights(resumed) == weights(whole)
        assert (resumed.best_epoch, resumed.history) == (whole.best_epoch, whole.history)
    with safe_open(tmp_path / "s", "pt") as file:  # plain tensors and JSON
        assert file.metadata().keys() == {"fit"}
    again = train_head(train, val, config, checkpoint=Checkpoint(tmp_path / "s", {}, resume=True))
    assert weights(again) == weights(whole), "a state of the last epoch needs no training"


def test_a_state_of_another_fit_and_a_damaged_one_are_refused(drawn: Drawn, quick: FitConfig, tmp_path: Path) -> None:
    there = Checkpoint(tmp_path / "s", {"epochs": 3, "ids": list(range(90))}, every_seconds=0.0)
    train_head(drawn(12), None, replace(quick, epochs=2), checkpoint=there)
    with pytest.raises(InputError, match=r"differs in epochs: 3 there, 4 here; ids\. Give the same options"):
        Checkpoint(tmp_path / "s", {"epochs": 4, "ids": [1]}, resume=True).found()
    content = (tmp_path / "s").read_bytes()
    for damaged in (content[:50], b"", b"no tensors at all", content[:-4]):
        (tmp_path / "s").write_bytes(damaged)
        with pytest.raises(InputError, match="fit without --resume"):
            Checkpoint(tmp_path / "s", there.identity, resume=True).found()


def test_a_failing_write_leaves_the_state_before(
    drawn: Drawn, quick: FitConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    checkpoint = Checkpoint(tmp_path / "s", {}, every_seconds=0.0)
    train_head(drawn(12), None, replace(quick, epochs=2), checkpoint=checkpoint)
    before = (tmp_path / "s").read_bytes()

    def full(*_: object) -> None:
        raise OSError("disk full")

    monkeypatch.setattr("actiondiff.heads.resuming.os.fsync", full)
    with pytest.raises(OSError, match="disk full"):
        train_head(drawn(12), None, quick, checkpoint=checkpoint)
    assert (tmp_path / "s").read_bytes() == before
    assert list(tmp_path.iterdir()) == [tmp_path / "s"]


def test_short_fits_write_no_state(drawn: Drawn, quick: FitConfig, tmp_path: Path) -> None:
    train_head(drawn(12), None, quick, checkpoint=Checkpoint(tmp_path / "s", {}))
    assert list(tmp_path.iterdir()) == []


def test_training_stops_when_validation_has_not_got_better(drawn: Drawn, quick: FitConfig) -> None:
    train, val = drawn(24, signal=6.0), drawn(9, signal=6.0, start="w")
    stopped = train_head(train, val, replace(quick, epochs=40, patience=3))
    assert len(stopped.history) == stopped.best_epoch + 3 < 40
    with pytest.raises(InputError, match="Early stopping needs a validation part"):
        train_head(train, None, replace(quick, patience=3))


PROCESSES = """
import sys
import numpy as np
from actiondiff.heads.data import LabelledFeatures
from actiondiff.heads.presets import FitConfig
from actiondiff.heads.training import Placement, train_head


def draw(count, start):
    rng = np.random.default_rng(count)
    features = tuple((np.eye(8)[i % 3] + rng.normal(size=(4 + i % 3, 8))).astype(np.float32) for i in range(count))
    labels = tuple(("abc"[i % 3],) for i in range(count))
    ids = tuple(f"{start}{i}" for i in range(count))
    return LabelledFeatures(features, labels, ids, ("",) * count, tuple("abc"), False)


if __name__ == "__main__":
    kind, strategy, processes = sys.argv[1:]
    config = FitConfig(head=kind, lr=1e-2, epochs=2, mixup=0.3, dropout=0.0, batch_size=8)
    train, val = draw(25, "t"), draw(7, "v")  # the last batch is one video, which only one of the two can take
    together = train_head(train, val, config, placement=Placement("cpu", int(processes), strategy))
    alone = train_head(train, val, config, device="cpu")
    for ours, theirs in zip(together.history, alone.history, strict=True):
        assert abs(ours["loss"] - theirs["loss"]) < 1e-4 * theirs["loss"], (ours, theirs)
        assert ours["val_accuracy"] == theirs["val_accuracy"], "each validation video is scored once"
        assert abs(ours["val_map_macro"] - theirs["val_map_macro"]) < 1e-6
    apart = (together.head.classifier.weight - alone.head.classifier.weight).abs().max()
    print("apart", float(apart), together.best_epoch == alone.best_epoch)
"""


@pytest.mark.parametrize(
    ("kind", "strategy", "processes"), [("linear", "auto", 2), ("transformer", "ddp", 2), ("linear", "ddp", 1)]
)
def test_processes_train_as_one_without_a_strategy(kind: str, strategy: str, processes: int, tmp_path: Path) -> None:
    """Started by Lightning out of this process, or as the whole script over again; one of them comes to the end."""
    script = tmp_path / "script.py"
    script.write_text(PROCESSES)
    done = subprocess.run(
        [sys.executable, script, kind, strategy, str(processes)],
        capture_output=True, text=True, check=False, env=os.environ | {"OMP_NUM_THREADS": "1"},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    word, apart, same = done.stdout.split()
    assert (word, same) == ("apart", "True")
    assert float(apart) < 2e-4


def test_a_head_leaves_its_training_as_any_other(drawn: Drawn, quick: FitConfig) -> None:
    for kind in ("linear", "mlp"):
        head = train_head(drawn(24), None, replace(quick, head=kind, hidden=8), device="cpu").head
        layer = head.classifier if kind == "linear" else head.hidden
        assert layer.learner is None
        layer(torch.randn(1, 2, 8)).sum().backward()
        assert layer.weight.grad is not None


def test_bfloat16_learns_as_well(drawn: Drawn, quick: FitConfig) -> None:
    assert fast_precision("cpu") in ("float32", "bfloat16")
    for kind in ("linear", "transformer"):
        config = replace(quick, head=kind, epochs=12, precision="bfloat16")
        trained = train_head(drawn(48), None, config, device="cpu")
        assert trained.config.precision == "bfloat16"
        assert all(value.dtype == torch.float32 for value in trained.head.state_dict().values())
        assert measure(score(trained.head, drawn(60, start="t"), "cross-entropy")).accuracy > 0.8


def test_features_of_half_precision_stay_so_and_give_the_same_head(drawn: Drawn, quick: FitConfig) -> None:
    train = drawn(24)
    half = replace(train, features=tuple(array.astype(np.float16) for array in train.features))
    assert half.ragged.rows_RC.dtype == np.float16
    whole = replace(half, features=tuple(array.astype(np.float32) for array in half.features))
    assert weights(train_head(half, None, quick)) == weights(train_head(whole, None, quick))


def test_balanced_weights_help_a_rare_class(drawn: Drawn, quick: FitConfig) -> None:
    data = drawn(90, signal=1.0)
    rare = data.subset([index for index in range(90) if index % 3 != 2 or index < 12])
    test = drawn(120, signal=1.0, start="t")

    def recall(config: FitConfig) -> float:
        best = score(train_head(rare, None, config).head, test, "cross-entropy").best
        return float(np.mean([name == "c" for name, truth in zip(best, test.labels, strict=True) if truth == ("c",)]))

    config = replace(quick, epochs=20)
    assert recall(replace(config, class_weights="balanced")) > recall(config)


def test_features_pooled_on_a_grid_are_projected(drawn: Drawn, quick: FitConfig) -> None:
    rng = np.random.default_rng(0)
    data = drawn(12)
    wide = replace(data, features=tuple(rng.normal(size=(3, 4096)).astype(np.float16) for _ in range(12)))
    for kind in HEADS:
        config = replace(quick, head=kind, epochs=1, hidden=4, layers=1)
        trained = train_head(wide, None, config)
        assert trained.head.config.width == (None if kind == "linear" else 1280)
        assert ("width" in trained.config.settled) == (kind != "linear")
        assert score(trained.head, wide, "cross-entropy").scores_NK.shape == (12, 3)
    narrow = train_head(wide, None, replace(quick, head="transformer", epochs=1, width=16, layers=1))
    assert narrow.head.positions_TC.shape == (4, 16)
