"""The tour's report: one HTML page that needs nothing else, with the similarity of every user to every model."""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Sequence
from html import escape
from pathlib import Path

import numpy as np

from learndock.dock import LocalDock
from learndock.files import atomic_write
from learndock.search import Match
from learndock.search.score import trust
from learndock.spec.spec import unit
from learndock.tour.data import TourTask
from learndock.tour.visit import Visit

_WHAT = ("score", "domain", "behaviour")
_STYLE = """
:root { --ink: #1c2430; --soft: #5c6773; --line: #d9dee5; --page: #ffffff; --card: #f6f8fa; --good: #1a7f4b; }
@media (prefers-color-scheme: dark) {
  :root { --ink: #e6e9ee; --soft: #9aa5b1; --line: #323b46; --page: #14181d; --card: #1c2229; --good: #55c98b; }
}
body { font: 15px/1.5 system-ui, sans-serif; color: var(--ink); background: var(--page);
       max-width: 1080px; margin: 2rem auto; padding: 0 1rem; }
h1 { font-size: 1.6rem; margin-bottom: .2rem; } h2 { font-size: 1.15rem; margin-top: 2.2rem; }
p.lead, .note { color: var(--soft); }
.scroll { overflow-x: auto; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; }
th, td { padding: .3rem .6rem; text-align: left; border-bottom: 1px solid var(--line); }
td.n, th.n { text-align: right; }
table.map { border-spacing: 2px; border-collapse: separate; }
table.map th.up { writing-mode: vertical-rl; transform: rotate(180deg); font-weight: 500; padding: .3rem; border: 0; }
table.map td { width: 3.2rem; height: 2.3rem; text-align: center; border: 0; border-radius: 4px; font-size: .82rem; }
table.map th { border: 0; font-weight: 500; white-space: nowrap; }
td.own { outline: 2px solid var(--ink); outline-offset: -2px; }
.card { background: var(--card); border: 1px solid var(--line); border-radius: 8px; padding: .8rem 1rem;
        margin: 1rem 0; }
.card h3 { margin: 0 0 .2rem; font-size: 1rem; }
.bar { display: inline-block; height: .7rem; background: var(--good); border-radius: 2px; vertical-align: middle; }
.bar.other { background: var(--soft); }
.images { display: flex; flex-wrap: wrap; gap: .5rem; }
.images figure { margin: 0; padding: .25rem; border: 2px solid var(--line); border-radius: 6px;
                 text-align: center; }
.images figure.wrong { border-color: #c4453a; }
.images img { width: 3.5rem; height: 3.5rem; image-rendering: pixelated; display: block; margin: 0 auto; }
.images figcaption { font-size: .75rem; color: var(--soft); }
.verdict { font-size: 1.1rem; }
.scale { display: flex; align-items: center; gap: .5rem; margin: .4rem 0 1rem; font-size: .82rem; color: var(--soft); }
.scale span { width: 2.2rem; text-align: center; padding: .15rem 0; border-radius: 4px; font-size: .75rem; }
table.map a, td a { color: inherit; text-decoration: none; }
table.map a:hover, td a:hover { text-decoration: underline; }
:target { outline: 3px solid var(--good); outline-offset: 2px; }
"""

_MAP_NOTE = (
    "<p class=note>Outlined: the same task. The score is the mean of two cosines, shown separately below; the "
    "behaviour is weighted by how reliable the model's is. The domain says what inputs are about and cannot separate "
    "two tasks on the same texts; the behaviour can. Each cell links to its learnware.</p>"
)
_LEAD = (
    "<p class=lead>{learnwares} learnwares, {users} users, {seconds:.0f} seconds. No text or image left its owner or "
    "user: the dock saw vectors only.</p>"
)


def write_report(
    path: Path, dock: LocalDock, visits: Sequence[Visit], tasks: dict[str, TourTask], seconds: float
) -> None:
    """Write the page, completely or not at all: conclusion, reuse, users, learnwares, then the heat maps."""
    parts = [
        "<!doctype html><html lang=en><meta charset=utf-8><meta name=viewport content='width=device-width'>",
        f"<title>learndock tour</title><style>{_STYLE}</style>",
        "<h1>A tour of the dock</h1>",
        f"<p class=verdict><b>{escape(conclusion(visits))}</b></p>",
        _LEAD.format(learnwares=len(dock), users=len(visits), seconds=seconds),
        "<h2>What reuse was worth</h2>",
        _reuse(visits),
        "<h2>Users</h2>",
        *(_card(v) for v in visits),
        "<h2>Learnwares</h2>",
        _learnwares(dock, visits),
        "<h2>How alike are users' tasks and docked models?</h2>",
        _MAP_NOTE,
        _scale(),
        *_maps(dock, visits),
        "<h2>Where the texts and images come from</h2>",
        _sources(tasks),
        "</html>",
    ]
    with atomic_write(path) as stream:
        stream.write("\n".join(parts).encode())


def conclusion(visits: Sequence[Visit]) -> str:
    """Return what the tour showed, in two sentences."""
    known = [(v.reused, v.scratch) for v in visits if v.reused is not None and v.scratch is not None]
    better = sum(reused > scratch for reused, scratch in known)
    means = [sum(values) / len(known) for values in zip(*known, strict=True)] if known else [0.0, 0.0]
    nothing = sum(v.best is None for v in visits)
    return (
        f"{len(known)} of {len(visits)} users found a model, and for {better} of them it beats a model trained from "
        f"scratch on the same few examples: mean score {means[0]:.2f} against {means[1]:.2f}. "
        f"{nothing} got the answer that nothing in this dock fits."
    )


def _reuse(visits: Sequence[Visit]) -> str:
    """One row per user: the reused model, tuned where the user tunes, and trained from scratch."""
    rows = "".join(
        f"<tr><td><a href='#{escape(v.user.task)}'>{escape(v.user.task)}</a></td><td>{escape(what)}</td>"
        f"<td class=n>{value:.2f}</td>"
        f"<td><span class='bar {kind}' style='width:{max(value, 0) * 18:.1f}rem'></span></td></tr>"
        for v in visits
        if v.best is not None
        for what, value, kind in (
            (v.best.name, v.reused, ""),
            (f"{v.best.name}, tuned", v.tuned, ""),
            ("trained from scratch", v.scratch, "other"),
        )
        if value is not None
    )
    return (
        "<div class=scroll><table><tr><th>user</th><th>model</th><th class=n>score on test examples</th><th></th></tr>"
        f"{rows}</table></div>"
    )


def _learnwares(dock: LocalDock, visits: Sequence[Visit]) -> str:
    """One row per learnware, which the cells of the maps link to."""
    tested = {name: (v, score) for v in visits for name, score in v.others.items()}
    rows = []
    for record in dock.records():
        visit, score = tested.get(record.name, (None, None))
        own = "-" if visit is None else f"{_known(score)} ({escape(visit.metric)}, {escape(visit.user.task)})"
        rows.append(
            f"<tr id='{_anchor(record.name)}'><td>{escape(record.name)}</td><td>{escape(record.manifest.format)}</td>"
            f"<td>{escape(record.manifest.description)}</td><td>{own}</td></tr>"
        )
    head = "<tr><th>learnware</th><th>format</th><th>what it is</th><th>score on a user's test examples</th></tr>"
    return f"<div class=scroll><table>{head}{''.join(rows)}</table></div>"


def _anchor(name: str) -> str:
    return escape(name.split("@")[0].replace("/", "--"))


def _scale() -> str:
    """The colours of the maps, from opposite to alike."""
    steps = "".join(f"<span style='{_colour(v)}'>{v:+.1f}</span>" for v in (-1, -0.5, 0, 0.25, 0.5, 0.75, 1))
    return f"<div class=scale>opposite {steps} alike</div>"


def _maps(dock: LocalDock, visits: Sequence[Visit]) -> list[str]:
    """Heat maps of score, domain and behaviour, for the learnwares of each space: texts, then images."""
    first = visits[0].spec.space_id
    parts = []
    for title, seen in (
        ("Texts", [v for v in visits if v.spec.space_id == first]),
        ("Images", [v for v in visits if v.spec.space_id != first]),
    ):
        parts += [f"<h3>{title}: {what}</h3>{_map(dock, seen, what)}" for what in _WHAT] if seen else []
    return parts


def _drawn(visit: Visit) -> str:
    """Return test images of the user with what the reused model predicts; wrong predictions are marked."""
    if not visit.drawn or visit.best is None:
        return ""
    figures = "".join(
        f"<figure{'' if said == label else ' class=wrong'}><img alt='{escape(label)}' "
        f"src='data:image/png;base64,{b64encode(image.data).decode()}'><figcaption>{escape(said)}"
        f"{'' if said == label else f'<br>({escape(label)})'}</figcaption></figure>"
        for image, label, said in visit.drawn
    )
    return (
        f"<p><b>What {escape(visit.best.name)} predicts for the user's test images</b> (the label in brackets "
        f"where it differs)</p><div class=images>{figures}</div>"
    )


def _map(dock: LocalDock, visits: Sequence[Visit], what: str) -> str:
    """A heat map, users in rows and learnwares in columns."""
    table = dock.vectors(visits[0].spec.space_id)
    domain = np.stack([unit(r) for r in table.domain])
    behaviour = np.stack([unit(r) for r in table.behaviour])
    rows = []
    for visit in visits:
        parts = {"domain": domain @ visit.spec.unit_domain, "behaviour": behaviour @ visit.spec.unit_behaviour}
        values = (
            (parts["domain"] + parts["behaviour"] * trust(table.reliability)) / 2 if what == "score" else parts[what]
        )
        own = visit.user.task.replace("_", "-")
        cells = [
            f"<td{' class=own' if name.split('@')[0].endswith('/' + own) else ''} style='{_colour(float(v))}' "
            f"title='{escape(name.split('@')[0])}: {v:+.3f}'><a href='#{_anchor(name)}'>{v:+.2f}</a></td>"
            for name, v in zip(table.ids, values, strict=True)
        ]
        rows.append(f"<tr><th>{escape(visit.user.task)}</th>{''.join(cells)}</tr>")
    heads = "".join(
        f"<th class=up><a href='#{_anchor(name)}'>{escape(name.split('@')[0])}</a></th>" for name in table.ids
    )
    return f"<div class=scroll><table class=map><tr><th></th>{heads}</tr>{''.join(rows)}</table></div>"


def _colour(value: float) -> str:
    """Blue for alike, red for opposite, paper for nothing in common; readable in light and dark."""
    strength = min(abs(value), 1.0) ** 0.8
    hue, light = (212, 96 - 56 * strength) if value >= 0 else (8, 96 - 40 * strength)
    ink = "#fff" if light < 62 else "#1c2430"
    return f"background:hsl({hue} 62% {light:.0f}%);color:{ink}"


def _lacks(match: Match) -> str:
    """Say why a match ranks behind others of a lower score."""
    return "" if match.can_answer else f" <span class=note>cannot say {escape(', '.join(match.missing))}</span>"


def _card(visit: Visit) -> str:
    head = f"<h3>{escape(visit.user.task)}</h3><div class=note>{escape(visit.user.story)}</div>"
    if visit.best is None:
        return (
            f"<div class=card id='{escape(visit.user.task)}'>{head}"
            "<p><b>Nothing in this dock fits.</b> With shuffled labels the same search finds as "
            f"good a match with probability {_chance(visit.found.p_value_any)}.</p></div>"
        )
    rows = "".join(
        f"<tr><td class=n>{i}</td><td><a href='#{_anchor(m.name)}'>{escape(m.name)}</a>{_lacks(m)}</td>"
        f"<td class=n>{m.score:.2f}</td>"
        f"<td class=n>{_interval(m.interval)}</td><td class=n>{m.domain:+.2f}</td><td class=n>{m.behaviour:+.2f}</td>"
        f"<td class=n>{_chance(m.p_value)}</td>"
        f"<td class=n>{_known(visit.others.get(m.name))}</td></tr>"
        for i, m in enumerate(visit.found.matches[:5], 1)
    )
    bars = "".join(
        f"<tr><td>{escape(name)}</td><td class=n>{value:.2f}</td><td><span class='bar {kind}' "
        f"style='width:{max(value, 0) * 14:.1f}rem'></span></td></tr>"
        for name, value, kind in (
            (f"reused: {visit.best.name}", visit.reused, ""),
            ("the same, tuned on the few examples", visit.tuned, ""),
            ("trained from scratch on the same few examples", visit.scratch, "other"),
        )
        if value is not None
    )
    return (
        f"<div class=card id='{escape(visit.user.task)}'>{head}<div class=scroll><table>"
        "<tr><th class=n></th><th>learnware</th><th class=n>score</th>"
        "<th class=n>90% interval</th><th class=n>domain</th><th class=n>behaviour</th><th class=n>p-value</th>"
        f"<th class=n>{escape(visit.metric)}</th></tr>{rows}</table>"
        f"<p><b>{escape(visit.metric)} on test examples</b></p>"
        f"<table>{bars}</table></div>{_drawn(visit)}</div>"
    )


def _interval(found: tuple[float, float] | None) -> str:
    return "-" if found is None else f"{found[0]:.2f} to {found[1]:.2f}"


def _chance(value: float | None) -> str:
    return "-" if value is None else "&lt;0.001" if value < 0.001 else f"{value:.3f}"


def _known(value: float | None) -> str:
    return "-" if value is None else f"{value:.2f}"


def _sources(tasks: dict[str, TourTask]) -> str:
    seen = dict.fromkeys(t.source for t in tasks.values())
    return "<ul>" + "".join(f"<li>{escape(s)}</li>" for s in seen) + "</ul>"
