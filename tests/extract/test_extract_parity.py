"""Features agree with the published implementation, and with hooks on the untouched diffusers U-Net."""

import copy
from dataclasses import replace

import numpy as np
import pytest
import torch
from diffusers import UNetSpatioTemporalConditionModel

from actiondiff.extract.backbone import TINY_WEIGHTS, load_backbone
from actiondiff.extract.images import clip_pixels, resize_frames
from actiondiff.extract.rewriting import rewrite
from actiondiff.extract.schedule import Schedule
from actiondiff.extract.walk import FPS_ID, MOTION_BUCKET, NOISE_AUGMENTATION, DenoiserInput, layer_channels, walk
from actiondiff.extract.windows import Window
from actiondiff.store import FeatureKey, FeatureStore

TOLERANCE = 1e-3
"""Of each array's largest value, as the golden README asks; measured on a CPU: 1e-4."""

ALL_TIMESTEPS = (0, 5, 10, 15, 20, 25, 29)
CASES = {
    "per-frame": ("svd-tiny", "per-frame", ALL_TIMESTEPS),
    "middle": ("svd-tiny", "middle", (20,)),
    "none": ("svd-tiny", "none", (20,)),
    "sdv2-per-frame": ("sdv2", "per-frame", (20,)),
}


@pytest.fixture
def two_threads():
    """The golden values were made with two: of 25 images the middle one is then summed in two halves, and where it is
    black, as the one that conditions the golden clip's second window, that moves its latents by 12 %."""
    threads = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(threads)


@pytest.mark.parametrize("case", CASES)
def test_the_command_line_gives_the_published_features(case, golden, golden_clip, tmp_path, actiondiff, two_threads):
    backbone, condition, timesteps = CASES[case]
    assert actiondiff("manifest", "scan", golden_clip.parents[1], cwd=tmp_path).exit_code == 0
    asked = ["--layer", "all", "--t", ",".join(map(str, timesteps)), "--backbone", backbone, "--condition", condition]
    weights = ["--weights", str(TINY_WEIGHTS)] if backbone == "sdv2" else []
    frames = ["--stride", "1", "--size", "128x192", "--store-dtype", "float32", "--device", "cpu"]
    result = actiondiff("extract", *asked, *weights, *frames, cwd=tmp_path)
    assert result.exit_code == 0, result.stderr
    store = FeatureStore(tmp_path / "features.zarr")
    for layer in range(1, 14):
        for timestep in timesteps:
            published = golden[f"{case}/layer_{layer:02d}/t_{timestep:02d}"]
            ours = store.read("drawn/golden", layer=layer, timestep=timestep)
            assert ours.shape == published.shape
            error = np.abs(ours - published).max() / np.abs(published).max()
            assert error < TOLERANCE, f"layer {layer}, t {timestep}: {error:.1e}"


@pytest.mark.parametrize("threads", [1, 3])
def test_features_of_a_full_window_do_not_depend_on_the_number_of_threads(golden, two_threads, threads):
    pixels = resize_frames(torch.from_numpy(golden["frames"][:6]), (64, 64))
    window, key = Window(pixels, np.arange(6), np.zeros(6)), FeatureKey(9, 20)
    backbone = load_backbone("svd-tiny", window=6, size_hw=(64, 64), device="cpu")
    [expected] = backbone.features([window], [key])
    torch.set_num_threads(threads)
    [found] = backbone.features([window], [key])
    assert (found[key] - expected[key]).abs().max() < 1e-4 * expected[key].abs().max()


@pytest.mark.parametrize("condition", ["middle", "per-frame"])
@pytest.mark.parametrize("pad", ["black", "repeat"])
def test_padding_that_is_encoded_once_gives_the_features_of_whole_windows(golden, condition, pad):
    """As on a GPU. In float64 the latents of a flat image do not depend on what is encoded beside it."""
    pixels = torch.full((8, 3, 64, 64), -1.0)
    pixels[:3] = resize_frames(torch.from_numpy(golden["frames"][:3]), (64, 64))
    if pad == "repeat":
        pixels[3:] = pixels[2]
    window, key = Window(pixels, np.arange(3), np.zeros(3)), FeatureKey(9, 20)
    settings = {"window": 8, "size_hw": (64, 64), "pad": pad, "condition": condition, "device": "cpu"}
    backbone = load_backbone("svd-tiny", **settings)
    backbone._modules.vae.double()
    [whole] = backbone.features([window], [key])
    backbone._encode_padding = False
    [once] = backbone.features([window], [key])
    assert whole[key].shape == (3, 32)
    assert (once[key] - whole[key]).abs().max() < 1e-5 * whole[key].abs().max()


def test_latents_and_clip_embeddings_are_the_published_ones(golden):
    backbone = load_backbone("svd-tiny", condition="per-frame", device="cpu")
    pixels = resize_frames(torch.from_numpy(golden["frames"]), (128, 192))
    with torch.inference_mode():
        latents = backbone._encode(pixels).numpy() * 0.18215
        embeddings = backbone._embed(pixels).numpy()
    assert np.abs(latents - golden["latents"]).max() < 1e-4
    assert np.abs(embeddings - golden["clip_image_embeds"]).max() < 1e-5


def test_noise_levels_are_the_published_ones(golden):
    schedule = Schedule(30)
    assert np.allclose([schedule.sigma(t) for t in range(30)], golden["sigmas"][:30], rtol=1e-5)


def test_clip_input_is_that_of_the_diffusers_pipeline():
    from diffusers.pipelines.stable_video_diffusion.pipeline_stable_video_diffusion import _resize_with_antialiasing

    for size in ((576, 1024), (128, 192), (300, 224)):
        pixels = torch.rand(2, 3, *size, generator=torch.Generator().manual_seed(0)) * 2 - 1
        theirs = (_resize_with_antialiasing(pixels, (224, 224)) + 1) / 2
        mean = torch.tensor([0.48145466, 0.4578275, 0.40821073])[:, None, None]
        deviation = torch.tensor([0.26862954, 0.26130258, 0.27577711])[:, None, None]
        assert torch.allclose(clip_pixels(pixels), (theirs - mean) / deviation, atol=2e-5)


@pytest.fixture(scope="module")
def untouched() -> UNetSpatioTemporalConditionModel:
    return UNetSpatioTemporalConditionModel.from_pretrained(TINY_WEIGHTS / "unet").float().eval()


def hooked(unet, latent_hw=(16, 24)) -> tuple[DenoiserInput, list[torch.Tensor]]:
    """An input for two windows, and what hooks see of every layer while the public forward runs on it."""
    generator = torch.Generator().manual_seed(1)
    sample = torch.randn(2, 5, 8, *latent_hw, generator=generator)
    embedding = torch.randn(2, 1, 32, generator=generator)
    seen: list[torch.Tensor] = []
    hooks = [unet.conv_in.register_forward_hook(lambda _, __, output: seen.append(output))]
    hooks += [block.register_forward_hook(lambda _, __, output: seen.extend(output[1])) for block in unet.down_blocks]
    hooks += [unet.mid_block.register_forward_hook(lambda _, __, output: seen.append(output))]
    for block in unet.up_blocks:
        whole = getattr(block, "attentions", None)
        for module in whole or block.resnets:
            hooks += [
                module.register_forward_hook(
                    lambda _, __, output: seen.append(output[0] if isinstance(output, tuple) else output)
                )
            ]
    micro = torch.tensor([[FPS_ID, MOTION_BUCKET, NOISE_AUGMENTATION]] * 2)
    unet(sample, torch.tensor(0.3), embedding, added_time_ids=micro)
    for hook in hooks:
        hook.remove()
    return DenoiserInput(sample, embedding[:, None].expand(-1, 5, -1, -1), torch.full((2,), 0.3)), seen


@torch.no_grad()
def test_the_walk_equals_hooks_on_the_untouched_unet(untouched):
    """With one embedding for all frames the public forward can be asked, hooks tell what its layers gave."""
    inputs, seen = hooked(untouched)
    walked = dict(walk(untouched, inputs, last_layer=13))
    assert list(walked) == list(range(1, 14))
    for layer, activation in walked.items():
        assert torch.allclose(activation.flatten(0, 1), seen[layer - 1], atol=1e-5), layer
        assert activation.shape[2] == layer_channels(untouched)[layer]


@torch.no_grad()
@pytest.mark.parametrize("latent_hw", [(16, 24), (12, 20)])
def test_layers_14_to_25_are_the_up_blocks_of_the_untouched_unet(untouched, latent_hw):
    """Also where a side is no multiple of 64 pixels, and a map that is doubled is larger than the one it meets."""
    inputs, seen = hooked(untouched, latent_hw)
    walked = dict(walk(untouched, inputs, last_layer=25))
    assert list(walked) == list(range(1, 26)) == list(layer_channels(untouched))
    for layer, activation in walked.items():
        assert torch.allclose(activation.flatten(0, 1), seen[layer - 1], atol=1e-5), layer
        assert activation.shape[2] == layer_channels(untouched)[layer]


@torch.no_grad()
@pytest.mark.parametrize("tokens", [1, 3])
def test_a_rewritten_unet_gives_what_the_untouched_one_gives(untouched, tokens):
    inputs, _ = hooked(untouched)
    inputs = replace(inputs, embedding=torch.randn(2, 5, tokens, 32, generator=torch.Generator().manual_seed(2)))
    rewritten = copy.deepcopy(untouched)
    rewrite(rewritten)
    expected = dict(walk(untouched, inputs, last_layer=25))
    for layer, activation in walk(rewritten, inputs, last_layer=25):
        assert torch.allclose(activation, expected[layer], atol=2e-5), layer


@torch.no_grad()
def test_a_unet_without_temporal_layers_gives_every_blend_the_spatial_weight_1(untouched):
    from diffusers.models.resnet import AlphaBlender

    inputs, _ = hooked(untouched)
    spatial, rewritten = copy.deepcopy(untouched), copy.deepcopy(untouched)
    for module in spatial.modules():
        if isinstance(module, AlphaBlender):
            module.forward = lambda x_spatial, x_temporal, image_only_indicator=None: x_spatial
    rewrite(rewritten, temporal=False)
    expected = dict(walk(spatial, inputs, last_layer=13))
    for layer, activation in walk(rewritten, inputs, last_layer=13):
        assert torch.allclose(activation, expected[layer], atol=2e-5), layer


@torch.no_grad()
def test_the_walk_stops_behind_the_deepest_layer_asked_for(untouched):
    inputs = DenoiserInput(torch.zeros(1, 2, 8, 16, 16), torch.zeros(1, 2, 1, 32), torch.tensor([0.3]))
    touched = []
    hooks = [
        block.register_forward_hook(lambda *_, index=index: touched.append(index))
        for index, block in enumerate([r for b in untouched.down_blocks for r in b.resnets])
    ]
    assert [layer for layer, _ in walk(untouched, inputs, last_layer=9)] == list(range(1, 10))
    for hook in hooks:
        hook.remove()
    assert touched == list(range(6)), "levels 0 to 2 have two residual blocks each; level 3 is not reached"


def test_up_blocks_and_decoder_are_never_loaded():
    modules = load_backbone("svd-tiny", device="cpu")._modules
    assert modules.unet.up_blocks is None
    assert modules.vae.decoder is None
    assert not any(parameter.is_meta for parameter in modules.unet.parameters())


def test_a_video_of_one_frame_and_a_window_of_one_frame_have_features(golden):
    pixels = resize_frames(torch.from_numpy(golden["frames"][:1]), (128, 128))
    backbone = load_backbone("svd-tiny", window=1, size_hw=(128, 128), device="cpu")
    [features] = backbone.features([Window(pixels, np.zeros(1, np.int64), np.zeros(1))], [FeatureKey(13, 20)])
    assert features[FeatureKey(13, 20)].shape == (1, 64)
