"""The head, the losses and the schedule agree with the published implementation."""

from pathlib import Path

import numpy as np
import pytest
import torch

from actiondiff.heads.losses import build_loss
from actiondiff.heads.models import HeadConfig, TransformerHead, build_head
from actiondiff.heads.schedule import lr_factor, warmup_length

TOLERANCE = 1e-5


@pytest.fixture(scope="module")
def golden() -> dict[str, np.ndarray]:
    with np.load(Path(__file__).parents[1] / "golden" / "head.npz") as file:
        return dict(file)


@pytest.fixture(scope="module")
def head(golden: dict[str, np.ndarray]) -> TransformerHead:
    heads = int(golden["num_heads"])
    head = build_head(HeadConfig("transformer", 64, 12, max_length=150, layers=2, attention_heads=heads))
    prefix = "weights/"
    head.load_state_dict({name[len(prefix) :]: torch.from_numpy(golden[name]) for name in golden if prefix in name})
    return head.eval()


@pytest.mark.parametrize("gradients", [True, False])  # without them PyTorch takes a fused path
def test_logits(head: TransformerHead, golden: dict[str, np.ndarray], gradients: bool) -> None:
    features, mask = torch.from_numpy(golden["features"]), torch.from_numpy(golden["mask"]).bool()
    with torch.set_grad_enabled(gradients):
        logits = head(features, mask)
    np.testing.assert_allclose(logits.detach().numpy(), golden["logits"], atol=TOLERANCE, rtol=0)


def test_feed_forward_is_three_times_the_width(golden: dict[str, np.ndarray]) -> None:
    assert golden["weights/encoder.layers.0.linear1.weight"].shape == (192, 64)
    assert build_head(HeadConfig("transformer", 16, 2, 4)).encoder.layers[0].linear1.out_features == 48


@pytest.mark.parametrize(
    ("name", "alpha", "entry"),
    [("focal", 0.25, "focal_alpha0.25_gamma2.0"), ("focal", 1.0, "focal_alpha1.0_gamma2.0"), ("bce", 1.0, "bce")],
)
def test_losses(golden: dict[str, np.ndarray], name: str, alpha: float, entry: str) -> None:
    logits, targets = torch.from_numpy(golden["logits"]), torch.from_numpy(golden["targets"])
    assert float(build_loss(name, alpha, 2.0)(logits, targets)) == pytest.approx(float(golden[entry]), abs=TOLERANCE)


def test_learning_rate_of_every_step(golden: dict[str, np.ndarray]) -> None:
    warmup = warmup_length(warmup_epochs=4, epochs=15, steps_per_epoch=7)
    factors = [lr_factor(step, warmup, 15 * 7) for step in range(15 * 7)]
    np.testing.assert_allclose(factors, golden["lr_factor_warmup4_epochs15_steps7"], atol=TOLERANCE, rtol=0)
