"""Spec files: the same bytes back, and nothing but a ``SpecError`` from bytes that are not a spec."""

from __future__ import annotations

import hashlib
import json
import struct
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from safetensors.numpy import save

from learndock.data.examples import Examples
from learndock.data.schema import Schema
from learndock.errors import LearndockError, SpaceMismatch, SpecError
from learndock.spaces import Space
from learndock.spec import (
    Spec,
    check_shape,
    make_spec,
    read_spec,
    require_same_space,
    similarity,
    spec_from_bytes,
    spec_to_bytes,
    write_spec,
)
from learndock.spec.file import MAX_BYTES
from learndock.spec.spec import coarse
from tests.support.soak import examples

SPACE = {"name": "tiny", "helper": {"width": 8}, "sketch": {"size": 32}, "adapters": {"size": 48, "seed": 0}}
SCHEMA = {"type": "classification", "labels": ["bad", "gut ☂"], "descriptions": ["bad", "gut ☂"], "metric": "accuracy"}


def spec(seed: int = 0, **changes: Any) -> Spec:
    draw = np.random.default_rng(seed)
    parts: dict[str, Any] = {
        "domain": draw.normal(size=8).astype(np.float32),
        "behaviour": draw.normal(size=32).astype(np.float32),
        "contrasts": draw.normal(size=(6, 32)).astype(np.float32),
        "vector": draw.normal(size=48).astype(np.float16),
    }
    whole = {"kind": "task", "space": SPACE, "schema": SCHEMA, "n": 320, "p_value": 0.005, "version": "0.1.0"}
    return Spec(**{**whole, **parts, **changes})


def same(one: Spec, other: Spec) -> None:
    for name in ("kind", "space", "schema", "n", "settings", "p_value", "privacy", "version"):
        assert getattr(one, name) == getattr(other, name), name
    for name in ("domain", "behaviour", "contrasts", "vector"):
        ours, theirs = getattr(one, name), getattr(other, name)
        assert (ours is None) == (theirs is None), name
        if ours is not None:
            assert ours.dtype == theirs.dtype
            np.testing.assert_array_equal(ours, theirs, err_msg=name)


# --- there and back ------------------------------------------------------------------------------------------

halves = st.floats(-60000, 60000, width=16)
words = st.text(st.characters(codec="utf-8"), max_size=20)
tables = st.dictionaries(words, st.none() | st.booleans() | st.integers(-(2**53), 2**53) | words, max_size=4)
rows = arrays(
    np.float32, st.tuples(st.integers(1, 5), st.just(32)), elements=st.floats(-(2.0**20), 2.0**20, width=32)
).filter(lambda found: bool((np.abs(found).max(1) > 1e-6).all()))


def nonzero(size: int) -> st.SearchStrategy[np.ndarray]:
    return arrays(np.float16, size, elements=halves).filter(np.any).map(lambda a: a.astype(np.float32))


specs = st.builds(
    Spec,
    kind=st.sampled_from(["task", "model"]),
    space=tables,
    schema=tables,
    n=st.integers(0, 10**9),
    domain=nonzero(8),
    behaviour=nonzero(32),
    settings=tables,
    p_value=st.none() | st.floats(0, 1),
    privacy=st.none() | st.fixed_dictionaries({"epsilon": st.floats(0.01, 100), "delta": st.floats(1e-9, 0.1)}),
    contrasts=st.none() | rows,
    vector=st.none() | arrays(np.float16, 5, elements=halves),
    version=words,
)


@settings(deadline=None, max_examples=examples(150))
@given(specs)
def test_what_is_written_is_read(made: Spec) -> None:
    kept = made.canonical()
    data = spec_to_bytes(kept)
    back = spec_from_bytes(data)
    same(back, kept)
    assert spec_to_bytes(back) == data
    assert back.space_id == kept.space_id


def test_files(tmp_path: Path) -> None:
    kept = spec().canonical()
    write_spec(kept, tmp_path / "a.spec")
    same(read_spec(tmp_path / "a.spec"), kept)
    same(read_spec(str(tmp_path / "a.spec")), kept)
    assert [p.name for p in tmp_path.iterdir()] == ["a.spec"]


def test_rounding_is_what_the_parts_promise() -> None:
    made = spec()
    kept = made.canonical()
    assert similarity(made, kept) == pytest.approx((1, 1), abs=1e-6)
    assert made.contrasts is not None
    assert kept.contrasts is not None
    # A bit a number: the row's inner product with itself stays
    np.testing.assert_allclose((kept.contrasts * made.contrasts).sum(1), (made.contrasts**2).sum(1), rtol=1e-5)
    same(kept.canonical(), kept)


@pytest.mark.parametrize(("n", "kept"), [(0, 0), (7, 7), (32, 32), (99, 99), (100, 100), (129, 120), (12_345, 12_000)])
def test_counts_are_coarse(n: int, kept: int) -> None:
    assert coarse(n) == kept


def test_a_spec_holds_no_example(minilm: Space) -> None:
    from tests.support.models import SENTIMENT, sentiment, texts

    data = spec_to_bytes(make_spec(sentiment(32), SENTIMENT, space=minilm))
    assert len(data) <= 20_000
    inputs, _ = texts(32)
    assert not [t for t in inputs if t.encode() in data]


# --- damage --------------------------------------------------------------------------------------------------


def refused_or_sound(data: bytes) -> bool:
    """Whether bytes are refused; what is not refused must be a spec that can be used."""
    try:
        found = check_shape(spec_from_bytes(data, where="x.spec"), where="x.spec")
    except SpecError as error:
        message = str(error)
        found = None
    if found is None:
        assert "x.spec" in message
        return True
    assert found.kind in ("task", "model")
    assert found.domain.shape == (8,)
    assert found.behaviour.shape == (32,)
    for part in (found.domain, found.behaviour, found.contrasts, found.vector):
        assert part is None or np.isfinite(part).all()
    assert np.isfinite(found.unit_domain).all()
    assert len(found.space_id) == 64
    again = spec_from_bytes(spec_to_bytes(found))
    assert again.space_id == found.space_id
    return False


DATA = spec_to_bytes(spec().canonical())
HEADER = 8 + struct.unpack("<Q", DATA[:8])[0]


@pytest.mark.parametrize("bit", range(8))
def test_every_flipped_bit_is_noticed(bit: int) -> None:
    for place in range(len(DATA)):
        data = bytearray(DATA)
        data[place] ^= 1 << bit
        assert refused_or_sound(bytes(data)), place


def test_truncated_or_longer() -> None:
    for length in range(len(DATA)):
        assert refused_or_sound(DATA[:length]), length
    for more in (b"\0", b"x" * 100, DATA):
        assert refused_or_sound(DATA + more)


@settings(deadline=None, max_examples=examples(500))
@given(st.integers(0, 2**32 - 1), st.integers(1, 12))
def test_random_bytes_put_in_cut_out_and_moved(seed: int, times: int) -> None:
    draw = np.random.default_rng(seed)
    data = bytearray(DATA)
    for _ in range(times):
        place, length = int(draw.integers(HEADER)), int(draw.integers(1, 9))
        kind = int(draw.integers(4))
        piece = bytes(draw.integers(256, size=length).tolist()) if kind < 2 else bytes(data[-length - place :][:length])
        data[place : place + (0 if kind in (0, 2) else length)] = b"" if kind == 3 else piece
    refused_or_sound(bytes(data))


@settings(deadline=None, max_examples=examples(200))
@given(st.binary(max_size=300))
def test_any_bytes(data: bytes) -> None:
    assert refused_or_sound(data)


def about(**changes: Any) -> dict[str, Any]:
    (length,) = struct.unpack("<Q", DATA[:8])
    found: dict[str, Any] = json.loads(json.loads(DATA[8 : 8 + length])["__metadata__"]["learndock"])
    return {**found, **changes}


def with_parts(metadata: Any = None, **parts: Any) -> bytes:
    """A spec file made by hand, with the digest of what it holds: whoever forges one can do that."""
    draw = np.random.default_rng(0)
    whole = {
        "domain": draw.normal(size=8).astype(np.float16),
        "behaviour": draw.normal(size=32).astype(np.float16),
        **parts,
    }
    whole = {name: part for name, part in whole.items() if part is not None}
    told = about() if metadata is None else metadata
    if isinstance(told, dict):
        told = {key: value for key, value in told.items() if key != "sha256"}
        found = hashlib.sha256(
            json.dumps(told, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode(errors="replace")
        )
        for name in sorted(whole):
            found.update(name.encode() + np.ascontiguousarray(whole[name]).tobytes())
        told = json.dumps({**told, "sha256": found.hexdigest()})
    return save(whole, metadata={"learndock": told})


BITS = np.ones((2, 4), np.uint8)


def test_the_foundation_of_the_refusals_is_a_sound_file() -> None:
    assert not refused_or_sound(with_parts())


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "only 0 bytes long"),
        (b"\x80\x04K\x01.", "only 5 bytes long"),
        (struct.pack("<Q", 1 << 40) + b"{" * 100, "claims 1099511627776 bytes"),
        (struct.pack("<Q", 2) + b"{}", "no specification"),
        (save({"weight": np.ones(3)}), "no specification; make one with `learndock spec`"),
        (with_parts(domain=np.full(8, np.nan, np.float16)), "domain holds NaN or infinity"),
        (with_parts(behaviour=np.full(32, np.inf, np.float16)), "behaviour holds NaN or infinity"),
        (with_parts(vector=np.full(48, np.nan, np.float16)), "vector holds NaN"),
        (with_parts(behaviour=np.zeros(32, np.float16)), "behaviour is zero"),
        (with_parts(domain=np.zeros(8, np.float16)), "domain is zero"),
        (with_parts(domain=None), "has no domain"),
        (with_parts(behaviour=None), "has no behaviour"),
        (with_parts(domain=np.ones(8, np.float32)), "domain is F32"),
        (with_parts(domain=np.ones((2, 4), np.float16)), "expected F16 with 1 axes"),
        (with_parts(domain=np.ones(9, np.float16)), "domain has 9 numbers, its space prescribes 8"),
        (with_parts(behaviour=np.ones(16, np.float16)), "behaviour has 16 numbers"),
        (with_parts(vector=np.ones(47, np.float16)), "vector has 47 numbers"),
        (with_parts(domain=np.ones(0, np.float16)), "domain has the shape"),
        (with_parts(payload=np.ones(3, np.float16)), "unknown parts payload"),
        (with_parts(about(spec=2)), "spec version 2 is not known here; update learndock"),
        (with_parts(about(kind="user")), 'kind "user" is unknown'),
        (with_parts(about(space=[])), "metadata is damaged"),
        (with_parts(about(space={})), "description of its space is not complete"),
        (with_parts(about(space={"helper": 3})), "description of its space is not complete"),
        (with_parts(about(n=None)), "metadata is damaged"),
        (with_parts(about(p_value="sure")), "metadata is damaged"),
        (with_parts(about(settings=None)), "metadata is damaged"),
        (with_parts("[" * 100_000), "metadata is damaged"),
        (with_parts("[]"), "metadata is damaged"),
        (with_parts("3"), "metadata is damaged"),
        (with_parts("{}"), "metadata is damaged"),
        (with_parts(contrasts=np.ones((2, 4), np.uint8)), "contrasts do not belong to its behaviour"),
        (with_parts(contrast_scales=np.ones(2, np.float32)), "contrasts do not belong"),
        (with_parts(contrasts=BITS, contrast_scales=np.ones(3, np.float32)), "contrasts do not belong"),
        (with_parts(contrasts=BITS[:, :3], contrast_scales=np.ones(2, np.float32)), "contrasts do not belong"),
        (with_parts(contrasts=BITS, contrast_scales=np.array([1, -1], np.float32)), "negative or not finite"),
        (with_parts(contrasts=BITS, contrast_scales=np.array([1, np.nan], np.float32)), "negative or not finite"),
        (with_parts(contrasts=BITS, contrast_scales=np.array([1, np.inf], np.float32)), "negative or not finite"),
        (with_parts(contrasts=BITS[:0], contrast_scales=np.ones(0, np.float32)), "contrasts has the shape (0, 32)"),
        (with_parts(about(n=-3)), "n is -3"),
        (with_parts(about(n=float("inf"))), "metadata is damaged"),
        (with_parts(about(p_value=float("nan"))), "NaN is not JSON"),
        (with_parts(about(p_value=-1.0)), "p_value is -1.0"),
        (with_parts(about(space={**SPACE, "note": "\ud800"})), "metadata is damaged"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_said(data: bytes, message: str, tmp_path: Path) -> None:
    path = tmp_path / "theirs.spec"
    path.write_bytes(data)
    with pytest.raises(SpecError) as caught:
        read_spec(path)
    assert str(path) in str(caught.value)
    assert message in str(caught.value)


def test_files_that_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(SpecError, match=r"nowhere\.spec: cannot be read \(No such file"):
        read_spec(tmp_path / "nowhere.spec")
    with pytest.raises(SpecError, match=r"cannot be read \(Is a directory\)"):
        read_spec(tmp_path)
    with (tmp_path / "large.spec").open("wb") as stream:
        stream.truncate(MAX_BYTES + 1)
    with pytest.raises(SpecError, match="too many for a spec"):
        read_spec(tmp_path / "large.spec")


@pytest.mark.parametrize(
    "change",
    [
        {"domain": np.zeros(8, np.float32)},
        {"behaviour": np.full(32, np.nan, np.float32)},
        {"domain": np.ones((8, 1), np.float32)},
        {"contrasts": np.full((2, 32), np.inf, np.float32)},
        {"contrasts": np.ones(32, np.float32)},
        {"n": -1},
        {"schema": {"labels": ["\ud800"]}},
        {"p_value": 1.5},
        {"vector": np.ones((0,), np.float16)},
        {"kind": "user"},
    ],
)
def test_no_spec_of_such_parts_can_be_made(change: dict[str, Any]) -> None:
    with pytest.raises(SpecError):
        spec(**change)


# --- other spaces --------------------------------------------------------------------------------------------


def test_specs_of_other_spaces_are_not_compared() -> None:
    other = {**SPACE, "name": "other", "adapters": {"size": 48, "seed": 7}}
    with pytest.raises(SpaceMismatch) as caught:
        similarity(spec(), spec(space=other))
    assert "adapters.seed (0 / 7)" in str(caught.value)
    assert "name (tiny / other)" in str(caught.value)
    assert "Make both with the same space and recipe" in str(caught.value)


def test_another_recipe_is_another_space(tiny_space: Space, tiny_masked_space: Space) -> None:
    one, other = (spec(space=tiny_space.describe(r)) for r in ("one-pass", "paper"))
    with pytest.raises(SpaceMismatch, match=r"recipe \(one-pass / paper\)"):
        require_same_space(one, other)
    with pytest.raises(SpaceMismatch, match=r"helper\.pooling \(mean / mask\)"):
        require_same_space(one, spec(space=tiny_masked_space.describe("one-pass")))
    require_same_space(one, spec(1, space=dict(reversed(list(tiny_space.describe("one-pass").items())))))


def test_similarity_is_two_cosines() -> None:
    one, other = spec(0), spec(1)
    expected = [
        float(a @ b / np.linalg.norm(a) / np.linalg.norm(b))
        for a, b in ((one.domain, other.domain), (one.behaviour, other.behaviour))
    ]
    assert similarity(one, other) == pytest.approx(expected, abs=1e-6)
    longer = replace(other, domain=other.domain * 9, behaviour=other.behaviour * 0.1)
    assert similarity(one, longer) == pytest.approx(expected, abs=1e-6)


def test_a_label_that_is_no_unicode_stays_inside_our_errors(tiny_space: Space, tmp_path: Path) -> None:
    odd = Schema("classification", ("bad", "g\ud800d"), ("bad", "good"), "accuracy")
    with pytest.raises(LearndockError):
        write_spec(
            make_spec(Examples(["good", "bad"] * 4, np.array([1, 0] * 4), odd), space=tiny_space), tmp_path / "s"
        )
    assert list(tmp_path.iterdir()) == []
