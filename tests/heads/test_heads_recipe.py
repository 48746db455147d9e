"""MixUp, losses, schedule and presets against formulas written here."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch.nn.functional import cross_entropy

from actiondiff import InputError
from actiondiff.heads.batch import collate
from actiondiff.heads.frame_adamw import FrameAdamW
from actiondiff.heads.losses import build_loss, class_weights, probabilities, smooth
from actiondiff.heads.mixup import blend, mixup
from actiondiff.heads.presets import PRESETS, FitConfig, configure, resolved
from actiondiff.heads.schedule import lr_factor, warmup_length
from actiondiff.heads.training import train_head


def two_videos() -> tuple[np.ndarray, np.ndarray]:
    return np.array([[1.0], [2.0], [3.0]], dtype=np.float32), np.array([[10.0]], dtype=np.float32)


def test_a_blend_has_the_union_of_masks() -> None:
    batch = collate(list(two_videos()), np.eye(2, dtype=np.float32))
    mixed = blend(batch, np.array([1, 0]), 0.75)
    torch.testing.assert_close(mixed.features_BFC[..., 0], torch.tensor([[3.25, 1.5, 2.25], [7.75, 0.5, 0.75]]))
    assert mixed.mask_BF.all()
    torch.testing.assert_close(mixed.targets_BK, torch.tensor([[0.75, 0.25], [0.25, 0.75]]))


def test_a_blend_with_itself_changes_nothing() -> None:
    batch = collate(list(two_videos()), np.eye(2, dtype=np.float32))
    same = blend(batch, np.array([0, 1]), 0.3)
    torch.testing.assert_close(same.features_BFC, batch.features_BFC)
    assert torch.equal(same.mask_BF, batch.mask_BF)


def test_mixup_draws_from_its_generator_only() -> None:
    batch = collate(list(two_videos()), np.eye(2, dtype=np.float32))
    before = torch.random.get_rng_state()
    first, second = (mixup(batch, 0.4, np.random.default_rng(seed)) for seed in (3, 3))
    assert torch.equal(first.features_BFC, second.features_BFC)
    assert torch.equal(torch.random.get_rng_state(), before)
    assert mixup(batch, 0.0, np.random.default_rng(0)) is batch


def test_mixup_weights_are_beta() -> None:
    batch = collate([np.zeros((1, 1), np.float32)] * 2, np.eye(2, dtype=np.float32))
    rng = np.random.default_rng(0)
    weights = [float(mixup(batch, 0.3, rng).targets_BK[0, 0]) for _ in range(3000)]
    swapped = np.array([w for w in weights if w != 1.0])  # half of the time a video's partner is itself
    assert swapped.mean() == pytest.approx(0.5, abs=0.03)
    assert swapped.var() == pytest.approx(1 / (4 * (2 * 0.3 + 1)), abs=0.01)


def test_focal_loss_is_its_formula() -> None:
    logits, targets = torch.tensor([[2.0, -1.0]]), torch.tensor([[1.0, 1.0]])
    p = 1 / (1 + np.exp(-logits.numpy()))
    expected = (0.5 * (1 - p) ** 3 * -np.log(p)).mean()
    assert float(build_loss("focal", 0.5, 3.0)(logits, targets)) == pytest.approx(expected, rel=1e-5)


def test_focal_loss_of_a_batch_with_class_weights_is_its_formula() -> None:
    """Written out for every video and class: alpha (1 - p_t)^gamma (-log p_t), p_t the probability of the truth."""
    rng = np.random.default_rng(0)
    logits, truth, weights = rng.normal(size=(5, 3)), rng.integers(0, 2, (5, 3)), np.array([0.5, 1.0, 2.0])
    total = 0.0
    for video in range(5):
        for k in range(3):
            p = 1 / (1 + math.exp(-logits[video, k]))
            p_t = p if truth[video, k] else 1 - p
            total += weights[k] * 0.25 * (1 - p_t) ** 2 * -math.log(p_t)
    tensors = (torch.from_numpy(array).float() for array in (logits, truth))
    loss = build_loss("focal", 0.25, 2.0, weights_K=torch.from_numpy(weights).float())(*tensors)
    assert float(loss) == pytest.approx(total / 15, rel=1e-5)


def test_focal_loss_of_a_blended_label_is_its_formula() -> None:
    logit, target = 0.7, 0.3
    p = 1 / (1 + math.exp(-logit))
    bce = -(target * math.log(p) + (1 - target) * math.log(1 - p))
    expected = 0.25 * (1 - math.exp(-bce)) ** 2 * bce
    assert float(build_loss("focal")(torch.tensor([[logit]]), torch.tensor([[target]]))) == pytest.approx(expected)


def test_weighted_cross_entropy_is_its_formula() -> None:
    logits, weights = torch.tensor([[0.0, 1.0, -1.0], [2.0, 0.0, 0.5]]), torch.tensor([1.0, 3.0, 0.5])
    log_p = logits - torch.logsumexp(logits, dim=1, keepdim=True)
    expected = -(3.0 * log_p[0, 1] + 0.5 * log_p[1, 2]) / 2
    targets = torch.tensor([[0.0, 1.0, 0.0], [0.0, 0.0, 1.0]])
    torch.testing.assert_close(build_loss("cross-entropy", weights_K=weights)(logits, targets), expected)


def test_class_weights_are_their_formulas() -> None:
    targets = np.repeat(np.eye(3, dtype=np.float32), (6, 3, 1), axis=0)
    balanced = class_weights(targets, "cross-entropy")
    np.testing.assert_allclose(balanced, [10 / (3 * 6), 10 / (3 * 3), 10 / (3 * 1)], rtol=1e-6)
    assert (targets @ balanced).mean() == pytest.approx(1)
    sigmoid = class_weights(targets, "focal")
    np.testing.assert_allclose(sigmoid / sigmoid[2], [1 / 6, 1 / 3, 1], rtol=1e-6)
    assert sigmoid.mean() == pytest.approx(1)
    assert np.isfinite(class_weights(np.zeros((4, 2), np.float32), "bce")).all()


def test_smoothed_labels_are_their_formulas() -> None:
    targets = torch.tensor([[1.0, 0.0, 0.0, 0.0]])
    torch.testing.assert_close(smooth(targets, 0.2, "cross-entropy"), torch.tensor([[0.85, 0.05, 0.05, 0.05]]))
    torch.testing.assert_close(smooth(targets, 0.2, "focal"), torch.tensor([[0.9, 0.1, 0.1, 0.1]]))
    logits = torch.tensor([[0.3, 0.1, -2.0, 1.0]])
    smoothed = build_loss("cross-entropy", smoothing=0.2)(logits, targets)
    assert float(smoothed) == pytest.approx(float(cross_entropy(logits, torch.tensor([0]), label_smoothing=0.2)))


def test_focal_loss_without_focus_is_bce() -> None:
    logits, targets = torch.randn(4, 3), torch.rand(4, 3)
    torch.testing.assert_close(build_loss("focal", 1.0, 0.0)(logits, targets), build_loss("bce")(logits, targets))


def test_cross_entropy_takes_blended_labels() -> None:
    logits, targets = torch.tensor([[0.0, 1.0]]), torch.tensor([[0.25, 0.75]])
    log_p = logits - torch.logsumexp(logits, dim=1, keepdim=True)
    torch.testing.assert_close(build_loss("cross-entropy")(logits, targets), -(targets * log_p).sum())


def test_scores_fit_the_loss() -> None:
    logits = torch.tensor([[0.0, 50.0, 49.0]])
    assert float(probabilities(logits, "cross-entropy").sum()) == pytest.approx(1)
    assert float(probabilities(logits, "focal")[0, 0]) == 0.5
    assert probabilities(logits, "bce")[0, 1] > probabilities(logits, "bce")[0, 2] - 1e-12


def test_unknown_loss() -> None:
    with pytest.raises(InputError, match="cross-entropy, focal, bce"):
        build_loss("hinge")


@pytest.mark.parametrize(("epochs", "steps", "expected"), [(15, 7, 28), (10, 3, 12), (1, 4, 2), (2, 1, 1), (1, 1, 0)])
def test_warmup_leaves_half_of_a_short_fit(epochs: int, steps: int, expected: int) -> None:
    assert warmup_length(4, epochs, steps) == expected


def test_the_cosine_is_half_way_at_half_time_and_ends_at_zero() -> None:
    assert lr_factor(10, 10, 30) == 1
    assert lr_factor(20, 10, 30) == pytest.approx(0.5)
    assert lr_factor(30, 10, 30) == lr_factor(99, 10, 30) == pytest.approx(0, abs=1e-12)
    assert lr_factor(25, 10, 30) == pytest.approx(0.5 * (1 + math.cos(math.pi * 0.75)))


PAPER = {
    "animal-kingdom": ("focal", 0.25, 2.0, 3e-5, 1e-4, 0.2, 15, 150, 6),
    "charades-ego": ("focal", 1.0, 2.0, 1e-4, 1e-3, 0.3, 12, 400, 7),
    "charades-ego-3to1": ("focal", 1.0, 2.0, 1e-4, 1e-3, 0.3, 10, 400, 7),
    "ucf-hmdb": ("cross-entropy", None, None, 1e-5, 1e-4, 0.0, 15, 500, 6),
}


@pytest.mark.parametrize("name", PAPER)
def test_presets_are_the_papers(name: str) -> None:
    assert PAPER.keys() == PRESETS.keys()
    loss, alpha, gamma, lr, decay, mix, epochs, length, layers = PAPER[name]
    config = configure("transformer", name)
    assert (config.loss, config.lr, config.weight_decay, config.mixup) == (loss, lr, decay, mix)
    assert (config.epochs, config.max_length, config.layers) == (epochs, length, layers)
    assert (config.batch_size, config.warmup_epochs, config.dropout, config.attention_heads) == (16, 4, 0.1, 8)
    assert not config.standardize
    if alpha is not None:
        assert (config.focal_alpha, config.focal_gamma) == (alpha, gamma)


def test_the_learning_rate_of_a_whole_fit_is_its_formula(drawn, quick: FitConfig, monkeypatch) -> None:
    """Up in a straight line over the first 2 of 5 epochs, then half a cosine to 0; as the optimiser saw it."""
    seen: list[float] = []
    real = FrameAdamW.step

    def step(self, *rest):
        seen.append(self.param_groups[0]["lr"])
        return real(self, *rest)

    monkeypatch.setattr(FrameAdamW, "step", step)
    train_head(drawn(40), None, replace(quick, epochs=5, warmup_epochs=2, lr=0.1, batch_size=10))
    up = [0.1 * step / 8 for step in range(8)]
    down = [0.05 * (1 + math.cos(math.pi * step / 12)) for step in range(12)]
    np.testing.assert_allclose(seen, up + down, atol=1e-9)


def test_every_setting_says_where_it_came_from() -> None:
    config = resolved(configure("transformer", "animal-kingdom", lr=0.5, patience=3), 37, False, channels=4096)
    origins = config.origins()
    assert origins.keys() == config.to_dict().keys() - {"preset", "given", "settled"}
    assert {name for name, origin in origins.items() if origin == "option"} == {"head", "lr", "patience"}
    assert (origins["epochs"], origins["focal_gamma"], origins["hidden"]) == (
        "preset animal-kingdom",
        "default",
        "default",
    )
    assert (origins["width"], config.width) == ("data", 1280)
    assert resolved(configure(), 37, False).origins()["loss"] == "data"
    assert FitConfig.from_dict(config.to_dict()) == config


def test_what_is_given_beats_the_preset_and_none_leaves_it() -> None:
    config = configure("mlp", "ucf-hmdb", lr=0.5, epochs=None)
    assert (config.head, config.lr, config.epochs, config.preset) == ("mlp", 0.5, 15, "ucf-hmdb")


@pytest.mark.parametrize(
    ("settings", "match"),
    [
        ({"preset": "kinetics"}, "A preset is one of animal-kingdom"),
        ({"speed": 3}, "no setting speed"),
        ({"loss": "hinge"}, "A loss is one of"),
        ({"epochs": 0}, "1 or more"),
        ({"lr": float("nan")}, "above 0"),
        ({"mixup": -0.1}, "0 or more"),
        ({"val_fraction": 1.0}, "below 1"),
        ({"max_length": 0}, "1 or more"),
        ({"head": "forest"}, "A head is one of"),
        ({"class_weights": "heavy"}, "none, balanced"),
        ({"precision": "float8"}, "auto, float32, bfloat16"),
        ({"label_smoothing": 1.0}, "below 1"),
        ({"patience": 0}, "patience are 1 or more"),
        ({"width": 12}, "divide"),
    ],
)
def test_settings_out_of_range_are_refused(settings: dict[str, object], match: str) -> None:
    with pytest.raises(InputError, match=match):
        configure(**settings)


def test_open_settings_are_settled_by_the_data() -> None:
    assert resolved(FitConfig(), 37, multilabel=False).loss == "cross-entropy"
    assert resolved(FitConfig(), 37, multilabel=True).loss == "focal"
    assert resolved(FitConfig(), 37, multilabel=True).max_length == 37
    assert resolved(FitConfig(max_length=5, loss="bce"), 37, multilabel=False).max_length == 5
    with pytest.raises(InputError, match="some here have several"):
        resolved(FitConfig(loss="cross-entropy"), 37, multilabel=True)


def test_settings_survive_json() -> None:
    config = configure("linear", "charades-ego", seed=3)
    assert FitConfig.from_dict(config.to_dict()) == config
