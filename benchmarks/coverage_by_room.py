"""Print test coverage room by room, from the data of the last test run."""

from __future__ import annotations

import io
import json
import tempfile
from pathlib import Path

import coverage

ROOMS = (
    "data",
    "spaces",
    "spec",
    "package",
    "dock",
    "index",
    "search",
    "reuse",
    "tour",
    "bench",
    "service",
    "http",
    "cli",
)


def main() -> None:
    """Sum covered and all lines and branches of every room."""
    measured = coverage.Coverage()
    measured.load()
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "coverage.json"
        measured.json_report(outfile=str(path), pretty_print=False)
        files = json.loads(path.read_text())["files"]
    out = io.StringIO()
    whole = [0, 0]
    for room in ("(root)", *ROOMS):
        counts = [0, 0]
        for name, entry in files.items():
            parts = Path(name).parts
            inside = parts[parts.index("learndock") + 1 :]
            if (inside[0] if len(inside) > 1 else "(root)") == room:
                s = entry["summary"]
                counts[0] += s["covered_lines"] + s.get("covered_branches", 0)
                counts[1] += s["num_statements"] + s.get("num_branches", 0)
        whole = [a + b for a, b in zip(whole, counts, strict=True)]
        if counts[1]:
            out.write(f"  {room:10s} {100 * counts[0] / counts[1]:5.1f} %   of {counts[1]} lines and branches\n")
    print(f"coverage by room\n{out.getvalue()}  {'all':10s} {100 * whole[0] / whole[1]:5.1f} %")


if __name__ == "__main__":
    main()
