import csv
from pathlib import Path

import numpy as np
import pytest
from sklearn.metrics import accuracy_score, average_precision_score

from actiondiff import InputError
from actiondiff.heads.metrics import (
    Predictions,
    average_precisions,
    measure,
    multi_hot,
    read_predictions,
    write_predictions,
)


def drawn(videos: int, classes: int, multilabel: bool, seed: int, steps: int = 10**6) -> Predictions:
    """Random scores (few steps: many ties) with random labels, every class at least once where possible."""
    rng = np.random.default_rng(seed)
    names = tuple(f"k{index}" for index in range(classes))
    scores = rng.integers(0, steps, size=(videos, classes)) / steps
    picks = [rng.choice(classes, size=rng.integers(1, 4) if multilabel else 1, replace=False) for _ in range(videos)]
    labels = tuple(tuple(names[index] for index in sorted(row)) for row in picks)
    return Predictions(tuple(f"v{index}" for index in range(videos)), labels, names, scores, multilabel)


@pytest.mark.parametrize("multilabel", [True, False])
@pytest.mark.parametrize("steps", [10**6, 4, 1])
@pytest.mark.parametrize(("videos", "classes"), [(40, 5), (3, 8), (200, 12), (1, 4)])
def test_agrees_with_scikit_learn(multilabel: bool, steps: int, videos: int, classes: int) -> None:
    predictions = drawn(videos, classes, multilabel, seed=videos + steps, steps=steps)
    truth = multi_hot(predictions.labels, predictions.classes)
    present = truth.any(axis=0)
    metrics = measure(predictions)
    each = [average_precision_score(truth[:, k], predictions.scores_NK[:, k]) for k in np.flatnonzero(present)]
    assert metrics.map_macro == pytest.approx(np.mean(each), abs=1e-5)
    assert metrics.map_micro == pytest.approx(
        average_precision_score(truth.ravel(), predictions.scores_NK.ravel()), abs=1e-5
    )
    assert metrics.classes_without_positives == tuple(np.array(predictions.classes)[~present])
    if multilabel:
        assert metrics.accuracy is None
    else:
        expected = accuracy_score(truth.argmax(1), predictions.scores_NK.argmax(1))
        assert metrics.accuracy == pytest.approx(expected)


def test_one_positive_ranked_third_has_precision_a_third() -> None:
    scores, truth = np.array([[0.9], [0.8], [0.7], [0.1]]), np.array([[False], [False], [True], [False]])
    assert average_precisions(scores, truth)[0] == pytest.approx(1 / 3)


def test_no_positives_at_all_is_no_number() -> None:
    assert average_precisions(np.full((3, 2), 0.5), np.zeros((3, 2), dtype=bool)) == (None, None)


def test_a_class_without_positives_is_named_and_left_out() -> None:
    scores = np.array([[0.9, 0.1, 0.5], [0.2, 0.8, 0.6]])
    metrics = measure(Predictions(("x", "y"), (("a",), ("b",)), ("a", "b", "c"), scores, False))
    assert metrics.map_macro == 1.0
    assert metrics.classes_without_positives == ("c",)
    assert metrics.to_dict()["classes_without_positives"] == ["c"]


def test_labels_never_trained_on_count_as_wrong() -> None:
    scores = np.array([[0.9, 0.1], [0.8, 0.2]])
    metrics = measure(Predictions(("x", "y"), (("a",), ("new",)), ("a", "b"), scores, False))
    assert metrics.accuracy == 0.5
    assert metrics.unseen_labels == ("new",)


def test_one_class() -> None:
    metrics = measure(Predictions(("x", "y"), (("a",), ("a",)), ("a",), np.ones((2, 1)), False))
    assert (metrics.accuracy, metrics.map_macro, metrics.map_micro) == (1.0, 1.0, 1.0)


def test_several_labels_have_no_accuracy() -> None:
    metrics = measure(Predictions(("x",), (("a", "b"),), ("a", "b"), np.array([[0.9, 0.4]]), True))
    assert "accuracy" not in metrics.to_dict()
    assert metrics.main == metrics.map_macro == 1.0


def test_a_video_is_scored_once() -> None:
    with pytest.raises(InputError, match="scored once"):
        Predictions(("x", "x"), (("a",), ("a",)), ("a",), np.ones((2, 1)), False)


def test_best_and_top() -> None:
    predictions = Predictions(("x",), ((),), ("a", "b", "c"), np.array([[0.2, 0.5, 0.3]]), False)
    assert predictions.best == ("b",)
    assert predictions.top(2) == ((("b", 0.5), ("c", 0.3)),)


def test_predictions_file(tmp_path: Path) -> None:
    one = drawn(3, 2, True, seed=0)
    write_predictions(tmp_path / "one.csv", {"test": one})
    rows = list(csv.reader((tmp_path / "one.csv").open(encoding="utf-8")))
    assert rows[0] == ["video_id", "label", "k0", "k1"]
    assert [row[0] for row in rows[1:]] == list(one.video_ids)
    assert rows[1][1] == ";".join(one.labels[0])
    write_predictions(tmp_path / "two.csv", {"domain=a": one, "domain=b": one})
    rows = list(csv.reader((tmp_path / "two.csv").open(encoding="utf-8")))
    assert rows[0] == ["part", "video_id", "label", "k0", "k1"]
    assert [row[0] for row in rows[1:]] == ["domain=a"] * 3 + ["domain=b"] * 3


def test_predictions_read_back_as_they_were_written(tmp_path: Path) -> None:
    parts = {"domain=a": drawn(3, 4, True, seed=0), "domain=b": drawn(4, 4, True, seed=1)}
    write_predictions(tmp_path / "two.csv", parts)
    again = read_predictions(tmp_path / "two.csv", multilabel=True)
    assert list(again) == list(parts)
    for name, part in parts.items():
        assert (again[name].video_ids, again[name].labels) == (part.video_ids, part.labels)
        np.testing.assert_array_equal(again[name].scores_NK, part.scores_NK)


@pytest.mark.parametrize("text", ["", "video_id,label\n1\n", "a,b,c\n", "video_id,label,x\nv,x,high\n"])
def test_a_file_that_holds_no_predictions(tmp_path: Path, text: str) -> None:
    (tmp_path / "x.csv").write_text(text)
    with pytest.raises(InputError, match="predictions file"):
        read_predictions(tmp_path / "x.csv", multilabel=False)
