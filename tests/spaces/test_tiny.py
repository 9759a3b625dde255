"""The committed tiny spaces are what authoring makes of their models."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from learndock.files import sha256_file
from learndock.spaces import Space, get_space
from learndock.spaces.onnx_helper import load_helper
from learndock.spaces.space import read_space
from tests.support.tiny import SOURCES, TINY, source_of, trace

GRAPHS = {"features.onnx", "gradients.onnx"}


def described(space: Space) -> dict[str, Any]:
    """The description without the hashes of its graphs: their bytes follow the version of the exporter."""
    found: dict[str, Any] = json.loads((space.folder / "space.json").read_text())
    for file in GRAPHS:
        del found["description"]["files"][file]
    return found


@pytest.mark.parametrize("name", SOURCES)
def test_every_file_has_the_hash_that_the_description_says(name: str) -> None:
    space = get_space(TINY / name)
    listed = json.loads((TINY / name / "space.json").read_text())["description"]["files"]
    assert set(listed) == {f.name for f in space.folder.iterdir()} - {"space.json"}
    assert {file: sha256_file(space.folder / file) for file in listed} == listed


@pytest.mark.slow
@pytest.mark.parametrize("name", SOURCES)
def test_tracing_gives_the_committed_space(name: str, tmp_path: Path) -> None:
    kept = get_space(TINY / name)
    trace(name, source_of(name, tmp_path / "source"), tmp_path / name)
    traced = read_space(tmp_path / name)
    assert described(traced) == described(kept)
    if name == "tiny-causal":
        return  # what the graph computes is compared with torch while it is authored
    texts = ["good film", "the nurse wrote down the temperature twice", "no"]
    direction = np.random.default_rng(0).normal(size=(len(texts), 1, kept.width)).astype(np.float32)
    ours, theirs = ([*load_helper(space).gradients(texts, direction)] for space in (kept, traced))
    for a, b in zip(ours, theirs, strict=True):
        assert np.allclose(a.gradients, b.gradients, rtol=1e-5, atol=1e-7)
