"""Packing: the whole learnware or nothing, the same twice, and never a payload that runs."""

from __future__ import annotations

import contextlib
import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from learndock.data.examples import Examples
from learndock.data.schema import Schema
from learndock.errors import (
    Corrupt,
    DataError,
    ModelError,
    NotFound,
    PackageError,
    StorageFull,
    UnsafeModel,
    UsageError,
)
from learndock.files import sha256_file
from learndock.package import Packed, check_files, open_learnware, pack
from learndock.package import packing as module
from learndock.package.card import Card
from learndock.package.formats.registry import formats
from learndock.package.front_matter import read_front_matter
from learndock.package.manifest import File, Manifest
from learndock.spec import make_spec, read_spec
from tests.support import models

NAME = "lab/sentiment"


@pytest.fixture(scope="module")
def sound(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An ONNX model, and a learnware made of it."""
    place = tmp_path_factory.mktemp("pack")
    models.write_onnx(place / "model")
    pack(
        place / "model", place / "learnware", name=NAME, schema=models.SENTIMENT, examples=models.sentiment(24),
        space=models.space(), description="Short reviews.", license="MIT",
    )  # fmt: skip
    return place


@pytest.fixture
def learnware(sound: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(sound / "learnware", tmp_path / "learnware"))


@pytest.fixture
def model(sound: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(sound / "model", tmp_path / "model"))


def again(model: Path, out: Path, **change: Any) -> Packed:
    wanted = {
        "name": NAME,
        "space": models.space(),
        "schema": models.SENTIMENT,
        "examples": models.sentiment(24),
        **change,
    }
    return pack(model, out, **wanted)


def left(folder: Path) -> list[str]:
    return sorted(p.name for p in folder.iterdir())


# --- what a learnware is -----------------------------------------------------------------------------------


def test_a_learnware_has_its_parts(sound: Path) -> None:
    found = open_learnware(sound / "learnware")
    assert [f.path for f in found.manifest.files] == [
        "config.json", "model.onnx", "specs/minilm-l6.spec", "tokenizer.json", "tokenizer_config.json",
    ]  # fmt: skip
    assert found.manifest.format == "onnx"
    assert found.manifest.settings == {"columns": [0, 1], "output": "logits", "output_name": "logits"}
    assert found.schema == models.SENTIMENT
    assert found.manifest.license == "MIT"
    assert read_front_matter((sound / "learnware" / "README.md").read_text("utf-8")).license == "MIT"
    inputs, targets = models.texts(20, seed=5)
    assert (found.load().predict(inputs).argmax(axis=1) == targets).all()
    for path in ("model.onnx", "tokenizer.json", "config.json"):
        assert (sound / "learnware" / path).read_bytes() == (sound / "model" / path).read_bytes()


def test_the_spec_is_of_the_models_predictions(sound: Path) -> None:
    found = open_learnware(sound / "learnware")
    spec = found.spec()
    assert spec.kind == "model"
    assert found.manifest.specs[0].space_id == spec.space_id
    assert found.spec("minilm-l6").space_id == found.spec(spec.space_id).space_id
    with pytest.raises(NotFound, match="no spec for the space roberta; it has minilm-l6"):
        found.spec("roberta")
    examples = models.sentiment(24)
    expected = make_spec(
        examples, models.SENTIMENT, space=models.space(), predictions=found.load().predict(examples.inputs)
    )
    np.testing.assert_allclose(spec.behaviour, expected.behaviour, atol=2e-3)


def test_labels_do_not_change_the_spec(sound: Path, model: Path, tmp_path: Path) -> None:
    wrong = models.sentiment(24)
    assert wrong.targets is not None
    wrong = Examples(wrong.inputs, 1 - wrong.targets, models.SENTIMENT)
    again(model, tmp_path / "out", examples=wrong)
    path = "specs/minilm-l6.spec"
    assert (tmp_path / "out" / path).read_bytes() == (sound / "learnware" / path).read_bytes()
    assert "| 0.000 on 24 examples" in (tmp_path / "out" / "README.md").read_text()
    again(model, tmp_path / "unlabelled", examples=Examples(wrong.inputs))
    assert (tmp_path / "unlabelled" / path).read_bytes() == (sound / "learnware" / path).read_bytes()
    assert "score" not in (tmp_path / "unlabelled" / "README.md").read_text()


def test_packing_twice_gives_the_same_bytes(sound: Path, model: Path, tmp_path: Path) -> None:
    first = again(model, tmp_path / "a")
    second = again(model, tmp_path / "b")
    assert first.id == second.id
    assert again(model, tmp_path / "a").id == first.id  # the same once more is no conflict
    assert left(tmp_path) == ["a", "b", "model"]


def test_an_empty_folder_may_be_there(model: Path, tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    again(model, tmp_path / "out")
    open_learnware(tmp_path / "out")


def test_each_format_packs_and_loads(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LEARNDOCK_BASES", str(tmp_path / "bases"))
    base = models.write_bert(tmp_path / "bases" / "bert")
    folders = {
        "transformers": base,
        "peft": models.write_adapter(tmp_path / "adapter", base),
        "sklearn": models.write_sklearn(tmp_path / "sk"),
    }
    inputs = models.texts(6)[0]
    for name, folder in folders.items():
        out = tmp_path / f"out-{name}"
        manifest = again(folder, out).manifest
        assert manifest.format == name
        assert (manifest.base is not None) == (name == "peft")
        found = open_learnware(out)
        assert found.load().predict(inputs).shape == (6, 2)
    assert manifest.base is None
    peft = open_learnware(tmp_path / "out-peft")
    assert peft.manifest.base is not None
    assert peft.manifest.base.name == "bert"
    assert "| base | bert |" in (tmp_path / "out-peft" / "README.md").read_text()
    assert str(tmp_path) not in (tmp_path / "out-peft" / "adapter_config.json").read_text()
    models.write_bert(base, seed=99)
    with pytest.raises(ModelError, match=peft.manifest.base.sha256):
        peft.load()


# --- the card ----------------------------------------------------------------------------------------------


def test_the_card_says_what_people_ask(sound: Path) -> None:
    card = (sound / "learnware" / "README.md").read_text()
    for words in (
        "# lab/sentiment", "Short reviews.", "a bad review", "a good review", "accuracy", "MIT",
        "score on the owner's data | 1.000 on 24 examples", "learndock predict lab/sentiment",
    ):  # fmt: skip
        assert words in card


def test_the_models_own_card_stays_below(model: Path, tmp_path: Path) -> None:
    (model / "README.md").write_text("---\nlicense: mit\n---\n# My model\n\nTrained with care.\n")
    again(model, tmp_path / "out")
    card = (tmp_path / "out" / "README.md").read_text()
    assert card.startswith("---\nlicense: mit\n---\n")
    assert card.index("# lab/sentiment") < card.index("# My model") < card.index("Trained with care.")


def test_a_card_of_regression_and_odd_words() -> None:
    text = Card("a/b", models.SCALE, "onnx").text()
    assert "one number, from 0 to 5" in text
    odd = Schema("classification", ("a|b", "c"), ("x\ny", "z"), "f1")
    assert "| a\\|b | x y |" in Card("a/b", odd, "onnx").text()


# --- nothing is written when something is wrong ------------------------------------------------------------


def test_a_taken_place(model: Path, tmp_path: Path) -> None:
    again(model, tmp_path / "out")
    before = (tmp_path / "out" / "learnware.json").read_bytes()
    with pytest.raises(UsageError, match="exists and is something else"):
        again(model, tmp_path / "out", description="other")
    assert (tmp_path / "out" / "learnware.json").read_bytes() == before
    (tmp_path / "file").write_text("x")
    with pytest.raises(UsageError, match="is a file"):
        again(model, tmp_path / "file")
    with pytest.raises(UsageError, match="inside the model's folder"):
        again(model, model / "out")
    with pytest.raises(UsageError, match="does not exist; make it first"):
        again(model, tmp_path / "no" / "out")
    assert left(tmp_path) == ["file", "model", "out"]


@pytest.mark.parametrize(
    ("change", "error", "words"),
    [
        ({"name": "no-owner"}, PackageError, "write owner/name"),
        ({"examples": Examples([])}, DataError, "no examples"),
        ({"examples": Examples(["a", 7, "b", "c"])}, ModelError, "input 2"),
        ({"schema": models.SCALE}, ModelError, "regression needs 1"),
        ({"examples": Examples(["good"] * 8)}, ModelError, "predicts the same"),
    ],
)
def test_nothing_is_written(change: dict[str, Any], error: Any, words: str, model: Path, tmp_path: Path) -> None:
    with pytest.raises(error, match=words):
        again(model, tmp_path / "out", **change)
    assert left(tmp_path) == ["model"]


def test_a_learnware_is_not_a_model(learnware: Path, tmp_path: Path) -> None:
    with pytest.raises(PackageError, match="is a learnware already"):
        again(learnware, tmp_path / "out")


def test_a_full_disk(model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(shutil, "copyfileobj", full)
    with pytest.raises(StorageFull, match="no room left"):
        again(model, tmp_path / "out")
    assert left(tmp_path) == ["model"]


def test_a_file_swapped_for_a_link_after_the_check(model: Path, tmp_path: Path) -> None:
    (tmp_path / "secret.json").write_text("{}")
    (model / "config.json").unlink()
    (model / "config.json").symlink_to(tmp_path / "secret.json")
    with pytest.raises(UnsafeModel, match="symbolic link"):
        module.copy_file(model / "config.json", tmp_path / "copy.json")
    assert not (tmp_path / "copy.json").exists()


# --- opening -----------------------------------------------------------------------------------------------


def test_a_changed_file(learnware: Path) -> None:
    path = learnware / "model.onnx"
    source = bytearray(path.read_bytes())
    source[-1] ^= 1
    path.write_bytes(bytes(source))
    with pytest.raises(Corrupt, match=r"model\.onnx: its SHA-256"):
        open_learnware(learnware)
    open_learnware(learnware, verify=False)
    path.write_bytes(bytes(source[:-1]))
    with pytest.raises(Corrupt, match=r"model\.onnx: \d+ bytes, learnware\.json says"):
        open_learnware(learnware, verify=False)


def test_missing_and_unlisted_files(learnware: Path) -> None:
    (learnware / "extra.py").write_text("")
    with pytest.raises(PackageError, match=r"extra\.py: not listed"):
        open_learnware(learnware)
    (learnware / "extra.py").unlink()
    (learnware / "link").symlink_to("/tmp", target_is_directory=True)
    with pytest.raises(PackageError, match="link: not listed"):
        open_learnware(learnware)
    (learnware / "link").unlink()
    (learnware / "config.json").unlink()
    with pytest.raises(PackageError, match=r"config\.json: missing"):
        open_learnware(learnware)
    (learnware / "config.json").symlink_to("/etc/hostname")
    with pytest.raises(PackageError, match=r"config\.json: not a regular file"):
        open_learnware(learnware)


def test_no_manifest(tmp_path: Path) -> None:
    with pytest.raises(PackageError, match="learndock pack"):
        open_learnware(tmp_path)


# --- payloads ----------------------------------------------------------------------------------------------

CORPUS = [
    "pytorch_model.bin", "model.safetensors", "adapter_model.safetensors", "adapter_model.bin", "model.pkl",
    "model.pt", "model.joblib", "model.skops", "model.onnx", "config.json", "tokenizer.json", "README.md",
]  # fmt: skip


def _poisoned(kind: str, place: Path, canary: Path, base: Path) -> Path:
    """A model folder of each format with something in it that makes ``canary`` when it is run."""
    code = f"import os; os.mkdir({str(canary)!r})\n"
    if kind in CORPUS:
        folder = models.write_onnx(place)
        (folder / kind).write_bytes(models.payload(canary))
        return folder
    if kind == "auto_map":
        folder = Path(shutil.copytree(base, place))
        config = json.loads((folder / "config.json").read_text())
        names = {"AutoConfig": "modeling.C", "AutoModelForSequenceClassification": "modeling.M"}
        (folder / "config.json").write_text(json.dumps({**config, "auto_map": names, "model_type": "mine"}))
        (folder / "modeling.py").write_text(code)
        return folder
    if kind == "tokenizer code":
        folder = Path(shutil.copytree(base, place))
        (folder / "tokenizer_config.json").write_text(
            json.dumps({"tokenizer_class": "Mine", "auto_map": {"AutoTokenizer": ["tok.Mine", None]}})
        )
        (folder / "tok.py").write_text(code)
        return folder
    if kind == "object array":
        import zipfile

        folder = models.write_sklearn(place)
        with zipfile.ZipFile(folder / "model.skops") as archive:
            members = {n: archive.read(n) for n in archive.namelist()}
        members = {n: models.object_array(canary) if n.endswith(".npy") else v for n, v in members.items()}
        with zipfile.ZipFile(folder / "model.skops", "w") as archive:
            for name, content in members.items():
                archive.writestr(name, content)
        return folder
    folder = Path(shutil.copytree(base, place))
    (folder / "model.safetensors").unlink()
    (folder / "pytorch_model.bin").write_bytes(models.payload(canary))
    return folder


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return models.write_bert(tmp_path_factory.mktemp("base") / "bert")


@pytest.mark.parametrize("kind", [*CORPUS, "auto_map", "tokenizer code", "object array", "only a pickle"])
def test_no_payload_ever_runs(kind: str, tmp_path: Path, base: Path) -> None:
    """Through the check, packing, every format's loading and tuning, and a learnware that lists the payload."""
    canary = tmp_path / "canary"
    folder = _poisoned(kind, tmp_path / "model", canary, base)
    with pytest.raises((UnsafeModel, ModelError)):
        check_files(folder)
    with pytest.raises((UnsafeModel, ModelError)):
        again(folder, tmp_path / "out")
    assert not (tmp_path / "out").exists()
    for name, found in formats().items():
        for settings in ({}, {"output": "logits", "output_name": "logits"}, {"base": {"name": "x", "sha256": "0"}}):
            with contextlib.suppress(PackageError):
                found.load(folder, models.SENTIMENT, settings)
                few = models.sentiment(4)
                found.finetune(folder, models.SENTIMENT, settings, few, models.SENTIMENT, tmp_path / "t")
        shutil.rmtree(tmp_path / "t", ignore_errors=True)
        learnware = _listed(folder, tmp_path / f"listed-{name}", name)
        with pytest.raises((UnsafeModel, ModelError)):
            open_learnware(learnware).load()
    assert not canary.exists()


def _listed(folder: Path, out: Path, name: str) -> Path:
    """A learnware as an attacker would write it by hand: all hashes are right."""
    shutil.copytree(folder, out)
    files = [
        File(path=p.relative_to(out).as_posix(), size=p.stat().st_size, sha256=sha256_file(p))
        for p in sorted(out.rglob("*"))
        if p.is_file()
    ]
    manifest = Manifest(name="evil/model", format=name, task=models.SENTIMENT.to_dict(), files=tuple(files))
    (out / "learnware.json").write_bytes(manifest.to_bytes())
    return out


def test_the_spec_file_is_read_back(sound: Path) -> None:
    assert read_spec(sound / "learnware" / "specs" / "minilm-l6.spec").n > 0
