"""The sweep: many linear heads at once are those one after another; table, picture, and what chooses."""

import csv
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from actiondiff import InputError
from actiondiff.heads import grid, sweeping
from actiondiff.heads.data import LabelledFeatures, load_features
from actiondiff.heads.grid import train_grid
from actiondiff.heads.presets import FitConfig, configure
from actiondiff.heads.sweep_table import SweepRow, SweepTable
from actiondiff.heads.sweeping import choose_keys, sweep
from actiondiff.heads.training import train_head
from actiondiff.manifests import Manifest
from actiondiff.store import FeatureKey, FeatureStore, Source, StoreWriter, VideoFeatures

KEYS = tuple(FeatureKey(layer, timestep) for layer in (3, 9) for timestep in (0, 20, 29))
OUT_OF_DOMAIN, IN_DOMAIN = FeatureKey(3, 20), FeatureKey(9, 29)


def grid_store(
    bench, manifest: Manifest, of: Callable[[FeatureKey, object], float], name: str = "grid.zarr", channels=None
) -> FeatureStore:
    """Features in which a video's class can be told at a key as strongly as a function of key and row says."""
    rng, classes = np.random.default_rng(0), list(manifest.classes)
    with StoreWriter(bench.folder / name, {"backbone": "drawn"}, dtype="float32") as writer:
        for video in manifest:
            frames = int(rng.integers(3, 9))
            features = {}
            for key in KEYS:
                width = (channels or {}).get(key.layer, 8)
                noise = rng.normal(size=(frames, width))
                for label in video.labels:
                    noise[:, classes.index(label)] += of(key, video)
                features[key] = noise.astype(np.float32)
            source = Source("0" * 64, 1, 1)
            writer.add(VideoFeatures(video.video_id, source, np.arange(frames), np.arange(frames) / 30, features))
    return FeatureStore(bench.folder / name)


def places(bench, train: int = 60, test: int = 30) -> Manifest:
    rows = bench.rows(train, domain="lawn", split="train") + bench.rows(test, domain="lawn", split="test")
    return bench.manifest(rows + bench.rows(test, domain="street", split="test"))


TESTS = ("domain=lawn,split=test", "domain=street")


def planted(key: FeatureKey, video) -> float:
    if key == OUT_OF_DOMAIN:
        return 2.0
    return {"lawn": 6.0, "street": 0.0}[video.domain] if key == IN_DOMAIN else 0.0


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"mixup": 0.3, "standardize": False},
        {"loss": "focal", "class_weights": "balanced", "label_smoothing": 0.1},
        {"max_length": 5, "loss": "bce", "weight_decay": 0.1},
        {"patience": 1, "lr": 0.3},
    ],
)
@pytest.mark.parametrize("validates", [True, False])
def test_heads_at_once_are_those_one_after_another(
    bench, quick: FitConfig, settings: dict[str, object], validates: bool
) -> None:
    if not validates and "patience" in settings:
        settings = {"mixup": 0.1}
    manifest = bench.manifest(bench.rows(40, split="train") + bench.rows(16, split="val"))
    store = grid_store(bench, manifest, lambda key, _: 1.0 + key.layer / 9)
    config = replace(quick, **settings)
    train = {key: load_features(store, manifest.where("split=train"), key) for key in KEYS}
    val = {key: load_features(store, manifest.where("split=val"), key) for key in KEYS} if validates else None
    together = train_grid(train, val, config, device="cpu")
    for key in KEYS:
        alone = train_head(train[key], val[key] if val else None, config, device="cpu")
        assert together[key].config == alone.config
        assert together[key].best_epoch == alone.best_epoch
        for name, value in alone.head.state_dict().items():
            torch.testing.assert_close(together[key].head.state_dict()[name], value, atol=2e-4, rtol=1e-3)
        for ours, theirs in zip(together[key].history, alone.history, strict=False):
            assert ours["loss"] == pytest.approx(theirs["loss"], rel=1e-3, abs=1e-5)
            assert not validates or ours["val_accuracy"] == theirs["val_accuracy"]


def many_lengths(videos: int, start: str, seed: int) -> LabelledFeatures:
    """Few of them long, so that most of a head's frames lag most of the time; lengths are the same for every seed."""
    lengths_rng, rng = np.random.default_rng(videos), np.random.default_rng([videos, seed])
    lengths = np.clip(lengths_rng.lognormal(2.75, 0.7, videos), 1, 90).astype(int)
    of_class, points = lengths_rng.integers(0, 3, videos), np.random.default_rng(seed).normal(size=(3, 8))
    features = [0.3 * points[k] + rng.normal(size=(n, 8)) for k, n in zip(of_class, lengths, strict=True)]
    return LabelledFeatures(
        tuple(array.astype(np.float32) for array in features),
        tuple((("a", "b", "c")[k],) for k in of_class),
        tuple(f"{start}{index}" for index in range(videos)),
        ("",) * videos,
        ("a", "b", "c"),
        False,
    )


@pytest.mark.parametrize("heads_a_group", [1, 2, 3])
@pytest.mark.parametrize("changes", [{}, {"mixup": 0.3, "loss": "focal"}, {"patience": 1, "lr": 0.05}])
def test_groups_of_heads_whose_frames_lag_are_those_one_after_another(
    quick: FitConfig, changes: dict[str, object], heads_a_group: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = replace(quick, epochs=4, batch_size=8, **changes)
    train = {key: many_lengths(170, "t", number) for number, key in enumerate(KEYS[:3])}
    val = {key: many_lengths(40, "v", number) for number, key in enumerate(KEYS[:3])}
    one = train[KEYS[0]].longest * 8 * 3
    monkeypatch.setattr(grid, "GROUP_NUMBERS", heads_a_group * one)
    together = train_grid(train, val, config, device="cpu")
    for key in KEYS[:3]:
        alone = train_head(train[key], val[key], config, device="cpu")
        assert together[key].best_epoch == alone.best_epoch
        for name, value in alone.head.state_dict().items():
            torch.testing.assert_close(together[key].head.state_dict()[name], value, atol=2e-5, rtol=1e-4)


def test_heads_at_once_with_several_labels(bench, quick: FitConfig) -> None:
    combinations = (("a",), ("a", "b"), ("c",), ("b", "c"))
    rows = bench.rows(24, split="train") + bench.rows(12, split="val")
    manifest = bench.manifest([{**row, "labels": combinations[i % 4]} for i, row in enumerate(rows)])
    store = grid_store(bench, manifest, lambda key, _: 1.0)
    parts = [
        {key: load_features(store, manifest.where(f"split={s}"), key) for key in KEYS[:2]} for s in ("train", "val")
    ]
    together = train_grid(*parts, quick, device="cpu")
    for key in KEYS[:2]:
        alone = train_head(parts[0][key], parts[1][key], quick, device="cpu")
        assert alone.config.loss == "focal"
        torch.testing.assert_close(
            together[key].head.classifier.weight, alone.head.classifier.weight, atol=2e-4, rtol=1e-3
        )
        assert together[key].best_epoch == alone.best_epoch


def test_the_planted_layers_are_found_in_the_table_and_in_the_picture(bench, quick: FitConfig, tmp_path: Path) -> None:
    """One layer and timestep can tell classes in both places, another far better, but in the place of training only."""
    manifest = places(bench)
    store = grid_store(bench, manifest, planted)
    config = replace(quick, epochs=12)
    result = sweep(store, manifest, config, train="domain=lawn,split=train", tests=TESTS, seeds=2, out=tmp_path / "s")
    table = result.table
    assert table.parts == ("val", *TESTS)
    assert (table.layers, table.timesteps) == ((3, 9), (0, 20, 29))
    inside, outside = (table.grid("linear", part) for part in TESTS)
    assert np.unravel_index(inside.argmax(), inside.shape) == (1, 2)
    assert np.unravel_index(outside.argmax(), outside.shape) == (0, 1)
    assert inside[1, 2] > 0.9 > 0.6 > outside[1, 2]
    assert outside[0, 1] > 0.75
    assert outside[~np.eye(3, dtype=bool)[[1, 0]][:, [1, 0, 2]]].min() < 0.6
    best = table.best("linear")
    assert best is not None
    assert best.key == IN_DOMAIN, "validation is of the training domain, so it takes what works there: test says so"
    assert best.values[TESTS[1]] == outside[1, 2]
    assert "highest" in result.text()
    assert f"at {OUT_OF_DOMAIN}" in result.text()
    per_timestep = table.best_per_timestep("linear", TESTS[1])
    np.testing.assert_array_equal(per_timestep[1:], [outside[0, 1], outside[1, 2]])
    rows = list(csv.DictReader((tmp_path / "s" / "sweep.csv").open()))
    assert len(rows) == len(KEYS) * 3 * 2
    assert list(rows[0])[:5] == ["head", "layer", "timestep", "seed", "part"]
    _look(tmp_path / "s" / "sweep.png", table)


def _look(path: Path, table: SweepTable) -> None:
    """In the picture, maps stand side by side and each map's brightest cell is where the table's highest value is."""
    from matplotlib import colormaps

    from actiondiff.heads.heat_maps import COLOURS

    pixels = np.asarray(Image.open(path).convert("RGB"), dtype=int)
    assert pixels.shape[1] > pixels.shape[0]
    top = max(float(np.nanmax(table.grid("linear", part))) for part in table.parts)
    low = np.floor(min(float(np.nanmin(table.grid("linear", part))) for part in table.parts) * 10) / 10
    high = np.ceil(top * 10) / 10
    for number, part in enumerate(table.parts):
        strip = pixels[:, int(number / len(table.parts) * 0.9 * pixels.shape[1]) :]
        value = float(np.nanmax(table.grid("linear", part)))
        colour = np.array(colormaps[COLOURS]((value - low) / (high - low))[:3]) * 255
        assert (np.abs(strip - colour).max(axis=2) <= 3).sum() > 300, part


def test_a_test_part_chooses_nothing(bench, quick: FitConfig) -> None:
    manifest = places(bench)
    store = grid_store(bench, manifest, planted)
    turn = {"a": "b", "b": "c", "c": "a"}
    videos = (replace(v, labels=(turn[v.labels[0]],)) if v.split == "test" else v for v in manifest)
    other = Manifest(tuple(videos), manifest.root)
    arguments = {"train": "split=train", "tests": TESTS}
    first, second = (sweep(store, each, quick, **arguments).table for each in (manifest, other))
    assert first.best("linear").key == second.best("linear").key
    np.testing.assert_array_equal(first.grid("linear", "val"), second.grid("linear", "val"))
    assert (first.grid("linear", TESTS[0]) != second.grid("linear", TESTS[0])).any()
    alone = sweep(store, manifest, replace(quick, val_fraction=0.0), **arguments)
    assert alone.table.best("linear") is None
    assert "no layer and timestep is chosen" in alone.text()


def test_layers_of_other_channels_and_other_heads(bench, quick: FitConfig, tmp_path: Path) -> None:
    manifest = places(bench, 30, 12)
    store = grid_store(bench, manifest, planted, channels={3: 4, 9: 8})
    configs = [quick, replace(quick, head="attentive", attention_heads=2, epochs=2)]
    told: list[tuple[int, int]] = []
    result = sweep(
        store, manifest, configs, layers=[3, 9], timesteps=[20], out=tmp_path / "s", progress=lambda *d: told.append(d)
    )
    assert result.table.heads == ("linear", "attentive")
    assert told[-1] == (4, 4)
    assert {row.part for row in result.table.rows} == {"val", "test"}
    assert (tmp_path / "s" / "sweep.png").read_bytes().startswith(b"\x89PNG")
    assert {best["head"] for best in result.to_dict()["best"]} == {"linear", "attentive"}


def test_a_sweep_that_was_stopped_goes_on(bench, quick: FitConfig, tmp_path: Path, monkeypatch) -> None:
    manifest = places(bench, 30, 12)
    store = grid_store(bench, manifest, planted)
    whole = sweep(store, manifest, quick, seeds=2)
    out, trained = tmp_path / "s", []
    monkeypatch.setattr(sweeping, "heads_at_once", lambda *_: 2)
    real = sweeping.train_grid

    def counted(train, *rest, **more):
        trained.append(len(train))
        if len(trained) == 3:
            raise KeyboardInterrupt
        return real(train, *rest, **more)

    monkeypatch.setattr(sweeping, "train_grid", counted)
    with pytest.raises(KeyboardInterrupt):
        sweep(store, manifest, quick, seeds=2, out=out)
    assert len(list(csv.DictReader((out / "sweep.csv").open()))) == 4 * 2
    resumed = sweep(store, manifest, quick, seeds=2, out=out)
    assert sum(trained) == 2 * len(KEYS) + 2, "what was whole was not trained again"
    assert resumed.table.rows == whole.table.rows
    trained.clear()
    assert sweep(store, manifest, quick, seeds=2, out=out).table.rows == resumed.table.rows
    assert trained == []
    with pytest.raises(InputError, match="holds a sweep of other settings"):
        sweep(store, manifest, replace(quick, lr=0.5), out=out)
    with pytest.raises(InputError, match="holds a sweep of other videos"):
        sweep(store, manifest.where("domain=lawn"), quick, out=out)
    assert json.loads((out / "sweep.json").read_text())["recipe"] == store.fingerprint


def test_keys_that_are_not_there_are_told_with_the_command(bench) -> None:
    manifest = places(bench, 6, 3)
    store = grid_store(bench, manifest, planted)
    assert choose_keys(store) == KEYS
    assert choose_keys(store, layers=[9]) == KEYS[3:]
    with pytest.raises(InputError, match=r"no features of layer 4, t 20.*--layer 4 --t 20 --store .*grid\.zarr"):
        choose_keys(store, layers=[3, 4], timesteps=[20])
    with pytest.raises(InputError, match="layer 5, t 0"):
        choose_keys(store, layers=[5])


def test_best_of_a_table_is_the_first_of_equals_and_skips_what_is_not_defined() -> None:
    def row(layer: int, part: str, value: float | None) -> SweepRow:
        return SweepRow("linear", layer, 0, 0, part, 5, value, None, None, 1)

    table = SweepTable((row(1, "val", 0.5), row(2, "val", 0.7), row(3, "val", 0.7), row(2, "test", 0.1)))
    assert table.best("linear").key == FeatureKey(2, 0)
    assert table.best("linear").values == {"val": 0.7, "test": 0.1}
    assert np.isnan(table.grid("linear", "test")[0, 0])


def test_sweep_of_random_weights_says_so(tmp_path: Path, actiondiff) -> None:
    """The whole way by the command line, with the notice of svd-tiny in text, JSON and picture."""
    from actiondiff.manifests import draw_clips

    draw_clips(tmp_path, clips_per_action=3, frames=8, size_hw=(48, 64))
    extract = ("extract", "--backbone", "svd-tiny", "--layer", "1,3", "--t", "0,20", "--size", "64x64", "--stride", "4")
    result = actiondiff(*extract, "--device", "cpu", cwd=tmp_path)
    assert result.exit_code == 0, result.stderr
    arguments = ("sweep", "--train", "domain=day", "--test", "domain=night", "--epochs", "2", "--json")
    result = actiondiff(*arguments, "--layer", "1-3", "--t", "all")
    assert result.exit_code == 2
    assert "extract --layer 2 --t 0,20 --store features.zarr --backbone svd-tiny" in result.stderr
    result = actiondiff(*arguments, "--layer", "1,3", "--t", "all")
    assert result.exit_code == 0, result.stderr
    answer = json.loads(result.stdout)
    assert any("random" in note for note in answer["notes"])
    assert "random" in result.stderr
    assert len(answer["rows"]) == 4 * 2
    assert (tmp_path / "sweep" / "sweep.png").stat().st_size > 10_000
    assert actiondiff(*arguments).exit_code == 0, "again, it is there already"


def test_the_settings_of_a_sweep_may_be_a_preset() -> None:
    assert configure("linear", "animal-kingdom").origins()["lr"] == "preset animal-kingdom"


def test_features_of_different_frames_are_refused(drawn: Callable[..., LabelledFeatures], quick: FitConfig) -> None:
    with pytest.raises(InputError, match="same frames of the same videos"):
        train_grid({KEYS[0]: drawn(6), KEYS[1]: drawn(6)}, None, quick)
