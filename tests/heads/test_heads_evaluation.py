"""``evaluate``: what it says beside the numbers, and runs against each other on the same videos."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from actiondiff import InputError
from actiondiff.heads.evaluation import evaluate
from actiondiff.heads.fitting import fit
from actiondiff.heads.metrics import read_predictions
from actiondiff.heads.presets import FitConfig
from actiondiff.heads.runs import Run, RunError
from actiondiff.manifests import Manifest
from actiondiff.store import FeatureKey


@pytest.fixture
def manifest(bench) -> Manifest:
    rows = bench.rows(30, split="train") + bench.rows(45, split="test")
    groups = [{**row, "group": f"{row['split']}{index // 3}"} for index, row in enumerate(rows)]
    return bench.manifest(groups)


def test_a_video_and_a_group_that_were_trained_on_are_told(
    bench, quick: FitConfig, manifest: Manifest, tmp_path
) -> None:
    store = bench.of(manifest)
    fit(store, manifest, quick, out=tmp_path / "run")
    run = Run.load(tmp_path / "run")
    clean = evaluate(run, store, manifest)
    assert (clean.trained_on, clean.groups_trained_on, clean.notes) == (0, (), ())
    assert "bootstrap of 15 groups" in clean.text()

    leaking = [replace(v, group="train0") if v.video_id == "test/000" else v for v in manifest if v.split == "test"]
    other = evaluate(run, store, Manifest(tuple(leaking), manifest.root))
    assert (other.trained_on, other.groups_trained_on) == (0, ("train0",))
    assert "1 groups of these videos have other videos that were trained on or chose the epoch (train0)" in other.text()
    whole = evaluate(run, store, manifest, "split=train")
    assert (whole.trained_on, whole.groups_trained_on) == (30, ())


def test_videos_cut_to_the_length_of_the_head_are_told(bench, quick: FitConfig, manifest: Manifest) -> None:
    store = bench.of(manifest)
    result = evaluate(fit(store, manifest, replace(quick, max_length=5)).run, store, manifest)
    longer = sum(len(store.read(v.video_id, layer=9, timestep=20)) > 5 for v in manifest if v.split == "test")
    assert 0 < result.cut == longer
    assert f"{longer} videos are longer than 5 frames" in result.text()


def test_a_run_against_others_on_the_same_videos(bench, quick: FitConfig, manifest: Manifest) -> None:
    store = bench.of(manifest, signal=1.0)
    good = fit(store, manifest, replace(quick, epochs=20)).run
    poor = fit(store, manifest, replace(quick, epochs=1, lr=1e-5)).run
    result = evaluate(good, store, manifest, against={"poor": poor, "itself": good})
    [against_poor, against_itself] = result.comparisons
    accuracy = against_poor.differences[0]
    assert accuracy.metric == "accuracy"
    assert accuracy.ours == pytest.approx(result.metrics.accuracy)
    assert accuracy.theirs == pytest.approx(evaluate(poor, store, manifest).metrics.accuracy)
    assert accuracy.p_value < 0.05
    assert against_itself.differences[0].p_value == 1
    assert "corrected for 2 runs (Holm)" in result.text()
    json.dumps(result.to_dict(), allow_nan=False)


def test_a_run_on_another_layer_and_on_another_store_is_compared(bench, quick: FitConfig, manifest: Manifest) -> None:
    ids = {v.video_id: bench.draw(v.labels, signal=2.0) for v in manifest}
    both = bench.store(ids, keys=[FeatureKey(9, 20), FeatureKey(3, 20)])
    elsewhere = bench.store(ids, "elsewhere.zarr", recipe={"backbone": "other"})
    nine, three = (fit(both, manifest, quick, layer=layer).run for layer in (9, 3))
    other = fit(elsewhere, manifest, quick).run
    result = evaluate(nine, both, manifest, against={"layer 3": three, "other backbone": other})
    assert [comparison.name for comparison in result.comparisons] == ["layer 3", "other backbone"]
    elsewhere.path.rename(elsewhere.path.with_name("gone.zarr"))
    with pytest.raises(RunError, match="differs in backbone"):
        evaluate(nine, both, manifest, against={"other backbone": other})


def test_a_run_of_other_classes_cannot_be_compared(bench, quick: FitConfig, manifest: Manifest) -> None:
    store = bench.of(manifest)
    all_three = fit(store, manifest, quick).run
    two = fit(store, Manifest(tuple(v for v in manifest if v.labels != ("c",)), manifest.root), quick).run
    with pytest.raises(InputError, match="their classes differ") as caught:
        evaluate(all_three, store, manifest, against={"two": two}, allow_unseen=True)
    assert caught.value.__notes__ == ["while comparing with two"]


def test_the_folder_of_an_evaluation(bench, quick: FitConfig, manifest: Manifest, tmp_path: Path) -> None:
    store = bench.of(manifest)
    result = evaluate(fit(store, manifest, quick).run, store, manifest, out=tmp_path / "out")
    names = {"evaluation.json", "predictions.csv", "classes.csv", "calibration.csv", "confusion.csv"}
    pictures = {"classes.png", "calibration.png", "confusion.png"}
    assert {path.name for path in (tmp_path / "out").iterdir()} == names | pictures
    assert json.loads((tmp_path / "out" / "evaluation.json").read_text()) == result.to_dict()
    again = read_predictions(tmp_path / "out" / "predictions.csv", multilabel=False)["test"]
    assert (again.video_ids, again.labels, again.classes) == (
        result.predictions.video_ids,
        result.predictions.labels,
        result.predictions.classes,
    )
    np.testing.assert_array_equal(again.scores_NK, result.predictions.scores_NK)
    with pytest.raises(InputError, match="is there already"):
        evaluate(fit(store, manifest, quick).run, store, manifest, out=tmp_path / "out")
