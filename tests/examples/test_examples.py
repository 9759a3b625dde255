"""The examples run as they are, each in a folder of its own, and say what their pages promise."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).parents[2] / "examples"
SECONDS = 600


def run(name: str, folder: Path) -> str:
    environment = {**os.environ, "TRANSFORMERS_VERBOSITY": "error"}
    for variable in ("LEARNDOCK_DOCK", "LEARNDOCK_TOKEN", "LEARNDOCK_BASES"):
        environment.pop(variable, None)
    done = subprocess.run(
        [sys.executable, EXAMPLES / name, folder], env=environment, capture_output=True, text=True, timeout=SECONDS
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def score_in(said: str) -> float:
    found = re.search(r"accuracy (\d\.\d+) on", said)
    assert found is not None
    return float(found[1])


def test_every_example_is_listed_and_tested() -> None:
    names = {p.name for p in EXAMPLES.glob("*.py")}
    assert names == set(re.findall(r"\[(\w+\.py)\]", (EXAMPLES / "README.md").read_text()))
    assert names == set(re.findall(r'run\("(\w+\.py)"', Path(__file__).read_text()))


def test_text_classifier(minilm: object, tmp_path: Path) -> None:
    pytest.importorskip("skops", reason="needs the extra sklearn")
    said = run("text_classifier.py", tmp_path / "x")
    assert "fits: True" in said
    assert said.index("corner-shop/review-mood      score") < said.index("me/small-reviews             score")
    assert said.rstrip().endswith("negative")


def test_images(tmp_path: Path) -> None:
    pytest.importorskip("skops", reason="needs the extra sklearn")
    pytest.importorskip("PIL", reason="needs the extra images")
    from learndock.spaces import get_space

    space = get_space("efficientnet-lite0")
    if any(space.find(f) is None for f in space.files):
        pytest.skip("weights of efficientnet-lite0 are not on this machine")
    said = run("images.py", tmp_path / "x")
    assert "fits: True; me/digits" in said
    assert score_in(said) > 0.8  # four classes


@pytest.mark.slow
def test_lora_adapter(minilm: object, tmp_path: Path) -> None:
    pytest.importorskip("peft", reason="needs the extra torch")
    said = run("lora_adapter.py", tmp_path / "x")
    size = re.search(r"me/reviews-lora: (\d+\.\d) MB on minilm-l6", said)
    assert size is not None
    assert float(size[1]) < 1  # the base stays where it is
    assert score_in(said) > 0.55


def test_own_server(minilm: object, tmp_path: Path) -> None:
    pytest.importorskip("fastapi", reason="needs the extra server")
    said = run("own_server.py", tmp_path / "x")
    assert "corner-shop/review-mood is private: only corner-shop sees it" in said
    assert "corner-shop/review-mood fits your task" in said
    assert said.rstrip().endswith("service stopped")
