"""Bad input at the command line: an exit code, one line that says what, where and what to try, and nothing changed."""

from __future__ import annotations

import errno
import gzip
import json
import os
import random
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import save_file

from learndock.cli.outcome import of_system
from learndock.errors import LearndockError, StorageFull
from learndock.package.manifest import Manifest
from learndock.spec import read_spec
from learndock.spec.file import spec_to_bytes
from tests.support.docking import MEMORY, make_learnware
from tests.support.models import SENTIMENT, payload, texts, write_sklearn
from tests.support.terminal import Ended, executable, finish, learndock, start

NOBODY = 65534


def rows(path: Path, n: int = 16, seed: int = 0, **changes: str) -> Path:
    inputs, targets = texts(n, seed)
    lines = [{"text": t, "label": SENTIMENT.labels[y], **changes} for t, y in zip(inputs, targets, strict=True)]
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return path


@pytest.fixture(autouse=True)
def own_dock(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """No test touches the dock of whoever runs it."""
    folder = tmp_path / "dock"
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("LEARNDOCK_DOCK", str(folder))
    monkeypatch.delenv("LEARNDOCK_DEBUG", raising=False)
    return folder


@pytest.fixture
def data(tmp_path: Path) -> Path:
    return rows(tmp_path / "data.jsonl")


@pytest.fixture
def schema(tmp_path: Path) -> Path:
    path = tmp_path / "schema.json"
    path.write_text(json.dumps(SENTIMENT.to_dict()))
    return path


@pytest.fixture(scope="session")
def tiny_spec(tiny_space: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A task spec in the tiny space."""
    folder = tmp_path_factory.mktemp("tiny-spec")
    out = folder / "tiny.spec"
    done = learndock("spec", "task", rows(folder / "data.jsonl"), "--space", tiny_space.folder, "-o", out)
    assert done.code == 0, done.err
    return out


@pytest.fixture(scope="session")
def tiny_learnware(tiny_space: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A scikit-learn learnware with a spec in the tiny space."""
    pytest.importorskip("skops")
    folder = tmp_path_factory.mktemp("tiny-learnware")
    model, data = write_sklearn(folder / "model"), rows(folder / "data.jsonl", 60)
    done = learndock(
        "pack", model, "--name", "ann/words", "--data", data, "--space", tiny_space.folder, "-o", folder / "lw"
    )
    assert done.code == 0, done.err
    return folder / "lw"


def tree(folder: Path) -> dict[str, bytes | None]:
    """Everything below a folder."""
    return {str(p.relative_to(folder)): p.read_bytes() if p.is_file() else None for p in folder.rglob("*")}


def refused(ended: Ended, code: int, *words: str | Path) -> None:
    """The command ended with ``code`` and one line that holds all ``words``."""
    assert ended.code == code, ended.err
    assert ended.out == ""
    for word in words:
        assert str(word) in ended.complaint


# --- examples ------------------------------------------------------------------------------------------------

HEADER = "text,label\n"
TWO_EACH = "fine day,positive\nvery good,positive\nbad film,negative\npoor food,negative\n"

#: Name of a file, its bytes, whether the schema is passed, exit code, and what the line must say.
EXAMPLES: dict[str, tuple[str, bytes, bool, int, tuple[str, ...]]] = {
    "empty": ("e.csv", b"", False, 3, ("empty",)),
    "header only": ("h.csv", HEADER.encode(), False, 3, ("add rows",)),
    "missing column": ("m.csv", b"sentence,label\na,b\n", False, 3, ('no column "text"', '"sentence"', "--text")),
    "unknown label": (
        "u.csv", f"{HEADER}{TWO_EACH}so so,neutral\n".encode(), True, 3, ("row 5", "neutral", "negative"),
    ),
    "no label": ("n.csv", f"{HEADER}{TWO_EACH}so so,\n".encode(), True, 3, ("row 5", "no label")),
    "one class only": ("o.csv", f"{HEADER}a,positive\nb,positive\n".encode(), False, 3, ("positive", "another class")),
    "one class of two": ("o.csv", f"{HEADER}a,positive\nb,positive\n".encode(), True, 3, ("positive", "another class")),
    "one example of a class": (
        "f.csv", f"{HEADER}a,positive\nb,positive\nc,negative\n".encode(), True, 3,
        ("negative", "1 example", "add more"),
    ),
    "bytes": (
        "b.csv", HEADER.encode() + b"fine,positive\nbad \xff\xfe,negative\n", True, 3,
        ("line 3", "0xff", "save the file as UTF-8"),
    ),
    "a text without end": (
        "l.csv", f"{HEADER}{'x ' * 600_000},positive\n{TWO_EACH}".encode(), True, 3, ("row 1", "1,200,000", "shorten"),
    ),
    "not JSON": ("j.jsonl", b'{"text": "a", "label": "negative"}\n{"text": \n', True, 3, ("row 2", "JSON")),
    "cut off gzip": (
        "g.csv.gz", gzip.compress(f"{HEADER}{TWO_EACH}".encode() * 50)[:-20], True, 3, ("g.csv.gz",),
    ),
    "unknown kind": ("x.xls", b"PK", False, 3, (".xls", ".jsonl")),
}  # fmt: skip


@pytest.mark.parametrize("case", EXAMPLES)
def test_bad_examples(case: str, tmp_path: Path, schema: Path) -> None:
    name, content, with_schema, code, words = EXAMPLES[case]
    path, out = tmp_path / name, tmp_path / "task.spec"
    path.write_bytes(content)
    out.write_bytes(b"the old one")
    before = tree(tmp_path)
    given: list[str | Path] = ["--schema", schema] if with_schema else []
    refused(learndock("spec", "task", path, *given, "-o", out), code, path, *words)
    assert tree(tmp_path) == before


@pytest.mark.parametrize("value", ["nan", "inf", "-Infinity", "1e999"])
def test_a_target_that_is_no_number(value: str, tmp_path: Path) -> None:
    path, schema, out = tmp_path / "r.csv", tmp_path / "r.json", tmp_path / "r.spec"
    path.write_text(f"text,label\na b,1.5\nc d,{value}\ne f,2.5\ng h,0.5\n")
    schema.write_text('{"type": "regression", "labels": ["0", "5"], "descriptions": ["bad", "good"]}')
    choices: list[list[str | Path]] = [[], ["--schema", schema]]
    for given in choices:
        refused(
            learndock("spec", "task", path, *given, "-o", out), 3, path, "row 2", value, "finite", "leave the row out"
        )
    assert not out.exists()


@pytest.mark.parametrize("missing", ["no-such.csv", "no/such/folder.jsonl", "x" * 5000 + ".csv", ""])
def test_data_that_is_not_there(missing: str, tmp_path: Path, data: Path) -> None:
    out = tmp_path / "task.spec"
    refused(learndock("spec", "task", missing, "-o", out), 3)
    assert not out.exists()


def test_a_folder_that_is_no_dataset(tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    refused(
        learndock("spec", "task", tmp_path / "folder", "-o", tmp_path / "s"), 3, tmp_path / "folder", "save_to_disk"
    )


def test_a_very_long_text_is_a_warning(tmp_path: Path, tiny_space: Any) -> None:
    path, out = rows(tmp_path / "long.jsonl"), tmp_path / "long.spec"
    with path.open("a") as more:
        more.write(json.dumps({"text": "good day " * 12_000, "label": "positive"}) + "\n")
    done = learndock("spec", "task", path, "--space", tiny_space.folder, "-o", out)
    assert done.code == 0
    # The other remark is that the tiny vocabulary hardly reads English
    (warning,) = [w for w in done.warnings if str(path) in w]
    assert warning == (
        f"warning: {path}: 1 text (the first in row 17) of more than 20,000 characters; "
        "only the beginning is read by the helper"
    )
    assert out.exists()


def test_conflicting_labels_are_a_warning_with_their_count(tmp_path: Path, tiny_space: Any) -> None:
    path, out = rows(tmp_path / "c.jsonl"), tmp_path / "c.spec"
    first, second = path.read_text().splitlines()[:2]
    with path.open("a") as more:
        more.write(first.replace("negative", "positive") + "\n" + second.replace('"positive"', '"negative"') + "\n")
    done = learndock("spec", "task", path, "--space", tiny_space.folder, "-o", out, "--json")
    assert done.json["n"] == 18
    (warning,) = [w for w in done.warnings if str(path) in w]
    assert "2 texts with conflicting labels (the first in rows 1 and 17)" in warning


# --- schemas, options, places --------------------------------------------------------------------------------

SCHEMAS = {
    "not JSON": ("{", "JSON"),
    "undecodable": ("\udcff", "JSON"),
    "a list": ("[1, 2]", "object"),
    "one label": ('{"labels": ["a"]}', "2 labels"),
    "count": ('{"labels": ["a", "b"], "descriptions": ["x"]}', "2 labels but 1 descriptions"),
    "labels in words": ('{"labels": "ab"}', "list"),
    "label twice": ('{"labels": ["a", "a"]}', "differ"),
    "metric": ('{"labels": ["a", "b"], "metric": "vibes"}', "accuracy"),
    "many": ('{"x": {"labels": ["a", "b"]}, "y": {"labels": ["a", "b"]}}', "#NAME"),
    "deep": ("[" * 100_000, "JSON"),
}


@pytest.mark.parametrize("case", SCHEMAS)
def test_bad_schema(case: str, tmp_path: Path, data: Path) -> None:
    content, word = SCHEMAS[case]
    schema, out = tmp_path / "bad.json", tmp_path / "task.spec"
    schema.write_text(content, encoding="utf-8", errors="surrogateescape")
    refused(learndock("spec", "task", data, "--schema", schema, "-o", out), 4, schema, word)
    assert not out.exists()


def test_schema_that_is_not_there_or_lacks_the_entry(tmp_path: Path, data: Path, schema: Path) -> None:
    out = tmp_path / "task.spec"
    refused(learndock("spec", "task", data, "--schema", tmp_path / "no.json", "-o", out), 4, "no.json", "no such")
    refused(learndock("spec", "task", data, "--schema", f"{schema}#sst2", "-o", out), 4, "sst2")
    assert not out.exists()


USAGE: dict[str, tuple[list[str], str]] = {
    "no such command": (["ad"], "learndock --help"),
    "no such option": (["list", "--jsn"], "--jsn"),
    "missing argument": (["show"], "learndock show --help"),
    "no learnware to add": (["add"], "--from DIR"),
    "missing option": (["pack", "x"], "--name"),
    "top 0": (["identify", "--spec", "x", "--top", "0"], "--top"),
    "top is no number": (["identify", "--spec", "x", "--top", "ten"], "--top"),
    "negative seed": (["spec", "task", "x.csv", "-o", "x", "--seed", "-1"], "--seed"),
    "neither spec nor data": (["identify"], "--spec"),
    "both spec and data": (["identify", "--spec", "a", "--data", "b"], "one of the two"),
    "half a mapping": (["evaluate", "a/b", "x.csv", "--map", "a="], "THEIRS=YOURS"),
    "version that is none": (["show", "a/b@no version"], "not a version"),
}


@pytest.mark.parametrize("case", USAGE)
def test_bad_usage(case: str, own_dock: Path, tmp_path: Path) -> None:
    arguments, word = USAGE[case]
    assert learndock("add", make_learnware(tmp_path / "lw", "ann/one")).code == 0
    before = learndock("list", "--json").out
    refused(learndock(*arguments), 2, word)
    assert learndock("list", "--json").out == before


def test_output_that_cannot_be_there(tmp_path: Path, data: Path, tiny_learnware: Path, tiny_space: Any) -> None:
    missing, folder, file = tmp_path / "no" / "out", tmp_path / "folder", tmp_path / "file"
    folder.mkdir()
    (folder / "mine").write_text("mine")
    file.write_text("mine")
    before = tree(tmp_path)
    for out, word in ((missing, "make it first"), (folder, "is a folder"), (file / "x", "does not exist")):
        refused(learndock("spec", "task", data, "-o", out), 2, out, word)
        refused(learndock("spec", "model", tiny_learnware, "--data", data, "-o", out), 2, out, word)
        refused(learndock("predict", tiny_learnware, data, "-o", out), 2, out, word)
    pack = ("pack", write_sklearn(tmp_path.parent / f"{tmp_path.name}-model"), "--name", "a/b", "--data", data)
    tune = ("finetune", tiny_learnware, data, "--name", "a/b")
    for out in (missing, folder, file):
        refused(learndock(*pack, "--space", tiny_space.folder, "-o", out), 2, out)
        refused(learndock(*tune, "--space", tiny_space.folder, "-o", out), 2, out)
    assert tree(tmp_path) == before


def test_get_into_a_place_that_is_taken(tmp_path: Path) -> None:
    assert learndock("add", make_learnware(tmp_path / "lw", "ann/one")).code == 0
    (tmp_path / "taken").mkdir()
    (tmp_path / "taken" / "mine").write_text("mine")
    (tmp_path / "file").write_text("mine")
    before = tree(tmp_path)
    for out in ("taken", "file", "file/x"):
        refused(learndock("get", "ann/one", "-o", tmp_path / out), 2, tmp_path / out)
    assert tree(tmp_path) == before


@pytest.mark.parametrize("command", ["show", "remove", "verify", "get", "predict", "evaluate"])
def test_ids_that_are_in_no_dock(command: str, tmp_path: Path, data: Path) -> None:
    assert learndock("add", make_learnware(tmp_path / "lw", "ann/one")).code == 0
    before = learndock("list", "--json").out
    out = tmp_path / "out.csv"
    more: dict[str, list[str | Path]] = {"get": ["-o", out], "predict": [data, "-o", out], "evaluate": [data]}
    unknown = ("no/body", "../../etc", "a", "", "a/b/c", "x" * 5000, "a/\x1b[31mb", "ann/öne", "ann/one@000000")
    for which in unknown:
        ended = learndock(command, which, *more.get(command, []))
        refused(ended, 31)
        assert "\x1b" not in ended.err, which
        assert not out.exists(), which
    assert learndock("list", "--json").out == before


def test_names_that_may_not_be(tmp_path: Path, data: Path, tiny_space: Any) -> None:
    model = write_sklearn(tmp_path / "model")
    for name in ("", "plain", "a/../b", "a/b c", "a/" + "x" * 200, "-a/b"):
        ended = learndock(
            *("pack", model, f"--name={name}", "--data", data, "--space", tiny_space.folder, "-o", tmp_path / "out")
        )
        refused(ended, 20, "owner/name")
    assert not (tmp_path / "out").exists()


def test_threads_that_are_no_number(
    tmp_path: Path, data: Path, tiny_space: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LEARNDOCK_THREADS", "two")
    space = shutil.copytree(tiny_space.folder, tmp_path / "space")  # not loaded yet
    refused(learndock("spec", "task", data, "--space", space, "-o", tmp_path / "s"), 2, "LEARNDOCK_THREADS")
    assert not (tmp_path / "s").exists()


def test_unknown_recipe(tmp_path: Path, data: Path) -> None:
    refused(learndock("spec", "task", data, "--recipe", "magic", "-o", tmp_path / "s"), 2, "magic", "one-pass")
    assert not (tmp_path / "s").exists()


# --- spaces --------------------------------------------------------------------------------------------------


def test_unknown_space(tmp_path: Path, data: Path) -> None:
    for name in ("nowhere", str(tmp_path), "../../x", "y" * 3000):
        refused(learndock("spec", "task", data, "--space", name, "-o", tmp_path / "s"), 10, "minilm-l6")
    assert not (tmp_path / "s").exists()


@pytest.mark.parametrize("file", ["gradients.onnx", "model.safetensors", "tokenizer.json"])
def test_a_space_that_was_altered(
    file: str, tmp_path: Path, data: Path, tiny_space: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "data"))  # what is installed is not installed again
    space, out = tmp_path / "tiny", tmp_path / "s"
    shutil.copytree(tiny_space.folder, space)
    content = bytearray((space / file).read_bytes())
    content[len(content) // 2] ^= 1
    (space / file).write_bytes(content)
    refused(learndock("spec", "task", data, "--space", space, "-o", out), 12, file)
    refused(learndock("space", "install", space), 12, file)
    assert not out.exists()


def test_a_space_without_its_weights(tmp_path: Path, data: Path, tiny_space: Any) -> None:
    space = tmp_path / "tiny"
    shutil.copytree(tiny_space.folder, space)
    (space / "model.safetensors").unlink()
    refused(learndock("spec", "task", data, "--space", space, "-o", tmp_path / "s"), 11, "model.safetensors")


def test_a_space_that_is_none(tmp_path: Path) -> None:
    (tmp_path / "space.json").write_text('{"space": 1}')
    refused(learndock("space", "install", tmp_path), 10, "space.json")
    refused(learndock("space", "install", tmp_path / "no"), 10)


# --- specs ---------------------------------------------------------------------------------------------------


def bit_flipped(content: bytes) -> list[bytes]:
    """The content with one bit changed, at places in header and data."""
    draw, found = random.Random(3), []
    for _ in range(60):
        changed = bytearray(content)
        changed[draw.randrange(len(content))] ^= 1 << draw.randrange(8)
        found.append(bytes(changed))
    return found


def test_spec_files_that_are_not_sound(tmp_path: Path, tiny_spec: Path, own_dock: Path) -> None:
    assert learndock("add", make_learnware(tmp_path / "lw", "ann/one")).code == 0
    whole, path = tiny_spec.read_bytes(), tmp_path / "bad.spec"
    foreign = tmp_path / "foreign"
    save_file({"weight": np.zeros(4, np.float32)}, foreign)
    broken = [b"", b"\0" * 100, b"PK\3\4", whole[:7], whole[:200], whole[:-1], whole + b"\0", payload(tmp_path / "ran")]
    for content in [*broken, foreign.read_bytes()]:
        path.write_bytes(content)
        refused(learndock("spec", "show", path), 14, path)
        refused(learndock("spec", "compare", tiny_spec, path), 14, path)
        refused(learndock("identify", "--spec", path), 14, path)
    assert not (tmp_path / "ran").exists()
    refused(learndock("spec", "show", tmp_path / "no.spec"), 14, "no.spec")
    refused(learndock("spec", "show", tmp_path), 14, tmp_path)


def test_a_flipped_bit_in_a_spec_never_ends_in_a_traceback(tmp_path: Path, tiny_spec: Path) -> None:
    path = tmp_path / "bad.spec"
    for content in bit_flipped(tiny_spec.read_bytes()):
        path.write_bytes(content)
        ended = learndock("spec", "show", path)
        # A spec has no checksum of its own: a flipped bit in a number may leave it readable
        assert ended.code in (0, 14), ended.err
        if ended.code:
            refused(ended, 14, path)


@pytest.mark.parametrize("change", ["nan", "inf", "zero", "short"])
def test_vectors_that_cannot_be_true(change: str, tmp_path: Path, tiny_spec: Path) -> None:
    spec = read_spec(tiny_spec)
    path = tmp_path / "bad.spec"
    behaviour = spec.behaviour.copy()
    if change == "short":
        behaviour = behaviour[:-1]
    else:
        behaviour[:] = {"nan": np.nan, "inf": np.inf, "zero": 0.0}[change]
    raw = object.__new__(type(spec))  # the class itself refuses such parts
    for name, value in {**vars(spec), "behaviour": behaviour}.items():
        object.__setattr__(raw, name, value)
    path.write_bytes(spec_to_bytes(raw))
    refused(learndock("spec", "show", path), 14, path, "behaviour")


def test_a_spec_of_another_space(
    tmp_path: Path, tiny_spec: Path, minilm: Any, data: Path, tiny_learnware: Path
) -> None:
    other = tmp_path / "minilm.spec"
    assert learndock("spec", "task", data, "-o", other).code == 0
    refused(learndock("spec", "compare", tiny_spec, other), 13, "tiny", "minilm-l6")
    assert learndock("add", tiny_learnware).code == 0
    refused(learndock("identify", "--spec", other), 13, "minilm-l6", "tiny")
    assert learndock("identify", "--spec", tiny_spec, "--json").json["searched"] == 1


def test_a_model_spec_identifies_nothing(tiny_learnware: Path) -> None:
    assert learndock("add", tiny_learnware).code == 0
    spec = tiny_learnware / "specs" / "tiny.spec"
    refused(learndock("identify", "--spec", spec), 2, "task spec")


# --- models and learnwares -----------------------------------------------------------------------------------


def test_models_that_are_not_sound(tmp_path: Path, data: Path, tiny_space: Any) -> None:
    whole = make_learnware(tmp_path / "lw", "a/b") / "model.safetensors"
    good = whole.read_bytes()
    header = bytearray(good)
    header[12] ^= 0x10
    spec = (tmp_path / "lw" / "specs" / "tiny.spec").read_bytes()
    for content in (good[:100], good[:-1], bytes(header), spec, b"", payload(tmp_path / "ran")):
        model = tmp_path / "model"
        shutil.rmtree(model, ignore_errors=True)
        model.mkdir()
        for name in ("config.json", "tokenizer.json"):
            shutil.copy(tmp_path / "lw" / name, model / name)
        (model / "model.safetensors").write_bytes(content)
        ended = learndock(
            *("pack", model, "--name", "a/b", "--data", data, "--space", tiny_space.folder, "-o", tmp_path / "out")
        )
        assert ended.code in (20, 21, 22), ended.err
        refused(ended, ended.code)
        assert not (tmp_path / "out").exists()
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize("name", ["model.pkl", "pytorch_model.bin", "model.pt", "modeling.py"])
def test_models_that_could_run_code(name: str, tmp_path: Path, data: Path) -> None:
    model = write_sklearn(tmp_path / "model")
    (model / name).write_bytes(payload(tmp_path / "ran"))
    refused(learndock("pack", model, "--name", "a/b", "--data", data, "-o", tmp_path / "out"), 21, name)
    assert not (tmp_path / "out").exists()
    assert not (tmp_path / "ran").exists()


def test_learnwares_that_were_altered(tmp_path: Path, data: Path, own_dock: Path) -> None:
    good = make_learnware(tmp_path / "good", "ann/one")
    assert learndock("add", good).code == 0
    before = learndock("list", "--json").out

    def changed(change: Callable[[Path], object]) -> Path:
        shutil.rmtree(tmp_path / "bad", ignore_errors=True)
        shutil.copytree(good, tmp_path / "bad")
        change(tmp_path / "bad")
        return tmp_path / "bad"

    def flip(folder: Path) -> None:
        content = bytearray((folder / "model.safetensors").read_bytes())
        content[-1] ^= 1
        (folder / "model.safetensors").write_bytes(content)

    def without_specs(folder: Path) -> None:
        shutil.rmtree(folder / "specs")
        manifest = Manifest.from_folder(folder)
        files = tuple(f for f in manifest.files if not f.path.startswith("specs/"))
        changed = manifest.model_copy(update={"specs": (), "files": files})
        (folder / "learnware.json").write_bytes(changed.to_bytes())

    cases: dict[str, tuple[Callable[[Path], object], int, str]] = {
        "extra": (lambda f: (f / "notes.txt").write_text("x"), 20, "notes.txt"),
        "missing": (lambda f: (f / "config.json").unlink(), 20, "config.json"),
        "flipped": (flip, 20, "model.safetensors"),
        "longer": (lambda f: (f / "config.json").write_text("{}   "), 20, "config.json"),
        "manifest": (lambda f: (f / "learnware.json").write_text("{"), 22, "learnware.json"),
        "no manifest": (lambda f: (f / "learnware.json").unlink(), 20, "learndock pack"),
        "code": (lambda f: (f / "run.py").write_text("x = 1"), 21, "run.py"),
        "link": (lambda f: (f / "link").symlink_to("/etc/passwd"), 21, "link"),
        "no spec": (without_specs, 20, "no specification"),
    }
    for case, (change, code, word) in cases.items():
        ended = learndock("add", changed(change))
        assert ended.code == code, f"{case}: {ended.err}"
        refused(ended, code, word)
        if case != "no spec":  # that one runs, though no search could find it
            out = tmp_path / "out.csv"
            assert learndock("predict", tmp_path / "bad", data, "-o", out).code in (20, 21, 22, 33), case
            assert not out.exists()
    refused(learndock("add", tmp_path / "nowhere"), 20, "nowhere")
    refused(learndock("add", data), 20, data)
    assert learndock("list", "--json").out == before
    assert learndock("verify").out == "sound\n"


def test_a_folder_is_not_taken_for_an_id(tmp_path: Path, data: Path) -> None:
    (tmp_path / "folder").mkdir()
    refused(learndock("evaluate", tmp_path / "folder", data), 20, "no learnware.json", "learndock pack")


# --- docks ---------------------------------------------------------------------------------------------------


def test_reading_makes_no_dock(own_dock: Path, tiny_spec: Path, tmp_path: Path) -> None:
    for command in (["list"], ["show", "a/b"], ["verify"], ["rebuild"], ["gc"], ["identify", "--spec", tiny_spec]):
        refused(learndock(*command), 31, own_dock, "learndock add")
    assert not own_dock.exists()


def test_places_that_are_no_dock(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    learnware = make_learnware(tmp_path / "lw", "ann/one")
    (tmp_path / "file").write_text("mine")
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "one.jpg").write_text("mine")
    before = tree(tmp_path)
    for place in ("file", "photos", "file/below"):
        refused(learndock("add", learnware, "--dock", tmp_path / place), 30, place)
        ended = learndock("list", "--dock", tmp_path / place)
        assert ended.code in (30, 31), ended.err
        refused(ended, ended.code, place)
    assert tree(tmp_path) == before


def test_other_content_under_a_name(tmp_path: Path) -> None:
    one, other = make_learnware(tmp_path / "one", "ann/one"), make_learnware(tmp_path / "other", "ann/one", seed=1)
    assert learndock("add", one).code == 0
    before = learndock("list", "--json").out
    assert "v2" in learndock("add", other).out
    refused(learndock("add", make_learnware(tmp_path / "third", "ann/one", seed=2), "--after", "v1"), 32, "v2")
    assert learndock("remove", "ann/one@v2").code == 0
    assert json.loads(learndock("list", "--json").out) == json.loads(before)
    assert learndock("remove", "ann/one").code == 0
    assert "v3" in learndock("add", make_learnware(tmp_path / "fourth", "ann/one", seed=3)).out, "numbers go on"


def test_damaged_database(tmp_path: Path, own_dock: Path) -> None:
    assert learndock("add", make_learnware(tmp_path / "lw", "ann/one")).code == 0
    before = learndock("list", "--json").out
    (own_dock / "records.sqlite").resolve().write_bytes(b"no database" * 1000)
    refused(learndock("list"), 33, "learndock rebuild")
    assert learndock("rebuild").code == 0
    assert learndock("list", "--json").out == before


# --- permissions ---------------------------------------------------------------------------------------------


@pytest.fixture
def commoner() -> Iterator[Path]:
    """A folder, and a user who is not root, whom permissions bind."""
    root = os.geteuid() == 0
    with tempfile.TemporaryDirectory(dir=MEMORY) as name:
        folder = Path(name)
        folder.chmod(0o777)
        if root:
            os.seteuid(NOBODY)
        try:
            yield folder
        finally:
            if root:
                os.seteuid(0)


def test_what_may_not_be_read_or_written(tiny_learnware: Path, tmp_path: Path, commoner: Path) -> None:
    secret, closed = rows(commoner / "secret.jsonl"), commoner / "closed"
    data = rows(commoner / "data.jsonl")
    secret.chmod(0)
    closed.mkdir(mode=0o555)
    out = commoner / "out.spec"
    refused(learndock("spec", "task", secret, "-o", out), 3, secret)
    refused(learndock("spec", "task", data, "--schema", secret, "-o", out), 4, secret)
    refused(learndock("spec", "show", secret), 14, secret)
    refused(learndock("spec", "task", data, "-o", closed / "out"), 2, closed, "may not be written")
    assert not out.exists()
    assert not any(closed.iterdir())


def test_a_dock_that_may_not_be_written(commoner: Path) -> None:
    dock, one, two = commoner / "dock", make_learnware(commoner / "1", "a/1"), make_learnware(commoner / "2", "a/2")
    assert learndock("add", one, "--dock", dock).code == 0
    before = learndock("list", "--json", "--dock", dock).out
    folders = [dock, *(p for p in dock.rglob("*") if p.is_dir())]
    files = [p for p in dock.rglob("*") if p.is_file() and not p.is_symlink()]
    for path in (*files, *reversed(folders)):
        path.chmod(0o444 if path.is_file() else 0o555)
    try:
        refused(learndock("add", two, "--dock", dock), 30, dock)
        assert learndock("list", "--json", "--dock", dock).out == before
    finally:
        for path in folders:
            path.chmod(0o755)


# --- a full disk ---------------------------------------------------------------------------------------------


@pytest.fixture(params=["disk", "limit"])
def room(
    request: pytest.FixtureRequest, tmp_path: Path
) -> Iterator[tuple[Path, Callable[[], None], Callable[[], None]]]:
    """A folder, how to fill its disk to the brim, and how to make room again."""
    if request.param == "limit":
        soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
        folder = tmp_path / "room"
        folder.mkdir()
        yield (
            folder,
            lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (600, hard)),
            lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard)),
        )
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        return
    folder = tmp_path / "mount"
    folder.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=1m", "none", folder], check=False, capture_output=True
    )
    if mounted.returncode:
        pytest.skip("cannot mount a small file system here; it takes root")

    def fill() -> None:
        try:
            with (folder / "filler").open("wb", buffering=0) as filler:
                while filler.write(b"\0" * 4096):
                    pass
        except OSError as error:
            if error.errno != errno.ENOSPC:
                raise

    yield folder, fill, lambda: (folder / "filler").unlink()
    subprocess.run(["umount", folder], check=True)


def names(folder: Path) -> set[str]:
    return {str(p.relative_to(folder)) for p in folder.rglob("*")} - {"filler"}


def test_disk_full_for_what_is_written(
    room: tuple[Path, Callable[[], None], Callable[[], None]],
    data: Path,
    tmp_path: Path,
    tiny_learnware: Path,
    tiny_space: Any,
) -> None:
    folder, fill, empty = room
    model, space = write_sklearn(tmp_path / "model"), ("--space", tiny_space.folder)
    assert learndock("add", tiny_learnware, "--dock", tmp_path / "dock").code == 0
    commands: dict[str, list[Any]] = {
        "s.spec": ["spec", "task", data, *space],
        "m.spec": ["spec", "model", tiny_learnware, "--data", data, *space],
        "p.jsonl": ["predict", tiny_learnware, data],
        "packed": ["pack", model, "--name", "a/b", "--data", data, *space],
        "got": ["get", "ann/words"],
        "tuned": ["finetune", tiny_learnware, data, "--name", "a/c", *space],
    }
    (folder / "s.spec").write_bytes(b"the old one")
    before = names(folder)
    for name, command in commands.items():
        fill()
        ended = learndock(*command, "-o", folder / name)
        empty()
        refused(ended, 34, name, "room")
        assert names(folder) == before, name
    assert (folder / "s.spec").read_bytes() == b"the old one"
    for name, command in commands.items():
        assert learndock(*command, "-o", folder / name).code == 0


def test_disk_full_for_a_dock(room: tuple[Path, Callable[[], None], Callable[[], None]], tmp_path: Path) -> None:
    folder, fill, empty = room
    one, two = make_learnware(tmp_path / "1", "ann/one"), make_learnware(tmp_path / "2", "ann/two", numbers=5_000)
    dock = folder / "dock"
    assert learndock("add", one, "--dock", dock).code == 0
    before = learndock("list", "--json", "--dock", dock).out
    fill()
    ended = learndock("add", two, "--dock", dock)
    during = learndock("list", "--json", "--dock", dock)
    founding = learndock("add", one, "--dock", folder / "second")
    empty()
    refused(ended, 34, "room")
    refused(founding, 34)
    assert during.out == before
    assert learndock("list", "--json", "--dock", dock).out == before
    assert learndock("verify", "--dock", dock).out == "sound\n"
    assert learndock("add", two, "--dock", dock).code == 0
    assert learndock("add", one, "--dock", folder / "second").code == 0


def test_standard_output_on_a_full_disk(tmp_path: Path, tiny_spec: Path) -> None:
    if not os.path.exists("/dev/full"):  # noqa: PTH110
        pytest.skip("no /dev/full here")
    with Path("/dev/full").open("w") as full:
        ended = finish(start("spec", "show", tiny_spec, stdout=full))
    assert ended.code == 34
    assert "No space left" in ended.complaint


# --- interruptions -------------------------------------------------------------------------------------------


def sound(dock: Path) -> list[str]:
    """Names in a dock that is in order."""
    if not dock.exists():
        return []
    listed = learndock("list", "--json", "--dock", dock)
    if listed.code == 31:  # killed before the dock was founded
        return []
    checked = learndock("verify", "--json", "--dock", dock).json
    assert checked["sound"], checked
    return [r["name"] for r in listed.json["learnwares"]]


def test_killed_while_adding(own_dock: Path) -> None:
    draw = random.Random(8)
    with tempfile.TemporaryDirectory(dir=MEMORY) as name:
        place = Path(name)
        dock, there, landed = place / "dock", 0, 0
        for number in range(8):
            folder = make_learnware(place / str(number), f"ann/n{number}", numbers=2_000_000)
            process = start("add", folder, "--dock", dock)
            deadline = time.monotonic() + 30
            while process.poll() is None and not any(dock.glob("adding-*")):
                assert time.monotonic() < deadline
                time.sleep(0.001)
            time.sleep(draw.uniform(0, 0.06) if number % 2 else 0)
            process.kill()
            code = finish(process).code
            landed += code == -signal.SIGKILL
            found = sound(dock)
            assert len(found) >= there + (code == 0)
            there = len(found)
        assert landed >= 1
        for number in range(8):
            assert learndock("add", place / str(number), "--dock", dock).code == 0
        assert set(sound(dock)) == {f"ann/n{number}" for number in range(8)}
        learndock("gc", "--dock", dock)
        assert learndock("verify", "--json", "--dock", dock).json == {"sound": True, "problems": []}


def test_two_add_at_once(own_dock: Path, tmp_path: Path) -> None:
    one, two = make_learnware(tmp_path / "1", "ann/one"), make_learnware(tmp_path / "2", "ann/two")
    rivals = [make_learnware(tmp_path / f"rival {i}", "ann/one", seed=9 + i) for i in range(2)]
    ended = [finish(p) for p in [start("add", folder) for folder in (one, two, two)]]
    assert [e.code for e in ended] == [0, 0, 0]
    ended = [finish(p) for p in [start("add", folder, "--after", "v1") for folder in rivals]]
    assert sorted(e.code for e in ended) == [0, 32], "one of the two is the next version"
    assert sorted(sound(own_dock)) == ["ann/one", "ann/two"]


def test_control_c_in_the_middle(tmp_path: Path, minilm: Any) -> None:
    data, out = rows(tmp_path / "many.jsonl", 6_000), tmp_path / "task.spec"
    out.write_bytes(b"the old one")
    before = tree(tmp_path)
    # What runs in a shell's background is started deaf to it
    process = start("spec", "task", data, "-o", out, preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL))
    maps, deadline = Path(f"/proc/{process.pid}/maps"), time.monotonic() + 60
    while process.poll() is None and maps.exists() and "onnxruntime" not in maps.read_text():
        assert time.monotonic() < deadline
        time.sleep(0.02)
    time.sleep(1)
    process.send_signal(signal.SIGINT)
    ended = finish(process)
    refused(ended, 130, "stopped")
    assert tree(tmp_path) == before


def test_a_reader_who_has_gone(tmp_path: Path, own_dock: Path) -> None:
    assert learndock("add", make_learnware(tmp_path / "lw", "ann/one")).code == 0
    for command in (["list"], ["list", "--json"], ["spaces"], ["--help"]):
        process = start(*command)
        assert process.stdout is not None
        process.stdout.close()
        process.stdout = None
        ended = finish(process)
        assert ended.err == ""
        assert ended.code == 141


# --- the edge itself -----------------------------------------------------------------------------------------


def test_what_the_system_says_names_the_file_and_a_remedy() -> None:
    for number, remedy in ((errno.ENOENT, "make its folder"), (errno.EACCES, "permissions"), (errno.EROFS, "written")):
        said = str(of_system(OSError(number, os.strerror(number), "some/file")))
        assert said.startswith("some/file: ")
        assert remedy in said
    assert isinstance(of_system(OSError(errno.ENOSPC, "full", "x")), StorageFull)
    assert type(of_system(OSError(errno.EIO, "input/output error", b"x\xff"))) is LearndockError


def test_a_bug_is_one_line_and_the_traceback_is_there_on_demand(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, data: Path
) -> None:
    def broken(*_: Any, **__: Any) -> None:
        raise ValueError("two\nlines")

    monkeypatch.setattr("learndock.data.read_examples", broken)
    refused(
        learndock("spec", "task", data, "-o", tmp_path / "s"), 70, "bug in learndock", "LEARNDOCK_DEBUG=1", "two lines"
    )
    monkeypatch.setenv("LEARNDOCK_DEBUG", "1")
    with pytest.raises(ValueError, match="two"):
        learndock("spec", "task", data, "-o", tmp_path / "s")


def test_a_file_name_that_is_no_text(tmp_path: Path) -> None:
    name = os.fsencode(tmp_path) + b"/\xff\n\x1b.csv"
    with open(name, "wb"):  # noqa: PTH123
        pass
    done = subprocess.run([executable(), "spec", "task", name, "-o", tmp_path / "s"], capture_output=True, check=False)
    assert done.returncode == 3
    assert done.stderr.count(b"\n") == 1
    assert b"\x1b" not in done.stderr


def test_python_m_and_the_environment(tmp_path: Path) -> None:
    code = "import sys; from learndock.cli import main; sys.argv = ['learndock', 'show', 'x/y']; main()"
    env = {**os.environ, "LEARNDOCK_DOCK": str(tmp_path / "nowhere")}
    done = subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, text=True, check=False)
    assert done.returncode == 31
    assert str(tmp_path / "nowhere") in done.stderr
