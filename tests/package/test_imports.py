"""Models of MLflow and of hubs, as their tools leave them, in the folder that ``pack`` takes."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from learndock.errors import LearndockError, MissingExtra, ModelError, PackageError, UnsafeModel, UsageError
from learndock.package.front_matter import read_front_matter
from learndock.package.imports import open_hub, open_mlflow
from tests.support.models import SKOPS, write_mlflow

REVISION = "0123456789abcdef0123456789abcdef01234567"


def content(folder: Path) -> dict[str, bytes]:
    return {p.relative_to(folder).as_posix(): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def model(folder: Path, **files: bytes) -> Path:
    for name, value in files.items():
        path = folder / name.replace("__", "/").replace("_dot_", ".")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(value)
    return folder


# --- MLflow ------------------------------------------------------------------------------------------------


def test_what_mlmodel_says_is_carried_and_its_environment_is_not(tmp_path: Path) -> None:
    said = {"license": "MIT", "description": "Reviews", "tags": {"team": "shop", "gold": ""}, "labels": ["no", "yes"]}
    source = write_mlflow(tmp_path / "m", model(tmp_path / "x", model_dot_skops=b"weights"), metadata=said)
    with open_mlflow(str(source)) as found:
        files = content(found.folder)
    assert (found.license, found.description, found.tags) == ("MIT", "Reviews", ("team:shop", "gold"))
    assert sorted(files) == ["README.md", "labels.json", "model.skops"]
    assert (files["model.skops"], json.loads(files["labels.json"])) == (b"weights", ["no", "yes"])
    card = read_front_matter(files["README.md"].decode())
    assert (card.license, card.description, card.tags) == ("MIT", "Reviews", ("team:shop", "gold"))


def test_transformers_come_together_in_one_folder(tmp_path: Path) -> None:
    parts = model(tmp_path / "m", model__config_dot_json=b"{}", components__tokenizer__tokenizer_dot_json=b"[]")
    (parts / "model_card_data.yaml").write_text("license: apache-2.0\nbase_model: ann/base\n")
    (parts / "model_card.md").write_text("# Mine\n")
    how = {"model_binary": "model", "task": "text-classification", "source_model_name": "ann/mine"}
    with open_mlflow(str(write_mlflow(parts, flavor="transformers", settings=how))) as found:
        files = content(found.folder)
    assert sorted(files) == ["README.md", "config.json", "tokenizer.json"]
    assert found.license == "apache-2.0"
    assert b"base_model: ann/base" in files["README.md"]
    assert b"# Mine" in files["README.md"]
    assert "ann/mine" in found.remarks[0]


def test_files_of_an_onnx_graph_and_those_put_beside_it(tmp_path: Path) -> None:
    source = model(tmp_path / "m", model_dot_onnx=b"graph", a1_dot_data=b"weights")
    write_mlflow(source, flavor="onnx", settings={"data": "model.onnx"})
    beside = model(tmp_path, tokenizer_dot_json=b"[]") / "tokenizer.json"
    with open_mlflow(str(source), beside=[beside]) as found:
        assert sorted(content(found.folder)) == ["a1.data", "model.onnx", "tokenizer.json"]
    assert (found.license, found.tags) == (None, ())


def registry(store: Path) -> Path:
    """A file registry with one version; what the version says goes before what the model says."""
    place = store / "models" / "reviews"
    files = write_mlflow(store / "0/models/m-1/artifacts", model(store / "x", model_dot_skops=b"w"))
    (place / "version-1" / "tags").mkdir(parents=True)
    (place / "tags").mkdir()
    (place / "meta.yaml").write_text("name: reviews\ndescription: Sentiment\n")
    where = f"source: models:/m-1\nstorage_location: {files.as_uri()}\n"
    (place / "version-1" / "meta.yaml").write_text(f"name: reviews\nversion: 1\ndescription: null\n{where}")
    for name, value in (("tags/license", "MIT"), ("version-1/tags/license", "Apache-2.0")):
        (place / name).write_text(value)
    (place / "version-1" / "tags" / "stage").write_text("gold")
    (place / "tags" / "mlflow.user").write_text("ann")
    return place


@pytest.mark.parametrize("named", ["", "version-1"])
def test_a_version_of_a_file_registry(named: str, tmp_path: Path) -> None:
    with open_mlflow(str(registry(tmp_path) / named)) as found:
        assert (found.folder / "model.skops").read_bytes() == b"w"
    assert (found.license, found.description, found.tags) == ("Apache-2.0", "Sentiment", ("stage:gold",))


def test_several_versions_or_models_are_not_chosen_from(tmp_path: Path) -> None:
    place = registry(tmp_path)
    write_mlflow(tmp_path / "0/models/m-2/artifacts")
    with pytest.raises(PackageError, match="2 models are below"):
        open_mlflow(str(tmp_path / "0")).__enter__()
    (place / "version-2").mkdir()
    (place / "version-2" / "meta.yaml").write_text("name: reviews\n")
    with pytest.raises(PackageError, match=r"2 versions.*version-2"):
        open_mlflow(str(place)).__enter__()


NUMBERS = '[{"type": "double", "name": "age"}, {"type": "double", "name": "height"}]'
TENSOR = '[{"type": "tensor", "tensor-spec": {"dtype": "float64", "shape": [-1, 4]}}]'


@pytest.mark.parametrize(
    ("how", "kind", "says"),
    [
        ({"settings": {**SKOPS, "serialization_format": "cloudpickle"}}, UnsafeModel, 'serialization_format="skops"'),
        ({"settings": {"pickled_model": "model.skops"}}, UnsafeModel, "is a pickle"),
        ({"settings": {**SKOPS, "code": "code"}}, UnsafeModel, "code of its own"),
        ({"settings": {**SKOPS, "pickled_model": "../x/model.skops"}}, UnsafeModel, "leads out"),
        ({"settings": {**SKOPS, "pickled_model": "other.skops"}}, PackageError, "is missing"),
        ({"flavor": "xgboost"}, ModelError, "xgboost"),
        ({"inputs": NUMBERS}, ModelError, "2 columns"),
        ({"inputs": TENSOR}, ModelError, "float64"),
        ({"metadata": {"labels": "yes"}}, PackageError, "labels"),
        ({"metadata": {"license": 3}}, PackageError, "license"),
        ({"flavor": "transformers", "settings": {"task": "translation", "model_binary": "."}}, ModelError, "task"),
        ({"flavor": "transformers", "settings": {"source_model_name": "a/b"}}, ModelError, "import hub a/b"),
    ],
)
def test_what_cannot_be_read_is_refused(
    how: dict[str, Any], kind: type[LearndockError], says: str, tmp_path: Path
) -> None:
    source = write_mlflow(tmp_path / "m", model(tmp_path / "x", model_dot_skops=b"w"), **how)
    with pytest.raises(kind, match=says):
        open_mlflow(str(source)).__enter__()


def test_an_address_needs_mlflow(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "mlflow", None)
    with pytest.raises(MissingExtra, match="pip install mlflow-skinny"):
        open_mlflow("models:/reviews/1").__enter__()
    with pytest.raises(UsageError, match="addresses of s3"):
        open_mlflow("s3://bucket/model").__enter__()


def test_with_the_real_library(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    mlflow: Any = pytest.importorskip("mlflow", reason="MLflow is not installed")
    pytest.importorskip("mlflow.sklearn", reason="MLflow is not installed")
    from tests.support.models import fitted_pipeline

    monkeypatch.setenv("MLFLOW_DISABLE_TELEMETRY", "true")
    monkeypatch.chdir(tmp_path)
    mlflow.set_tracking_uri(f"sqlite:///{tmp_path}/ml.db")
    with mlflow.start_run() as run:
        logged = {"serialization_format": "skops", "registered_model_name": "reviews", "pip_requirements": ["x"]}
        mlflow.sklearn.log_model(fitted_pipeline(), name="model", metadata={"license": "MIT"}, **logged)
    client = mlflow.MlflowClient()
    client.set_model_version_tag("reviews", "1", "license", "Apache-2.0")
    client.set_registered_model_alias("reviews", "best", 1)
    found = {}
    for source in (
        "models:/reviews/1",
        "models:/reviews/latest",
        "models:/reviews@best",
        f"runs:/{run.info.run_id}/model",
    ):
        with open_mlflow(source) as opened:
            assert (opened.folder / "model.skops").is_file()
        found[source] = opened.license
    assert list(found.values()) == ["Apache-2.0"] * 3 + ["MIT"]


# --- hubs --------------------------------------------------------------------------------------------------

CARD = "---\nlicense: mit\ntags: [reviews]\nbase_model: ann/base\n---\n\n# Mine\n"


def cache(folder: Path) -> Path:
    """A model in the layout of the hub's cache."""
    place = folder / "models--ann--mine"
    (place / "blobs").mkdir(parents=True)
    (place / "refs").mkdir()
    (place / "refs" / "main").write_text(REVISION)
    snapshot = place / "snapshots" / REVISION
    snapshot.mkdir(parents=True)
    files = {"README.md": CARD.encode(), "model.safetensors": b"w", "pytorch_model.bin": b"p", ".gitattributes": b""}
    for number, (name, value) in enumerate(files.items()):
        (place / "blobs" / str(number)).write_bytes(value)
        (snapshot / name).symlink_to(Path("..", "..", "blobs", str(number)))
    return place


WHERE: list[Callable[[Path], Path]] = [lambda c: c, lambda c: c / "snapshots" / REVISION]


@pytest.mark.parametrize("where", WHERE)
def test_a_folder_of_the_cache(where: Callable[[Path], Path], tmp_path: Path) -> None:
    with open_hub(str(where(cache(tmp_path)))) as found:
        assert not any(p.is_symlink() for p in found.folder.iterdir())
        assert sorted(content(found.folder)) == ["README.md", "model.safetensors"]
        assert content(found.folder)["README.md"].decode() == CARD
    assert (found.license, found.tags) == ("mit", ("reviews",))
    assert found.remarks == ("left out: pytorch_model.bin",)


def test_a_name_in_the_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    constants = pytest.importorskip("huggingface_hub.constants", reason="finds names")
    cache(tmp_path)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    with open_hub("ann/mine") as found:
        assert content(found.folder)["model.safetensors"] == b"w"
    with pytest.raises(PackageError, match="no hub gives it"):
        open_hub("ann/other").__enter__()


def test_links_out_of_the_cache_and_unknown_revisions_are_refused(tmp_path: Path) -> None:
    place = cache(tmp_path)
    with pytest.raises(PackageError, match=f"no revision v2.*{REVISION}"):
        open_hub(str(place), revision="v2").__enter__()
    for revision in ("../..", "a/b"):
        with pytest.raises(UsageError, match="not a revision"):
            open_hub(str(place), revision=revision).__enter__()
    (tmp_path / "secret.txt").write_text("x")
    (place / "snapshots" / REVISION / "notes.txt").symlink_to(tmp_path / "secret.txt")
    with pytest.raises(UnsafeModel, match="leads out"):
        open_hub(str(place)).__enter__()


def test_a_plain_folder_is_left_as_it_was(tmp_path: Path) -> None:
    source = model(tmp_path / "m", model_dot_skops=b"w")
    with open_hub(str(source)) as found:
        assert os.listdir(found.folder) == ["model.skops"]  # noqa: PTH208 - names
    with pytest.raises(UsageError, match="one revision"):
        open_hub(str(source), revision="main").__enter__()
    assert content(source) == {"model.skops": b"w"}
