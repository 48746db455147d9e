"""Pixels to network input: the paper's resizing of frames, that of the video transformers, and CLIP's."""

import torch
import torch.nn.functional as F
from jaxtyping import Float, UInt8
from torch import Tensor

CROP_MARGIN = 256 / 224
CLIP_SIZE = 224
CLIP_MEAN = (0.48145466, 0.4578275, 0.40821073)
CLIP_DEVIATION = (0.26862954, 0.26130258, 0.27577711)


def resize_frames(
    frames: UInt8[Tensor, "frames height width 3"], size_hw: tuple[int, int], how: str = "stretch"
) -> Float[Tensor, "frames 3 new_height new_width"]:
    """Resize to values in [-1, 1].

    Args:
        frames: of any size.
        size_hw: the new height and width.
        how: ``stretch``: bilinear with corners aligned, no crop (the paper). ``crop`` and ``margin-crop``: the short
            side to the size (to 8/7 of it), bilinear against aliasing, then the centre: what VideoMAE's and V-JEPA
            2's own preprocessing does.
    """
    pixels = frames.permute(0, 3, 1, 2).float().div_(127.5).sub_(1)  # in place: a 1080p frame has 25 MB in float32
    if how == "stretch":
        return F.interpolate(pixels, size=size_hw, mode="bilinear", align_corners=True)
    return _centre(pixels, size_hw, CROP_MARGIN if how == "margin-crop" else 1.0)


def _centre(
    pixels: Float[Tensor, "frames 3 height width"], size_hw: tuple[int, int], margin: float
) -> Float[Tensor, "frames 3 new_height new_width"]:
    height, width = pixels.shape[-2:]
    tall, wide = (int(side * margin) for side in size_hw)
    short_is_height = tall * width >= wide * height
    covering = (tall, tall * width // height) if short_is_height else (wide * height // width, wide)
    resized = F.interpolate(pixels, size=covering, mode="bilinear", antialias=True, align_corners=False)
    top, left = (round((old - side) / 2) for side, old in zip(size_hw, covering, strict=True))
    return resized[..., top : top + size_hw[0], left : left + size_hw[1]]


def clip_pixels(pixels: Float[Tensor, "frames 3 height width"]) -> Float[Tensor, "frames 3 224 224"]:
    """Make CLIP's input of pixels in [-1, 1]: blurred against aliasing, resized, with CLIP's mean and deviation.

    The blur and the bicubic resizing with corners aligned are those of SVD's training code and of diffusers'
    pipeline, which CLIP's own preprocessor would not reproduce.
    """
    resized = F.interpolate(
        _antialias(pixels, CLIP_SIZE), size=(CLIP_SIZE, CLIP_SIZE), mode="bicubic", align_corners=True
    )
    mean = pixels.new_tensor(CLIP_MEAN)[:, None, None]
    deviation = pixels.new_tensor(CLIP_DEVIATION)[:, None, None]
    return ((resized + 1) / 2 - mean) / deviation


def _antialias(pixels: Tensor, size: int) -> Tensor:
    for axis in (-1, -2):
        pixels = _blur(pixels, axis, factor=pixels.shape[axis] / size)
    return pixels


def _blur(pixels: Tensor, axis: int, factor: float) -> Tensor:
    """Gaussian along one axis, as wide as the shrinking asks for; reflecting borders."""
    sigma = max((factor - 1) / 2, 0.001)
    taps = int(max(4 * sigma, 3)) | 1
    positions = torch.arange(taps, dtype=pixels.dtype, device=pixels.device) - taps // 2
    kernel = torch.exp(-(positions**2) / (2 * sigma**2))
    shape = [1, 1, taps, 1] if axis == -2 else [1, 1, 1, taps]
    weight = (kernel / kernel.sum()).reshape(shape).expand(3, -1, -1, -1)
    half = taps // 2
    padding = [0, 0, half, half] if axis == -2 else [half, half, 0, 0]
    return F.conv2d(F.pad(pixels, padding, mode="reflect"), weight, groups=3)
