"""The real architecture at its full size, random weights as a diffusers folder, extracted from one clip.

    make bench-full-size        (on a GPU: bench_full_size.py --size 576x1024 --precision float16 --device cuda)

Draws the weights of svd-xt once (U-Net whole, VAE, image encoder, in bfloat16: about 4.5 GB in a temporary folder),
then does what `actiondiff extract --weights FOLDER` does in a process of its own. Printed: seconds of loading and of
the clip, peak memory, and how many of the U-Net's parameters were loaded. On a GPU also the share of its peak
arithmetic rate.
"""

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import torch

PEAK_TERA = {"H100": 989.0, "H200": 989.0, "A100": 312.0}
"""Dense half-precision operations a second of some GPUs, from their data sheets."""


def write_weights(folder: Path) -> None:
    """A diffusers folder of the published architecture, filled from a seed."""
    from diffusers import AutoencoderKLTemporalDecoder, UNetSpatioTemporalConditionModel
    from safetensors.torch import save_file

    from actiondiff.extract.random_weights import random_tensors
    from actiondiff.extract.single_file import SVD_CONFIGS
    from actiondiff.extract.weights import _build_clip

    build = {
        "unet": UNetSpatioTemporalConditionModel.from_config,
        "vae": AutoencoderKLTemporalDecoder.from_config,
        "image_encoder": _build_clip,
    }
    for part, made in build.items():
        (folder / part).mkdir(parents=True)
        (folder / part / "config.json").write_text(json.dumps(SVD_CONFIGS[part]))
        with torch.device("meta"):
            module = made(SVD_CONFIGS[part])
        stem = "model" if part == "image_encoder" else "diffusion_pytorch_model"
        tensors = {name: tensor.bfloat16() for name, tensor in random_tensors(module, 0, part).items()}
        save_file(tensors, folder / part / f"{stem}.safetensors")
    (folder / "model_index.json").write_text("{}")


def child(weights: str, clip: str, size: str, layer: str, precision: str, device: str) -> None:
    """In a process of its own: what the command does, timed."""
    from actiondiff.extract import extract, feature_keys, load_backbone, parse_size
    from actiondiff.manifests import Manifest

    begin = time.perf_counter()
    backbone = load_backbone(
        "svd-xt", weights=Path(weights), size_hw=parse_size(size), precision=precision, device=device
    )
    loading_seconds = time.perf_counter() - begin
    unet = backbone._modules.unet
    with tempfile.TemporaryDirectory() as folder:
        report = extract(
            Manifest.of_clips([Path(clip)]), Path(folder) / "f.zarr", backbone, feature_keys("svd-xt", layer, "20")
        )
    result = {
        "loading_seconds": round(loading_seconds, 1),
        "seconds": round(report.seconds, 1),
        "frames": report.frames,
        "frames_per_second": round(report.frames_per_second, 3),
        "failed": [failure.message for failure in report.failed],
        "unet_parameters_loaded_millions": round(sum(p.numel() for p in unet.parameters()) / 1e6),
        "up_blocks_loaded": unet.up_blocks is not None,
        "peak_memory_gib": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20, 2),
    }
    if device.startswith("cuda"):
        result["peak_gpu_memory_gib"] = round(torch.cuda.max_memory_allocated() / 2**30, 2)
        result["gpu"] = torch.cuda.get_device_name()
    print(json.dumps(result))


def main() -> None:
    """Run and print one JSON object."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--clip", help="a video; drawn if there is none")
    parser.add_argument("--weights", help="keep the weights there, or take those that lie there")
    parser.add_argument("--size", default="256x256")
    parser.add_argument("--layer", default="9")
    parser.add_argument("--precision", default="float32")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--child", action="store_true", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.child:
        child(arguments.weights, arguments.clip, arguments.size, arguments.layer, arguments.precision, arguments.device)
        return
    with tempfile.TemporaryDirectory() as temporary:
        weights = Path(arguments.weights or f"{temporary}/svd-xt")
        if not weights.exists():
            write_weights(weights)
        clip = arguments.clip or str(draw(Path(temporary)))
        asked = ["--child", "--weights", str(weights), "--clip", clip, "--size", arguments.size]
        asked += ["--layer", arguments.layer, "--precision", arguments.precision, "--device", arguments.device]
        done = subprocess.run([sys.executable, __file__, *asked], capture_output=True, text=True, check=True)
    found = json.loads(done.stdout)
    rate = next((rate for name, rate in PEAK_TERA.items() if name in found.get("gpu", "")), None)
    if rate and arguments.size == "576x1024" and arguments.layer == "9":
        tera_each_window = 91.5  # counted by bench_extract.py
        windows = -(-found["frames"] // 25)
        found["share_of_peak"] = round(windows * tera_each_window / found["seconds"] / rate, 3)
    print(json.dumps(found))


def draw(folder: Path) -> Path:
    """A clip of 100 frames, of which every fourth is used: one window."""
    import numpy as np

    from actiondiff.manifests import write_video

    noise = np.random.default_rng(0).integers(0, 256, (100, 12, 16, 3)).astype(np.uint8)
    write_video(folder / "clip.mp4", noise.repeat(20, 1).repeat(20, 2), 25)
    return folder / "clip.mp4"


if __name__ == "__main__":
    main()
