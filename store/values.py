"""What a store may hold: finite values that its dtype can hold. Refused on the way in, where the video is known."""

from functools import cache

import numpy as np

from actiondiff.store.errors import FeatureValueError
from actiondiff.store.records import FeatureKey


def as_stored(array: np.ndarray, dtype: str, video_id: str, key: FeatureKey) -> np.ndarray:
    """The array in a store's dtype, contiguous; not copied where it is that already.

    Read as integers, all finite values but the largest come before it, and NaN and infinity behind: two maxima
    of integers, of both signs, take a tenth of the time that comparing float16 takes.

    Args:
        array: (frames, channels).
        dtype: ``float16`` or ``float32``.
        video_id: for the message.
        key: for the message.

    Raises:
        FeatureValueError: a value is not finite, or overflows the dtype.
    """
    if array.dtype == dtype:
        stored = np.ascontiguousarray(array)
    else:
        with np.errstate(over="ignore", invalid="ignore"):
            stored = np.ascontiguousarray(array, dtype)
    signed, unsigned, largest, least = _limits(dtype)
    if stored.view(signed).max(initial=0) >= largest or stored.view(unsigned).max(initial=0) >= least:
        _check_values(array, dtype, video_id, key)
    return stored


@cache
def _limits(dtype: str) -> tuple[np.dtype, np.dtype, int, int]:
    size = 8 * np.dtype(dtype).itemsize
    largest = int(np.finfo(dtype).max.view(f"uint{size}"))
    return np.dtype(f"int{size}"), np.dtype(f"uint{size}"), largest, largest + 2 ** (size - 1)


def _check_values(array: np.ndarray, dtype: str, video_id: str, key: FeatureKey) -> None:
    limit = float(np.finfo(dtype).max)
    largest = float(np.max(np.abs(array), initial=0.0))
    if not np.isfinite(largest):
        raise FeatureValueError("not_finite", f"Features must be finite; {video_id!r} has NaN or infinity at {key}.")
    if largest > limit:
        raise FeatureValueError(
            "overflow",
            f"{dtype} holds values up to {limit:.6g}; {video_id!r} reaches {largest:.6g} at {key}. "
            "Make a store with --store-dtype float32.",
        )
