#!/usr/bin/env bash
# skl2onnx 1.20.0 exports a TF-IDF pipeline with bigrams as a graph that answers otherwise than the pipeline does:
# scikit-learn drops words of one letter before it pairs words ("not a good" gives "not good"), the graph keeps them
# apart, so such bigrams are never found. Nothing warns. With unigrams alone both agree. Compare an exported text pipeline
# with the pipeline itself before relying on it. Exits non-zero if the behaviour changes.
set -euo pipefail
folder=$(mktemp -d); trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check \
  "skl2onnx==1.20.0" "scikit-learn==1.9.1" "onnxruntime==1.32.0" "onnx==1.23.2"
cd "$folder" && venv/bin/python - <<'PY'
import warnings

import numpy as np
import onnxruntime
from skl2onnx import convert_sklearn
from skl2onnx.common.data_types import StringTensorType
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline

warnings.simplefilter("ignore")
texts = ["a good film", "not a good film, no", "I saw it: good!", "what a bad day", "it was (very) bad", "bad and worse"]
differ = {}
for longest in (1, 2):
    pipeline = make_pipeline(TfidfVectorizer(ngram_range=(1, longest)), LogisticRegression()).fit(texts, [1, 0, 1, 0, 0, 0])
    options = {id(pipeline[0]): {"locale": "C.UTF-8"}, id(pipeline[1]): {"zipmap": False}}
    graph = convert_sklearn(pipeline, "p", [("text", StringTensorType([None, 1]))], options=options)
    found = onnxruntime.InferenceSession(graph.SerializeToString()).run(None, {"text": np.array(texts)[:, None]})[1]
    differ[longest] = np.abs(found - pipeline.predict_proba(texts)).max(axis=1)
    print(f"up to {longest} words: largest difference per text {differ[longest].round(4)}")
assert differ[1].max() < 1e-5, "unigrams differ now"
assert differ[2].max() > 1e-3, "bigrams agree now"
PY
