#!/usr/bin/env bash
# MLflow 3.17.2: a signature changes what a text pipeline of scikit-learn answers. Without one, pyfunc answers a pandas
# Series of three texts with three classes, as the pipeline itself does. With the signature that infer_signature makes of
# that Series, the same call gives one class: the texts become a table, and the pipeline reads the name of its column
# as the only text. Nothing warns. So `learndock import mlflow` gives the pipeline the texts themselves, whatever the
# signature says, and only checks that it names one column of texts. Exits non-zero if the behaviour changes.
set -euo pipefail
folder=$(mktemp -d); trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check "mlflow==3.17.2" "scikit-learn==1.9.1" "skops==0.16.0"
cd "$folder" && MLFLOW_DISABLE_TELEMETRY=true DO_NOT_TRACK=true venv/bin/python - <<'PY'
import logging
import warnings

import mlflow.sklearn
import pandas as pd
from mlflow.models import infer_signature
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline

warnings.simplefilter("ignore")
logging.disable(logging.WARNING)
texts = pd.Series(["good film", "nice film", "bad film", "awful day"] * 10, name="text")
labels = ["positive", "positive", "negative", "negative"] * 10
pipeline = make_pipeline(TfidfVectorizer(), LogisticRegression()).fit(texts, labels)
wanted, found = list(pipeline.predict(texts[:3])), {}
for name, signature in (("without", None), ("with", infer_signature(texts, labels))):
    mlflow.sklearn.save_model(
        pipeline, name, signature=signature, serialization_format="skops", pip_requirements=["scikit-learn"]
    )
    found[name] = list(mlflow.pyfunc.load_model(name).predict(texts[:3]))
    print(f"{name} a signature: {len(found[name])} answers to 3 texts")
assert found["without"] == wanted, "without a signature it differs now"
assert len(found["with"]) == 1, "with a signature it agrees now"
PY
