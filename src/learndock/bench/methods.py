"""Who chooses: methods that rank a pool's learnwares for a task, and what each may look at.

A method gives one number for each learnware, the larger the better; equal numbers share their place (the chosen score
is then the mean over those in front). Specs are compared as ``search.score`` compares them; variants differ in one
thing each.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from learndock.bench.baselines import BASELINES
from learndock.bench.pool import Bench, grade
from learndock.reuse.trial import MOST, worth
from learndock.search.score import DOMAIN_WEIGHT, rank, trust
from learndock.spec.spec import Spec

Float = NDArray[np.float64]
Choose = Callable[[Bench, str, int, Sequence[int]], Float]

#: The method that ``learndock identify`` is.
DEFAULT = "one-pass"
#: How many of the first matches are tried: ``learndock identify --try``.
TRIED = (MOST, 20)


@dataclass(frozen=True)
class Method:
    """A way to choose. ``sees_data``: it needs the user's examples themselves and runs every model on them.

    ``words``: it compares what texts say, and needs a helper that reads them.
    """

    choose: Choose
    sees_data: bool = False
    note: str = ""
    pays: Literal["spec", "features", "models", "nothing"] = "spec"
    words: bool = False
    tries: int = 0

    def seconds(self, bench: Bench, places: Sequence[int]) -> float:
        """What a query costs before anything is compared: a spec, features, or every model run on the examples.

        Of models that are tried the mean one counts, ``tries`` times.
        """
        models = [bench.seconds.get(bench.entries[p].kind, 0.0) for p in places]
        if self.pays == "models":
            return sum(models)
        return bench.seconds.get(self.pays, 0.0) + self.tries * float(np.mean(models))


def parts(task: Spec, specs: Sequence[Spec]) -> tuple[Float, Float, Float]:
    """Cosine of domains, of behaviours, and reliability, ``(m,)`` each."""
    domain = np.array([s.unit_domain for s in specs]) @ task.unit_domain
    behaviour = np.array([s.unit_behaviour for s in specs]) @ task.unit_behaviour
    return domain.astype(np.float64), behaviour.astype(np.float64), np.array([s.reliability for s in specs])


def by_specs(
    weight: float = DOMAIN_WEIGHT, weigh: Callable[[Float], Float] = trust, labels: bool = False, own: float = 1.0
) -> Choose:
    """Score specs: (weight * domain + own * weigh(reliability) * behaviour) / (weight + own)."""

    def choose(bench: Bench, task: str, seed: int, places: Sequence[int]) -> Float:
        specs = [bench.entries[p].label_spec if labels else bench.entries[p].spec for p in places]
        domain, behaviour, reliability = parts(bench.task_spec(task, seed), specs)
        found: Float = (weight * domain + own * weigh(reliability) * behaviour) / (weight + own)
        return found

    return choose


def rank_entries(bench: Bench, spec: Spec, places: Sequence[int]) -> Float:
    """What ``identify`` ranks by for ``spec``; in a pool every learnware is of an owner of its own."""
    specs = [bench.entries[p].spec for p in places]
    domains, behaviours = np.array([s.unit_domain for s in specs]), np.array([s.unit_behaviour for s in specs])
    reliability = np.array([s.reliability for s in specs])
    return rank(spec, domains, behaviours, reliability, [bench.entries[p].name for p in places]).key


def identified(bench: Bench, task: str, seed: int, places: Sequence[int]) -> Float:
    """The default method: the user's spec, ranked."""
    return rank_entries(bench, bench.task_spec(task, seed), places)


def shrunk(prior: float) -> Choose:
    """Behaviour shrunk by the user's own reliability r towards ``prior``: what a good model would show on average."""

    def choose(bench: Bench, task: str, seed: int, places: Sequence[int]) -> Float:
        spec = bench.task_spec(task, seed)
        domain, behaviour, reliability = parts(spec, [bench.entries[p].spec for p in places])
        own = spec.reliability
        found: Float = domain + trust(reliability) * (own * behaviour + (1 - own) * prior)
        return found

    return choose


def tried(most: int) -> Choose:
    """The first ``most`` by the spec, run on the user's examples: what ``reuse.try_matches`` does.

    Only those with the user's labels can be tried; the others keep their order behind them.
    """

    def choose(bench: Bench, task: str, seed: int, places: Sequence[int]) -> Float:
        schema = bench.tasks[task].schema
        rows, targets = bench.drawn(task, seed)
        spec = identified(bench, task, seed, places)
        found = np.array([worth(schema, None, s) for s in spec])
        for i in np.argsort(-spec, kind="stable")[:most]:
            entry = bench.entries[places[i]]
            if bench.answers(task, entry):
                found[i] = worth(schema, grade(schema, entry.asked[task, "user"].outputs[rows], targets), spec[i])
        return found

    return choose


def oracle(bench: Bench, task: str, seed: int, places: Sequence[int]) -> Float:
    """The best there is."""
    return bench.scores[task][seed, list(places)]


def chance(bench: Bench, task: str, seed: int, places: Sequence[int]) -> Float:
    """Everyone alike: the chosen score is the pool's mean."""
    return np.zeros(len(places))


def _pays(name: str, sees_data: bool) -> Literal["features", "models", "nothing"]:
    return "models" if sees_data else "nothing" if name in ("card", "best_single") else "features"


METHODS: Mapping[str, Method] = {
    "random": Method(chance, note="mean over the pool", pays="nothing"),
    "oracle": Method(oracle, note="best of the pool on the test examples", pays="nothing"),
    DEFAULT: Method(identified, note="as `learndock identify` ranks"),
    **{
        f"{DEFAULT}, {n} tried": Method(
            tried(n),
            True,
            f"the first {n} of it run on the user's examples, as `identify --try {n}` does",
            tries=n,
        )
        for n in TRIED
    },
    **{name: Method(b.choose, b.sees_data, b.note, _pays(name, b.sees_data), b.words) for name, b in BASELINES.items()},
}


def applicable(bench: Bench) -> dict[str, Method]:
    """The methods that can be asked in a space: those that compare words need a helper that reads them."""
    return {name: m for name, m in METHODS.items() if bench.space.reads_descriptions or not m.words}


PARTS: Mapping[str, Method] = {
    "random": METHODS["random"],
    "oracle": METHODS["oracle"],
    "domain": Method(by_specs(1, own=0)),
    "behaviour": Method(by_specs(0, np.ones_like)),
    "behaviour x trust": Method(by_specs(0)),
    "domain 0.5": Method(by_specs(0.5)),
    DEFAULT: Method(identified),
    "without consensus": Method(by_specs()),
    "domain 2": Method(by_specs(2)),
    "no reliability": Method(by_specs(weigh=np.ones_like)),
    "reliability itself": Method(by_specs(weigh=np.asarray)),
    "reliability squared": Method(by_specs(weigh=np.square)),
    **{f"user's reliability, prior {p}": Method(shrunk(p)) for p in (0.0, 0.1, 0.2, 0.3)},
}
