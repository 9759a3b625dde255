"""A specification: the numbers that stand for a model's or a task's behaviour, and the file they travel in.

On disk a spec is one safetensors file: a tensor for each part, and a JSON text under the metadata key
``learndock``. It is never a pickle, and it holds no example.

    domain     (feature width,) float16   what the inputs are about
    behaviour  (sketch size,)   float16   how outputs depend on inputs
    contrasts  (at most 12, sketch size / 8) uint8 bits, and contrast_scales: how much the behaviour would vary
               with other examples (task specs; see ``statistics``)
    vector     (|B|,)           float16   the entire parameter vector, on request

``domain`` and ``behaviour`` have unit root mean square, so that float16 keeps every one of them to three digits.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from learndock.errors import SpaceMismatch, SpecError
from learndock.notebook import html_table
from learndock.spec.statistics import pack_bits, unpack_bits

Kind = Literal["model", "task"]
Array = NDArray[np.float32]


def canonical(description: Mapping[str, Any]) -> bytes:
    """Return the canonical bytes of a JSON value: sorted keys, no spaces, UTF-8."""
    return json.dumps(description, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()


def identity(description: Mapping[str, Any]) -> str:
    """SHA-256 of the canonical description, in hexadecimal: the id of a space."""
    return hashlib.sha256(canonical(description)).hexdigest()


@dataclass(frozen=True, eq=False)
class Spec:
    """A specification: the numbers that stand for a model's or a task's behaviour; make one with ``make_spec``.

    ``space`` describes everything that must be equal for two specs to be comparable; its hash is
    ``space_id``. ``domain`` is ``(feature width,)``, ``behaviour`` ``(sketch size,)``, both float32 of unit
    root mean square. ``contrasts`` is ``(r, sketch size)`` float32 or None: in any direction it deviates as the
    behaviour does between draws of examples. ``p_value`` is the permutation p-value of the behaviour against
    labels that have nothing to do with the inputs. ``reliability``, from 0 to 1, is the share of the behaviour's
    squared length that other examples would repeat; 1 where the recipe does not tell.
    ``privacy`` is None, or ``{"epsilon": ..., "delta": ...}``.
    """

    kind: Kind
    space: Mapping[str, Any]
    schema: Mapping[str, Any]
    n: int
    domain: Array
    behaviour: Array
    settings: Mapping[str, Any] = field(default_factory=dict)
    p_value: float | None = None
    reliability: float = 1.0
    privacy: Mapping[str, float] | None = None
    contrasts: Array | None = None
    vector: NDArray[np.float16] | None = None
    version: str = ""

    def __post_init__(self) -> None:
        if self.kind not in ("model", "task"):
            raise SpecError(f'kind "{self.kind}" is unknown', remedy="a spec is of a model or of a task")
        for name in ("domain", "behaviour", "contrasts", "vector"):
            part = getattr(self, name)
            if part is None:
                continue
            if part.ndim != (2 if name == "contrasts" else 1) or part.size == 0:
                raise SpecError(f"{name} has the shape {part.shape}")
            if not np.isfinite(part).all():
                raise SpecError(f"{name} holds NaN or infinity")
        for name in ("domain", "behaviour"):
            if not np.any(getattr(self, name)):
                raise SpecError(f"{name} is zero")
        if self.n < 0:
            raise SpecError(f"n is {self.n}; it counts examples")
        if self.p_value is not None and not 0 <= self.p_value <= 1:
            raise SpecError(f"p_value is {self.p_value}; a p-value is between 0 and 1")
        if not 0 <= self.reliability <= 1:
            raise SpecError(f"reliability is {self.reliability}; a share is between 0 and 1")
        try:
            canonical({"space": self.space, "schema": self.schema, "settings": self.settings})
        except UnicodeEncodeError as error:
            raise SpecError(f"a description holds text that is not Unicode ({error.reason})") from None

    def __repr__(self) -> str:
        evidence = "" if self.p_value is None else f", p-value {self.p_value:.2g}"
        return f"<Spec: {self.kind}, {self.n} examples, space {self._space_name()}{evidence}>"

    def _repr_html_(self) -> str:
        rows = [
            ("kind", self.kind),
            ("space", self._space_name()),
            ("recipe", self.space.get("recipe", "")),
            ("labels", ", ".join(map(str, self.schema.get("labels", ())))),
            ("examples", self.n),
            ("p-value", "-" if self.p_value is None else f"{self.p_value:.2g}"),
            ("reliability", f"{self.reliability:.2f}"),
            ("privacy", "no guarantee" if self.privacy is None else str(dict(self.privacy))),
        ]
        return html_table(("specification", ""), rows)

    def _space_name(self) -> str:
        return str(self.space.get("name", self.space_id[:12]))

    def canonical(self) -> Spec:
        """Return the spec as its file will give it back: parts rounded to what the file keeps."""
        return replace(
            self,
            n=coarse(self.n),
            domain=_rounded(self.domain),
            behaviour=_rounded(self.behaviour),
            contrasts=None if self.contrasts is None else unpack_bits(*pack_bits(self.contrasts)),
        )

    @property
    def unit_domain(self) -> Array:
        """``domain`` of length one."""
        return unit(self.domain)

    @property
    def unit_behaviour(self) -> Array:
        """``behaviour`` of length one."""
        return unit(self.behaviour)

    @property
    def space_id(self) -> str:
        """Hash of everything that must be equal for two specs to be comparable."""
        return identity(self.space)


def unit(vector: Array) -> Array:
    """Return ``vector`` divided by its length.

    Raises:
        SpecError: its length is zero or infinite.
    """
    length = float(np.linalg.norm(vector.astype(np.float64)))
    if not np.isfinite(length) or length == 0:
        raise SpecError("a vector of length zero or infinity has no direction")
    return (vector / length).astype(np.float32)


def coarse(n: int) -> int:
    """Return ``n`` rounded down to two digits, because the exact number of examples is private."""
    step = int(10 ** max(len(str(n)) - 2, 0))
    return n // step * step


def _rounded(part: Array) -> Array:
    return part.astype(np.float16).astype(np.float32)


def difference(one: Mapping[str, Any], other: Mapping[str, Any], path: str = "") -> list[str]:
    """Return which fields of two space descriptions differ, in words."""
    found = []
    for key in sorted({*one, *other}):
        place = f"{path}{key}"
        ours, theirs = one.get(key), other.get(key)
        if isinstance(ours, Mapping) and isinstance(theirs, Mapping):
            found += difference(ours, theirs, place + ".")
        elif ours != theirs:
            found.append(f"{place} ({_short(ours)} / {_short(theirs)})")
    return found


def _short(value: Any) -> str:
    text = str(value)
    return text[:12] + "..." if len(text) > 40 else text


def require_same_space(one: Spec, other: Spec) -> None:
    """Check that two specs can be compared.

    Raises:
        SpaceMismatch: they were made in different spaces; the message says what differs.
    """
    if one.space_id != other.space_id:
        what = "; ".join(difference(one.space, other.space))
        raise SpaceMismatch(
            "specs of different spaces cannot be compared",
            remedy=f"they differ in {what}. Make both with the same space and recipe",
        )


def similarity(one: Spec, other: Spec) -> tuple[float, float]:
    """Return the cosines (domain, behaviour) of two specs of one space, each in [-1, 1].

    Raises:
        SpaceMismatch: the specs are of different spaces; the message says what differs.

    Example:
        >>> task = learndock.make_spec(learndock.read_examples("few.csv"))
        >>> model = learndock.open_learnware("learnware").spec()
        >>> domain, behaviour = learndock.similarity(task, model)
        >>> domain > 0.9, behaviour > 0.5
        (True, True)
    """
    require_same_space(one, other)
    return float(one.unit_domain @ other.unit_domain), float(one.unit_behaviour @ other.unit_behaviour)
