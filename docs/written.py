"""What the scripts that generate pages share: write them, or say which are out of date."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path


def write_or_check(made: Mapping[Path, str], script: str) -> int:
    """Write the pages ``made``, or with ``--check`` name those that differ; returns the exit status of ``script``."""
    if "--check" not in sys.argv[1:]:
        for file, text in made.items():
            file.write_text(text, encoding="utf-8")
        return 0
    old = [f for f, text in made.items() if not f.exists() or f.read_text(encoding="utf-8") != text]
    for file in old:
        sys.stderr.write(f"{file} is not up to date; run `python docs/{script}`\n")
    return 1 if old else 0
