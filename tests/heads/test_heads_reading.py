"""Reading a result: class by class, confusion and calibration, against scikit-learn, torchmetrics and by hand."""

import csv
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from sklearn.metrics import average_precision_score, confusion_matrix, precision_recall_fscore_support
from torchmetrics.functional.classification import binary_calibration_error, multiclass_calibration_error

from actiondiff.heads.calibration import calibration
from actiondiff.heads.classwise import class_results, confusion
from actiondiff.heads.metrics import Predictions, measure, multi_hot
from actiondiff.heads.reading import read_result


def drawn(
    videos: int, names: tuple[str, ...], multilabel: bool = False, seed: int = 0, used: int | None = None
) -> Predictions:
    """Scores that lean towards the labels; only the first ``used`` classes are labels."""
    rng = np.random.default_rng(seed)
    used = used or len(names)
    picks = [rng.choice(used, size=min(used, 2) if multilabel else 1, replace=False) for _ in range(videos)]
    logits = rng.normal(size=(videos, len(names)))
    for row, pick in zip(logits, picks, strict=True):
        row[pick] += 1.5
    scores = 1 / (1 + np.exp(-logits)) if multilabel else np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    labels = tuple(tuple(names[index] for index in sorted(pick)) for pick in picks)
    return Predictions(tuple(f"v{index}" for index in range(videos)), labels, names, scores, multilabel)


ABC = ("a", "b", "c", "d")
MANY = tuple(f"a long name of class {index}, really long" for index in range(60))


@pytest.mark.parametrize("multilabel", [True, False])
@pytest.mark.parametrize("videos", [1, 3, 80])
def test_classes_agree_with_scikit_learn(videos: int, multilabel: bool) -> None:
    predictions = drawn(videos, ABC, multilabel, used=3)
    truth = multi_hot(predictions.labels, ABC)
    results = class_results(predictions)
    assert [result.support for result in results] == truth.sum(axis=0).tolist()
    for k, result in enumerate(results):
        if not truth[:, k].any():
            assert result.average_precision is None
        else:
            expected = average_precision_score(truth[:, k], predictions.scores_NK[:, k])
            assert result.average_precision == pytest.approx(expected, abs=1e-6)
    present = [result.average_precision for result in results if result.average_precision is not None]
    assert measure(predictions).map_macro == pytest.approx(np.mean(present), abs=1e-5)
    if multilabel:
        assert {(result.predicted, result.recall, result.precision) for result in results} == {(None, None, None)}
        return
    precision, recall, _, _ = precision_recall_fscore_support(
        truth.argmax(1), predictions.scores_NK.argmax(1), labels=range(4), zero_division=np.nan
    )
    assert [np.nan if r.recall is None else r.recall for r in results] == pytest.approx(recall, nan_ok=True)
    assert [np.nan if r.precision is None else r.precision for r in results] == pytest.approx(precision, nan_ok=True)


def test_confusion_agrees_with_scikit_learn() -> None:
    predictions = drawn(90, ABC)
    found = confusion(predictions)
    assert found is not None
    expected = confusion_matrix([row[0] for row in predictions.labels], predictions.best, labels=ABC)
    np.testing.assert_array_equal(found.counts_LK, expected)
    worst = max(
        ((a, b, expected[i, j]) for i, a in enumerate(ABC) for j, b in enumerate(ABC) if i != j), key=lambda m: m[2]
    )
    assert found.mistakes(1)[0][2] == worst[2]


def test_a_label_never_trained_on_has_a_row_of_its_own_and_several_labels_have_no_confusion() -> None:
    scores = np.array([[0.9, 0.1], [0.2, 0.8], [0.7, 0.3]])
    found = confusion(Predictions(("x", "y", "z"), (("a",), ("new",), ("b",)), ("a", "b"), scores, False))
    assert found is not None
    assert found.labels == ("a", "b", "new")
    assert found.counts_LK.tolist() == [[1, 0], [1, 0], [0, 1]]
    assert confusion(drawn(4, ABC, multilabel=True)) is None


@pytest.mark.parametrize("bins", [1, 10, 15])
def test_calibration_error_agrees_with_torchmetrics(bins: int) -> None:
    predictions = drawn(200, ABC)
    truth = torch.from_numpy(multi_hot(predictions.labels, ABC).argmax(1))
    expected = multiclass_calibration_error(torch.from_numpy(predictions.scores_NK), truth, 4, n_bins=bins)
    assert calibration(predictions, bins).error == pytest.approx(float(expected), abs=1e-6)


def test_calibration_of_several_labels_counts_every_score() -> None:
    predictions = drawn(50, ABC, multilabel=True)
    found = calibration(predictions)
    assert sum(part.count for part in found.bins) == 200
    right = multi_hot(predictions.labels, ABC).ravel()
    expected = sum(
        part.count / 200 * abs(predictions.scores_NK.ravel()[inside].mean() - right[inside].mean())
        for part in found.bins
        if (inside := (predictions.scores_NK.ravel() > part.low) & (predictions.scores_NK.ravel() <= part.high)).any()
    )
    assert found.error == pytest.approx(expected)
    # torchmetrics takes a score below one half as certainty of the opposite, so it agrees where all are above
    high = Predictions(("x", "y"), (("a",), ("b",)), ("a", "b"), np.array([[0.9, 0.6], [0.7, 0.8]]), True)
    theirs = binary_calibration_error(torch.tensor([0.9, 0.6, 0.7, 0.8]), torch.tensor([1, 0, 0, 1]), n_bins=15)
    assert calibration(high).error == pytest.approx(float(theirs), abs=1e-6)


def test_sure_and_right_is_calibrated_and_sure_and_wrong_is_not() -> None:
    right = Predictions(("x", "y"), (("a",), ("b",)), ("a", "b"), np.eye(2), False)
    wrong = Predictions(("x", "y"), (("b",), ("a",)), ("a", "b"), np.eye(2), False)
    assert (calibration(right).error, calibration(wrong).error) == (0, 1)


def test_the_text_names_everything_a_reader_should_know() -> None:
    predictions = drawn(40, ("fly", "swim", "walk", "never seen here"), used=3)
    text = read_result(predictions, draws=50).text()
    assert "40 videos, 4 classes; intervals: bootstrap of 40 videos, 50 draws" in text
    assert "left out of mAP macro for want of positives: never seen here" in text
    lines = text.splitlines()
    header = next(line for line in lines if line.startswith("class "))
    assert header.split() == ["class", "videos", "AP", "recall", "precision"]
    assert not any(line.startswith("never seen here ") for line in lines), "no AP of nothing"
    assert "bootstrap of 3 groups" in read_result(predictions, ["x", "y", "z", "x"] * 10, draws=50).text()
    assert "too few to draw from" in read_result(predictions, ["x"] * 40).text()


def test_many_classes_are_shortened_on_the_terminal_only() -> None:
    reading = read_result(drawn(700, tuple(f"k{index:03d}" for index in range(140)), multilabel=True), draws=5)
    assert len(reading.text().splitlines()) < 45
    assert "116 classes between these" in reading.text()
    assert len(reading.to_dict()["classes"]) == 140


def test_json_holds_everything_and_no_nan() -> None:
    for multilabel in (True, False):
        values = read_result(drawn(12, ABC, multilabel, used=2), draws=20).to_dict()
        again = json.loads(json.dumps(values, allow_nan=False))
        assert again == values
        assert set(values) == {"metrics", "intervals_of", "classes", "confusion", "calibration"}


@pytest.mark.parametrize(
    ("videos", "names", "multilabel"),
    [(1, ("only",), False), (30, ABC, False), (30, ABC, True), (200, MANY, False)],
)
def test_tables_and_pictures(tmp_path: Path, videos: int, names: tuple[str, ...], multilabel: bool) -> None:
    read_result(drawn(videos, names, multilabel), draws=10).write(tmp_path)
    rows = list(csv.DictReader((tmp_path / "classes.csv").open()))
    assert [row["name"] for row in rows] == list(names)
    expected = {"classes.csv", "classes.png", "calibration.csv", "calibration.png"}
    if not multilabel:
        expected |= {"confusion.csv", "confusion.png"}
        table = list(csv.reader((tmp_path / "confusion.csv").open()))
        assert sum(int(cell) for row in table[1:] for cell in row[1:]) == videos
    assert {path.name for path in tmp_path.iterdir()} == expected
    for path in tmp_path.glob("*.png"):
        with Image.open(path) as picture:
            assert min(picture.size) > 250, path.name
            assert max(picture.size) < 4000, path.name
