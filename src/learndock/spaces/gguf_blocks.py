"""The layouts of numbers in the blocks of a GGUF file, and how they become float32.

Two generations: blocks of 32 numbers with one scale, and the *K-quants*, blocks of 256 numbers in groups of 16 or
32, whose scales and minima are small integers in units of one or two halves (``d``, ``dmin``) of the block. All layouts
are those of llama.cpp's ggml; ``tests/spaces/test_gguf.py`` reads them number by number.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Float = NDArray[np.float32]
Bytes = NDArray[np.uint8]


@dataclass(frozen=True)
class Kind:
    """A block of ``numbers`` numbers in ``size`` bytes; ``read`` takes ``(blocks, size)`` bytes."""

    name: str
    numbers: int
    size: int
    read: Callable[[Bytes], Float]


def _halves(blocks: Bytes, begin: int) -> Float:
    return np.ascontiguousarray(blocks[:, begin : begin + 2]).view(np.float16).astype(np.float32)


def _nibbles(blocks: Bytes) -> Bytes:
    """Low halves of 16 bytes, then high halves: ``(blocks, 32)``."""
    return np.concatenate([blocks & 15, blocks >> 4], 1)


def _q8_0(blocks: Bytes) -> Float:
    return _halves(blocks, 0) * blocks[:, 2:].view(np.int8).astype(np.float32)


def _q4_0(blocks: Bytes) -> Float:
    return _halves(blocks, 0) * (_nibbles(blocks[:, 2:]).astype(np.float32) - np.float32(8))


def _q4_1(blocks: Bytes) -> Float:
    return _halves(blocks, 0) * _nibbles(blocks[:, 4:]).astype(np.float32) + _halves(blocks, 2)


def _fifth_bits(blocks: Bytes, begin: int) -> Bytes:
    bits = np.unpackbits(blocks[:, begin : begin + 4], axis=1, bitorder="little")
    return (bits * 16).astype(np.uint8)


def _q5_0(blocks: Bytes) -> Float:
    whole = _nibbles(blocks[:, 6:]) | _fifth_bits(blocks, 2)
    return _halves(blocks, 0) * (whole.astype(np.float32) - np.float32(16))


def _q5_1(blocks: Bytes) -> Float:
    whole = _nibbles(blocks[:, 8:]) | _fifth_bits(blocks, 4)
    return _halves(blocks, 0) * whole.astype(np.float32) + _halves(blocks, 2)


def _bf16(blocks: Bytes) -> Float:
    wide = np.ascontiguousarray(blocks).view(np.uint16).astype(np.uint32) << 16
    return wide.view(np.float32)


# --- blocks of 256 --------------------------------------------------------------------------------------------


def _pairs(packed: Bytes) -> Bytes:
    """Two bits each: for every 32 bytes four times 32 numbers, ``(blocks, 4 * bytes)``."""
    found = packed.reshape(len(packed), -1, 1, 32) >> np.array([0, 2, 4, 6], np.uint8).reshape(1, 1, 4, 1)
    return np.asarray((found & 3).reshape(len(packed), -1), np.uint8)


def _halved(packed: Bytes) -> Bytes:
    """Four bits each: for every 32 bytes 32 low halves, then 32 high ones, ``(blocks, 2 * bytes)``."""
    found = packed.reshape(len(packed), -1, 1, 32) >> np.array([0, 4], np.uint8).reshape(1, 1, 2, 1)
    return np.asarray((found & 15).reshape(len(packed), -1), np.uint8)


def _bits(packed: Bytes) -> Bytes:
    """One bit each: 32 lowest bits of 32 bytes, then the next ones, ``(blocks, 256)``."""
    found = packed[:, None, :] >> np.arange(8, dtype=np.uint8)[None, :, None]
    return np.asarray((found & 1).reshape(len(packed), -1), np.uint8)


def _scaled(scales: Float, values: NDArray[np.generic]) -> Float:
    """Groups of equal size, each times its scale: ``(blocks, groups)`` and ``(blocks, 256)``."""
    groups = values.reshape(len(values), scales.shape[1], -1).astype(np.float32)
    return (scales[:, :, None] * groups).reshape(len(values), -1)


def _spread(minima: Float) -> Float:
    return np.repeat(minima, 256 // minima.shape[1], axis=1)


def _six_bits(packed: Bytes) -> tuple[Bytes, Bytes]:
    """Eight scales and eight minima of six bits in twelve bytes, ``(blocks, 8)`` each."""
    first, second, last = packed[:, :4], packed[:, 4:8], packed[:, 8:]
    scales = np.concatenate([first & 63, (last & 15) | ((first >> 6) << 4)], 1)
    minima = np.concatenate([second & 63, (last >> 4) | ((second >> 6) << 4)], 1)
    return scales, minima


def _q2_k(blocks: Bytes) -> Float:
    d, dmin = _halves(blocks, 80), _halves(blocks, 82)
    scales = blocks[:, :16]
    return _scaled(d * (scales & 15), _pairs(blocks[:, 16:80])) - _spread(dmin * (scales >> 4))


def _q3_k(blocks: Bytes) -> Float:
    packed = blocks[:, 96:108]
    low = np.concatenate([packed[:, :8] & 15, packed[:, :8] >> 4], 1)
    high = np.concatenate([(packed[:, 8:] >> shift) & 3 for shift in (0, 2, 4, 6)], 1)
    scales = (low | (high << 4)).astype(np.int8) - np.int8(32)
    values = _pairs(blocks[:, 32:96]).astype(np.int8) - np.int8(4) * (1 - _bits(blocks[:, :32])).astype(np.int8)
    return _scaled(_halves(blocks, 108) * scales, values)


def _q4_k(blocks: Bytes) -> Float:
    scales, minima = _six_bits(blocks[:, 4:16])
    return _scaled(_halves(blocks, 0) * scales, _halved(blocks[:, 16:])) - _spread(_halves(blocks, 2) * minima)


def _q5_k(blocks: Bytes) -> Float:
    scales, minima = _six_bits(blocks[:, 4:16])
    values = _halved(blocks[:, 48:]) | (_bits(blocks[:, 16:48]) << 4)
    return _scaled(_halves(blocks, 0) * scales, values) - _spread(_halves(blocks, 2) * minima)


def _q6_k(blocks: Bytes) -> Float:
    # For each half of the block 64 low bytes and 32 of high pairs
    packed = blocks[:, :128].reshape(-1, 2, 64)
    low = np.concatenate([packed & 15, packed >> 4], 2).reshape(len(blocks), 256)
    values = (low | (_pairs(blocks[:, 128:192]) << 4)).astype(np.int8) - np.int8(32)
    scales = np.ascontiguousarray(blocks[:, 192:208]).view(np.int8)
    return _scaled(_halves(blocks, 208) * scales, values)


# --- four bits that name one of sixteen values --------------------------------------------------------------

#: The values of the kinds IQ4_NL and IQ4_XS, denser near zero.
_SIXTEEN = np.array(
    [-127, -104, -83, -65, -49, -35, -22, -10, 1, 13, 25, 38, 53, 69, 89, 113], np.float32
)  # fmt: skip


def _iq4_nl(blocks: Bytes) -> Float:
    return _halves(blocks, 0) * _SIXTEEN[_nibbles(blocks[:, 2:])]


def _iq4_xs(blocks: Bytes) -> Float:
    # Eight groups of 32; of the six bits of a scale, four are in bytes and two in one short
    high = np.ascontiguousarray(blocks[:, 2:4]).view(np.uint16)
    low = np.stack([blocks[:, 4:8] & 15, blocks[:, 4:8] >> 4], 2).reshape(len(blocks), 8)
    top = (high >> (2 * np.arange(8, dtype=np.uint16))) & 3
    scales = (low | (top << 4)).astype(np.int8) - np.int8(32)
    values = _SIXTEEN[_nibbles(blocks[:, 8:].reshape(-1, 16))].reshape(len(blocks), 256)
    return _scaled(_halves(blocks, 0) * scales, values)


#: Kinds of llama.cpp that are not read, by type number, so that a message can name them.
UNREAD = {
    9: "Q8_1", 15: "Q8_K", 16: "IQ2_XXS", 17: "IQ2_XS", 18: "IQ3_XXS", 19: "IQ1_S", 21: "IQ3_S", 22: "IQ2_S",
    24: "I8", 25: "I16", 26: "I32", 27: "I64", 28: "F64", 29: "IQ1_M", 34: "TQ1_0", 35: "TQ2_0", 39: "MXFP4",
    40: "NVFP4", 41: "Q1_0",
}  # fmt: skip

#: By type number.
KINDS = {
    0: Kind("F32", 1, 4, lambda b: np.ascontiguousarray(b).view(np.float32)),
    1: Kind("F16", 1, 2, lambda b: np.ascontiguousarray(b).view(np.float16).astype(np.float32)),
    2: Kind("Q4_0", 32, 18, _q4_0),
    3: Kind("Q4_1", 32, 20, _q4_1),
    6: Kind("Q5_0", 32, 22, _q5_0),
    7: Kind("Q5_1", 32, 24, _q5_1),
    8: Kind("Q8_0", 32, 34, _q8_0),
    10: Kind("Q2_K", 256, 84, _q2_k),
    11: Kind("Q3_K", 256, 110, _q3_k),
    12: Kind("Q4_K", 256, 144, _q4_k),
    13: Kind("Q5_K", 256, 176, _q5_k),
    14: Kind("Q6_K", 256, 210, _q6_k),
    20: Kind("IQ4_NL", 32, 18, _iq4_nl),
    23: Kind("IQ4_XS", 256, 136, _iq4_xs),
    30: Kind("BF16", 1, 2, _bf16),
}
