"""Ours beside the published procedure: frames a second and memory for the same features of the same clip.

    make bench-extract          (or: python benchmarks/bench_extract.py --quick)

The published *procedure*, as it is described: the whole video in memory, every frame through CLIP, the frames through
the VAE twice (as video and as condition), the whole U-Net on a doubled batch (with and without condition), one timestep
a run. Both ways use the same weights, the same clip (a file, drawn on the spot) and the `middle` condition, under which
diffusers' public forward can be asked; their features are compared. The network has the real architecture at a fraction
of the width, so that arithmetic dominates. Each way runs in a process of its own, so that each has a peak of memory of
its own; the two take turns. Operations of both ways at full size are counted on meta tensors, without running anything.
"""

import argparse
import json
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import torch
from diffusers import AutoencoderKLTemporalDecoder, UNetSpatioTemporalConditionModel
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode
from transformers import CLIPVisionConfig, CLIPVisionModelWithProjection

from actiondiff.extract import Window, extract_clip
from actiondiff.extract.clips import Clip, Sampling
from actiondiff.extract.images import clip_pixels, resize_frames
from actiondiff.extract.recipe import Recipe
from actiondiff.extract.rewriting import rewrite
from actiondiff.extract.schedule import Schedule
from actiondiff.extract.single_file import SVD_CONFIGS
from actiondiff.extract.svd import LATENT_SCALE, SVDBackbone
from actiondiff.extract.walk import FPS_ID, MOTION_BUCKET, NOISE_AUGMENTATION
from actiondiff.extract.weights import SVDModules
from actiondiff.manifests import write_video
from actiondiff.store import FeatureKey

STRIDE, WINDOW = 4, 25
GRID = [FeatureKey(layer, timestep) for layer in range(1, 14) for timestep in (0, 5, 10, 15, 20, 25, 29)]
REQUESTS = {"layer 9, t 20": [FeatureKey(9, 20)], "13 layers x 7 timesteps": GRID}
Features = dict[FeatureKey, np.ndarray]


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


def build(fraction: int, device: str, *, whole: bool) -> SVDModules:
    """Random networks; the published procedure needs them whole, ours lets go of the halves that it never runs."""
    torch.manual_seed(0)
    made = configs(fraction)
    with torch.device(device):
        unet = UNetSpatioTemporalConditionModel.from_config(made["unet"]).eval()
        vae = AutoencoderKLTemporalDecoder.from_config(made["vae"]).eval()
        clip = CLIPVisionModelWithProjection(CLIPVisionConfig.from_dict(made["image_encoder"])).eval()
    for module in (unet, vae, clip):  # some parameters are made past the device context
        nn.Module.to(module, device)
    if not whole:
        unet.up_blocks = unet.conv_norm_out = unet.conv_out = vae.decoder = None
        rewrite(unet)
    return SVDModules(unet, vae, clip, "")


@torch.inference_mode()
def published_window(modules: SVDModules, pixels: Tensor, timestep: int, layers: list[int]) -> dict[int, Tensor]:
    """One window at one timestep: everything encoded anew, a doubled batch through the whole U-Net, hooks on it."""
    unet, vae, clip = modules.unet, modules.vae, modules.image_encoder
    frames, schedule = len(pixels), Schedule()
    seen: list[Tensor] = []
    hooks = [unet.conv_in.register_forward_hook(lambda _, __, output: seen.append(output))]
    hooks += [block.register_forward_hook(lambda _, __, output: seen.extend(output[1])) for block in unet.down_blocks]
    hooks += [unet.mid_block.register_forward_hook(lambda _, __, output: seen.append(output))]
    micro = torch.tensor([[FPS_ID, MOTION_BUCKET, NOISE_AUGMENTATION]] * 2, device=pixels.device)
    pixels = pixels.contiguous(memory_format=torch.channels_last)
    latents = vae.encode(pixels).latent_dist.mode() * LATENT_SCALE
    image_latents = vae.encode(pixels).latent_dist.mode()[frames // 2].expand_as(latents)
    embedding = clip(clip_pixels(pixels)).image_embeds[frames // 2][None, None]
    scaled = latents * schedule.input_scale(timestep)
    sample = torch.stack([torch.cat([scaled, torch.zeros_like(latents)], 1), torch.cat([scaled, image_latents], 1)])
    conditions = torch.cat([torch.zeros_like(embedding), embedding])
    label = torch.full((2,), schedule.noise_label(timestep), device=pixels.device)
    unet(sample, label, conditions, added_time_ids=micro)
    for hook in hooks:
        hook.remove()
    return {layer: seen[layer - 1][frames:].mean((-2, -1)) for layer in layers}


def published(modules: SVDModules, path: Path, size_hw: tuple[int, int], keys: list[FeatureKey]) -> Features:
    """A run a timestep; each decodes the whole video into memory, pads it with black, and goes window by window."""
    features: Features = {}
    for timestep in sorted({key.timestep for key in keys}):
        frames = [torch.from_numpy(frame.pixels) for frame in Clip(path).frames(Sampling())]
        pixels = resize_frames(torch.stack(frames), size_hw)[::STRIDE]
        real = len(pixels)
        black = torch.full((-real % WINDOW, 3, *size_hw), -1.0)
        layers = [key.layer for key in keys if key.timestep == timestep]
        found = [
            published_window(modules, window, timestep, layers) for window in torch.cat([pixels, black]).split(WINDOW)
        ]
        for layer in layers:
            features[FeatureKey(layer, timestep)] = torch.cat([window[layer] for window in found])[:real].numpy()
    return features


def ours(modules: SVDModules, path: Path, size_hw: tuple[int, int], keys: list[FeatureKey]) -> Features:
    """What `actiondiff extract` does with a clip."""
    recipe = Recipe("svd-xt", "", size_hw, stride=STRIDE, window=WINDOW, store_dtype="float32")
    return dict(extract_clip("clip", Clip(path), SVDBackbone(recipe, modules), keys).features)


WAYS = {"published": published, "ours": ours}


def run_way(way: str, request: str, clip: Path, fraction: int, size_hw: tuple[int, int], features: Path) -> dict:
    """In a process of its own: seconds for the clip, and the peak of memory."""
    modules = build(fraction, "cpu", whole=way == "published")
    begin = time.perf_counter()
    found = WAYS[way](modules, clip, size_hw, REQUESTS[request])
    seconds = time.perf_counter() - begin
    np.savez(features, **{f"{key.layer}-{key.timestep}": array for key, array in found.items()})
    peak_bytes = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    return {"seconds": seconds, "peak_bytes": peak_bytes, "frames": len(next(iter(found.values())))}


def compare(fraction: int, size_hw: tuple[int, int], sampled: int, repeats: int) -> dict:
    """Both ways in turns, each in a process of its own."""
    result: dict = {"size_hw": size_hw, "sampled_frames": sampled, "threads": torch.get_num_threads()}
    with tempfile.TemporaryDirectory() as folder:
        clip = Path(folder) / "clip.mp4"
        write_video(clip, draw(sampled * STRIDE, size_hw), 25)
        for request in REQUESTS:
            runs: dict[str, list[dict]] = {way: [] for way in WAYS}
            for _ in range(repeats):
                for way in WAYS:
                    asked = ["--way", way, "--request", request, "--clip", str(clip), "--fraction", str(fraction)]
                    asked += ["--size", "x".join(map(str, size_hw)), "--features", f"{folder}/{way}.npz"]
                    done = subprocess.run(
                        [sys.executable, __file__, *asked], capture_output=True, text=True, check=True
                    )
                    runs[way].append(json.loads(done.stdout))
            result[request] = summary(runs, apart(Path(folder)))
            print_summary(request, result[request])
    return result


def draw(frames: int, size_hw: tuple[int, int]) -> np.ndarray:
    """Waves that move over noise: nothing of a frame is flat."""
    generator = np.random.default_rng(0)
    y, x = np.mgrid[: size_hw[0], : size_hw[1]] / 12.0
    noise = generator.integers(0, 40, (*size_hw, 3))
    waves = [np.sin(x + y * 0.5 + channel + 0.2 * np.arange(frames)[:, None, None]) for channel in range(3)]
    return (107 + 80 * np.stack(waves, -1) + noise).astype(np.uint8)


def summary(runs: dict[str, list[dict]], apart: float) -> dict:
    """Medians of both ways, and their ratio."""
    seconds = {way: statistics.median(run["seconds"] for run in found) for way, found in runs.items()}
    return {
        "seconds": seconds,
        "frames_per_second": {way: runs[way][0]["frames"] / seconds[way] for way in runs},
        "peak_bytes": {way: max(run["peak_bytes"] for run in found) for way, found in runs.items()},
        "ratio": seconds["published"] / seconds["ours"],
        "every_ratio": [a["seconds"] / b["seconds"] for a, b in zip(runs["published"], runs["ours"], strict=True)],
        "features_apart": apart,
    }


def apart(folder: Path) -> float:
    """The largest difference of any array, of that array's largest value."""
    theirs, found = np.load(folder / "published.npz"), np.load(folder / "ours.npz")
    return max(float(np.abs(found[name] - theirs[name]).max() / np.abs(theirs[name]).max()) for name in theirs)


def print_summary(request: str, found: dict) -> None:
    """A line for people."""
    rate, peak = found["frames_per_second"], found["peak_bytes"]
    ratios = ", ".join(f"{ratio:.2f}" for ratio in found["every_ratio"])
    print(
        f"{request:26} published {rate['published']:7.2f} frames/s, {peak['published'] / 2**30:.1f} GiB   "
        f"ours {rate['ours']:7.2f} frames/s, {peak['ours'] / 2**30:.1f} GiB   {found['ratio']:5.2f} times ({ratios})   "
        f"features apart {found['features_apart']:.0e} of the largest"
    )


def count_full_size(real: int) -> dict:
    """Operations of both ways for one window of 25 frames at 576 x 1024, of which so many are real, on meta tensors."""
    pixels = torch.empty(WINDOW, 3, 576, 1024, device="meta")
    theirs, modules = build(1, "meta", whole=True), build(1, "meta", whole=False)
    backbone = SVDBackbone(Recipe("svd-xt", "", (576, 1024), window=WINDOW), modules)
    window = Window(pixels, np.arange(real), np.zeros(real))
    backbone._black_latent = torch.empty(1, 4, 72, 128, device="meta")  # encoded once for all windows of a run
    result = {}
    print(f"\nfull size, one window of 25 frames at 576x1024, {real} of them real, counted in TFLOP")
    for name, keys in REQUESTS.items():
        with FlopCounterMode(display=False) as counter:
            for timestep in sorted({key.timestep for key in keys}):
                published_window(theirs, pixels, timestep, [key.layer for key in keys if key.timestep == timestep])
        published_tera = counter.get_total_flops() / 1e12
        with FlopCounterMode(display=False) as counter:
            backbone.features([window], keys)
        tera = {"published": published_tera, "ours": counter.get_total_flops() / 1e12}
        ratio = tera["published"] / tera["ours"]
        print(f"{name:26} published {tera['published']:8.1f}   ours {tera['ours']:8.1f}   {ratio:5.2f} times")
        result[name] = tera | {"ratio": ratio}
    return result


def main() -> None:
    """Run and print everything; `--json FILE` keeps the numbers."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="narrow and once: to see that it runs")
    parser.add_argument("--json", type=Path)
    for name in ("--way", "--request", "--clip", "--fraction", "--size", "--features"):
        parser.add_argument(name, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.way:
        size_hw = tuple(int(side) for side in arguments.size.split("x"))
        clip, features = Path(arguments.clip), Path(arguments.features)
        found = run_way(arguments.way, arguments.request, clip, int(arguments.fraction), size_hw, features)
        print(json.dumps(found))
        return
    counted = {f"{real} real frames": count_full_size(real) for real in (25, 15)}
    fraction, size_hw, sampled, repeats = (8, (64, 96), 25, 1) if arguments.quick else (4, (128, 192), 50, 3)
    millions = sum(p.numel() for p in build(fraction, "meta", whole=True).unet.parameters()) / 1e6
    print(f"\nU-Net of {millions:.0f} M parameters, a clip of {sampled} sampled frames at {size_hw[0]}x{size_hw[1]}, "
          f"{torch.get_num_threads()} threads, medians of {repeats}")  # fmt: skip
    result = {"full_size": counted, "unet_parameters_millions": millions}
    result |= {"measured": compare(fraction, size_hw, sampled, repeats)}
    if arguments.json:
        arguments.json.write_text(json.dumps(result, indent=2))


if __name__ == "__main__":
    main()
