import csv
import json
import logging
import signal
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from actiondiff import InputError
from actiondiff.heads import fitting
from actiondiff.heads.data import LabelledFeatures
from actiondiff.heads.fitting import fit
from actiondiff.heads.metrics import measure
from actiondiff.heads.models import HEADS
from actiondiff.heads.presets import FitConfig
from actiondiff.heads.runs import Run
from actiondiff.heads.training import pick_device, score, train_head
from actiondiff.manifests import Manifest
from actiondiff.store import FeatureKey, FeatureStore

Drawn = Callable[..., LabelledFeatures]


def weights(result: fitting.FitResult) -> dict[str, bytes]:
    return {name: value.numpy().tobytes() for name, value in result.run.head.state_dict().items()}


def three_splits(bench) -> Manifest:
    rows = bench.rows(24, split="train") + bench.rows(9, split="val") + bench.rows(9, split="test")
    return bench.manifest(rows)


@pytest.mark.parametrize("kind", HEADS)
def test_the_defaults_learn_what_can_be_told_apart(kind: str, drawn: Drawn) -> None:
    trained = train_head(drawn(48), None, FitConfig(head=kind))
    assert measure(score(trained.head, drawn(60, start="t"), "cross-entropy")).accuracy > 0.9


@pytest.mark.parametrize("kind", HEADS)
def test_noise_stays_at_chance(kind: str, drawn: Drawn) -> None:
    trained = train_head(drawn(48, signal=0.0), None, FitConfig(head=kind, epochs=10))
    assert 0.2 < measure(score(trained.head, drawn(150, signal=0.0, start="t"), "cross-entropy")).accuracy < 0.47


def test_the_loss_falls_and_every_epoch_is_told(drawn: Drawn, quick: FitConfig) -> None:
    told: list[tuple[int, int]] = []
    trained = train_head(drawn(24), drawn(6, start="w"), quick, progress=lambda *done: told.append(done))
    losses = [record["loss"] for record in trained.history]
    assert losses[-1] < 0.5 * losses[0]
    assert told == [(epoch, 8) for epoch in range(1, 9)]
    assert {"epoch", "loss", "val_accuracy", "val_map_macro"} <= trained.history[0].keys()


def test_the_earliest_best_epoch_is_kept(drawn: Drawn, quick: FitConfig) -> None:
    train, val = drawn(24, signal=1.0), drawn(15, signal=1.0, start="w")
    trained = train_head(train, val, quick)
    values = [record["val_accuracy"] for record in trained.history]
    assert trained.best_epoch == 1 + int(np.argmax(values))
    assert measure(score(trained.head, val, "cross-entropy")).accuracy == max(values)


def test_without_validation_the_last_epoch_is_taken(drawn: Drawn, quick: FitConfig) -> None:
    assert train_head(drawn(12), None, quick).best_epoch == 8


@pytest.mark.parametrize("kind", HEADS)
def test_same_seed_same_bytes_and_the_callers_random_numbers_stay(kind: str, bench, quick: FitConfig) -> None:
    manifest = three_splits(bench)
    store, config = bench.of(manifest), replace(quick, head=kind, mixup=0.2, epochs=3)
    torch.manual_seed(5)
    before, numpys = torch.random.get_rng_state(), np.random.get_state()[1].copy()
    first = fit(store, manifest, config)
    assert torch.equal(torch.random.get_rng_state(), before)
    assert (np.random.get_state()[1] == numpys).all()
    torch.rand(3)
    assert weights(fit(store, manifest, config)) == weights(first)
    assert weights(fit(store, manifest, replace(config, seed=1))) != weights(first)


def test_test_labels_choose_nothing_but_val_labels_do(bench, quick: FitConfig) -> None:
    manifest = three_splits(bench)
    store = bench.of(manifest, signal=1.0)

    def relabelled(split: str) -> Manifest:
        turn = {"a": "b", "b": "c", "c": "a"}
        videos = (replace(v, labels=(turn[v.labels[0]],)) if v.split == split else v for v in manifest)
        return Manifest(tuple(videos), manifest.root)

    first, other_test, other_val = (fit(store, m, quick) for m in (manifest, relabelled("test"), relabelled("val")))
    assert weights(other_test) == weights(first)
    assert other_test.metrics["test"] != first.metrics["test"]
    assert other_val.selection != first.selection


def test_run_folder(bench, quick: FitConfig, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    manifest = three_splits(bench)
    result = fit(bench.of(manifest), manifest, quick, out=tmp_path / "runs" / "x")
    assert capfd.readouterr() == ("", "")
    folder = tmp_path / "runs" / "x"
    assert result.path == folder
    names = {"config.json", "metrics.json", "predictions.csv", "head.safetensors", "parts.csv", "logs"}
    assert {path.name for path in folder.iterdir()} == names
    assert list((tmp_path / "runs").iterdir()) == [folder]
    assert any(path.name.startswith("events.out.tfevents") for path in (folder / "logs").rglob("*"))
    metrics = json.loads((folder / "metrics.json").read_text())
    assert metrics.keys() == {"test", "val"}
    expected = {"accuracy", "map_macro", "map_micro", "videos", "classes_without_positives", "intervals"}
    assert metrics["test"].keys() == expected
    assert metrics["test"]["intervals"].keys() == {"accuracy", "map_macro", "map_micro"}
    assert metrics["test"]["videos"] == 9
    rows = list(csv.DictReader((folder / "predictions.csv").open()))
    assert list(rows[0]) == ["video_id", "label", "a", "b", "c"]
    assert len(rows) == 9
    config = json.loads((folder / "config.json").read_text())
    assert (config["layer"], config["timestep"], config["classes"]) == (9, 20, ["a", "b", "c"])
    assert config["recipe"] == {"backbone": "drawn"}
    assert config["fit"]["loss"] == "cross-entropy"
    assert config["fit"]["max_length"] == config["head"]["max_length"]
    assert config["selection"].endswith("on 9 validation videos given by split=val")


def test_a_failure_leaves_no_folder(bench, quick: FitConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    manifest = three_splits(bench)
    store = bench.of(manifest)

    def broken(*_: object) -> None:
        raise OSError("disk full")

    monkeypatch.setattr(fitting, "write_predictions", broken)
    with pytest.raises(OSError, match="disk full"):
        fit(store, manifest, quick, out=tmp_path / "runs" / "x")
    assert list((tmp_path / "runs").iterdir()) == []


def test_ctrl_c_is_passed_on_stays_possible_and_leaves_no_folder(bench, quick: FitConfig, tmp_path: Path) -> None:
    manifest = three_splits(bench)

    def interrupt(done: int, total: int) -> None:
        raise KeyboardInterrupt

    handler = signal.getsignal(signal.SIGINT)
    with pytest.raises(KeyboardInterrupt):
        fit(bench.of(manifest), manifest, quick, out=tmp_path / "runs" / "x", progress=interrupt)
    assert signal.getsignal(signal.SIGINT) is handler
    assert list((tmp_path / "runs").iterdir()) == []


def test_a_folder_with_something_in_it_is_not_touched(bench, quick: FitConfig, tmp_path: Path) -> None:
    manifest = three_splits(bench)
    store = bench.of(manifest)
    (tmp_path / "x").mkdir()
    fit(store, manifest, quick, out=tmp_path / "x")  # an empty one will do
    with pytest.raises(InputError, match="is there already"):
        fit(store, manifest, quick, out=tmp_path / "x")


def test_several_labels(bench, quick: FitConfig) -> None:
    combinations = (("a",), ("a", "b"), ("c",), ("b", "c"))
    rows = bench.rows(32, split="train") + bench.rows(8, split="test")
    rows = [{**row, "labels": combinations[index % 4]} for index, row in enumerate(rows)]
    manifest = bench.manifest(rows)
    result = fit(bench.of(manifest, signal=5.0), manifest, replace(quick, epochs=30))
    assert result.run.config.fit.loss == "focal"
    assert result.metrics["test"].accuracy is None
    assert result.metrics["test"].map_macro > 0.9
    assert result.run.config.multilabel


def test_several_test_sets_each_under_its_where(bench, quick: FitConfig, tmp_path: Path) -> None:
    manifest = bench.manifest(bench.rows(12, domain="x") + bench.rows(6, domain="y") + bench.rows(9, domain="z"))
    wheres = ("domain=y", "domain=z")
    result = fit(bench.of(manifest), manifest, quick, tests=wheres, out=tmp_path / "run")
    assert set(result.metrics) == set(wheres)
    rows = list(csv.DictReader((tmp_path / "run" / "predictions.csv").open()))
    assert [row["part"] for row in rows] == ["domain=y"] * 6 + ["domain=z"] * 9
    assert len(result.run.parts["train"]) == 12


def test_without_test_rows_predictions_are_those_of_validation(bench, quick: FitConfig, tmp_path: Path) -> None:
    manifest = bench.manifest(bench.rows(15))
    result = fit(bench.of(manifest), manifest, quick, out=tmp_path / "run")
    rows = list(csv.DictReader((tmp_path / "run" / "predictions.csv").open()))
    assert [row["video_id"] for row in rows] == list(result.run.parts["val"])


def test_longer_videos_are_cut_and_counted(bench, quick: FitConfig) -> None:
    manifest = three_splits(bench)
    result = fit(bench.of(manifest), manifest, replace(quick, max_length=5))
    assert result.run.head.config.max_length == 5
    assert any("of test are longer than 5 frames; the first 5" in note for note in result.notes)


def test_what_is_not_in_the_store_is_told_with_the_command(bench, quick: FitConfig) -> None:
    manifest = three_splits(bench)
    store = bench.of(bench.manifest(bench.rows(24, split="train")))
    with pytest.raises(InputError, match=r"9 of 9 videos .* val/000, .* and 6 more.*extract --layer 9 --t 20"):
        fit(store, manifest, quick)


def test_layer_and_timestep_are_the_papers_or_the_only_ones_or_asked_for(bench, quick: FitConfig) -> None:
    manifest = bench.manifest(bench.rows(6))
    drawn = {video.video_id: bench.draw(video.labels) for video in manifest}
    both = bench.store(drawn, "both.zarr", (FeatureKey(9, 20), FeatureKey(3, 20)))
    neither = bench.store(drawn, "neither.zarr", (FeatureKey(3, 20), FeatureKey(3, 10)))
    assert fit(both, manifest, quick).run.config.key == FeatureKey(9, 20)
    assert fit(both, manifest, quick, layer=3).run.config.key == FeatureKey(3, 20)
    assert fit(neither, manifest, quick, timestep=10).run.config.key == FeatureKey(3, 10)
    with pytest.raises(InputError, match="several layers and timesteps: layer 3, t 10,20"):
        fit(neither, manifest, quick)
    with pytest.raises(InputError, match=r"no features of layer 4 and t 20; it has layer 3.*--layer 4 --t 20"):
        fit(neither, manifest, quick, layer=4, timestep=20)
    with pytest.raises(InputError, match="Layers count from 1"):
        fit(neither, manifest, quick, layer=0)


def test_labels_never_trained_on(bench, quick: FitConfig) -> None:
    rows = [*bench.rows(12, split="train"), {"video_id": "t/0", "labels": ("new",), "split": "test"}]
    manifest = bench.manifest(rows)
    store = bench.of(Manifest(tuple(replace(v, labels=("a",)) for v in manifest), manifest.root))
    with pytest.raises(InputError, match="never seen in training: new"):
        fit(store, manifest, quick)
    metrics = fit(store, manifest, quick, allow_unseen=True).metrics["test"]
    assert (metrics.accuracy, metrics.map_macro, metrics.unseen_labels) == (0.0, None, ("new",))


def test_rows_without_label_are_refused(bench, quick: FitConfig) -> None:
    manifest = bench.manifest([*bench.rows(6), {"video_id": "bare"}])
    store: FeatureStore = bench.store({video.video_id: bench.draw(video.labels) for video in manifest})
    with pytest.raises(InputError, match="without label: bare"):
        fit(store, manifest, quick)


def test_a_row_without_label_shows_none_of_the_actions_where_rows_have_several(bench, quick: FitConfig) -> None:
    rows = [*bench.rows(12, split="train"), *bench.rows(6, split="test")]
    rows = [row | {"video_id": f"{row['split']}/{number}"} for number, row in enumerate(rows)]
    rows[0] |= {"labels": ("a", "b")}
    bare = [{"video_id": f"bare/{split}", "split": split} for split in ("train", "test")]
    manifest = bench.manifest([*rows, *bare])
    store = bench.store({video.video_id: bench.draw(video.labels or ("a",)) for video in manifest})
    result = fit(store, manifest, quick)
    assert any("2 videos have no label" in note for note in result.run.config.details["notes"]), (
        result.run.config.details
    )
    assert "bare/test" in result.predictions["test"].video_ids
    assert result.metrics["test"].videos == 7


def test_devices() -> None:
    assert pick_device("cpu") == "cpu"
    with pytest.raises(InputError, match="auto, cpu, cuda or cuda:N"):
        pick_device("tpu")
    with pytest.raises(InputError, match="Use --device cpu"):
        pick_device("cuda:99")


def test_lightnings_loggers_keep_their_levels(drawn: Drawn, quick: FitConfig) -> None:
    levels = [logging.getLogger(name).level for name in ("pytorch_lightning", "lightning_fabric")]
    train_head(drawn(6), None, replace(quick, epochs=1))
    assert [logging.getLogger(name).level for name in ("pytorch_lightning", "lightning_fabric")] == levels


def test_a_run_remembers_its_parts(bench, quick: FitConfig, tmp_path: Path) -> None:
    manifest = three_splits(bench)
    result = fit(bench.of(manifest), manifest, quick, out=tmp_path / "run")
    assert Run.load(tmp_path / "run").parts == result.run.parts
    assert {name: len(ids) for name, ids in result.run.parts.items()} == {"train": 24, "val": 9, "test": 9}
