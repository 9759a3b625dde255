"""Write spec files completely or not at all; read them without trusting them."""

from __future__ import annotations

import hashlib
import io
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from learndock.errors import SpecError
from learndock.files import atomic_write
from learndock.spec.spec import Spec, canonical
from learndock.spec.statistics import pack_bits, unpack_bits
from learndock.strict_json import strict_json
from learndock.tensor_file import SafetensorsHeader, safetensors_header

KEY = "learndock"
FILE_VERSION = 1
MAX_BYTES = 64 << 20

#: Part -> (type in the file, number of axes, must it be there).
PARTS = {
    "domain": ("F16", 1, True),
    "behaviour": ("F16", 1, True),
    "contrasts": ("U8", 2, False),
    "contrast_scales": ("F32", 1, False),
    "vector": ("F16", 1, False),
}
_DTYPES: dict[str, Any] = {"F16": np.float16, "F32": np.float32, "U8": np.uint8}


def spec_to_bytes(spec: Spec) -> bytes:
    """The one byte string of a spec."""
    from safetensors.numpy import save

    tensors: dict[str, NDArray[Any]] = {
        "domain": spec.domain.astype(np.float16),
        "behaviour": spec.behaviour.astype(np.float16),
    }
    if spec.contrasts is not None:
        tensors["contrasts"], tensors["contrast_scales"] = pack_bits(spec.contrasts)
    if spec.vector is not None:
        tensors["vector"] = spec.vector.astype(np.float16)
    about: dict[str, Any] = {
        "spec": FILE_VERSION,
        "kind": spec.kind,
        "space": dict(spec.space),
        "schema": dict(spec.schema),
        "n": spec.n,
        "settings": dict(spec.settings),
        "p_value": spec.p_value,
        "reliability": spec.reliability,
        "privacy": None if spec.privacy is None else dict(spec.privacy),
        "version": spec.version,
    }
    about["sha256"] = _digest(about, tensors)
    return save(tensors, metadata={KEY: canonical(about).decode()})


def spec_from_bytes(data: bytes, *, where: str = "spec") -> Spec:
    """Read a spec.

    Raises:
        SpecError: damaged, foreign, of a newer version, or with values that cannot be true.
    """
    header = safetensors_header(io.BytesIO(data), len(data), where=where, error=SpecError)
    if KEY not in header.metadata:
        raise SpecError(
            "a safetensors file, but no specification", remedy="make one with `learndock spec`", about=where
        )
    try:
        about = strict_json(header.metadata[KEY])
        if about["spec"] != FILE_VERSION:
            raise SpecError(f"spec version {about['spec']!r} is not known here", remedy="update learndock", about=where)
        parts = _parts(data, header, where)
        if about.pop("sha256") != _digest(about, parts):
            raise SpecError("damaged: its content is not what was written", remedy="get or make it again", about=where)
        return Spec(
            kind=about["kind"],
            space=_table(about["space"]),
            schema=_table(about["schema"]),
            n=int(about["n"]),
            domain=parts["domain"].astype(np.float32),
            behaviour=parts["behaviour"].astype(np.float32),
            settings=_table(about["settings"]),
            p_value=None if about["p_value"] is None else float(about["p_value"]),
            reliability=float(about["reliability"]),
            privacy=None if about["privacy"] is None else _table(about["privacy"]),
            contrasts=_contrasts(parts, where),
            vector=parts.get("vector"),
            version=str(about["version"]),
        )
    except SpecError as error:
        raise SpecError(str(error) if where in str(error) else f"{where}: {error}") from None
    except (KeyError, TypeError, ValueError, OverflowError, RecursionError) as error:
        raise SpecError(f"its metadata is damaged ({error!r})", about=where) from None


def _digest(about: dict[str, Any], parts: dict[str, NDArray[Any]]) -> str:
    """SHA-256 over metadata and numbers: no protection against a forger, but against a flipped bit."""
    found = hashlib.sha256(canonical(about))
    for name in sorted(parts):
        found.update(name.encode() + np.ascontiguousarray(parts[name]).tobytes())
    return found.hexdigest()


def _contrasts(parts: dict[str, NDArray[Any]], where: str) -> NDArray[np.float32] | None:
    bits, scales = parts.get("contrasts"), parts.get("contrast_scales")
    if bits is None and scales is None:
        return None
    if bits is None or scales is None or len(bits) != len(scales) or bits.shape[1] * 8 != len(parts["behaviour"]):
        raise SpecError("its contrasts do not belong to its behaviour", about=where)
    if not (np.isfinite(scales).all() and (scales >= 0).all()):
        raise SpecError("a scale of its contrasts is negative or not finite", about=where)
    return unpack_bits(bits, scales)


def _table(value: Any) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise TypeError(f"expected an object, found {type(value).__name__}")
    return value


def _parts(data: bytes, header: SafetensorsHeader, where: str) -> dict[str, NDArray[Any]]:
    unknown = sorted(set(header.tensors) - set(PARTS))
    if unknown:
        raise SpecError(f"holds unknown parts {', '.join(unknown[:5])}", about=where)
    found = {}
    for name, (dtype, axes, needed) in PARTS.items():
        entry = header.tensors.get(name)
        if entry is None:
            if needed:
                raise SpecError(f"has no {name}", about=where)
            continue
        if entry.dtype != dtype or len(entry.shape) != axes:
            raise SpecError(f"{name} is {entry.dtype} {entry.shape}, expected {dtype} with {axes} axes", about=where)
        flat = np.frombuffer(data, _DTYPES[dtype], offset=entry.begin, count=int(np.prod(entry.shape)))
        found[name] = flat.reshape(entry.shape).copy()
    return found


def check_shape(spec: Spec, *, where: str = "spec") -> Spec:
    """Check a spec's parts against what its own space prescribes; returns it.

    Raises:
        SpecError: a part has another length.
    """
    try:
        expected = {
            "domain": spec.space["helper"]["width"],
            "behaviour": spec.space["sketch"]["size"],
            "vector": spec.space["adapters"]["size"],
        }
    except (KeyError, TypeError):
        raise SpecError("the description of its space is not complete", about=where) from None
    for name, length in expected.items():
        part = getattr(spec, name)
        if part is not None and part.shape != (length,):
            raise SpecError(f"{name} has {part.shape[0]} numbers, its space prescribes {length}", about=where)
    return spec


def write_spec(spec: Spec, path: str | Path) -> None:
    """Write a spec as one safetensors file; it appears completely, or not at all.

    Raises:
        StorageFull: the disk is full; an existing file is unchanged.

    Example:
        >>> spec = learndock.make_spec(learndock.read_examples("few.csv"))
        >>> learndock.write_spec(spec, "task.spec")
        >>> learndock.read_spec("task.spec")
        <Spec: task, 16 examples, space minilm-l6, p-value 0.009>
    """
    with atomic_write(path) as stream:
        stream.write(spec_to_bytes(spec))


def read_spec(path: str | Path) -> Spec:
    """Read a spec file and check it against the space that it describes.

    Raises:
        SpecError: there is no such file, or it is not a sound spec.

    Example:
        >>> learndock.read_spec("learnware/specs/minilm-l6.spec").kind
        'model'
    """
    path = Path(path)
    try:
        if path.is_fifo() or path.is_char_device():
            raise SpecError("not a regular file", remedy="give a spec file", about=path)
        with path.open("rb") as stream:
            data = stream.read(MAX_BYTES + 1)
        if len(data) > MAX_BYTES:
            raise SpecError(f"more than {MAX_BYTES} bytes, too many for a spec", about=path)
    except OSError as error:
        raise SpecError(f"cannot be read ({error.strerror})", about=path) from None
    return check_shape(spec_from_bytes(data, where=str(path)), where=str(path))
