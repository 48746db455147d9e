"""Batches change no number beyond rounding, shrink when memory runs out, and never mix videos up."""

import numpy as np
import pytest
import torch
from fakes import FakeBackbone

from actiondiff import InputError
from actiondiff.extract import extract, load_backbone
from actiondiff.extract.images import resize_frames
from actiondiff.extract.pieces import MOST, Pieces, largest_batch
from actiondiff.extract.windows import Window
from actiondiff.manifests import Manifest
from actiondiff.store import FeatureKey, FeatureStore

KEYS = [FeatureKey(layer, timestep) for layer in (2, 9) for timestep in (3, 12, 20)]


def limited(most: int, calls: list[int]):
    """A function that runs out of memory with more than so many items."""

    def function(piece):
        calls.append(len(piece))
        if len(piece) > most:
            raise torch.OutOfMemoryError("a fake of CUDA out of memory")
        return [item * 10 for item in piece]

    return function


def test_pieces_halve_until_they_fit_and_stay_so_and_lose_nothing():
    calls: list[int] = []
    pieces = Pieces(8)
    assert pieces.run(range(20), limited(3, calls)) == [number * 10 for number in range(20)]
    assert calls == [8, 4] + [2] * 10
    assert pieces.size == 2


def test_a_single_item_that_does_not_fit_is_an_error():
    with pytest.raises(torch.OutOfMemoryError):
        Pieces(4).run(range(4), limited(0, []))


def test_a_batch_below_one_is_refused():
    with pytest.raises(InputError, match="--batch is at least 1"):
        Pieces(0)


def test_the_batch_is_chosen_by_what_one_window_takes():
    assert largest_batch(free_bytes=10_000, bytes_each=1_000) == 8
    assert largest_batch(free_bytes=10, bytes_each=1_000) == 1
    assert largest_batch(free_bytes=10**12, bytes_each=1_000) == MOST


@pytest.fixture(scope="module")
def windows(golden) -> list[Window]:
    pixels = resize_frames(torch.from_numpy(golden["frames"][:12]), (64, 64))
    black = torch.full((4, 3, 64, 64), -1.0)
    black[:1] = pixels[8:9]
    whole = [Window(pixels[i : i + 4], np.arange(4), np.zeros(4), f"v#{i}") for i in (0, 4)]
    return [*whole, Window(black, np.arange(1), np.zeros(1), "w#0")]


@pytest.mark.parametrize("batch", [2, 3, 5, 9])
@pytest.mark.parametrize("condition", ["middle", "per-frame"])
def test_windows_together_have_the_features_of_windows_alone(windows, batch, condition):
    settings = {"size_hw": (64, 64), "window": 4, "condition": condition, "noise": "seeded", "device": "cpu"}
    alone = load_backbone("svd-tiny", **settings)
    expected = [alone.features([window], KEYS)[0] for window in windows]
    backbone = load_backbone("svd-tiny", **settings)
    backbone._pairs.size = batch
    backbone._encode_padding = False  # beside other images flat ones differ on a CPU
    alone._encode_padding = False
    expected = [alone.features([window], KEYS)[0] for window in windows]
    found = backbone.features(windows, KEYS)
    assert [len(next(iter(features.values()))) for features in found] == [4, 4, 1]
    for ours, theirs in zip(found, expected, strict=True):
        for key in KEYS:
            assert (ours[key] - theirs[key]).abs().max() < 1e-4 * theirs[key].abs().max(), key


def test_out_of_memory_in_the_network_halves_the_batch_and_changes_no_number(windows, monkeypatch):
    settings = {"size_hw": (64, 64), "window": 4, "device": "cpu"}
    backbone = load_backbone("svd-tiny", **settings)
    expected = backbone.features(windows, KEYS)
    backbone._pairs.size = 6
    walk = backbone._walk

    def small(pairs, layers):
        if len(pairs) > 2:
            raise torch.OutOfMemoryError("a fake of CUDA out of memory")
        return walk(pairs, layers)

    monkeypatch.setattr(backbone, "_walk", small)
    found = backbone.features(windows, KEYS)
    # After 6 and 3 did not fit, 1 does; and the size stays.
    assert backbone._pairs.size == 1
    for ours, theirs in zip(found, expected, strict=True):
        assert all((ours[key] - theirs[key]).abs().max() <= 1e-4 * theirs[key].abs().max() for key in KEYS)


@pytest.mark.parametrize("batch", [1, 2, 3, 7, 100])
@pytest.mark.parametrize("workers", [0, 1, 3])
def test_any_batch_and_any_number_of_workers_give_the_same_store(clips, tmp_path, batch, workers):
    """Videos of one to three windows, one of them damaged, share batches; rows end up with their own video."""
    (tmp_path / "clips" / "2.mp4").write_text("no video")
    extract(clips, tmp_path / "plain.zarr", FakeBackbone(window=7), KEYS, workers=0)
    backbone = FakeBackbone(window=7)
    backbone.batch = batch
    report = extract(clips, tmp_path / "batched.zarr", backbone, KEYS, workers=workers)
    assert [failure.video_id for failure in report.failed] == ["v2"]
    plain, batched = FeatureStore(tmp_path / "plain.zarr"), FeatureStore(tmp_path / "batched.zarr")
    assert batched.video_ids == plain.video_ids
    for video_id in plain.video_ids:
        for key in KEYS:
            ours = batched.read(video_id, layer=key.layer, timestep=key.timestep)
            assert np.array_equal(ours, plain.read(video_id, layer=key.layer, timestep=key.timestep))
        assert np.array_equal(batched.frame_index(video_id), plain.frame_index(video_id))


def test_videos_that_lack_different_features_do_not_share_a_batch(clips, tmp_path):
    extract(Manifest(clips.videos[:3], clips.root), tmp_path / "s.zarr", FakeBackbone(), KEYS[:2])
    backbone = FakeBackbone()
    backbone.batch = 100
    extract(clips, tmp_path / "s.zarr", backbone, KEYS)
    extract(clips, tmp_path / "whole.zarr", FakeBackbone(), KEYS)
    store, whole = FeatureStore(tmp_path / "s.zarr"), FeatureStore(tmp_path / "whole.zarr")
    for video_id in whole.video_ids:
        for key in KEYS:
            ours = store.read(video_id, layer=key.layer, timestep=key.timestep)
            assert np.array_equal(ours, whole.read(video_id, layer=key.layer, timestep=key.timestep))


def test_decoder_layers_are_loaded_when_asked_for_and_need_a_store_of_their_own(clips, tmp_path, actiondiff):
    one = Manifest(clips.videos[:1], clips.root)
    one.write(tmp_path / "manifest.csv")
    asked = ["extract", "--backbone", "svd-tiny", "--size", "64x64", "--window", "2", "--device", "cpu", "--t", "20"]
    assert actiondiff(*asked, "--layer", "9,14-25", cwd=tmp_path).exit_code == 0
    store = FeatureStore(tmp_path / "features.zarr")
    widths = [store.read("v0", layer=layer, timestep=20).shape[1] for layer in range(14, 26)]
    assert widths == [64] * 3 + [32] * 9
    # The store says that its features came with a decoder, so a later run loads it again, whatever it asks for.
    assert actiondiff(*asked, "--layer", "13").exit_code == 0
    result = actiondiff(*asked, "--layer", "9", "--store", "plain.zarr")
    assert result.exit_code == 0
    result = actiondiff(*asked, "--layer", "14", "--store", "plain.zarr")
    assert (result.exit_code, "decoder_sha256" in result.stderr) == (2, True)
    plain = FeatureStore(tmp_path / "plain.zarr")
    assert np.array_equal(
        plain.read("v0", layer=9, timestep=20), FeatureStore(store.path).read("v0", layer=9, timestep=20)
    )
    result = actiondiff(*asked, "--layer", "26", "--store", "other.zarr")
    assert "Layer 26 does not exist. svd-tiny has layers 1 to 13; 9 is the usual one. 14 to 25" in result.stderr


def test_recipes_of_stores_made_before_a_field_came_stay_the_same():
    from actiondiff.extract.recipe import ADDED, Recipe

    document = Recipe("svd-tiny", "0" * 64, (64, 64)).to_json()
    assert not set(ADDED) & document.keys()
    assert Recipe.from_json(document) == Recipe("svd-tiny", "0" * 64, (64, 64))
    assert Recipe("svd-tiny", "0" * 64, (64, 64), vae_precision="bfloat16").to_json()["vae_precision"] == "bfloat16"
