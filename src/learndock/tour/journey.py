"""Take the entire journey on real texts and images: owners pack, the dock admits, users find and reuse.

    data -> owners train and pack -> add -> users: spec -> identify -> predict or finetune -> report

Everything that is made stays in one folder. A second tour finds it there and continues where the first stopped.
"""

from __future__ import annotations

import contextlib
import shutil
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import numpy as np

from learndock.data import Examples, Schema
from learndock.data.choose import few_shot
from learndock.data.images import Image
from learndock.data.metrics import score
from learndock.dock import LocalDock, identify, open_dock
from learndock.errors import Corrupt, NotFound, PackageError, SpecError
from learndock.package import Learnware, open_learnware, pack
from learndock.package.extras import need
from learndock.progress import Progress
from learndock.reuse import evaluate, finetune, predict
from learndock.search import Identification, Match
from learndock.spaces import Space, default_space, get_space
from learndock.spec import make_spec
from learndock.spec.spec import identity
from learndock.tour.data import TourTask, load_tour_data
from learndock.tour.images import load_image_tasks
from learndock.tour.report import write_report
from learndock.tour.train import OWNERS, Owner, degrade, from_scratch, train_model
from learndock.tour.visit import User, Visit

SHOTS = 16
SEED = 7
#: Texts or images on which an owner runs the model to make its spec.
OWNER_EXAMPLES = {"text": 256, "image": 128}
#: Images of the user that the report draws, with the reused model's answers.
DRAWN = 24
NOTHING = "coin_toss"

Bar = Callable[[str], AbstractContextManager[Progress | None]]


USERS = (
    User("tumour_site", "A registry wants tumours sorted by organ."),
    User("tumour_nature", "The same diagnoses, another question: malignant or benign?"),
    User("injury_kind", "An emergency ward wants to know what kind of injury a text describes."),
    User("product_sentiment", "A shop wants to separate complaints from praise."),
    User("movie_sentiment", "A cinema has reviews; the dock has no model for films.", tune=True),
    User("digit_loop", "A toy maker sorts handwritten digits by whether they have a closed loop (images)."),
    User(NOTHING, "These labels have nothing to do with the texts."),
)


def take_tour(
    out: Path,
    *,
    say: Callable[[str], None],
    bar: Bar,
    json: Callable[[Any], None] | None = None,
) -> None:
    """Take the tour and leave everything in ``out``: data, learnwares, the dock, and ``report.html``.

    Raises:
        MissingExtra, WeightsMissing: what it needs is not installed.
        LearndockError: the data cannot be fetched.
    """
    started = time.perf_counter()
    for module in ("sklearn", "skops.io", "torch", "transformers", "onnx"):
        need(module, extra="sklearn,torch", why="the tour")
    need("PIL", extra="images", why="the tour")
    say("1. Data: real texts and images from three packages, split into owners', users' and test parts")
    with bar("data") as progress:
        tasks = {**load_tour_data(out / "data", progress=progress), **load_image_tasks()}
    for task in tasks.values():
        labels = ", ".join(task.schema.labels) if task.schema.type == "classification" else "a number"
        say(f"     {task.name:18s} {len(task.train):5d} {task.train.kind + 's':6s}  {labels}")
    say("2. Owners train models and pack them with a specification; no text or image leaves them")
    for number, owner in enumerate(OWNERS, 1):
        _pack_owner(out, owner, tasks[owner.task], f"     [{number:2d}/{len(OWNERS)}]", say, bar)
    say("3. The dock checks and stores them")
    dock = _fill_dock(out, say, bar)
    say(f"4. Users come with {SHOTS} labelled examples per class")
    visits = []
    for user in USERS:
        with bar(user.task) as progress:
            visits.append(_visit(out, dock, tasks, user, progress))
        _tell(visits[-1], say)
    seconds = time.perf_counter() - started
    report = out / "report.html"
    write_report(report, dock, visits, tasks, seconds)
    say(f"Done in {seconds:.0f} s. Open {report} for the similarity map.")
    if json:
        json({"report": str(report), "seconds": round(seconds, 1), "users": [_as_dict(v) for v in visits]})


def owner_part(task: TourTask) -> tuple[Examples, Examples]:
    """What belongs to owners: texts to train on, and texts to run the model on. Users' texts are not among them."""
    user, _ = user_part(task)
    kept = set(user)
    rows = [i for i in range(len(task.train)) if i not in kept]
    order = np.random.Generator(np.random.Philox(key=[SEED, 71])).permutation(rows)
    count = OWNER_EXAMPLES[task.train.kind]
    return task.train.take(order[count:]), task.train.take(order[:count])


def user_part(task: TourTask) -> tuple[list[int], Examples]:
    """Indices and examples of the user: a few of each class."""
    chosen, _ = few_shot(task.train, task.schema, SHOTS, SEED)
    return [int(i) for i in chosen], task.train.take(chosen)


def _pack_owner(out: Path, owner: Owner, task: TourTask, place: str, say: Callable[[str], None], bar: Bar) -> None:
    space = _space_of(task)
    folder = out / "learnwares" / owner.name.replace("/", "--")
    with contextlib.suppress(PackageError, SpecError, Corrupt, NotFound):
        if open_learnware(folder).spec(space.name).space_id == identity(space.describe("one-pass")):
            say(f"{place} {owner.name:32s} packed already")
            return
    shutil.rmtree(folder, ignore_errors=True)
    training, own = owner_part(task)
    model = out / "models" / folder.name
    shutil.rmtree(model, ignore_errors=True)
    with bar(f"training {owner.name}") as progress:
        train_model(owner, degrade(owner, training, SEED), space, model, progress)
    folder.parent.mkdir(parents=True, exist_ok=True)
    with bar(f"packing {owner.name}") as progress:
        manifest = pack(
            model,
            folder,
            name=owner.name,
            schema=task.schema,
            examples=own,
            description=f"{task.name.replace('_', ' ')}, {owner.quality}",
            license="Apache-2.0",
            progress=progress,
        ).manifest
    shutil.rmtree(model)
    say(f"{place} {owner.name:32s} {manifest.format:13s} {owner.quality}")


def _fill_dock(out: Path, say: Callable[[str], None], bar: Bar) -> LocalDock:
    # Made again: its learnwares may have been packed again, and a name in a dock never gets other content
    shutil.rmtree(out / "dock", ignore_errors=True)
    dock = open_dock(out / "dock")
    for owner in OWNERS:
        with bar(f"adding {owner.name}") as progress:
            dock.add(out / "learnwares" / owner.name.replace("/", "--"), progress=progress)
    problems = [p for p in dock.verify() if p.severity == "error"]
    say(f"     {len(dock)} learnwares in {dock.folder}, {'sound' if not problems else f'{len(problems)} problems'}")
    return dock


def _visit(out: Path, dock: LocalDock, tasks: dict[str, TourTask], user: User, progress: Progress | None) -> Visit:
    if user.task == NOTHING:
        return _visit_of_nothing(dock, tasks["tweet_sentiment"], user)
    task = tasks[user.task]
    space = _space_of(task)
    _, examples = user_part(task)
    assert task.test.targets is not None
    start = time.perf_counter()
    spec = make_spec(examples, task.schema, space=space, progress=progress)
    found = identify(dock, spec)
    seconds = time.perf_counter() - start
    scratch = score(task.schema, from_scratch(task.schema, examples)(list(task.test.inputs)), task.test.targets)
    others = {} if user.tune else _scores(out, dock, task)
    reused = tuned = None
    drawn: tuple[tuple[Image, str, str], ...] = ()
    chosen = _choose(dock, user, found)
    if chosen is not None:
        reused = others.get(chosen.name)
        if user.tune:
            folder = out / "learnwares" / chosen.name.replace("/", "--")
            reused = evaluate(open_learnware(folder), task.test, task.schema).score
            tuned = _tune(out, folder, task, examples, progress)
        if examples.kind == "image":
            drawn = _draw(open_learnware(out / "learnwares" / chosen.name.replace("/", "--")), task)
    return Visit(user, spec, found, task.schema.metric, chosen, reused, tuned, scratch, others, seconds, drawn)


def _space_of(task: TourTask) -> Space:
    return get_space(default_space(task.train.kind))


def _draw(learnware: Learnware, task: TourTask) -> tuple[tuple[Image, str, str], ...]:
    """Some of the test images, with their labels and what the model says."""
    few = task.test.take(range(DRAWN))
    assert few.targets is not None
    said = predict(learnware, few.inputs).argmax(1)
    labels, own = task.schema.labels, learnware.schema.labels
    return tuple((i, labels[t], own[s]) for i, t, s in zip(few.inputs, few.targets, said, strict=True))


def _choose(dock: LocalDock, user: User, found: Identification) -> Match | None:
    """The best match; for who wants to tune it, the best one of a format with gradients."""
    if not found.fits:
        return None
    formats = {r.id: r.manifest.format for r in dock.records()}
    return next((m for m in found.matches if not user.tune or formats[m.id] == "transformers"), None)


def _visit_of_nothing(dock: LocalDock, task: TourTask, user: User) -> Visit:
    """Real texts with labels drawn by a coin: the honest answer is that nothing fits."""
    _, examples = user_part(task)
    generator = np.random.Generator(np.random.Philox(key=[SEED, 72]))
    targets = generator.permutation(np.arange(len(examples)) % 2)
    schema = Schema(
        "classification", ("heads", "tails"), ("the coin showed heads", "the coin showed tails"), "accuracy"
    )
    spec = make_spec(Examples(examples.inputs, targets, schema, "coin tosses"), schema)
    return Visit(user, spec, identify(dock, spec), "accuracy")


def _scores(out: Path, dock: LocalDock, task: TourTask) -> dict[str, float]:
    """Test score of every docked learnware with the task's labels: what identification could have picked."""
    found = {}
    for record in dock.records():
        if record.manifest.task["labels"] == list(task.schema.labels):
            opened = open_learnware(out / "learnwares" / record.name.replace("/", "--"))
            found[record.name] = evaluate(opened, task.test, task.schema).score
    return found


def _tune(out: Path, chosen: Path, task: TourTask, examples: Examples, progress: Progress | None) -> float:
    folder = out / "tuned" / task.name
    shutil.rmtree(folder, ignore_errors=True)
    folder.parent.mkdir(parents=True, exist_ok=True)
    name = f"cinema/{task.name.replace('_', '-')}"
    finetune(open_learnware(chosen), examples, folder, name=name, schema=task.schema, progress=progress)
    return evaluate(open_learnware(folder), task.test, task.schema).score


def _tell(visit: Visit, say: Callable[[str], None]) -> None:
    say(f"   * {visit.user.task}: {visit.user.story}")
    if visit.best is None:
        say(f"     nothing in this dock fits (p = {visit.found.p_value_any:.2f})")
        return
    for place, match in enumerate(visit.found.matches[:3], 1):
        assert match.interval is not None
        known = visit.others.get(match.name)
        say(
            f"     {place}. {match.name:32s} score {match.score:.2f} [{match.interval[0]:.2f}, {match.interval[1]:.2f}]"
            f"  domain {match.domain:+.2f}  behaviour {match.behaviour:+.2f}"
            + ("" if known is None else f"   ({visit.metric} {known:.2f})")
        )
    tuned = "" if visit.tuned is None else f", tuned on the {SHOTS}-shot examples {visit.tuned:.2f}"
    which = f" ({visit.best.name}, which can be tuned)" if visit.user.tune else ""
    say(
        f"     found in {visit.seconds:.1f} s; {visit.metric}: reused {visit.reused:.2f}{which}{tuned}, "
        f"trained from scratch on the same examples {visit.scratch:.2f}"
    )


def _as_dict(visit: Visit) -> dict[str, Any]:
    return {
        "task": visit.user.task,
        **visit.found.to_dict(),
        "metric": visit.metric,
        "reused": visit.reused,
        "tuned": visit.tuned,
        "scratch": visit.scratch,
        "scores": visit.others,
        "seconds": round(visit.seconds, 3),
    }
