"""Where a device's memory runs out, the batch shrinks or one video fails; the run goes on."""

import numpy as np
import pytest
import torch
from torch import nn

from actiondiff.extract import Window, extract, load_backbone
from actiondiff.extract.pieces import Pieces
from actiondiff.manifests import Manifest
from actiondiff.store import FeatureKey

TEXTS = [
    "CUDA out of memory. Tried to allocate 2.00 GiB",
    "CUDA error: out of memory",
    "CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`",
    "cuDNN error: CUDNN_STATUS_ALLOC_FAILED",
]
KEYS = [FeatureKey(1, 20), FeatureKey(1, 5)]


def error_of(text: str) -> RuntimeError:
    return torch.OutOfMemoryError(text) if text.startswith("CUDA out") else RuntimeError(text)


@pytest.mark.parametrize("text", TEXTS)
def test_what_libraries_say_when_they_lack_memory_halves_the_batch(text):
    def small(piece):
        if len(piece) > 2:
            raise error_of(text)
        return piece

    pieces = Pieces(8)
    assert (pieces.run(range(9), small), pieces.size) == (list(range(9)), 2)


def test_another_error_of_the_device_is_not_taken_for_a_lack_of_memory():
    def broken(piece):
        raise RuntimeError("CUDA error: an illegal memory access was encountered")

    with pytest.raises(RuntimeError, match="illegal"):
        Pieces(8).run(range(8), broken)


@pytest.fixture
def overflowing():
    """A backbone whose first layer overflows float16."""
    backbone = load_backbone("svd-tiny", window=2, size_hw=(64, 96), device="cpu", precision="float16", batch=4)
    backbone._modules.unet.conv_in.weight.data.mul_(2e5)
    return backbone


def window() -> Window:
    return Window(torch.rand(2, 3, 64, 96) * 2 - 1, np.arange(2), np.zeros(2))


def weights_of(backbone) -> dict[str, torch.Tensor]:
    return {name: value.clone() for name, value in backbone._modules.unet.state_dict().items()}


@pytest.mark.parametrize("text", TEXTS)
def test_a_window_in_float32_that_does_not_fit_stays_not_finite_and_changes_nothing_else(
    overflowing, monkeypatch, text
):
    walk, before, sizes = (
        overflowing._walk,
        weights_of(overflowing),
        (overflowing._pairs.size, overflowing._frames.size),
    )

    def small(pairs, layers):
        if overflowing._precision == torch.float32:
            raise error_of(text)
        return walk(pairs, layers)

    monkeypatch.setattr(overflowing, "_walk", small)
    [found] = overflowing.features([window()], KEYS)
    assert not any(rows.isfinite().all() for rows in found.values())
    assert (overflowing._pairs.size, overflowing._frames.size) == sizes
    after = weights_of(overflowing)
    assert all(after[name].dtype == value.dtype and after[name].equal(value) for name, value in before.items())


def test_networks_that_do_not_fit_in_float32_stay_in_half_precision(overflowing, monkeypatch):
    before, to = weights_of(overflowing), nn.Module.to

    def half_way(network, dtype, *rest):
        if dtype == torch.float32:
            to(network.conv_in, dtype)
            raise torch.OutOfMemoryError("CUDA out of memory, a fake")
        return to(network, dtype, *rest)

    monkeypatch.setattr(nn.Module, "to", half_way)
    [found] = overflowing.features([window()], KEYS)
    assert not any(rows.isfinite().all() for rows in found.values())
    after = weights_of(overflowing)
    assert all(after[name].dtype == value.dtype and after[name].equal(value) for name, value in before.items())


def test_in_float32_timesteps_go_one_by_one_and_half_precision_keeps_its_batch(overflowing, monkeypatch):
    walk, together = overflowing._walk, []

    def noted(pairs, layers):
        together.append((overflowing._precision, len(pairs)))
        if overflowing._precision == torch.float32 and len(pairs) > 1:
            raise torch.OutOfMemoryError("CUDA out of memory, a fake")
        return walk(pairs, layers)

    monkeypatch.setattr(overflowing, "_walk", noted)
    [found] = overflowing.features([window()], KEYS)
    assert all(rows.isfinite().all() for rows in found.values())
    assert together == [(torch.float16, 2), (torch.float32, 1), (torch.float32, 1)]
    assert overflowing._pairs.size == 4


def test_the_video_of_such_a_window_fails_and_the_run_ends_well(clips, tmp_path, overflowing, monkeypatch):
    walk = overflowing._walk

    def small(pairs, layers):
        if overflowing._precision == torch.float32:
            raise torch.OutOfMemoryError("CUDA out of memory, a fake")
        return walk(pairs, layers)

    monkeypatch.setattr(overflowing, "_walk", small)
    report = extract(Manifest(clips.videos[:2], clips.root), tmp_path / "s.zarr", overflowing, KEYS[:1])
    assert {failure.code for failure in report.failed} == {"not_finite"}
