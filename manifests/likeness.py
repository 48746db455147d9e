"""Which clips show almost the same pictures: one number for every pair, by matrix products.

Letters of a name say their axes: N clips, F pictures of each, H height, W width, D cells of all pictures of a clip.
"""

# ruff: noqa: N803, N806, N815 - letters of a name say its axes

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float32, Int

LEAST_CONTRAST = 2.0
"""Deviation inside the pictures, of 255 grey levels. With less they are flat, and would match all other flat ones."""

PART_OF_MOTION = 0.8
"""How far copies may be apart, as a part of how far a clip's pictures are from their mean. Clips of one scene at other
times are sqrt(3) apart, because both move independently about the same mean."""

LEAST_LIMIT, MOST_LIMIT = 0.12, 0.35
"""Bounds of that: encoding alone changes the pictures of a clip without motion, and wild motion excuses not all."""

ROWS_AT_ONCE = 128


@dataclass(frozen=True)
class Prints:
    """Clips, each as one row: its pictures with mean 0 and deviation 1, as a vector of length 1.

    Attributes:
        rows_ND: the vectors. For two of them, the root mean square difference of the pictures is sqrt(2 - 2 a.b).
        limits_N: up to which difference another clip is taken for a copy.
    """

    rows_ND: Float32[np.ndarray, "N D"]
    limits_N: Float32[np.ndarray, " N"]


def is_flat(pictures_FHW: Float32[np.ndarray, "F H W"]) -> bool:
    """Whether there is too little in a clip's pictures to know it again; brightness that only changes is nothing."""
    return float(np.sqrt(pictures_FHW.var(axis=(1, 2)).mean())) < LEAST_CONTRAST


def prints_of(clips: Sequence[Float32[np.ndarray, "F H W"]]) -> Prints:
    """Make pictures comparable, whatever their brightness and contrast; none may be flat."""
    pictures_NFD = np.stack([clip.reshape(len(clip), -1) for clip in clips])
    pictures_NFD = pictures_NFD - pictures_NFD.mean(axis=(1, 2), keepdims=True)
    pictures_NFD /= pictures_NFD.std(axis=(1, 2), keepdims=True)
    motion_N = np.sqrt(pictures_NFD.var(axis=1).mean(axis=1))
    rows_ND = pictures_NFD.reshape(len(clips), -1)
    limits_N = np.clip(PART_OF_MOTION * motion_N, LEAST_LIMIT, MOST_LIMIT)
    return Prints(rows_ND / np.float32(np.sqrt(rows_ND.shape[1])), limits_N)


def alike_pairs(
    prints: Prints,
) -> Iterator[tuple[Int[np.ndarray, " P"], Int[np.ndarray, " P"], Float32[np.ndarray, " P"]]]:
    """The pairs within the limits of both clips, some at a time.

    Yields:
        Places of the first clips, places of the second, later ones, and how far they are apart.
    """
    least_N = 1 - prints.limits_N**2 / 2
    for at in range(0, len(prints.rows_ND), ROWS_AT_ONCE):
        products = prints.rows_ND[at : at + ROWS_AT_ONCE] @ prints.rows_ND[at:].T
        hit = (products >= least_N[at : at + ROWS_AT_ONCE, None]) & (products >= least_N[at:])
        first, second = np.nonzero(np.triu(hit, 1))
        yield first + at, second + at, np.sqrt(np.maximum(0, 2 - 2 * products[first, second]))
