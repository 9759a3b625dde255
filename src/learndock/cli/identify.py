"""``learndock identify``: find the learnwares that fit a task, and say so in words."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from learndock.cli import options, remembered, show
from learndock.cli.common import open_existing, read_data, read_schema, warn_cut

if TYPE_CHECKING:
    from learndock.data import Examples
    from learndock.reuse import Trial
    from learndock.search import Filters, Identification, Match
    from learndock.spec import Spec

#: Labels of a match that its row shows.
_SHOWN = 6


@options.reads_data()
def identify(
    examples_file: Annotated[
        Path | None, typer.Argument(metavar="DATA", help="Labelled examples: csv, tsv, jsonl, parquet, ...")
    ] = None,
    data: Annotated[Path | None, typer.Option("--data", help="The same as the argument DATA.")] = None,
    spec: Annotated[
        Path | None, typer.Option(help="In place of DATA: a spec of your task, made by `learndock spec task`.")
    ] = None,
    schema: options.Schema = None,
    top: Annotated[int, typer.Option(min=1, max=1000, help="How many matches to show.")] = 10,
    trials: Annotated[
        int, typer.Option("--try", min=0, max=100, help="Also run the first N matches on your examples, locally.")
    ] = 0,
    mapping: options.Mapping = None,
    details: Annotated[
        bool, typer.Option("--details", help="Show intervals, cosines and p-values of each match.")
    ] = False,
    format: options.Format = None,  # noqa: A002 - the field's name
    task_type: options.TaskType = None,
    license: options.License = None,  # noqa: A002 - the field's name
    base: options.Base = None,
    owner: options.Owner = None,
    space: options.AnySpace = None,
    recipe: options.Recipe = "one-pass",
    seed: options.Seed = 0,
    dock: options.Dock = None,
    json: options.Json = False,
    *,
    reading: options.Reading,
) -> None:
    """Find the learnwares that fit your task. Your examples stay on this machine, and nothing about them is stored.

    Where nothing fits, the exit code is 35, so that a script sees it.
    """
    from learndock.dock import LocalDock
    from learndock.errors import NOTHING_FITS, UsageError
    from learndock.search import Filters
    from learndock.spec import make_spec, read_spec

    path = _one_source(examples_file, data, spec)
    if trials and path is None:
        raise UsageError("--try runs models on your examples", remedy="give DATA in place of --spec")
    if mapping and not trials:
        raise UsageError("--map renames a model's labels for --try", remedy="give --try N too, or leave --map out")
    if spec is not None:
        _require_data_for(schema=schema, space=space, recipe=recipe != "one-pass", reading=reading != type(reading)())
    pairs = options.pairs(mapping)
    opened = open_existing(dock)
    examples: Examples | None = None
    filters = Filters(format=format, task=task_type, license=license, base=base, owner=owner)
    if spec is not None:
        asked = read_spec(spec)
    else:
        assert path is not None
        examples = read_data(path, read_schema(schema), reading)
        if isinstance(opened, LocalDock) and not len(opened):  # making the spec takes seconds
            _say_empty(json)
        with show.progress("making the spec") as bar:
            asked = make_spec(examples, space=space, recipe=recipe, seed=seed, progress=bar)
        warn_cut(asked.settings)
    found = opened.identify(asked, top=max(top, trials), filters=filters, seed=seed)
    tried: Sequence[Trial] | None = None
    if trials:
        assert examples is not None
        from learndock.reuse import try_matches

        with show.stages() as report:
            tried = try_matches(opened, found.matches, examples, mapping=pairs, most=trials, report=report)
    had = remembered.have(remembered.place_of(opened), [m.name for m in found.matches])
    if json:
        more: dict[str, Any] = {} if tried is None else {"tried": [t.to_dict() for t in tried]}
        if had:
            more["have"] = had
        show.print_json({**found.to_dict(), "p_value": asked.p_value, **more})
    else:
        _print_verdict(found, asked, filters)
        _print_matches(found, top, details)
        _print_standing(found.matches[:top], had)
        if tried and examples is not None:
            _print_trials(tried, examples)
        _print_next(found, tried, path, dock, options.typed(reading))
    if not found.fits:
        raise typer.Exit(NOTHING_FITS)


def _one_source(argument: Path | None, data: Path | None, spec: Path | None) -> Path | None:
    """The file of examples; None where a spec is given.

    Raises:
        UsageError: none of the three is given, or several.
    """
    from learndock.errors import UsageError

    given = [v for v in (argument, data, spec) if v is not None]
    if len(given) != 1:
        raise UsageError(
            "give your labelled examples (DATA), or --spec FILE",
            remedy="one of the two, as in: learndock identify my.csv",
        )
    return argument if data is None else data


def _require_data_for(*, reading: bool, **given: object) -> None:
    """Refuse options that say how a spec is made where one is given.

    Raises:
        UsageError: one of them is given.
    """
    from learndock.errors import UsageError

    named = [f"--{name}" for name, value in given.items() if value]
    if named or reading:
        what = f"{' and '.join(named)} say" if named else "columns and file formats say"
        raise UsageError(f"{what} how a spec is made, and --spec has one", remedy="leave them out, or give DATA")


def _say_empty(json: bool) -> None:
    """End where there is nothing to find.

    Raises:
        Exit: always, with the code of "nothing fits".
    """
    from learndock.errors import NOTHING_FITS
    from learndock.search import Identification

    if json:
        show.print_json({**Identification(False, (), None, 0).to_dict(), "p_value": None})
    else:
        show.say("The dock is empty; `learndock add` fills it.")
    raise typer.Exit(NOTHING_FITS)


def _print_verdict(found: Identification, asked: Spec, filters: Filters) -> None:
    """The answer in a sentence or two."""
    if not found.searched:
        show.say("The dock is empty." if filters.empty else "The dock has no learnware of that kind.")
        return
    many = show.counted(found.searched, "learnware")
    chance = _chance(found.p_value_any)
    if found.fits:
        best = found.matches[0]
        show.say(f"{best.name} fits your task: of {many} its answers agree best with your labels{chance}.")
        if missing := _missing(best):
            show.say(f"But it cannot answer {missing}.")
    else:
        show.say(f"Nothing here fits your task: of {many} none agrees with your labels better than chance{chance}.")
        if found.reason:
            show.say(found.reason)
        elif asked.p_value is not None and asked.p_value > 0.05:
            show.say(
                f"Your {asked.n} examples alone do not show that labels depend on inputs (p = {asked.p_value:.2f}). "
                "Give more examples, or say with --schema what the labels mean."
            )
        show.say("The closest are:")
    if found.fits and asked.p_value is not None and asked.p_value > 0.05:
        show.say(
            "Too few examples to rank by behaviour; ranked by domain and by agreement among models of that domain."
        )


def _chance(value: float | None) -> str:
    return "" if value is None else " (p < 0.001)" if value < 0.001 else f" (p = {value:.3f})"


def _print_matches(found: Identification, top: int, details: bool) -> None:
    matches = found.matches[:top]
    if not matches:
        return
    lacking = any(map(_missing, matches))
    if not details:
        columns = ["", "learnware", "score", "answers", *(["cannot answer"] if lacking else [])]
        rows = [
            [i, _named(m), f"{m.score:.2f}", _labels(m), *([_missing(m)] if lacking else [])]
            for i, m in enumerate(matches, 1)
        ]
        show.table(columns, rows, right=["", "score"], wrap=["answers", "cannot answer"])
        show.say("score: how alike your task and the model are, at most 1; not the share of right answers.")
        return
    show.table(
        ["", "learnware", "score", "90% interval", "domain", "behaviour", "reliability", "p-value"],
        [
            [
                i,
                _named(m),
                f"{m.score:.3f}",
                "-" if m.interval is None else f"{m.interval[0]:.2f} to {m.interval[1]:.2f}",
                f"{m.domain:+.2f}",
                f"{m.behaviour:+.2f}",
                f"{m.reliability:.2f}",
                show.p_value(m.p_value),
            ]
            for i, m in enumerate(matches, 1)
        ],
        right=["", "score", "domain", "behaviour", "reliability", "p-value"],
    )
    show.say("domain: cosine with your kind of inputs. behaviour: cosine with how your labels depend on them.")
    show.say("reliability: share of the model's behaviour that other examples reproduce. p-value: of the behaviour.")


def _print_standing(matches: Sequence[Match], had: Mapping[str, int]) -> None:
    """Say which matches are deprecated, and which are newer than what `learndock get` wrote here."""
    for match in matches:
        if match.deprecated is not None:
            show.say(f"{match.name} is {match.deprecated}.")
        if match.version > had.get(match.name, match.version):
            show.say(f"{match.name}@v{match.version} is newer than the v{had[match.name]} you have.")


def _named(match: Match) -> str:
    """The learnware, and which version of it was compared where there are several."""
    several = match.version > 1 or match.latest > 1
    return f"{match.name}@v{match.version}" if several else match.name


def _labels(match: Match) -> str:
    labels = match.answers.labels if match.answers.task_type == "classification" else ()
    more = f", ... ({match.answers.classes})" if len(labels) > _SHOWN else ""
    return ", ".join(labels[:_SHOWN]) + more or str(match.answers.task_type)


def _missing(match: Match) -> str:
    return "" if match.can_answer else ", ".join(match.missing)


def _print_trials(tried: Sequence[Trial], examples: Examples) -> None:
    metric = examples.schema.metric if examples.schema is not None else "score"
    show.say()
    show.say(f"Tried on your {len(examples)} examples, the best first:")
    rows = [
        [i, t.match.name, "-" if t.score is None else f"{t.score:.3f}", t.why or ""] for i, t in enumerate(tried, 1)
    ]
    failed = any(t.why for t in tried)
    show.table(
        ["", "learnware", metric, *(["why not tried"] if failed else [])],
        rows if failed else [r[:3] for r in rows],
        right=["", metric],
        wrap=["why not tried"],
    )
    if (constant := _constant_score(examples)) is not None:
        show.say(f"Always saying the commonest label scores {constant:.3f}.")


def _constant_score(examples: Examples) -> float | None:
    """What a constant answer scores on the examples; None where there are no classes."""
    import numpy as np

    from learndock.data.metrics import score

    if examples.schema is None or examples.schema.type != "classification" or examples.targets is None:
        return None
    constant = np.zeros((len(examples), examples.schema.classes))
    constant[:, np.bincount(examples.targets, minlength=examples.schema.classes).argmax()] = 1
    return score(examples.schema, constant, examples.targets)


def _print_next(
    found: Identification, tried: Sequence[Trial] | None, path: Path | None, dock: str | None, how: Sequence[str]
) -> None:
    """The next command: run the best where something fits, else look at what there is; ``how`` reads ``path``."""
    if not found.matches:
        return
    best = tried[0].match if tried and tried[0].score is not None else found.matches[0]
    if not found.fits:
        show.next_step("show", best.name, dock=dock, why="To look at the closest")
    elif path is None:
        show.next_step("get", best.name, dock=dock)
    elif tried:
        show.next_step("predict", best.name, "NEW.csv", "-o", "answers.csv", dock=dock)
    else:
        show.next_step("evaluate", best.name, path, *how, dock=dock)
