"""Every call of every version of the hub's client, against a folder dock and against PostgreSQL with an object store.

    python -m benchmarks.hub_table --cache FOLDER --json out/soak/hub.json --page docs/hub.md

Writes the table of call x version into the page, and fails where a call neither works nor is refused in words. Also
kills uploads and downloads midway and runs them again, and pushes with the libraries that build on the client.
"""

from __future__ import annotations

import argparse
import asyncio
import datetime
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Iterator
from importlib.metadata import version as version_of
from pathlib import Path
from typing import Any

import pytest
from tests.support.hub_versions import AS_A_PERSON, VERSIONS, python_of, tried
from tests.support.serving import Site, served_by

from learndock._version import VERSION
from learndock.http import bodies, files

BEGIN, END = "<!-- calls: begin -->", "<!-- calls: end -->"
PUSHES = Path(__file__).parents[1] / "tests" / "support" / "hub_pushes.py"
#: Bytes of the file that is sent and fetched with kills, how many pass a second, and after how many the kill comes.
SIZE, RATE, KILLED_AFTER = 24 << 20, 12e6, 6 << 20
SIGNS = {"works": "works", "clear error": "clear error", "no such call": "none"}
_SEND = (
    "import sys; from huggingface_hub import HfApi; a = HfApi(); a.create_repo(sys.argv[1], exist_ok=True); "
    "a.upload_file(path_or_fileobj=sys.argv[2], path_in_repo='model.safetensors', repo_id=sys.argv[1])"
)
_FETCH = (
    "import sys, hashlib, pathlib; from huggingface_hub import hf_hub_download as d; "
    "print(hashlib.sha256(pathlib.Path(d(sys.argv[1], 'model.safetensors')).read_bytes()).hexdigest())"
)


class Slow:
    """Lets bodies and files pass at ``RATE``, and counts them."""

    def __init__(self, patch: pytest.MonkeyPatch) -> None:
        self.passed = 0
        sent, received = files._pieces, bodies.pieces

        async def slow(source: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
            async for piece in source:
                self.passed += len(piece)
                await asyncio.sleep(len(piece) / RATE)
                yield piece

        patch.setattr(files, "_pieces", lambda *a: slow(sent(*a)))
        patch.setattr(bodies, "pieces", lambda *a: slow(received(*a)))


def environment(site: Site, work: Path) -> dict[str, str]:
    """What a person sets, and nothing of ours beside it."""
    ours = {k: v for k, v in os.environ.items() if not k.startswith(("HF_", "LEARNDOCK_", "TRANSFORMERS_"))}
    home = {"HF_HOME": str(work / "home"), "HF_TOKEN": site.token("max")}
    return {**ours, **AS_A_PERSON, "HF_ENDPOINT": site.url, **home}


def killed(site: Site, work: Path, python: Path, slow: Slow) -> Iterator[tuple[str, tuple[str, str]]]:
    """Kill an upload and a download midway, and run each again."""
    import hashlib

    content = os.urandom(SIZE)
    header = json.dumps({"x": {"dtype": "U8", "shape": [SIZE], "data_offsets": [0, SIZE]}}).encode()
    file = work / "long.safetensors"
    file.write_bytes(len(header).to_bytes(8, "little") + header + content)
    wanted, repo = hashlib.sha256(file.read_bytes()).hexdigest(), f"max/killed-{work.name.replace('.', '-')}"
    for what, program in (("upload", _SEND), ("download", _FETCH)):
        command = [str(python), "-c", program, repo, str(file)]
        slow.passed = 0
        running = subprocess.Popen(command, env=environment(site, work), stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        while slow.passed < KILLED_AFTER and running.poll() is None:
            time.sleep(0.02)
        midway = running.poll() is None
        running.kill()
        running.communicate()
        first, slow.passed = slow.passed, 0
        done = subprocess.run(command, env=environment(site, work), capture_output=True, text=True, check=False)
        right = done.returncode == 0 and (what == "upload" or done.stdout.split()[-1:] == [wanted])
        detail = f"{first >> 20} MiB before the kill, {slow.passed >> 20} after it" if right else done.stderr[-300:]
        yield f"{what}, killed midway, again", ("works" if right and midway else "fails", detail)


def pushed(site: Site, work: Path, python: Path) -> dict[str, tuple[str, str]]:
    """What comes of pushes with transformers, PEFT and others, with the newest client."""
    root = PUSHES.parents[2]
    paths = {"PYTHONPATH": os.pathsep.join([str(root), str(root / "src")])}
    asked = json.dumps({"owner": "max", "work": str(work)})
    done = subprocess.run(
        [str(python), str(PUSHES), asked], env={**environment(site, work), **paths}, capture_output=True, text=True,
        check=False,
    )  # fmt: skip
    found = json.loads(done.stdout.splitlines()[-1]) if done.returncode == 0 else {"pushes": done.stderr[-500:]}
    known = {"works": ("works", ""), "not installed": ("no such call", "")}
    return {what: known.get(outcome, ("fails", outcome)) for what, outcome in found.items()}


def with_sentences(cache: Path) -> Path:
    """An interpreter that has this environment's packages, and sentence-transformers."""
    place = cache / "with-sentence-transformers"
    python = place / "bin" / "python"
    if not (place / "complete").exists():
        subprocess.run([sys.executable, "-m", "venv", str(place)], check=True)
        (here,) = [p for p in sys.path if p.endswith("site-packages")][:1]
        (next((place / "lib").glob("python*")) / "site-packages" / "beside.pth").write_text(f"{here}\n")
        install = [str(python), "-m", "pip", "install", "-q", "--no-deps", "sentence-transformers"]
        subprocess.run(install, check=True)
        (place / "complete").touch()
    return python


def run(
    cache: Path, backend: str, versions: tuple[str, ...], only: tuple[str, ...] = ()
) -> dict[str, dict[str, tuple[str, str]]]:
    """Return call -> version -> (outcome, detail); of all calls, or of ``only`` some."""
    table: dict[str, dict[str, tuple[str, str]]] = {}
    with tempfile.TemporaryDirectory() as place, served_by(backend, Path(place) / "dock") as site:
        for version in versions:
            installed = version == version_of("huggingface_hub")
            python = Path(sys.executable) if installed else python_of(version, cache)
            work = Path(place) / version
            work.mkdir()
            with pytest.MonkeyPatch.context() as patch:
                found = tried(site, work, monkeypatch=patch, python=python, only=only)
                found |= {} if only else dict(killed(site, work, python, Slow(patch)))
            if installed and not only:
                found |= pushed(site, work, with_sentences(cache))
            for call, outcome in found.items():
                table.setdefault(call, {})[version] = outcome
            print(backend, version, {o: sum(f[0] == o for f in found.values()) for o in {f[0] for f in found.values()}})
    return table


def page_of(tables: dict[str, dict[str, dict[str, tuple[str, str]]]], versions: tuple[str, ...]) -> str:
    """Return the table as Markdown; a cell is the worse of what the two stores gave."""
    first = next(iter(tables.values()))
    today = datetime.datetime.now(datetime.UTC).date().isoformat()
    libraries = ", ".join(f"{n} {version_of(n)}" for n in ("transformers", "peft"))
    lines = [
        BEGIN,
        f"Written by `make soak-hub` on {today} with learndock {VERSION}, on {' and '.join(tables)} docks; pushes with",
        f"{libraries}, and the newest client of the table.",
        "",
        f"| call | {' | '.join(versions)} |",
        f"|---|{'---|' * len(versions)}",
    ]
    for call in first:
        cells = []
        for version in versions:
            found = {t[call][version][0] for t in tables.values() if version in t.get(call, {})}
            worst = next((o for o in ("fails", "clear error", "works", "no such call") if o in found), "")
            cells.append(SIGNS.get(worst, worst.upper() or "-"))
        lines.append(f"| `{call}` | {' | '.join(cells)} |" if "(" in call else f"| {call} | {' | '.join(cells)} |")
    return "\n".join([*lines, END])


def main() -> None:
    """Run all, write the table, and fail where a call does."""
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--cache", type=Path, default=Path(".venv/hub-clients"))
    options.add_argument("--json", type=Path, default=Path("out/soak/hub.json"))
    options.add_argument("--page", type=Path, default=Path("docs/hub.md"))
    options.add_argument("--backends", nargs="*", default=["embedded", "server-backed"])
    options.add_argument("--versions", nargs="*", default=list(VERSIONS))
    options.add_argument(
        "--only", nargs="*", default=[], help="try these calls, and keep what --json has of the others"
    )
    asked = options.parse_args()
    asked.cache.mkdir(parents=True, exist_ok=True)
    versions = tuple(asked.versions)
    tables: dict[str, Any] = json.loads(asked.json.read_text()) if asked.only else {}
    for backend in asked.backends:
        for call, row in run(asked.cache, backend, versions, tuple(asked.only)).items():
            tables.setdefault(backend, {}).setdefault(call, {}).update(row)
    asked.json.parent.mkdir(parents=True, exist_ok=True)
    asked.json.write_text(json.dumps(tables, indent=1))
    page = asked.page.read_text()
    before, _, rest = page.partition(BEGIN)
    if rest:
        asked.page.write_text(before + page_of(tables, versions) + rest.partition(END)[2])
    bad = [(b, c, v, d) for b, t in tables.items() for c, row in t.items() for v, (o, d) in row.items() if o == "fails"]
    for place in bad:
        print("FAILS", *place, sep=" | ")
    sys.exit(bool(bad))


if __name__ == "__main__":
    main()
