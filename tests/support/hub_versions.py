"""Versions of the hub's client, each in an environment of its own, and what comes of every call with each."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from learndock.http.hub import snapshot
from tests.support.docking import make_learnware
from tests.support.serving import Site

#: From the oldest that people still have to the newest.
VERSIONS = ("0.34.4", "0.36.2", "1.0.1", "1.19.0", "1.33.0", "2.4.0")
PROGRAM = Path(__file__).with_name("hub_calls.py")
#: What a person sets, and a proxy that is not there: nothing that a client asks of other hosts leaves this machine.
AS_A_PERSON = {
    "HF_HUB_DISABLE_TELEMETRY": "1",
    "HF_HUB_DISABLE_UPDATE_CHECK": "1",
    "HF_HUB_DISABLE_PROGRESS_BARS": "1",
    "HTTPS_PROXY": "http://127.0.0.1:9",
    "NO_PROXY": "127.0.0.1",
}
MEGABYTE = 1 << 20


def python_of(version: str, cache: Path) -> Path:
    """The interpreter of an environment with this version, made once.

    Raises:
        RuntimeError: it cannot be made; the text says why.
    """
    place = cache / version
    python = place / "bin" / "python"
    if not (place / "complete").exists():
        shutil.rmtree(place, ignore_errors=True)
        extra = "cli,hf_xet" if version.startswith("0.") else "hf_xet"
        more = (
            ["click"] if version == "1.0.1" else []
        )  # its command line imports it, and newer typers no longer bring it
        for command in (
            [sys.executable, "-m", "venv", str(place)],
            [str(python), "-m", "pip", "install", "-q", f"huggingface_hub[{extra}]=={version}", *more],
        ):
            done = subprocess.run(command, capture_output=True, text=True, check=False)
            if done.returncode:
                raise RuntimeError(f"huggingface_hub {version} cannot be had: {done.stderr[-300:]}")
        (place / "complete").touch()
    return python


def tried(
    site: Site, work: Path, *, monkeypatch: pytest.MonkeyPatch, python: Path | None = None, only: tuple[str, ...] = ()
) -> dict[str, tuple[str, str]]:
    """Try every call with one client against ``site``; returns call -> (outcome, detail)."""
    ada, owner = site.token("ada"), "max"
    site.post("/api/repos/create", {"name": "open"}, token=ada)
    monkeypatch.setattr(snapshot, "LARGE", MEGABYTE)
    name = f"v{work.name}".replace(".", "-").lower()
    for seed in (0, 1):
        folder = make_learnware(work / f"words{seed}", f"{owner}/{name}-words", seed=seed)
        assert site.publish(folder, site.token(owner)).status == 201
    asked = {"owner": owner, "repo": f"{owner}/{name}", "work": str(work), "only": only}
    ours = {k: v for k, v in os.environ.items() if not k.startswith(("HF_", "LEARNDOCK_", "TRANSFORMERS_"))}
    done = subprocess.run(
        [str(python or sys.executable), str(PROGRAM), json.dumps(asked)],
        env={
            **ours,
            **AS_A_PERSON,
            "HF_ENDPOINT": site.url,
            "HF_HOME": str(work / "home"),
            "HF_TOKEN": site.token(owner),
        },
        capture_output=True,
        text=True,
        check=False,
        timeout=600,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    found = json.loads(done.stdout.splitlines()[-1])
    found.pop("version")
    return {call: (outcome, detail) for call, (outcome, detail) in found.items()}
