"""Pixels of the drawn clips: one shape that moves in one of a few ways, in one of two worlds that look unlike.

Every clip draws place, size, orientation, speed, phase and direction anew from the same ranges for all actions, so
that one frame says little about the action. Letters of a name say its axes: T time, H height, W width, C colour.
"""

# ruff: noqa: N803, N806, N815 - letters of a name say its axes

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType

import numpy as np
from jaxtyping import Float, UInt8

Colour = tuple[float, float, float]

# Frames of one period: slow enough that every fourth frame still shows the motion.
PERIOD_FRAMES = (16.0, 28.0)
MOTION_REACH = 0.5
WEDGE_HALF_ANGLE = 0.55
WEDGE_SINE, WEDGE_COSINE = np.float32(np.sin(WEDGE_HALF_ANGLE)), np.float32(np.cos(WEDGE_HALF_ANGLE))
BACKGROUND_MARGIN = 12


@dataclass(frozen=True)
class Pose:
    """Where the shape is in each frame, relative to its place at rest.

    Attributes:
        right_T: shift to the right, as part of the frame's shorter side.
        down_T: shift downwards, likewise.
        scale_T: size, as a factor.
        turn_T: rotation in radians.
    """

    right_T: Float[np.ndarray, " T"]
    down_T: Float[np.ndarray, " T"]
    scale_T: Float[np.ndarray, " T"]
    turn_T: Float[np.ndarray, " T"]


def _pose(cycle_T: Float[np.ndarray, " T"], **moving: Float[np.ndarray, " T"]) -> Pose:
    rest = np.zeros_like(cycle_T)
    return Pose(**{"right_T": rest, "down_T": rest, "scale_T": rest + 1, "turn_T": rest, **moving})


def _bounce(cycle_T: Float[np.ndarray, " T"]) -> Pose:
    return _pose(cycle_T, down_T=MOTION_REACH * (0.5 - np.abs(np.sin(np.pi * cycle_T))))


def _slide(cycle_T: Float[np.ndarray, " T"]) -> Pose:
    # A triangle wave: constant speed to one side and back, unlike the bounce's free fall.
    return _pose(cycle_T, right_T=MOTION_REACH * (2 * np.abs(cycle_T % 1 - 0.5) - 0.5))


def _spin(cycle_T: Float[np.ndarray, " T"]) -> Pose:
    return _pose(cycle_T, turn_T=2 * np.pi * cycle_T)


def _pulse(cycle_T: Float[np.ndarray, " T"]) -> Pose:
    return _pose(cycle_T, scale_T=1 + 0.45 * np.sin(2 * np.pi * cycle_T))


MOTIONS: Mapping[str, Callable[[Float[np.ndarray, " T"]], Pose]] = MappingProxyType(
    {"bounce": _bounce, "slide": _slide, "spin": _spin, "pulse": _pulse}
)


@dataclass(frozen=True)
class World:
    """How a domain looks.

    Attributes:
        ground: mean colour of the background, 0 to 1.
        texture: strength of the background's smooth, fixed pattern.
        clutter: number of fixed rectangles scattered over the background.
        noise: deviation of the noise that is new in every frame.
        is_round: whether the shape is a disc or a square.
        colour: of the shape.
        mark: of the wedge on the shape, without which a turn could not be seen.
        radius: range of the shape's half width, as part of the frame's shorter side.
        drift_pixels: slow, smooth movement of the camera.
        shake_pixels: sudden movement of the camera from frame to frame.
    """

    ground: Colour
    texture: float
    clutter: int
    noise: float
    is_round: bool
    colour: Colour
    mark: Colour
    radius: tuple[float, float]
    drift_pixels: float
    shake_pixels: float


WORLDS: Mapping[str, World] = MappingProxyType(
    {
        "day": World(
            ground=(0.80, 0.86, 0.74), texture=0.10, clutter=0, noise=0.008, is_round=True,
            colour=(0.12, 0.16, 0.30), mark=(0.75, 0.45, 0.30), radius=(0.10, 0.21), drift_pixels=3.0, shake_pixels=0.0,
        ),
        "night": World(
            ground=(0.07, 0.08, 0.13), texture=0.02, clutter=22, noise=0.05, is_round=False,
            colour=(0.95, 0.88, 0.55), mark=(0.45, 0.12, 0.12), radius=(0.07, 0.15), drift_pixels=0.0, shake_pixels=0.8,
        ),
    }
)  # fmt: skip


def draw_frames(
    action: str, domain: str, frames: int, size_hw: tuple[int, int], rng: np.random.Generator
) -> UInt8[np.ndarray, "T H W 3"]:
    """Draw one clip.

    Args:
        action: a name of `MOTIONS`.
        domain: a name of `WORLDS`.
        frames: how many.
        size_hw: height and width in pixels.
        rng: the only source of chance.
    """
    world = WORLDS[domain]
    camera_T2 = _camera(world, frames, rng)
    scene_THWC = _background(world, size_hw, camera_T2, rng)
    shape_THW, mark_THW = _shape(world, MOTIONS[action](_cycle(frames, rng)), size_hw, camera_T2, rng)
    scene_THWC += shape_THW[..., None] * (np.array(world.colour, np.float32) - scene_THWC)
    scene_THWC += mark_THW[..., None] * (np.array(world.mark, np.float32) - scene_THWC)
    scene_THWC += world.noise * rng.standard_normal(scene_THWC.shape[:3], dtype=np.float32)[..., None]
    return (scene_THWC.clip(0, 1) * 255).round().astype(np.uint8)


def _cycle(frames: int, rng: np.random.Generator) -> Float[np.ndarray, " T"]:
    """Number of periods gone by at each frame; the sign is the direction."""
    return rng.uniform() + rng.choice([-1.0, 1.0]) * np.arange(frames) / rng.uniform(*PERIOD_FRAMES)


def _camera(world: World, frames: int, rng: np.random.Generator) -> Float[np.ndarray, "T 2"]:
    """Shift of the whole scene down and to the right, in pixels."""
    sway_T2 = np.sin(2 * np.pi * (np.arange(frames)[:, None] / (3 * PERIOD_FRAMES[1]) + rng.uniform(size=(1, 2))))
    shift_T2 = world.drift_pixels * sway_T2 + world.shake_pixels * rng.standard_normal((frames, 2))
    return shift_T2.clip(-BACKGROUND_MARGIN, BACKGROUND_MARGIN)


def _background(
    world: World, size_hw: tuple[int, int], camera_T2: Float[np.ndarray, "T 2"], rng: np.random.Generator
) -> Float[np.ndarray, "T H W 3"]:
    """A still picture somewhat larger than the frame, cut out where the camera looks."""
    height, width = size_hw
    still_HWC = _still_picture(world, height + 2 * BACKGROUND_MARGIN, width + 2 * BACKGROUND_MARGIN, rng)
    corner_T2 = BACKGROUND_MARGIN - camera_T2.round().astype(np.int64)
    rows_TH = corner_T2[:, :1] + np.arange(height)
    columns_TW = corner_T2[:, 1:] + np.arange(width)
    cut_THWC: Float[np.ndarray, "T H W 3"] = still_HWC[rows_TH[:, :, None], columns_TW[:, None, :]]
    return cut_THWC


def _still_picture(world: World, height: int, width: int, rng: np.random.Generator) -> Float[np.ndarray, "h w 3"]:
    picture_HWC = np.array(world.ground, np.float32) + world.texture * _ripples(height, width, rng)[..., None]
    for _ in range(world.clutter):
        top, left = rng.integers(height), rng.integers(width)
        tall, wide = rng.integers(2, max(3, height // 8)), rng.integers(2, max(3, width // 8))
        picture_HWC[top : top + tall, left : left + wide] = rng.uniform(0.05, 0.45, size=3)
    return picture_HWC.astype(np.float32)


def _ripples(height: int, width: int, rng: np.random.Generator) -> Float[np.ndarray, "h w"]:
    """A few plane waves of random direction and length: a texture without edges, about -1 to 1."""
    y_H1, x_1W = np.arange(height)[:, None], np.arange(width)[None, :]
    waves = 8
    angle, length, phase = rng.uniform(0, np.pi, waves), rng.uniform(7, 40, waves), rng.uniform(0, 2 * np.pi, waves)
    down, right = 2 * np.pi * np.sin(angle) / length, 2 * np.pi * np.cos(angle) / length
    waves_HWK = np.sin(y_H1[..., None] * down + x_1W[..., None] * right + phase)
    total_HW: Float[np.ndarray, "h w"] = waves_HWK.sum(axis=-1) / np.sqrt(waves)
    return total_HW


def _shape(
    world: World,
    pose: Pose,
    size_hw: tuple[int, int],
    camera_T2: Float[np.ndarray, "T 2"],
    rng: np.random.Generator,
) -> tuple[Float[np.ndarray, "T H W"], Float[np.ndarray, "T H W"]]:
    """Opacity of the shape and of the mark on it, with soft edges of one pixel."""
    unit = min(size_hw)
    y_THW, x_THW = _seen_from_the_shape(pose, size_hw, camera_T2, rng)
    radius_T11 = (pose.scale_T * rng.uniform(*world.radius) * unit).astype(np.float32)[:, None, None]
    aside_THW = np.abs(y_THW)
    reach_THW = np.sqrt(y_THW**2 + x_THW**2) if world.is_round else np.maximum(aside_THW, np.abs(x_THW))
    shape_THW = (radius_T11 - reach_THW + 0.5).clip(0, 1)
    wedge_THW = (x_THW * WEDGE_SINE - aside_THW * WEDGE_COSINE + 0.5).clip(0, 1)
    return shape_THW, np.minimum(shape_THW, wedge_THW)


def _seen_from_the_shape(
    pose: Pose, size_hw: tuple[int, int], camera_T2: Float[np.ndarray, "T 2"], rng: np.random.Generator
) -> tuple[Float[np.ndarray, "T H W"], Float[np.ndarray, "T H W"]]:
    """Each pixel's place, in pixels, along the axes of the shape: it sits at the origin and does not turn."""
    (height, width), unit = size_hw, min(size_hw)
    # Far enough from the edges that even the widest motion stays in sight.
    room_y, room_x = (0.5 * side - (0.5 * MOTION_REACH + 0.16) * unit for side in size_hw)
    y_T = height / 2 + rng.uniform(-1, 1) * room_y + unit * pose.down_T + camera_T2[:, 0]
    x_T = width / 2 + rng.uniform(-1, 1) * room_x + unit * pose.right_T + camera_T2[:, 1]
    turn_T11 = (pose.turn_T + rng.uniform(0, 2 * np.pi))[:, None, None].astype(np.float32)
    y_TH1 = (np.arange(height) - y_T[:, None]).astype(np.float32)[:, :, None]
    x_T1W = (np.arange(width) - x_T[:, None]).astype(np.float32)[:, None, :]
    sine, cosine = np.sin(turn_T11), np.cos(turn_T11)
    return y_TH1 * cosine - x_T1W * sine, x_T1W * cosine + y_TH1 * sine
