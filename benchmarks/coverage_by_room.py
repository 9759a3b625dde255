"""Print test coverage room by room, from the data of the last test run."""

from __future__ import annotations

import io
import json
import tempfile
from pathlib import Path

import coverage


def main() -> None:
    """Sum covered and all lines and branches of every room."""
    measured = coverage.Coverage()
    measured.load()
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "coverage.json"
        measured.json_report(outfile=str(path), pretty_print=False)
        files = json.loads(path.read_text())["files"]
    out = io.StringIO()
    rooms: dict[str, list[int]] = {}
    for name, entry in files.items():
        parts = Path(name).parts
        inside = parts[parts.index("learndock") + 1 :]
        counts = rooms.setdefault(inside[0] if len(inside) > 1 else "(root)", [0, 0])
        found = entry["summary"]
        counts[0] += found["covered_lines"] + found.get("covered_branches", 0)
        counts[1] += found["num_statements"] + found.get("num_branches", 0)
    for room, (covered, count) in sorted(rooms.items()):
        if count:
            out.write(f"  {room:10s} {100 * covered / count:5.1f} %   of {count} lines and branches\n")
    covered, count = (sum(counts[i] for counts in rooms.values()) for i in (0, 1))
    print(f"coverage by room\n{out.getvalue()}  {'all':10s} {100 * covered / count:5.1f} %")


if __name__ == "__main__":
    main()
