"""Whether random weights stay alive through the depth: the spread of activations and of features, layer by layer.

python benchmarks/bench_random_weights.py vjepa2 --size 256 --frames 4
python benchmarks/bench_random_weights.py svd-xt --size 256 --frames 4 --t 20     # 7 GB, two minutes on two cores
"""

import argparse

import numpy as np
import torch

from actiondiff.extract import Window, load_backbone
from actiondiff.store import FeatureKey


def main() -> None:
    """Draw a network at its full size and print one line a layer."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("backbone")
    parser.add_argument("--size", type=int, default=256)
    parser.add_argument("--frames", type=int, default=4)
    parser.add_argument("--t", type=int, default=0)
    parser.add_argument("--seed", type=int, default=0)
    asked = parser.parse_args()
    backbone = load_backbone(
        asked.backbone, random_weights=asked.seed, size_hw=(asked.size, asked.size), window=asked.frames, device="cpu"
    )
    keys = [FeatureKey(layer, asked.t) for layer in backbone.layer_channels]
    one, other = backbone.features(_two_windows(asked.size, asked.frames), keys)
    print("layer  finite  spread of features  between frames  between windows")
    for key in keys:
        apart = (one[key].mean(0) - other[key].mean(0)).abs().mean()
        finite = bool(one[key].isfinite().all())
        print(f"{key.layer:5}  {finite!s:6}  {one[key].std():18.3f}  {one[key].std(0).mean():14.4f}  {apart:15.3f}")


def _two_windows(size: int, frames: int) -> list[Window]:
    coarse = torch.rand(2 * frames, 3, 6, 6, generator=torch.Generator().manual_seed(1)) * 2 - 1
    pixels = torch.nn.functional.interpolate(coarse, size=(size, size), mode="bicubic").clamp(-1, 1)
    return [Window(part, np.arange(frames), np.zeros(frames)) for part in pixels.split(frames)]


if __name__ == "__main__":
    main()
