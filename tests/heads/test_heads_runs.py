import json
from pathlib import Path

import numpy as np
import pytest

from actiondiff import InputError
from actiondiff.heads.evaluation import evaluate, predict
from actiondiff.heads.fitting import FitResult, fit
from actiondiff.heads.folders import new_folder
from actiondiff.heads.presets import FitConfig
from actiondiff.heads.runs import Run, RunError
from actiondiff.manifests import Manifest
from actiondiff.store import FeatureStore


@pytest.fixture
def fitted(bench, quick: FitConfig, tmp_path: Path) -> tuple[FitResult, FeatureStore, Manifest]:
    manifest = bench.manifest(bench.rows(18, split="train") + bench.rows(9, split="test"))
    store = bench.of(manifest)
    return fit(store, manifest, quick, out=tmp_path / "run"), store, manifest


def test_a_reloaded_run_gives_the_same_predictions(fitted, tmp_path: Path) -> None:
    result, store, manifest = fitted
    evaluation = evaluate(Run.load(tmp_path / "run"), store, manifest)
    np.testing.assert_array_equal(evaluation.predictions.scores_NK, result.predictions["test"].scores_NK)
    assert evaluation.metrics == result.metrics["test"]
    assert evaluation.trained_on == 0
    assert Run.load(tmp_path / "run").config == result.run.config


def test_evaluating_on_training_videos_is_told(fitted) -> None:
    result, store, manifest = fitted
    evaluation = evaluate(result.run, store, manifest, "split=train")
    assert evaluation.metrics.videos == 18
    assert evaluation.trained_on == len(result.run.parts["train"])


def test_predict_from_a_store_and_from_arrays(fitted) -> None:
    result, store, _ = fitted
    expected = result.predictions["test"]
    ids = expected.video_ids
    np.testing.assert_array_equal(predict(result.run, store, ids).scores_NK, expected.scores_NK)
    arrays = [array.astype(np.float16) for array in store.read_many(ids, layer=9, timestep=20)]
    predictions = predict(result.run, arrays)
    assert predictions.video_ids == tuple(map(str, range(9)))
    assert predictions.best == expected.best
    assert len(predict(result.run, store)) == 27


def test_features_of_another_recipe_are_refused(fitted, bench) -> None:
    result, _, manifest = fitted
    drawn = {video.video_id: bench.draw(video.labels) for video in manifest}
    other = bench.store(drawn, "other.zarr", recipe={"backbone": "drawn", "stride": 2})
    with pytest.raises(RunError, match=r"differs in stride: None in the run, 2 in the store"):
        evaluate(result.run, other, manifest)
    with pytest.raises(RunError, match="Extract the videos by the run's recipe"):
        predict(result.run, other)


def test_labels_the_run_never_saw_are_refused(fitted, bench) -> None:
    result, store, _ = fitted
    manifest = bench.manifest([{"video_id": "test/000", "labels": ("new",)}])
    with pytest.raises(InputError, match="never seen in training: new"):
        evaluate(result.run, store, manifest)
    assert evaluate(result.run, store, manifest, allow_unseen=True).metrics.accuracy == 0


@pytest.mark.parametrize("name", ["config.json", "head.safetensors", "parts.csv"])
def test_a_folder_that_lacks_a_file(fitted, tmp_path: Path, name: str) -> None:
    (tmp_path / "run" / name).unlink()
    with pytest.raises(RunError, match=f"lacks {name}"):
        Run.load(tmp_path / "run")


def test_no_folder_at_all(tmp_path: Path) -> None:
    with pytest.raises(RunError, match="Name the folder that actiondiff fit --out wrote"):
        Run.load(tmp_path / "nowhere")


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("config.json", "{"),
        ("config.json", "[]"),
        ("config.json", "{}"),
        ("config.json", '{"format": 2}'),
        ("head.safetensors", "no tensors"),
        ("head.safetensors", ""),
        ("parts.csv", "something,else\n1,2\n"),
    ],
)
def test_a_damaged_folder(fitted, tmp_path: Path, name: str, content: str) -> None:
    (tmp_path / "run" / name).write_text(content)
    with pytest.raises(RunError, match=r"cannot be read .* Fit it again"):
        Run.load(tmp_path / "run")


def test_weights_of_another_head(fitted, tmp_path: Path) -> None:
    path = tmp_path / "run" / "config.json"
    config = json.loads(path.read_text())
    config["head"]["kind"] = "mlp"
    path.write_text(json.dumps(config))
    with pytest.raises(RunError, match="cannot be read"):
        Run.load(tmp_path / "run")


def test_nothing_of_a_failed_folder_is_left(tmp_path: Path) -> None:
    def fill() -> None:
        with new_folder(tmp_path / "deep" / "x") as folder:
            (folder / "half").write_text("half")
            raise RuntimeError

    with pytest.raises(RuntimeError):
        fill()
    assert list((tmp_path / "deep").iterdir()) == []
