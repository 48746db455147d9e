import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from actiondiff import InputError
from actiondiff.heads.batch import collate, pad
from actiondiff.heads.models import HEADS, HeadConfig, Standardize, build_head, sinusoidal_positions

CHANNELS, MAX_LENGTH = 8, 6


def made(kind: str, seed: int = 0, **settings: object) -> torch.nn.Module:
    torch.manual_seed(seed)
    config = HeadConfig(kind, CHANNELS, 3, MAX_LENGTH, layers=2, attention_heads=2, hidden=16, **settings)
    head = build_head(config).eval()
    if head.standardize is not None:
        head.standardize.mean_C.fill_(2.0)
        head.standardize.std_C.fill_(0.5)
    return head


@pytest.mark.parametrize("kind", HEADS)
@pytest.mark.parametrize("standardize", [False, True])
@given(lengths=st.lists(st.integers(1, 9), min_size=1, max_size=4), extra=st.integers(0, 7), seed=st.integers(0, 2**16))
@settings(max_examples=25, deadline=None)
def test_a_longer_batch_changes_no_logit(
    kind: str, standardize: bool, lengths: list[int], extra: int, seed: int
) -> None:
    rng = np.random.default_rng(seed)
    head = made(kind, standardize=standardize)
    videos = [rng.normal(size=(length, CHANNELS)).astype(np.float32) for length in lengths]
    alone = torch.cat([head(*pad([video])) for video in videos])
    features, mask = pad([*videos, np.ones((max(lengths) + extra, CHANNELS), dtype=np.float32)])
    features[~mask] = 1e3  # whatever stands behind the mask
    torch.testing.assert_close(head(features, mask)[:-1], alone, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("kind", HEADS)
def test_frames_beyond_max_length_are_not_used(kind: str) -> None:
    head, video = made(kind), np.random.default_rng(0).normal(size=(9, CHANNELS)).astype(np.float32)
    torch.testing.assert_close(head(*pad([video])), head(*pad([video[:MAX_LENGTH]])))
    assert not torch.allclose(head(*pad([video])), head(*pad([video[: MAX_LENGTH - 1]])))


@pytest.mark.parametrize("kind", HEADS)
def test_every_head_sees_the_order_of_frames(kind: str) -> None:
    head, video = made(kind), np.random.default_rng(0).normal(size=(6, CHANNELS)).astype(np.float32)
    assert not torch.allclose(head(*pad([video])), head(*pad([video[::-1].copy()])), atol=1e-4)


def test_positions_are_the_formula() -> None:
    table = sinusoidal_positions(11, 6)
    for token in range(11):
        for pair in range(3):
            angle = token / 10_000 ** (2 * pair / 6)
            assert table[token, 2 * pair] == pytest.approx(np.sin(angle), abs=1e-6)
            assert table[token, 2 * pair + 1] == pytest.approx(np.cos(angle), abs=1e-6)
    assert sinusoidal_positions(3, 5).shape == (3, 5)


def with_gradients(head: nn.Module, logits: torch.Tensor) -> list[torch.Tensor]:
    """Logits, and the gradient of every weight."""
    head.zero_grad()
    (logits * torch.arange(logits.numel()).view_as(logits)).sum().backward()
    return [logits.detach(), *(weight.grad.clone() for weight in head.parameters() if weight.grad is not None)]


lengths_of_a_batch = st.lists(st.integers(1, MAX_LENGTH), min_size=1, max_size=4)


@given(lengths=lengths_of_a_batch, width=st.sampled_from([None, 6]), seed=st.integers(0, 99))
@settings(max_examples=25, deadline=None)
def test_the_transformer_is_pytorchs_own_without_the_padding(lengths: list[int], width: int | None, seed: int) -> None:
    head = made("transformer", seed, dropout=0.0, width=width).train()
    features, mask = pad([np.random.default_rng(seed).normal(size=(n, CHANNELS)).astype(np.float32) for n in lengths])
    tokens = torch.cat([head.cls_token.expand(len(lengths), -1, -1), head.project(features)], dim=1)
    padding = torch.cat([torch.zeros(len(lengths), 1, dtype=torch.bool), ~mask], dim=1)
    read = head.encoder(tokens + head.positions_TC[: tokens.shape[1]], src_key_padding_mask=padding)[:, 0]
    theirs = with_gradients(head, head.classifier(read))
    for value, reference in zip(with_gradients(head, head(features, mask)), theirs, strict=True):
        torch.testing.assert_close(value, reference, atol=2e-4, rtol=1e-4)


@given(lengths=lengths_of_a_batch, width=st.sampled_from([None, 6]), seed=st.integers(0, 99))
@settings(max_examples=25, deadline=None)
def test_the_attentive_head_is_pytorchs_attention_without_the_padding(
    lengths: list[int], width: int | None, seed: int
) -> None:
    head = made("attentive", seed, dropout=0.0, width=width).train()
    features, mask = pad([np.random.default_rng(seed).normal(size=(n, CHANNELS)).astype(np.float32) for n in lengths])
    frames = head.frame_norm(head.project(features)) + head.positions_FC[: features.shape[1]]
    query = head.query.expand(len(lengths), -1, -1)
    pooled = query + head.attention(query, frames, frames, key_padding_mask=~mask, need_weights=False)[0]
    theirs = with_gradients(head, head.classifier((pooled + head.feed_forward(head.norm(pooled)))[:, 0]))
    for value, reference in zip(with_gradients(head, head(features, mask)), theirs, strict=True):
        torch.testing.assert_close(value, reference, atol=2e-4, rtol=1e-4)


DROPOUTS = {
    "transformer": (
        "encoder.layers.0.self_attn",
        "encoder.layers.0.dropout",
        "encoder.layers.0.dropout1",
        "encoder.layers.0.dropout2",
        "encoder.layers.1.self_attn",
        "encoder.layers.1.dropout",
        "encoder.layers.1.dropout1",
        "encoder.layers.1.dropout2",
    ),
    "attentive": ("attention", "feed_forward.2"),
    "mlp": ("dropout",),
}


@pytest.mark.parametrize(("kind", "place"), [(kind, place) for kind, places in DROPOUTS.items() for place in places])
def test_each_dropout_drops_and_while_training_only(kind: str, place: str) -> None:
    head, batch = made(kind, dropout=0.0), pad([np.arange(4 * CHANNELS, dtype=np.float32).reshape(4, CHANNELS)])
    module = head.get_submodule(place)
    setattr(module, "p" if isinstance(module, nn.Dropout) else "dropout", 0.5)
    assert torch.equal(head(*batch), head(*batch))
    head.train()
    assert len({tuple(head(*batch)[0].tolist()) for _ in range(8)}) > 1


def test_the_attentive_head_is_one_query_that_reads_the_frames() -> None:
    """Softmax attention of one query, written out for a single attention head."""
    torch.manual_seed(0)
    head = build_head(HeadConfig("attentive", CHANNELS, 3, MAX_LENGTH, attention_heads=1)).eval()
    video = np.random.default_rng(0).normal(size=(4, CHANNELS)).astype(np.float32)
    frames = head.frame_norm(torch.from_numpy(video)) + sinusoidal_positions(4, CHANNELS)
    q, k, v = (
        x @ weight.T + bias
        for x, weight, bias in zip(
            (head.query[0], frames, frames),
            head.attention.in_proj_weight.chunk(3),
            head.attention.in_proj_bias.chunk(3),
            strict=True,
        )
    )
    read = head.attention.out_proj(torch.softmax(q @ k.T / CHANNELS**0.5, dim=1) @ v)
    pooled = head.query[0] + read
    expected = head.classifier(pooled + head.feed_forward(head.norm(pooled)))
    torch.testing.assert_close(head(*pad([video])), expected, atol=1e-5, rtol=1e-5)


def test_encoder_layers_start_different() -> None:
    first, second = made("transformer").encoder.layers
    assert not torch.equal(first.linear1.weight, second.linear1.weight)


def test_standardisation_is_that_of_all_frames_and_spares_constant_channels() -> None:
    rng = np.random.default_rng(0)
    videos = [rng.normal(7, 0.01, size=(length, 3)).astype(np.float32) for length in (3, 50, 8)]
    for video in videos:
        video[:, 1] = 5.0
    module = Standardize(3)
    module.measure(videos)
    frames = np.concatenate(videos).astype(np.float64)
    np.testing.assert_allclose(module.mean_C, frames.mean(0), rtol=1e-6)
    np.testing.assert_allclose(module.std_C, [frames[:, 0].std(), 1, frames[:, 2].std()], rtol=1e-4)


@pytest.mark.parametrize(
    ("changes", "match"),
    [
        ({"kind": "forest"}, "linear, mlp, transformer, attentive"),
        ({"kind": "transformer", "attention_heads": 3}, "divide the channels"),
        ({"max_length": 0}, "1 or more"),
        ({"dropout": 1.0}, "Dropout"),
    ],
)
def test_impossible_heads_are_refused(changes: dict[str, object], match: str) -> None:
    with pytest.raises(InputError, match=match):
        HeadConfig(**{"kind": "linear", "channels": 8, "classes": 2, "max_length": 4, **changes})


def test_features_of_other_channels_are_refused() -> None:
    with pytest.raises(InputError, match="8 channels; got 5"):
        made("linear")(torch.zeros(1, 2, 5), torch.ones(1, 2, dtype=torch.bool))


def test_pad_cuts_and_masks() -> None:
    videos = [np.full((length, 2), length, dtype=np.float32) for length in (1, 5, 3)]
    features, mask = pad(videos, max_length=4)
    assert features.shape == (3, 4, 2)
    assert mask.sum(dim=1).tolist() == [1, 4, 3]
    assert features.sum(dim=(1, 2)).tolist() == [2, 40, 18]


@pytest.mark.parametrize("shapes", [[], [(0, 2)], [(3, 2), (3, 4)]])
def test_pad_refuses_what_is_no_batch(shapes: list[tuple[int, int]]) -> None:
    with pytest.raises(InputError, match="one frame or more"):
        pad([np.zeros(shape, dtype=np.float32) for shape in shapes])


def test_a_batch_says_shapes_not_values() -> None:
    batch = collate([np.zeros((2, 3), dtype=np.float32)], np.zeros((1, 4), dtype=np.float32))
    assert repr(batch) == "Batch(features (1, 2, 3), mask (1, 2), targets (1, 4))"
