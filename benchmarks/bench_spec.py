"""What a specification costs: time, memory and bytes, on this machine.

    python benchmarks/bench_spec.py [--json bench-spec.json] [--full] [--space minilm-l6]

Times are medians of warm runs, after one run that does not count, and the machine's load is written beside them:
figures of a busy machine are too high. The recipe ``paper`` is timed over 20 of its 300 steps and scaled, unless
``--full`` asks for all of them. Texts are sentences of film reviews (the tour's), or made-up ones without network.
Ends by itself within five minutes: what is not reached then is left out, and named.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import numpy as np
import platformdirs

from learndock import Examples, LearndockError, Schema, Space, get_space, make_spec
from learndock.dock import Admitted, open_dock
from learndock.files import sha256_file
from learndock.package.manifest import MANIFEST, File, Manifest, SpecFile
from learndock.spec import Spec, spec_to_bytes, write_spec
from learndock.spec.paper import PaperSettings
from learndock.spec.sketch import count_sketch
from learndock.tour.data import load_tour_data

#: Seconds after which no further measurement begins, and the longest that one child process may take.
PATIENCE = 200
CHILD = 80
PAPER_STEPS, PAPER_WHOLE = 20, 300
#: A short text has at most so many words; about ten on average is what the bars were set with.
SHORT = 14
MOOD = Schema(
    "classification", ("negative", "positive"), ("a tweet in a bad mood", "a tweet in a good mood"), "accuracy"
)
PACKAGES = ("numpy", "onnxruntime", "tokenizers", "safetensors", "torch", "transformers")
BEGINNINGS = ("the film", "this story", "the acting", "every scene", "the music", "its ending")
MIDDLES = ("was", "seemed", "felt", "turned out to be", "is on the whole")
ENDINGS = (
    ("dull and far too long", "a bad copy of an old idea", "poor, loud and empty", "awful from start to finish"),
    ("warm and full of wit", "a great and moving piece of work", "fine, quiet and true", "good from start to finish"),
)

# --- what is measured on --------------------------------------------------------------------------------------


def load_texts(n: int, words: int) -> tuple[list[str], list[int], str]:
    """``n`` texts of at most ``words`` words, their moods (0 or 1, in turns), and where they come from.

    Where there are too few they come again: only their lengths matter here.
    """
    try:
        task = load_tour_data(Path(platformdirs.user_cache_dir("learndock")) / "tour")["tweet_sentiment"]
    except LearndockError as error:
        print(f"made-up texts in place of the tour's: {error}", file=sys.stderr)
        draw = np.random.default_rng(0)
        made = [
            " ".join((*(str(draw.choice(part)) for part in (BEGINNINGS, MIDDLES)), str(draw.choice(ENDINGS[i % 2]))))
            for i in range(n)
        ]
        return made, [i % 2 for i in range(n)], "made up"
    targets = np.asarray(task.train.targets)
    short = [len(str(text).split()) <= words for text in task.train.inputs]
    moods = [[str(task.train.inputs[int(i)]) for i in np.flatnonzero((targets == m) & short)] for m in (0, 1)]
    return [moods[i % 2][i // 2 % len(moods[i % 2])] for i in range(n)], [i % 2 for i in range(n)], "tweets of the tour"


def unit_mean_square(part: np.ndarray) -> np.ndarray:
    """A part of a spec as every recipe makes it: float32, root mean square 1."""
    scaled: np.ndarray = part / np.sqrt(np.mean(np.square(part)))
    return scaled.astype(np.float32)


def synthetic_dock(folder: Path, space: Space, count: int) -> None:
    """A dock of ``count`` learnwares that are specs and nothing else."""
    draw = np.random.default_rng(1)
    described = space.describe("one-pass")
    admitted: list[Admitted] = []
    dock = open_dock(folder / "dock", admit=lambda _: admitted[-1])
    for i in range(count):
        own = folder / f"m{i}"
        own.mkdir()
        parts: dict[str, Any] = {
            name: unit_mean_square(draw.normal(size=size))
            for name, size in (("domain", space.width), ("behaviour", described["sketch"]["size"]))
        }
        spec = Spec("model", described, MOOD.to_dict(), 1000, **parts)
        write_spec(spec, own / "s.spec")
        manifest = Manifest(
            name=f"bench/m{i}",
            format="onnx",
            task=MOOD.to_dict(),
            license="mit",
            specs=(SpecFile(path="s.spec", space=space.name, space_id=spec.space_id),),
            files=(File(path="s.spec", size=(own / "s.spec").stat().st_size, sha256=sha256_file(own / "s.spec")),),
        )
        (own / MANIFEST).write_bytes(manifest.to_bytes())
        admitted.append(Admitted(own, manifest))
        dock.add(own)


# --- measuring ------------------------------------------------------------------------------------------------


@dataclass
class Table:
    """Figures as they come in, and the ones for which there was no time."""

    started: float = field(default_factory=time.monotonic)
    figures: dict[str, dict[str, Any]] = field(default_factory=dict)
    left_out: list[str] = field(default_factory=list)

    def measure(self, name: str, what: Callable[[], float], unit: str, *, below: float | None = None) -> float | None:
        """Run one measurement and print its line; None where time is up."""
        if time.monotonic() - self.started > PATIENCE:
            self.left_out.append(name)
            return None
        value = what()
        bar = "" if below is None else f"(bar {below:g}{'' if value < below else ', MISSED'})"
        print(f"{name:<58} {value:>10.4g} {unit:<6} {bar}", flush=True)
        self.figures[name] = {"value": value, "unit": unit, "below": below}
        return value


def median_seconds(what: Callable[[], object], runs: int) -> float:
    """Median over ``runs`` of a warm call."""
    what()
    found = []
    for _ in range(runs):
        start = time.perf_counter()
        what()
        found.append(time.perf_counter() - start)
    return statistics.median(found)


def child(code: str, *arguments: object) -> str:
    """Standard output of a fresh Python."""
    command = [sys.executable, "-c", code, *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, check=True, timeout=CHILD).stdout


def child_seconds(arguments: list[object], runs: int) -> float:
    """Median wall time of a whole process, Python's own start included."""
    command = [sys.executable, *map(str, arguments)]

    def once() -> None:
        subprocess.run(command, capture_output=True, check=True, timeout=CHILD)

    return median_seconds(once, runs)


IMPORT = "import time; s = time.perf_counter(); import learndock; print(time.perf_counter() - s)"
COLD = """
import sys, time; s = time.perf_counter()
from learndock import get_space
from learndock.spaces.onnx_helper import load_helper
load_helper(get_space(sys.argv[1])).features(["a good film"])
print(time.perf_counter() - s)
"""
PEAK = """
import json, resource, sys
import numpy as np
from learndock import Examples, Schema, make_spec
texts, moods, schema = json.load(open(sys.argv[2]))
make_spec(Examples(texts, None, Schema.from_dict(schema)), space=sys.argv[1], predictions=np.array(moods))
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024)
"""
RUN = "from learndock.cli import main; main()"


def machine() -> dict[str, Any]:
    """What figures depend on."""
    lines = Path("/proc/cpuinfo").read_text().splitlines() if Path("/proc/cpuinfo").exists() else []
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    found: dict[str, str | None] = {}
    for package in PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            found[package] = None
    return {
        "cpu": names[0] if names else platform.processor(),
        "cores": len(os.sched_getaffinity(0)),
        "threads": {k: os.environ[k] for k in ("LEARNDOCK_THREADS", "OMP_NUM_THREADS") if k in os.environ},
        "system": platform.platform(),
        "python": platform.python_version(),
        "learndock": version("learndock"),
        "packages": found,
        "load_before": [round(v, 2) for v in os.getloadavg()],
    }


# --- the figures ----------------------------------------------------------------------------------------------


def measure_specs(table: Table, space: Space, texts: list[str], moods: list[int]) -> float | None:
    """Specs of both kinds; returns the seconds of a task spec."""
    few = Examples(texts[:32], np.array(moods[:32]), MOOD)
    many = Examples(texts, None, MOOD)
    one_pass = table.measure(
        "task spec, 32 short texts", lambda: median_seconds(lambda: make_spec(few, space=space), 9), "s", below=0.2
    )
    table.measure(
        f"model spec, {len(texts)} short texts",
        lambda: median_seconds(lambda: make_spec(many, space=space, predictions=np.array(moods)), 1),
        "s",
        below=5,
    )
    spec = make_spec(few, space=space)
    table.measure("task spec file", lambda: len(spec_to_bytes(spec)), "bytes", below=20_000)
    model = make_spec(few, space=space, predictions=np.array(moods[:32]))
    table.measure("model spec file", lambda: len(spec_to_bytes(model)), "bytes", below=20_000)
    return one_pass


def measure_paper(
    table: Table, space: Space, texts: list[str], moods: list[int], one_pass: float | None, *, full: bool
) -> None:
    """The papers' recipe on the same examples, as it chooses for itself (bfloat16 where the processor has it)."""
    try:
        import torch  # noqa: F401
    except ImportError:
        table.left_out.append("paper (torch is not installed)")
        return
    few = Examples(texts[:32], np.array(moods[:32]), MOOD)
    name = f"paper, {PAPER_WHOLE} steps" + ("" if full else f" (scaled from {PAPER_STEPS})")
    paper = table.measure(name, lambda: paper_seconds(space, few, full=full), "s")
    if paper and one_pass:
        table.measure("  times as long as one pass", lambda: paper / one_pass, "x")


def paper_seconds(space: Space, examples: Examples, *, full: bool) -> float:
    """A whole fit, or what a part of its steps says of it: what the set-up took, and 300 median steps."""
    ends: list[float] = []
    start = time.perf_counter()
    steps = PAPER_WHOLE if full else PAPER_STEPS
    make_spec(examples, space=space, recipe="paper", steps=steps, progress=lambda *_: ends.append(time.perf_counter()))
    if full:
        return time.perf_counter() - start
    step = statistics.median(float(d) for d in np.diff(ends))
    return time.perf_counter() - start + step * (PAPER_WHOLE - PAPER_STEPS)


def _milliseconds(seconds: Callable[[], float]) -> float:
    return 1000 * seconds()


def measure_sketch(table: Table) -> None:
    """One vector of the sizes of MiniLM-L6, RoBERTa-base and CLIP, to 4,096 numbers."""
    for count in (110_592, 442_368, 1_474_560):
        sketch = count_sketch(1, count, 4096)
        vector = np.random.default_rng(0).normal(size=(1, count)).astype(np.float32)
        seconds = partial(median_seconds, partial(sketch, vector), 21)
        table.measure(f"sketch of {count:,} numbers", partial(_milliseconds, seconds), "ms")


def measure_starts(table: Table, space: Space, texts: list[str], moods: list[int]) -> None:
    """Fresh processes: imports, the first use of a space, a whole identify, memory."""
    table.measure("import learndock", lambda: min(float(child(IMPORT)) for _ in range(5)), "s", below=0.1)
    table.measure("learndock --help", lambda: child_seconds(["-c", RUN, "--help"], 5), "s")
    table.measure(
        "cold start of the space", lambda: statistics.median(float(child(COLD, space.folder)) for _ in range(3)), "s"
    )
    with tempfile.TemporaryDirectory() as work:
        folder = Path(work)
        synthetic_dock(folder, space, 10)
        rows = [{"text": t, "label": MOOD.labels[m]} for t, m in zip(texts[:32], moods[:32], strict=True)]
        (folder / "task.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
        (folder / "schema.json").write_text(json.dumps(MOOD.to_dict()))
        asked: list[object] = ["-c", RUN, "identify", "--data", folder / "task.jsonl", "--json"]
        asked += ["--schema", folder / "schema.json", "--dock", folder / "dock", "--space", space.folder]
        table.measure(
            "learndock identify --data, 32 texts, 10 learnwares", lambda: child_seconds(asked, 3), "s", below=3
        )
        (folder / "many.json").write_text(json.dumps([texts, moods, MOOD.to_dict()]))
        table.measure(
            f"peak memory, model spec of {len(texts)} texts",
            lambda: float(child(PEAK, space.folder, folder / "many.json")) / 1e9,
            "GB",
            below=1,
        )


def main() -> None:
    """Measure, print, write."""
    parser = argparse.ArgumentParser(description="What a specification costs on this machine.")
    parser.add_argument("--json", type=Path, default=Path("bench-spec.json"))
    parser.add_argument("--space", default="minilm-l6")
    parser.add_argument("--texts", type=int, default=1000)
    parser.add_argument("--words", type=int, default=SHORT, help="longest text, in words")
    parser.add_argument("--full", action="store_true", help="really take all 300 steps of the recipe paper")
    asked = parser.parse_args()
    facts = machine()
    space = get_space(asked.space)
    texts, moods, origin = load_texts(asked.texts, asked.words)
    table = Table()
    words = statistics.mean(len(t.split()) for t in texts)
    where = f"{facts['cpu']}, {facts['cores']} cores, load {facts['load_before'][0]}"
    print(f"{space.name} on {where}; {words:.0f} words a text on average, at most {asked.words}")
    one_pass = measure_specs(table, space, texts, moods)
    measure_sketch(table)
    measure_starts(table, space, texts, moods)
    measure_paper(table, space, texts, moods, one_pass, full=asked.full)
    if table.left_out:
        print(f"not measured: {', '.join(table.left_out)}")
    whole = {
        "space": space.name,
        "texts": {"from": origin, "words": round(words, 1)},
        "machine": {**facts, "load_after": [round(v, 2) for v in os.getloadavg()]},
        "paper": {"default": PaperSettings().to_dict(), "steps_taken": PAPER_WHOLE if asked.full else PAPER_STEPS},
        "figures": table.figures,
        "left_out": table.left_out,
    }
    asked.json.write_text(json.dumps(whole, indent=1) + "\n", encoding="utf-8")
    print(f"wrote {asked.json}")


if __name__ == "__main__":
    main()
