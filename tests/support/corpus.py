"""Hostile learnwares: everything that a stranger may try, one folder each, for whoever opens a door to strangers.

Each ``Hostile`` starts from a sound model folder and spoils it. Whatever runs a payload makes the folder *canary*; a
door that is shut leaves none. ``learnware`` gives the whole learnware folder, sealed as its owner would: every file is
listed with its right hash, the spec is sound, so that only the content can be what is refused.

    for case in corpus.cases():
        folder = case.learnware(place, sound, canary)
        ...  # send it; expect an error whose http_status is 422, and no canary
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import pickle
import shutil
import struct
import zipfile
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import save_file

from learndock.package.safety import REFUSED_KEYS
from learndock.spec import Spec, write_spec
from learndock.spec.spec import identity
from tests.support import models
from tests.support.docking import canonical

SPACE = {"name": "tiny", "helper": {"width": 8}, "sketch": {"size": 24}, "adapters": {"size": 96}}
SCHEMA = models.SENTIMENT.to_dict()
Spoil = Callable[[Path, Path], None]
Forge = Callable[[dict[str, Any]], str]


@dataclass(frozen=True)
class Hostile:
    """One attack: ``kind`` groups those that are alike.

    ``spoil(folder, canary)`` puts it into a model folder, ``forge(manifest)`` into the manifest that is sealed over it.
    """

    name: str
    kind: str
    base: str
    spoil: Spoil
    forge: Forge | None = None

    def model(self, place: Path, sound: Path, canary: Path) -> Path:
        """The spoilt model folder, as an owner would hand it to ``pack``."""
        folder = Path(shutil.copytree(sound / self.base, place))
        self.spoil(folder, canary)
        return folder

    def learnware(self, place: Path, sound: Path, canary: Path) -> Path:
        """The spoilt learnware folder, as an uploader would send it."""
        folder = self.model(place, sound, canary)
        seal(folder, f"mallory/{hashlib.sha256(self.name.encode()).hexdigest()[:12]}", self.base, self.forge)
        return folder


def write_sound(place: Path) -> Path:
    """The model folders that attacks start from, without torch: ``onnx``, ``sklearn``, ``transformers``, ``peft``,
    ``timm``.
    """
    models.write_onnx(place / "onnx")
    models.write_sklearn(place / "sklearn")
    labels = {str(i): label for i, label in enumerate(models.SENTIMENT.labels)}
    whole = place / "transformers"
    models.write_tokenizer(whole)
    (whole / "config.json").write_text(json.dumps({"model_type": "bert", "id2label": labels}))
    save_file({"classifier.weight": np.ones((2, 4), np.float32)}, whole / "model.safetensors")
    named = place / "timm"
    named.mkdir()
    classes = {"num_classes": 2, "label_names": list(models.SENTIMENT.labels)}
    prepared = {"input_size": [3, 32, 32], "mean": [0.5] * 3, "std": [0.5] * 3, "num_classes": 2}
    described = {"architecture": "resnet10t", **classes, "pretrained_cfg": prepared}
    (named / "config.json").write_text(json.dumps(described))
    save_file({"fc.weight": np.ones((2, 4), np.float32)}, named / "model.safetensors")
    adapter = place / "peft"
    models.write_tokenizer(adapter)
    save_file(
        {
            "base_model.model.q.lora_A.weight": np.ones((2, 4), np.float32),
            "base_model.model.q.lora_B.weight": np.ones((4, 2), np.float32),
            "base_model.model.classifier.weight": np.ones((2, 4), np.float32),
        },
        adapter / "adapter_model.safetensors",
    )
    config = {"peft_type": "LORA", "task_type": "SEQ_CLS", "r": 2, "base_model_name_or_path": "someone/base"}
    (adapter / "adapter_config.json").write_text(json.dumps(config))
    return place


def seal(folder: Path, name: str, format_name: str, forge: Forge | None = None) -> None:
    """Spec and manifest of whatever lies in the folder. Written by hand: an uploader has no scruples about names."""
    draw = np.random.default_rng(int(hashlib.sha256(name.encode()).hexdigest()[:8], 16))
    (folder / "specs").mkdir(exist_ok=True)
    (folder / "learnware.json").unlink(missing_ok=True)
    domain, behaviour = canonical(draw.normal(size=8)), canonical(draw.normal(size=24))
    write_spec(Spec("model", SPACE, SCHEMA, 32, domain, behaviour), folder / "specs" / "tiny.spec")
    files = []
    for path in sorted(folder.rglob("*")):
        if path.is_symlink() or not path.is_file():
            if not path.is_dir() or path.is_symlink():
                files.append((path, b""))
            continue
        files.append((path, path.read_bytes()))
    manifest: dict[str, Any] = {
        "learnware": 1,
        "name": name,
        "format": format_name,
        "task": SCHEMA,
        "specs": [{"path": "specs/tiny.spec", "space": "tiny", "space_id": identity(SPACE)}],
        "files": [
            {"path": path.relative_to(folder).as_posix(), "size": len(b), "sha256": hashlib.sha256(b).hexdigest()}
            for path, b in files
        ],
    }
    if format_name == "peft":
        manifest["base"] = {"name": "someone/base", "sha256": "0" * 64}
    text = json.dumps(manifest) if forge is None else forge(manifest)
    (folder / "learnware.json").write_text(text)


# --- payloads ----------------------------------------------------------------------------------------------


def code(canary: Path) -> bytes:
    """Python that makes the canary when it is imported."""
    return f"import os\nos.makedirs({str(canary)!r}, exist_ok=True)\n\nclass Model:\n    pass\n".encode()


def torch_zip(canary: Path) -> bytes:
    """What torch.save writes, with the payload where torch.load looks first."""
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        archive.writestr("archive/data.pkl", models.payload(canary))
        archive.writestr("archive/version", "3\n")
    return stream.getvalue()


def _file(name: str, content: Callable[[Path], bytes]) -> Spoil:
    def spoil(folder: Path, canary: Path) -> None:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content(canary))

    return spoil


def _json(name: str, change: Callable[[Path], dict[str, Any]]) -> Spoil:
    """Put keys into a configuration, whether it is there already or not."""

    def spoil(folder: Path, canary: Path) -> None:
        path = folder / name
        there = json.loads(path.read_text()) if path.exists() else {}
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps({**there, **change(canary)}))

    return spoil


def _put(name: str, content: bytes) -> Spoil:
    """Write a file that needs no canary."""
    return _file(name, lambda _: content)


def _set(name: str, **settings: Any) -> Spoil:
    """Put these keys into a configuration."""
    return _json(name, lambda _: settings)


# --- the cases ---------------------------------------------------------------------------------------------


def cases() -> list[Hostile]:
    """All of them; names are unique."""
    return [*models_spoilt(), *forgeries()]


def models_spoilt() -> list[Hostile]:
    """Those whose model is hostile, whoever packs it."""
    return [
        *pickles(),
        *sources(),
        *settings(),
        *timm_settings(),
        *templates(),
        *bad_json(),
        *skops(),
        *onnx(),
        *odd_entries(),
        *shards(),
    ]


PICKLED = (
    "pytorch_model.bin", "model.pt", "model.pth", "model.ckpt", "model.pkl", "model.pickle", "model.joblib",
    "model.dill", "training_args.bin", "optimizer.pt", "adapter_model.bin", "model.safetensors",
    "adapter_model.safetensors", "extra.safetensors", "model.onnx", "model.skops", "config.json",
    "tokenizer.json", "vocab.json", "README.md", "vocab.txt", "LICENSE", "weights", "model.data",
    "model.onnx.data", "logo.png", "photo.jpg", "specs/other.spec", "model.npy", "arrays.npz", "tf_model.h5",
    "sub/deeper/model.bin",
)  # fmt: skip


def pickles() -> Iterator[Hostile]:
    """A payload under every name that a model's file may have, in the ways in which pickles are written."""
    for name in PICKLED:
        yield Hostile(f"pickle as {name}", "pickle", "onnx", _file(name, models.payload))
    for protocol in (0, 1, 2, 5):
        for name in ("model.safetensors", "README.md", "weights"):
            spoil = _file(name, partial(models.payload, protocol=protocol))
            yield Hostile(f"pickle of protocol {protocol} as {name}", "pickle", "transformers", spoil)
    zipped = {"pytorch_model.bin": torch_zip, "model.safetensors": torch_zip, "logo.png": torch_zip}
    for name, content in zipped.items():
        yield Hostile(f"torch's zip as {name}", "pickle", "transformers", _file(name, content))
    squeezed = _file("model.joblib", lambda canary: zlib.compress(models.payload(canary)))
    yield Hostile("compressed pickle", "pickle", "sklearn", squeezed)
    yield Hostile("object array", "pickle", "sklearn", _file("coef.npy", models.object_array))
    yield Hostile("pickle as weights of a graph", "pickle", "onnx", _weights_of_a_graph)


def _weights_of_a_graph(folder: Path, canary: Path) -> None:
    models.write_onnx(folder, external="model.onnx.data")
    path = folder / "model.onnx.data"
    found = models.payload(canary)
    path.write_bytes(found + bytes(max(0, path.stat().st_size - len(found))))


def sources() -> Iterator[Hostile]:
    """Code, plain to see."""
    names = (
        "modeling_evil.py", "setup.py", "handler.py", "conftest.py", "__init__.py", "sitecustomize.py", "x.pyc",
        "notebook.ipynb", "run.sh", "install.bat", "index.js", "x.pyi", "x.wasm", "x.lua",
    )  # fmt: skip
    for name in names:
        yield Hostile(f"code in {name}", "code", "transformers", _file(name, code))
    for name in ("lib.so", "op.dll", "op.dylib", "_c.pyd"):
        yield Hostile(f"library {name}", "code", "onnx", _file(name, lambda canary: b"\x7fELF" + code(canary)))
    yield Hostile("script without a suffix", "code", "onnx", _file("run", lambda c: b"#!/bin/sh\nmkdir " + bytes(c)))
    yaml = lambda canary: f'!!python/object/apply:os.mkdir ["{canary}"]\n'.encode()  # noqa: E731
    for name in ("config.yaml", "MLmodel.yml"):
        yield Hostile(f"YAML in {name}", "code", "sklearn", _file(name, yaml))
    for name in ("model.keras", "saved_model.pb", "model.pt2", "model.mar", "wheel.whl", "all.zip", "all.tar", "a.jar"):
        yield Hostile(f"package {name}", "code", "onnx", _file(name, torch_zip))


CONFIGS = (
    "config.json", "tokenizer_config.json", "generation_config.json", "adapter_config.json", "special_tokens_map.json",
    "preprocessor_config.json", "processor_config.json", "config_sentence_transformers.json", "1_Pooling/config.json",
    "nested.json",
)  # fmt: skip
VALUES: dict[str, Any] = {
    "auto_map": {"AutoModelForSequenceClassification": "modeling_evil.Model", "AutoConfig": "evil/repo--config.Config"},
    "auto_mapping": {"base_model_class": "Model", "parent_library": "modeling_evil"},
    "chat_template": "{{ ''.__class__.__mro__[1].__subclasses__() }}",
    "custom_pipelines": {"evil": {"impl": "modeling_evil.Pipeline"}},
    "_target_": "os.mkdir",
    "assistant_model": "evil/repo",
    "class_name": "Lambda",
    "custom_generate": "evil/repo",
    "kernel_config": {"kernel": "evil/kernel"},
    "megatron_config": {"x": 1},
    "module_class": "modeling_evil.Model",
    "py/object": "os.system",
    "py/reduce": [{"py/type": "os.mkdir"}],
}


def settings() -> Iterator[Hostile]:
    """Every key through which a library would run, build or fetch somebody's code, in every configuration."""
    for key in sorted(REFUSED_KEYS):
        value = VALUES.get(key, True)
        for name in CONFIGS:
            base = "peft" if name == "adapter_config.json" else "transformers"
            yield Hostile(f"{key} in {name}", "key", base, _set(name, **{key: value}))
        deep = _set("config.json", text_config=[{"inner": {key: value}}])
        yield Hostile(f"{key} deep inside", "key", "transformers", deep)
    escaped = lambda canary: b'{"model_type": "bert", "auto\\u005fmap": {"AutoModel": "evil.X"}}'  # noqa: E731
    yield Hostile("auto_map in other letters", "key", "transformers", _file("config.json", escaped))
    twice = lambda canary: b'{"auto_map": {"AutoModel": "evil.X"}, "auto_map": null}'  # noqa: E731
    yield Hostile("auto_map and again none", "key", "transformers", _file("config.json", twice))
    for key in ("_attn_implementation", "attn_implementation", "experts_implementation"):
        kernel = _set("config.json", **{key: "evil/kernel"})
        yield Hostile(f"kernel in {key}", "kernel", "transformers", kernel)
    modules = lambda canary: json.dumps([{"idx": 0, "path": "", "type": "modeling_evil.Model"}]).encode()  # noqa: E731
    yield Hostile("module to import", "import", "transformers", _file("modules.json", modules))
    dense = _json("2_Dense/config.json", lambda _: {"activation_function": "os.system"})
    yield Hostile("function to import", "import", "transformers", dense)
    for key in ("quantization_config", "transformers_weights"):
        change = _set("config.json", **{key: {"quant_method": "evil"}})
        yield Hostile(f"{key} in config.json", "settings", "transformers", change)


def timm_settings() -> Iterator[Hostile]:
    """Names of networks that are places, and arguments that are more than sizes."""
    for name in (
        "hf-hub:evil/model",
        "hf_hub:evil/model",
        "local-dir:/tmp/evil",
        "../evil",
        "evil/model",
        "a.b",
        "x\n",
    ):
        change = _set("config.json", architecture=name)
        yield Hostile(f"architecture {name!r}", "architecture", "timm", change)
    for key, value in {
        "act_layer": "os.system", "block_fn": "evil.Block", "checkpoint_path": "/tmp/evil.pth", "cache_dir": "/etc",
        "pretrained": True, "pretrained_cfg": "evil", "features_only": True, "img_size": 10**9, "in_chans": 10**9,
    }.items():  # fmt: skip
        change = _set("config.json", model_args={key: value})
        yield Hostile(f"argument {key}", "argument", "timm", change)
    sound = {"input_size": [3, 32, 32], "num_classes": 2}
    for key, value in {
        "custom_load": True, "file": "/tmp/evil.npz", "input_size": [3, 10**6, 10**6], "state_dict": {"a": 1},
        "entrypoint": "evil.model",
    }.items():  # fmt: skip
        change = _set("config.json", pretrained_cfg={**sound, key: value})
        yield Hostile(f"pretrained_cfg with {key}", "pretrained_cfg", "timm", change)
    wrapped = {"model_type": "timm_wrapper", "architecture": "hf-hub:evil/model"}
    change = _json("config.json", lambda _: wrapped)
    yield Hostile("timm inside transformers", "architecture", "transformers", change)


def templates() -> Iterator[Hostile]:
    """Chat templates, which are programs."""
    text = lambda canary: b"{% for x in cycler.__init__.__globals__.os.popen('id') %}{% endfor %}"  # noqa: E731
    for name in ("chat_template.jinja", "additional_chat_templates/rag.jinja", "t.jinja2", "t.j2"):
        yield Hostile(f"template {name}", "chat_template", "transformers", _file(name, text))
    plain = lambda canary: json.dumps({"template": "{{ x }}"}).encode()  # noqa: E731
    yield Hostile("template as JSON", "chat_template", "transformers", _file("chat_template.json", plain))


def bad_json() -> Iterator[Hostile]:
    """JSON to choke on."""
    texts = {
        "a key twice": b'{"a": 1, "a": 2}',
        "not a number": b'{"a": NaN}',
        "deep": b"[" * 100_000 + b"]" * 100_000,
        "many parts": b"[" + b"[]," * 100_000 + b"[]]",
        "a very long number": b'{"a": ' + b"9" * 10_000 + b"}",
        "half a letter": b'{"a": "\xed\xa0\x80"}',
        "too large": b'"' + b"a" * (1 << 20) + b'"',
    }
    for what, text in texts.items():
        name = "config.json"
        yield Hostile(f"JSON with {what}", "JSON", "transformers", _put(name, text))
    bomb = _file("tokenizer.json", lambda _: b"[" + b"[]," * 1_600_000 + b"[]]")
    yield Hostile("JSON bomb in tokenizer.json", "JSON", "transformers", bomb)


def skops() -> Iterator[Hostile]:
    """scikit-learn models that build more than a model."""
    nodes = {
        "a function": ("os", "system", "FunctionNode"),
        "a type": ("builtins", "eval", "TypeNode"),
        "an operator": ("operator", "methodcaller", "OperatorFuncNode"),
        "a partial": ("functools", "partial", "PartialNode"),
        "a method": ("os", "mkdir", "MethodNode"),
        "a function transformer": ("sklearn.preprocessing._function_transformer", "FunctionTransformer", "ObjectNode"),
        "a tree": ("sklearn.tree._tree", "Tree", "TreeNode"),
        "somebody's class": ("modeling_evil", "Model", "ObjectNode"),
        "joblib's memory": ("joblib.memory", "Memory", "ObjectNode"),
        "an unknown loader": ("builtins", "dict", "EvilNode"),
    }
    for what, (module, name, loader) in nodes.items():
        node = {"__class__": name, "__module__": module, "__loader__": loader, "content": {}, "__id__": 99}
        yield Hostile(f"skops with {what}", "skops", "sklearn", _tree(partial(_verbose, node=node)))
    yield Hostile("skops of an odd protocol", "skops", "sklearn", _tree(lambda tree: tree.update(protocol=99)))
    members: dict[str, Callable[[Path], list[tuple[str, bytes]]]] = {
        "an object array": lambda canary: [("77.npy", models.object_array(canary))],
        "a pickle": lambda canary: [("payload.pkl", models.payload(canary))],
        "a pickle as array": lambda canary: [("77.npy", models.payload(canary))],
        "a path": lambda canary: [("../../evil.npy", b"x")],
        "an absolute path": lambda canary: [("/tmp/evil.npy", b"x")],
        "two schemas": lambda canary: [("schema.json", b"{}")],
        "a sparse matrix": lambda canary: [("1.npz", torch_zip(canary))],
        "a thousand members": lambda canary: [(f"{i}0.npy", b"x") for i in range(1_001)],
        "a bomb": lambda canary: [("77.npy", bytes(80 << 20))],
    }
    for what, extra in members.items():
        yield Hostile(f"skops with {what}", "skops", "sklearn", _members(extra))


def _verbose(tree: dict[str, Any], node: dict[str, Any]) -> None:
    tree["content"]["content"]["verbose"] = node


def _tree(change: Callable[[dict[str, Any]], object]) -> Spoil:
    def spoil(folder: Path, canary: Path) -> None:
        path = folder / "model.skops"
        with zipfile.ZipFile(path) as archive:
            parts = {name: archive.read(name) for name in archive.namelist()}
        tree = json.loads(parts["schema.json"])
        change(tree)
        parts["schema.json"] = json.dumps(tree).encode()
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
            for name, content in parts.items():
                archive.writestr(name, content)

    return spoil


def _members(extra: Callable[[Path], list[tuple[str, bytes]]]) -> Spoil:
    def spoil(folder: Path, canary: Path) -> None:
        import warnings

        with zipfile.ZipFile(folder / "model.skops", "a", zipfile.ZIP_DEFLATED) as archive, warnings.catch_warnings():
            warnings.simplefilter("ignore")  # a name that stands twice is what is wanted
            for name, content in extra(canary):
                archive.writestr(name, content)

    return spoil


def onnx() -> Iterator[Hostile]:
    """Graphs that reach outside."""
    for place in (
        "../outside.data",
        "/etc/hostname",
        "sub/x.data",
        "weights.bin",
        "..data",
        "%2e%2e/x.data",
        "C:\\x.data",
    ):
        outside = lambda folder, canary, place=place: _graph(folder, external=place)  # noqa: E731
        yield Hostile(f"weights at {place}", "onnx", "onnx", outside)
    for domain, operator in (
        ("evil.ops", "Run"), ("ai.onnx.contrib", "PyOp"), ("com.microsoft", "EPContext"), ("com.microsoft", "PythonOp"),
        ("ai.onnx.training", "Adam"), ("com.microsoft.nchwc", "Conv"),
    ):  # fmt: skip
        custom = lambda folder, canary, d=domain, o=operator: _graph(folder, domain=d, operator=o)  # noqa: E731
        yield Hostile(f"operator {domain}.{operator}", "onnx", "onnx", custom)
    own = struct.pack("<I", 8) + b"ORTM" + bytes(64)
    yield Hostile("onnxruntime's own form", "onnx", "onnx", _file("model.onnx", lambda _: own))
    yield Hostile("a graph twice", "onnx", "onnx", _append(lambda source: source))
    yield Hostile("a graph behind a number too large", "onnx", "onnx", _append(_hidden_graph))
    yield Hostile("a training graph", "onnx", "onnx", _append(lambda _: b"\xa2\x01\x00"))
    yield Hostile("a function in a standard's place", "onnx", "onnx", _append(_function))


def _graph(folder: Path, **options: Any) -> None:
    models.write_onnx(folder, **options)
    for path in folder.iterdir():
        if path.suffix not in (".onnx", ".json"):
            path.unlink()


def _append(more: Callable[[bytes], bytes]) -> Spoil:
    def spoil(folder: Path, canary: Path) -> None:
        path = folder / "model.onnx"
        path.write_bytes(path.read_bytes() + more(path.read_bytes()))

    return spoil


def _hidden_graph(source: bytes) -> bytes:
    """Field 7 + 2^29: a parser that keeps 32 bits of a key takes it for the graph."""
    key, inner = ((7 + (1 << 29)) << 3) | 2, b"\x12\x01x"
    return _varint(key) + _varint(len(inner)) + inner


def _function(_: bytes) -> bytes:
    body = b"\x0a\x06MatMul" + b"\x52\x00"
    return _varint(25 << 3 | 2) + _varint(len(body)) + body


def _varint(value: int) -> bytes:
    out = bytearray()
    while value >= 0x80:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*out, value])


def odd_entries() -> Iterator[Hostile]:
    """Entries of a folder that are no plain files, or lead elsewhere."""

    def link(name: str, to: str) -> Spoil:
        return lambda folder, canary: (folder / name).symlink_to(to)

    yield Hostile("link to a file of the machine", "entry", "onnx", link("notes.txt", "/etc/hostname"))
    yield Hostile("link to a folder of the machine", "entry", "onnx", link("more", "/etc"))
    yield Hostile("link to nowhere", "entry", "onnx", link("extra.json", "gone.json"))
    yield Hostile("link to itself", "entry", "onnx", link("extra.json", "extra.json"))
    yield Hostile("pipe", "entry", "onnx", lambda folder, canary: os.mkfifo(folder / "pipe.json"))
    names = (
        ".hidden", ".git/config", "a\nb.json", "a\x1b[31m.json", "trailing ./x.json", "a:b.json", "ü.json", " x.json",
        "-rf.json", "x" * 200 + ".txt",
    )  # fmt: skip
    for name in names:
        yield Hostile(f"file called {name[:20]!r}", "entry", "onnx", _file(name, lambda _: b"{}"))

    def many(folder: Path, canary: Path) -> None:
        for i in range(1_001):
            (folder / f"f{i}.txt").touch()

    yield Hostile("a thousand files", "entry", "onnx", many)


def shards() -> Iterator[Hostile]:
    """An index that points elsewhere."""
    for shard in ("../../etc/passwd", "pytorch_model.bin", "/tmp/x.safetensors", "gone.safetensors"):
        index = json.dumps({"weight_map": {"a": shard}}).encode()
        spoil = _put("model.safetensors.index.json", index)
        yield Hostile(f"index to {shard}", "shards", "transformers", spoil)
    header = json.dumps({"../../etc/x": {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]}}).encode()
    path_like = struct.pack("<Q", len(header)) + header + bytes(4)
    yield Hostile("tensor with a path", "safetensors", "transformers", _file("model.safetensors", lambda _: path_like))
    for what, entry in {
        "an odd type": {"dtype": [], "shape": [1], "data_offsets": [0, 4]},
        "a huge shape": {"dtype": "F32", "shape": [2**40, 2**40], "data_offsets": [0, 4]},
        "a hole": {"dtype": "F32", "shape": [1], "data_offsets": [4, 8]},
    }.items():
        text = json.dumps({"a": entry}).encode()
        content = struct.pack("<Q", len(text)) + text + bytes(8)
        yield Hostile(f"tensor with {what}", "safetensors", "transformers", _put("model.safetensors", content))


def forgeries() -> Iterator[Hostile]:
    """Sound models under manifests that lie."""

    def with_file(path: str) -> Forge:
        return lambda m: json.dumps({**m, "files": [*m["files"], {"path": path, "size": 1, "sha256": "0" * 64}]})

    def first_file(**changes: Any) -> Forge:
        return lambda m: json.dumps({**m, "files": [{**m["files"][0], **changes}, *m["files"][1:]]})

    def spec(**changes: Any) -> Forge:
        return lambda m: json.dumps({**m, "specs": [{**m["specs"][0], **changes}]})

    def changed(**changes: Any) -> Forge:
        return lambda m: json.dumps({**m, **changes})

    paths = (
        "../evil", "/etc/evil", "a/../../evil", "a//b", "./x", "", ".", "C:/x", "a\\..\\b", "a\x00b", "learnware.json",
        "../learnwares/ada/model.json", "x" * 600, "/".join("abcdefghij"), "new\n",
    )  # fmt: skip
    wrong_names = (
        "../../x/y", "a/b/c", "ada", "ada/..", "/ada/x", "ada/x y", "ada/.x", "ada/" + "x" * 99, "a--b/c", "ä/b",
        "ada/x\n",
    )  # fmt: skip
    bases = ("../../etc", "/etc", "a/b/c", "", ".", "~/x", "-x", "a/..", "https://evil/x", "a\nb")
    forges: dict[str, Forge] = {
        **{f"file {path[:20]!r}": with_file(path) for path in paths},
        **{f"name {name[:20]!r}": changed(name=name) for name in wrong_names},
        **{f"base {name!r}": changed(base={"name": name, "sha256": "0" * 64}) for name in bases},
        **{f"format {name!r}": changed(format=name) for name in ("evil", "../x", "os.system", "")},
        "a file twice": lambda m: json.dumps({**m, "files": [*m["files"], m["files"][0]]}),
        "a file of negative size": first_file(size=-1),
        "a file of size 1e30": first_file(size=10**30),
        "a file missing": lambda m: json.dumps({**m, "files": m["files"][1:]}),
        "no spec": changed(specs=[]),
        "a spec of another space": spec(space_id="0" * 64),
        "a space by another name": spec(space="minilm-l6"),
        "a spec that is no spec": spec(path="model.onnx"),
        "another task": changed(task={**SCHEMA, "descriptions": ["a good review", "a bad review"]}),
        "an odd task": changed(task={"type": "evil"}),
        "more keys": changed(auto_map={"AutoModel": "evil.X"}),
        "code in its settings": changed(settings={"auto_map": {"AutoModel": "evil.X"}}),
        "not a number": lambda m: json.dumps({**m, "settings": {"x": float("nan")}}),
        "a key twice": lambda m: json.dumps(m)[:-1] + ', "name": "ada/other"}',
        "half a letter": changed(description="\ud800"),
        "no object": lambda m: "[]",
        "nothing": lambda m: "",
        "depth": lambda m: "[" * 100_000,
    }
    for what, forge in forges.items():
        base = "peft" if what.startswith("base") else "onnx"
        yield Hostile(f"manifest with {what}", "manifest", base, lambda folder, canary: None, forge)


def live(canary: Path) -> None:
    """Set off one payload of each making, to show that they would."""
    pickle.loads(models.payload(canary / "pickle"))
    exec(code(canary / "code").decode(), {})
    np.load(io.BytesIO(models.object_array(canary / "array")), allow_pickle=True)
    with zipfile.ZipFile(io.BytesIO(torch_zip(canary / "zip"))) as archive:
        pickle.loads(archive.read("archive/data.pkl"))
