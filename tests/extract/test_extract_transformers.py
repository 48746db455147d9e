"""VideoMAE and V-JEPA 2 against the untouched classes of transformers; their own preprocessing; their weights."""

import json
import shutil

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import (
    VideoMAEConfig,
    VideoMAEForPreTraining,
    VideoMAEForVideoClassification,
    VideoMAEModel,
    VideoMAEVideoProcessor,
    VJEPA2Config,
    VJEPA2ForVideoClassification,
    VJEPA2Model,
    VJEPA2VideoProcessor,
)

from actiondiff import InputError
from actiondiff.extract import WeightsError, WeightsNotFound, Window, feature_keys, load_backbone, load_recipe
from actiondiff.extract.images import resize_frames
from actiondiff.store import FeatureKey, FeatureStore

MAE = {"image_size": 64, "num_frames": 16, "hidden_size": 24, "num_hidden_layers": 3, "num_attention_heads": 2,
       "intermediate_size": 48, "decoder_hidden_size": 16, "decoder_num_hidden_layers": 1,
       "decoder_intermediate_size": 16, "decoder_num_attention_heads": 2,
       "initializer_range": 0.3, "use_mean_pooling": False}  # fmt: skip
JEPA = {"crop_size": 64, "frames_per_clip": 16, "hidden_size": 36, "num_hidden_layers": 3, "num_attention_heads": 2,
        "mlp_ratio": 2.0, "pred_hidden_size": 12, "pred_num_attention_heads": 2, "pred_num_hidden_layers": 1,
        "num_pooler_layers": 1, "initializer_range": 0.3}  # fmt: skip
MEAN, DEVIATION = torch.tensor([0.485, 0.456, 0.406]), torch.tensor([0.229, 0.224, 0.225])
ALL = [FeatureKey(layer, 0) for layer in (1, 2, 3)]
SMALL = {"size_hw": (64, 64), "device": "cpu"}


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    """A tiny model of each class, with biases that are not zero, and its folder."""
    torch.manual_seed(0)
    made = {"videomae": VideoMAEModel(VideoMAEConfig(**MAE)), "vjepa2": VJEPA2Model(VJEPA2Config(**JEPA))}
    folders = {}
    for name, model in made.items():
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.add_(0.02 * torch.randn_like(parameter))
        folders[name] = tmp_path_factory.mktemp(name)
        model.eval().save_pretrained(folders[name])
    return made, folders


def window_of(frames=16, real=None, seed=0, size=64):
    pixels = torch.rand(frames, 3, size, size, generator=torch.Generator().manual_seed(seed)) * 2 - 1
    real = real or frames
    return Window(pixels, np.arange(real), np.zeros(real))


@torch.no_grad()
def untouched(model, pixels):
    """Tokens after each block, averaged over space, a row for each tubelet: what the public forward says."""
    frames = (((pixels + 1) / 2 - MEAN[:, None, None]) / DEVIATION[:, None, None])[None]
    kind = {"skip_predictor": True} if isinstance(model, VJEPA2Model) else {}
    hidden = model(frames, output_hidden_states=True, **kind).hidden_states
    return [state[0].unflatten(0, (len(pixels) // 2, 16)).mean(dim=1) for state in hidden]


@pytest.mark.parametrize("name", ["videomae", "vjepa2"])
def test_layers_are_the_blocks_of_the_untouched_model(name, models):
    model, folder = models[0][name], models[1][name]
    backbone = load_backbone(name, weights=folder, **SMALL)
    assert dict(backbone.layer_channels) == dict.fromkeys((1, 2, 3), model.config.hidden_size)
    window = window_of()
    features = backbone.features([window], ALL)[0]
    hidden = untouched(model, window.pixels)
    for layer in (1, 2, 3):
        rows = features[FeatureKey(layer, 0)]
        assert torch.allclose(rows[0::2], hidden[layer], atol=1e-5), "layer n is what block n gives"
        assert torch.equal(rows[0::2], rows[1::2]), "both frames of a tubelet have its value"
        assert not torch.allclose(rows[0::2], hidden[layer - 1], atol=1e-2)


@pytest.mark.parametrize("name", ["videomae", "vjepa2"])
def test_windows_together_and_alone_give_the_same(name, models):
    backbone = load_backbone(name, weights=models[1][name], **SMALL)
    windows = [window_of(seed=1), window_of(seed=2, real=5), window_of(seed=3, real=1)]
    together = backbone.features(windows, ALL)
    for window, features in zip(windows, together, strict=True):
        alone = backbone.features([window], ALL)[0]
        for key in ALL:
            assert features[key].shape == (window.real_frames, backbone.layer_channels[key.layer])
            assert torch.allclose(features[key], alone[key], atol=1e-5)


@pytest.mark.parametrize("name", ["videomae", "vjepa2"])
@pytest.mark.parametrize("window", [1, 2, 5, 16])
def test_a_window_of_any_length_is_filled_up_to_whole_tubelets(name, window, models):
    seen = window_of(window)
    repeat = load_backbone(name, weights=models[1][name], window=window, **SMALL).features([seen], ALL)[0]
    whole = window + window % 2
    filled = torch.cat([seen.pixels, seen.pixels[-1:]]) if window % 2 else seen.pixels
    if name == "videomae":
        model = VideoMAEModel(VideoMAEConfig(**(MAE | {"num_frames": whole})))
        model.load_state_dict(models[0][name].state_dict())
    else:
        model = models[0][name]
    assert torch.allclose(repeat[ALL[2]][0::2], untouched(model.eval(), filled)[3], atol=1e-5)
    black = load_backbone(name, weights=models[1][name], window=window, pad="black", **SMALL).features([seen], ALL)[0]
    assert torch.allclose(black[ALL[2]], repeat[ALL[2]], atol=1e-5) == (window % 2 == 0)


@pytest.mark.parametrize("name", ["videomae", "vjepa2"])
def test_the_walk_stops_behind_the_deepest_layer_and_a_grid_holds_the_mean(name, models):
    backbone = load_backbone(name, weights=models[1][name], pool="2x4", **SMALL)
    touched = []
    layers = [m for m in backbone._network.module.modules() if type(m).__name__ in ("VideoMAELayer", "VJEPA2Layer")]
    hooks = [m.register_forward_hook(lambda *_, index=index: touched.append(index)) for index, m in enumerate(layers)]
    grid = backbone.features([window_of()], ALL[:2])[0][ALL[1]]
    for hook in hooks:
        hook.remove()
    assert touched == [0, 1]
    assert grid.shape == (16, backbone.layer_channels[2])
    mean = load_backbone(name, weights=models[1][name], **SMALL).features([window_of()], ALL)[0][ALL[1]]
    assert torch.allclose(grid.unflatten(1, (-1, 8)).mean(dim=2), mean, atol=1e-5)


def test_only_the_encoder_is_loaded_whatever_is_around_it(models, tmp_path):
    """Pre-training and classification files hold the same encoder under a prefix: same features, same hash."""
    window = window_of()
    classes = {
        "videomae": (VideoMAEForPreTraining, VideoMAEForVideoClassification),
        "vjepa2": (VJEPA2ForVideoClassification,),
    }
    for name, others in classes.items():
        plain = load_backbone(name, weights=models[1][name], **SMALL)
        for kind in others:
            whole = kind(models[0][name].config)
            getattr(whole, name).load_state_dict(models[0][name].state_dict())
            whole.save_pretrained(tmp_path / kind.__name__)
            backbone = load_backbone(name, weights=tmp_path / kind.__name__, **SMALL)
            assert backbone.recipe == plain.recipe
            assert torch.equal(backbone.features([window], ALL)[0][ALL[2]], plain.features([window], ALL)[0][ALL[2]])
            parameters = sum(p.numel() for p in backbone._network.module.parameters())
            assert parameters < sum(p.numel() for p in getattr(whole, name).parameters())


def as_published(folder, to, rename):
    shutil.copytree(folder, to)
    save_file(rename(load_file(folder / "model.safetensors")), to / "model.safetensors")
    return to


def test_query_and_value_biases_are_read_beside_the_projections_and_inside_them(models, tmp_path):
    """Published VideoMAE files have them beside; read without care they would be zero."""
    beside = models[1]["videomae"]
    assert "encoder.layer.1.attention.attention.q_bias" in load_file(beside / "model.safetensors")

    def inside(tensors):
        return {
            "videomae." + n.replace("q_bias", "query.bias").replace("v_bias", "value.bias"): t
            for n, t in tensors.items()
        }

    inside = as_published(beside, tmp_path / "inside", inside)
    backbones = [load_backbone("videomae", weights=folder, **SMALL) for folder in (beside, inside)]
    assert backbones[0].recipe.weights_sha256 == backbones[1].recipe.weights_sha256
    for backbone in backbones:
        loaded = backbone._network.module.encoder.layer[1].attention.attention.query.bias
        assert torch.equal(loaded, models[0]["videomae"].encoder.layer[1].attention.attention.query.bias)
        assert loaded.abs().max() > 0


def v2_names(tensors):
    """The names of the V2 release, by hand and the other way round than the package does it."""
    out = {}
    for prefix in ("encoder.layer.0", "encoder.layer.1", "encoder.layer.2"):
        block = prefix.replace("encoder.layer", "model.blocks")
        inner = f"{prefix}.attention.attention"
        out[f"{block}.attn.qkv.weight"] = torch.cat([tensors[f"{inner}.{n}.weight"] for n in ("query", "key", "value")])
        out[f"{block}.attn.q_bias"] = tensors[f"{inner}.q_bias"]
        out[f"{block}.attn.v_bias"] = tensors[f"{inner}.v_bias"]
        pairs = {
            "attn.proj": "attention.output.dense",
            "norm1": "layernorm_before",
            "norm2": "layernorm_after",
            "mlp.fc1": "intermediate.dense",
            "mlp.fc2": "output.dense",
        }
        for theirs, ours in pairs.items():
            for kind in ("weight", "bias"):
                out[f"{block}.{theirs}.{kind}"] = tensors[f"{prefix}.{ours}.{kind}"]
    for kind in ("weight", "bias"):
        out[f"model.patch_embed.proj.{kind}"] = tensors[f"embeddings.patch_embeddings.projection.{kind}"]
        out[f"model.fc_norm.{kind}"] = torch.ones(24)
    return {name: tensor.contiguous() for name, tensor in out.items()}


def v2_folder(folder, to, **changes):
    as_published(folder, to, v2_names)
    own = {"img_size": 64, "patch_size": 16, "embed_dim": 24, "depth": 3, "num_heads": 2, "mlp_ratio": 2,
           "layer_norm_eps": 1e-12, "tubelet_size": 2, "cos_attn": False, "init_values": 0.0}  # fmt: skip
    (to / "config.json").write_text(json.dumps({"model_type": "VideoMAEv2_Base", "model_config": own | changes}))
    return to


def test_v2_weights_under_their_own_names_give_the_same_network(models, tmp_path):
    folder = v2_folder(models[1]["videomae"], tmp_path / "v2")
    v2, v1 = (load_backbone("videomae", weights=f, **SMALL) for f in (folder, models[1]["videomae"]))
    assert v2.recipe.weights_sha256 == v1.recipe.weights_sha256
    assert torch.equal(v2.features([window_of()], ALL)[0][ALL[2]], v1.features([window_of()], ALL)[0][ALL[2]])
    with pytest.raises(WeightsError, match="cosine attention"):
        load_backbone("videomae", weights=v2_folder(models[1]["videomae"], tmp_path / "cos", cos_attn=True), **SMALL)


def test_what_shapes_do_not_tell_is_part_of_the_hash(models, tmp_path):
    hashes = {load_backbone("videomae", weights=models[1]["videomae"], **SMALL).recipe.weights_sha256}
    config = json.loads((models[1]["videomae"] / "config.json").read_text())
    for change in ({"num_attention_heads": 4}, {"layer_norm_eps": 1e-3}):
        folder = shutil.copytree(models[1]["videomae"], tmp_path / next(iter(change)))
        (folder / "config.json").write_text(json.dumps(config | change))
        hashes.add(load_backbone("videomae", weights=folder, **SMALL).recipe.weights_sha256)
    folder = shutil.copytree(models[1]["videomae"], tmp_path / "grey")
    (folder / "preprocessor_config.json").write_text(json.dumps({"image_mean": [0.5] * 3, "image_std": [0.5] * 3}))
    grey = load_backbone("videomae", weights=folder, **SMALL)
    hashes.add(grey.recipe.weights_sha256)
    assert len(hashes) == 4
    assert torch.allclose(grey._prepare(window_of().pixels[None])[0], window_of().pixels, atol=1e-6)


def test_weights_of_something_else_are_refused_with_a_list(models, tmp_path):
    with pytest.raises(WeightsError, match=r"is a 'vjepa2' by its config\.json, not VideoMAE"):
        load_backbone("videomae", weights=models[1]["vjepa2"], **SMALL)
    with pytest.raises(WeightsError, match="not V-JEPA 2"):
        load_backbone("vjepa2", weights=models[1]["videomae"], **SMALL)

    def broken(tensors):
        kept = {name: tensor for name, tensor in tensors.items() if "intermediate" not in name}
        return kept | {"encoder.layer.0.gamma": torch.ones(24)}

    folder = as_published(models[1]["videomae"], tmp_path / "broken", broken)
    with pytest.raises(WeightsError) as caught:
        load_backbone("videomae", weights=folder, **SMALL)
    lines = str(caught.value).splitlines()
    assert "  6 missing:" in lines
    assert (
        "    encoder.layer.0.intermediate.dense.weight and 2 like it (encoder.layer.#.intermediate.dense.weight)"
        in lines
    )
    assert "  1 unexpected:" in lines
    assert "    encoder.layer.0.gamma" in lines


def test_shards_and_single_files_are_read_and_pickles_are_not(models, tmp_path):
    plain = load_backbone("vjepa2", weights=models[1]["vjepa2"], **SMALL).recipe
    models[0]["vjepa2"].save_pretrained(tmp_path / "shards", max_shard_size="20KB")
    shards = sorted((tmp_path / "shards").glob("model-*.safetensors"))
    assert len(shards) > 2
    assert load_backbone("vjepa2", weights=tmp_path / "shards", **SMALL).recipe == plain
    assert load_backbone("vjepa2", weights=models[1]["vjepa2"] / "model.safetensors", **SMALL).recipe == plain
    shards[1].unlink()
    with pytest.raises(WeightsNotFound, match="not one whole set"):
        load_backbone("vjepa2", weights=tmp_path / "shards", **SMALL)
    for path in (tmp_path / "shards").glob("*.safetensors"):
        path.rename(path.with_suffix(".bin"))
    with pytest.raises(WeightsNotFound, match="never read"):
        load_backbone("vjepa2", weights=tmp_path / "shards", **SMALL)
    (tmp_path / "model.pt").write_bytes(b"")
    with pytest.raises(WeightsError, match="never a pickle"):
        load_backbone("vjepa2", weights=tmp_path / "model.pt", **SMALL)


@pytest.mark.parametrize("shape", [(240, 320), (300, 260), (123, 457), (64, 64)])
@pytest.mark.parametrize(
    ("how", "size", "processor"), [("crop", 224, VideoMAEVideoProcessor), ("margin-crop", 256, VJEPA2VideoProcessor)]
)
def test_frames_are_resized_as_the_models_own_preprocessing_does(shape, how, size, processor):
    rng = np.random.default_rng(0)
    coarse = torch.from_numpy(rng.integers(0, 256, (1, 3, 8, 8))).float()
    frames = torch.nn.functional.interpolate(coarse, size=shape, mode="bicubic").clamp(0, 255).round().to(torch.uint8)
    theirs = next(iter(processor(do_normalize=False)(videos=[frames], return_tensors="pt").values()))[0]
    ours = (resize_frames(frames.permute(0, 2, 3, 1), (size, size), how) + 1) / 2
    assert ours.shape == theirs.shape
    assert (ours - theirs).abs().max() <= 1.01 / 255, "they round to whole grey levels in between"


def test_options_that_make_no_sense_are_refused(models):
    weights = models[1]["vjepa2"]
    with pytest.raises(InputError, match="--size 256x256"):
        load_backbone("vjepa2", weights=weights, size_hw=(64, 96), device="cpu")
    with pytest.raises(InputError, match="multiple of that; got 72x72"):
        load_backbone("vjepa2", weights=weights, size_hw=(72, 72), device="cpu")
    with pytest.raises(InputError, match="no noise levels"):
        load_backbone("vjepa2", weights=weights, noise="seeded", **SMALL)
    with pytest.raises(InputError, match="videomae has one timestep, 0"):
        feature_keys("videomae", "1", "1")
    assert feature_keys("vjepa2", None, None) == [FeatureKey(24, 0)]


def test_a_window_that_overflows_half_precision_is_done_again_in_float32_alone(models):
    backbone = load_backbone("videomae", weights=models[1]["videomae"], precision="float16", **SMALL)
    good, bad = window_of(seed=1), window_of(seed=2)
    exact = load_backbone("videomae", weights=models[1]["videomae"], **SMALL).features([good, bad], ALL)
    half = backbone.features([good], ALL)[0][ALL[2]]
    once = backbone._features
    backbone._features = lambda windows, keys: [
        {key: rows * (torch.inf if window is bad and backbone._precision == torch.float16 else 1)
         for key, rows in features.items()}
        for window, features in zip(windows, once(windows, keys), strict=True)
    ]  # fmt: skip
    again = backbone.features([good, bad], ALL)
    assert torch.allclose(again[0][ALL[2]], half, atol=1e-2), "the good window stays as it was"
    assert torch.allclose(again[1][ALL[2]], exact[1][ALL[2]], atol=2e-2)
    assert next(backbone._network.module.parameters()).dtype == torch.float16


def test_the_command_writes_every_block_of_a_folder_and_the_run_can_be_made_again(models, clips, tmp_path, actiondiff):
    clips.write(tmp_path / "manifest.csv")
    asked = ["--backbone", "vjepa2", "--weights", models[1]["vjepa2"], "--layer", "all", "--size", "64x64"]
    result = actiondiff("extract", *asked, "--device", "cpu", "--json", cwd=tmp_path)
    assert result.exit_code == 0, result.stderr
    store = FeatureStore(tmp_path / "features.zarr")
    assert store.keys() == tuple(ALL)
    assert store.read("v5", layer=3, timestep=0).shape == (18, 36), "70 frames, every 4th, padded frames dropped"
    recipe = json.loads(result.stdout)["recipe"]
    assert (recipe["resize"], recipe["pad"], recipe["window"]) == ("margin-crop", "repeat", 16)
    assert load_recipe(recipe, weights=models[1]["vjepa2"], device="cpu").recipe.to_json() == recipe
    refused = actiondiff("extract", *asked[:-4], "--layer", "4", "--size", "64x64", cwd=tmp_path)
    assert refused.exit_code == 2
    assert "Layer 4 does not exist. vjepa2 has layers 1 to 3; 3 is the usual one." in refused.stderr
