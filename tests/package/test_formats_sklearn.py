"""scikit-learn learnwares: predictions, tuning, and that nothing but data is built from the file."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sklearn.calibration import CalibratedClassifierCV
from sklearn.feature_extraction.text import CountVectorizer, HashingVectorizer, TfidfVectorizer
from sklearn.feature_selection import SelectKBest, chi2
from sklearn.linear_model import LogisticRegression, Ridge, RidgeClassifier, SGDClassifier
from sklearn.multiclass import OneVsRestClassifier
from sklearn.naive_bayes import MultinomialNB
from sklearn.neural_network import MLPClassifier
from sklearn.pipeline import make_pipeline, make_union
from sklearn.svm import LinearSVC
from skops.io import dump, get_untrusted_types

from learndock.data.examples import Examples
from learndock.data.schema import Schema
from learndock.errors import MissingExtra, ModelError, UnsafeModel
from learndock.package.columns import name_key
from learndock.package.formats.registry import detect
from learndock.package.formats.sklearn import SklearnFormat
from learndock.package.skops_file import TRUSTED
from tests.support import models

FORMAT = SklearnFormat()
TOPICS = Schema("classification", ("film", "food", "day"), ("a film", "a meal", "a day"), "accuracy")


def load(folder: Path, schema: Schema = models.SENTIMENT) -> Any:
    assert detect(folder).name == "sklearn"
    return FORMAT.load(folder, schema, FORMAT.check(folder, schema))


@pytest.mark.parametrize(
    "estimator",
    [
        LogisticRegression(),
        LinearSVC(),
        SGDClassifier(loss="log_loss"),
        MultinomialNB(),
        CalibratedClassifierCV(LinearSVC(), cv=3),
        MLPClassifier(hidden_layer_sizes=(4,), max_iter=400, random_state=0),
        make_pipeline(SelectKBest(chi2, k=6), LogisticRegression()),
    ],
    ids=lambda e: type(e).__name__,
)
def test_estimators(estimator: Any, tmp_path: Path) -> None:
    pipeline = models.fitted_pipeline(estimator)
    models.write_sklearn(tmp_path, pipeline)
    assert set(get_untrusted_types(file=tmp_path / "model.skops")) <= set(TRUSTED)
    inputs, targets = models.texts(30, seed=3)
    found = load(tmp_path).predict(inputs)
    np.testing.assert_allclose(found.sum(axis=1), 1, atol=1e-12)
    assert (found.argmax(axis=1) == targets).mean() > 0.9
    if hasattr(pipeline, "predict_proba"):
        np.testing.assert_allclose(found, pipeline.predict_proba(inputs), atol=1e-9)


def test_scores_of_several_classes_become_probabilities(tmp_path: Path) -> None:
    words = ["film", "food", "day"] * 10
    pipeline = make_pipeline(CountVectorizer(), LinearSVC()).fit(words, words)
    models.write_sklearn(tmp_path, pipeline)
    assert load(tmp_path, TOPICS).predict(["food", "day", "film"]).argmax(axis=1).tolist() == [1, 2, 0]


def test_classes_that_are_numbers_are_not_positions(tmp_path: Path) -> None:
    models.write_sklearn(tmp_path, models.fitted_pipeline(names=False))
    with pytest.raises(ModelError, match=r"model\.skops: no column name of the model is a label.*columns: 0, 1"):
        load(tmp_path)
    numbers = Schema("classification", ("1", "0"), ("good", "bad"), "accuracy")
    assert load(tmp_path, numbers).predict(["good film", "bad film"]).argmax(axis=1).tolist() == [0, 1]


@pytest.mark.parametrize("estimator", [OneVsRestClassifier(LinearSVC()), RidgeClassifier()])
def test_several_labels_for_one_input_are_refused(estimator: Any, tmp_path: Path) -> None:
    words = ["film", "food", "film food", "day"] * 8
    labels = np.array([["film" in w, "food" in w, "day" in w] for w in words], dtype=np.int64)
    models.write_sklearn(tmp_path, make_pipeline(CountVectorizer(), estimator).fit(words, labels))
    model = load(tmp_path, Schema("classification", ("0", "1", "2"), ("film", "food", "day"), "accuracy"))
    with pytest.raises(ModelError, match="gives an input several labels"):
        model.predict(words)


def test_a_pair_is_two_lines(tmp_path: Path) -> None:
    models.write_sklearn(tmp_path)
    model = load(tmp_path)
    np.testing.assert_array_equal(model.predict([("the film", "was good")]), model.predict(["the film\nwas good"]))
    assert model.predict([]).shape == (0, 2)
    with pytest.raises(ModelError, match="input 1: this model reads texts"):
        model.predict([3])


def test_regression(tmp_path: Path) -> None:
    inputs, targets = models.texts(40)
    models.write_sklearn(tmp_path, make_pipeline(TfidfVectorizer(), Ridge()).fit(inputs, targets * 5.0))
    found = load(tmp_path, models.SCALE).predict(inputs)
    assert found.shape == (40,)
    assert np.corrcoef(found, targets)[0, 1] > 0.9
    with pytest.raises(ModelError, match="no classes_"):
        load(tmp_path)


def test_the_wrong_schema(tmp_path: Path) -> None:
    models.write_sklearn(tmp_path)
    with pytest.raises(ModelError, match="2 outputs but the schema has 3 labels"):
        load(tmp_path, TOPICS)
    with pytest.raises(ModelError, match="schema says regression"):
        load(tmp_path, models.SCALE)


# --- tuning ------------------------------------------------------------------------------------------------


def test_tuning_to_other_labels_keeps_the_features(tmp_path: Path) -> None:
    models.write_sklearn(tmp_path / "m")
    inputs = [f"the {w} was good" for w in TOPICS.labels] * 4
    examples = Examples(inputs, np.arange(12) % 3)
    FORMAT.finetune(tmp_path / "m", models.SENTIMENT, {}, examples, TOPICS, tmp_path / "out", seed=1)
    model = load(tmp_path / "out", TOPICS)
    assert model.predict(["bad food", "awful day", "a film"]).argmax(axis=1).tolist() == [1, 2, 0]
    before, after = (load(tmp_path / d, s).pipeline[0] for d, s in (("m", models.SENTIMENT), ("out", TOPICS)))
    assert before.vocabulary_ == after.vocabulary_
    np.testing.assert_array_equal(before.idf_, after.idf_)


def test_tuning_to_another_type_of_task(tmp_path: Path) -> None:
    models.write_sklearn(tmp_path / "m")
    inputs, targets = models.texts(40)
    FORMAT.finetune(
        tmp_path / "m", models.SENTIMENT, {}, Examples(inputs, targets * 4.0), models.SCALE, tmp_path / "out"
    )
    found = load(tmp_path / "out", models.SCALE).predict(inputs)
    assert np.corrcoef(found, targets)[0, 1] > 0.9


def test_tuning_that_cannot_work(tmp_path: Path) -> None:
    models.write_sklearn(tmp_path / "m")
    one = Examples(["good", "fine"], np.array([1, 1]))
    with pytest.raises(ModelError, match=r"LogisticRegression\) could not be fitted"):
        FORMAT.finetune(tmp_path / "m", models.SENTIMENT, {}, one, models.SENTIMENT, tmp_path / "out")
    with pytest.raises(ModelError, match="needs examples with labels"):
        FORMAT.finetune(tmp_path / "m", models.SENTIMENT, {}, Examples(["a"]), models.SENTIMENT, tmp_path / "out")
    assert not (tmp_path / "out").exists()


# --- what must not be built --------------------------------------------------------------------------------


def test_functions_are_refused(tmp_path: Path) -> None:
    pipeline = models.fitted_pipeline()
    pipeline[0].set_params(preprocessor=str.lower)
    models.write_sklearn(tmp_path, pipeline)
    with pytest.raises(UnsafeModel, match=r"model\.skops.*safe ones"):
        FORMAT.check(tmp_path, models.SENTIMENT)


def test_a_cache_folder_is_refused(tmp_path: Path) -> None:
    pipeline = models.fitted_pipeline()
    pipeline.memory = str(tmp_path / "cache")
    models.write_sklearn(tmp_path, pipeline)
    with pytest.raises(UnsafeModel, match="holds pickles"):
        load(tmp_path)


def test_reading_files_by_name_is_refused(tmp_path: Path) -> None:
    pipeline = models.fitted_pipeline()
    pipeline[0].input = "filename"
    models.write_sklearn(tmp_path, pipeline)
    with pytest.raises(UnsafeModel, match="reads files by name"):
        load(tmp_path)


@pytest.mark.parametrize("number", [10**9, -5, 0])
def test_a_vocabulary_that_points_elsewhere(number: int, tmp_path: Path) -> None:
    """scikit-learn follows these numbers without bounds checks: a crafted one would crash the process."""
    pipeline = make_union(CountVectorizer(), CountVectorizer(analyzer="char"))
    whole = make_pipeline(pipeline, LogisticRegression()).fit(["good", "bad"], ["positive", "negative"])
    pipeline.transformer_list[1][1].vocabulary_["g"] = number
    models.write_sklearn(tmp_path, whole)
    with pytest.raises(UnsafeModel, match="vocabulary"):
        load(tmp_path)


def test_a_transformer_alone_does_not_predict(tmp_path: Path) -> None:
    dump(HashingVectorizer(), tmp_path / "model.skops")
    with pytest.raises(ModelError, match="does not predict"):
        load(tmp_path)


def test_a_pipeline_for_numbers(tmp_path: Path) -> None:
    models.write_sklearn(tmp_path, LogisticRegression().fit([[0.0], [1.0]], ["negative", "positive"]))
    with pytest.raises(ModelError, match="must take texts"):
        load(tmp_path).predict(["good"])


def test_truncated_and_foreign_files(tmp_path: Path) -> None:
    models.write_sklearn(tmp_path)
    source = (tmp_path / "model.skops").read_bytes()
    for broken in (source[: len(source) // 2], b"", b"PK\x03\x04" + source[100:], b"GGUF" + source):
        (tmp_path / "model.skops").write_bytes(broken)
        with pytest.raises(ModelError, match=r"model\.skops"):
            FORMAT.check(tmp_path, models.SENTIMENT)


def test_without_the_extra(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    models.write_sklearn(tmp_path)
    monkeypatch.setitem(sys.modules, "skops.io", None)
    assert FORMAT.check(tmp_path, models.SENTIMENT) == {}
    with pytest.raises(MissingExtra, match=r"pip install \"learndock\[sklearn\]\""):
        FORMAT.load(tmp_path, models.SENTIMENT, {})


# --- models as people save them ------------------------------------------------------------------------------


def test_a_vocabulary_of_numpy_integers(tmp_path: Path) -> None:
    """With ``max_features`` scikit-learn keeps one NumPy integer per word, and skops one member per integer."""
    rows = [f"{t} w{i} v{i}" for i, t in enumerate(models.texts(1_200)[0])]
    labels = np.array(models.SENTIMENT.labels)[np.arange(1_200) % 2]
    pipeline = make_pipeline(TfidfVectorizer(max_features=2_000), LogisticRegression()).fit(rows, labels)
    assert isinstance(next(iter(pipeline[0].vocabulary_.values())), np.integer)
    models.write_sklearn(tmp_path, pipeline)
    found = load(tmp_path).predict(rows[:50])
    np.testing.assert_allclose(found, pipeline.predict_proba(rows[:50]), atol=1e-9)


def test_a_search_is_refused_for_what_it_found(tmp_path: Path) -> None:
    from sklearn.model_selection import GridSearchCV

    inputs, targets = models.texts(40)
    search = GridSearchCV(make_pipeline(TfidfVectorizer(), LogisticRegression()), {"logisticregression__C": [1, 10]})
    search.fit(inputs, np.array(models.SENTIMENT.labels)[targets])
    models.write_sklearn(tmp_path / "s", search)
    with pytest.raises(UnsafeModel, match=r"search\.best_estimator_, and not the search"):
        load(tmp_path / "s")
    models.write_sklearn(tmp_path / "b", search.best_estimator_)
    np.testing.assert_allclose(load(tmp_path / "b").predict(inputs), search.predict_proba(inputs), atol=1e-9)


@pytest.mark.parametrize(
    ("classes", "labels"),
    [
        ([False, True], ["true", "false"]),
        ([0.0, 1.0], ["1", "0"]),
        ([-1, 1], ["1", "-1"]),
        (["Pos ", "neg"], ["NEG", "pos"]),
    ],
)
def test_classes_of_any_type_go_by_name(classes: list[Any], labels: list[str], tmp_path: Path) -> None:
    inputs, targets = models.texts(60)
    wanted = np.array(classes)[targets]
    pipeline = make_pipeline(TfidfVectorizer(), LogisticRegression()).fit(inputs, wanted)
    models.write_sklearn(tmp_path, pipeline)
    found = load(tmp_path, Schema("classification", tuple(labels), tuple(labels), "accuracy")).predict(inputs)
    order = [[name_key(str(c)) for c in pipeline.classes_.tolist()].index(name_key(label)) for label in labels]
    np.testing.assert_allclose(found, pipeline.predict_proba(inputs)[:, order], atol=1e-9)
