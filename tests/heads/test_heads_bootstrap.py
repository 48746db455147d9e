"""Intervals and paired tests, against scikit-learn's weighted average precision, scipy's bootstrap and known truths."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import bootstrap as scipy_bootstrap
from sklearn.metrics import average_precision_score

from actiondiff import InputError
from actiondiff.heads.bootstrap import differences, drawn_counts, holm, intervals, resampled, weighted_average_precision
from actiondiff.heads.metrics import Predictions, measure


def drawn(
    videos: int, classes: int = 4, signal: float = 1.5, seed: int = 0, multilabel: bool = False, labels_seed: int = 0
) -> Predictions:
    """Scores that lean towards the label as strongly as ``signal``."""
    rng = np.random.default_rng(seed)
    names = tuple(f"k{index}" for index in range(classes))
    pick = np.random.default_rng(labels_seed).integers(classes, size=videos)
    logits = rng.normal(size=(videos, classes))
    logits[np.arange(videos), pick] += signal
    scores = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    ids = tuple(f"v{index}" for index in range(videos))
    return Predictions(ids, tuple((names[index],) for index in pick), names, scores, multilabel)


@given(data=st.data())
@settings(max_examples=150, deadline=None)
def test_weighted_average_precision_agrees_with_scikit_learn_with_ties_and_any_number_of_positives(data) -> None:
    videos = data.draw(st.integers(1, 12))
    scores = np.array(data.draw(st.lists(st.integers(0, 4), min_size=videos, max_size=videos))) / 4
    truth = np.array(data.draw(st.lists(st.booleans(), min_size=videos, max_size=videos)))
    counts = np.array(data.draw(st.lists(st.integers(0, 3), min_size=videos, max_size=videos)), dtype=np.float32)
    [ours] = weighted_average_precision(scores, truth, counts[None])
    if not (counts * truth).sum():
        assert np.isnan(ours)
    else:
        assert ours == pytest.approx(average_precision_score(truth, scores, sample_weight=counts), abs=1e-6)


@pytest.mark.parametrize("multilabel", [True, False])
def test_a_draw_of_every_video_once_is_the_metric_itself(multilabel: bool) -> None:
    predictions = drawn(50, classes=7, multilabel=multilabel)
    metrics = measure(predictions)
    for name, [value] in resampled(predictions, np.ones((1, 50), dtype=np.float32)).items():
        assert value == pytest.approx(getattr(metrics, name), abs=1e-6), name


def test_a_draw_is_the_metric_of_the_drawn_videos() -> None:
    predictions = drawn(20)
    counts = drawn_counts(20, (), 3, seed=4)
    assert counts is not None
    for row, name in enumerate(("accuracy", "map_macro", "map_micro")):
        picked = np.repeat(np.arange(20), counts[row].astype(int))
        again = Predictions(
            tuple(map(str, range(len(picked)))),
            tuple(predictions.labels[i] for i in picked),
            predictions.classes,
            predictions.scores_NK[picked],
            False,
        )
        assert resampled(predictions, counts)[name][row] == pytest.approx(getattr(measure(again), name), abs=1e-6)


def test_the_interval_of_accuracy_is_that_of_scipy() -> None:
    predictions = drawn(200)
    hits = np.array([row[0] == best for row, best in zip(predictions.labels, predictions.best, strict=True)])
    theirs = scipy_bootstrap((hits,), np.mean, method="percentile", n_resamples=4000, rng=np.random.default_rng(1))
    ours = intervals(predictions, draws=4000)["accuracy"]
    assert ours.low == pytest.approx(theirs.confidence_interval.low, abs=0.015)
    assert ours.high == pytest.approx(theirs.confidence_interval.high, abs=0.015)


def test_the_same_seed_gives_the_same_interval_and_another_seed_another() -> None:
    predictions = drawn(60)
    assert intervals(predictions, seed=3) == intervals(predictions, seed=3)
    assert intervals(predictions, seed=3) != intervals(predictions, seed=4)


def test_videos_of_a_group_are_drawn_together() -> None:
    groups = ["a", "a", "a", "b", "", ""]
    counts = drawn_counts(6, groups, 200, seed=0)
    assert counts is not None
    assert (counts[:, 0] == counts[:, 1]).all()
    assert (counts[:, 0] == counts[:, 2]).all()
    assert (counts[:, 4] != counts[:, 5]).any(), "videos without a group are their own"
    assert ((counts[:, 0] + counts[:, 3] + counts[:, 4] + counts[:, 5]) == 4).all(), "as many groups as there are"


def test_equal_videos_in_groups_make_the_interval_wider() -> None:
    one = drawn(30, seed=2)
    copies = Predictions(
        tuple(f"{v}/{copy}" for v in one.video_ids for copy in range(10)),
        tuple(row for row in one.labels for _ in range(10)),
        one.classes,
        np.repeat(one.scores_NK, 10, axis=0),
        False,
    )
    groups = [video.partition("/")[0] for video in copies.video_ids]
    alone, together = intervals(copies)["accuracy"], intervals(copies, groups)["accuracy"]
    assert together.high - together.low > 2 * (alone.high - alone.low)


def test_one_group_gives_no_interval() -> None:
    assert intervals(drawn(5), ["x"] * 5) == {}
    assert intervals(drawn(1)) == {}


def test_intervals_of_rare_classes_cover_what_other_videos_of_the_same_number_give() -> None:
    """Without taking off the bias, about 0.77 of the intervals of macro mAP would cover here."""
    samples = [drawn(300, classes=40, seed=seed, labels_seed=seed) for seed in range(60)]
    expected = np.mean([measure(sample).map_macro for sample in samples])
    found = [intervals(sample, draws=150)["map_macro"] for sample in samples[:40]]
    assert np.mean([part.low <= expected <= part.high for part in found]) > 0.85


def test_a_better_head_is_told_from_a_worse_one_and_a_head_from_itself_is_not() -> None:
    good, poor = drawn(150, signal=2.5), drawn(150, signal=1.0, seed=1)
    for difference in differences(good, poor):
        assert difference.ours > difference.theirs
        assert difference.interval.low > 0
        assert difference.p_value < 0.01
    for difference in differences(good, good):
        assert difference.p_value == 1
        assert (difference.interval.low, difference.interval.high) == (0, 0)


def test_pairing_finds_what_separate_intervals_do_not() -> None:
    """A head that is right on all that another is right on, and on six of 150 more."""
    one = drawn(150, signal=1.5)
    wrong = [i for i, (row, best) in enumerate(zip(one.labels, one.best, strict=True)) if row[0] != best][:8]
    scores = one.scores_NK.copy()
    for index in wrong:
        scores[index] = np.eye(4)[one.classes.index(one.labels[index][0])]
    better = Predictions(one.video_ids, one.labels, one.classes, scores, False)
    apart = intervals(better)["accuracy"].low > intervals(one)["accuracy"].high
    [accuracy, *_] = differences(better, one)
    assert not apart
    assert accuracy.p_value < 0.02


def test_other_videos_or_classes_cannot_be_compared() -> None:
    with pytest.raises(InputError, match="their videos differ"):
        differences(drawn(5), drawn(6))
    with pytest.raises(InputError, match="their labels differ"):
        differences(drawn(5), drawn(5, labels_seed=9))


def test_holm_against_numbers_by_hand() -> None:
    assert holm([0.01, 0.04, 0.03]) == pytest.approx((0.03, 0.06, 0.06))
    assert holm([]) == ()
    assert holm([0.9, 0.8]) == (1.0, 1.0)
