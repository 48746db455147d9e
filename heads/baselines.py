"""What a head has to beat: baselines that look at no feature, and one that looks at them in the simplest way.

Axes: N videos, K classes, C channels.
"""

# ruff: noqa: N803, N806 - letters in names say the axes

from collections.abc import Sequence

import numpy as np
from jaxtyping import Bool, Float, Float64

from actiondiff.heads.data import LabelledFeatures
from actiondiff.heads.metrics import Predictions

VARIANCE_FLOOR = 1e-9
"""Share of the largest channel variance that is added to all, so that a class of one video has a density."""


def label_frequencies(train: LabelledFeatures, test: LabelledFeatures) -> Predictions:
    """Score every class by its share in training: with one label a video, always say the most frequent one."""
    share_K = train.targets_NK.mean(axis=0, dtype=np.float64)
    return _scored(test, np.tile(share_K, (len(test), 1)))


def prior_guess(train: LabelledFeatures, test: LabelledFeatures) -> float | None:
    """Expected accuracy of drawing each video's label by its share in training; None where videos have several.

    That is the sum over labels of share in training times share in test.
    """
    if train.multilabel:
        return None
    return float(train.targets_NK.mean(axis=0, dtype=np.float64) @ test.targets_NK.mean(axis=0, dtype=np.float64))


def naive_bayes(train: LabelledFeatures, test: LabelledFeatures) -> Predictions:
    """Gaussian naive Bayes on each video's mean feature over its frames.

    A label's score is its share in training times one normal density a channel, channels taken as independent: as
    scikit-learn's ``GaussianNB``. With several labels a video, each class stands against its absence. Log densities are
    divided by the number of channels before they become scores: no best class changes, and scores do not all become
    0 or 1, which would be ties.
    """
    train_NC, test_NC = _means(train.features), _means(test.features)
    floor = VARIANCE_FLOOR * float(train_NC.var(axis=0).max(initial=0.0))
    has_NK = train.targets_NK > 0
    channels = train_NC.shape[1]
    if not train.multilabel:
        joint_NK = np.stack([_log_joint(train_NC, rows, test_NC, floor) for rows in has_NK.T], axis=1)
        scaled_NK = joint_NK / channels
        exps_NK = np.exp(scaled_NK - scaled_NK.max(axis=1, keepdims=True))
        return _scored(test, exps_NK / exps_NK.sum(axis=1, keepdims=True))
    scores = []
    for has_N in has_NK.T:
        present, absent = (_log_joint(train_NC, rows, test_NC, floor) for rows in (has_N, ~has_N))
        scores.append(1 / (1 + np.exp(np.clip((absent - present) / channels, -500, 500))))
    return _scored(test, np.stack(scores, axis=1))


def _log_joint(
    train_NC: Float64[np.ndarray, "train channels"],
    rows: Bool[np.ndarray, " train"],
    test_NC: Float64[np.ndarray, "test channels"],
    floor: float,
) -> Float64[np.ndarray, " test"]:
    """Log of share times densities; minus infinity for a label without a training video."""
    if not rows.any():
        return np.full(len(test_NC), -np.inf)
    mean_C = train_NC[rows].mean(axis=0)
    variance_C = train_NC[rows].var(axis=0) + max(floor, np.finfo(np.float64).tiny)
    density = -0.5 * (np.log(2 * np.pi * variance_C) + (test_NC - mean_C) ** 2 / variance_C)
    return np.log(rows.mean()) + density.sum(axis=1)


def _means(features: Sequence[Float[np.ndarray, "_ channels"]]) -> Float64[np.ndarray, "videos channels"]:
    return np.stack([array.mean(axis=0, dtype=np.float64) for array in features])


def _scored(test: LabelledFeatures, scores_NK: Float64[np.ndarray, "videos classes"]) -> Predictions:
    return Predictions(test.video_ids, test.labels, test.classes, scores_NK, test.multilabel)
