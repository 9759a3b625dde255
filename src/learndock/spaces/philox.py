"""Numbers that are the same on every machine: the shared A and the tables of the sketch.

Both come from Philox 4x64-10, a counter-based generator: number i of a stream depends on the key and on i
alone. NumPy guarantees the raw stream of a bit generator (NEP 19); its floating-point
distributions are not, so the few conversions are done here, with exact arithmetic.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

GENERATOR = "philox4x64-10"


def stream(seed: int, name: int, count: int) -> NDArray[np.uint64]:
    """``count`` raw 64-bit numbers of stream ``name`` under ``seed``: ``(count,)`` uint64."""
    return np.asarray(np.random.Philox(key=[seed, name]).random_raw(count), dtype=np.uint64)


def shared_A(  # noqa: N802
    seed: int, layer: int, rank: int, in_features: int
) -> NDArray[np.float32]:
    """The frozen LoRA matrix A of one target layer, ``(rank, in_features)`` float32.

    Uniform on (-sqrt(3/n), sqrt(3/n)) with n = ``in_features``, so that E[A A^T] is the identity and the
    cosine of B stands for the cosine of BA (arXiv 2505.13425). The uniform number is a multiple of 2^-23
    from 24 bits, exact in float32; one rounding, of the product, is left, and IEEE fixes it.
    """
    bits = stream(seed, layer, rank * in_features) >> np.uint64(40)
    uniform = bits.astype(np.float64) * 2.0**-23 - (1.0 - 2.0**-24)
    return (uniform * math.sqrt(3.0 / in_features)).astype(np.float32).reshape(rank, in_features)


def sketch_tables(seed: int, count: int, size: int) -> tuple[NDArray[np.int32], NDArray[np.int8]]:
    """Bucket ``(count,)`` int32 in [0, size) and sign ``(count,)`` int8 of every coordinate.

    ``size`` is a power of two, and the bucket is the number's low bits: taking indices modulo a smaller power
    of two folds a sketch into the valid smaller one.
    """
    if size & (size - 1) or size < 1:
        raise ValueError(f"a sketch has a power of two of numbers, not {size}")
    raw = stream(seed, (1 << 32) + 1, count)
    bucket = (raw & np.uint64(size - 1)).astype(np.int32)
    sign = np.where(raw >> np.uint64(63), 1, -1).astype(np.int8)
    return bucket, sign
