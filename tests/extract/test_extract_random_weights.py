"""Random weights: the whole architecture, the same for the same seed, alive in every layer."""

import json

import numpy as np
import pytest
import torch
from diffusers import UNetSpatioTemporalConditionModel
from transformers import VideoMAEConfig, VJEPA2Config

from actiondiff import InputError
from actiondiff.extract import BACKBONES, Recipe, Window, load_backbone, load_recipe
from actiondiff.extract.backbone import TINY_WEIGHTS
from actiondiff.extract.random_weights import random_tensors
from actiondiff.extract.videomae import VIDEOMAE_CONFIG
from actiondiff.extract.vjepa2 import VJEPA2_CONFIG
from actiondiff.extract.weights import RandomSource, load_svd
from actiondiff.store import FeatureKey, FeatureStore

TINY = {"window": 6, "size_hw": (64, 64), "device": "cpu"}


@pytest.fixture(scope="module")
def small_configs(tmp_path_factory):
    """Configurations with the published depth and little width."""
    folders = dict.fromkeys(("svd-xt", "sdv2"), TINY_WEIGHTS)
    for name, config in (("videomae", VIDEOMAE_CONFIG), ("vjepa2", VJEPA2_CONFIG)):
        narrow = {"hidden_size": 48, "num_attention_heads": 4, "intermediate_size": 96}
        folders[name] = tmp_path_factory.mktemp(name)
        (folders[name] / "config.json").write_text(json.dumps(dict(config) | narrow))
    return folders


def drawn(name, seed, folder, **settings):
    return load_backbone(name, random_weights=seed, weights_config=folder, **(TINY | settings))


def windows():
    coarse = torch.rand(12, 3, 4, 4, generator=torch.Generator().manual_seed(0)) * 2 - 1
    pixels = torch.nn.functional.interpolate(coarse, size=(64, 64), mode="bicubic").clamp(-1, 1)
    return [Window(pixels[start : start + 6], np.arange(6), np.zeros(6)) for start in (0, 6)]


@pytest.mark.parametrize("name", ["svd-xt", "sdv2", "videomae", "vjepa2"])
def test_every_network_can_be_drawn_and_lives_in_every_layer(name, small_configs):
    backbone = drawn(name, 7, small_configs[name])
    steps = (0, 29) if BACKBONES[name].family == "svd" else (0,)
    keys = [FeatureKey(layer, step) for layer in backbone.layer_channels for step in steps]
    one, other = backbone.features(windows(), keys)
    for key in keys:
        assert 0.02 < one[key].std() < 20, key
        if key.timestep == steps[-1]:  # at t 0 the U-Net sees next to nothing but the middle frame
            assert one[key].std(dim=0).mean() > 1e-3, "frames differ"
        assert (one[key] - other[key]).abs().mean() > 0.01, "windows differ"
    assert "seed 7" in backbone.notice
    assert "control" in backbone.notice


@pytest.mark.parametrize("name", ["svd-xt", "vjepa2"])
def test_the_seed_alone_decides_and_the_recipe_knows_it(name, small_configs):
    first, again, other = (drawn(name, seed, small_configs[name]) for seed in (1, 1, 2))
    assert first.recipe == again.recipe
    assert first.recipe.weights_sha256 != other.recipe.weights_sha256
    assert (
        drawn(name, 1, small_configs[name], precision="bfloat16").recipe.weights_sha256 == first.recipe.weights_sha256
    )
    key = FeatureKey(3, 0)
    assert torch.equal(first.features(windows(), [key])[0][key], again.features(windows(), [key])[0][key])


def test_values_do_not_depend_on_the_global_generator_or_on_what_is_loaded_beside():
    """The U-Net is the same whether the image encoder and the up blocks are there or not."""
    torch.manual_seed(5)
    cpu, half = torch.device("cpu"), torch.float32
    alone, beside = (
        load_svd(RandomSource(3, TINY_WEIGHTS), precision=half, device=cpu, image_encoder=pictures)
        for pictures in (False, True)
    )
    for name, tensor in alone.unet.state_dict().items():
        assert torch.equal(tensor, beside.unet.state_dict()[name]), name
    whole = UNetSpatioTemporalConditionModel.from_config(
        UNetSpatioTemporalConditionModel.load_config(TINY_WEIGHTS / "unet")
    )
    everything = random_tensors(whole, 3, "unet")
    assert all(torch.equal(everything[name], tensor) for name, tensor in alone.unet.state_dict().items())
    assert len(everything) > len(alone.unet.state_dict())


def test_values_are_pinned_so_that_a_seed_means_the_same_tomorrow():
    linear = torch.nn.Linear(4, 2)
    tensors = random_tensors(linear, 0, "part")
    assert torch.equal(tensors["bias"], torch.zeros(2))
    assert torch.allclose(tensors["weight"][0], torch.tensor(PINNED), atol=1e-6)
    wide = random_tensors(torch.nn.Conv2d(64, 128, 3), 0, "part")["weight"]
    assert wide.std() == pytest.approx((64 * 9) ** -0.5, rel=0.02)
    assert torch.equal(random_tensors(torch.nn.LayerNorm(3), 0, "part")["weight"], torch.ones(3))


PINNED = [0.996572, -0.275196, 0.268259, 0.433618]


def test_the_built_in_configurations_are_those_of_the_published_weights():
    """They are also the defaults of transformers' classes, which were written for the published weights."""
    for built_in, theirs in ((VIDEOMAE_CONFIG, VideoMAEConfig()), (VJEPA2_CONFIG, VJEPA2Config())):
        for name, value in built_in.items():
            assert (
                getattr(theirs, "qv_bias" if (name, theirs.model_type) == ("qkv_bias", "videomae") else name) == value
            )
    assert BACKBONES["videomae"].layers == VIDEOMAE_CONFIG["num_hidden_layers"]
    assert BACKBONES["vjepa2"].layers == VJEPA2_CONFIG["num_hidden_layers"]


def test_a_recipe_of_random_weights_runs_again_without_being_told_the_seed():
    recipe = load_backbone("svd-tiny", random_weights=4, size_hw=(64, 64), device="cpu").recipe
    assert Recipe.from_json(json.loads(json.dumps(recipe.to_json()))) == recipe
    again = load_recipe(recipe.to_json(), device="cpu")
    assert again.recipe == recipe
    assert "seed 4" in again.notice


def test_seeds_that_make_no_sense_are_refused():
    with pytest.raises(InputError, match="frame-diff has no network"):
        load_backbone("frame-diff", random_weights=0)
    with pytest.raises(InputError, match="not both"):
        load_backbone("svd-xt", random_weights=0, weights=TINY_WEIGHTS, device="cpu")
    with pytest.raises(InputError, match="0 or more"):
        load_backbone("svd-xt", random_weights=-1, device="cpu")


def test_the_command_says_what_such_numbers_mean_and_never_asks_the_hub(
    small_configs, clips, tmp_path, actiondiff, monkeypatch
):
    import huggingface_hub

    def network(*_, **__):
        raise AssertionError("random weights need no hub")

    monkeypatch.setattr(huggingface_hub, "snapshot_download", network)
    clips.write(tmp_path / "manifest.csv")
    asked = ["--backbone", "videomae", "--random-weights", 5, "--weights-config", small_configs["videomae"]]
    result = actiondiff("extract", *asked, "--size", "64x64", "--device", "cpu", "--json", cwd=tmp_path)
    assert result.exit_code == 0, result.stderr
    said = json.loads(result.stdout)
    assert "random weights (seed 5)" in said["notice"]
    assert said["recipe"]["random_weights"] == 5
    store = FeatureStore(tmp_path / "features.zarr")
    assert store.keys() == (FeatureKey(12, 0),), "the last block is the usual one"
    assert store.read("v0", layer=12, timestep=0).shape == (2, 48)
