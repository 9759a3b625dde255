"""From findings to what people read: tables in Markdown and CSV, figures, and results.json for machines."""

from __future__ import annotations

import csv
import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from learndock.bench.experiments import Finding


def write_finding(out: Path, name: str, finding: Finding) -> None:
    """``NAME.md``, ``NAME.csv`` and ``NAME.png``."""
    (out / f"{name}.md").write_text(_markdown(name, finding), encoding="utf-8")
    with (out / f"{name}.csv").open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(finding.columns)
        writer.writerows(finding.rows)
    if finding.figure is not None:
        _draw(out / f"{name}.png", finding)


def _markdown(name: str, finding: Finding) -> str:
    """One experiment as a section."""
    lines = [f"## {finding.title} (`{name}`)", ""]
    if finding.note:
        lines += [finding.note, ""]
    lines += ["| " + " | ".join(finding.columns) + " |", "|" + "---|" * len(finding.columns)]
    lines += ["| " + " | ".join(_cell(v) for v in row) + " |" for row in finding.rows]
    if finding.figure is not None:
        lines += ["", f"![{finding.title}]({name}.png)"]
    return "\n".join(lines) + "\n"


def _cell(value: Any) -> str:
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return ""
    if isinstance(value, float):
        if value != 0 and abs(value) < 1e-3:
            return f"{value:.1e}"
        return f"{value:.3f}" if abs(value) < 100 else f"{value:.0f}"
    return str(value)


def write_results(out: Path, results: Mapping[str, Any]) -> None:
    """``results.json``, whole or not at all; what is not a number becomes null."""
    part = out / "results.json.part"
    part.write_text(json.dumps(_sayable(results), indent=1, allow_nan=False) + "\n", encoding="utf-8")
    part.replace(out / "results.json")


def _sayable(value: Any) -> Any:
    if isinstance(value, float | np.floating):
        return float(value) if math.isfinite(value) else None
    if isinstance(value, np.integer):
        return int(value)
    if isinstance(value, Mapping):
        return {str(k): _sayable(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [_sayable(v) for v in value]
    return value


def _draw(path: Path, finding: Finding) -> None:
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot

    assert finding.figure is not None
    kind, data = finding.figure
    height = {"grid": 1.8 + 0.24 * len(data.get("rows", ())), "bars": max(4.2, 1 + 0.22 * len(data.get("values", ())))}
    figure, axes = pyplot.subplots(figsize=(7, height.get(kind, 4.2)), layout="constrained")
    {"bars": _bars, "line": _line, "roc": _roc, "grid": _grid}[kind](axes, data)
    axes.set_title(finding.title)
    axes.spines[["top", "right"]].set_visible(False)
    figure.savefig(path, dpi=120)
    pyplot.close(figure)


def _bars(axes: Any, data: Mapping[str, Any]) -> None:
    values: Mapping[str, float] = data["values"]
    order = sorted(values, key=lambda n: values[n])
    axes.barh(order, [values[n] for n in order], color=["#c8553d" if n == "one-pass" else "#6b8ba4" for n in order])
    for place, name in enumerate(order):
        axes.text(max(values[name], 0), place, f" {values[name]:.2f}", va="center", fontsize=8)
    axes.set_xlabel(data["label"])
    axes.tick_params(axis="y", labelsize=8)


def _line(axes: Any, data: Mapping[str, Any]) -> None:
    axes.plot(data["x"], data["y"], marker="o", color="#c8553d")
    axes.set_xscale("log", base=2)
    axes.set_xticks(data["x"], [str(x) for x in data["x"]])
    axes.set_xlabel(data["x label"])
    axes.set_ylabel(data["y label"])


def _roc(axes: Any, data: Mapping[str, Sequence[float]]) -> None:
    present = np.array(data["own present"])
    levels = np.linspace(0, 1, 501)
    hits = [(present <= x).mean() for x in levels]
    for name, values in data.items():
        if name != "own present":
            axes.plot([(np.array(values) <= x).mean() for x in levels], hits, label=f"against: {name}")
    axes.plot([0, 1], [0, 1], color="#bbbbbb", linestyle=":")
    axes.set_xlabel("said to fit although " + "it does not")
    axes.set_ylabel("said to fit, own data set present")
    axes.legend(fontsize=8)


def _grid(axes: Any, data: Mapping[str, Any]) -> None:
    values = np.asarray(data["values"], float)
    axes.imshow(values, cmap="viridis", aspect="auto")
    axes.set_xticks(range(len(data["columns"])), data["columns"], rotation=40, ha="right", fontsize=7)
    axes.set_yticks(range(len(data["rows"])), data["rows"], fontsize=7)
    middle = (values.min() + values.max()) / 2
    for (row, column), value in np.ndenumerate(values):
        shade = "white" if value < middle else "black"
        axes.text(column, row, f"{value:.2f}", ha="center", va="center", fontsize=6, color=shade)
