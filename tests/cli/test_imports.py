"""``learndock import``, as a person types it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from learndock.package import open_learnware
from learndock.package.front_matter import read_front_matter
from tests.support.models import SENTIMENT, texts, write_mlflow, write_sklearn
from tests.support.terminal import learndock


@pytest.mark.parametrize("kind", ["mlflow", "hub"])
def test_an_import_is_packed_and_published(kind: str, tiny_space: Any, tmp_path: Path) -> None:
    pytest.importorskip("skops", reason="writes a model")
    model = write_sklearn(tmp_path / "skops")
    if kind == "mlflow":
        source = write_mlflow(tmp_path / "ml", model, metadata={"license": "MIT", "tags": ["shop"]})
    else:
        source = model
        (model / "README.md").write_text("---\nlicense: MIT\ntags: [shop]\nbase_model: ann/base\n---\n\n# Mine\n")
    inputs, targets = texts(40, 3)
    rows = [{"text": t, "label": SENTIMENT.labels[y]} for t, y in zip(inputs, targets, strict=True)]
    data = tmp_path / "data.jsonl"
    data.write_text("".join(json.dumps(row) + "\n" for row in rows))
    out, dock = tmp_path / "out", tmp_path / "dock"
    base = ["import", kind, source, "--name", "ada/mine", "--data", data, "--space", tiny_space.folder, "-o", out]
    said = learndock(*base, "--dock", dock, "--json").json
    assert (said["license"], said["tags"], said["score"]) == ("MIT", ["shop"], 1.0)
    assert [(c["name"], c["label"]) for c in said["columns"]] == [("negative", "negative"), ("positive", "positive")]
    made = open_learnware(out)
    assert (made.manifest.license, said["added"]) == ("MIT", made.manifest.id)
    card = read_front_matter((out / "README.md").read_text())
    assert (card.license, card.tags) == ("MIT", ("shop",))
    assert ("base_model: ann/base" in (out / "README.md").read_text()) == (kind == "hub")
    listed = learndock("list", "--dock", dock, "--json").json["learnwares"]
    assert [(each["name"], each["license"]) for each in listed] == [("ada/mine", "MIT")]
    again = learndock(*base, "--license", "Apache-2.0", "-o", tmp_path / "other")
    assert "license: Apache-2.0" in again.out
    assert "tags: shop" in again.out
