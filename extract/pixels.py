"""From decoded pictures and image files to 8-bit RGB, turned as they are meant to be shown."""

import struct
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import UInt8

from actiondiff.extract.errors import ClipError

MOST_PIXELS = 100_000_000
"""More than any camera's picture has (12K: 80 million); a header that asks for more is damaged or hostile."""

_SLANT = 0.02
"""Mixing of the axes up to which a display matrix counts as quarter turns and mirrorings."""

Matrix = tuple[int, int, int, int]
UPRIGHT: Matrix = (1, 0, 0, 1)


def check_size(where: str, width: int, height: int) -> None:
    """Refuse pictures that would not fit into memory.

    Raises:
        ClipError: code ``too_large``.
    """
    if width * height > MOST_PIXELS:
        raise ClipError(
            "too_large",
            f"{where} has pictures of {width}x{height}; up to {MOST_PIXELS // 1_000_000} million pixels are read. "
            "Make it smaller, or mend it if that is not its size.",
        )


def display_matrix(picture: Any) -> Matrix:
    """How a decoded picture is to be turned: (a, b, c, d) of x' = a x + c y, y' = b x + d y, each -1, 0 or 1.

    Raises:
        ValueError: turned by something else than quarter turns.
    """
    side = picture.side_data.get("DISPLAYMATRIX")
    if side is None:
        return UPRIGHT
    a, b, _, c, d, *_ = struct.unpack("=9i", bytes(side))
    return _quarter_turn(a, b, c, d)


def _quarter_turn(a: int, b: int, c: int, d: int) -> Matrix:
    largest = max(abs(value) for value in (a, b, c, d))
    signs = tuple(0 if abs(value) <= _SLANT * largest else (1 if value > 0 else -1) for value in (a, b, c, d))
    if (signs[0] == 0) == (signs[1] == 0) or bool(signs[0]) != bool(signs[3]) or bool(signs[1]) != bool(signs[2]):
        raise ValueError(f"a display matrix of {(a, b, c, d)} is no quarter turn")
    return signs  # type: ignore[return-value]  # four values in, four out


def shown_size_hw(picture: Any, matrix: Matrix) -> tuple[int, int]:
    """Height and width of a picture once it is turned."""
    return (picture.height, picture.width) if matrix[0] else (picture.width, picture.height)


def turn_text(matrix: Matrix) -> str:
    """The turn in words: empty, ``90``, ``180``, ``270`` (clockwise), with ``mirrored`` where it is."""
    a, b, c, d = matrix
    mirrored = a * d - b * c < 0
    if mirrored:
        a, b = -a, -b  # what is left after mirroring left and right
    degrees = {(1, 0): "", (0, 1): "90", (-1, 0): "180", (0, -1): "270"}[a, b]
    return " ".join(filter(None, ["mirrored" if mirrored else "", degrees]))


def rgb_of_picture(picture: Any, matrix: Matrix) -> UInt8[np.ndarray, "height width 3"]:
    """RGB of a decoded picture, turned and mirrored (phones record sideways, and their front cameras mirrored)."""
    a, b, c, d = matrix
    # PyAV gives every picture a converter of its own, whose threads would only be started and stopped.
    pixels = picture.to_ndarray(format="rgb24", threads=1)
    if matrix == UPRIGHT:
        return pixels
    if not a:
        pixels, a, d = pixels.transpose(1, 0, 2), c, b
    return np.ascontiguousarray(pixels[:: d or 1, :: a or 1])


def rgb_of_image(path: Path) -> UInt8[np.ndarray, "height width 3"]:
    """RGB of an image file, turned as its camera noted; without its alpha.

    Raises:
        ClipError: ``decode_error`` or ``too_large``.
    """
    from PIL import Image, ImageOps, UnidentifiedImageError

    try:
        with Image.open(path) as image:
            check_size(str(path), *image.size)
            return _rgb(ImageOps.exif_transpose(image))
    except Image.DecompressionBombError as error:
        raise ClipError("too_large", f"{path} is too large to be read: {error}.") from error
    except (UnidentifiedImageError, OSError, SyntaxError, ValueError, struct.error) as error:
        raise ClipError("decode_error", f"{path} cannot be decoded as an image: {error}.") from error


def _rgb(image: Any) -> np.ndarray:
    """8-bit RGB of an image; 16-bit grey is scaled, where Pillow would cut it off."""
    if image.mode.startswith("I"):
        grey = np.clip(np.asarray(image, np.float32) / 257, 0, 255).astype(np.uint8)
        return np.repeat(grey[..., None], 3, axis=-1)
    return np.array(image.convert("RGB"))
