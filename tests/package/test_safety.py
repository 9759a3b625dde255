"""Which files pass, which are refused and with which words; and that no payload ever runs."""

from __future__ import annotations

import contextlib
import io
import json
import os
import pickle
import random
import shutil
import struct
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors.numpy import save_file

from learndock.errors import LearndockError, ModelError, PackageError, UnsafeModel
from learndock.package import skops_file
from learndock.package.onnx_file import read_onnx
from learndock.package.safety import REFUSED_KEYS, check_files
from learndock.package.skops_file import check_skops
from tests.support import models
from tests.support.soak import examples


@pytest.fixture(scope="module")
def sound(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("sound")
    models.write_onnx(place / "onnx")
    models.write_sklearn(place / "sk")
    return place


@pytest.fixture
def folder(sound: Path, tmp_path: Path) -> Path:
    """A sound model folder (ONNX) to put something bad into."""
    return Path(shutil.copytree(sound / "onnx", tmp_path / "model"))


def refused(folder: Path, *words: str, error: type[LearndockError] = UnsafeModel) -> str:
    with pytest.raises(error) as caught:
        check_files(folder)
    assert type(caught.value) is error
    for word in words:
        assert word in str(caught.value)
    return str(caught.value)


# --- what passes -------------------------------------------------------------------------------------------


def test_sound_folders_pass_and_files_are_listed(folder: Path, tmp_path: Path) -> None:
    (folder / "README.md").write_text("# A model\n")
    (folder / "LICENSE").write_text("Apache-2.0\n")
    (folder / "vocab.txt").write_text("cat\nc\nd\n.\n")
    (folder / "plot.png").write_bytes(b"\x89PNG\r\n\x1a\n" + b"\x00" * 8)
    (folder / "specs").mkdir()
    save_file({"domain": np.ones(4, dtype=np.float16)}, folder / "specs" / "minilm-l6.spec")
    assert [p.as_posix() for p in check_files(folder)] == [
        "LICENSE", "README.md", "config.json", "model.onnx", "plot.png", "specs/minilm-l6.spec",
        "tokenizer.json", "tokenizer_config.json", "vocab.txt",
    ]  # fmt: skip
    assert check_files(models.write_sklearn(tmp_path / "sk")) == [Path("model.skops")]
    assert Path("model.safetensors") in check_files(models.write_bert(tmp_path / "bert"))


def test_words_of_a_vocabulary_are_not_settings(folder: Path) -> None:
    (folder / "vocab.json").write_text(json.dumps({"auto_map": 1, "chat_template": 2}))
    check_files(folder)


def test_empty_or_missing_folder(tmp_path: Path) -> None:
    refused(tmp_path, "no file in here", error=PackageError)
    refused(tmp_path / "none", "no such folder", error=PackageError)


# --- pickles and other code, by content and by name --------------------------------------------------------

NAMES = [
    "pytorch_model.bin", "model.pt", "model.pth", "model.pkl", "model.joblib", "model.ckpt",
    "training_args.bin", "model.safetensors", "model.onnx", "model.skops", "config.json", "tokenizer.json",
    "README.md", "vocab.txt", "LICENSE", "weights", "model.data", "model.onnx.data", "logo.png", "x.spec",
    "adapter_model.safetensors",
]  # fmt: skip


def test_the_payload_is_live(tmp_path: Path) -> None:
    """Otherwise the tests with the canary could not fail."""
    pickle.loads(models.payload(tmp_path / "canary"))
    assert (tmp_path / "canary").is_dir()
    np.load(io.BytesIO(models.object_array(tmp_path / "other")), allow_pickle=True)
    assert (tmp_path / "other").is_dir()


@pytest.mark.parametrize("protocol", [0, 2, 4])
@pytest.mark.parametrize("name", NAMES)
def test_a_pickle_is_refused_under_any_name(name: str, protocol: int, folder: Path, tmp_path: Path) -> None:
    canary = tmp_path / "canary"
    (folder / name).write_bytes(models.payload(canary, protocol))
    with pytest.raises((UnsafeModel, ModelError)) as caught:
        check_files(folder)
    assert name in str(caught.value)
    assert not canary.exists()


@pytest.mark.parametrize("name", ["model.safetensors", "weights", "tokenizer.json", "README.md", "x.onnx"])
def test_a_disguised_pickle_is_called_one(name: str, folder: Path, tmp_path: Path) -> None:
    (folder / name).write_bytes(models.payload(tmp_path / "canary"))
    refused(folder, name, "pickle", "save_pretrained")


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("pytorch_model.bin", "safe_serialization=True"),
        ("model.joblib", "skops.io.dump"),
        ("modeling_mine.py", "code"),
        ("run.sh", "code"),
        ("lib.so", "compiled"),
        ("model.h5", "ONNX"),
        ("x.npy", "safetensors"),
        ("spiece.model", "tokenizer.json"),
        ("chat_template.jinja", "template"),
        ("chat_template.json", "template"),
        ("data.zip", "unpack"),
        ("config.yaml", "JSON"),
        ("model.xyz", "not a kind of file"),
    ],
)
def test_refused_names_say_what_to_do(name: str, words: str, folder: Path) -> None:
    (folder / name).write_text("{}")
    refused(folder, name, words)


def test_files_below_are_checked_too(folder: Path) -> None:
    (folder / "sub" / "deep").mkdir(parents=True)
    (folder / "sub" / "deep" / "x.pt").write_bytes(b"x")
    refused(folder, "sub/deep/x.pt", "pickle")


def test_a_zip_as_torch_saves_it(folder: Path, tmp_path: Path) -> None:
    with zipfile.ZipFile(folder / "weights", "w") as archive:
        archive.writestr("archive/data.pkl", models.payload(tmp_path / "canary"))
    refused(folder, "weights", "torch.save")


# --- links and odd entries ---------------------------------------------------------------------------------


def test_links_pipes_and_hidden_files(folder: Path) -> None:
    (folder / "link.json").symlink_to("/etc/hostname")
    refused(folder, "link.json", "symbolic link")
    (folder / "link.json").unlink()
    (folder / "elsewhere").symlink_to("/tmp", target_is_directory=True)
    refused(folder, "elsewhere", "symbolic link")
    (folder / "elsewhere").unlink()
    os.mkfifo(folder / "pipe.json")
    refused(folder, "pipe.json", "not a regular file")
    (folder / "pipe.json").unlink()
    (folder / ".hidden").write_text("x")
    refused(folder, ".hidden", "hidden")
    (folder / ".hidden").unlink()
    (folder / "a\nb.json").write_text("{}")
    refused(folder, "not a plain file path")


def test_too_many_files(folder: Path) -> None:
    for i in range(1_001):
        (folder / f"f{i}.txt").touch()
    refused(folder, "more than 1000 files", error=PackageError)


# --- JSON --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("key", sorted(REFUSED_KEYS))
def test_settings_that_name_code(key: str, folder: Path) -> None:
    value = {"AutoModel": "modeling.X"} if key.startswith("auto") else True
    (folder / "config.json").write_text(json.dumps({"nested": [{key: value}]}))
    refused(folder, "config.json", key)
    (folder / "config.json").write_text(json.dumps({key: None}))
    check_files(folder)


def test_a_kernel_from_a_hub(folder: Path) -> None:
    (folder / "config.json").write_text(json.dumps({"_attn_implementation": "someone/kernel"}))
    refused(folder, "config.json", "_attn_implementation")
    (folder / "config.json").write_text(json.dumps({"_attn_implementation": "sdpa"}))
    check_files(folder)


@pytest.mark.parametrize(
    ("source", "words"),
    [
        (b'{"a": 1, "a": 2}', "duplicate key"),
        (b'{"a": NaN}', "NaN"),
        (b'{"a": Infinity}', "Infinity"),
        (b"{", "not sound JSON"),
        (b"\xff\xfe", "not sound JSON"),
        (b"[" * 200_000, "nested too deeply"),
        (b'"' + b"a" * (1 << 20) + b'"', "larger than the 1 MiB"),
    ],
)
def test_unsound_json(source: bytes, words: str, folder: Path) -> None:
    (folder / "config.json").write_bytes(source)
    refused(folder, "config.json", words, error=ModelError)


def test_a_tokenizer_may_be_larger(folder: Path) -> None:
    tokenizer = json.loads((folder / "tokenizer.json").read_text())
    tokenizer["padding_of_this_test"] = "a" * (2 << 20)
    (folder / "tokenizer.json").write_text(json.dumps(tokenizer))
    check_files(folder)


def test_text_that_is_none(folder: Path) -> None:
    (folder / "notes.txt").write_bytes(b"\xff\xfe\x00a")
    refused(folder, "notes.txt", "UTF-8")
    (folder / "notes.txt").write_bytes(b"a\x00b")
    refused(folder, "notes.txt", "zero bytes")


def test_an_image_that_is_none(folder: Path) -> None:
    (folder / "plot.png").write_text("<svg/>")
    refused(folder, "plot.png", "not the image")


# --- safetensors -------------------------------------------------------------------------------------------


def _safetensors(path: Path) -> bytes:
    save_file({"a": np.arange(8, dtype=np.float32), "b": np.ones((2, 2), dtype=np.float32)}, path)
    return path.read_bytes()


@pytest.mark.parametrize("cut", [0, 5, 9, 40, -1])
def test_truncated_safetensors(cut: int, folder: Path) -> None:
    path = folder / "model.safetensors"
    path.write_bytes(_safetensors(path)[:cut])
    refused(folder, "model.safetensors", "not a sound safetensors file", "copy it again", error=ModelError)


def test_foreign_safetensors(folder: Path) -> None:
    (folder / "model.safetensors").write_bytes(b"GGUF" + os.urandom(64))
    refused(folder, "model.safetensors", error=ModelError)


def test_flipped_bits_in_a_safetensors_header(folder: Path) -> None:
    """Each bit of the header's length, on which all else stands."""
    path = folder / "model.safetensors"
    source = _safetensors(path)
    for bit in range(64):
        broken = bytearray(source)
        broken[bit // 8] ^= 1 << (bit % 8)
        path.write_bytes(bytes(broken))
        with pytest.raises(ModelError, match=r"model\.safetensors"):
            check_files(folder)


def test_a_sharded_model(folder: Path) -> None:
    _safetensors(folder / "model-00001-of-00001.safetensors")
    index = folder / "model.safetensors.index.json"
    shard = "model-00001-of-00001.safetensors"
    index.write_text(json.dumps({"weight_map": {"a": shard, "b": shard}}))
    check_files(folder)
    index.write_text(json.dumps({"weight_map": {"a": shard, "c": shard}}))
    refused(folder, shard, "no tensor c", error=ModelError)
    index.write_text(json.dumps({"weight_map": {"a": "../secret.safetensors"}}))
    refused(folder, "../secret.safetensors")
    index.write_text(json.dumps({"weight_map": {"a": "gone.safetensors"}}))
    refused(folder, "gone.safetensors", error=ModelError)


# --- skops -------------------------------------------------------------------------------------------------


def _rewrite(path: Path, change: dict[str, bytes], *, extra: list[tuple[str, bytes]] = ()) -> None:  # type: ignore[assignment]
    """Write a skops file again with other members."""
    with zipfile.ZipFile(path) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    members.update(change)
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in [*members.items(), *extra]:
            archive.writestr(name, content)


@pytest.fixture
def skops(sound: Path, tmp_path: Path) -> Path:
    (tmp_path / "sk").mkdir()
    return Path(shutil.copy(sound / "sk" / "model.skops", tmp_path / "sk" / "model.skops"))


def test_an_object_array_in_a_skops_file(skops: Path, tmp_path: Path) -> None:
    with zipfile.ZipFile(skops) as archive:
        array = next(n for n in archive.namelist() if n.endswith(".npy"))
    canary = tmp_path / "canary"
    _rewrite(skops, {array: models.object_array(canary)})
    refused(skops.parent, "model.skops", array, "pickle")
    assert not canary.exists()


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda a: a[:-1], "does not fill"),
        (lambda a: a.replace(b"<f8", b"<c8"), "not an array of numbers"),
        (lambda a: a.replace(b"'shape': (", b"'shape': (("), "not an array of numbers"),
        (lambda a: b"\x93NUMPY\x09\x00" + a[8:], "NumPy's format"),
        (lambda a: b"", "NumPy's format"),
    ],
)
def test_damaged_arrays_in_a_skops_file(change: Callable[[bytes], bytes], words: str, skops: Path) -> None:
    with zipfile.ZipFile(skops) as archive:
        name, array = next((n, a) for n in archive.namelist() if b"<f8" in (a := archive.read(n))[:100])
    _rewrite(skops, {name: change(array)})
    refused(skops.parent, "model.skops", name, words, error=ModelError)


def test_letters_that_do_not_exist(skops: Path) -> None:
    """NumPy hands such text on, and Python ends in a system error over it."""
    with zipfile.ZipFile(skops) as archive:
        name, array = next((n, a) for n in archive.namelist() if b"<U" in (a := archive.read(n))[:100])
    _rewrite(skops, {name: array[:-4] + b"\xff\xff\xff\x7f"})
    refused(skops.parent, name, "letters", error=ModelError)


@pytest.mark.filterwarnings("ignore:Duplicate name")
@pytest.mark.parametrize(
    ("extra", "words"),
    [
        ([("schema.json", b"{}")], "same name"),
        ([("../../evil.npy", b"x")], "evil.npy"),
        ([("payload.pkl", b"x")], "payload.pkl"),
        ([("1.npz", b"x")], "sparse matrix"),
        ([(f"{i}0.npy", b"x") for i in range(100_001)], "members, at most 100,000 are allowed; make the numbers"),
        ([("77.npy", b"\x00" * (64 << 20))], "unpacks to"),
    ],
)
def test_odd_members_of_a_skops_file(extra: list[tuple[str, bytes]], words: str, skops: Path) -> None:
    _rewrite(skops, {}, extra=extra)
    refused(skops.parent, "model.skops", words)


@pytest.mark.parametrize(
    ("module", "name", "loader"),
    [
        ("os", "system", "FunctionNode"),
        ("builtins", "eval", "TypeNode"),
        ("operator", "methodcaller", "OperatorFuncNode"),
        ("functools", "partial", "PartialNode"),
        ("sklearn.preprocessing._function_transformer", "FunctionTransformer", "ObjectNode"),
        ("sklearn.tree._tree", "Tree", "TreeNode"),
        ("mine", "Model", "ObjectNode"),
        ("builtins", "dict", "NoSuchNode"),
    ],
)
def test_types_that_are_not_listed(module: str, name: str, loader: str, skops: Path) -> None:
    with zipfile.ZipFile(skops) as archive:
        tree = json.loads(archive.read("schema.json"))
    tree["content"]["content"]["verbose"] = {"__class__": name, "__module__": module, "__loader__": loader}
    _rewrite(skops, {"schema.json": json.dumps(tree).encode()})
    refused(skops.parent, "model.skops", f"{module}.{name}", "ONNX")


@pytest.mark.parametrize("protocol", [0, 3, True, None, "2"])
def test_an_unknown_skops_protocol(protocol: object, skops: Path) -> None:
    with zipfile.ZipFile(skops) as archive:
        tree = json.loads(archive.read("schema.json"))
    tree["protocol"] = protocol
    _rewrite(skops, {"schema.json": json.dumps(tree).encode()})
    refused(skops.parent, "model.skops", "protocol")


def test_a_forest_is_refused_with_another_way(tmp_path: Path) -> None:
    from sklearn.ensemble import RandomForestClassifier

    forest = models.fitted_pipeline(RandomForestClassifier(2))
    models.write_sklearn(tmp_path / "m", forest)
    refused(tmp_path / "m", "RandomForestClassifier", "linear models")


# --- ONNX --------------------------------------------------------------------------------------------------


def test_weights_beside_the_graph(tmp_path: Path) -> None:
    folder = models.write_onnx(tmp_path / "m", external="model.onnx.data")
    assert Path("model.onnx.data") in check_files(folder)
    (folder / "model.onnx.data").write_bytes(b"short")
    refused(folder, "model.onnx.data", "too short", error=ModelError)
    (folder / "model.onnx.data").unlink()
    refused(folder, "model.onnx.data", "missing", error=ModelError)


@pytest.mark.parametrize("place", ["../outside.data", "/etc/hostname", "sub/x.data", "weights.bin", "..data"])
def test_weights_elsewhere(place: str, tmp_path: Path) -> None:
    folder = models.write_onnx(tmp_path / "m", external=place)
    for path in folder.iterdir():
        if path.suffix not in (".onnx", ".json"):
            path.unlink()
    refused(folder, "model.onnx", place)


def test_operators_from_elsewhere(tmp_path: Path) -> None:
    refused(models.write_onnx(tmp_path / "a", domain="evil.ops", operator="Run"), "model.onnx", "evil.ops")
    ep = models.write_onnx(tmp_path / "b", domain="com.microsoft", operator="EPContext")
    refused(ep, "model.onnx", "EPContext")


def test_an_operator_inside_a_branch_is_seen(tmp_path: Path) -> None:
    from onnx import TensorProto, helper

    info = helper.make_tensor_value_info("y", TensorProto.FLOAT, [1])
    inner = helper.make_graph([helper.make_node("Run", [], ["y"], domain="evil")], "inner", [], [info])
    condition = helper.make_tensor_value_info("c", TensorProto.BOOL, [])
    outer = helper.make_graph(
        [helper.make_node("If", ["c"], ["y"], then_branch=inner, else_branch=inner)], "g", [condition], [info]
    )
    path = tmp_path / "model.onnx"
    path.write_bytes(helper.make_model(outer).SerializeToString())
    with pytest.raises(UnsafeModel, match="evil"):
        read_onnx(path)


def test_a_graph_like_the_library_reads_it(folder: Path) -> None:
    """The walk against onnx's own parser."""
    import onnx

    theirs = onnx.load(folder / "model.onnx").graph
    ours = read_onnx(folder / "model.onnx")
    assert [v.name for v in ours.inputs] == [v.name for v in theirs.input]
    assert [v.name for v in ours.outputs] == [v.name for v in theirs.output]
    assert [v.rank for v in ours.outputs] == [2]
    assert ours.constants == {t.name for t in theirs.initializer}
    assert ours.operators == {(n.domain, n.op_type) for n in theirs.node}


def test_onnxruntimes_own_format(folder: Path) -> None:
    (folder / "model.onnx").write_bytes(struct.pack("<I", 8) + b"ORTM" + b"\x00" * 64)
    refused(folder, "model.onnx", "plain ONNX")


# --- parsers under fire ------------------------------------------------------------------------------------


def _mutant(source: bytes, seed: int) -> bytes:
    chance = random.Random(seed)
    broken = bytearray(source)
    for _ in range(chance.randint(1, 8)):
        at = chance.randrange(len(broken))
        match chance.randrange(4):
            case 0:
                broken[at] ^= 1 << chance.randrange(8)
            case 1:
                del broken[at : at + chance.randrange(1, 64)]
            case 2:
                broken[at:at] = broken[at : at + chance.randrange(1, 64)]
            case _:
                broken[at : at + 8] = chance.randbytes(8)
        if not broken:
            break
    return bytes(broken)


@settings(max_examples=examples(100), deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(seed=st.integers(0, 2**32))
def test_mutants_end_in_our_errors_or_pass(seed: int, sound: Path, tmp_path: Path) -> None:
    for source, check in (
        (sound / "onnx" / "model.onnx", read_onnx),
        (sound / "sk" / "model.skops", check_skops),
    ):
        path = tmp_path / source.name
        path.write_bytes(_mutant(source.read_bytes(), seed))
        with contextlib.suppress(UnsafeModel, ModelError):
            check(path)


def test_a_skops_file_that_passed_is_not_walked_again(skops: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """By its content: another file of the same name and size is looked at."""
    check_skops(skops)
    walked: list[str] = []
    monkeypatch.setattr(skops_file, "_check_archive", lambda _, where, size: walked.append(where))
    check_skops(skops)
    check_skops(Path(shutil.copy(skops, skops.with_name("again.skops"))))
    assert walked == []
    skops.write_bytes(skops.read_bytes() + b"x")
    check_skops(skops)
    assert walked == [skops.name]


def test_all_unfit_files_are_named_at_once(tmp_path: Path) -> None:
    """The folder of a Trainer: six files beside the model."""
    models.write_onnx(tmp_path / "m")
    unfit = (
        "optimizer.pt",
        "scheduler.pt",
        "rng_state.pth",
        "training_args.bin",
        ".gitattributes",
        "checkpoint-5/x.py",
    )
    for name in unfit:
        (tmp_path / "m" / name).parent.mkdir(exist_ok=True)
        (tmp_path / "m" / name).write_bytes(b"x")
    with pytest.raises(UnsafeModel) as caught:
        check_files(tmp_path / "m")
    for words in (*unfit, "6 files cannot be part of a learnware", "--ignore"):
        assert words in str(caught.value)
    ignore = ("*.pt", "*.pth", "training_args.bin", ".git*", "checkpoint-*/")
    found = check_files(tmp_path / "m", ignore=ignore)
    assert [p.as_posix() for p in found] == ["config.json", "model.onnx", "tokenizer.json", "tokenizer_config.json"]
    with pytest.raises(UnsafeModel, match=r"rng_state\.pth: "):
        check_files(tmp_path / "m", ignore=[i for i in ignore if i != "*.pth"])
