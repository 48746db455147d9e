"""Text conditioning: OpenCLIP's own embeddings of the label names are what the U-Net attends to."""

import dataclasses
import json
import shutil

import numpy as np
import open_clip
import pytest
import torch
from safetensors.torch import save_file

from actiondiff import InputError
from actiondiff.extract import Recipe, WeightsError, Window, load_backbone, load_recipe
from actiondiff.extract.backbone import TINY_WEIGHTS
from actiondiff.extract.text import CONFIG, TextWeights, embed_labels
from actiondiff.store import FeatureKey, FeatureStore

LABELS = ("brush_hair", "climb stairs", "wave")
TEXT = {"context_length": 77, "vocab_size": 49408, "width": 48, "heads": 2, "layers": 2}
KEY = FeatureKey(9, 20)


def a_tower(width, seed=0, **changes):
    torch.manual_seed(seed)
    pictures = {"layers": 1, "width": 64, "head_width": 64, "patch_size": 16, "image_size": 16}
    return open_clip.CLIP(width, pictures, TEXT | changes).eval()


def saved(model, folder, *, config=True, keep=lambda name: True, prefix=""):
    folder.mkdir()
    tensors = {prefix + name: tensor.contiguous() for name, tensor in model.state_dict().items() if keep(name)}
    save_file(tensors, folder / "open_clip_model.safetensors")
    if config:
        settings = {"model_cfg": {"embed_dim": model.text_projection.shape[1], "text_cfg": TEXT}}
        (folder / CONFIG).write_text(json.dumps(settings))
    return folder


@pytest.fixture(scope="module")
def tower(tmp_path_factory):
    model = a_tower(32)
    return model, saved(model, tmp_path_factory.mktemp("text") / "tower")


def oracle(model):
    with torch.no_grad():
        return model.encode_text(open_clip.tokenize(list(LABELS)))


def test_tokens_are_the_embeddings_that_open_clip_itself_gives(tower):
    model, folder = tower
    tokens, _ = embed_labels(TextWeights(folder), LABELS, 32, torch.device("cpu"))
    assert torch.equal(tokens, oracle(model))
    assert tokens.norm(dim=1).std() > 0, "projected, but not normalised"


def test_the_tower_alone_and_the_whole_model_are_the_same(tower, tmp_path):
    model, folder = tower
    _, sha256 = embed_labels(TextWeights(folder), LABELS, 32, torch.device("cpu"))
    alone = saved(model, tmp_path / "alone", keep=lambda name: not name.startswith(("visual", "logit")), prefix="text.")
    assert embed_labels(TextWeights(alone), LABELS, 32, torch.device("cpu"))[1] == sha256
    file = folder / "open_clip_model.safetensors"
    assert embed_labels(TextWeights(file), LABELS, 32, torch.device("cpu"))[1] == sha256
    other = saved(a_tower(32, seed=1), tmp_path / "other")
    assert embed_labels(TextWeights(other), LABELS, 32, torch.device("cpu"))[1] != sha256


def test_every_frame_attends_to_all_labels_and_keeps_the_middle_frames_image(tower):
    _, folder = tower
    settings = {"window": 4, "size_hw": (64, 96), "device": "cpu"}
    backbone = load_backbone("svd-tiny", condition="text", labels=LABELS, text_weights=folder, **settings)
    pixels = torch.rand(4, 3, 64, 96, generator=torch.Generator().manual_seed(0)) * 2 - 1
    window = Window(pixels, np.arange(4), np.zeros(4))
    with torch.inference_mode():
        [encoded] = backbone._encode_windows([window])
    assert torch.equal(encoded.embedding, oracle(tower[0])[None].expand(4, -1, -1))
    assert torch.equal(encoded.image_latents, encoded.latents[2:3].expand(4, -1, -1, -1))
    assert backbone._modules.image_encoder is None, "pictures are not embedded, so the image encoder is not loaded"

    features = backbone.features([window], [KEY])[0][KEY]
    middle = load_backbone("svd-tiny", **settings).features([window], [KEY])[0][KEY]
    other = load_backbone("svd-tiny", condition="text", labels=LABELS[:1], text_weights=folder, **settings)
    assert (features - middle).abs().max() > 1e-4, "the condition reaches the features"
    assert (features - other.features([window], [KEY])[0][KEY]).abs().max() > 1e-6, "and so do the labels"


def test_labels_and_tower_are_part_of_the_recipe_which_runs_again_only_with_them(tower, tmp_path):
    settings = {"condition": "text", "text_weights": tower[1], "size_hw": (64, 64), "device": "cpu"}
    recipe = load_backbone("svd-tiny", labels=LABELS, **settings).recipe
    document = json.loads(json.dumps(recipe.to_json()))
    assert Recipe.from_json(document) == recipe
    assert load_recipe(document, text_weights=tower[1], device="cpu").recipe == recipe
    other = saved(a_tower(32, seed=1), tmp_path / "other")
    with pytest.raises(WeightsError, match="Give the same weights with --text-weights"):
        load_recipe(document, text_weights=other, device="cpu")
    with pytest.raises(InputError, match="needs label names"):
        load_backbone("svd-tiny", **settings)


def test_a_tower_of_another_width_is_refused_before_it_is_read(tmp_path):
    folder = saved(a_tower(40), tmp_path / "wide")
    (folder / "open_clip_model.safetensors").write_bytes(b"")
    with pytest.raises(InputError, match=r"width 32; this text tower gives 40.*ViT-H-14 \(width 1024\)"):
        load_backbone("svd-tiny", condition="text", labels=LABELS, text_weights=folder, device="cpu")


def test_without_a_configuration_the_tower_is_that_of_vit_h_14(tower, tmp_path):
    assert TextWeights(None).config()["embed_dim"] == 1024
    folder = saved(tower[0], tmp_path / "bare", config=False)
    with pytest.raises(WeightsError, match="do not fit its configuration"):
        embed_labels(TextWeights(folder), LABELS, 1024, torch.device("cpu"))


def test_files_that_are_no_text_tower_are_refused(tower, tmp_path):
    half = saved(tower[0], tmp_path / "half", keep=lambda name: "resblocks.1" not in name)
    with pytest.raises(WeightsError, match="12 missing"):
        embed_labels(TextWeights(half), LABELS, 32, torch.device("cpu"))
    for settings, message in (
        ({"a": 1}, "no text_cfg"),
        ({"embed_dim": 32, "text_cfg": {"hf_model_name": "x"}}, "own"),
    ):
        (half / CONFIG).write_text(json.dumps(settings))
        with pytest.raises(WeightsError, match=message):
            embed_labels(TextWeights(half), LABELS, 32, torch.device("cpu"))
    (tmp_path / "tower.pt").write_bytes(b"")
    with pytest.raises(WeightsError, match="never a pickle"):
        TextWeights(tmp_path / "tower.pt")


def test_the_command_takes_the_labels_of_the_manifest(tower, clips, tmp_path, actiondiff):
    dataclasses.replace(clips, videos=clips.videos[:2]).write(tmp_path / "manifest.csv")
    asked = ["--backbone", "svd-tiny", "--condition", "text", "--text-weights", tower[1], "--size", "64x64"]
    result = actiondiff("extract", *asked, "--stride", 16, "--window", 2, "--device", "cpu", cwd=tmp_path)
    assert result.exit_code == 0, result.stderr
    recipe = FeatureStore(tmp_path / "features.zarr").recipe
    assert recipe["labels"] == ["a", "b"]
    assert len(recipe["text_sha256"]) == 64
    refused = actiondiff("extract", *asked[:3], "none", *asked[6:], "--device", "cpu", cwd=tmp_path)
    assert refused.exit_code == 2
    assert "labels" in refused.stderr


def test_svd_tiny_takes_text_without_a_download(monkeypatch):
    monkeypatch.setattr("huggingface_hub.snapshot_download", None)
    backbone = load_backbone("svd-tiny", condition="text", labels=LABELS, size_hw=(64, 64), device="cpu")
    again = load_recipe(backbone.recipe.to_json(), device="cpu")
    assert again.recipe == backbone.recipe
    assert len(backbone.recipe.text_sha256) == 64


def test_random_weights_draw_the_text_tower_too(tower, tmp_path):
    without_text = shutil.copytree(TINY_WEIGHTS, tmp_path / "config", ignore=shutil.ignore_patterns(CONFIG))
    settings = {"random_weights": 3, "weights_config": without_text, "labels": LABELS, "size_hw": (64, 64)}
    with pytest.raises(InputError, match="1024"):
        load_backbone("svd-xt", condition="text", device="cpu", **settings)
    drawn = [embed_labels(TextWeights(None, seed, tower[1]), LABELS, 32, torch.device("cpu")) for seed in (3, 3, 4)]
    assert torch.equal(drawn[0][0], drawn[1][0])
    assert len({sha256 for _, sha256 in drawn}) == 2
    assert 0.1 < drawn[0][0].std() < 10
