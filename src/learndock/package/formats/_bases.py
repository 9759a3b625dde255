"""Where the model under an adapter is: it does not travel with the adapter, only its name and hash do.

Looked for in this order: the folders of the environment variable ``LEARNDOCK_BASES`` (each holds ``NAME``
sub-folders), the name itself where it is a local folder, the helper of an installed space of that name (so that
``smollm2-135m`` needs no hub), the Hugging Face cache, the Hugging Face hub.
"""

from __future__ import annotations

import os
from pathlib import Path

from learndock.errors import ModelError
from learndock.files import atomic_write, sha256_file
from learndock.package.extras import need
from learndock.package.safety import header_of
from learndock.spaces.space import list_spaces
from learndock.spaces.weights import cached

VARIABLE = "LEARNDOCK_BASES"
CONFIG, WEIGHTS = "config.json", "model.safetensors"
_WANTED = [
    CONFIG, WEIGHTS, "tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "preprocessor_config.json",
    "generation_config.json",
]  # fmt: skip


def find_base(name: str) -> Path:
    """The local folder of the base called ``name``, fetched from the hub where that is possible.

    Raises:
        ModelError: it is nowhere; the message says where it was looked for.
        MissingExtra: the hub's library is not installed.
    """
    roots = [Path(r) for r in os.environ.get(VARIABLE, "").split(os.pathsep) if r]
    for candidate in [*(root / name for root in roots), *(root / _last(name) for root in roots), Path(name)]:
        if (candidate / CONFIG).is_file():
            return _whole(candidate)
    return _whole(_from_space(name) or _from_hub(name))


def _from_space(name: str) -> Path | None:
    """A folder with the helper of the space of prompts called ``name``, its files checked; None if there is none."""
    found = next((s for s in list_spaces() if s.name == name and s.input == "generation" and s.present()), None)
    if found is None:
        return None
    folder = cached(found.files["model.safetensors"], name)
    for file in ("model.safetensors", "tokenizer.json", "config.json"):
        path = folder / file
        if not path.is_file() or sha256_file(path) != found.files[file]:
            folder.mkdir(parents=True, exist_ok=True)
            with atomic_write(path) as stream:
                stream.write(found.read(file))
    return folder


def _last(name: str) -> str:
    return name.rstrip("/").rsplit("/", 1)[-1]


def _whole(folder: Path) -> Path:
    if (folder / "adapter_config.json").is_file():
        raise ModelError("is an adapter itself", remedy="a base must be a complete model", about=folder)
    if not (folder / WEIGHTS).is_file():
        raise ModelError(f"the base has no {WEIGHTS}", remedy="save it with save_pretrained", about=folder)
    return folder


def _from_hub(name: str) -> Path:
    hub = need("huggingface_hub", extra="torch", why="an adapter's base model")
    # A module of its own, which the package's name does not lead to before it is imported
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError

    errors = (HfHubHTTPError, HFValidationError, OSError, ValueError)
    problem: BaseException | None = None
    for local in (True, False):
        try:
            folder = Path(hub.snapshot_download(name, allow_patterns=_WANTED, local_files_only=local))
        except errors as error:
            problem = error
            continue
        if all((folder / wanted).is_file() for wanted in (CONFIG, WEIGHTS)):
            return folder
    why = " ".join(str(problem).split())[:200] if problem else f"it has no {WEIGHTS} there"
    raise ModelError(
        f"the base model {name} is not on this machine and could not be fetched ({why})",
        remedy=f"put its folder at BASES/{name} and set {VARIABLE}=BASES",
    )


def base_hash(folder: Path) -> str:
    """What names a base: the SHA-256 of its weights.

    Raises:
        ModelError: its weights are damaged.
    """
    header_of(folder / WEIGHTS)
    return sha256_file(folder / WEIGHTS)


def check_base(folder: Path, name: str, expected: str) -> None:
    """Compare a base's weights with the ones that the adapter was trained on.

    Raises:
        ModelError: they differ; the message says both hashes.
    """
    found = base_hash(folder)
    if found != expected:
        raise ModelError(
            f"not the base that the adapter was trained on: {name} has the hash {expected}, this one has {found}",
            remedy=f"get the right version and put it at BASES/{name}, {VARIABLE}=BASES",
            about=folder,
        )
