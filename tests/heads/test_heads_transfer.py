import csv
import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from actiondiff import InputError
from actiondiff.heads.presets import FitConfig
from actiondiff.heads.transferring import transfer
from actiondiff.manifests import Manifest
from actiondiff.store import FeatureStore


def two_places(bench, **columns: str) -> Manifest:
    return bench.manifest(bench.rows(30, domain="yard", **columns) + bench.rows(30, domain="lawn", **columns))


def planted(bench, manifest: Manifest, lawn_signal: float, name: str = "features.zarr") -> FeatureStore:
    """Features that tell labels apart in the yard, and on the lawn as strongly as asked for."""
    signal = {"yard": 4.0, "lawn": lawn_signal}
    return bench.store({v.video_id: bench.draw(v.labels, signal=signal[v.domain]) for v in manifest}, name)


def test_what_holds_in_both_places_transfers(bench, quick: FitConfig) -> None:
    manifest = two_places(bench)
    result = transfer(planted(bench, manifest, 4.0), manifest, "domain", quick, folds=3)
    assert result.domains == ("lawn", "yard")
    assert (result.mean("features", "linear") > 0.85).all()
    np.testing.assert_allclose(result.chance, 1 / 3)
    assert {row.videos for row in result.rows} == {30}


def test_what_holds_in_one_place_only_does_not(bench, quick: FitConfig) -> None:
    manifest = two_places(bench)
    matrix = transfer(planted(bench, manifest, 0.0), manifest, "domain", quick, folds=3).mean("features", "linear")
    assert matrix[1, 1] > 0.85
    assert matrix[0, 0] < 0.6
    assert matrix[0, 1] < 0.6
    assert matrix[1, 0] < 0.6


def test_heads_sources_and_seeds(bench, quick: FitConfig, tmp_path: Path) -> None:
    manifest = two_places(bench)
    sources = {"good": planted(bench, manifest, 4.0), "poor": planted(bench, manifest, 0.0, "poor.zarr")}
    told: list[tuple[int, int]] = []
    configs = [quick, replace(quick, head="mlp", hidden=8)]
    result = transfer(sources, manifest, "domain", configs, seeds=2, folds=2, progress=lambda *done: told.append(done))
    assert told == [(done, 32) for done in range(33)]
    assert result.pairs == (("good", "linear"), ("good", "mlp"), ("poor", "linear"), ("poor", "mlp"))
    assert len(result.rows) == 4 * 2 * 4
    assert not np.isnan(result.deviation("good", "mlp")).any()
    table = result.table()
    assert "test lawn" in table
    assert "most frequent label" in table
    assert re.search(r"videos scored +\(any\) +30 +30\n", table)
    assert (
        "accuracy, mean ± half of the 95 % interval over 2 seeds; 2 folds of videos in each domain, last epoch" in table
    )
    result.write(tmp_path / "out")
    tables = {"transfer.csv", "matrices.csv", "correlations.csv", "label_correlation.csv", "transfer.json"}
    pictures = {"transfer.png", "baselines.png", "label_correlation.png"}
    assert {path.name for path in (tmp_path / "out").iterdir()} == tables | pictures
    rows = list(csv.DictReader((tmp_path / "out" / "transfer.csv").open()))
    assert list(rows[0])[:6] == ["head", "features", "seed", "train", "test", "videos"]
    assert len(rows) == 32
    assert (tmp_path / "out" / "transfer.png").read_bytes().startswith(b"\x89PNG")


def test_split_columns_are_used_where_every_domain_has_them(bench, quick: FitConfig) -> None:
    rows = [row for d in ("yard", "lawn") for s in ("train", "test") for row in bench.rows(12, domain=d, split=s)]
    manifest = bench.manifest(rows)
    result = transfer(planted(bench, manifest, 4.0), manifest, "domain", quick)
    assert result.how.startswith("trained on split=train")
    assert {row.videos for row in result.rows} == {12}


def test_most_frequent_label_of_training_is_measured_on_the_test_domain(bench, quick: FitConfig) -> None:
    yard = bench.rows(20, classes=("a", "a", "a", "b"), domain="yard")
    lawn = bench.rows(20, classes=("a", "b", "b", "b"), domain="lawn")
    manifest = bench.manifest(yard + lawn)
    result = transfer(planted(bench, manifest, 4.0), manifest, "domain", quick, folds=2)
    np.testing.assert_allclose(result.most_frequent, [[0.75, 0.25], [0.25, 0.75]])
    np.testing.assert_allclose(result.chance, 0.5)


def test_several_labels_are_measured_by_macro_map(bench, quick: FitConfig) -> None:
    combinations = (("a",), ("a", "b"), ("c",), ("b", "c"))
    rows = bench.rows(16, domain="yard") + bench.rows(16, domain="lawn")
    manifest = bench.manifest([{**row, "labels": combinations[i % 4]} for i, row in enumerate(rows)])
    result = transfer(planted(bench, manifest, 4.0), manifest, "domain", replace(quick, epochs=20), folds=2)
    assert result.metric == "map_macro"
    assert all(row.accuracy is None for row in result.rows)
    np.testing.assert_allclose([row.chance for row in result.rows], 0.5)
    assert (result.mean("features", "linear") > 0.8).all()


def test_groups_of_a_domain_stay_in_one_fold_and_few_groups_mean_few_folds(bench, quick: FitConfig) -> None:
    manifest = two_places(bench)
    videos = tuple(replace(v, group=f"{v.domain}{index % 3}") for index, v in enumerate(manifest))
    labelled = tuple(replace(v, labels=("abc"[index // 3 % 3],)) for index, v in enumerate(videos))
    manifest = Manifest(labelled, manifest.root)
    store = planted(bench, manifest, 4.0)
    assert transfer(store, manifest, "domain", quick).how.startswith("3 folds by group")
    with pytest.raises(InputError, match=r"5 folds need as many groups in each domain; lawn has 3"):
        transfer(store, manifest, "domain", quick, folds=5)


def test_what_is_left_out_or_cut_is_told(bench, quick: FitConfig) -> None:
    manifest = bench.manifest([*bench.rows(6, domain="yard"), *bench.rows(6, domain="lawn"), *bench.rows(2)])
    store = bench.of(manifest)
    result = transfer(store, manifest, "domain", replace(quick, epochs=1, max_length=4), folds=2)
    assert result.notes[0] == "2 videos have no domain and were left out."
    assert result.notes[1].endswith("videos of features are longer than 4 frames; the first 4 were used.")
    assert result.notes[0] in result.table()


def test_a_group_in_two_domains_is_refused(bench, quick: FitConfig) -> None:
    manifest = two_places(bench)
    manifest = Manifest(tuple(replace(v, group=v.video_id[-3:]) for v in manifest), manifest.root)
    with pytest.raises(InputError, match="A group stays on one side"):
        transfer(planted(bench, manifest, 4.0), manifest, "domain", quick)


def test_domains_need_the_same_labels_and_at_least_two(bench, quick: FitConfig) -> None:
    manifest = bench.manifest(bench.rows(6, ("a", "b"), domain="yard") + bench.rows(6, ("a", "c"), domain="lawn"))
    store = planted(bench, manifest, 4.0)
    with pytest.raises(InputError, match="lawn lacks b of yard"):
        transfer(store, manifest, "domain", quick)
    result = transfer(store, manifest, "domain", quick, folds=2, allow_unseen=True)
    assert result.mean("features", "linear")[0, 1] <= 0.5
    with pytest.raises(InputError, match="two values of 'domain' or more"):
        transfer(store, manifest.where("domain=yard"), "domain", quick)


def test_importing_the_room_does_not_import_torch() -> None:
    code = "import sys, actiondiff.heads as heads; assert 'torch' not in sys.modules; print(len(heads.__all__))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert int(done.stdout) > 20


def test_every_public_name_is_there() -> None:
    import actiondiff.heads as heads

    for name in heads.__all__:
        assert not isinstance(getattr(heads, name), type(sys)), name
    with pytest.raises(AttributeError):
        heads.nothing  # noqa: B018
