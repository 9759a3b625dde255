"""Spec files of 0.1.0: this version reads them and they say what they said."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load_file

from learndock.spaces import get_space
from learndock.spec import read_spec, similarity
from learndock.spec.spec import identity
from tests.support.golden import GOLDEN, told

EXPECTED: dict[str, Any] = json.loads((GOLDEN / "expected.json").read_text())


def test_every_file_is_expected() -> None:
    assert {path.stem for path in GOLDEN.glob("*.spec")} == set(EXPECTED["specs"])


@pytest.mark.parametrize("name", EXPECTED["specs"])
def test_it_says_what_it_said(name: str) -> None:
    spec = read_spec(GOLDEN / f"{name}.spec")
    assert json.loads(json.dumps(told(spec))) == EXPECTED["specs"][name]
    # Without learndock's reader: the file is safetensors, and the two main parts are float16
    tensors = load_file(GOLDEN / f"{name}.spec")
    assert tensors["domain"].dtype == np.float16
    np.testing.assert_array_equal(tensors["domain"].astype(np.float32), spec.domain)
    np.testing.assert_array_equal(tensors["behaviour"].astype(np.float32), spec.behaviour)


@pytest.mark.parametrize("pair", EXPECTED["similarities"])
def test_they_are_as_alike_as_they_were(pair: str) -> None:
    one, other = (read_spec(GOLDEN / f"{name}.spec") for name in pair.split())
    assert similarity(one, other) == pytest.approx(tuple(EXPECTED["similarities"][pair]), abs=1e-6)


@pytest.mark.parametrize("name", ["minilm-l6", "efficientnet-lite0", "smollm2-135m"])
def test_the_built_in_spaces_are_still_those(name: str) -> None:
    """Another id would make every spec of 0.1.0 in this space incomparable with those of today."""
    assert identity(get_space(name).describe("one-pass")) == EXPECTED["specs"][f"{name}-task"]["space_id"]
