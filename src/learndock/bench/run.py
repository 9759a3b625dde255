"""One command: build the pool, ask every question, write every table."""

from __future__ import annotations

import json
import os
import platform
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from learndock._version import VERSION
from learndock.bench.cache import Cache
from learndock.bench.costs import costs, measure
from learndock.bench.descriptions import descriptions
from learndock.bench.experiments import EXPERIMENTS, Finding
from learndock.bench.learners import Features
from learndock.bench.pool import Bench, Report, Trainer, build, logistic
from learndock.bench.recipes import recipes
from learndock.bench.report import write_finding, write_results
from learndock.bench.semantics import semantics
from learndock.bench.size import Size
from learndock.bench.tasks import Task, load_tasks
from learndock.errors import UsageError
from learndock.files import storage_errors
from learndock.package.extras import need
from learndock.spaces.space import get_space

Experiment = Callable[[Bench, Report], Finding]


def bench_text(
    data: Path, out: Path, *, size: Size, report: Report, space: str = "minilm-l6", only: Sequence[str] | None = None
) -> dict[str, Any]:
    """Run the text bench on the folder ``data``; return what ``OUT/results.json`` holds.

    A run that was cut off goes on: pools and responses stand in ``OUT/cache``, findings in ``OUT``.

    Raises:
        DataError: ``data`` is not a folder of tasks. UsageError: an experiment that does not exist. MissingExtra
    """
    from learndock.bench import text

    _need(size)
    chosen = get_space(space)
    features = Features(chosen)
    kinds: dict[str, Trainer] = {
        "logistic": logistic(features),
        "tfidf": lambda task, quality, _: text.train_tfidf(task.schema, task.fit, quality, 0),
    }
    experiments: dict[str, Experiment] = {**_common(), "semantics": semantics, "descriptions": descriptions}
    if size.network_qualities:
        from learndock.bench import networks

        kinds["network"] = lambda task, quality, bar: networks.train_network(
            chosen, task.schema, task.fit, quality, size, 0, bar
        )
        experiments["aligned"] = _plain(networks.aligned_networks)
        experiments["beyond"] = _plain(networks.beyond_networks)
    experiments["costs"] = _plain(costs)
    if size.paper_tasks:
        from learndock.bench.forms import forms

        experiments["recipes"], experiments["forms"] = recipes, forms
    return _run(lambda: load_tasks(data, size), kinds, features, experiments, out, size, report, only)


def bench_vision(
    data: Path, out: Path, *, size: Size, report: Report, space: str = "efficientnet-lite0",
    only: Sequence[str] | None = None,
) -> dict[str, Any]:  # fmt: skip
    """Run the vision bench on the folder ``data``, as ``bench_text`` does for texts.

    Raises:
        DataError: ``data`` is not a folder of tasks. UsageError: an experiment that does not exist. MissingExtra
    """
    from learndock.bench import vision
    from learndock.bench.vision_tasks import vision_tasks

    _need(size)
    features, shapes = Features(get_space(space)), vision.Shapes()
    kinds: dict[str, Trainer] = {
        "logistic": logistic(features),
        "shapes": lambda task, quality, _: vision.train_shapes(shapes, task.schema, task.fit, quality, 0),
    }
    if size.network_qualities:
        kinds["network"] = lambda task, quality, bar: vision.train_network(task.schema, task.fit, quality, size, 0, bar)
    experiments: dict[str, Experiment] = {**_common(), "semantics": vision.meanings, "order": vision.order}
    experiments["costs"] = _plain(costs)
    return _run(lambda: vision_tasks(data, size), kinds, features, experiments, out, size, report, only)


def bench_llm(
    data: Path, out: Path, *, size: Size, report: Report, space: str = "smollm2-135m", only: Sequence[str] | None = None
) -> dict[str, Any]:
    """Run the bench of language models on a folder that holds ``text`` and ``llm``, as ``bench_text`` does for texts.

    Raises:
        DataError: a file is missing. UsageError: an experiment that does not exist, or a space that reads no prompts.
        MissingExtra
    """
    from learndock.bench import llm
    from learndock.bench.llm_tasks import llm_tasks
    from learndock.bench.writers import Base

    _need(size)
    need("torch", extra="bench", why="training adapters")
    chosen = get_space(space)
    if chosen.input != "generation":
        raise UsageError(f"the space {chosen.name} reads {chosen.input}", remedy="language models need one of prompts")
    own = {"aligned": llm.aligned, "fields": llm.fields, "alone": llm.alone, "similarities": llm.similarities,
           "pairs": llm.pairs}  # fmt: skip
    shared = {n: EXPERIMENTS[n] for n in ("quality", "parts", "nothing_fits", "statistics")}
    experiments: dict[str, Experiment] = {n: _plain(e) for n, e in {**own, **shared, "costs": costs}.items()}
    if size.paper_tasks:
        experiments["recipes"] = recipes
    _known(experiments, only)
    tasks = llm_tasks(data, size)

    def make(cache: Cache) -> Bench:
        return llm.build(Base(chosen), tasks, size, cache, report)

    return _ask_all(make, experiments, out, report, only, lambda bench: measure(bench, [llm.KIND], llm.runner(bench)))


def _need(size: Size) -> None:
    for module in ("sklearn", "matplotlib", "statsmodels"):
        need(module, extra="bench", why="the bench")
    if size.network_qualities:
        need("torch", extra="bench", why="training networks")


def _run(
    load: Callable[[], Sequence[Task]], kinds: dict[str, Trainer], features: Features,
    experiments: Mapping[str, Experiment], out: Path, size: Size, report: Report, only: Sequence[str] | None,
) -> dict[str, Any]:  # fmt: skip
    _known(experiments, only)
    tasks = load()

    def make(cache: Cache) -> Bench:
        return build(features.space, tasks, size, cache, kinds, features, report)

    return _ask_all(
        make, experiments, out, report, only, lambda bench: measure(bench, list(kinds), _runner(bench, kinds))
    )


def _known(experiments: Mapping[str, Experiment], only: Sequence[str] | None) -> None:
    unknown = [n for n in only or () if n not in experiments]
    if unknown:
        raise UsageError(f"no experiment {', '.join(unknown)}", remedy=f"there are {', '.join(experiments)}")


def _ask_all(
    make: Callable[[Cache], Bench], experiments: Mapping[str, Experiment], out: Path, report: Report,
    only: Sequence[str] | None, measured: Callable[[Bench], dict[str, float]],
) -> dict[str, Any]:  # fmt: skip
    with storage_errors(out):
        out.mkdir(parents=True, exist_ok=True)
        start = time.perf_counter()
        bench = make(Cache(out / "cache"))
        built = time.perf_counter() - start
        bench = replace(bench, seconds=measured(bench))
        return _ask(bench, experiments, out, report, {"pool": built}, only)


def _ask(
    bench: Bench, experiments: Mapping[str, Experiment], out: Path, report: Report, seconds: dict[str, float],
    only: Sequence[str] | None,
) -> dict[str, Any]:  # fmt: skip
    results: dict[str, Any] = {
        "experiments": {},
        "recipe": "one-pass",
        "version": VERSION,
        "machine": machine(),
        "space": bench.space.name,
        "size": bench.size.to_dict(),
        "seeds": list(range(bench.size.seeds)),
        "tasks": list(bench.tasks),
        "learnwares": len(bench.entries),
        "seconds": seconds,
    }
    if only is not None:
        _add_earlier(results, out)
    asked = [n for n in experiments if only is None or n in only]
    for place, name in enumerate(asked):
        report("experiments", place, len(asked))
        start = time.perf_counter()
        finding = experiments[name](bench, report)
        seconds[name] = time.perf_counter() - start
        results["experiments"][name] = finding.result
        write_finding(out, name, finding)
        # After each one: a run that ends early leaves what it found
        told = [(out / f"{n}.md").read_text(encoding="utf-8") for n in experiments if n in results["experiments"]]
        (out / "report.md").write_text("\n".join([_head(results), *told]), encoding="utf-8")
        write_results(out, results)
    report("experiments", len(asked), len(asked))
    return results


def _add_earlier(results: dict[str, Any], out: Path) -> None:
    """What ``OUT`` holds of the same pool, version and machine: running some experiments again keeps the others."""
    try:
        earlier = json.loads((out / "results.json").read_text(encoding="utf-8"))
        same = all(
            earlier[k] == json.loads(json.dumps(v)) for k, v in results.items() if k not in ("experiments", "seconds")
        )
        kept = {n: e for n, e in earlier["experiments"].items() if same and (out / f"{n}.md").exists()}
        results["experiments"] |= kept
        results["seconds"] = {**{n: earlier["seconds"][n] for n in kept}, **results["seconds"]}
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return  # none there, or none of ours


def _common() -> dict[str, Experiment]:
    """The questions that are asked of any pool."""
    return {n: _plain(e) for n, e in EXPERIMENTS.items()}


def _plain(ask: Callable[[Any], Finding]) -> Experiment:
    return lambda bench, _: ask(bench)


def _runner(bench: Bench, kinds: Mapping[str, Trainer]) -> Callable[[str, Task, list[Any]], float]:
    """Seconds that one learnware takes for inputs it has never seen."""

    def run(kind: str, task: Task, inputs: list[Any]) -> float:
        # Untrained ones run as long as trained ones
        model = kinds[kind](task, "corrupted", None)
        known, bench.features.known = bench.features.known, {}
        try:
            start = time.perf_counter()
            model.answer(inputs)
            return time.perf_counter() - start
        finally:
            bench.features.known = known

    return run


def _head(results: Mapping[str, Any]) -> str:
    size, m = results["size"], results["machine"]
    return (
        f"# Evidence\n\nlearndock {results['version']}, space {results['space']}, {len(results['tasks'])} tasks, "
        f"{results['learnwares']} learnwares, {size['seeds']} draw{'s' if size['seeds'] > 1 else ''} of the user, "
        f"{size['shots']} examples per class. {m['cores']} cores, {m['processor']}, Python {m['python']}. Pool "
        f"{results['seconds']['pool']:.0f} s.\n"
    )


def machine() -> dict[str, Any]:
    """What the run ran on."""
    name = platform.processor() or platform.machine()
    try:
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                name = line.split(":", 1)[1].strip()
                break
    except OSError:
        pass
    return {
        "processor": name,
        "cores": os.cpu_count(),
        "system": platform.system(),
        "python": platform.python_version(),
    }
