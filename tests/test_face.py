"""The public face: complete, small, keyword-only where it counts, and readable in a notebook."""

from __future__ import annotations

import ast
import inspect
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from types import FunctionType
from typing import Any

import numpy as np
import pytest

import learndock
from learndock import Evaluation, Examples, Identification, Match, Schema, Trial, errors

SCHEMA = Schema("classification", ("neg", "<pos>"), ("bad", "good"), "accuracy")
#: Parameters that are the object of the verb, and not an option, by the function that takes them.
POSITIONAL = {
    "read_examples": ["path", "options"],
    "make_spec": ["examples", "schema"],
    "make_domain": ["inputs"],
    "similarity": ["one", "other"],
    "write_spec": ["spec", "path"],
    "read_spec": ["path"],
    "open_dock": ["path"],
    "identify": ["dock", "spec"],
    "route": ["dock", "asked"],
    "open_learnware": ["folder"],
    "pack": ["model_dir", "out"],
    "predict": ["learnware", "inputs"],
    "write_predictions": ["path", "learnware", "inputs", "predictions"],
    "evaluate": ["learnware", "examples", "schema"],
    "try_matches": ["dock", "matches", "examples", "schema"],
    "finetune": ["learnware", "examples", "out"],
    "generate": ["model", "prompt"],
    "load_generative_model": ["learnware"],
    "load_generative_models": ["learnwares"],
    "merge_adapters": ["learnwares", "out"],
    "get_space": ["name"],
    "list_spaces": [],
}


def functions() -> dict[str, FunctionType]:
    return {n: f for n in learndock.__all__ if inspect.isfunction(f := getattr(learndock, n))}


def classes() -> dict[str, type]:
    return {n: c for n in learndock.__all__ if inspect.isclass(c := getattr(learndock, n))}


def members(kind: type) -> Iterator[tuple[str, Any]]:
    """Public methods and properties that a class of ours defines, as functions."""
    for name, value in vars(kind).items():
        if name.startswith("_"):
            continue
        value = getattr(value, "func", getattr(value, "fget", getattr(value, "__func__", value)))
        if inspect.isfunction(value):
            yield f"{kind.__name__}.{name}", value


def public() -> dict[str, FunctionType]:
    found = dict(functions())
    for kind in classes().values():
        if not issubclass(kind, Exception):
            found.update(members(kind))
    return found


def known_names(module: str) -> dict[str, str]:
    """Name -> where it comes from, for all that a module imports from learndock or defines."""
    tree = ast.parse(Path(str(sys.modules[module].__file__)).read_text(encoding="utf-8"))
    found = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and str(node.module).startswith("learndock"):
            found.update({alias.asname or alias.name: f"{node.module}.{alias.name}" for alias in node.names})
        elif isinstance(node, ast.ClassDef):
            found[node.name] = f"{module}.{node.name}"
    return found


def named_types(function: FunctionType) -> set[str]:
    """Classes of learndock that a signature names."""
    known = known_names(function.__module__)
    found = set()
    for text in map(str, function.__annotations__.values()):
        for name in set(re.findall(r"[A-Za-z_]\w*", text)) & set(known):
            module, _, attribute = known[name].rpartition(".")
            value = getattr(__import__(module, fromlist=[attribute]), attribute)
            if inspect.isclass(value) and value.__module__.startswith("learndock"):
                found.add(name)
    return found


def named_errors(function: FunctionType) -> set[str]:
    """Capitalised words at the head of the entries of a ``Raises:`` section."""
    document = inspect.getdoc(function) or ""
    _, _, section = document.partition("Raises:\n")
    lines = [line for line in section.split("\n\n")[0].splitlines() if re.match(r"    \S", line)]
    return {word for line in lines for word in re.findall(r"[A-Z]\w+", line.split(":")[0])}


# --- complete --------------------------------------------------------------------------------------------------


def test_every_type_that_a_public_signature_names_is_public() -> None:
    private_on_purpose = {"Home", "ReadKeywords"}
    missing = {
        f"{where}: {name}"
        for where, function in public().items()
        for name in named_types(function)
        if name not in learndock.__all__ and name not in private_on_purpose
    }
    assert not missing


def test_every_error_that_a_public_function_says_it_raises_is_public() -> None:
    missing = {
        f"{where}: {name}"
        for where, function in public().items()
        for name in named_errors(function)
        if name not in learndock.__all__
    }
    assert not missing


def test_all_errors_are_public() -> None:
    assert {kind.__name__ for kind in errors.STATUS} <= set(learndock.__all__)


def test_dir_shows_the_face_only() -> None:
    assert dir(learndock) == learndock.__all__


def test_every_public_name_is_explained() -> None:
    silent = [name for name in (*functions(), *classes()) if not inspect.getdoc(getattr(learndock, name))]
    silent += [name for name, function in public().items() if not inspect.getdoc(function)]
    assert not silent


# --- keyword-only ----------------------------------------------------------------------------------------------


def test_options_are_keyword_only() -> None:
    by_place = {
        name: [p.name for p in inspect.signature(f).parameters.values() if p.kind is p.POSITIONAL_OR_KEYWORD]
        for name, f in functions().items()
    }
    assert by_place == POSITIONAL


@pytest.mark.parametrize("name", ["make_spec", "evaluate", "try_matches", "pack", "finetune"])
def test_the_schema_may_be_the_examples_own(name: str) -> None:
    assert inspect.signature(functions()[name]).parameters["schema"].default is None


# --- readable --------------------------------------------------------------------------------------------------

MATCH = Match("a/b@" + "0" * 64, "a/b", 0.713, 0.76, 0.118, 0.9, None, (0.7, 0.72), 0.008, 0.713)
SHOWN = {
    "<Schema: classification of neg, <pos>; accuracy>": SCHEMA,
    "<Schema: regression; pearson>": Schema("regression", (), (), "pearson"),
    "<Examples: 3 texts, neg 1, <pos> 2>": Examples(["x", "y", "z"], np.array([0, 1, 1]), SCHEMA),
    "<Examples: 1 text, no labels, from a.csv>": Examples(["x"], source="a.csv"),
    "<Examples: 0 texts, no labels>": Examples([]),
    "<Match a/b@v1: score 0.71 [0.70, 0.72], domain +0.76, behaviour +0.12>": MATCH,
    "<Identification: nothing fits among 12 learnwares>": Identification(False, (MATCH,), 0.4, 12),
    "<Trial a/b: 0.875 on 16 examples>": Trial(MATCH, 0.875, 16),
    "<Trial a/b: not tried (labels differ)>": Trial(MATCH, None, 16, "labels differ"),
    "<Evaluation: pearson 0.500 on 9 examples>": Evaluation(0.5, "pearson", 9),
    "<Evaluation: accuracy 0.500 on 4 examples; recall neg 0.50, <pos> ->": Evaluation(
        0.5, "accuracy", 4, SCHEMA.labels, {"neg": 4, "<pos>": 0}, {"neg": 0.5, "<pos>": None},
        np.array([[2, 2], [0, 0]]),
    ),
}  # fmt: skip


@pytest.mark.parametrize("text", SHOWN)
def test_a_notebook_shows_what_a_thing_is(text: str) -> None:
    thing = SHOWN[text]
    assert repr(thing) == text
    page = thing._repr_html_()  # type: ignore[attr-defined]
    assert page.startswith("<table>")
    assert page.endswith("</table>")
    assert "<pos>" not in page  # names come from other people, so they are escaped


def test_the_matches_of_an_answer_are_a_table() -> None:
    page = Identification(True, (MATCH, MATCH), 0.002, 12)._repr_html_()
    assert page.count("<tr>") == 3
    assert "a/b" in page
    assert "0.70 to 0.72" in page
    assert "p = 0.002" in page
