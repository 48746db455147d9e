"""Linear maps of frames: what they compute, and AdamW that leaves the frames behind that a batch does not have."""

import copy
from collections.abc import Sequence

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn import functional

from actiondiff.heads import lagging_adamw
from actiondiff.heads.frame_adamw import FrameAdamW
from actiondiff.heads.frame_linear import FrameLinear

FRAMES, CHANNELS, OUTPUTS = 6, 3, 5
INPUTS = FRAMES * CHANNELS


class Both:
    """A linear map of frames with our optimiser, and ``nn.Linear`` with PyTorch's in float64, trained alike."""

    def __init__(self, seed: int, weight_decay: float = 0.1, *, lagging: bool = True) -> None:
        torch.manual_seed(seed)
        self.layer, self.plain = FrameLinear(FRAMES, CHANNELS, OUTPUTS), nn.Linear(INPUTS, OUTPUTS)
        self.plain.load_state_dict(self.layer.state_dict())
        self.plain.double()
        self.ours = FrameAdamW(self.layer, 1e-3, weight_decay, lagging=lagging)
        self.theirs = torch.optim.AdamW(self.plain.parameters(), lr=1e-3, weight_decay=weight_decay)

    def step(self, lr: float, *frames: int, scale: float = 1.0) -> None:
        """One step from a video of each of these lengths, each in a pass of its own; gradients are scaled."""
        for optimizer in (self.ours, self.theirs):
            optimizer.param_groups[0]["lr"] = lr
            optimizer.zero_grad()
        for length in frames:
            x, target = torch.randn(2, length, CHANNELS), torch.randn(2, OUTPUTS)
            (scale * functional.mse_loss(self.layer(x), target)).backward()
            (scale * functional.mse_loss(self.plain(filled(x).double()), target.double())).backward()
        self.ours.step()
        self.theirs.step()

    def assert_same(self) -> None:
        self.ours.bring_up()
        torch.testing.assert_close(self.layer.state_dict()["weight"].double(), self.plain.weight, atol=2e-6, rtol=1e-5)
        torch.testing.assert_close(self.layer.bias.double(), self.plain.bias, atol=2e-6, rtol=1e-5)
        own, reference = (each.state_dict()["state"] for each in (self.ours, self.theirs))
        for number in reference:
            for name, value in reference[number].items():
                torch.testing.assert_close(own[number][name].double(), value.double(), atol=1e-7, rtol=1e-4)


def filled(x: Tensor) -> Tensor:
    return functional.pad(x, (0, 0, 0, FRAMES - x.shape[1])).flatten(1)


@given(frames=st.integers(1, FRAMES), batch=st.integers(1, 4), seed=st.integers(0, 99))
@settings(max_examples=30, deadline=None)
def test_the_linear_map_of_frames_is_that_of_zero_filled_ones(frames: int, batch: int, seed: int) -> None:
    torch.manual_seed(seed)
    layer, plain = FrameLinear(FRAMES, CHANNELS, OUTPUTS), nn.Linear(INPUTS, OUTPUTS)
    plain.load_state_dict(layer.state_dict())
    x = torch.randn(batch, frames, CHANNELS, requires_grad=True)
    y = x.detach().clone().requires_grad_()
    for made in (layer(x), plain(filled(y))):
        made.square().sum().backward()
    torch.testing.assert_close(layer(x), plain(filled(x)))
    torch.testing.assert_close(x.grad, y.grad)
    torch.testing.assert_close(layer.weight.grad.transpose(0, 1).flatten(1), plain.weight.grad)
    torch.testing.assert_close(layer.bias.grad, plain.bias.grad)


def test_weights_are_drawn_kept_and_read_as_those_of_a_plain_linear_map() -> None:
    torch.manual_seed(3)
    layer = FrameLinear(FRAMES, CHANNELS, OUTPUTS)
    torch.manual_seed(3)
    plain = nn.Linear(INPUTS, OUTPUTS)
    for name, value in plain.state_dict().items():
        torch.testing.assert_close(layer.state_dict()[name], value, atol=0, rtol=0)
    torch.manual_seed(4)
    other = FrameLinear(FRAMES, CHANNELS, OUTPUTS)
    other.load_state_dict(plain.state_dict())
    torch.testing.assert_close(other.weight, layer.weight, atol=0, rtol=0)
    with pytest.raises(RuntimeError, match=r"\[7, 5, 3\].*\[6, 5, 3\]"):
        other.load_state_dict(nn.Linear(INPUTS + CHANNELS, OUTPUTS).state_dict())
    with pytest.raises(RuntimeError, match="size mismatch"):
        other.load_state_dict(nn.Linear(INPUTS + 1, OUTPUTS).state_dict())


steps = st.lists(
    st.tuples(
        st.sampled_from([0.0, 1e-4, 1e-3, 0.1]), st.lists(st.integers(1, FRAMES), min_size=0, max_size=2).map(tuple)
    ),
    min_size=1,
    max_size=30,
)


@given(
    steps=steps, seed=st.integers(0, 99), tile=st.sampled_from([1, 2 * OUTPUTS * CHANNELS, 1 << 20]), looks=st.data()
)
@settings(max_examples=60, deadline=None)
def test_frames_that_lag_come_to_what_adamw_comes_to(
    steps: Sequence[tuple[float, tuple[int, ...]]], seed: int, tile: int, looks: st.DataObject
) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(lagging_adamw, "TILE_NUMBERS", tile)
        both = Both(seed)
        for lr, lengths in steps:
            both.step(lr, *lengths)
            if looks.draw(st.booleans()):
                both.assert_same()
        both.assert_same()


@pytest.mark.parametrize("idle", [1, 31, 32, 33, 128, 129, 700])
def test_frames_may_be_left_behind_for_long(idle: int) -> None:
    both = Both(1)
    for turn in range(3):
        both.step(1e-2, FRAMES)
        for step in range(idle):
            both.step(1e-2 * (1 + step % 3), 1 + turn)
    both.assert_same()


@pytest.mark.parametrize("scale", [1e-4, 1e-6, 1e-8])
def test_gradients_as_small_as_eps_come_close(scale: float) -> None:
    """What AdamW's eps means changes from step to step; those made up for share a mean of it."""
    both, rng = Both(7), np.random.default_rng(0)
    first = both.plain.weight.detach().clone()
    for _ in range(300):
        both.step(1e-2, int(min(FRAMES, rng.geometric(0.4))), scale=scale)
    both.ours.bring_up()
    moved = (both.plain.weight - first).abs().max()
    apart = (both.layer.state_dict()["weight"].double() - both.plain.weight).abs().max()
    assert apart < 1e-3 * moved


def test_without_a_gradient_nothing_is_touched_until_it_is_needed() -> None:
    both = Both(2)
    both.step(1e-2, FRAMES)
    before = both.layer.weight.detach().clone()
    both.step(1e-2, 2)
    assert (both.layer.weight[2:] == before[2:]).all()
    assert (both.layer.weight[:2] != before[:2]).all()
    both.layer(torch.randn(1, 4, CHANNELS))
    assert (both.layer.weight[2:4] != before[2:4]).all()
    assert (both.layer.weight[4:] == before[4:]).all()


def lagging() -> Both:
    both = Both(8)
    both.step(1e-2, FRAMES)
    both.step(1e-2, 1)
    return both


def test_nobody_sees_a_weight_that_lags() -> None:
    x = torch.randn(2, FRAMES, CHANNELS)
    both = lagging()
    with torch.no_grad():
        torch.testing.assert_close(both.layer(x).double(), both.plain(filled(x).double()), atol=1e-6, rtol=1e-5)
    for copied in (lagging().layer.state_dict(), copy.deepcopy(lagging().layer).state_dict()):
        torch.testing.assert_close(copied["weight"].double(), both.plain.weight, atol=2e-6, rtol=1e-5)


def test_weights_that_are_read_in_the_middle_stay_as_they_were_read() -> None:
    both, plain = lagging(), nn.Linear(INPUTS, OUTPUTS)
    both.layer.load_state_dict(plain.state_dict())
    both.ours.bring_up()
    torch.testing.assert_close(both.layer.state_dict()["weight"], plain.weight, atol=0, rtol=0)


def test_a_copy_learns_for_itself() -> None:
    both = lagging()
    made = copy.deepcopy(both.layer)
    made(torch.randn(1, FRAMES, CHANNELS)).sum().backward()
    assert made.learner is None
    assert made.weight.grad is not None
    both.step(1e-2, 3)
    both.assert_same()


def test_the_last_optimiser_has_the_layer() -> None:
    both = lagging()
    FrameAdamW(both.layer, 1e-3, 0.1, lagging=False)
    assert both.layer.learner is None
    torch.testing.assert_close(both.layer.state_dict()["weight"].double(), both.plain.weight, atol=2e-6, rtol=1e-5)


def test_a_gradient_that_is_begun_anew_is_forgotten() -> None:
    both = lagging()
    both.layer(torch.randn(1, FRAMES, CHANNELS)).sum().backward()
    both.ours.zero_grad()
    both.ours.step()
    both.assert_same()


@pytest.mark.parametrize("frames", [1, FRAMES])
def test_what_comes_before_the_layer_learns_the_same(frames: int) -> None:
    both = Both(9)
    x = torch.randn(3, frames, CHANNELS, requires_grad=True)
    y = x.detach().double().requires_grad_()
    both.layer(x).square().sum().backward()
    both.plain(filled(y)).square().sum().backward()
    torch.testing.assert_close(x.grad.double(), y.grad, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("lagging", [True, False])
def test_a_state_goes_on_in_another_optimiser_of_either_kind(lagging: bool) -> None:
    both = Both(5)
    for length in (3, FRAMES, 1, 2):
        both.step(1e-2, length)
    state = both.ours.state_dict()
    ours = FrameAdamW(both.layer, 1e-3, 0.1, lagging=lagging)
    ours.load_state_dict(copy.deepcopy(state))
    both.ours = ours
    theirs = torch.optim.AdamW(both.plain.parameters(), lr=1e-3, weight_decay=0.1)
    theirs.load_state_dict(state)  # it is one of a plain linear map's
    both.theirs = theirs
    for length in (1, 4, 2):
        both.step(1e-2, length)
    both.assert_same()


def test_once_detached_the_layer_learns_like_any_other() -> None:
    both = Both(6)
    both.step(1e-2, 2)
    both.ours.detach()
    both.layer(torch.randn(1, 2, CHANNELS)).sum().backward()
    assert both.layer.weight.grad is not None
    assert (both.layer.weight.grad[2:] == 0).all()
    assert (both.layer.weight.grad[:2] != 0).all()
