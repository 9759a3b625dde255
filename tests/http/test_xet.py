"""Uploads in Xet's chunks: by the real client, by one of our own that can be wrong, and by strangers."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save_file

from learndock.files import sha256_file
from tests.support.serving import BACKENDS, Site, served_by

pytest.importorskip("hf_xet", reason="asks with the hub's client")
MEGABYTE = 1 << 20


@pytest.fixture(scope="module", params=BACKENDS)
def site(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    with served_by(request.param, tmp_path_factory.mktemp("xet") / "dock") as site:
        yield site


def hf(site: Site, home: Path, token: str, *arguments: str | Path) -> subprocess.CompletedProcess[str]:
    """Run the installed ``hf`` with nothing set but the address and the token."""
    ours = {k: v for k, v in os.environ.items() if not k.startswith("HF_")}
    return subprocess.run(
        [str(Path(sys.executable).with_name("hf")), *map(str, arguments)],
        env={**ours, "HF_ENDPOINT": site.url, "HF_TOKEN": token, "HF_HOME": str(home)},
        capture_output=True, text=True, check=False, timeout=120,
    )  # fmt: skip


def staged(site: Site, user: str) -> list[Path]:
    """The bytes of xorbs that are not in stored files."""
    return sorted(site.service.xet.xorbs.place(site.principal(user)).glob("*.bytes"))


def weights(path: Path, seed: int, *, megabytes: int = 60) -> Path:
    """A file of weights: some that compress well by bytes, some that do not, some all alike."""
    draw = np.random.default_rng(seed)
    count = megabytes * MEGABYTE // 4
    parts = (draw.normal(size=count // 2), draw.integers(0, 3, count // 4), np.zeros(count - count // 2 - count // 4))
    path.parent.mkdir(parents=True, exist_ok=True)
    save_file({name: part.astype(np.float32) for name, part in zip("abc", parts, strict=True)}, path)
    return path


def test_hf_upload_above_50_mb_needs_nothing_set(site: Site, tmp_path: Path) -> None:
    token, home = site.token("ada"), tmp_path / "home"
    file = weights(tmp_path / "model" / "model.safetensors", 1)
    done = hf(site, home, token, "upload", "ada/large", file.parent)
    assert done.returncode == 0, done.stderr
    tree = site.get("/api/models/ada/large/tree/main", token=token).body
    assert [e["lfs"]["oid"] for e in tree] == [sha256_file(file)]
    assert not staged(site, "ada"), "the chunks are in the stored file, and nowhere else"
    # A small change: the client sends what is new, and the rest comes from the stored file.
    with file.open("r+b") as stream:
        stream.seek(20 * MEGABYTE)
        stream.write(b"changed")
    before = sum(p.stat().st_size for p in site.service.uploads.folder.rglob("*.index"))
    done = hf(site, home, token, "upload", "ada/large", file.parent)
    assert done.returncode == 0, done.stderr
    after = sum(p.stat().st_size for p in site.service.uploads.folder.rglob("*.index"))
    assert after - before < before / 10
    pulled = hf(site, tmp_path / "other", token, "download", "ada/large", "--local-dir", tmp_path / "pulled")
    assert pulled.returncode == 0, pulled.stderr
    assert sha256_file(tmp_path / "pulled" / file.name) == sha256_file(file)
