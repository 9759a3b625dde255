"""The examples in the docstrings of the public face, run as they are written.

They share one folder, in which they find what an owner and a user would have: few.csv, model/, learnware/, my-dock/.
"""

from __future__ import annotations

import doctest
import inspect
import pathlib
import shutil
from pathlib import Path

import numpy as np
import pytest

import learndock
from learndock.spaces import get_space

PRAISE = ("a fine film", "a great film", "a good day at the cinema", "great actors and a good story")
BLAME = ("a bad film", "an awful film", "what a waste of time", "poor actors and a weak story")
EXTRA = ("really", "in all", "to be fair", "all the same")


def write_few(path: Path) -> None:
    """Sixteen labelled texts: eight of praise, eight of blame."""
    pairs = list(zip(PRAISE, BLAME, strict=True))
    pairs += [(f"{p}, {e}", f"{b}, {e}") for (p, b), e in zip(pairs, EXTRA, strict=True)]
    rows = "".join(f'"{good}",positive\n"{bad}",negative\n' for good, bad in pairs)
    path.write_text("text,label\n" + rows)


def write_model(folder: Path, examples: learndock.Examples) -> None:
    """A pipeline of scikit-learn, trained on the examples, as skops saves it."""
    feature_extraction = pytest.importorskip("sklearn.feature_extraction.text")
    linear_model = pytest.importorskip("sklearn.linear_model")
    pipeline = pytest.importorskip("sklearn.pipeline")
    skops = pytest.importorskip("skops.io")
    assert examples.schema is not None
    names = [examples.schema.labels[i] for i in np.asarray(examples.targets)]
    model = pipeline.make_pipeline(feature_extraction.TfidfVectorizer(), linear_model.LogisticRegression(C=100.0))
    folder.mkdir()
    skops.dump(model.fit(list(examples.inputs), names), folder / "model.skops")


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder that the examples find, made with the functions that they show."""
    if not get_space("minilm-l6").present():
        pytest.skip("the weights of minilm-l6 are not installed")
    folder = tmp_path_factory.mktemp("docstrings")
    write_few(folder / "few.csv")
    examples = learndock.read_examples(folder / "few.csv")
    write_model(folder / "model", examples)
    learndock.pack(folder / "model", folder / "learnware", name="me/reviews", schema=examples.schema, examples=examples)
    learndock.open_dock(folder / "my-dock").add(folder / "learnware")
    return folder


def documented() -> list[str]:
    """Public functions and classes whose docstring has an example."""
    return [name for name in learndock.__all__ if ">>>" in (inspect.getdoc(getattr(learndock, name)) or "")]


@pytest.mark.parametrize("name", documented())
def test_the_example_does_what_it_says(
    name: str, prepared: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(shutil.copytree(prepared, tmp_path / "here"))
    names = {"learndock": learndock, "np": np, "pathlib": pathlib, "DataError": learndock.DataError}
    # Only the public name's own docstring: the methods of a class are looked for under its name
    tests = doctest.DocTestFinder(recurse=False).find(getattr(learndock, name), name, globs=names)
    runner = doctest.DocTestRunner(optionflags=doctest.NORMALIZE_WHITESPACE | doctest.ELLIPSIS)
    said: list[str] = []
    for test in tests:
        runner.run(test, out=said.append)
    assert not runner.failures, "".join(said)


def test_every_public_function_has_an_example() -> None:
    without = {n for n in learndock.__all__ if inspect.isfunction(getattr(learndock, n))} - set(documented())
    assert not without
