"""What a specification of images costs: time, memory and bytes, on this machine.

    python benchmarks/bench_images.py [--json bench-images.json] [--space efficientnet-lite0]

Images are pieces of 320 x 320 pixels, as JPEG, of the two photographs that scikit-learn ships; the task is which of the
two. Times are medians of warm runs, with the processor time beside them, which means something on a busy machine too.
"""

from __future__ import annotations

import argparse
import io
import json
import os
import platform
import resource
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image as Pillow
from sklearn.datasets import load_sample_images

from learndock import Examples, Schema, get_space, make_spec
from learndock.data.images import Image
from learndock.spaces.onnx_helper import load_helper
from learndock.spec import spec_to_bytes

TASK, MODEL, SIDE = 40, 256, 320
SCHEMA = Schema("classification", ("temple", "flower"), ("a temple", "a flower"), "accuracy")


def pieces(count: int) -> Examples:
    """Pieces of the two photographs, in turns."""
    draw = np.random.default_rng(0)
    photographs = load_sample_images().images
    inputs = []
    for i in range(count):
        photograph = photographs[i % 2]
        top, left = (int(draw.integers(0, extent - SIDE)) for extent in photograph.shape[:2])
        stream = io.BytesIO()
        Pillow.fromarray(photograph[top : top + SIDE, left : left + SIDE]).save(stream, "JPEG", quality=90)
        inputs.append(Image(stream.getvalue(), f"piece {i}"))
    return Examples(inputs, np.arange(count, dtype=np.int64) % 2, SCHEMA, "photographs")


def timed(run: Callable[[], Any], times: int) -> dict[str, float]:
    """Medians of wall and processor seconds, after one run that does not count."""
    run()
    wall, cpu = [], []
    for _ in range(times):
        start, spent = time.perf_counter(), time.process_time()
        run()
        wall.append(time.perf_counter() - start)
        cpu.append(time.process_time() - spent)
    return {"seconds": statistics.median(wall), "processor_seconds": statistics.median(cpu)}


def main() -> None:
    """Measure, print, and write JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", type=Path, default=Path("bench-images.json"))
    parser.add_argument("--space", default="efficientnet-lite0")
    given = parser.parse_args()
    space = get_space(given.space)
    start = time.perf_counter()
    _ = load_helper(space)
    found: dict[str, Any] = {
        "space": space.name,
        "machine": {"cores": os.cpu_count(), "processor": platform.processor(), "load": os.getloadavg()[0]},
        "cold_start": {"seconds": time.perf_counter() - start},
    }
    few, many = pieces(TASK), pieces(MODEL)
    assert many.targets is not None
    shares = np.eye(2)[many.targets] * 0.8 + 0.1
    unlabelled = Examples(many.inputs, None, SCHEMA, "photographs")
    found["task_spec_40"] = timed(lambda: make_spec(few, space=space), 3)
    found["model_spec_256"] = timed(lambda: make_spec(unlabelled, SCHEMA, space=space, predictions=shares), 1)
    found["peak_memory_bytes"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    found["task_spec_bytes"] = len(spec_to_bytes(make_spec(few, space=space)))
    given.json.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
    print(json.dumps(found, indent=1))


if __name__ == "__main__":
    main()
