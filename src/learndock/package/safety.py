"""Which files a learnware may hold: decided by what is in them, never by what they are called.

The first step of packing, and the first step before anything from a learnware is loaded. A file's name says
what it claims to be; its content must then be exactly that. Whatever is not on the list is refused, with the
reason and what to convert it to. Nothing here loads a model, and no optional library is needed.
"""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Callable, Sequence
from fnmatch import fnmatch
from pathlib import Path, PurePosixPath
from typing import Any

from learndock.errors import LearndockError, ModelError, PackageError, UnsafeModel
from learndock.package.json_file import MIB, VOCABULARIES, read_json, settings_in
from learndock.package.manifest import check_path
from learndock.package.onnx_file import EXTERNAL_NAME, read_onnx
from learndock.package.skops_file import check_skops
from learndock.spaces.gguf import read_gguf
from learndock.tensor_file import SafetensorsHeader, safetensors_header

MAX_FILES = 1_000
MAX_TEXT = 4 * MIB
MAX_WORDS = 32 * MIB
MAX_IMAGE = 8 * MIB
#: So many unfit files are named one by one.
_LISTED = 12

_SAFETENSORS = "save_pretrained(..., safe_serialization=True) or safetensors.torch.save_file"
_PICKLE = f"a pickle can run code when loaded; save with {_SAFETENSORS}, or remove it if it is not needed"
_ARRAY = "arrays alone are not a model, and an object array is a pickle; save as .safetensors"
_CODE = "code is never part of a learnware; use a model type that its library knows, or export it to ONNX"
_LIBRARY = "a compiled library is code; export the model to ONNX with the standard operators only"

#: suffix -> why it is refused and what to do instead.
REFUSED: dict[str, str] = {
    **dict.fromkeys((".bin", ".pt", ".pth", ".pkl", ".pickle", ".ckpt", ".dill", ".mar", ".nemo"), _PICKLE),
    ".joblib": "a pickle can run code when loaded; save with skops.io.dump(pipeline, 'model.skops')",
    ".pt2": "an exported program can name code; export it to ONNX",
    **dict.fromkeys((".h5", ".hdf5", ".keras"), "it can hold code layers; export the model to ONNX"),
    ".pb": "a saved graph can hold code; export the model to ONNX as model.onnx",
    **dict.fromkeys((".npy", ".npz"), _ARRAY),
    ".model": "a sentencepiece file; convert it to tokenizer.json with AutoTokenizer(...).save_pretrained",
    ".msgpack": "flax weights; save them as .safetensors",
    ".ot": "rust_model weights are not read; save them as .safetensors",
    **dict.fromkeys((".py", ".pyc", ".pyi", ".ipynb", ".sh", ".js", ".bat", ".ps1", ".lua", ".wasm"), _CODE),
    **dict.fromkeys((".so", ".dll", ".dylib", ".pyd", ".exe", ".jar", ".whl"), _LIBRARY),
    **dict.fromkeys((".jinja", ".jinja2", ".j2"), "a chat template is code and is never rendered; remove it"),
    **dict.fromkeys((".zip", ".tar", ".gz", ".xz", ".7z", ".rar"), "an archive hides its files; unpack it"),
    **dict.fromkeys((".yaml", ".yml"), "YAML can name classes; write JSON instead, or remove it"),
}

#: JSON key -> why a value is refused.
REFUSED_KEYS: dict[str, str] = {
    "auto_map": "names code that came with the model; save a model type that transformers itself knows",
    "auto_mapping": "names a library to import; save the adapter with its task_type, or on a model of transformers",
    "chat_template": "a template is code and is never rendered; remove the key",
    "custom_generate": "names code that came with the model; remove the key",
    "custom_pipelines": "names code that came with the model; remove the key",
    "kernel_config": "names compiled code on a hub; remove the key",
    "trust_remote_code": "asks to run code that came with the model; remove the key",
    "_target_": "names something to call; write plain settings",
    "assistant_model": "names another model to fetch; remove the key",
    "class_name": "names a layer to build, which can hold code; export the model to ONNX",
    "megatron_config": "names a library to import; train without it",
    "module_class": "names code to import; remove the key",
    "py/object": "names something to build; write plain settings",
    "py/reduce": "names something to call; write plain settings",
    "use_kernels": "loads compiled code from a hub; remove the key",
}
_REFUSED_NAMES = {
    "chat_template.json": "a chat template is code and is never rendered; remove it",
    "adapter_model.bin": _PICKLE,
    "model_head.pkl": "the head of a SetFit model is a pickle; export body and head together to ONNX as model.onnx, "
    "or, where the body is the helper of a space, save the head with skops.io.dump(model.model_head, 'model.skops') "
    "and the name of the space in features.json",
}
#: Keys whose dotted value sentence-transformers imports -> what it may begin with.
_IMPORTED = {"type": "sentence_transformers.", "activation_function": "torch.nn."}
#: Keys whose value may name a kernel on a hub ("owner/name"), which is compiled code.
_IMPLEMENTATION = re.compile(r"_?(?:attn|experts)_implementation(?:_internal)?")
_LIBRARY_MODEL = re.compile(r"transformers\.models(?:\.[a-z0-9_]+){2}")
_IMAGES = {".png": (b"\x89PNG\r\n\x1a\n",), ".jpg": (b"\xff\xd8\xff",), ".jpeg": (b"\xff\xd8\xff",)}
#: What Windows takes for a device, with whatever after the first point.
_DEVICE = re.compile(r"con|prn|aux|nul|com[0-9]|lpt[0-9]|conin\$|conout\$", re.IGNORECASE)
_TEXT_NAMES = re.compile(r"(?:licen[cs]e|notice|copying|copyright|authors|citation)", re.IGNORECASE)


def check_files(folder: str | Path, *, complete: bool = True, ignore: Sequence[str] = ()) -> list[Path]:
    """Check every file below ``folder``; return them relative to it, sorted.

    Unless ``complete``, files that others name may be missing: the rest of them is on its way. Files and folders that
    match a pattern of ``ignore``, by their path or by their name, are left out.

    Raises:
        UnsafeModel: files could run code when loaded, or are of no kind that a learnware may hold; names them all.
        ModelError: a file is damaged, or names another that is missing.
        PackageError: there is no such folder, or it holds no file, or too many.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise PackageError("no such folder", remedy="give the folder that holds the model's files", about=folder)
    unfit: list[UnsafeModel] = []
    found = _walk(folder, tuple(ignore), unfit)
    if not found and not unfit:
        raise PackageError("no file in here", remedy="give the folder that holds the model's files", about=folder)
    weights: set[Path] = set()
    for path in found:
        if path.suffix.lower() == ".onnx":
            weights.update(path.parent / name for name in _onnx(folder, path, complete=complete))
    for path in found:
        try:
            if path in weights:
                _numbers(folder, path)
            else:
                _check(folder, path)
                if path.name.endswith(".index.json"):
                    _check_shards(folder, path, complete=complete)
        except UnsafeModel as error:
            unfit.append(error)
    if unfit:
        raise _all_of(unfit)
    return found


def _all_of(unfit: list[UnsafeModel]) -> UnsafeModel:
    """One error that names every unfit file: a training folder has half a dozen of them."""
    if len(unfit) == 1:
        return unfit[0]
    said = [str(error) for error in unfit[:_LISTED]]
    rest = f"; and {len(unfit) - _LISTED} more" if len(unfit) > _LISTED else ""
    return UnsafeModel(
        f"{len(unfit)} files cannot be part of a learnware: {'; '.join(said)}{rest}. Pack a folder without them, or "
        "leave out with --ignore what the model does not need"
    )


def _ignored(name: str, patterns: tuple[str, ...]) -> bool:
    return any(fnmatch(name, p.rstrip("/")) or fnmatch(name.rsplit("/", 1)[-1], p.rstrip("/")) for p in patterns)


def _walk(folder: Path, ignore: tuple[str, ...], unfit: list[UnsafeModel]) -> list[Path]:
    """All regular files below ``folder``; links, devices and hidden names go to ``unfit``."""
    found: list[Path] = []
    pending = [folder]
    while pending:
        with os.scandir(pending.pop()) as entries:
            for entry in entries:
                path = Path(entry.path)
                name = path.relative_to(folder).as_posix()
                if _ignored(name, ignore):
                    continue
                mode = entry.stat(follow_symlinks=False).st_mode
                try:
                    _check_entry(name, mode)
                except UnsafeModel as error:
                    unfit.append(error)
                    continue
                if stat.S_ISDIR(mode):
                    pending.append(path)
                    continue
                found.append(path.relative_to(folder))
                if len(found) > MAX_FILES:
                    raise PackageError(
                        f"more than {MAX_FILES} files", remedy="give the model's own folder", about=folder
                    )
    unfit.sort(key=str)
    return sorted(found)


def _check_entry(name: str, mode: int) -> None:
    last = PurePosixPath(name).name
    if _DEVICE.fullmatch(last.partition(".")[0].rstrip()):
        raise UnsafeModel("Windows cannot hold a file of this name", remedy="rename it", about=name)
    if stat.S_ISLNK(mode):
        raise UnsafeModel("a symbolic link can lead anywhere", remedy="put the file itself there", about=name)
    if last.startswith("."):
        raise UnsafeModel(
            "hidden files are not part of a model", remedy="remove it, or pack a clean folder", about=name
        )
    if not stat.S_ISDIR(mode) and not stat.S_ISREG(mode):
        raise UnsafeModel("not a regular file", remedy="remove it", about=name)
    if stat.S_ISREG(mode):
        try:
            check_path(name)
        except PackageError as error:
            raise UnsafeModel(f"{error}", remedy="rename or remove it") from None


# --- one file ----------------------------------------------------------------------------------------------


def _check(folder: Path, path: Path) -> None:
    name = path.as_posix()
    last, suffix = path.name.lower(), path.suffix.lower()
    if last in _REFUSED_NAMES or suffix in REFUSED:
        raise UnsafeModel(f"{_REFUSED_NAMES.get(last) or REFUSED[suffix]}", about=name)
    kind = _KINDS.get(suffix)
    if kind is None and not suffix and _TEXT_NAMES.match(last):
        kind = _text
    if kind is None:
        raise _unknown(folder, path)
    kind(folder, path)


def _unknown(folder: Path, path: Path) -> LearndockError:
    name = path.as_posix()
    disguise = _disguise(folder / path)
    if disguise:
        return UnsafeModel(f"{disguise}", about=name)
    if EXTERNAL_NAME.fullmatch(path.name):
        return UnsafeModel("no ONNX model beside it uses it", remedy="remove it", about=name)
    return UnsafeModel(
        "not a kind of file that a learnware may hold (safetensors, GGUF, ONNX, skops, JSON, text, png, jpg)",
        remedy="remove it or convert it",
        about=name,
    )


def _disguise(path: Path) -> str | None:
    """What a file really is, where its first bytes say that it is something refused."""
    with path.open("rb") as stream:
        head = stream.read(16)
    if (len(head) >= 2 and head[0] == 0x80 and 2 <= head[1] <= 5) or _old_pickle(path):
        return _PICKLE
    if head[:4] in (b"PK\x03\x04", b"PK\x05\x06"):
        return f"a zip archive, as torch.save writes them: {_PICKLE}"
    if head[:6] == b"\x93NUMPY":
        return _ARRAY
    if head[:8] == b"\x89HDF\r\n\x1a\n":
        return REFUSED[".h5"]
    if head[:4] == b"\x7fELF" or head[:2] == b"MZ":
        return _LIBRARY
    if head[:2] == b"#!":
        return _CODE
    return None


def _old_pickle(path: Path) -> bool:
    """Whether a file reads like a pickle of protocol 0, which is text: it starts by naming something to call."""
    with path.open("rb") as stream:
        head = stream.read(512)
        stream.seek(-min(path.stat().st_size, 4), os.SEEK_END)
        tail = stream.read().rstrip(b"\r\n")
    called = re.match(rb"[(\]}]*c[\w.]+\r?\n[\w.]+\r?\n(?:p[0-9]+\r?\n|q.|[()])", head, re.DOTALL)
    return called is not None and tail.endswith(b".")


def _safetensors(folder: Path, path: Path) -> None:
    header_of(folder / path, where=path.as_posix())


def header_of(path: Path, *, where: str | None = None) -> SafetensorsHeader:
    """The strictly checked header of a safetensors file.

    Raises:
        UnsafeModel: it is a pickle or an archive under this name.
        ModelError: it is truncated, changed or foreign.
    """
    where = where or path.name
    try:
        with path.open("rb") as stream:
            return safetensors_header(stream, path.stat().st_size, where=where, error=ModelError)
    except FileNotFoundError:
        raise ModelError(f"missing in {path.parent}", about=where) from None
    except ModelError as error:
        disguise = _disguise(path)
        if disguise:
            raise UnsafeModel(f"not safetensors but {disguise}", about=where) from None
        raise ModelError(f"{error}", remedy="copy it again from where it was made, or save it again") from None


def _json(folder: Path, path: Path) -> None:
    name = path.as_posix()
    disguise = _disguise(folder / path)
    if disguise:
        raise UnsafeModel(f"not JSON but {disguise}", about=name)
    value = read_json(folder / path, where=name)
    if path.name not in VOCABULARIES:
        check_settings(value, where=name)
    elif path.name != "tokenizer.json" and not _is_vocabulary(value):
        raise ModelError(
            "not a vocabulary (a table of words and numbers)", remedy="save the tokenizer again", about=name
        )


def _is_vocabulary(value: Any) -> bool:
    return isinstance(value, dict) and all(type(v) is int for v in value.values())


def check_settings(value: Any, *, where: str) -> None:
    """Refuse settings through which a library would fetch or run foreign code.

    Raises:
        UnsafeModel: names ``where`` and the key.
    """
    for key, found in settings_in(value):
        if key == "auto_mapping" and _of_transformers(found):
            continue
        if key in REFUSED_KEYS and found:
            raise UnsafeModel(f"{key}: {REFUSED_KEYS[key]}", about=where)
        if key in _IMPORTED and isinstance(found, str) and "." in found and not found.startswith(_IMPORTED[key]):
            raise UnsafeModel(
                f"{key}: {found[:80]!r} names code to import", remedy="use a part of the library itself", about=where
            )
        if _IMPLEMENTATION.fullmatch(key) and found and "/" in str(found):
            raise UnsafeModel(f"{key}: names compiled code on a hub", remedy="remove the key", about=where)


def _of_transformers(found: Any) -> bool:
    """Tell whether PEFT's ``auto_mapping`` names a model of transformers itself, as it does without a task type."""
    if not isinstance(found, dict) or not {"base_model_class", "parent_library"} <= set(found):
        return False
    # Trainers add marks of their own: flags and numbers name nothing
    rest = [v for k, v in found.items() if k not in ("base_model_class", "parent_library")]
    if not all(v is None or isinstance(v, bool | int | float) for v in rest):
        return False
    library, name = found["parent_library"], found["base_model_class"]
    named = isinstance(name, str) and name.isidentifier()
    return named and isinstance(library, str) and _LIBRARY_MODEL.fullmatch(library) is not None


def _check_shards(folder: Path, path: Path, *, complete: bool) -> None:
    """A sharded model: every tensor is in the file that the index names, beside the index."""
    name = path.as_posix()
    value = read_json(folder / path, where=name)
    shards = value.get("weight_map") if isinstance(value, dict) else None
    if not isinstance(shards, dict) or not shards or not all(isinstance(v, str) for v in shards.values()):
        raise ModelError("has no weight_map", remedy="save the model again", about=name)
    held: dict[str, SafetensorsHeader] = {}
    for tensor, shard in shards.items():
        if PurePosixPath(shard).name != shard or not shard.endswith(".safetensors"):
            raise UnsafeModel(
                f"{str(tensor)[:80]} is said to lie in {shard[:80]!r}", remedy=f"{_SAFETENSORS}", about=name
            )
        if not complete and not (folder / path).parent.joinpath(shard).exists():
            continue
        if shard not in held:
            held[shard] = header_of((folder / path).parent / shard, where=shard)
        if tensor not in held[shard].tensors:
            raise ModelError(
                f"has no tensor {tensor}, which {name} looks for there", remedy="copy it again", about=shard
            )


def _text(folder: Path, path: Path) -> None:
    name = path.as_posix()
    limit = MAX_WORDS if path.name in ("vocab.txt", "merges.txt") else MAX_TEXT
    disguise = _disguise(folder / path)
    if disguise:
        raise UnsafeModel(f"not text but {disguise}", about=name)
    size = (folder / path).stat().st_size
    if size > limit:
        raise UnsafeModel(f"{size} bytes of text, at most {limit} are allowed", remedy="shorten it", about=name)
    try:
        source = (folder / path).read_bytes().decode("utf-8")
    except UnicodeDecodeError:
        raise UnsafeModel("not UTF-8 text", remedy="save it as UTF-8 or remove it", about=name) from None
    if "\x00" in source:
        raise UnsafeModel("not text (it holds zero bytes)", remedy="remove it", about=name)


def _image(folder: Path, path: Path) -> None:
    name = path.as_posix()
    with (folder / path).open("rb") as stream:
        head = stream.read(16)
    if not head.startswith(_IMAGES[path.suffix.lower()]):
        raise UnsafeModel("not the image that its name promises", remedy="remove it", about=name)
    if (folder / path).stat().st_size > MAX_IMAGE:
        raise UnsafeModel(f"larger than {MAX_IMAGE // MIB} MiB", remedy="use a smaller image", about=name)


def _onnx(folder: Path, path: Path, *, complete: bool) -> set[str]:
    disguise = _disguise(folder / path)
    if disguise:
        raise UnsafeModel(f"not ONNX but {disguise}", about=path.as_posix())
    return read_onnx(folder / path, complete=complete).external


def _numbers(folder: Path, path: Path) -> None:
    """A file of an ONNX model's numbers, which has no form of its own: refused where it plainly is something else."""
    with (folder / path).open("rb") as stream:
        head = stream.read(16)
    # Numbers begin like an older pickle once in thousands of files, like these once in millions
    pickled = head[:1] == b"\x80" and head[1:2] in (b"\x04", b"\x05") and head[2:3] == b"\x95"
    if pickled or not (head[:1] == b"\x80" or head[:2] in (b"MZ", b"#!")):
        disguise = _disguise(folder / path)
        if disguise:
            raise UnsafeModel(f"not weights but {disguise}", about=path.as_posix())


def _onnx_checked(folder: Path, path: Path) -> None:
    """Checked before all others, because it says which other files are weights."""


def _gguf(folder: Path, path: Path) -> None:
    disguise = _disguise(folder / path)
    if disguise:
        raise UnsafeModel(f"not GGUF but {disguise}", about=path.as_posix())
    read_gguf(folder / path)


def _skops(folder: Path, path: Path) -> None:
    check_skops(folder / path)


_KINDS: dict[str, Callable[[Path, Path], None]] = {
    ".json": _json,
    ".md": _text,
    ".txt": _text,
    ".safetensors": _safetensors,
    ".spec": _safetensors,
    ".gguf": _gguf,
    ".skops": _skops,
    ".onnx": _onnx_checked,
    **dict.fromkeys(_IMAGES, _image),
}
