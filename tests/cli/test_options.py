"""Every option of every command, seen to act or to refuse; an option without a line here fails the test.

Acts(...)       the output, the exit code or the written files differ from those of the command without it
Refuses(...)    a value that cannot be used ends the command, with the option's own reason
Arrives(...)    the value is among what the library is called with, for work that takes minutes
Elsewhere(...)  another test types it and checks what comes
"""

from __future__ import annotations

import ast
import importlib
import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import typer.main

from learndock import settings
from learndock.cli.app import app
from learndock.errors import UsageError
from learndock.files import sha256_file
from learndock.spaces import get_space
from tests.support.models import SENTIMENT, texts, write_mlflow, write_onnx, write_sklearn
from tests.support.terminal import Ended, learndock

TESTS, SOURCE = Path(__file__).parents[1], Path(settings.__file__).parent


def options() -> Iterator[tuple[str, str]]:
    """Every (command, option) of the tree; an option is named by its longest spelling."""
    yield from ((command, max(spellings, key=len)) for command, spellings in spelled())


def spelled() -> Iterator[tuple[str, list[str]]]:
    """Every option of the tree: its command, and how it may be spelled."""

    def walk(command: Any, words: tuple[str, ...]) -> Iterator[tuple[str, list[str]]]:
        if hasattr(command, "commands"):
            for name, each in command.commands.items():
                yield from walk(each, (*words, name))
            return
        for parameter in command.params:
            if parameter.param_type_name == "option":
                yield " ".join(words), list(parameter.opts)

    yield from walk(typer.main.get_command(app), ())


# --- a small world -------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class World:
    """Files of a user and an owner, and a dock with two learnwares in the tiny space."""

    folder: Path
    space: Path

    def __getattr__(self, name: str) -> Path:
        return self.folder / name.replace("__", ".")


@pytest.fixture(scope="module")
def world(tiny_space: Any, tiny_encoder: Path, tmp_path_factory: pytest.TempPathFactory) -> World:
    pytest.importorskip("onnx", reason="writes a model")
    w = World(tmp_path_factory.mktemp("world"), tiny_space.folder)
    inputs, targets = texts(40, 3)
    rows = [(f"{t}, and", SENTIMENT.labels[y]) for t, y in zip(inputs, targets, strict=True)]
    w.data__jsonl.write_text("".join(json.dumps({"text": t, "label": label}) + "\n" for t, label in rows))
    w.data__csv.write_text("text,label\n" + "".join(f'"{t}",{label}\n' for t, label in rows))
    w.schema__json.write_text(json.dumps(SENTIMENT.to_dict()))
    w.other__json.write_text(json.dumps({"labels": ["positive", "negative"], "descriptions": ["x", "y"]}))
    w.learndock__toml.write_text("port = 0\n")
    w.encoder.symlink_to(tiny_encoder)
    write_onnx(w.model)
    write_mlflow(w.mlflow, write_sklearn(w.folder / "skops"))
    (w.model / "notes.txt").write_text("notes")
    for name, extra in (("two", ["--description", "second"]), ("one", ["--license", "MIT", "--description", "first"])):
        ok(learndock("pack", w.model, "--name", f"{name}/{name}", *packing(w), *extra, "-o", w.folder / name))
        ok(learndock("add", w.folder / name, "--vouch", "--dock", w.dock))
    ok(learndock("spec", "task", w.data__csv, "--space", w.space, "-o", w.task__spec))
    ok(learndock("spec", "model", w.one, "--data", w.data__csv, "--space", w.space, "-o", w.model__spec))
    return w


def packing(w: World) -> list[str | Path]:
    return ["--data", w.data__csv, "--schema", w.schema__json, "--space", w.space, "--ignore", "notes.txt"]


def ok(ended: Ended) -> Ended:
    assert ended.code == 0, ended.err
    return ended


Arguments = Callable[[World, Path], list[Any]]
#: How each command is called when it does its plain work; ``out`` is fresh each time.
BASE: dict[str, Arguments] = {
    "demo": lambda w, out: ["-o", out],
    "identify": lambda w, out: ["--spec", w.task__spec, "--dock", w.dock],
    "route": lambda w, out: ["--spec", w.task__spec, "--dock", w.dock],
    "evaluate": lambda w, out: [w.one, w.data__csv],
    "predict": lambda w, out: [w.one, w.data__csv],
    "finetune": lambda w, out: [w.one, w.data__csv, "--name", "me/m", "-o", out, "--space", w.space],
    "get": lambda w, out: ["one/one", "-o", out, "--dock", w.dock],
    "list": lambda w, out: ["--dock", w.dock],
    "search": lambda w, out: ["negative", "--dock", w.dock],
    "show": lambda w, out: ["one/one", "--dock", w.dock],
    "generate": lambda w, out: ["one/one", "hello", "--dock", w.dock],
    "merge": lambda w, out: ["one/one", "two/two", "-o", out, "--dock", w.dock],
    "pack": lambda w, out: [w.model, "--name", "ann/m", *packing(w), "-o", out],
    "import mlflow": lambda w, out: [w.mlflow, "--name", "ann/m", *packing(w), "-o", out],
    "import hub": lambda w, out: [w.model, "--name", "ann/m", *packing(w), "-o", out],
    "add": lambda w, out: [w.one, "--dock", out],
    "versions": lambda w, out: ["one/one", "--dock", w.dock],
    "tag": lambda w, out: ["one/one", "stable", "--dock", w.dock],
    "untag": lambda w, out: ["one/one", "stable", "--dock", w.dock],
    "edit": lambda w, out: ["one/one", "--tag", "x", "--dock", w.dock],
    "deprecate": lambda w, out: ["one/one", "--dock", w.dock],
    "move": lambda w, out: ["one/one", "one/other", "--dock", w.dock],
    "remove": lambda w, out: ["one/one", "--dock", w.dock],
    "visibility": lambda w, out: ["one/one"],
    "login": lambda w, out: ["http://127.0.0.1:1"],
    "logout": lambda w, out: ["http://127.0.0.1:1"],
    "whoami": lambda w, out: [],
    "verify": lambda w, out: ["--dock", w.dock],
    "gc": lambda w, out: ["--dock", w.dock],
    "rebuild": lambda w, out: ["--dock", w.dock],
    "operator-link": lambda w, out: ["--dock", w.dock],
    "backup": lambda w, out: [out, "--dock", w.dock],
    "restore": lambda w, out: [w.dock, "--dock", out],
    "serve": lambda w, out: ["--dock", w.dock],
    "spec task": lambda w, out: [w.data__csv, "--space", w.space, "-o", out],
    "spec model": lambda w, out: [w.one, "--data", w.data__csv, "--space", w.space, "-o", out],
    "spec show": lambda w, out: [w.task__spec],
    "spec compare": lambda w, out: [w.task__spec, w.model__spec],
    "spaces": lambda w, out: [],
    "space build": lambda w, out: [w.encoder, "-o", out],
    "space install": lambda w, out: [w.space],
    "tour": lambda w, out: ["-o", out],
    "bench text": lambda w, out: ["--data", w.folder, "--out", out],
    "bench vision": lambda w, out: ["--data", w.folder, "--out", out],
    "bench llm": lambda w, out: ["--data", w.folder, "--out", out],
}


def run(w: World, command: str, out: Path, *more: Any, without: tuple[str, ...] = ()) -> Ended:
    """Run a command with its plain arguments, less the options ``without`` (with their values), and ``more``."""
    arguments = [str(a) for a in BASE[command](w, out)]
    for option in without:
        place = arguments.index(option)
        del arguments[place : place + 2]
    return learndock(*command.split(), *arguments, *map(str, more))


# --- how an option is seen ---------------------------------------------------------------------------------------


class Case:
    """How an option is seen."""

    def check(self, w: World, command: str, option: str, place: Path, patch: pytest.MonkeyPatch) -> None:
        """Fail unless the option acts or refuses."""
        raise NotImplementedError


class Acts(Case):
    """With it, what is printed or written, or the exit code, is another."""

    def __init__(self, *value: Any, base: tuple[Any, ...] = (), without: tuple[str, ...] = ()) -> None:
        self.value, self.base, self.without = value, base, without

    def check(self, w: World, command: str, option: str, place: Path, patch: pytest.MonkeyPatch) -> None:
        seen = []
        for name, more in (("a", self.base), ("b", (*self.base, option, *self.value))):
            out = place / name
            more = tuple(m(w, place) if callable(m) else m for m in more)
            ended = run(w, command, out, *more, without=self.without)
            assert ended.code in (0, 35), ended.err
            written = {str(f.relative_to(place / name)): sha256_file(f) for f in out.rglob("*") if f.is_file()}
            written |= {"": sha256_file(out)} if out.is_file() else {}
            seen.append((ended.code, ended.out.replace(str(out), "OUT"), written))
        assert seen[0] != seen[1], f"{command} {option} changes nothing"


class Refuses(Case):
    """A value that cannot be used is refused, and the reason has ``word``; ``typed`` is another spelling of it."""

    def __init__(
        self,
        *value: Any,
        code: int = 2,
        word: str = "",
        base: tuple[Any, ...] = (),
        without: tuple[str, ...] = (),
        typed: str = "",
    ) -> None:
        self.value, self.code, self.word, self.base, self.without = value, code, word, base, without
        self.typed = typed

    def check(self, w: World, command: str, option: str, place: Path, patch: pytest.MonkeyPatch) -> None:
        more = [m(w, place) if callable(m) else m for m in (*self.base, self.typed or option, *self.value)]
        ended = run(w, command, place / "out", *more, without=self.without)
        assert ended.code == self.code, ended.err
        assert self.word in ended.complaint


class Allows(Case):
    """Without it the command is refused; with it, it works."""

    def __init__(self, *value: Any, base: tuple[Any, ...] = ()) -> None:
        self.value, self.base = value, base

    def check(self, w: World, command: str, option: str, place: Path, patch: pytest.MonkeyPatch) -> None:
        assert run(w, command, place / "out", *self.base).code not in (0, 35, 70)
        ok(run(w, command, place / "out", *self.base, option, *self.value))


class _Recorded(Exception):
    """The library was called."""


class Arrives(Case):
    """The library function ``target`` is called with other arguments when the option is given."""

    def __init__(self, target: str, *value: Any, base: tuple[Any, ...] = ()) -> None:
        self.target, self.value, self.base = target, value, base

    def check(self, w: World, command: str, option: str, place: Path, patch: pytest.MonkeyPatch) -> None:
        calls: list[Any] = []

        def record(*arguments: Any, **named: Any) -> Any:
            calls.append((arguments, {k: v for k, v in named.items() if not callable(v)}))
            raise _Recorded

        module, _, name = self.target.rpartition(".")
        patch.setattr(importlib.import_module(module), name, record)
        for more in (self.base, (*self.base, option, *self.value)):
            more = tuple(m(w, place) if callable(m) else m for m in more)
            ended = run(w, command, place / "out", *more)
            assert ended.code == 70, ended.err  # the recorder's exception
        assert len(calls) == 2
        assert repr(calls[0]) != repr(calls[1]), f"{command} {option} does not arrive"


class Prints(Case):
    """The library's work takes minutes; ``--json`` prints what it returns as one document."""

    def __init__(self, target: str, returns: Callable[[World], Any]) -> None:
        self.target, self.returns = target, returns

    def check(self, w: World, command: str, option: str, place: Path, patch: pytest.MonkeyPatch) -> None:
        module, _, name = self.target.rpartition(".")
        patch.setattr(importlib.import_module(module), name, lambda *_, **__: self.returns(w))
        assert isinstance(run(w, command, place / "out", option).json, dict)


class Elsewhere(Case):
    """Another test types the option."""

    def __init__(self, test: str) -> None:
        self.test = test

    def check(self, w: World, command: str, option: str, place: Path, patch: pytest.MonkeyPatch) -> None:
        file, _, name = self.test.partition("::")
        source = (TESTS / file).read_text(encoding="utf-8")
        found = next(n for n in ast.walk(ast.parse(source)) if isinstance(n, ast.FunctionDef) and n.name == name)
        first = min([found.lineno, *(d.lineno for d in found.decorator_list)])
        typed = "\n".join(source.splitlines()[first - 1 : found.end_lineno])
        spellings = next(both for c, both in spelled() if c == command and option in both)
        assert any(f'"{o}"' in typed for o in spellings), f"{self.test} does not type {option}"
        assert f'"{command}"' in typed or f'"{command.split()[-1]}"' in typed, f"{self.test} does not type {command}"


# --- options that many commands have ---------------------------------------------------------------------------

BENCH = {"bench text": "bench_text", "bench vision": "bench_vision", "bench llm": "bench_llm"}
PEOPLE = "cli/test_service.py::test_people"
ACCOUNT = "cli/test_service.py::test_login_whoami_and_visibility"
GENERATE = "cli/test_generate.py::test_the_journey"
BUILD = "learndock.spaces.authoring.author.build_space"
CAUSAL = "learndock.spaces.authoring.author.build_causal_space"
SERVE = "learndock.http.run.serve"
NAMED = "cli/test_options.py::test_a_learnware_comes_from_the_named_dock"
LOST = "http/test_serve.py::test_an_operator_who_lost_the_token_is_let_in_again"
TUNED = "cli/test_models.py::test_finetune_shows_scores_before_and_after"
VERSIONS = "cli/test_versions.py::test_a_name_that_lives"
EDIT = "cli/test_versions.py::test_cards_and_deprecation"
IMPORTED = "cli/test_imports.py::test_an_import_is_packed_and_published"
ADD = "cli/test_service.py::test_add_many_private_and_vouch"

#: Column and file options: the same reader behind each command.
READING: dict[str, Case] = {
    "--text": Refuses("nosuch", code=3, word="nosuch"),
    "--text-pair": Refuses("nosuch", code=3, word="nosuch"),
    "--image": Refuses("nosuch", code=3, word="nosuch"),
    "--label": Refuses("nosuch", code=3, word="nosuch"),
    "--separator": Refuses(";", code=3, word=";"),
    "--quotes": Refuses(code=3, word="fields", typed="--no-quotes"),
    "--encoding": Refuses("utf-16", code=3, word="utf-16"),
    "--sheet": Refuses("First", code=2, word="sheet"),
}
READERS = (
    "identify",
    "evaluate",
    "predict",
    "finetune",
    "pack",
    "import mlflow",
    "import hub",
    "spec task",
    "spec model",
)

CASES: dict[str, dict[str, Case]] = {
    "demo": {"--out": Elsewhere("demo/test_demo.py::test_it_leaves_a_folder_that_is_there_alone"),
             "--json": Elsewhere("demo/test_demo.py::test_the_chosen_model_is_the_one_that_fits")},
    "identify": {
        "--data": Refuses("nosuch.csv", code=3, word="nosuch.csv", without=("--spec",)),
        "--spec": Refuses("nosuch.spec", code=14, word="nosuch.spec", without=("--spec",)),
        "--schema": Refuses("nosuch.json", code=2, word="--spec"),
        "--top": Acts("1"),
        "--try": Acts("1", base=("--data", lambda w, p: w.data__csv, "--space", lambda w, p: w.space),
                      without=("--spec",)),
        "--map": Refuses("a=b", code=2, word="--try"),
        "--details": Acts(),
        "--format": Acts("gguf"),
        "--task-type": Acts("regression"),
        "--license": Acts("GPL-3.0"),
        "--base": Acts("a/b"),
        "--owner": Acts("two"),
        "--space": Refuses("nosuch", code=2, word="--space"),
        "--recipe": Refuses("magic", code=2, word="--recipe"),
        "--seed": Elsewhere("cli/test_options.py::test_the_seed_of_identify"),
    },
    "route": {
        "--spec": Refuses("nosuch.spec", code=14, word="nosuch.spec", without=("--spec",)),
        "--format": Acts("gguf"),
        "--task-type": Acts("regression"),
        "--license": Acts("GPL-3.0"),
        "--base": Acts("a/b"),
        "--owner": Acts("two"),
        "--space": Refuses("nosuch", code=2, word="--space"),
    },
    "mcp": {
        "--folder": Elsewhere("cli/test_mcp.py::asked"),
        "--space": Elsewhere("cli/test_mcp.py::asked"),
        "--dock": Elsewhere("cli/test_mcp.py::asked"),
    },
    "evaluate": {"--schema": Refuses("nosuch.json", code=4, word="nosuch.json"),
                 "--map": Refuses("nosuch=x", code=2, word="nosuch"), "--dock": Elsewhere(NAMED)},
    "predict": {"--dock": Elsewhere(NAMED), "--out": Acts(lambda w, p: p / "answers.csv"),
                "--force": Elsewhere("cli/test_models.py::test_predictions_never_replace_a_file_unless_forced")},
    "finetune": {
        "--schema": Refuses("nosuch.json", code=4, word="nosuch.json"),
        **{o: Elsewhere(TUNED) for o in ("--out", "--name", "--description", "--hold-out", "--space", "--seed")},
        "--json": Elsewhere(TUNED),
        "--dock": Elsewhere(NAMED),
    },
    "get": {"--out": Acts(lambda w, p: p / "other", without=("-o",))},
    "list": {"--format": Acts("gguf"), "--task-type": Acts("regression"), "--license": Acts("MIT"),
             "--base": Acts("a/b"), "--owner": Acts("two"), "--text": Acts("second"), "--sort": Acts("name"),
             "--limit": Acts("1")},
    "search": {"--sort": Acts("added"), "--limit": Acts("1")},
    "generate": {o: Elsewhere(GENERATE) for o in ("--max-tokens", "--json")},
    "merge": {o: Elsewhere(GENERATE) for o in ("--out", "--spec", "--top", "--weight", "--json")},
    "pack": {
        "--name": Refuses("plain", code=20, word="owner/name"),
        "--data": Refuses("nosuch.csv", code=3, word="nosuch.csv"),
        "--out": Refuses(lambda w, p: w.data__csv, code=2, word="is a file"),
        "--schema": Refuses("nosuch.json", code=4, word="nosuch.json"),
        "--description": Acts("a sentence"), "--license": Acts("MIT"),
        "--base": Refuses("a/b", code=2, word="--base"),
        "--map": Refuses("nosuch=negative", code=2, word="nosuch"),
        "--expect": Refuses("nosuch.json", code=3, word="nosuch.json"),
        "--in-order": Allows(base=("--ignore", "config.json")),
        "--scores": Refuses("vibes", word="logits"),
        "--ignore": Acts("tokenizer_config.json"),
        "--space": Refuses("nosuch", code=10, word="nosuch"), "--recipe": Refuses("magic", code=2, word="magic"),
        "--full": Acts(), "--seed": Acts("7"),
    },
    "import mlflow": {
        "--name": Refuses("plain", code=20, word="owner/name"),
        "--data": Refuses("nosuch.csv", code=3, word="nosuch.csv"),
        "--out": Refuses(lambda w, p: w.data__csv, code=2, word="is a file"),
        "--schema": Refuses("nosuch.json", code=4, word="nosuch.json"),
        "--description": Acts("a sentence"), "--license": Acts("MIT"),
        "--base": Refuses("a/b", code=2, word="--base"),
        "--map": Refuses("nosuch=negative", code=2, word="nosuch"),
        "--expect": Refuses("nosuch.json", code=3, word="nosuch.json"),
        "--in-order": Refuses(word="--in-order", without=("--schema",)),
        "--scores": Refuses("logits", word="--scores"),
        "--ignore": Refuses("model.skops", code=20, word="no file"),
        "--space": Refuses("nosuch", code=10, word="nosuch"), "--recipe": Refuses("magic", code=2, word="magic"),
        "--full": Acts(), "--seed": Acts("7"),
        "--with": Refuses("nosuch.json", word="nosuch.json"), "--dock": Elsewhere(IMPORTED),
    },
    "import hub": {
        "--name": Refuses("plain", code=20, word="owner/name"),
        "--data": Refuses("nosuch.csv", code=3, word="nosuch.csv"),
        "--out": Refuses(lambda w, p: w.data__csv, code=2, word="is a file"),
        "--schema": Refuses("nosuch.json", code=4, word="nosuch.json"),
        "--description": Acts("a sentence"), "--license": Acts("MIT"),
        "--base": Refuses("a/b", code=2, word="--base"),
        "--map": Refuses("nosuch=negative", code=2, word="nosuch"),
        "--expect": Refuses("nosuch.json", code=3, word="nosuch.json"),
        "--in-order": Allows(base=("--ignore", "config.json")),
        "--scores": Refuses("vibes", word="logits"),
        "--ignore": Acts("tokenizer_config.json"),
        "--space": Refuses("nosuch", code=10, word="nosuch"), "--recipe": Refuses("magic", code=2, word="magic"),
        "--full": Acts(), "--seed": Acts("7"),
        "--revision": Refuses("v2", word="one revision"), "--dock": Elsewhere(IMPORTED),
    },
    "add": {"--dock": Elsewhere(ADD), "--from": Elsewhere(ADD), "--vouch": Elsewhere(ADD), "--private": Elsewhere(ADD),
            "--after": Elsewhere(VERSIONS), "--supersedes": Elsewhere(VERSIONS)},
    "versions": {"--dock": Elsewhere(VERSIONS), "--json": Elsewhere(VERSIONS)},
    "tag": {"--dock": Elsewhere(VERSIONS), "--json": Elsewhere(VERSIONS)},
    "untag": {"--dock": Elsewhere(VERSIONS), "--json": Elsewhere(VERSIONS)},
    "edit": {f"--{o}": Elsewhere(EDIT) for o in ("card", "license", "description", "tag", "untag", "dock", "json")},
    "move": {option: Elsewhere(EDIT) for option in ("--dock", "--json")},
    "deprecate": {option: Elsewhere(EDIT) for option in ("--use", "--because", "--undo", "--dock", "--json")},
    "visibility": {"--private": Elsewhere(ACCOUNT), "--dock": Elsewhere(ACCOUNT), "--json": Elsewhere(ACCOUNT)},
    "login": {o: Elsewhere(ACCOUNT) for o in ("--link", "--token", "--scope", "--days", "--json")},
    "whoami": {"--dock": Elsewhere(ACCOUNT)},
    "token list": {"--dock": Elsewhere(PEOPLE), "--json": Elsewhere(PEOPLE)},
    "token make": {o: Elsewhere(PEOPLE) for o in ("--scope", "--days", "--dock", "--json")},
    "token revoke": {o: Elsewhere(PEOPLE) for o in ("--dock", "--json")},
    "user list": {o: Elsewhere(PEOPLE) for o in ("--dock", "--json")},
    "user add": {o: Elsewhere(PEOPLE) for o in ("--operator", "--dock", "--json")},
    "user invite": {o: Elsewhere(PEOPLE) for o in ("--dock", "--json")},
    "user remove": {o: Elsewhere(PEOPLE) for o in ("--dock", "--json")},
    "user quota": {o: Elsewhere(PEOPLE) for o in ("--dock", "--json")},
    "organisation make": {o: Elsewhere(PEOPLE) for o in ("--dock", "--json")},
    "organisation members": {o: Elsewhere(PEOPLE) for o in ("--dock", "--json")},
    "organisation member": {o: Elsewhere(PEOPLE) for o in ("--role", "--dock", "--json")},
    "remove": {"--json": Elsewhere("cli/test_cli.py::test_an_empty_dock_says_so")},
    "backup": {"--config": Refuses("nosuch.toml", word="nosuch.toml"),
               "--dock": Refuses("http://127.0.0.1:1", word="back up")},
    "restore": {"--config": Refuses("nosuch.toml", word="nosuch.toml"),
                "--dock": Refuses("http://127.0.0.1:1", word="restore")},
    "operator-link": {"--config": Refuses("nosuch.toml", word="nosuch.toml"),
                      "--dock": Elsewhere(LOST),
                      "--json": Prints("learndock.http.run.operator_link", lambda _: "learndock login URL")},
    "serve": {"--dock": Refuses("http://127.0.0.1:1", word="serve"),
              "--config": Refuses("nosuch.toml", word="nosuch.toml"),
              **{settings.flag(n): Arrives(SERVE, "1") for n in settings.FIELDS}},
    "spec task": {"--out": Refuses(lambda w, p: w.folder, word="is a folder"),
                  "--schema": Refuses("nosuch.json", code=4, word="nosuch.json"),
                  "--space": Refuses("nosuch", code=10, word="nosuch"),
                  "--recipe": Refuses("magic", word="magic"), "--full": Acts(), "--seed": Acts("7")},
    "spec model": {"--data": Refuses("nosuch.csv", code=3, word="nosuch.csv"),
                   "--out": Refuses(lambda w, p: w.folder, word="is a folder"),
                   "--space": Refuses("nosuch", code=10, word="nosuch"),
                   "--recipe": Refuses("magic", word="magic"), "--full": Acts(), "--seed": Acts("7"),
                   "--dock": Elsewhere(NAMED)},
    "space build": {
        "--out": Arrives(BUILD, lambda w, p: p / "there"), "--input": Refuses("speech", word="speech"),
        "--name": Arrives(BUILD, "mine"), "--rank": Arrives(BUILD, "4"), "--pooling": Arrives(BUILD, "cls"),
        "--template": Refuses("no place", word="template"), "--max-tokens": Arrives(BUILD, "32"),
        "--prompt-format": Arrives(CAUSAL, "plain", base=("--input", "generation")),
        "--adapted": Arrives(CAUSAL, "0.25", base=("--input", "generation")),
        "--seed": Arrives(BUILD, "7"), "--license": Arrives(BUILD, "MIT"),
        "--json": Prints(BUILD, lambda w: get_space(w.space)),
    },
    "tour": {"--out": Arrives("learndock.tour.journey.take_tour", lambda w, p: p / "there"),
             "--json": Arrives("learndock.tour.journey.take_tour")},
    **{c: {"--data": Arrives(f"learndock.bench.run.{f}", "elsewhere"),
           "--out": Arrives(f"learndock.bench.run.{f}", "elsewhere"),
           "--quick": Arrives(f"learndock.bench.run.{f}"), "--seeds": Arrives(f"learndock.bench.run.{f}", "17"),
           "--only": Arrives(f"learndock.bench.run.{f}", "graded"), "--space": Arrives(f"learndock.bench.run.{f}", "x"),
           **({} if c == "bench llm" else {"--short": Arrives(f"learndock.bench.run.{f}")}),
           "--json": Prints(f"learndock.bench.run.{f}", lambda _: {"experiments": {}})} for c, f in BENCH.items()},
}  # fmt: skip


def for_data(case: Case) -> Case:
    """The same for ``identify``, which reads DATA where no spec is given."""
    assert isinstance(case, Refuses)
    base = (lambda w, _: w.data__csv, "--space", lambda w, _: w.space)
    return Refuses(*case.value, code=case.code, word=case.word, base=base, without=("--spec",), typed=case.typed)


def case_of(command: str, option: str) -> Case | None:
    """The line for an option: the command's own, or the one that it shares with others."""
    if found := CASES.get(command, {}).get(option):
        return found
    if command in READERS and option in READING:
        return for_data(READING[option]) if command == "identify" else READING[option]
    if option == "--json":
        return Acts()
    if option == "--dock":
        return Refuses("nosuch-dock", code=31, word="nosuch-dock")
    return None


def test_every_option_has_its_line_and_no_line_is_left_over() -> None:
    every = set(options())
    assert not [f"{c} {o}" for c, o in every if case_of(c, o) is None]
    assert not {(c, o) for c, lines in CASES.items() for o in lines} - every


@pytest.mark.parametrize(("command", "option"), list(options()), ids=str)
def test_each_option_acts_or_refuses(
    command: str, option: str, world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if command.startswith("bench"):
        pytest.importorskip("statsmodels", reason="the bench's extra")
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("LEARNDOCK_DEBUG", raising=False)
    monkeypatch.delenv("LEARNDOCK_DOCK", raising=False)
    case = case_of(command, option)
    assert case is not None
    case.check(world, command, option, tmp_path, monkeypatch)


def test_the_seed_of_identify(world: World) -> None:
    given = ("identify", world.data__csv, "--space", world.space, "--dock", world.dock, "--json")
    one, same, other = (learndock(*given, *more).json for more in ((), ("--seed", "0"), ("--seed", "7")))
    assert one == same
    assert one != other


@pytest.mark.parametrize("command", ["evaluate", "predict", "finetune", "spec model"])
def test_a_learnware_comes_from_the_named_dock(command: str, world: World, tmp_path: Path) -> None:
    base = BASE[command](world, tmp_path / "x")
    refused = learndock(*command.split(), "one/one", *base[1:], "--dock", tmp_path / "nosuch")
    assert (refused.code, "nosuch" in refused.complaint) == (31, True)
    made = [tmp_path / "a.spec", tmp_path / "b.spec"]
    given = ("--data", world.data__csv, "--space", world.space)
    ok(learndock("spec", "model", world.one, *given, "-o", made[0]))
    ok(learndock("spec", "model", "one/one", *given, "-o", made[1], "--dock", world.dock))
    assert sha256_file(made[0]) == sha256_file(made[1])


# --- settings ------------------------------------------------------------------------------------------------

#: A value that is not the default and may be used, and one that may not.
SETTINGS: dict[str, tuple[str, str | None]] = {
    "host": ("0.0.0.0", None), "port": ("8000", "99999"), "public_url": ("http://x", "foo"),
    "trusted_proxies": ("10.0.0.0/8, ::1", "proxy"), "cors": ("https://a.example", "a.example"),
    "database": ("postgresql://a@b/c", "mysql://x"), "objects": ("s3://a/b", "http://a/b"),
    "objects_endpoint": ("http://x", "x"), "objects_key": ("k", None), "objects_secret": ("s", None),
    "max_file": ("1GB", "0"), "max_request": ("1MB", "many"),
    "body_memory": ("8MB", "1kB"), "max_files": ("10", "1001"), "quota": ("5MB", "-1"),
    "rate": ("1.5", "nan"), "burst": ("10", "0"), "concurrent_requests": ("0", "-1"), "concurrent_uploads": ("1", "0"),
    "min_upload_rate": ("1kB", "fast"), "request_seconds": ("5", "0"), "token_days": ("1", "0"),
    "upload_hours": ("1", "0"), "gc_hours": ("0", "inf"), "scrub_hours": ("0", "-1"), "stop_seconds": ("1", "-1"),
    "route_space": ("minilm-l6", None), "log": ("debug", "loud"),
}  # fmt: skip


def test_every_setting_has_its_line() -> None:
    assert list(SETTINGS) == list(settings.FIELDS)


@pytest.mark.parametrize("name", SETTINGS)
def test_each_setting_is_read_from_everywhere_and_refuses_what_cannot_be(name: str, tmp_path: Path) -> None:
    good, bad = SETTINGS[name]
    file, environment = tmp_path / "learndock.toml", {settings.variable(name): good}
    file.write_text(f"{name} = {json.dumps(good)}\n")
    loaded = [
        settings.load({name: good}, environment={}),
        settings.load(environment=environment),
        settings.load(file=file, environment={}),
    ]
    assert len({getattr(s, name) for s in loaded}) == 1
    assert getattr(loaded[0], name) != getattr(settings.Settings(), name)
    if bad is not None:
        with pytest.raises(UsageError, match=settings.flag(name)):
            settings.load({name: bad}, environment={})


@pytest.mark.parametrize(
    ("name", "bad", "says"),
    [("public_url", value, "must name a host, as in https://dock.example")
     for value in ("http://", "https://x:port", "http://x:70000", "http://a/b?q", "http://a b", "https://u@x")]
    + [("public_url", "foo", "must begin with http:// or https://"), ("objects", "s3://", "must name a bucket"),
       ("objects_endpoint", "http:///x", "must name a host"), ("quota", "10XB", "a size such as 50GB"),
       ("quota", "-1GB", "a size such as 50GB"), ("port", "70000", "0 to 65,535"), ("port", "80.5", "whole number"),
       ("database", "mysql://u:geheim@h/d", "must begin with postgresql://")],
)  # fmt: skip
def test_a_wrong_setting_says_what_it_must_be(name: str, bad: str, says: str) -> None:
    with pytest.raises(UsageError, match=settings.flag(name)) as told:
        settings.load({name: bad}, environment={})
    assert says in str(told.value)
    assert "geheim" not in str(told.value)


def test_sizes_are_read_as_people_write_them() -> None:
    wanted = {"10GB": 10**10, "10 gb": 10**10, "10G": 10**10, "1.5k": 1500, "2GiB": 2 << 30, "7": 7, "0": 0, "3B": 3}
    assert {text: settings.size(text, where="x") for text in wanted} == wanted


@pytest.mark.parametrize("name", SETTINGS)
def test_each_setting_is_used_by_the_service(name: str) -> None:
    """Somewhere in the service or its HTTP face the setting is read from ``settings``."""
    places = [p for room in ("service", "http") for p in (SOURCE / room).rglob("*.py")]
    read = {
        node.attr
        for path in places
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.Attribute) and ast.unparse(node.value).endswith("settings")
    }
    assert name in read
