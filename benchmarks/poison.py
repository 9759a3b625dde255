"""Poisoned specs against real ones: who gets in, and whose answers do they reach?

    python benchmarks/poison.py --data DIR --json OUT [--cache out/poison]

An honest dock (``poison_pool.py``) in two sizes: *dense*, 18 owners a task, and *sparse*, three. Attackers know every
spec in it. Each attack is shown to the gate (``dock/gate.py``); then, whatever the gate said, it is put into the dock
to see what it would have done: the share of unrelated users (those of tasks that it was not made from) in whose first
ten, and in whose first place, it stands.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.poison_pool import Named, Pool, make_pool
from learndock.dock.gate import Newcomer, check_newcomer
from learndock.dock.storage.records import Records
from learndock.dock.storage.sqlite import created
from learndock.errors import SuspectSpec
from learndock.search.score import rank, unit_rows

Floats = NDArray[np.float32]
EVIL = "evil"


@dataclass(frozen=True, eq=False)
class Shelf:
    """A dock in memory: what the gate and the ranking ask of one (``gate.Neighbours``)."""

    names: list[str]
    families: list[str]
    domains: Floats
    behaviours: Floats
    reliability: NDArray[np.float64]

    @classmethod
    def of(cls, learnwares: Sequence[Named]) -> Shelf:
        """The dock with these learnwares."""
        return cls(
            [w.name for w in learnwares],
            [w.family for w in learnwares],
            np.stack([w.spec.unit_domain for w in learnwares]),
            np.stack([w.spec.unit_behaviour for w in learnwares]),
            np.array([w.spec.reliability for w in learnwares]),
        )

    def first(self, order: NDArray[np.intp]) -> Shelf:
        """Some of it."""
        return Shelf(
            [self.names[i] for i in order],
            [self.families[i] for i in order],
            self.domains[order],
            self.behaviours[order],
            self.reliability[order],
        )

    def outlines(self, space_id: str, length: int) -> tuple[list[str], Floats]:
        """See ``gate.Neighbours``."""
        return self.names, self.behaviours[:, :64]

    def parts(self, space_id: str, names: Sequence[str]) -> tuple[Floats, Floats]:
        """See ``gate.Neighbours``."""
        places = [self.names.index(n) for n in names]
        return self.domains[places], self.behaviours[places]


@dataclass(frozen=True, eq=False)
class Attack:
    """A made-up spec, as its file would hold it, and the tasks that it was made from (there it is no stranger)."""

    kind: str
    domain: Floats
    behaviour: Floats
    made_from: frozenset[str] = frozenset()


def canonical(part: Floats, length: float = 1.0) -> Floats:
    """Of root mean square ``length``, rounded as a file rounds."""
    scaled = part / np.sqrt(np.mean(np.square(part, dtype=np.float64))) * length
    return np.asarray(scaled.astype(np.float16).astype(np.float32))


def newcomer(attack: Attack, name: str = f"{EVIL}/model") -> Newcomer:
    """What the gate is shown."""
    return Newcomer(name, "space", attack.domain, attack.behaviour)


def refusal(attack: Attack, shelf: Shelf) -> str:
    """What the gate says of it; nothing where it lets it in."""
    try:
        check_newcomer(newcomer(attack), shelf)
    except SuspectSpec as error:
        return str(error)
    return ""


def attacks(shelf: Shelf, seed: int, repeat: int) -> Iterator[Attack]:
    """All kinds."""
    draw = np.random.Generator(np.random.Philox(key=[seed, 91]))
    families = sorted(set(shelf.families))
    whose = np.array(shelf.families)
    means = {
        f: [unit_rows(p[whose == f].mean(0)[None])[0] for p in (shelf.domains, shelf.behaviours)] for f in families
    }

    def mixture(chosen: Sequence[str], kind: str) -> Attack:
        domain, behaviour = (np.mean([means[f][i] for f in chosen], 0) for i in (0, 1))
        known = frozenset() if len(chosen) == len(families) else frozenset(chosen)
        return Attack(kind, canonical(domain), canonical(behaviour), known)

    yield mixture(families, "hub of all tasks")
    yield Attack("mean of all learnwares", canonical(shelf.domains.mean(0)), canonical(shelf.behaviours.mean(0)))
    for count in (2, 3, 4, 6, 9):
        for _ in range(repeat):
            yield mixture([families[i] for i in draw.permutation(len(families))[:count]], f"hub of {count} tasks")
    for _ in range(repeat):
        place = int(draw.integers(len(shelf.names)))
        own = frozenset([shelf.families[place]])
        domain, behaviour = shelf.domains[place], shelf.behaviours[place]
        other = int(draw.choice(np.flatnonzero(whose != shelf.families[place])))
        noise = [canonical(draw.standard_normal(p.shape).astype(np.float32)) for p in (domain, behaviour)]
        yield Attack("copy", canonical(domain), canonical(behaviour), own)
        yield Attack("copy with 4% noise", canonical(domain), canonical(canonical(behaviour) + 0.04 * noise[1]), own)
        yield Attack("copy with 20% noise", canonical(domain), canonical(canonical(behaviour) + 0.2 * noise[1]), own)
        yield Attack("flipped", canonical(domain), canonical(-behaviour), own)
        yield Attack("scaled x 1000", canonical(domain, 100.0), canonical(behaviour, 1000.0), own)
        yield Attack("denormal", canonical(domain, 1e-6), canonical(behaviour, 1e-6), own)
        yield Attack("copy under another domain", canonical(shelf.domains[other]), canonical(behaviour), own | {
            shelf.families[other]
        })  # fmt: skip
        yield Attack("hub's domain, behaviour of noise", canonical(shelf.domains.mean(0)), noise[1])
        whole = mixture(families, "")
        yield _just_below(
            Attack("adaptive: hub of all, noise until it passes", whole.domain, whole.behaviour), noise, shelf
        )


def _just_below(attack: Attack, noise: Sequence[Floats], shelf: Shelf) -> Attack:
    """As much of the attack as the gate lets through."""
    low, high = 0.0, 4.0
    for _ in range(12):
        middle = (low + high) / 2
        mixed = _diluted(attack, noise, middle)
        low, high = (low, middle) if not refusal(mixed, shelf) else (middle, high)
    return _diluted(attack, noise, high)


def _diluted(attack: Attack, noise: Sequence[Floats], share: float) -> Attack:
    return Attack(
        attack.kind, canonical(attack.domain + share * noise[0]), canonical(attack.behaviour + share * noise[1]),
        attack.made_from,
    )  # fmt: skip


def searched(
    attack: Attack | None, extra: Sequence[Attack], shelf: Shelf, queries: Sequence[Named]
) -> NDArray[np.intp]:
    """Place of the attack (0 is first) for each query; of the winner's row where there is no attack."""
    added = [attack, *extra] if attack is not None else list(extra)
    domains = unit_rows(np.concatenate([shelf.domains, *[a.domain[None] for a in added]]))
    behaviours = unit_rows(np.concatenate([shelf.behaviours, *[a.behaviour[None] for a in added]]))
    reliability = np.concatenate([shelf.reliability, np.ones(len(added))])
    owners = [n.split("/")[0] for n in shelf.names] + [f"{EVIL}-{i}" for i in range(len(added))]
    found = []
    for query in queries:
        score = rank(query.spec, domains, behaviours, reliability, owners).key
        found.append(int(score.argmax()) if attack is None else int((score > score[len(shelf.names)]).sum()))
    return np.array(found)


def measure(pool: Pool, seed: int, repeat: int) -> dict[str, Any]:
    """All attacks on one dock."""
    shelf = Shelf.of(pool.learnwares)
    table: dict[str, list[dict[str, Any]]] = {}
    passed: list[Attack] = []
    for attack in attacks(shelf, seed, repeat):
        refused = refusal(attack, shelf)
        places = searched(attack, [], shelf, pool.queries)
        strangers = np.array([q.family not in attack.made_from for q in pool.queries])
        table.setdefault(attack.kind, []).append(
            {
                "refused": bool(refused),
                "top10": float((places[strangers] < 10).mean()),
                "first": float((places[strangers] == 0).mean()),
            }
        )
        if not refused:
            passed.append(attack)
    rows = {kind: _summary(found) for kind, found in table.items()}
    before = searched(None, [], shelf, pool.queries)
    changed = {"strangers": [0.0], "own_tasks": [0.0]}
    for attack in passed:
        other = searched(None, [attack], shelf, pool.queries) != before
        strangers = np.array([q.family not in attack.made_from for q in pool.queries])
        changed["strangers"].append(float(other[strangers].mean()))
        if not strangers.all():
            changed["own_tasks"].append(float(other[~strangers].mean()))
    return {
        "learnwares": len(shelf.names),
        "queries": len(pool.queries),
        "attacks": rows,
        "winners_changed_by_one_that_passed": {who: float(np.mean(shares)) for who, shares in changed.items()},
        "honest": honest(shelf, pool.queries),
    }


def _summary(found: list[dict[str, Any]]) -> dict[str, float]:
    inside = [f for f in found if not f["refused"]]
    return {
        "tried": len(found),
        "refused": len(found) - len(inside),
        "top10_without_gate": float(np.mean([f["top10"] for f in found])),
        "first_without_gate": float(np.mean([f["first"] for f in found])),
        # Who is refused reaches nobody
        "top10_with_gate": float(np.mean([0.0 if f["refused"] else f["top10"] for f in found])),
        "first_with_gate": float(np.mean([0.0 if f["refused"] else f["first"] for f in found])),
    }


def honest(shelf: Shelf, queries: Sequence[Named]) -> dict[str, float]:
    """Honest learnwares: how often the gate errs as the dock grows, and in how many strangers' first ten they stand."""
    refused = shown = 0
    for seed in range(4):
        order = np.random.Generator(np.random.Philox(key=[seed, 92])).permutation(len(shelf.names))
        for count in range(len(order)):
            place = int(order[count])
            one = Newcomer(
                shelf.names[place], "space", canonical(shelf.domains[place]), canonical(shelf.behaviours[place])
            )
            shown += 1
            try:
                check_newcomer(one, shelf.first(order[:count]))
            except SuspectSpec:
                refused += 1
    strange = np.array([[q.family != f for f in shelf.families] for q in queries])
    owners = [n.split("/")[0] for n in shelf.names]
    ten = np.zeros_like(strange)
    for row, query in enumerate(queries):
        score = rank(query.spec, shelf.domains, shelf.behaviours, shelf.reliability, owners).key
        ten[row, np.argsort(-score)[:10]] = True
    share = (ten & strange).sum(0) / strange.sum(0)
    return {"shown": shown, "refused": refused, "top10_mean": float(share.mean()), "top10_most": float(share.max())}


def collude(pool: Pool, owners: Sequence[int]) -> list[dict[str, Any]]:
    """Owners who agree: each a spec of the target's domain and nearly the same made-up behaviour (cosine .95).

    For every task in turn; how many users of the task get one of theirs first, and how many of other tasks.
    """
    shelf = Shelf.of(pool.learnwares)
    whose = np.array(shelf.families)
    found = []
    for count in owners:
        own, strange, silent = [], [], []
        for at, family in enumerate(sorted(set(shelf.families))):
            draw = np.random.Generator(np.random.Philox(key=[at, 93]))
            domain = canonical(shelf.domains[whose == family].mean(0))
            common = np.asarray(draw.standard_normal(shelf.behaviours.shape[1]), np.float32)
            crowd = []
            for _ in range(count):
                alone = draw.standard_normal(len(common)).astype(np.float32)
                crowd.append(Attack("colluder", domain, canonical(common + 0.23 * alone)))
            first = searched(None, crowd, shelf, pool.queries) >= len(shelf.names)
            related = np.array([q.family == family for q in pool.queries])
            quiet = np.array([q.spec.p_value is not None and q.spec.p_value > 0.05 for q in pool.queries])
            own.append(float(first[related & ~quiet].mean()) if (related & ~quiet).any() else 0.0)
            silent.append(float(first[related & quiet].mean()) if (related & quiet).any() else 0.0)
            strange.append(float(first[~related].mean()))
        found.append(
            {
                "owners": count,
                "first_for_users_with_evidence": float(np.mean(own)),
                "first_for_users_without_evidence": float(np.mean(silent)),
                "first_for_strangers": float(np.mean(strange)),
            }
        )
    return found


def seconds(pool: Pool, count: int, folder: Path) -> dict[str, float]:
    """What the gate costs an ``add`` to a dock of ``count`` learnwares: best and median of 9, and CPU seconds."""
    draw = np.random.Generator(np.random.Philox(key=[0, 94]))
    shelf = Shelf.of(pool.learnwares)
    with created(folder / "records.sqlite") as database:
        database.execute("BEGIN")
        for i in range(count):
            place = i % len(shelf.names)
            name = f"owner{i // 12}/model{i}"
            database.execute(
                "INSERT INTO learnwares (name, digest, state, sequence, manifest, format, task_type) "
                "VALUES (?, ?, 'published', ?, x'00', 'onnx', 'classification')",
                (name, f"{i:064x}", i),
            )
            noisy = shelf.behaviours[place] + 0.01 * np.asarray(
                draw.standard_normal(shelf.behaviours.shape[1]), np.float32
            )
            database.execute(
                "INSERT INTO specs VALUES (?, 'space', 'minilm-l6', ?, ?, ?, 0.9)",
                (name, f"{i:064x}", canonical(shelf.domains[place]).tobytes(), canonical(noisy).tobytes()),
            )
        database.execute("COMMIT")
        one = Attack("", canonical(shelf.domains[0]), canonical(draw.standard_normal(4096).astype(np.float32)))
        found, busy = [], []
        for _ in range(9):
            start, started = time.perf_counter(), time.process_time()
            check_newcomer(newcomer(one), Records(database))
            found.append(time.perf_counter() - start)
            busy.append(time.process_time() - started)
    return {"learnwares": count, "best": min(found), "median": float(np.median(found)), "cpu": float(np.median(busy))}


def main() -> None:
    """Run and print; write the figures as JSON."""
    parser = argparse.ArgumentParser(description=str(__doc__).splitlines()[0])
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--cache", type=Path, default=Path("out/poison"))
    parser.add_argument("--repeat", type=int, default=10)
    options = parser.parse_args()
    pool = make_pool(options.data, options.cache, draws=12, owners=6)
    result: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as folder:
        result["gate_seconds"] = seconds(pool, 10_000, Path(folder))
    print(result["gate_seconds"], flush=True)
    for name, part in (("dense", pool), ("sparse", pool.sparse())):
        found = result[name] = measure(part, 0, options.repeat)
        print(f"{name}: {found['learnwares']} learnwares, {found['queries']} queries; honest {found['honest']}")
        for kind, row in found["attacks"].items():
            print(
                f"  {kind:45s} refused {row['refused']:3d} of {row['tried']:3d}   unrelated top 10 "
                f"{row['top10_without_gate']:.3f} -> {row['top10_with_gate']:.3f}   first "
                f"{row['first_without_gate']:.3f} -> {row['first_with_gate']:.3f}",
                flush=True,
            )
        print(f"  winners changed by one attack that passed: {found['winners_changed_by_one_that_passed']}")
        found["collusion"] = collude(part, (1, 3, 10, 30))
        for row in found["collusion"]:
            print(f"  {row}", flush=True)
    if options.json:
        options.json.parent.mkdir(parents=True, exist_ok=True)
        options.json.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
