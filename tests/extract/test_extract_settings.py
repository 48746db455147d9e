"""Recipes, requests, backbones and weights: what is asked for is checked before anything runs."""

import json
import re
import shutil
from itertools import product
from pathlib import Path

import pytest
import torch
from fakes import GOLDEN
from hypothesis import given
from hypothesis import strategies as st

import actiondiff.extract as actiondiff_extract
from actiondiff import InputError
from actiondiff.extract import (
    BACKBONES,
    Recipe,
    WeightsError,
    WeightsNotFound,
    examine,
    feature_keys,
    load_backbone,
    load_recipe,
    parse_size,
)
from actiondiff.extract.backbone import TINY_WEIGHTS
from actiondiff.extract.request import parse_numbers
from actiondiff.store import FeatureKey, spell_keys, spell_numbers


@pytest.mark.parametrize(
    ("text", "numbers"),
    [
        ("9", (9,)),
        ("3,6,9", (3, 6, 9)),
        ("1-13", tuple(range(1, 14))),
        ("all", tuple(range(1, 14))),
        ("9, 3-4", (3, 4, 9)),
    ],
)
def test_numbers_are_read_as_people_write_them(text, numbers):
    assert parse_numbers(text, range(1, 14), "") == numbers


@given(st.sets(st.integers(1, 13), min_size=1))
def test_spelled_numbers_read_back_as_the_same_numbers(numbers):
    assert set(parse_numbers(spell_numbers(numbers), range(1, 14), "")) == numbers


@given(st.sets(st.builds(FeatureKey, st.integers(1, 14), st.integers(0, 29)), min_size=1))
def test_spelled_layers_and_timesteps_read_back_as_the_same_keys(keys):
    told = re.findall(r"layer (.*?), t (.*?)(?:; |$)", spell_keys(keys))
    read = [[parse_numbers(text, range(30), "") for text in pair] for pair in told]
    assert {FeatureKey(*pair) for layers, timesteps in read for pair in product(layers, timesteps)} == keys
    assert len(told) == len({frozenset(key.timestep for key in keys if key.layer == one.layer) for one in keys})


@pytest.mark.parametrize(
    ("layers", "timesteps", "message"),
    [
        ("99", "20", "Layer 99 does not exist. svd-xt has layers 1 to 13; 9 is the usual one."),
        ("9", "30", "Timestep 30 does not exist. svd-xt has timesteps 0 to 29; 20 is the usual one."),
        ("nine", "20", "got 'nine'"),
        ("9-", "20", "got '9-'"),
        ("9-3", "20", "got '9-3'"),
    ],
)
def test_layers_and_timesteps_that_do_not_exist_are_told_with_those_that_do(layers, timesteps, message):
    with pytest.raises(InputError) as caught:
        feature_keys("svd-xt", layers, timesteps)
    assert message in str(caught.value)


def test_the_default_request_is_the_papers_layer_and_timestep():
    assert [(key.layer, key.timestep) for key in feature_keys("svd-xt", None, None)] == [(9, 20)]
    assert [(key.layer, key.timestep) for key in feature_keys("frame-diff", None, None)] == [(1, 0)]


def test_sizes_are_height_by_width():
    assert parse_size("576x1024") == (576, 1024)
    with pytest.raises(InputError, match="HEIGHTxWIDTH"):
        parse_size("1024")


@pytest.mark.parametrize(
    "setting",
    [
        {"stride": 0},
        {"window": 0},
        {"size_hw": (8, 64)},
        {"condition": "first"},
        {"precision": "int8"},
        {"steps": 1},
        {"pool": "0x4"},
        {"fps": 0.0},
        {"pad": "white"},
    ],
)
def test_a_recipe_checks_itself(setting):
    with pytest.raises(InputError):
        Recipe("svd-tiny", "", **({"size_hw": (64, 64)} | setting))


def test_a_recipe_survives_json_and_refuses_what_it_does_not_know():
    recipe = Recipe("svd-tiny", "ab", (64, 96), stride=2)
    document = json.loads(json.dumps(recipe.to_json()))
    assert Recipe.from_json(document) == recipe
    with pytest.raises(InputError, match="shutter"):
        Recipe.from_json(document | {"shutter": 1})
    with pytest.raises(InputError, match="procedure"):
        Recipe.from_json(document | {"procedure": 99})


def test_every_backbone_of_the_contract_is_in_the_table():
    assert set(BACKBONES) >= {"svd-xt", "svd", "sdv2", "svd-tiny"}
    assert (BACKBONES["svd"].window, BACKBONES["svd"].steps) == (14, 25)
    with pytest.raises(InputError, match="svd-tiny"):
        load_backbone("resnet")


def test_weights_that_cannot_be_had_name_the_ways_out(monkeypatch):
    import huggingface_hub
    from huggingface_hub.errors import LocalEntryNotFoundError

    def offline(*_, **__):
        raise LocalEntryNotFoundError("no network")

    monkeypatch.setattr(huggingface_hub, "snapshot_download", offline)
    with pytest.raises(WeightsNotFound) as caught:
        load_backbone("svd-xt", device="cpu")
    assert "--weights" in str(caught.value)
    assert "svd-tiny" in str(caught.value)


def test_a_hub_download_asks_only_for_the_parts_in_use(monkeypatch):
    import fnmatch

    import huggingface_hub

    asked = {}

    def snapshot(_, allow_patterns, local_files_only):
        asked.update(allow=allow_patterns)
        return str(TINY_WEIGHTS)

    monkeypatch.setattr(huggingface_hub, "snapshot_download", snapshot)
    load_backbone("svd-xt", device="cpu", size_hw=(64, 64))

    def wanted(name):
        return any(fnmatch.fnmatch(name, p) for p in asked["allow"])

    assert wanted("unet/diffusion_pytorch_model.safetensors")
    assert wanted("vae/config.json")
    assert wanted("image_encoder/model.safetensors")
    for name in ("svd_xt.safetensors", "unet/diffusion_pytorch_model.fp16.safetensors", "unet/model.bin"):
        assert not wanted(name), name


@pytest.fixture
def weights(tmp_path):
    return shutil.copytree(TINY_WEIGHTS, tmp_path / "weights")


def test_a_weights_folder_that_is_none_is_refused(tmp_path):
    with pytest.raises(WeightsNotFound, match="--weights takes"):
        load_backbone("svd-xt", weights=tmp_path / "nothing", device="cpu")
    with pytest.raises(WeightsNotFound, match=r"model_index\.json"):
        load_backbone("svd-xt", weights=tmp_path, device="cpu")


def test_pickled_weights_are_never_read(weights):
    path = weights / "unet" / "diffusion_pytorch_model.safetensors"
    path.rename(path.with_suffix(".bin"))
    with pytest.raises(WeightsNotFound, match="never read"):
        load_backbone("svd-xt", weights=weights, device="cpu")


def test_damaged_weights_are_refused(weights):
    path = weights / "vae" / "diffusion_pytorch_model.safetensors"
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(WeightsError, match="Fetch it again"):
        load_backbone("svd-xt", weights=weights, device="cpu")


def test_weights_of_another_architecture_are_refused(weights):
    config = json.loads((weights / "unet" / "config.json").read_text())
    (weights / "unet" / "config.json").write_text(json.dumps(config | {"layers_per_block": 3}))
    with pytest.raises(WeightsError, match="missing"):
        load_backbone("svd-xt", weights=weights, device="cpu")


def test_the_same_tensors_have_the_same_hash_wherever_they_lie(weights):
    here, there = (load_backbone(n, weights=weights, device="cpu").recipe.weights_sha256 for n in ("svd-xt", "sdv2"))
    assert here == there == load_backbone("svd-tiny", device="cpu").recipe.weights_sha256


def test_a_recipe_runs_again_only_with_its_own_weights():
    recipe = load_backbone("svd-tiny", size_hw=(64, 64), device="cpu").recipe
    assert load_recipe(recipe.to_json(), device="cpu").recipe == recipe
    with pytest.raises(WeightsError, match="same weights"):
        load_recipe(recipe.to_json() | {"weights_sha256": "0" * 64}, device="cpu")


def test_half_precision_leaves_the_vae_in_float32_and_gives_close_features():
    import numpy as np

    from actiondiff.extract import Window
    from actiondiff.store import FeatureKey

    window = Window(torch.rand(4, 3, 64, 96) * 2 - 1, np.arange(4), np.zeros(4))
    key = FeatureKey(9, 20)
    settings = {"window": 4, "size_hw": (64, 96), "device": "cpu"}
    exact = load_backbone("svd-tiny", **settings).features([window], [key])[0][key]
    half = load_backbone("svd-tiny", precision="bfloat16", **settings)
    assert next(half._modules.vae.parameters()).dtype == torch.float32
    close = half.features([window], [key])[0][key]
    assert (close - exact).abs().max() < 0.05 * exact.abs().max()


def test_a_device_that_is_not_there_is_refused():
    with pytest.raises(InputError, match="--device cpu"):
        load_backbone("svd-tiny", device="cuda:7" if not torch.cuda.is_available() else "xpu:7")


def test_the_doctor_finds_what_the_pipeline_needs():
    findings = {finding.subject: finding for finding in examine()}
    assert findings["torch"].good
    assert findings["diffusers"].good
    assert all(finding.text for finding in findings.values())
    assert {"weights of svd-xt, sdv2", "weights of svd", "weights of videomae", "weights of vjepa2"} <= findings.keys()
    assert "facebook/vjepa2-vitl-fpc64-256" in findings["weights of vjepa2"].text


def test_the_help_and_the_readmes_list_every_backbone(actiondiff):
    help_text = actiondiff("extract", "--help").stdout
    room = (Path(actiondiff_extract.__file__).parent / "README.md").read_text()
    for name, spec in BACKBONES.items():
        line = next(line for line in help_text.splitlines() if line.strip().startswith(f"{name} "))
        assert spec.summary.split(":")[0] in line
        assert (f"layers 1-{spec.layers}," if spec.layers > 1 else "layer 1,") in line
        row = next(line for line in room.splitlines() if line.startswith(f"| `{name}` |"))
        assert (spec.hub_id or "") in row
        assert f"| {spec.window} | {spec.size_hw[0]}x{spec.size_hw[1]} |" in row


def test_a_published_single_file_holds_the_same_tensors_as_the_folder():
    file = GOLDEN / "svd_xt_tiny.safetensors"
    loaded = load_backbone("svd-xt", weights=file, weights_config=TINY_WEIGHTS, device="cpu")
    assert loaded.recipe.weights_sha256 == load_backbone("svd-tiny", device="cpu").recipe.weights_sha256


def test_every_key_of_a_published_file_has_its_diffusers_name():
    """Also those of the denoising half, which features do not load."""
    from safetensors import safe_open

    from actiondiff.extract.single_file import read_part

    tensors = read_part(GOLDEN / "svd_xt_tiny.safetensors", "unet", ())
    with safe_open(TINY_WEIGHTS / "unet" / "diffusion_pytorch_model.safetensors", framework="pt") as folder:
        assert tensors.keys() == set(folder.keys())
        assert all(torch.equal(tensors[name], folder.get_tensor(name)) for name in tensors)


def test_a_single_file_without_configuration_implies_svds(tmp_path):
    from diffusers import AutoencoderKLTemporalDecoder, UNetSpatioTemporalConditionModel

    from actiondiff.extract.single_file import SVD_CONFIGS

    with pytest.raises(WeightsError, match="do not fit"):
        load_backbone("svd-xt", weights=GOLDEN / "svd_xt_tiny.safetensors", device="cpu")
    with torch.device("meta"):
        unet = UNetSpatioTemporalConditionModel.from_config(dict(SVD_CONFIGS["unet"]))
        vae = AutoencoderKLTemporalDecoder.from_config(dict(SVD_CONFIGS["vae"]))
    millions = {
        "unet": sum(p.numel() for p in unet.parameters()) / 1e6,
        "up": sum(p.numel() for p in unet.up_blocks.parameters()) / 1e6,
        "vae": sum(p.numel() for p in vae.parameters()) / 1e6,
    }
    assert millions == pytest.approx({"unet": 1524.6, "up": 854.8, "vae": 97.7}, abs=0.5)


@pytest.mark.parametrize("name", ["svd_xt.ckpt", "other.safetensors"])
def test_a_file_that_is_no_published_svd_file_is_refused(tmp_path, name):
    from safetensors.torch import save_file

    save_file({"weight": torch.zeros(2)}, tmp_path / name)
    with pytest.raises(WeightsError, match=r"never a pickle|no published SVD file"):
        load_backbone("svd-xt", weights=tmp_path / name, device="cpu")


def tiny_features(**settings):
    import numpy as np

    from actiondiff.extract import Window
    from actiondiff.store import FeatureKey

    name = settings.pop("name", "video#0")
    pixels = torch.rand(3, 3, 64, 96, generator=torch.Generator().manual_seed(0)) * 2 - 1
    backbone = load_backbone("svd-tiny", window=3, size_hw=(64, 96), device="cpu", **settings)
    key = FeatureKey(3, 10)
    features = backbone.features([Window(pixels, np.arange(3), np.zeros(3), name)], [key])[0][key]
    assert features.shape[1] == backbone.layer_channels[3]
    return features


def test_a_grid_of_means_holds_the_mean():
    grid = tiny_features(pool="2x3").unflatten(1, (-1, 2, 3))
    assert torch.allclose(grid.mean(dim=(-2, -1)), tiny_features(), atol=1e-5)
    assert grid.std(dim=(-2, -1)).max() > 0


def test_noise_depends_on_video_window_and_timestep_alone():
    noisy = tiny_features(noise="seeded")
    assert torch.equal(noisy, tiny_features(noise="seeded"))
    assert not torch.equal(noisy, tiny_features())
    assert not torch.equal(noisy, tiny_features(noise="seeded", name="video#1"))
    assert not torch.equal(noisy, tiny_features(noise="seeded", name="other#0"))


def test_a_window_that_overflows_half_precision_is_done_again_in_float32():
    import numpy as np

    from actiondiff.extract import Window
    from actiondiff.store import FeatureKey

    window = Window(torch.rand(2, 3, 64, 96) * 2 - 1, np.arange(2), np.zeros(2))
    key = FeatureKey(1, 20)
    found = {}
    for precision in ("float16", "float32"):
        backbone = load_backbone("svd-tiny", window=2, size_hw=(64, 96), device="cpu", precision=precision)
        backbone._modules.unet.conv_in.weight.data.mul_(2e5)
        with torch.inference_mode():
            once = backbone._features([window], [key])[0][key]
        found[precision] = backbone.features([window], [key])[0][key]
        assert once.isfinite().all() == (precision == "float32"), "only the first try in half precision overflows"
        assert next(backbone._modules.unet.parameters()).dtype == getattr(torch, precision), "as it was before"
    assert torch.allclose(
        found["float16"], found["float32"], rtol=5e-3, atol=float(found["float32"].abs().max()) * 5e-3
    )
