"""A sample of ``make soak``'s mutants: every parser of strangers' bytes ends in our own error or a result."""

from __future__ import annotations

import math
from pathlib import Path
from random import Random

import pytest
from benchmarks import fuzz_parsers, mutants

#: 2,000 in all; others than those of ``make soak``.
FIRST, COUNT = 10_000_000, 200
NAMES = (
    "adapter", "config", "manifest", "onnx", "safetensors", "shelf", "skops", "space", "spec", "tokenizer",
)  # fmt: skip


@pytest.fixture(scope="module")
def parsers(tmp_path_factory: pytest.TempPathFactory) -> dict[str, fuzz_parsers.Parser]:
    return fuzz_parsers.parsers(fuzz_parsers.make_sound(tmp_path_factory.mktemp("sound")))


def test_all_parsers_are_there(parsers: dict[str, fuzz_parsers.Parser]) -> None:
    assert tuple(sorted(parsers)) == NAMES


@pytest.mark.parametrize("name", NAMES)
def test_sound_files_are_read(name: str, parsers: dict[str, fuzz_parsers.Parser], tmp_path: Path) -> None:
    for seed in parsers[name].seeds:
        parsers[name].read(seed, tmp_path)


@pytest.mark.parametrize("name", NAMES)
def test_mutants(name: str, parsers: dict[str, fuzz_parsers.Parser]) -> None:
    found = fuzz_parsers.fuzz(parsers[name], name, FIRST, COUNT, math.inf)
    assert found["wrong"] == 0, found["examples"]
    assert found["read"] + found["refused"] == found["mutants"] == COUNT
    assert found["refused"] >= COUNT // 5


def test_the_harness_sees_what_it_looks_for(monkeypatch: pytest.MonkeyPatch) -> None:
    """A parser that crashes, hangs, eats memory or dies is told by the number of the mutant."""
    import os

    monkeypatch.setattr(fuzz_parsers, "SECONDS", 0.2)

    def bad(source: bytes, folder: Path) -> None:
        match source[0] % 4:
            case 0:
                raise KeyError("mine")
            case 1:
                while True:
                    pass
            case 2:
                bytearray(2 * fuzz_parsers.MEMORY)
            case _:
                os._exit(7)

    parser = fuzz_parsers.Parser([bytes([i]) for i in range(4)], lambda seed, chance: seed, bad)
    found = fuzz_parsers.fuzz(parser, "bad", 0, 6, math.inf)
    assert found["wrong"] == found["mutants"] == 6
    whole = " ".join(what for _, what in found["examples"])
    wanted = {Random(f"bad:{n}").choice(range(4)) for n in range(6)}
    assert ("KeyError" in whole) == (0 in wanted)
    assert ("more than 0.2 s" in whole) == (1 in wanted)
    assert ("MemoryError" in whole) == (2 in wanted)
    assert ("status 7" in whole) == (3 in wanted)
    assert len(wanted) >= 3


def test_mutants_keep_their_frames() -> None:
    """Otherwise nothing behind the first check is ever reached."""
    import io
    import json
    import zipfile

    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w") as out:
        out.writestr("schema.json", json.dumps({"a": [1, 2]}))
        out.writestr("1.npy", b"\x93NUMPY")
    whole = sum(zipfile.is_zipfile(io.BytesIO(mutants.skops_mutant(archive.getvalue(), Random(n)))) for n in range(100))
    assert whole > 50
    assert mutants._write(mutants._read(b"\x08\x07\x3a\x04\x0a\x02\x22\x00", 0)) == b"\x08\x07\x3a\x04\x0a\x02\x22\x00"
