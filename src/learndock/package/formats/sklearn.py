"""Format ``sklearn``: a scikit-learn pipeline, saved with skops as ``model.skops``.

The pipeline takes a list of texts. A pair of texts reaches it as one text, the two joined by a line break. Where a file
``features.json`` is beside it, it takes what that says instead: numbers made of texts or images (see ``_features``).
"""

from __future__ import annotations

import shutil
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from learndock.data.examples import Examples, Input
from learndock.data.images import Image
from learndock.data.labels import label_name
from learndock.data.schema import Schema
from learndock.errors import ModelError, UnsafeModel
from learndock.files import atomic_write
from learndock.package.columns import columns_in
from learndock.package.extras import need
from learndock.package.formats import Model, Progress
from learndock.package.formats._features import FILE as FEATURES_FILE
from learndock.package.formats._features import Features, load_features, read_features, settle_features
from learndock.package.formats._outputs import Floats, check_count, checked, softmax
from learndock.package.formats._tokens import check_texts
from learndock.package.skops_file import TRUSTED, check_skops, check_source

FILE = "model.skops"
BATCH = 1_024
_WHY = "a scikit-learn model"
#: What scikit-learn's own code raises over a model that does not fit its input or its version.
_FAILURES = (ValueError, TypeError, AttributeError, KeyError, IndexError, NotImplementedError)


class SklearnFormat:
    """scikit-learn text pipelines, without pickles."""

    name = "sklearn"
    looks_for = f"{FILE}, saved with skops.io.dump"

    def recognises(self, folder: Path) -> bool:
        """See ``Format``."""
        return (folder / FILE).is_file()

    def check(self, folder: Path, schema: Schema) -> dict[str, Any]:
        """See ``Format``."""
        if not (folder / FILE).is_file():
            raise ModelError(f"missing in {folder}", remedy="save the pipeline with skops.io.dump", about=FILE)
        check_skops(folder / FILE)
        return read_features(folder)

    def settle(self, folder: Path, schema: Schema, settings: dict[str, Any], inputs: Sequence[Input]) -> dict[str, Any]:
        """See ``Settles``: the space whose features the model takes is pinned by its hash."""
        return settle_features(settings)

    def load(self, folder: Path, schema: Schema, settings: dict[str, Any]) -> Model:
        """See ``Format``."""
        pipeline = _read(folder)
        features = load_features({**read_features(folder), **settings})
        names = _names(pipeline)
        if schema.type == "regression":
            if names:
                raise ModelError("a classifier, but the schema says regression", about=FILE)
            return SklearnModel(pipeline, schema, (), features)
        if not names:
            raise ModelError("has no classes_", remedy="it is a regressor, or it was not fitted", about=FILE)
        check_count(len(names), schema, where=FILE)
        return SklearnModel(pipeline, schema, columns_in(settings, names, schema, where=FILE), features)

    def label_names(self, folder: Path, schema: Schema, settings: dict[str, Any]) -> list[str]:
        """See ``Named``: the estimator's ``classes_``."""
        names = _names(_read(folder))
        if names:
            check_count(len(names), schema, where=FILE)
            return names
        raise ModelError("has no classes_", remedy="it is a regressor, or it was not fitted", about=FILE)

    def finetune(
        self,
        folder: Path,
        schema: Schema,
        settings: dict[str, Any],
        examples: Examples,
        target: Schema,
        out: Path,
        *,
        seed: int = 0,
        progress: Progress | None = None,
    ) -> None:
        """See ``Format``. The fitted feature steps stay, only the last estimator is fitted again."""
        self.check(folder, schema)
        pipeline = _read(folder)
        features = load_features({**read_features(folder), **settings})
        if len(getattr(pipeline, "steps", ())) < (1 if features else 2):
            raise ModelError("only pipelines of feature steps and an estimator can be tuned", about=FILE)
        if examples.targets is None or not len(examples):
            raise ModelError("tuning needs examples with labels", about=examples.source)
        last = _estimator(pipeline.steps[-1][1], schema, target, seed)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            try:
                X = _prepared(examples.inputs, features)
                before = pipeline[:-1] if len(pipeline.steps) > 1 else None
                last.fit(before.transform(X) if before is not None else X, _targets(examples, target))
            except _FAILURES as error:
                raise ModelError(
                    f"the last step ({type(last).__name__}) could not be fitted to the "
                    f"{len(examples)} examples: {error}",
                    about=FILE,
                ) from None
        pipeline.steps[-1] = (pipeline.steps[-1][0], last)
        out.mkdir(parents=True, exist_ok=True)
        with atomic_write(out / FILE) as stream:
            need("skops.io", extra="sklearn", why=_WHY).dump(pipeline, stream)
        if (folder / FEATURES_FILE).is_file():
            shutil.copyfile(folder / FEATURES_FILE, out / FEATURES_FILE)
        if progress is not None:
            progress(1, 1)


@dataclass(frozen=True)
class SklearnModel:
    """A loaded pipeline (``Model``); ``columns`` are its classes in the order of the schema.

    ``features`` makes what it takes of inputs; None for texts themselves.
    """

    pipeline: Any
    schema: Schema
    columns: Sequence[int]
    features: Features | None = None

    def predict(self, inputs: Sequence[Input], *, progress: Progress | None = None) -> Floats:
        """See ``Model``."""
        width = () if self.schema.type == "regression" else (self.schema.classes,)
        found = np.zeros((len(inputs), *width))
        for start in range(0, len(inputs), BATCH):
            part = inputs[start : start + BATCH]
            found[start : start + len(part)] = self._predict(_prepared(part, self.features))
            if progress is not None:
                progress(start + len(part), len(inputs))
        return checked(found, self.schema, len(inputs))

    def _predict(self, texts: Any) -> NDArray[Any]:
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                if self.schema.type == "regression":
                    return np.asarray(self.pipeline.predict(texts), dtype=np.float64).reshape(len(texts))
                _check_single(self.pipeline, texts[:1])
                return np.asarray(_class_probabilities(self.pipeline, texts)[:, list(self.columns)])
        except _FAILURES as error:
            raise ModelError(
                f"the pipeline does not run ({error})",
                remedy=f"it must take texts, or what {FEATURES_FILE} says, and "
                "have been made with a scikit-learn near the one installed here",
                about=FILE,
            ) from None


def _names(pipeline: Any) -> list[str]:
    """Return ``classes_`` as texts; integral floats without their ``.0``."""
    return [label_name(c.item() if isinstance(c, np.generic) else c) for c in getattr(pipeline, "classes_", ())]


def _check_single(pipeline: Any, first: Any) -> None:
    """Refuse classifiers that give an input several labels: their scores are not shares of one.

    Raises:
        ModelError: what is predicted of the one input in ``first`` is not one label.
    """
    if np.asarray(pipeline.predict(first)).ndim != 1:
        raise ModelError(
            "gives an input several labels, which is not supported",
            remedy="fit it on one label for each example, or pack a model with yes and no for each label",
            about=FILE,
        )


def _class_probabilities(pipeline: Any, texts: Any) -> NDArray[Any]:
    """``(n, classes)`` in the order of ``classes_``: the best that the estimator offers."""
    if hasattr(pipeline, "predict_proba"):
        return np.asarray(pipeline.predict_proba(texts), dtype=np.float64)
    if hasattr(pipeline, "decision_function"):
        scores = np.asarray(pipeline.decision_function(texts), dtype=np.float64)
        # Of two classes only the second one's score is given; softmax over (0, s) is the sigmoid of s.
        return softmax(np.stack([np.zeros_like(scores), scores], axis=1) if scores.ndim == 1 else scores)
    found = np.asarray(pipeline.predict(texts))
    return np.asarray(found[:, None] == np.asarray(pipeline.classes_)[None, :], dtype=np.float64)


def _prepared(inputs: Sequence[Input], features: Features | None) -> Any:
    """What a pipeline takes in place of ``inputs``."""
    if features is None and len(inputs) and isinstance(inputs[0], Image):
        raise ModelError(
            "scikit-learn reads no images",
            remedy=f'say in {FEATURES_FILE} what it is given instead, as in {{"space": "efficientnet-lite0"}}',
            about=FILE,
        )
    return _texts(inputs) if features is None else features(inputs)


def _texts(inputs: Sequence[Input]) -> list[str]:
    check_texts(inputs)
    return [value if isinstance(value, str) else "\n".join(value) for value in inputs]


def _targets(examples: Examples, target: Schema) -> NDArray[Any]:
    if target.type == "regression":
        return np.asarray(examples.targets, dtype=np.float64)
    return np.asarray(target.labels)[np.asarray(examples.targets, dtype=np.int64)]


def _estimator(last: Any, schema: Schema, target: Schema, seed: int) -> Any:
    """An unfitted estimator like the last step, or a linear one where the type of the task changes."""
    base = need("sklearn.base", extra="sklearn", why=_WHY)
    linear = need("sklearn.linear_model", extra="sklearn", why=_WHY)
    if schema.type == target.type:
        fresh = base.clone(last)
    elif target.type == "regression":
        fresh = linear.Ridge()
    else:
        fresh = linear.LogisticRegression(max_iter=1_000)
    if "random_state" in fresh.get_params(deep=False):
        fresh.set_params(random_state=seed)
    return fresh


# --- loading -----------------------------------------------------------------------------------------------


def _read(folder: Path) -> Any:
    """Build the pipeline, after our own review of the file and then skops' one."""
    try:
        source = (folder / FILE).read_bytes()
    except OSError as error:
        raise ModelError(f"cannot be read ({error.strerror})", about=FILE) from None
    check_source(source, where=FILE)
    skops = need("skops.io", extra="sklearn", why=_WHY)
    need("sklearn", extra="sklearn", why=_WHY)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            unknown = sorted(set(skops.get_untrusted_types(data=source)) - set(TRUSTED))
            if unknown:
                raise UnsafeModel(f"skops does not trust these types: {', '.join(unknown[:5])}", about=FILE)
            pipeline = skops.loads(source, trusted=sorted(TRUSTED))
    except (*_FAILURES, ImportError, RecursionError, OSError) as error:
        raise ModelError(
            f"skops cannot build it ({error})", remedy="was it saved with another version of scikit-learn?", about=FILE
        ) from None
    if not hasattr(pipeline, "predict"):
        raise ModelError(
            f"a {type(pipeline).__name__}, which does not predict",
            remedy="save the pipeline with its last step",
            about=FILE,
        )
    _check_parts(pipeline)
    return pipeline


def _check_parts(pipeline: Any) -> None:
    """What a type list cannot see: settings that reach outside, and indices without bounds checks."""
    for part in _parts(pipeline):
        kind = type(part).__name__
        if getattr(part, "n_jobs", None) is not None:
            part.n_jobs = None  # a model does not decide how many processes start on the user's machine
        if getattr(part, "memory", None) is not None:
            raise UnsafeModel(
                f"{kind} has a cache folder (memory), which holds pickles", remedy="set memory=None", about=FILE
            )
        if getattr(part, "input", "content") != "content":
            raise UnsafeModel(
                f"{kind} reads files by name (input={part.input!r})", remedy="use input='content'", about=FILE
            )
        words = getattr(part, "vocabulary_", None)
        if words is not None:
            plain = isinstance(words, dict) and all(isinstance(v, int | np.integer) for v in words.values())
            if not plain or sorted(words.values()) != list(range(len(words))):
                raise UnsafeModel(
                    f"{kind} has a vocabulary whose numbers are not 0, 1, 2, ...",
                    remedy="they would be followed outside of the model's arrays",
                    about=FILE,
                )


def _parts(root: Any) -> Iterator[Any]:
    """Every scikit-learn object inside a pipeline, each once."""
    seen: set[int] = set()
    stack = [root]
    while stack:
        top = stack.pop()
        if id(top) in seen:
            continue
        seen.add(id(top))
        if isinstance(top, dict):
            stack.extend(v for v in top.values() if not isinstance(v, str | int | float))
        elif isinstance(top, list | tuple | set):
            stack.extend(v for v in top if not isinstance(v, str | int | float))
        elif type(top).__module__.startswith("sklearn."):
            yield top
            stack.extend(vars(top).values() if hasattr(top, "__dict__") else ())
