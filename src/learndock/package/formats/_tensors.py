"""Tensors of a safetensors file as NumPy arrays, without torch."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from learndock.errors import ModelError
from learndock.tensor_file import TensorEntry

_FLOATS = {"F16": np.float16, "F32": np.float32, "F64": np.float64}


def read_tensor(path: Path, entry: TensorEntry, *, name: str) -> NDArray[np.float32]:
    """One floating-point tensor, in its shape, as float32.

    Raises:
        ModelError: it is of another type.
    """
    with path.open("rb") as stream:
        stream.seek(entry.begin)
        source = stream.read(entry.end - entry.begin)
    if entry.dtype == "BF16":
        wide = np.frombuffer(source, dtype="<u2").astype(np.uint32) << 16
        return wide.view(np.float32).reshape(entry.shape)
    if entry.dtype not in _FLOATS:
        raise ModelError(f"tensor {name} is of type {entry.dtype}, expected floats", about=path.name)
    little = np.dtype(_FLOATS[entry.dtype]).newbyteorder("<")
    with np.errstate(over="ignore"):
        return np.frombuffer(source, dtype=little).astype(np.float32).reshape(entry.shape)
