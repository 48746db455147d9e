"""Ours beside the published procedure: seconds for the same features, and operations counted at full size.

    make bench-extract          (or: python benchmarks/bench_extract.py --quick)

The published *procedure*, as it is described: the whole video in memory, every frame through CLIP, the frames through
the VAE twice (as video and as condition), the whole U-Net on a doubled batch (with and without condition), one timestep
a run. Both ways use the same weights, the same clip and the `middle` condition, under which diffusers' public forward
can be asked; their features are compared. The network has the real architecture at a fraction of the width, so that
arithmetic dominates; operations of both ways at full size are counted on meta tensors, without running anything.
"""

import argparse
import json
import resource
import statistics
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from diffusers import AutoencoderKLTemporalDecoder, UNetSpatioTemporalConditionModel
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode
from transformers import CLIPVisionConfig, CLIPVisionModelWithProjection

from actiondiff.extract import Window
from actiondiff.extract.images import clip_pixels
from actiondiff.extract.recipe import Recipe
from actiondiff.extract.schedule import Schedule
from actiondiff.extract.single_file import SVD_CONFIGS
from actiondiff.extract.svd import LATENT_SCALE, SVDBackbone
from actiondiff.extract.walk import FPS_ID, MOTION_BUCKET, NOISE_AUGMENTATION
from actiondiff.extract.weights import SVDModules
from actiondiff.store import FeatureKey

GRID = [FeatureKey(layer, timestep) for layer in range(1, 14) for timestep in (0, 5, 10, 15, 20, 25, 29)]
REQUESTS = {"layer 9, t 20": [FeatureKey(9, 20)], "13 layers x 7 timesteps": GRID}


def configs(fraction: int) -> dict[str, dict]:
    """SVD's configuration with widths divided; heads keep their 64 channels where there are that many."""
    unet, vae, clip = (dict(SVD_CONFIGS[part]) for part in ("unet", "vae", "image_encoder"))
    if fraction > 1:
        widths = [max(64, width // fraction // 32 * 32) for width in unet["block_out_channels"]]
        unet |= {"block_out_channels": widths, "num_attention_heads": [max(1, width // 64) for width in widths]}
        vae |= {"block_out_channels": [max(32, width // fraction // 32 * 32) for width in vae["block_out_channels"]]}
        clip |= {name: clip[name] // fraction for name in ("hidden_size", "intermediate_size", "projection_dim")}
        clip |= {"num_attention_heads": clip["num_attention_heads"] // fraction}
        unet |= {"cross_attention_dim": clip["projection_dim"]}
    return {"unet": unet, "vae": vae, "image_encoder": clip}


def build(fraction: int, device: str) -> SVDModules:
    """Random networks, whole: the published procedure needs the half that ours leaves out."""
    torch.manual_seed(0)
    made = configs(fraction)
    with torch.device(device):
        unet = UNetSpatioTemporalConditionModel.from_config(made["unet"]).eval()
        vae = AutoencoderKLTemporalDecoder.from_config(made["vae"]).eval()
        clip = CLIPVisionModelWithProjection(CLIPVisionConfig.from_dict(made["image_encoder"])).eval()
    for module in (unet, vae, clip):  # some parameters are made past the device context
        nn.Module.to(module, device)
    return SVDModules(unet, vae, clip, "")


@torch.inference_mode()
def published(modules: SVDModules, pixels: Tensor, keys: list[FeatureKey]) -> dict[FeatureKey, Tensor]:
    """One run a timestep; each encodes everything anew and pushes a doubled batch through the whole U-Net."""
    unet, vae, clip = modules.unet, modules.vae, modules.image_encoder
    frames, schedule, features = len(pixels), Schedule(), {}
    seen: list[Tensor] = []
    hooks = [unet.conv_in.register_forward_hook(lambda _, __, output: seen.append(output))]
    hooks += [block.register_forward_hook(lambda _, __, output: seen.extend(output[1])) for block in unet.down_blocks]
    hooks += [unet.mid_block.register_forward_hook(lambda _, __, output: seen.append(output))]
    micro = torch.tensor([[FPS_ID, MOTION_BUCKET, NOISE_AUGMENTATION]] * 2, device=pixels.device)
    for timestep in sorted({key.timestep for key in keys}):
        seen.clear()
        latents = vae.encode(pixels).latent_dist.mode() * LATENT_SCALE
        image_latents = vae.encode(pixels).latent_dist.mode()[frames // 2].expand_as(latents)
        embedding = clip(clip_pixels(pixels)).image_embeds[frames // 2][None, None]
        scaled = latents * schedule.input_scale(timestep)
        sample = torch.stack([torch.cat([scaled, torch.zeros_like(latents)], 1), torch.cat([scaled, image_latents], 1)])
        conditions = torch.cat([torch.zeros_like(embedding), embedding])
        label = torch.full((2,), schedule.noise_label(timestep), device=pixels.device)
        unet(sample, label, conditions, added_time_ids=micro)
        for key in (key for key in keys if key.timestep == timestep):
            features[key] = seen[key.layer - 1][frames:].mean((-2, -1))
    for hook in hooks:
        hook.remove()
    return features


def ours(modules: SVDModules, pixels: Tensor, keys: list[FeatureKey]) -> dict[FeatureKey, Tensor]:
    """One window through the backbone that `actiondiff extract` runs."""
    frames = len(pixels)
    recipe = Recipe("svd-xt", "", (pixels.shape[-2], pixels.shape[-1]), window=frames)
    window = Window(pixels, np.arange(frames), np.zeros(frames))
    return SVDBackbone(recipe, modules).features([window], keys)[0]


def timed(run: Callable[[], object], repeats: int) -> float:
    """Median seconds."""
    seconds = []
    for _ in range(repeats):
        begin = time.perf_counter()
        run()
        seconds.append(time.perf_counter() - begin)
    return statistics.median(seconds)


def compare(fraction: int, size_hw: tuple[int, int], repeats: int) -> dict:
    """Seconds of both ways on this machine, and how far their features are apart."""
    modules = build(fraction, "cpu")
    pixels = torch.rand(25, 3, *size_hw) * 2 - 1
    millions = sum(parameter.numel() for parameter in modules.unet.parameters()) / 1e6
    print(f"\nU-Net of {millions:.0f} M parameters, 25 frames of {size_hw[0]}x{size_hw[1]}, medians of {repeats}")
    result = {"unet_parameters_millions": millions, "size_hw": size_hw}
    for name, keys in REQUESTS.items():
        theirs_found, ours_found = published(modules, pixels, keys), ours(modules, pixels, keys)
        apart = max(
            float((ours_found[key] - theirs_found[key]).abs().max() / theirs_found[key].abs().max()) for key in keys
        )
        theirs_seconds = timed(lambda keys=keys: published(modules, pixels, keys), repeats)
        ours_seconds = timed(lambda keys=keys: ours(modules, pixels, keys), repeats)
        ratio = theirs_seconds / ours_seconds
        print(f"{name:26} published {25 / theirs_seconds:8.2f} frames/s   ours {25 / ours_seconds:8.2f} frames/s   "
              f"{ratio:5.2f} times   features apart {apart:.0e} of the largest")  # fmt: skip
        result[name] = {"published_seconds": theirs_seconds, "ours_seconds": ours_seconds, "ratio": ratio}
    return result


def count_full_size() -> dict:
    """Operations of both ways for one window of 25 frames at 576 x 1024, on meta tensors."""
    modules = build(1, "meta")
    pixels = torch.empty(25, 3, 576, 1024, device="meta")
    result = {}
    print("\nfull size, one window of 25 frames at 576x1024, counted in TFLOP")
    for name, keys in REQUESTS.items():
        tera = {}
        for way in (published, ours):
            with FlopCounterMode(display=False) as counter:
                way(modules, pixels, keys)
            tera[way.__name__] = counter.get_total_flops() / 1e12
        ratio = tera["published"] / tera["ours"]
        print(f"{name:26} published {tera['published']:8.1f}   ours {tera['ours']:8.1f}   {ratio:5.2f} times")
        result[name] = tera | {"ratio": ratio}
    return result


def peak_bytes() -> int:
    """Peak memory of this process so far."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def main() -> None:
    """Run and print everything; `--json FILE` keeps the numbers."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="narrow and once: to see that it runs")
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    fraction, size_hw, repeats = (8, (64, 96), 1) if arguments.quick else (4, (128, 192), 3)
    result = {"full_size": count_full_size(), "measured": compare(fraction, size_hw, repeats)}
    print(f"\npeak memory of the whole benchmark {peak_bytes() / 2**30:.1f} GiB, {torch.get_num_threads()} threads")
    if arguments.json:
        arguments.json.write_text(json.dumps(result, indent=2))


if __name__ == "__main__":
    main()
