"""What pushing and pulling costs: a file inside a commit, a large one through `hf` (LFS and Xet) and `learndock`.

    python benchmarks/bench_hub.py [--megabytes 1000]

The server is ``learndock serve`` in a process of its own, the clients are the installed commands in theirs; everything
lies in a temporary folder. Prints a line for each step: seconds, and the server's peak of resident memory so far.
"""

from __future__ import annotations

import argparse
import os
import re
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

from tests.http.test_serve import Process, running
from tests.support.docking import make_learnware

from learndock.dock.remote.session import Session

BIN = Path(sys.executable).parent


def main() -> None:
    """Run every step."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--megabytes", type=int, default=1000, help="size of the large file")
    megabytes = parser.parse_args().megabytes
    with tempfile.TemporaryDirectory() as name, running(Path(name) / "dock") as server:
        folder, token = Path(name), first_token(server)
        print(f"server at rest: {server.status('VmRSS') // 1000} MB")
        environment = {k: v for k, v in os.environ.items() if not k.startswith(("HF_", "LEARNDOCK_"))} | {
            "HF_ENDPOINT": server.url,
            "HF_TOKEN": token,
            "HF_HOME": str(folder / "home"),
            "HF_HUB_DISABLE_PROGRESS_BARS": "1",
            "HF_HUB_DISABLE_XET": "1",
            "LEARNDOCK_DOCK": server.url,
            "LEARNDOCK_TOKEN": token,
        }
        chunks = {k: v for k, v in environment.items() if k != "HF_HUB_DISABLE_XET"}
        small = make_learnware(folder / "small", "admin/small", numbers=12_000_000)
        large = make_learnware(folder / "large", "admin/large", numbers=megabytes * 250_000)
        xet = make_learnware(folder / "xet", "admin/xet", numbers=megabytes * 250_000)
        ours = make_learnware(folder / "ours", "admin/ours", numbers=megabytes * 250_000)
        for what, variables, command in (
            ("hf upload, 48 MB inside the commit", environment, ("hf", "upload", "admin/small", small)),
            (f"hf upload, {megabytes} MB, LFS", environment, ("hf", "upload", "admin/large", large)),
            (f"hf upload, {megabytes} MB, Xet", chunks, ("hf", "upload", "admin/xet", xet)),
            (
                f"hf download, {megabytes} MB",
                environment,
                ("hf", "download", "admin/large", "--local-dir", folder / "a"),
            ),
            (f"learndock add, {megabytes} MB", environment, ("learndock", "add", ours)),
            (f"learndock get, {megabytes} MB", environment, ("learndock", "get", "admin/ours", "-o", folder / "b")),
        ):
            begun = time.monotonic()
            words = [str(BIN / command[0]), *map(str, command[1:])]
            subprocess.run(words, env=variables, check=True, stdout=subprocess.DEVNULL)
            seconds = time.monotonic() - begun
            print(f"{what}: {seconds:.1f} s; server at most {server.status('VmHWM') // 1000} MB")


def first_token(server: Process) -> str:
    """The operator's token, for the link that the first start prints; what the server says after is thrown away."""
    assert server.process.stderr is not None
    link = re.search(r"#link=([^\s']+)", server.process.stderr.readline())
    assert link
    threading.Thread(target=server.process.stderr.read, daemon=True).start()
    server.answer("/api/v1/health")
    asked = {"link": link[1], "name": "bench", "scope": "admin", "days": None}
    return str(Session(server.url, token=None).json("POST", "/tokens/exchange", asked)["token"])


if __name__ == "__main__":
    main()
